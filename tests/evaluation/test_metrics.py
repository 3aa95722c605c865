from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from interalign.evaluation.metrics import (
    alignment_level,
    curve_metrics,
    improvement_rate,
    normalise,
    normalised_improvement_rate,
    r_squared,
)

# arXiv:2505.15456, Table 4, Qwen2.5-3B-Instruct in the vanilla setting: AL(1..10) with N-IR and N-R2 as printed.
PUBLISHED = {
    "RLPA": ([62.16, 68.92, 70.27, 74.32, 72.97, 74.32, 75.68, 78.38, 77.03, 79.73], 0.090, 0.855),
    "SFT": ([2.70, 24.32, 41.89, 40.54, 59.46, 56.76, 54.05, 54.05, 54.05, 55.41], 0.083, 0.628),
    "DPO": ([6.76, 14.86, 54.05, 55.41, 70.27, 70.27, 60.81, 58.11, 55.41, 52.70], 0.070, 0.389),
}
TABLE = Path(__file__).parents[3] / "shared" / "published" / "alignment_levels.csv"

levels = st.floats(1, 5, allow_subnormal=False)
curves = st.lists(st.none() | levels, min_size=2, max_size=12)


def is_steep(curve: list[float | None]) -> bool:
    defined = [level for level in curve if level is not None]
    return len(defined) >= 2 and max(defined) - min(defined) > 0.01


@pytest.mark.parametrize("method", PUBLISHED)
def test_published_rows(method: str) -> None:
    al, n_ir, n_r2 = PUBLISHED[method]
    metrics = curve_metrics(al)
    assert metrics.n_ir == pytest.approx(n_ir, abs=5e-4)
    assert metrics.n_r2 == pytest.approx(n_r2, abs=5e-4)


@pytest.mark.skipif(not TABLE.exists(), reason="the table of published levels is not beside this checkout")
def test_published_table() -> None:
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        metrics = curve_metrics([float(row[f"al{turn}"]) for turn in range(1, 11)])
        assert metrics.n_ir == pytest.approx(float(row["n_ir"]), abs=5e-4)
        assert metrics.n_r2 == pytest.approx(float(row["n_r2"]), abs=5e-4)


def test_alignment_level_leaves_missing_scores_out() -> None:
    assert alignment_level([[1.0, None, None], [3.0, 4.0, None]]) == [2.0, 4.0, None]
    assert alignment_level([]) == []


def test_alignment_level_refuses_ragged_cases() -> None:
    with pytest.raises(ValueError, match="shorter"):
        alignment_level([[1.0, 2.0], [1.0]])


@pytest.mark.parametrize("al", [[], [3.0], [None, None], [None, 2.0, None]])
def test_fewer_than_two_turns_define_nothing(al: list[float | None]) -> None:
    assert improvement_rate(al) is None
    assert r_squared(al) is None
    assert normalised_improvement_rate(al) is None


def test_a_flat_curve_improves_by_zero_and_explains_nothing() -> None:
    metrics = curve_metrics([3.3, 3.3, 3.3])
    assert metrics.ir == 0.0
    assert metrics.mean_al == pytest.approx(3.3)
    assert (metrics.r2, metrics.n_ir, metrics.n_r2) == (None, None, None)


def test_rounding_does_not_make_a_flat_curve_steep() -> None:
    assert r_squared([0.1 + 0.2, 0.3, 0.3]) is None


def test_no_scores_have_no_mean() -> None:
    assert curve_metrics([None, None]).mean_al is None


def test_a_missing_turn_keeps_its_place() -> None:
    assert improvement_rate([1.0, None, 2.0, 2.5]) == pytest.approx(0.5)
    assert normalise([1.0, None, 3.0]) == [0.0, None, 1.0]


@given(st.floats(1, 4), st.floats(0.001, 1))
def test_a_perfect_line_has_the_same_normalised_rate_however_small_its_gain(start: float, gain: float) -> None:
    metrics = curve_metrics([start + gain * turn / 9 for turn in range(10)])
    assert metrics.n_ir == pytest.approx(1 / 9)
    assert metrics.r2 == pytest.approx(1)


@given(curves, st.floats(0.5, 20), st.floats(-50, 50))
def test_a_change_of_scale_leaves_the_normalised_metrics(curve: list[float | None], scale: float, shift: float) -> None:
    assume(is_steep(curve))
    before = curve_metrics(curve)
    after = curve_metrics([None if level is None else level * scale + shift for level in curve])
    assert before.ir is not None and after.ir is not None and after.r2 is not None
    assert after.ir == pytest.approx(before.ir * scale, abs=1e-9)
    assert after.r2 == pytest.approx(before.r2, abs=1e-6)
    assert after.n_ir == pytest.approx(before.n_ir, abs=1e-6)


@given(curves)
def test_normalised_metrics_follow_from_the_plain_ones(curve: list[float | None]) -> None:
    assume(is_steep(curve))
    metrics = curve_metrics(curve)
    defined = [level for level in curve if level is not None]
    assert metrics.ir is not None and metrics.r2 is not None
    assert metrics.n_r2 == pytest.approx(metrics.r2, abs=1e-6)
    assert metrics.n_ir == pytest.approx(metrics.ir / (max(defined) - min(defined)), abs=1e-6)
    assert 0 <= metrics.r2 <= 1


@given(curves)
def test_a_reversed_curve_improves_by_the_opposite(curve: list[float | None]) -> None:
    assume(is_steep(curve))
    forwards, backwards = improvement_rate(curve), improvement_rate(curve[::-1])
    assert forwards is not None and backwards is not None
    assert math.isclose(forwards, -backwards, abs_tol=1e-9)
