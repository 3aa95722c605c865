from __future__ import annotations

import numpy as np
import pytest

from interalign.evaluation.judging.resampling import Places, floats, interval, mean, mean_interval
from interalign.evaluation.statistics import Estimate


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(0).normal(3, 1, 400).tolist()
    found = mean_interval(values, range(400), resamples=2000)
    assert found.value == pytest.approx(np.mean(values))
    assert found.low is not None and found.high is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.std(values) / 20, rel=0.1)


def test_items_of_one_case_are_drawn_together() -> None:
    values = [value for value in np.random.default_rng(1).normal(3, 1, 40) for _ in range(10)]
    alone = mean_interval(values, range(400))
    together = mean_interval(values, [place // 10 for place in range(400)])
    assert together.value == alone.value
    assert None not in (together.low, together.high, alone.low, alone.high)
    assert (together.high or 0) - (together.low or 0) > 2.5 * ((alone.high or 0) - (alone.low or 0))


def test_crossed_factors_are_both_drawn() -> None:
    random = np.random.default_rng(2)
    rows, columns = random.normal(0, 1, 20), random.normal(0, 1, 5)
    cells = [(row, column) for row in range(20) for column in range(5)]
    values = [float(rows[row] + columns[column]) for row, column in cells]
    by_row = mean_interval(values, [row for row, _ in cells])
    crossed = mean_interval(values, [row for row, _ in cells], [column for _, column in cells])
    assert (crossed.high or 0) - (crossed.low or 0) > 1.3 * ((by_row.high or 0) - (by_row.low or 0))


def test_the_mean_is_drawn_as_any_statistic_is() -> None:
    values = [1.0, None, 4.0, 2.0, 5.0, 3.0]
    array, cases, others = floats(values), "aabbcc", "xyxyxy"

    def slowly(places: Places) -> float:
        return mean(array[places])

    fast, slow = mean_interval(values, cases, others), interval(slowly, cases, others)
    assert fast.value == pytest.approx(slow.value)
    assert fast.low == pytest.approx(slow.low)
    assert fast.high == pytest.approx(slow.high)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [1.0, 2.0, None, 5.0, 3.0]
    assert mean_interval(values, "abcde", seed=3) == mean_interval(values, "abcde", seed=3)
    assert mean_interval(values, "abcde", seed=3) != mean_interval(values, "abcde", seed=4)


@pytest.mark.parametrize("values", [[], [None, None]])
def test_nothing_has_no_mean(values: list[float | None]) -> None:
    assert mean_interval(values, range(len(values))) == Estimate()


def test_one_case_has_a_value_and_no_interval() -> None:
    assert mean_interval([1.0, 3.0], "aa") == Estimate(value=2.0)


def test_a_statistic_that_most_samples_leave_undefined_has_no_interval() -> None:
    array = floats([1.0, None, None, None])

    def first(places: Places) -> float:
        return float(np.nanmean(array[places])) if 0 in places else float("nan")

    assert interval(first, range(4)) == Estimate(value=1.0)
