from __future__ import annotations

import asyncio
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from interalign.errors import InputError
from interalign.evaluation.judging.calibration import (
    IsotonicMap,
    calibrate,
    calibration_curve,
    expected_calibration_error,
    isotonic_map,
    mapped_error,
)
from interalign.roles.judge import RuleJudge
from tests.evaluation.judging.judges import Always, Noisy

needs_sklearn = pytest.mark.skipif(find_spec("sklearn") is None, reason="scikit-learn is not installed")


def test_the_verifiable_judge_is_calibrated_on_itself() -> None:
    found = asyncio.run(calibrate(RuleJudge(), 8, seed=0))
    assert found.replies == 32
    assert found.spearman.value == pytest.approx(1)
    assert (found.missing, found.pairs.value) == (0, 1)
    assert (found.error.value, found.calibration_error) == (0, 0)
    assert all(found.confusion[row][column] == 0 for row in range(5) for column in range(5) if row != column)
    assert sum(map(sum, found.confusion)) == 32


@needs_sklearn
def test_a_kind_judge_is_put_right_by_its_map() -> None:
    found = asyncio.run(calibrate(Noisy(noise=0.1, kind=0.8), 25, seed=1))
    assert found.error.value is not None and found.error.value > 0.4
    assert found.mapped_error is not None and found.mapped_error.value is not None
    assert found.mapped_error.high is not None and found.mapped_error.high < found.error.value
    assert found.map is not None
    assert found.map(2.8) == pytest.approx(2.0, abs=0.25)


def test_a_judge_that_always_says_the_same_orders_nothing() -> None:
    found = asyncio.run(calibrate(Always(3), 10, seed=0))
    assert found.spearman.value is None
    assert found.pairs.value == 0.5
    assert [step.score for step in found.curve] == [3]


def test_missing_verdicts_are_counted_and_left_out() -> None:
    found = asyncio.run(calibrate(Noisy(noise=0, missing=0.3), 25, seed=0))
    assert 0.15 < found.missing < 0.45
    assert found.error.value == 0
    assert sum(map(sum, found.confusion)) == round(100 * (1 - found.missing))


def test_the_curve_and_its_error_are_those_of_a_worked_example() -> None:
    human, judge = [1.0, 3.0, 4.0, 4.0, None], [2.0, 2.4, 4.0, 5.0, 1.0]
    two, four, five = calibration_curve(human, judge)
    assert (two.score, two.count, two.judge, two.human.value) == (2, 2, 2.2, 2.0)
    assert (four.human.value, five.human.value) == (4.0, 4.0)
    # |4.0 - 4.4| of two items, 0 of one, 1 of one.
    assert expected_calibration_error(human, judge) == pytest.approx((0.4 + 0 + 1) / 4)
    assert expected_calibration_error([None], [2.0]) is None


@needs_sklearn
@given(st.lists(st.tuples(st.floats(1, 5), st.floats(1, 5)), min_size=1, max_size=30))
def test_a_map_rises_and_errs_no_more_than_any_constant(pairs: list[tuple[float, float]]) -> None:
    judge, truth = [one for one, _ in pairs], [one for _, one in pairs]
    found = isotonic_map(judge, truth)
    mapped = [found(score) for score in sorted(judge)]
    assert all(later >= before - 1e-9 for before, later in pairwise(mapped))
    squares = sum((found(one) - other) ** 2 for one, other in pairs)
    assert squares <= sum((np.mean(truth) - other) ** 2 for other in truth) + 1e-6
    assert IsotonicMap.model_validate_json(found.model_dump_json()) == found


@needs_sklearn
def test_a_map_is_tested_on_people_that_it_was_not_fitted_on() -> None:
    random = np.random.default_rng(0)
    judge, truth = ([float(one) for one in random.uniform(1, 5, 60)] for _ in range(2))
    fitted = isotonic_map(judge, truth)
    seen = np.mean([abs(fitted(one) - other) for one, other in zip(judge, truth, strict=True)])
    unseen = mapped_error(judge, truth, range(60)).value
    assert unseen is not None and unseen > seen


@needs_sklearn
def test_a_map_needs_pairs_and_its_test_other_cases() -> None:
    with pytest.raises(InputError, match="No item"):
        isotonic_map([None, 1.0], [2.0, None])
    with pytest.raises(InputError, match="only one"):
        mapped_error([1.0, 2.0], [1.0, 2.0], ["a", "a"])


@pytest.mark.parametrize(("scores", "truths"), [((), ()), ((1, 2), (1,)), ((2, 1), (1, 2)), ((1, 2), (2, 1))])
def test_points_that_are_no_rising_map_are_refused(scores: tuple[float, ...], truths: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError):
        IsotonicMap(scores=scores, truths=truths)
