from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from interalign.evaluation.crossed import Clusters, clusters_of, effects_of, spread_of

PROFILES, PERSONALITIES = np.divmod(np.arange(100), 5)
CROSSED = clusters_of(list(PROFILES), list(PERSONALITIES))


def values(profile: float, personality: float, rest: float, sums: int = 4000) -> NDArray[np.float64]:
    """Many means over the hundred cases, as what each case adds to them."""
    random = np.random.default_rng(1)
    scores = (
        random.normal(0, profile, (20, sums))[PROFILES]
        + random.normal(0, personality, (5, sums))[PERSONALITIES]
        + random.normal(0, rest, (100, sums))
    )
    return np.asarray(scores / 100)


@pytest.mark.parametrize("deviations", [(0.5, 0.4, 0.6), (0.0, 0.5, 1.0), (1.0, 0.0, 0.5)])
def test_the_variance_of_a_mean_is_found_on_average(deviations: tuple[float, float, float]) -> None:
    profile, personality, rest = deviations
    true = profile**2 / 20 + personality**2 / 5 + rest**2 / 100
    assert spread_of(values(*deviations), CROSSED).variance.mean() == pytest.approx(true, rel=0.08)


def test_balanced_designs_agree_with_analysis_of_variance() -> None:
    scores = np.random.default_rng(2).normal(0, 1, 100) + 0.8 * PROFILES + 3.0 * PERSONALITIES
    table = scores.reshape(20, 5)
    rows, columns = 5 * table.mean(1).var(ddof=1), 20 * table.mean(0).var(ddof=1)
    left = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    rest = (left**2).sum() / (19 * 4)
    found = effects_of(scores, CROSSED)
    assert found.profile == pytest.approx((rows - rest) / 5)
    assert found.personality == pytest.approx((columns - rest) / 20)
    assert found.rest == pytest.approx(rest)


def test_five_personalities_count_as_five_when_they_matter() -> None:
    much = spread_of(values(0.1, 2.0, 0.1), CROSSED).freedom
    nothing = spread_of(values(0.0, 0.0, 1.0), Clusters()).freedom
    assert np.all((much > 3.9) & (much < 4.7))
    assert np.all(nothing == 99)


@given(st.integers(2, 30), st.integers(0, 10_000))
def test_where_nobody_shares_anything_cases_are_counted(cases: int, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(0, 1, (cases, 1))
    clusters = clusters_of(list(range(cases)), list(range(cases)))
    assert clusters.dimensions == ()
    found = spread_of(scores / cases, clusters)
    assert found.variance[0] == pytest.approx(scores.var(ddof=1) / cases)
    assert found.freedom[0] == cases - 1


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=40, unique=True),
    st.integers(0, 10_000),
)
def test_any_design_has_a_possible_spread(pairs: list[tuple[int, int]], seed: int) -> None:
    clusters = clusters_of(*(list(labels) for labels in zip(*pairs, strict=True)))
    found = spread_of(np.random.default_rng(seed).normal(0, 1, (len(pairs), 3)), clusters)
    for part in (found.profile, found.personality, found.rest):
        assert np.all(part >= 0)
    assert np.all(np.isfinite(found.error)) and np.all(found.error > 0)
    assert np.all((found.freedom > 0) & (found.freedom <= len(pairs)))


def test_a_few_that_happen_to_share_a_text_are_no_clusters() -> None:
    labels = [0, 0, *range(1, 29)]
    assert clusters_of(labels, labels).dimensions == ()
    assert clusters_of([7] * 30, None).dimensions == ()


def test_a_part_of_the_cases_keeps_its_clusters() -> None:
    half = CROSSED.of(PROFILES < 10)
    assert half.profiles is not None and half.personalities is not None
    assert (len(set(half.profiles)), len(set(half.personalities))) == (10, 5)
    assert CROSSED.of(PROFILES == 3).profiles is None


def test_one_case_tells_nothing() -> None:
    found = spread_of(np.ones((1, 2)), Clusters())
    assert np.all(found.variance == 0) and np.all(found.freedom == 0)


def test_labels_must_be_of_the_same_cases() -> None:
    with pytest.raises(ValueError, match="same cases"):
        Clusters(profiles=np.zeros(3, dtype=np.int64), personalities=np.zeros(4, dtype=np.int64))
