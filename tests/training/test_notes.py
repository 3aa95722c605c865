from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from interalign.conversations.preferences import PreferenceConfig
from interalign.conversations.tree import Tree
from interalign.errors import InputError
from interalign.llm.thinking import takes_notes, without_thinking
from interalign.personas.persona import Persona
from interalign.roles.ledger import Stated, as_notes
from interalign.training.checkpoint import read_manifest
from interalign.training.job import Method, lessons_of
from interalign.training.notes import induction_trees, noted
from interalign.training.train import InductionConfig, SftConfig, TrainConfig, train, what_to_learn
from tests.training.tiny import SYSTEM

PREFERENCE = PreferenceConfig()
MULE = Stated(kind="profile", text="Keeps a mule.", words="our mule is ill")


def undisclosed(tree: Tree, *, but: int | None = None) -> Tree:
    nodes = (
        node if place == but else node.model_copy(update={"disclosure": None}) for place, node in enumerate(tree.nodes)
    )
    return tree.model_copy(update={"nodes": tuple(nodes)})


def stating(tree: Tree, node: int, stated: Stated) -> Tree:
    nodes = list(tree.nodes)
    entry = nodes[node].disclosure
    assert entry is not None
    nodes[node] = nodes[node].model_copy(update={"disclosure": entry.model_copy(update={"stated": (stated,)})})
    return tree.model_copy(update={"nodes": tuple(nodes)})


def test_every_reply_begins_with_what_may_be_known_by_then(trees: list[Tree]) -> None:
    for tree, with_notes in zip(trees, noted(trees), strict=True):
        assert len(with_notes.nodes) == len(tree.nodes)
        for before, now in zip(tree.nodes, with_notes.nodes, strict=True):
            if before.role == "user":
                assert now == before
                continue
            assert before.parent is not None
            assert now.content == f"<think>{as_notes(tree.ledger(before.parent))}</think>\n{before.content}"
            assert takes_notes(now.content)
            assert without_thinking(now.content) == before.content
            assert now.model_copy(update={"content": before.content}) == before


def test_what_a_model_found_stated_is_noted_where_it_was_said_and_nowhere_else(trees: list[Tree]) -> None:
    first, *_, last = trees[0].user_turns()
    (told,) = noted([stating(trees[0], last, MULE)])
    assert all("Keeps a mule" in told.nodes[reply].content for reply in told.children(last))
    assert not any("Keeps a mule" in told.nodes[reply].content for reply in told.children(first))


@pytest.mark.parametrize("known", [None, 0], ids=["no ledger", "no wish"])
def test_trees_that_hold_nothing_to_note_are_refused(trees: list[Tree], known: int | None) -> None:
    with pytest.raises(InputError, match="wish for or disclose"):
        noted([undisclosed(trees[0], but=known)])


def test_each_remark_is_learnt_once(trees: list[Tree]) -> None:
    reactions = [
        reaction for tree in trees for node in tree.nodes if node.disclosure for reaction in node.disclosure.reactions
    ]
    learnt = induction_trees([*trees, *trees])
    said = [(tree.nodes[0].content, tree.nodes[1].content) for tree in learnt]
    assert len(set(said)) == len(said) > 5
    assert set(said) == {
        (reaction.words, f"<think>Notes: {reaction.dimension} {reaction.wanted}.</think>") for reaction in reactions
    }
    assert {tree.persona_id for tree in learnt} <= {tree.persona_id for tree in trees}


def test_what_a_model_found_stated_is_learnt_from_its_words(trees: list[Tree]) -> None:
    learnt = induction_trees([stating(undisclosed(trees[0], but=0), 0, MULE)])
    assert [[node.content for node in tree.nodes] for tree in learnt] == [
        ["our mule is ill", "<think>Notes: Keeps a mule.</think>"]
    ]


def test_ledgers_without_words_teach_no_induction(trees: list[Tree]) -> None:
    with pytest.raises(InputError, match="on which words"):
        induction_trees([undisclosed(trees[0])])


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_notes_change_what_is_learnt_of_a_reply_and_not_which(
    trees: list[Tree], config: TrainConfig, method: Method
) -> None:
    lessons, left_out = lessons_of(method, trees, PREFERENCE)
    assert what_to_learn(method, trees, config, PREFERENCE) == (tuple(trees), lessons, left_out)
    taking = config.model_copy(update={"notes": True})
    assert what_to_learn(method, trees, taking, PREFERENCE) == (noted(trees), lessons, left_out)


@pytest.mark.parametrize("packing", ["tree", "trl"])
def test_a_policy_learns_to_take_notes(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tmp_path: Path, packing: Any
) -> None:
    induction = InductionConfig(learning_rate=1e-2, trees_per_step=8)
    taking = config.model_copy(update={"notes": True, "packing": packing, "induction": induction})
    methods: tuple[Method, ...] = ("induction", "sft", "dpo")
    start: str | None = None
    for method in methods:
        losses: list[float] = []
        out = tmp_path / method
        train(
            method,
            trees,
            people,
            taking,
            out,
            system=SYSTEM,
            seed=1,
            start=start,
            progress=lambda done, total, loss, told=losses: told.append(loss),
        )
        assert losses[-1] < losses[0]
        start = str(out)
    manifest = read_manifest(tmp_path / "sft")
    assert (manifest.parent, manifest.settings["notes"]) == ("induction", True)


def test_induction_is_for_policies_that_take_notes() -> None:
    with pytest.raises(ValidationError, match="notes = true"):
        TrainConfig(sft=SftConfig(start="induction"))
