from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.conversations.preferences import (
    PreferenceConfig,
    preferences,
    preferred,
    write_preference_tables,
)
from interalign.conversations.simulate import Cast, SimulateConfig, grow_tree
from interalign.conversations.tree import Node, Tree
from interalign.errors import InputError
from interalign.roles.judge import Verdict
from tests.roles.talks import PERSONAS

CONFIG = PreferenceConfig()
TREES = [asyncio.run(grow_tree(persona, SimulateConfig(turns=3), 1, Cast())) for persona in PERSONAS[:4]]
SYSTEM = "You are a helpful assistant."

scores = st.lists(st.none() | st.floats(1, 5).map(lambda score: round(score, 4)), max_size=6)


def one_turn(verdicts: list[float | None]) -> Tree:
    asked = Node(parent=None, role="user", content="u", source="user")
    replies = [
        Node(
            parent=0,
            role="assistant",
            content=f"reply {index}",
            source="generic",
            verdict=None if score is None else Verdict(score=score),
        )
        for index, score in enumerate(verdicts)
    ]
    return Tree(persona_id="p", seed=1, nodes=(asked, *replies))


@given(scores, st.floats(0.1, 2))
def test_pairs_differ_by_the_margin_and_have_verdicts(verdicts: list[float | None], min_margin: float) -> None:
    config = PreferenceConfig(min_margin=min_margin)
    tree = one_turn(verdicts)
    pairs = preferences([tree], config)
    given_scores = {index: score for index, score in enumerate(verdicts, 1) if score is not None}
    best = max(given_scores.values(), default=0)
    for pair in pairs:
        margin = given_scores[pair.chosen] - given_scores[pair.rejected]
        assert margin >= min_margin
        assert pair.margin == pytest.approx(margin, abs=1e-4)
        assert best - given_scores[pair.rejected] >= min_margin > best - given_scores[pair.chosen]
    assert {pair.rejected for pair in pairs} == {
        index for index, score in given_scores.items() if best - score >= min_margin
    }


@given(scores)
def test_the_preferred_are_the_best_and_their_equals(verdicts: list[float | None]) -> None:
    tree = one_turn(verdicts)
    chosen = preferred(tree, 0, CONFIG)
    given_scores = [score for score in verdicts if score is not None]
    assert bool(chosen) == bool(given_scores)
    for index, score in enumerate(verdicts, 1):
        assert (index in chosen) == (score is not None and max(given_scores) - score < CONFIG.min_margin)


def test_only_the_best_is_chosen_and_its_equals_are_in_no_pair() -> None:
    pairs = preferences([one_turn([4.9, 5.0, 1.0, 2.0, 3.0, None])], CONFIG)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [(2, 3), (2, 4), (2, 5)]
    assert [pair.margin for pair in pairs] == [4.0, 3.0, 2.0]


def test_pairs_of_grown_trees_are_siblings() -> None:
    pairs = preferences(TREES, CONFIG)
    assert {pair.tree for pair in pairs} == set(range(len(TREES)))
    for pair in pairs:
        tree = TREES[pair.tree]
        assert pair.rejected in tree.siblings(pair.chosen)
        better, worse = tree.nodes[pair.chosen].verdict, tree.nodes[pair.rejected].verdict
        assert better is not None and worse is not None
        assert better.score - worse.score >= CONFIG.min_margin


@pytest.mark.parametrize("verdicts", [[], [None, None], [3.0], [3.0, None], [3.0, 3.1]])
def test_nothing_to_prefer(tmp_path: Path, verdicts: list[float | None]) -> None:
    with pytest.raises(InputError, match=r"preferences\.min_margin"):
        write_preference_tables(tmp_path, [one_turn(verdicts)], CONFIG, SYSTEM)
    assert list(tmp_path.iterdir()) == []


def test_a_margin_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="min_margin"):
        PreferenceConfig(min_margin=0)


def loaded(folder: Path, name: str) -> Any:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    files = str(folder / f"{name}.parquet")
    return datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(folder / "cache"))


def is_conversation(messages: list[dict[str, str]]) -> bool:
    return bool(messages) and all(set(message) == {"role", "content"} for message in messages)


def test_the_dpo_table_is_what_trl_reads(tmp_path: Path) -> None:
    write_preference_tables(tmp_path, TREES, CONFIG, SYSTEM)
    rows = loaded(tmp_path, "dpo")
    columns = ["prompt", "chosen", "rejected", "margin", "turn", "chosen_source", "rejected_source", "persona_id"]
    assert rows.column_names == columns
    pairs = preferences(TREES, CONFIG)
    assert len(rows) == len(pairs)
    for row, pair in zip(rows, pairs, strict=True):
        tree = TREES[pair.tree]
        assert all(is_conversation(row[column]) for column in ("prompt", "chosen", "rejected"))
        assert row["prompt"][0] == {"role": "system", "content": SYSTEM}
        assert [message["role"] for message in row["prompt"][1:]] == (["user", "assistant"] * row["turn"])[:-1]
        assert row["chosen"] == [{"role": "assistant", "content": tree.nodes[pair.chosen].content}]
        assert row["rejected"] == [{"role": "assistant", "content": tree.nodes[pair.rejected].content}]
        assert (row["margin"], row["persona_id"]) == (pair.margin, tree.persona_id)
        assert row["chosen_source"] == tree.nodes[pair.chosen].source
        assert row["rejected_source"] == tree.nodes[pair.rejected].source


def test_the_sft_table_is_what_trl_reads(tmp_path: Path) -> None:
    write_preference_tables(tmp_path, TREES, CONFIG, SYSTEM)
    rows = loaded(tmp_path, "sft")
    assert rows.column_names == ["messages", "turn", "persona_id"]
    expected = [(tree, node) for tree in TREES for turn in tree.user_turns() for node in preferred(tree, turn, CONFIG)]
    assert len(rows) == len(expected)
    for row, (tree, node) in zip(rows, expected, strict=True):
        assert is_conversation(row["messages"])
        assert row["messages"][0] == {"role": "system", "content": SYSTEM}
        assert row["messages"][-1] == {"role": "assistant", "content": tree.nodes[node].content}
        assert len(row["messages"]) == 1 + 2 * row["turn"]


@pytest.mark.slow
def test_trl_knows_the_format(tmp_path: Path) -> None:
    data_utils = pytest.importorskip("trl.data_utils")
    write_preference_tables(tmp_path, TREES, CONFIG, SYSTEM)
    assert data_utils.is_conversational(loaded(tmp_path, "dpo")[0])
    assert data_utils.is_conversational(loaded(tmp_path, "sft")[0])
