from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.evaluation_statistics import CROSSED, DESIGNS, LOST, WORLDS, Deviations, coverage
from interalign.evaluation.crossed import Clusters
from interalign.evaluation.metrics import alignment_level, curve_metrics
from interalign.evaluation.statistics import (
    Estimate,
    Ratio,
    Samples,
    bootstrap,
    difference_of,
    estimates_of,
    holm,
    mean_over_turns,
    medians,
    pair_estimates,
    resample,
    slope_over_turns,
    students,
)


def samples_of(scores: NDArray[np.float64]) -> Samples:
    return Samples(scores=scores, swapped=scores - 0.5, uptake=np.full_like(scores, np.nan))


def noise(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(3, 0.6, shape)


def test_intervals_cover_the_truth() -> None:
    # Two thousand models with independent data are two thousand repetitions of one experiment with 60 cases.
    drawn = resample({"al": Ratio.of(noise(2000, 60, 1))}, Clusters(), resamples=1000, seed=1)["al"]
    estimates = estimates_of(mean_over_turns(drawn), Clusters())
    covered = [one.low is not None and one.high is not None and one.low <= 3 <= one.high for one in estimates]
    assert 0.93 <= np.mean(covered) <= 0.97


def test_slopes_without_a_trend_exclude_zero_as_rarely_as_they_should() -> None:
    drawn = resample({"al": Ratio.of(noise(1000, 60, 4))}, Clusters(), resamples=1000, seed=2)["al"]
    estimates = estimates_of(slope_over_turns(drawn), Clusters())
    assert 0.03 <= np.mean([one.excludes_zero for one in estimates]) <= 0.07


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


def test_clusters_must_be_of_the_cases() -> None:
    scores = noise(1, 4, 3)
    with pytest.raises(ValueError, match="one label a case"):
        Samples(scores=scores, swapped=scores, uptake=scores, clusters=CROSSED)


@pytest.mark.slow
@pytest.mark.parametrize("deviations", WORLDS)
@pytest.mark.parametrize("design", DESIGNS)
def test_intervals_of_crossed_designs_cover_the_truth(design: str, deviations: Deviations) -> None:
    for lost in (0.0, LOST):
        found = coverage(DESIGNS[design], deviations, repetitions=2000, seed=1, lost=lost)
        assert set(found) >= {"mean_al", "difference", "relative", "judges"}
        assert all(0.93 <= share <= 0.97 for share in found.values()), (lost, found)


def test_ignoring_shared_personalities_would_cover_too_little() -> None:
    held = {
        name: coverage(CROSSED, Deviations(0.2, 0.6, 0.2, 0.4), repetitions=300, seed=2, resamples=300, known=known)
        for name, known in (("respected", CROSSED), ("ignored", Clusters()))
    }
    assert held["ignored"]["mean_al"] < 0.5
    assert held["respected"]["mean_al"] > 0.9


def clustered(seed: int = 0) -> Samples:
    scores = noise(2, 100, 3, seed=seed)
    return Samples(scores=scores, swapped=scores - 0.5, uptake=np.full_like(scores, np.nan), clusters=CROSSED)


def test_clusters_widen_intervals_and_leave_values_alone() -> None:
    random = np.random.default_rng(8)
    scores = noise(1, 100, 3) + random.normal(0, 0.5, 5)[np.arange(100) % 5][None, :, None]
    uptake = np.full_like(scores, np.nan)
    alone, crossed = (
        bootstrap(Samples(scores=scores, swapped=scores, uptake=uptake, clusters=clusters), resamples=1000)[0].mean_al
        for clusters in (Clusters(), CROSSED)
    )
    assert alone.value == crossed.value
    assert alone.low is not None and alone.high is not None and crossed.low is not None and crossed.high is not None
    assert crossed.high - crossed.low > 3 * (alone.high - alone.low)


def test_no_interval_passes_the_end_of_the_scale() -> None:
    scores = np.full((1, 30, 2), 5.0)
    scores[0, :2] = 4.0
    samples = Samples(scores=scores, swapped=scores, uptake=(scores > 4.5).astype(np.float64), scale=(1, 5))
    (estimates,) = bootstrap(samples, resamples=500)
    assert estimates.mean_al.high == 5 and estimates.uptake.high == 1
    assert estimates.mean_al.low is not None and estimates.mean_al.low < 4.9


def test_pairs_are_mirrored_when_they_are_turned_around() -> None:
    samples = clustered()
    drawn = resample(samples.ratios, CROSSED, resamples=500, seed=3)
    forwards = pair_estimates(difference_of(drawn, samples, 0, 1), CROSSED)
    backwards = pair_estimates(difference_of(drawn, samples, 1, 0), CROSSED)
    for one, other in zip([*forwards.al, forwards.ir], [*backwards.al, backwards.ir], strict=True):
        assert one.value is not None and one.low is not None and one.high is not None
        assert (other.value, other.low, other.high) == pytest.approx((-one.value, -one.high, -one.low))
        assert one.p == other.p


def test_a_difference_is_of_the_replies_that_both_have_a_score_for() -> None:
    first = np.repeat([5.0, 1.0], 4)[None, :, None].repeat(2, axis=2)
    second = np.where(first > 4, first, np.nan)
    samples = samples_of(np.concatenate([first, second]))
    drawn = resample(samples.ratios, Clusters(), resamples=100, seed=0)
    pair = pair_estimates(difference_of(drawn, samples, 0, 1), Clusters())
    assert [one.value for one in (*pair.al, pair.mean_al, pair.ir)] == [0, 0, 0, 0]
    first_model, second_model = bootstrap(samples, baseline=0, resamples=100)
    assert (first_model.mean_al.value, second_model.mean_al.value) == (3, 5)
    assert second_model.difference is not None and second_model.difference.value == 0
    assert second_model.ir_difference is not None and second_model.ir_difference.value == 0


def test_the_relative_difference_is_of_the_same_replies_as_the_difference() -> None:
    first = np.repeat([4.0, 2.0], 6)[None, :, None].repeat(2, axis=2) + noise(1, 12, 1, seed=2) * 0.01
    # The second has a quarter more on everybody, and no score where the first does best.
    second = np.where(first > 3, np.nan, 1.25 * first)
    forwards = bootstrap(samples_of(np.concatenate([first, second])), baseline=0, resamples=100)[1].relative
    backwards = bootstrap(samples_of(np.concatenate([second, first])), baseline=0, resamples=100)[1].relative
    beyond = bootstrap(samples_of(np.concatenate([first, second])), baseline=1, resamples=100)[0].relative
    assert forwards is not None and backwards is not None
    assert forwards.value == pytest.approx(0.25) and backwards.value == pytest.approx(-0.2)
    assert beyond is not None and beyond.value == pytest.approx(-0.2)


def test_the_relative_difference_is_as_sure_as_the_difference() -> None:
    levels = noise(1, 40, 3)
    (_, other) = bootstrap(samples_of(np.concatenate([levels, noise(1, 40, 3, seed=4)])), baseline=0, resamples=500)
    assert other.relative is not None and other.difference is not None
    assert None not in (other.relative.low, other.relative.high, other.difference.low, other.difference.high)
    assert other.relative.value == pytest.approx((other.difference.value or 0) / levels.mean())
    # A share of a level that is known well itself: intervals as wide as the difference's, in its unit.
    widths = [(one.high or 0) - (one.low or 0) for one in (other.relative, other.difference)]
    assert widths[0] == pytest.approx(widths[1] / levels.mean(), rel=0.15)


def test_nothing_is_relative_to_a_level_of_nothing() -> None:
    scores = noise(2, 12, 2)
    _, other = bootstrap(samples_of(scores - scores[0].mean() - 1), baseline=0, resamples=100)
    assert other.relative == Estimate()
    assert other.difference is not None and other.difference.low is not None


@given(st.integers(0, 10_000), st.permutations(range(3)))
def test_what_only_one_model_has_moves_no_difference(seed: int, order: list[int]) -> None:
    random = np.random.default_rng(seed)
    scores = random.normal(3, 1, (3, 6, 3))
    scores[random.random(scores.shape) < 0.3] = np.nan
    one, other = order[:2]
    alone = np.where(np.isnan(scores[other]), 5.0, np.nan)
    more = scores.copy()
    more[one] = np.where(np.isnan(scores[one]), alone, scores[one])
    gains = [
        difference_of(resample(samples.ratios, Clusters(), resamples=3), samples, one, other).draws[0]
        for samples in map(samples_of, (scores, more))
    ]
    np.testing.assert_array_equal(*gains)


@pytest.mark.parametrize(("cases", "known"), [(2, False), (9, False), (10, True)])
def test_few_cases_that_do_not_differ_are_not_sure_of_anything(cases: int, known: bool) -> None:
    levels = noise(1, cases, 3)
    _, better = bootstrap(samples_of(np.concatenate([levels, levels + 0.1])), baseline=0, resamples=200)
    assert better.difference is not None and better.difference.value == pytest.approx(0.1)
    assert better.difference.excludes_zero is known and (better.difference.p is not None) is known
    assert (better.gap.low is not None) is known
    assert better.mean_al.low is not None  # the cases themselves do differ


def test_cases_that_lack_a_number_do_not_make_it_surer() -> None:
    scores = np.full((1, 60, 1), np.nan)
    scores[0, :9] = 4
    (estimates,) = bootstrap(samples_of(scores), resamples=200)
    assert estimates.mean_al == Estimate(value=4)
    (soon,) = medians(scores[:, :, 0], Clusters(), resamples=200)
    assert soon == Estimate(value=4)


def test_p_values_are_small_exactly_where_the_interval_excludes_zero() -> None:
    drawn = resample({"gain": Ratio.of(noise(300, 30, 1, seed=4) - 3)}, Clusters(), resamples=999, seed=5)["gain"]
    statistics = mean_over_turns(drawn)
    found = estimates_of(statistics, Clusters(), tested=True)
    p_values = [one.p for one in found if one.p is not None]
    assert len(p_values) == 300 and min(p_values) > 0
    for one in found:
        assert one.p is not None and (abs(one.p - 0.05) < 0.01 or (one.p < 0.05) == one.excludes_zero)
    # Nothing is there to be found, so p-values lie anywhere alike.
    assert 0.4 < np.mean(p_values) < 0.6


def test_holm_of_known_p_values() -> None:
    *corrected, untested = holm([0.01, 0.04, 0.03, None])
    assert corrected == pytest.approx([0.03, 0.06, 0.06]) and untested is None
    assert holm([]) == ()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    corrected = [p for p in holm(p_values) if p is not None]
    assert all(p <= after <= min(1, p * len(p_values)) + 1e-12 for p, after in zip(p_values, corrected, strict=True))
    assert [corrected[place] for place in np.argsort(p_values, kind="stable")] == sorted(corrected)


@pytest.mark.parametrize(("freedom", "quantile"), [(4, 2.776), (10, 2.228), (30, 2.042), (99, 1.984)])
def test_tails_are_those_of_tables(freedom: float, quantile: float) -> None:
    assert students(np.array(1.95996), np.array(freedom)) == pytest.approx(quantile, rel=0.01)
    assert students(np.array(-1.95996), np.array(freedom)) == pytest.approx(-quantile, rel=0.01)


def test_medians_know_never_and_missing() -> None:
    values = np.array([[1.0, 2.0, 2.0, np.inf, np.nan], [np.inf, np.inf, np.inf, 1.0, 1.0], [np.nan] * 5])
    soon, never, unknown = medians(values, Clusters(), resamples=200)
    assert (soon.value, never.value, unknown.value) == (2, None, None)
    many = np.concatenate([np.full((1, 40), 2.0), np.full((1, 40), 4.0)], axis=1)
    (both,) = medians(many, Clusters(), resamples=200)
    assert (both.value, both.low, both.high) == (2, 2, 4)
