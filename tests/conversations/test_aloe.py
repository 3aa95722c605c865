from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.conversations.export import (
    AloeRecord,
    AloeReplies,
    AloeTurn,
    aloe_records,
    read_aloe,
    write_aloe,
)
from interalign.conversations.preferences import PreferenceConfig, preference_between, preferences
from interalign.conversations.simulate import SimulateConfig, grow
from interalign.conversations.tree import Node, Tree
from interalign.errors import InputError
from interalign.personas.persona import Persona
from interalign.roles.judge import Comparison
from interalign.roles.ledger import Disclosure, Stated
from interalign.run import write_jsonl
from tests.conversations.hand_made import asked, compared, replied
from tests.roles.talks import PERSONAS

ANY = PreferenceConfig(min_margin=0)
PERSON = Persona(profile="She bakes bread in a town by the sea.", personality="Quick to take offence.")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
STATEMENTS = st.text("abc ", min_size=1, max_size=12).map(lambda text: " ".join(text.split())).filter(bool)


@st.composite
def paths(draw: st.DrawFn) -> Tree:
    """Conversations of one path with two replies a turn, of which both orders prefer the same one."""
    nodes: list[Node] = []
    comparisons: list[Comparison] = []
    parent: int | None = None
    for turn in range(1, draw(st.integers(1, 4)) + 1):
        at = len(nodes)
        kinds = st.sampled_from(["profile", "personality"])
        said = tuple(
            Stated(kind=draw(kinds), text=text, words="")
            for text in draw(st.lists(STATEMENTS, max_size=2, unique=True))
        )
        earlier = {one.text for node in nodes if node.disclosure for one in node.disclosure.stated}
        # A turn's text tells profile and personality apart, but not which of them came first.
        said = tuple(sorted((one for one in said if one.text not in earlier), key=lambda one: one.kind != "profile"))
        nodes.append(asked(parent, draw(TEXTS)).model_copy(update={"disclosure": Disclosure(turn=turn, stated=said)}))
        continued = draw(st.integers(0, 1))
        for index, text in enumerate(draw(st.lists(TEXTS, min_size=2, max_size=2, unique=True))):
            reply = replied(at, text, continued=index == continued)
            nodes.append(reply.model_copy(update={"source": "published"}))
        comparisons.append(Comparison(first=at + 1, second=at + 2, votes=("first", "first")))
        parent = at + 1 + continued
    return Tree(persona_id=PERSON.id, seed=0, nodes=tuple(nodes), comparisons=tuple(comparisons))


@given(st.lists(paths(), min_size=1, max_size=3))
def test_conversations_of_one_path_come_back(trees: list[Tree]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "conversations.jsonl"
        assert write_aloe(path, trees, [PERSON], ANY) == len(trees)
        read = read_aloe(path)
    assert read.personas == (PERSON,)
    assert read.problems == ()
    assert [tree.model_copy(update={"seed": 0}) for tree in read.trees] == trees
    assert [tree.seed for tree in read.trees] == list(range(len(trees)))


@st.composite
def records(draw: st.DrawFn) -> AloeRecord:
    turns = []
    lines: dict[str, list[str]] = {"profile": [], "personality": []}
    for _ in range(draw(st.integers(1, 4))):
        for known in lines.values():
            known += [line for line in draw(st.lists(STATEMENTS, max_size=2, unique=True)) if line not in known]
        replies = draw(st.lists(TEXTS, min_size=2, max_size=2, unique=True))
        undecided = bool(turns) and draw(st.booleans())
        turns.append(
            AloeTurn(
                user=draw(TEXTS),
                assistant=AloeReplies(preferred=replies[0], rejected=replies[0 if undecided else 1]),
                chosen="preferred" if undecided else draw(st.sampled_from(["preferred", "rejected"])),
                inferred_profile="\n".join(lines["profile"]) or "None",
                inferred_personality="\n".join(lines["personality"]) or "None",
            )
        )
    return AloeRecord(profile=PERSON.profile, personality=PERSON.personality, conversations=tuple(turns))


@given(st.lists(records(), min_size=1, max_size=3))
def test_published_records_come_back(published: list[AloeRecord]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "conversations.jsonl"
        write_jsonl(path, published)
        read = read_aloe(path)
    assert list(aloe_records(read.trees, read.personas, ANY)) == published


def test_what_is_read_can_be_trained_on(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "c.jsonl", [record(turn("a", "b"), turn("c", "d", chosen="rejected"))])
    tree = read_aloe(tmp_path / "c.jsonl", split="heldout").trees[0]
    assert [message.content for message in tree.chat(tree.leaves()[-1])] == ["hello", "a", "hello", "d"]
    pairs = [(tree.nodes[one.chosen].content, tree.nodes[one.rejected].content) for one in preferences([tree], ANY)]
    assert pairs == [("a", "b"), ("c", "d")]
    # There are no scores, so no margin above nothing is met.
    assert preferences([tree], PreferenceConfig()) == ()


def turn(preferred: str, rejected: str, chosen: Any = "preferred", profile: str = "None") -> AloeTurn:
    replies = AloeReplies(preferred=preferred, rejected=rejected)
    return AloeTurn(user="hello", assistant=replies, chosen=chosen, inferred_profile=profile)


def record(*turns: AloeTurn) -> AloeRecord:
    return AloeRecord(profile=PERSON.profile, personality=PERSON.personality, conversations=turns)


def test_the_ledger_grows_by_what_is_new(tmp_path: Path) -> None:
    told = [
        "None",
        "She bakes bread.",
        "She bakes bread. She lives by the sea.",
        "None.",
        "She bakes bread by the sea.\nShe has a dog.",
    ]
    write_jsonl(tmp_path / "c.jsonl", [record(*(turn("a", "b", profile=text) for text in told))])
    tree = read_aloe(tmp_path / "c.jsonl").trees[0]
    stated = [[one.text for one in entry.stated] for entry in tree.ledger(len(tree.nodes) - 1)]
    assert stated == [[], ["She bakes bread."], ["She lives by the sea."], [], told[-1].split("\n")]


def test_lines_stored_as_json_are_plain_texts(tmp_path: Path) -> None:
    raw = record(turn("a", "b")).model_dump(mode="json")
    raw |= {"profile": json.dumps(PERSON.profile) + "\n", "personality": f" {PERSON.personality}\n"}
    (tmp_path / "c.jsonl").write_text(json.dumps(raw), encoding="utf-8")
    assert read_aloe(tmp_path / "c.jsonl").personas == (PERSON,)
    raw["profile"] = '"one" "two"'
    (tmp_path / "c.jsonl").write_text(json.dumps(raw), encoding="utf-8")
    assert read_aloe(tmp_path / "c.jsonl").personas[0].profile == '"one" "two"'


def test_bad_lines_are_problems_and_unknown_fields_are_noted(tmp_path: Path) -> None:
    good = record(turn("a", "b"), turn("same", "same")).model_dump(mode="json")
    strange = json.loads(json.dumps(good)) | {"mood": 1}
    strange["conversations"][0] |= {"seconds": 3}
    strange["conversations"][0]["assistant"] |= {"mood": "x"}
    lines = [
        json.dumps(good),
        "{",
        json.dumps("a text"),
        json.dumps({"profile": "x", "personality": "y"}),
        json.dumps(good | {"profile": " \n"}),
        json.dumps(good | {"conversations": []}),
        json.dumps(good | {"conversations": [good["conversations"][0] | {"chosen": "first"}]}),
        json.dumps(strange),
    ]
    (tmp_path / "c.jsonl").write_text("\n".join(lines), encoding="utf-8")
    read = read_aloe(tmp_path / "c.jsonl")
    assert [tree.seed for tree in read.trees] == [0, 1]
    assert read.trees[0].nodes == read.trees[1].nodes
    assert [problem.place for problem in read.problems] == [f"c.jsonl, line {number}" for number in range(2, 8)]
    assert "conversations.0.chosen" in read.problems[-1].what
    assert len(read.notes) == 4
    assert read.notes[1:] == (
        "turns whose two replies are the same, so no pair: 2",
        'unknown field "mood", left out: 2',
        'unknown field "seconds", left out: 1',
    )
    (tmp_path / "c.jsonl").write_text("\n".join(lines[1:3]), encoding="utf-8")
    with pytest.raises(InputError, match=r"no conversation that can be used: c\.jsonl, line 1: is not JSON"):
        read_aloe(tmp_path / "c.jsonl")


def test_grown_trees_become_whole_conversations() -> None:
    config = PreferenceConfig()
    trees = grow(PERSONAS[:8], SimulateConfig(turns=4), 1)
    written = list(aloe_records(trees, PERSONAS, config))
    assert len(written) == len(trees)
    for one, tree, persona in zip(written, trees, PERSONAS, strict=False):
        assert (one.profile, one.personality) == (persona.profile, persona.personality)
        path = tree.path(next(leaf for leaf in tree.leaves() if tree.nodes[leaf].continued))
        assert len(one.conversations) == 4
        for said, user_node, reply in zip(one.conversations, path[::2], path[1::2], strict=True):
            assert said.user == tree.nodes[user_node].content
            assert getattr(said.assistant, said.chosen) == tree.nodes[reply].content
            known = tree.ledger(user_node)[0].facts[0]
            assert f"{known.slot}: {known.term}" in said.inferred_profile.split("\n")
            by_text = {tree.nodes[node].content: node for node in tree.siblings(reply)}
            pair = [by_text[said.assistant.preferred], by_text[said.assistant.rejected]]
            if said.assistant.decided:
                found = preference_between(tree, pair[0], pair[1], config)
                assert found is not None and found.chosen == pair[0]
            else:
                assert not any(
                    preference_between(tree, reply, other, config) for other in tree.siblings(reply) if other != reply
                )


def test_each_way_of_a_tree_is_a_conversation_and_a_cut_off_turn_is_none() -> None:
    nodes = (
        asked(),
        replied(0, "a", 4.0, continued=True),
        replied(0, "b", 2.0, continued=True),
        asked(1, "after a"),
        asked(2, "after b"),
        replied(4, "c", 3.0),
        replied(4, "d", 5.0),
    )
    tree = Tree(persona_id=PERSON.id, seed=1, nodes=nodes, failure="turn 2: no answer")
    written = list(aloe_records([tree], [PERSON], ANY))
    assert [[(said.assistant.preferred, said.chosen) for said in one.conversations] for one in written] == [
        [("a", "preferred")],
        [("a", "rejected"), ("d", "preferred")],
    ]


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    equal = Tree(persona_id=PERSON.id, seed=1, nodes=(asked(), replied(0, "a", 3.0), replied(0, "b", 3.0)))
    torn = equal.model_copy(update={"comparisons": (compared(1, 2, "first", "second"),)})
    with pytest.raises(InputError, match="nothing to write"):
        write_aloe(tmp_path / "c.jsonl", [equal, torn], [PERSON], ANY)
    with pytest.raises(InputError, match="not among the personas"):
        write_aloe(tmp_path / "c.jsonl", [equal], PERSONAS, ANY)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="does not exist"):
        read_aloe(tmp_path / "c.jsonl")
