"""Intervals of any statistic of judged items, by the one rule of `statistics`.

Items of one case are not independent, so whole cases are drawn; where cases share profiles or personalities, these are.
The draws keep their shape and get the spread that `crossed` finds for what each case adds to the statistic: how far the
statistic moves when the case is left out (the jackknife of Tukey; Efron and Stein, "The jackknife estimate of
variance", Annals of Statistics 9, 1981). A mean is the same statistic in closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from math import nan
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from interalign.evaluation.crossed import Clusters, clusters_of
from interalign.evaluation.metrics import Floats
from interalign.evaluation.statistics import Drawn, Estimate, Ratio, case_weights, estimate_of, resample

__all__ = ["RESAMPLES", "Floats", "Places", "floats", "interval", "mean", "mean_interval", "some"]

Places: TypeAlias = NDArray[np.intp]
"""Places of items in a sample; an item that was drawn twice stands there twice."""

RESAMPLES = 1000


def interval(
    statistic: Callable[[Places], float],
    *clusters: Sequence[Hashable],
    shared: Clusters | None = None,
    bounds: tuple[float, float] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A statistic of all items with its interval of 95 %.

    Args:
        statistic: Of the items at some places; NaN where it is undefined.
        clusters: For each item its case; or its profile and its personality, which together make the case.
        shared: What the cases share, in the order in which they first come; left out, as the clusters tell.
        bounds: What the statistic cannot pass, so its interval does not either.
        resamples: How many samples are drawn.
        seed: Of the draws.

    Returns:
        No value where the statistic is undefined; no interval of one case, of fewer than ten between which the
        statistic does not move, or where more than every twentieth sample leaves it undefined.
    """
    cases, sharing = _cases(clusters, shared)
    places = np.arange(len(cases))
    value = statistic(places) if len(cases) else nan
    if np.isnan(value):
        return Estimate()
    count = int(cases.max()) + 1
    weights = (row for block in case_weights(count, sharing, resamples, seed) for row in block.astype(np.intp))
    drawn = Drawn(
        draws=np.array([statistic(np.repeat(places, weight[cases])) for weight in weights]),
        influence=_influence(statistic, cases, count),
        counted=np.array(float(count)),
    )
    return estimate_of(drawn, sharing, bounds=bounds)


def mean_interval(
    values: Sequence[float | None],
    *clusters: Sequence[Hashable],
    shared: Clusters | None = None,
    bounds: tuple[float, float] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """The mean of the values that are there, with its interval; what `interval` gives of `mean`, only faster."""
    array = floats(values)
    if np.isnan(array).all():
        return Estimate()
    cases, sharing = _cases(clusters, shared)
    parts = np.zeros((2, 1, int(cases.max()) + 1, 1))
    np.add.at(parts[0, 0, :, 0], cases, np.nan_to_num(array))
    np.add.at(parts[1, 0, :, 0], cases, ~np.isnan(array))
    drawn = resample({"mean": Ratio(sums=parts[0], counts=parts[1])}, sharing, resamples=resamples, seed=seed)["mean"]
    return estimate_of(drawn.model(0).model(0), sharing, bounds=bounds)


def mean(values: Floats) -> float:
    """The mean of what is not NaN; NaN where nothing is left."""
    seen = values[~np.isnan(values)]
    return float(seen.mean()) if len(seen) else nan


def floats(values: Iterable[float | None]) -> Floats:
    """The values with NaN for None."""
    return np.array([nan if value is None else value for value in values], dtype=np.float64)


def some(value: float) -> float | None:
    """The value with None for NaN."""
    return None if np.isnan(value) else float(value)


def _cases(clusters: Sequence[Sequence[Hashable]], shared: Clusters | None) -> tuple[Places, Clusters]:
    """The case of each item, numbered from 0 in the order in which they first come, and what the cases share."""
    if len(clusters) not in (1, 2):
        raise ValueError("the clusters of items are their cases, or their profiles and their personalities")
    numbers: dict[tuple[Hashable, ...], int] = {}
    cases = [numbers.setdefault(labels, len(numbers)) for labels in zip(*clusters, strict=True)]
    if shared is None:
        shared = clusters_of(*zip(*numbers, strict=True)) if len(clusters) == 2 and numbers else Clusters()
    return np.array(cases, dtype=np.intp), shared


def _influence(statistic: Callable[[Places], float], cases: Places, count: int) -> Floats:
    """What each case adds to the error of the statistic, (cases,); nothing where it is undefined without the case."""
    without = np.array([statistic(np.flatnonzero(cases != case)) for case in range(count)])
    moved = np.nanmean(without) - without if (~np.isnan(without)).any() else np.zeros(count)
    return np.asarray(np.nan_to_num(moved) * (count - 1) / count)
