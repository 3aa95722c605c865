from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from interalign.evaluation.crossed import Clusters
from interalign.evaluation.measures import (
    bounds_of,
    case_means,
    counterfactuals_of,
    difference_bounds_of,
    noise_floors,
    ratios_of,
    reached_of,
)
from interalign.evaluation.rows import Counterfactual, Induction, TurnRow
from interalign.evaluation.statistics import Ratio, resample
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Disclosure

NAN = np.nan


def row(case: str, turn: int, score: float | None, **more: object) -> TurnRow:
    verdict = None if score is None else Verdict(score=score)
    known = {"user": "Hi", "reply": "Ho", "disclosure": Disclosure(turn=turn), "verdict": verdict}
    return TurnRow.model_validate({"case": case, "turn": turn, **known, **more})


def array(*rows: list[float]) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64)


def test_bounds_fill_the_gaps_with_the_worst_and_the_best() -> None:
    bounds = bounds_of(array([3, NAN], [3, 3]))
    assert (bounds.low, bounds.high) == (2.5, 3.5)
    of_pair = difference_bounds_of(array([3, NAN], [3, 3]), array([4, 4], [4, NAN]))
    assert [of_pair.low, of_pair.high] == pytest.approx([3.25 - 3.5, 4.25 - 2.5])


@given(st.lists(st.lists(st.floats(1, 5), min_size=3, max_size=3), min_size=1, max_size=6), st.integers(0, 1000))
def test_bounds_hold_whatever_was_missing(scores: list[list[float]], seed: int) -> None:
    full = array(*scores)
    gaps = np.where(np.random.default_rng(seed).random(full.shape) < 0.4, NAN, full)
    bounds = bounds_of(gaps)
    assert bounds.low - 1e-9 <= full.mean() <= bounds.high + 1e-9


def test_a_case_without_a_verdict_has_no_mean() -> None:
    np.testing.assert_array_equal(case_means(array([1, 3], [NAN, 2], [NAN, NAN])), [2, 2, NAN])


def test_the_first_turn_that_meets_a_person() -> None:
    scores = array([1, 4, 5], [4, 1, 1], [3.9, 3, 3], [NAN, 5, 5], [NAN, NAN, NAN])[None]
    (reached,) = reached_of(scores, Clusters(), resamples=300, seed=0)
    assert reached.turn.value == 2
    assert reached.never.value == 0.25  # one of the four who were judged at all


def test_whether_a_person_is_never_met_is_unknown_while_verdicts_are_missing() -> None:
    scores = array([1, 4], [1, NAN], [NAN, 4], [1, 1], [2, NAN])[None]
    (reached,) = reached_of(scores, Clusters(), resamples=100, seed=0)
    assert reached.never.value == pytest.approx(1 / 3)  # of the first, the third and the fourth
    assert reached.turn.value == 2


def test_who_is_met_by_less_than_half_has_no_median() -> None:
    scores = array([1, 1], [1, 1], [1, 1], [4, 4])[None]
    (reached,) = reached_of(scores, Clusters(), resamples=100, seed=0)
    assert (reached.turn.value, reached.never.value) == (None, 0.75)


def test_what_rows_tell_beside_the_score() -> None:
    said = Induction(statements=("a", "b"), true=1, disclosed=4, found=3)
    rows = [
        row("a", 1, 3, mind_reading=True, helpfulness=4, induction=said),
        row("a", 2, 3, mind_reading=False, controls={"constant": Counterfactual(reply="x", verdict=Verdict(score=2))}),
        row("b", 1, 3, controls={"constant": Counterfactual(reply="x")}),
    ]
    ratios = ratios_of([rows], {"a": 0, "b": 1}, 2)
    assert list(ratios) == [
        "mind_reading", "helpfulness", "precision", "recall", "control:constant", "against:constant"
    ]  # fmt: skip
    assert (ratios["mind_reading"].sums.sum(), ratios["mind_reading"].counts.sum()) == (1, 2)
    assert (ratios["precision"].sums[0, 0, 0], ratios["precision"].counts[0, 0, 0]) == (1, 2)
    assert (ratios["recall"].sums[0, 0, 0], ratios["recall"].counts[0, 0, 0]) == (3, 4)
    assert ratios["control:constant"].counts.sum() == 1
    assert (ratios["against:constant"].sums.sum(), ratios["against:constant"].counts.sum()) == (1, 1)
    assert ratios_of([[row("a", 1, 3)]], {"a": 0}, 1) == {}


def test_a_control_is_compared_by_the_replies_that_were_both_judged() -> None:
    rows = [
        row(case, 1, score, controls={"constant": Counterfactual(reply="x", verdict=Verdict(score=5))})
        for case, score in (("a", 5), ("b", None), ("c", None))
    ]
    rows += [row("d", 1, 1, controls={"constant": Counterfactual(reply="x")})]
    place = {case: index for index, case in enumerate("abcd")}
    al = Ratio.of(array([5], [NAN], [NAN], [1])[None])
    drawn = resample({"al": al, **ratios_of([rows], place, 1)}, Clusters(), resamples=50)
    (control,) = counterfactuals_of(drawn, 0, Clusters())
    assert (control.name, control.mean_al.value, control.difference.value) == ("constant", 5, 0)


def test_repeats_are_compared_by_the_turns_that_both_have() -> None:
    told: dict[int, dict[int, float | None]] = {0: {1: 1, 2: 5}, 1: {1: 1.5, 2: None}, 2: {1: None, 2: None}}
    rows = [row("a", turn, score, repeat=repeat) for repeat, turns in told.items() for turn, score in turns.items()]
    rows += [row("b", 1, 1), row("b", 2, 5, repeat=1)]
    (floor,) = noise_floors([rows], {"a": 0, "b": 1}, Clusters(), resamples=50, seed=0)
    assert floor is not None and floor.cases == 1
    assert floor.difference.value == pytest.approx(0.5)
    assert floor.sd.value == pytest.approx(np.std([1, 1.5], ddof=1))


def test_the_noise_is_what_two_runs_differ_by() -> None:
    rows = [
        row(case, turn, level + shift, repeat=repeat)
        for case, level, shifts in (("a", 2, (0, 0.4)), ("b", 3, (0, 0.8)), ("c", 3, (0,)))
        for repeat, shift in enumerate(shifts)
        for turn in (1, 2)
    ]
    once = [row(case, 1, 3) for case in "abc"]
    floor, unknown = noise_floors([rows, once], {"a": 0, "b": 1, "c": 2}, Clusters(), resamples=200, seed=0)
    assert floor is not None and unknown is None
    assert floor.cases == 2
    assert floor.difference.value == pytest.approx(0.6)
    assert floor.sd.value == pytest.approx(np.sqrt((0.4**2 / 2 + 0.8**2 / 2) / 2))
    thrice = [row("a", 1, score, repeat=repeat) for repeat, score in enumerate((1, 2, 4))]
    (floor,) = noise_floors([thrice], {"a": 0}, Clusters(), resamples=50, seed=0)
    assert floor is not None
    assert (floor.difference.value, floor.sd.value) == pytest.approx((2, np.std([1, 2, 4], ddof=1)))
    assert noise_floors([once], {"a": 0, "b": 1, "c": 2}, Clusters(), resamples=50, seed=0) == (None,)
