from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from interalign.evaluation.metrics import alignment_level, curve_metrics
from interalign.evaluation.statistics import Estimate, Samples, bootstrap


def samples_of(scores: NDArray[np.float64]) -> Samples:
    return Samples(scores=scores, swapped=scores - 0.5, uptake=np.full_like(scores, np.nan))


def noise(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(3, 0.6, shape)


def test_intervals_cover_the_truth() -> None:
    # Two thousand models with independent data are two thousand repetitions of one experiment with 60 cases.
    estimates = bootstrap(samples_of(noise(2000, 60, 1)), resamples=2000, seed=1)
    covered = [of_model.mean_al.low <= 3 <= of_model.mean_al.high for of_model in estimates]  # type: ignore[operator]
    assert 0.93 <= np.mean(covered) <= 0.97


def test_slopes_without_a_trend_exclude_zero_as_rarely_as_they_should() -> None:
    estimates = bootstrap(samples_of(noise(1000, 60, 4)), resamples=1000, seed=2)
    assert 0.03 <= np.mean([of_model.ir.excludes_zero for of_model in estimates]) <= 0.075


def test_values_are_those_of_the_plain_metrics() -> None:
    scores = noise(2, 30, 5)
    scores[0, :3, 4] = np.nan
    scores[1, :, 2] = np.nan
    for of_model, estimates in zip(scores, bootstrap(samples_of(scores), resamples=50), strict=True):
        cases = [[None if np.isnan(score) else float(score) for score in case] for case in of_model]
        al = alignment_level(cases)
        expected = curve_metrics(al)
        assert [level.value for level in estimates.al] == pytest.approx(al)
        assert estimates.mean_al.value == pytest.approx(expected.mean_al)
        assert estimates.ir.value == pytest.approx(expected.ir)
        assert estimates.r2.value == pytest.approx(expected.r2)
        assert estimates.n_ir.value == pytest.approx(expected.n_ir)
        assert estimates.gap.value == pytest.approx(0.5)


def test_pairing_finds_a_difference_that_hides_in_the_spread_of_persons() -> None:
    persons = noise(1, 40, 3, seed=3) + np.random.default_rng(4).normal(0, 2, (1, 40, 1))
    better = persons + 0.1 + noise(1, 40, 3, seed=5) * 0.05 - 0.15
    worse, best = bootstrap(samples_of(np.concatenate([persons, better])), baseline=0, resamples=1000)
    assert worse.difference is None and worse.ir_difference is None
    assert best.difference is not None and best.difference.excludes_zero
    # The models' own intervals overlap widely: only the pairing shows it.
    assert best.mean_al.low is not None and worse.mean_al.high is not None
    assert best.mean_al.low < worse.mean_al.high


def test_no_difference_is_found_where_there_is_none() -> None:
    scores = noise(2, 40, 3, seed=6)
    _, other = bootstrap(samples_of(scores - scores.mean(axis=1, keepdims=True)), baseline=0, resamples=1000)
    assert other.difference is not None and not other.difference.excludes_zero


def test_swapping_the_models_turns_the_differences_around() -> None:
    scores = noise(2, 25, 4)
    _, forwards = bootstrap(samples_of(scores), baseline=0, resamples=500, seed=9)
    backwards, _ = bootstrap(samples_of(scores), baseline=1, resamples=500, seed=9)
    for one, other in (
        (forwards.difference, backwards.difference),
        (forwards.ir_difference, backwards.ir_difference),
    ):
        assert one is not None and other is not None
        assert one.value is not None and one.low is not None and one.high is not None
        assert (other.value, other.low, other.high) == pytest.approx((-one.value, -one.high, -one.low))


def test_seeds_reproduce() -> None:
    samples = samples_of(noise(2, 20, 3))
    assert bootstrap(samples, resamples=200, seed=1) == bootstrap(samples, resamples=200, seed=1)
    assert bootstrap(samples, resamples=200, seed=1) != bootstrap(samples, resamples=200, seed=2)


def test_a_turn_without_any_score_is_undefined_and_left_out() -> None:
    scores = noise(1, 20, 3)
    scores[0, :, 1] = np.nan
    (estimates,) = bootstrap(samples_of(scores), resamples=100)
    assert estimates.al[1] == Estimate()
    assert estimates.ir.value is not None and estimates.ir.low is not None


def test_nothing_judged_means_nothing_defined() -> None:
    missing = np.full((1, 5, 3), np.nan)
    (estimates,) = bootstrap(Samples(scores=missing, swapped=missing, uptake=missing), baseline=None, resamples=50)
    assert estimates.mean_al == estimates.ir == estimates.gap == estimates.uptake == Estimate()


def test_one_case_has_values_but_no_intervals() -> None:
    (estimates,) = bootstrap(samples_of(noise(1, 1, 4)), resamples=50)
    assert estimates.mean_al.value is not None
    assert (estimates.mean_al.low, estimates.mean_al.high) == (None, None)


def test_a_statistic_that_many_resamples_lack_has_no_interval() -> None:
    scores = np.full((1, 6, 2), np.nan)
    scores[0, :, 0] = noise(6)
    scores[0, 0, 1] = 4.0  # a third of the resamples lack this case
    (estimates,) = bootstrap(samples_of(scores), resamples=400)
    assert estimates.al[1] == Estimate(value=4.0)


def test_uptake_is_a_share_of_all_reactions() -> None:
    uptake = np.full((1, 4, 3), np.nan)
    uptake[0, 0, 1:] = 1
    uptake[0, 1, 2] = 0
    samples = Samples(scores=noise(1, 4, 3), swapped=noise(1, 4, 3), uptake=uptake)
    (estimates,) = bootstrap(samples, resamples=100)
    assert estimates.uptake.value == pytest.approx(2 / 3)


def test_cases_beyond_one_block_of_weights_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = samples_of(noise(2, 20, 3))
    at_once = bootstrap(samples, resamples=100, seed=4)
    monkeypatch.setattr("interalign.evaluation.statistics._CELLS_AT_ONCE", 20 * 7)
    in_blocks = bootstrap(samples, resamples=100, seed=4)
    for one, other in zip(at_once, in_blocks, strict=True):
        assert one.mean_al.low == pytest.approx(other.mean_al.low)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="one shape"):
        Samples(scores=noise(1, 4, 3), swapped=noise(1, 4, 2), uptake=noise(1, 4, 3))
