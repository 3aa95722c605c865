from __future__ import annotations

import numpy as np
import pytest

from interalign.evaluation.crossed import clusters_of
from interalign.evaluation.judging.agreement import spearman
from interalign.evaluation.judging.resampling import Floats, Places, floats, interval, mean, mean_interval, some
from interalign.evaluation.statistics import Estimate, Ratio, estimate_of, resample


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
    assert together.value == pytest.approx(alone.value)
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
    random = np.random.default_rng(5)
    array = random.normal(3, 1, 60) + np.repeat(random.normal(0, 1, 5), 12)

    def slowly(places: Places) -> float:
        return mean(array[places])

    profiles, personalities = [place % 12 // 2 for place in range(60)], [place // 12 for place in range(60)]
    fast, slow = (
        mean_interval(array.tolist(), profiles, personalities, seed=1),
        interval(slowly, profiles, personalities, seed=1),
    )
    assert (fast.value, fast.low, fast.high) == pytest.approx((slow.value, slow.low, slow.high))


def test_an_interval_is_that_of_the_statistics_of_models() -> None:
    # A reply has two scores, as when two judges have scored it; some lack one of them.
    random = np.random.default_rng(6)
    profiles, personalities = np.divmod(np.arange(60), 4)
    shared = clusters_of(list(profiles), list(personalities))
    lead = random.normal(0.3, 1, (60, 3)) + random.normal(0, 1, 4)[personalities][:, None]
    lead[random.random(lead.shape) < 0.2] = np.nan
    drawn = resample({"lead": Ratio.of(lead[None]).over_all_turns}, shared, resamples=500, seed=2)["lead"]
    expected = estimate_of(drawn.model(0).model(0), shared)
    values = [some(value) for value in lead.flatten().tolist()]
    cases = [case for case in range(60) for _ in range(3)]
    for found in (
        mean_interval(values, cases, shared=shared, resamples=500, seed=2),
        mean_interval(values, profiles[cases].tolist(), personalities[cases].tolist(), resamples=500, seed=2),
    ):
        assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_no_interval_passes_what_the_statistic_cannot() -> None:
    found = mean_interval([1.0] * 11 + [0.0], range(12), bounds=(0, 1))
    assert found.low is not None and found.low > 0 and found.high == 1
    free = mean_interval([1.0] * 11 + [0.0], range(12))
    assert free.high is not None and free.high > 1


@pytest.mark.parametrize(("cases", "known"), [(9, False), (10, True)])
def test_few_cases_that_do_not_differ_are_not_sure_of_anything(cases: int, known: bool) -> None:
    assert (mean_interval([3.0] * cases, range(cases)).low is not None) is known
    assert (interval(lambda places: 1.0, range(cases)).low is not None) is known


def test_items_have_cases_or_profiles_and_personalities() -> None:
    with pytest.raises(ValueError, match="profiles and their personalities"):
        mean_interval([1.0, 2.0], "ab", "ab", "ab")


@pytest.mark.slow
@pytest.mark.parametrize("deviations", [(0.4, 0.2, 0.6), (0.3, 0.6, 0.5), (0.6, 0.0, 0.6)])
def test_intervals_of_a_correlation_cover_the_truth(deviations: tuple[float, float, float]) -> None:
    # Two judges whose scores of one reply correlate by 0.7, of 20 profiles x 5 personalities x 6 replies.
    profile, personality, rest = deviations
    profiles, personalities = np.divmod(np.arange(100), 5)
    cases, shared = np.repeat(np.arange(100), 6), clusters_of(list(profiles), list(personalities))
    truth, held = 6 / np.pi * np.arcsin(0.7 / 2), 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        first, other = (
            profile * random.normal(0, 1, 20)[profiles][cases]
            + personality * random.normal(0, 1, 5)[personalities][cases]
            + rest * random.normal(0, 1, 600)
            for _ in range(2)
        )
        second = 0.7 * first + np.sqrt(1 - 0.7**2) * other

        def correlation(places: Places, first: Floats = first, second: Floats = second) -> float:
            return spearman(first[places].tolist(), second[places].tolist()) or 0.0

        found = interval(correlation, cases.tolist(), shared=shared, bounds=(-1, 1), resamples=200, seed=seed)
        held += found.low is not None and found.high is not None and found.low <= truth <= found.high
    assert 0.92 <= held / 300 <= 0.985


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
