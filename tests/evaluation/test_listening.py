"""What a complaint changes: scripts that listen, that do not, and that only vary."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from io import StringIO
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from interalign.evaluation.benchmark import BenchmarkConfig, ControlCandidate, run_benchmark
from interalign.evaluation.listening import listening_of
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.summary import ModelSummary, summarise
from interalign.evaluation.tables import table
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


def effect(rows: Sequence[TurnRow]) -> tuple[float, float] | None:
    """The sum over all complaints that can be compared, and how many they are."""
    ratio = listening_of([rows], {"somebody": 0}, max(one.turn for one in rows))
    return None if ratio is None else (float(ratio.sums.sum()), float(ratio.counts.sum()))


def played(source: Source) -> ModelSummary:
    rows = asyncio.run(run_benchmark(ControlCandidate(source), PEOPLE, BenchmarkConfig(turns=8), 5))
    return summarise({source: rows}, baseline=source, world="rules", resamples=500).model(source)


def test_what_was_complained_of_is_held_against_what_was_not() -> None:
    rows = [
        row(1, {"emoji": 0, "question": 0, "layout": 0, "formality": 0, "warmth": 1}),
        # One of two complaints is met, and so is one of two that nobody made.
        row(2, {"emoji": 1, "question": 0, "layout": 1, "formality": 0, "warmth": 0}, ["emoji", "question"]),
        # The complaint is met, and none of the two others; warmth was lost on the way, and nobody said so.
        row(3, {"emoji": 1, "question": 1, "layout": 1, "formality": 0, "warmth": 0}, ["question"]),
    ]
    assert effect(rows) == effect(rows[::-1]) == (0 + 1, 2 + 1)


def test_what_cannot_be_compared_is_left_out() -> None:
    missed: dict[Dimension, float] = {"emoji": 0, "question": 0}
    met: dict[Dimension, float] = {"emoji": 1, "question": 0}
    before, after = row(1, missed), row(2, met, ["emoji"])
    assert effect([before, after]) == (1, 1)
    unjudged = ([row(1, None), after], [before, row(2, None, ["emoji"])])
    for rows in (*unjudged, [before, row(3, met, ["emoji"])], [after], [before, row(2, met)]):
        assert effect(rows) is None
    # Of all that it missed the user complained: nothing is left to compare with.
    assert effect([before, row(2, met, ["emoji", "question"])]) is None


def test_a_partial_fit_counts_from_a_half() -> None:
    before = row(1, {"length": 0.4, "emoji": 0})
    assert effect([before, row(2, {"length": 0.5, "emoji": 0}, ["length"])]) == (1, 1)
    assert effect([before, row(2, {"length": 0.4, "emoji": 0}, ["length"])]) == (0, 1)
    assert effect([row(1, {"length": 0.5, "emoji": 0}), row(2, {"length": 0.4, "emoji": 0}, ["emoji"])]) is None


@given(
    st.lists(st.tuples(*[st.sampled_from([0.0, 1.0])] * 4), min_size=2, max_size=8),
    st.integers(0, 3),
)
def test_the_two_sides_are_opposites(fits: list[tuple[float, ...]], of: int) -> None:
    """Of two misses one is complained of: had it been the other, the effect would be the opposite."""
    shown = tuple(DIMENSIONS)[:4]
    first, second = shown[of], shown[(of + 1) % 4]
    pairs = [{one: fit for one, fit in zip(shown, of_turn, strict=True) if one in (first, second)} for of_turn in fits]
    one, other = (
        effect([row(turn, pair, [complaint]) for turn, pair in enumerate(pairs, 1)]) for complaint in (first, second)
    )
    both_missed = [after for before, after in pairwise(pairs) if before[first] == before[second] == 0]
    if not both_missed:
        assert one is other is None
        return
    assert one is not None and other is not None
    assert one[1] == other[1] == len(both_missed)
    assert one[0] == -other[0] == sum(after[first] - after[second] for after in both_missed)


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


def test_a_judge_that_tells_no_wishes_apart_leaves_it_open() -> None:
    def judged(turn: int) -> TurnRow:
        verdict = Verdict(score=2, parts={"style": 0.2, "content": 0.9, "honest": 1.0})
        return row(turn, {}, ["emoji"]).model_copy(update={"verdict": verdict})

    assert effect([judged(1), judged(2)]) is None


def test_a_model_without_a_number_says_why_in_the_table() -> None:
    fits: list[dict[Dimension, float]] = [{"emoji": 0, "question": 0}, {"emoji": 1, "question": 0}]
    heard = [row(turn, fit, ["emoji"] if turn > 1 else []) for turn, fit in enumerate(fits, 1)]
    silent = [row(turn, {"emoji": 1, "question": 1}) for turn in (1, 2)]
    summary = summarise({"heard": heard, "silent": silent}, baseline="heard", world="rules", resamples=100)
    assert [model.listening is None for model in summary.models] == [False, True]
    console = Console(width=100, record=True, file=StringIO())
    console.print(table(summary, 100))
    told = console.export_text()
    assert "no complaint can be compared" in told
    assert "+1.00" in told
