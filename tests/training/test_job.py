from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BloomConfig, LlamaConfig

from interalign.conversations.preferences import PreferenceConfig, preferences
from interalign.conversations.tree import Tree
from interalign.errors import TrainingError
from interalign.messages import Message
from interalign.training.job import (
    LeftOut,
    Lesson,
    Method,
    context_length,
    fitting,
    lessons_of,
    refuse_too_long,
)
from interalign.training.train import TrainConfig
from tests.training.conftest import make_job

PREFERENCE = PreferenceConfig()


def saying(tree: Tree, said: dict[int, str]) -> Tree:
    nodes = (
        node.model_copy(update={"content": said.get(index, node.content)}) for index, node in enumerate(tree.nodes)
    )
    return tree.model_copy(update={"nodes": tuple(nodes)})


def test_sft_learns_what_nothing_is_preferred_to_and_its_control_what_lost(trees: list[Tree]) -> None:
    pairs = preferences(trees, PREFERENCE)
    better, _ = lessons_of("sft", trees, PREFERENCE)
    worse, _ = lessons_of("sft-rejected", trees, PREFERENCE)
    for lessons in (better, worse):
        assert all(not lesson.pairs and lesson.replies == tuple(sorted(lesson.replies)) for lesson in lessons)
    chosen = {(pair.tree, pair.chosen) for pair in pairs}
    rejected = {(pair.tree, pair.rejected) for pair in pairs}
    assert chosen <= {(lesson.tree, reply) for lesson in better for reply in lesson.replies}
    assert rejected == {(lesson.tree, reply) for lesson in worse for reply in lesson.replies}


def test_dpo_learns_the_preferences(trees: list[Tree]) -> None:
    lessons, left_out = lessons_of("dpo", trees, PREFERENCE)
    assert left_out == LeftOut()
    learnt = [(lesson.tree, *pair) for lesson in lessons for pair in lesson.pairs]
    assert learnt == [(pair.tree, pair.chosen, pair.rejected) for pair in preferences(trees, PREFERENCE)]
    assert all(set(lesson.replies) == {node for pair in lesson.pairs for node in pair} for lesson in lessons)


@pytest.mark.parametrize("method", ["sft", "sft-rejected", "dpo"])
def test_trees_that_teach_nothing_are_passed_over(trees: list[Tree], method: Method) -> None:
    bare = trees[0].model_copy(
        update={"nodes": tuple(node.model_copy(update={"verdict": None}) for node in trees[0].nodes)}
    )
    lessons, left_out = lessons_of(method, [bare, trees[1]], PREFERENCE)
    assert [lesson.tree for lesson in lessons] == [1]
    assert left_out == LeftOut()
    assert lessons_of(method, [], PREFERENCE) == ((), LeftOut())


def test_replies_without_a_word_are_left_out_and_counted(trees: list[Tree]) -> None:
    pair = preferences(trees[:1], PREFERENCE)[0]
    silent = [saying(trees[0], {pair.chosen: " \n"})]
    lessons, left_out = lessons_of("sft", silent, PREFERENCE)
    assert left_out == LeftOut(empty=1)
    assert pair.chosen not in lessons[0].replies
    lessons, left_out = lessons_of("dpo", silent, PREFERENCE)
    touched = [one for one in preferences(trees[:1], PREFERENCE) if pair.chosen in (one.chosen, one.rejected)]
    assert left_out == LeftOut(empty=len(touched))
    assert pair.chosen not in lessons[0].replies
    lessons, left_out = lessons_of("sft-rejected", [saying(trees[0], {pair.rejected: ""})], PREFERENCE)
    assert left_out == LeftOut(empty=1)
    assert pair.rejected not in lessons[0].replies


def test_pairs_that_say_the_same_are_left_out_and_counted(trees: list[Tree]) -> None:
    pair = preferences(trees[:1], PREFERENCE)[0]
    same = saying(trees[0], {pair.chosen: "Yes.", pair.rejected: " Yes. "})
    lessons, left_out = lessons_of("dpo", [same], PREFERENCE)
    assert left_out == LeftOut(equal=1)
    assert (pair.chosen, pair.rejected) not in lessons[0].pairs
    # Two sides that both say nothing are empty, not equal.
    neither = saying(trees[0], {pair.chosen: "", pair.rejected: ""})
    assert lessons_of("dpo", [neither], PREFERENCE)[1].equal == 0


@pytest.mark.parametrize(
    ("left_out", "told"),
    [
        (LeftOut(), None),
        (LeftOut(empty=1), "pairs left out: 1 empty"),
        (
            LeftOut(empty=1200, equal=2, too_long=3),
            "pairs left out: 1,200 empty, 2 of equal replies, 3 longer than the model reads",
        ),
    ],
)
def test_what_is_left_out_is_told(left_out: LeftOut, told: str | None) -> None:
    assert left_out.told("pairs") == told


PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8, unique=True)
LENGTHS = st.lists(st.integers(1, 100), min_size=10, max_size=10)


@given(PAIRS, LENGTHS, st.integers(0, 100))
def test_a_pair_stays_when_both_its_sides_fit(pairs: list[tuple[int, int]], lengths: list[int], limit: int) -> None:
    sides = tuple(sorted({node for pair in pairs for node in pair}))
    kept, left_out = fitting(Lesson(3, sides, tuple(pairs)), lengths.__getitem__, limit)
    fits = [pair for pair in pairs if max(lengths[node] for node in pair) <= limit]
    assert kept == Lesson(3, tuple(sorted({node for pair in fits for node in pair})), tuple(fits))
    assert left_out == len(pairs) - len(fits)


@given(LENGTHS, st.integers(0, 100))
def test_a_reply_stays_when_it_fits(lengths: list[int], limit: int) -> None:
    kept, left_out = fitting(Lesson(0, tuple(range(10))), lengths.__getitem__, limit)
    assert kept.replies == tuple(reply for reply in range(10) if lengths[reply] <= limit)
    assert left_out == 10 - len(kept.replies)


@pytest.mark.parametrize(
    ("asked", "reads", "expected"), [(None, 512, 512), (100, 512, 100), (9999, 512, 512), (None, None, sys.maxsize)]
)
def test_a_conversation_is_as_long_as_asked_for_and_at_most_what_the_model_reads(
    trees: list[Tree], config: TrainConfig, tmp_path: Path, asked: int | None, reads: int | None, expected: int
) -> None:
    job = make_job("sft", trees, config.model_copy(update={"max_length": asked}), tmp_path / "one")
    # Bloom's positions have no end.
    shape = LlamaConfig(max_position_embeddings=reads) if reads else BloomConfig()
    assert context_length(job, SimpleNamespace(config=shape)) == expected


def test_too_long_is_told_and_refused_when_nothing_else_is_there(
    trees: list[Tree], config: TrainConfig, tmp_path: Path
) -> None:
    told: list[str] = []
    job = make_job("dpo", trees, config, tmp_path / "one")
    heard = type(job)(**{**vars(job), "notice": told.append})
    refuse_too_long(heard, 0, nothing_left=False)
    assert told == []
    refuse_too_long(heard, 2, nothing_left=False)
    assert told == ["pairs left out: 2 longer than the model reads"]
    with pytest.raises(TrainingError, match=r"nothing to train on.*train\.max_length"):
        refuse_too_long(heard, 2, nothing_left=True)


def test_the_hash_is_of_what_is_learnt(trees: list[Tree], config: TrainConfig, tmp_path: Path) -> None:
    def hashed(method: Method = "sft", of: list[Tree] = trees, **changes: Any) -> str:
        job = make_job(method, of, config, tmp_path / "one")
        return type(job)(**{**vars(job), **changes}).data_hash

    chat = (Message(role="user", content="Hello"), Message(role="assistant", content="Good day."))
    learnt = [
        hashed(),
        hashed("dpo"),
        hashed(of=trees[:2]),
        hashed(of=trees[::-1]),
        hashed(of=[saying(trees[0], {0: "Other words"}), *trees[1:]]),
        hashed(system="Another"),
        hashed(chats=(chat,)),
    ]
    assert len(set(learnt)) == len(learnt)
    elsewhere = {"seed": 2, "start": "other", "out": tmp_path / "two"}
    assert hashed(**elsewhere) == hashed()


@pytest.mark.parametrize("seed", [0, 7, 2**32, 2**63])
def test_a_seed_of_any_size_will_do(trees: list[Tree], config: TrainConfig, tmp_path: Path, seed: int) -> None:
    job = make_job("sft", trees, config, tmp_path / "one")
    assert 0 <= type(job)(**{**vars(job), "seed": seed}).trl_seed < 2**32


def test_unfinished_work_lies_beside_the_checkpoint(trees: list[Tree], config: TrainConfig, tmp_path: Path) -> None:
    assert make_job("sft", trees, config, tmp_path / "one").work == tmp_path / "one.unfinished"
    assert make_job("dpo", trees, config, tmp_path / "one").stage is config.dpo
    assert make_job("sft-rejected", trees, config, tmp_path / "one").stage is config.sft
