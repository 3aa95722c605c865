"""What a complaint changes: scripts that listen, that do not, and that only vary."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.evaluation.benchmark import BenchmarkConfig, ControlCandidate, run_benchmark
from interalign.evaluation.listening import mended_of
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.summary import ModelSummary, summarise
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.style import DIMENSIONS, Dimension
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Disclosure, Reaction
from interalign.roles.responder import Source

PEOPLE = [one for one in compose_personas(WorldConfig(train=1, heldout=20), seed=3) if one.split == "heldout"]


def row(turn: int, fits: Mapping[Dimension, float] | None, complaints: Sequence[Dimension] = ()) -> TurnRow:
    reactions = tuple(Reaction(dimension=one, got="none", wanted="some") for one in complaints)
    return TurnRow(
        case="somebody",
        turn=turn,
        user="Hello",
        reply="Good day.",
        disclosure=Disclosure(turn=turn, reactions=reactions),
        verdict=None if fits is None else Verdict(score=3, parts={**fits, "on_topic": 0.0, "recall": 0.0}),
    )


def counted(rows: Sequence[TurnRow]) -> list[tuple[float, float]]:
    """Of misses complained of and of the others: how many were mended, out of how many."""
    ratios = mended_of([rows], {"somebody": 0}, max(one.turn for one in rows))
    return [(float(ratio.sums.sum()), float(ratio.counts.sum())) for ratio in ratios.values()]


def played(source: Source) -> ModelSummary:
    rows = asyncio.run(run_benchmark(ControlCandidate(source), PEOPLE, BenchmarkConfig(turns=8), 5))
    return summarise({source: rows}, baseline=source, world="rules", resamples=500).model(source)


def test_misses_are_counted_by_whether_anybody_complained_of_them() -> None:
    rows = [
        row(1, {"emoji": 0, "question": 0, "layout": 0, "warmth": 1}),
        row(2, {"emoji": 1, "question": 0, "layout": 1, "warmth": 0}, ["emoji", "question"]),
        # Warmth was lost on the way, and so was a miss; nobody has said so.
        row(3, {"emoji": 1, "question": 1, "layout": 1, "warmth": 0}, ["question"]),
    ]
    assert counted(rows) == [(2, 3), (1, 2)]
    assert counted(rows[::-1]) == [(2, 3), (1, 2)]


def test_what_is_not_judged_is_no_miss() -> None:
    missed: dict[Dimension, float] = {"emoji": 0, "question": 0}
    met: dict[Dimension, float] = {"emoji": 1, "question": 1}
    before, after = row(1, missed), row(2, met, ["emoji"])
    assert counted([before, after]) == [(1, 1), (1, 1)]
    for rows in ([row(1, None), after], [before, row(2, None, ["emoji"])], [before, row(3, met, ["emoji"])], [after]):
        assert counted(rows) == []


def test_a_partial_fit_counts_from_a_half() -> None:
    assert counted([row(1, {"length": 0.4}), row(2, {"length": 0.5}, ["length"])]) == [(1, 1), (0, 0)]
    assert counted([row(1, {"length": 0.5}), row(2, {"length": 0.4}, ["length"])]) == []


@given(st.lists(st.tuples(*[st.sampled_from([0.0, 1.0])] * 3), min_size=2, max_size=8), st.data())
def test_every_miss_is_counted_once(fits: list[tuple[float, float, float]], data: st.DataObject) -> None:
    shown = tuple(DIMENSIONS)[:3]
    rows = [
        row(turn, dict(zip(shown, fit, strict=True)), data.draw(st.lists(st.sampled_from(shown), unique=True)))
        for turn, fit in enumerate(fits, 1)
    ]
    found = counted(rows)
    misses = sum(fit == 0 for of_turn in fits[:-1] for fit in of_turn)
    steps = (step for one, other in pairwise(fits) for step in zip(one, other, strict=True))
    mended = sum(step == (0, 1) for step in steps)
    assert not found or (sum(of for _, of in found), sum(of for of, _ in found)) == (misses, mended)


def test_who_listens_is_told_from_who_only_varies() -> None:
    listener, restless, plain = played("tailored"), played("random"), played("constant")
    assert listener.listening is not None and listener.listening.low is not None and listener.listening.low > 0.4
    # By chance alone it meets nearly half of the complaints, many more than one that never changes.
    assert (restless.uptake.value or 0) > 0.3 > (plain.uptake.value or 0)
    for one in (restless, plain):
        assert one.listening is not None and not one.listening.excludes_zero
        assert one.listening.value == pytest.approx(0, abs=0.15)


def test_without_complaints_there_is_nothing_to_tell() -> None:
    rows = [row(turn, {"emoji": 0}) for turn in (1, 2, 3)]
    assert summarise({"a": rows}, baseline="a", world="", resamples=100).model("a").listening is None
