"""Intervals of any statistic of judged items, by a seeded bootstrap over what the items share.

Items of one case are not independent, so whole cases are drawn. Where items belong to two things at once that each
come back with others (a profile and a personality), both are drawn, and an item counts as often as the product says.

Source of the crossed form: Owen, "The pigeonhole bootstrap" (2007), Annals of Applied Statistics 1(2).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from math import nan
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from interalign.evaluation.statistics import Estimate

__all__ = ["LEVEL", "RESAMPLES", "Floats", "Places", "floats", "interval", "mean", "mean_interval", "some"]

Floats: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.intp]
"""Places of items in a sample; an item that was drawn twice stands there twice."""

RESAMPLES = 1000
LEVEL = 0.95
# A statistic that many resamples leave undefined has no honest percentile: the defined ones are a selection.
_MOST_UNDEFINED = 0.05
_AT_ONCE = 100


def interval(
    statistic: Callable[[Places], float],
    *clusters: Sequence[Hashable],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A statistic of all items with its percentile interval of 95 %.

    Args:
        statistic: Of the items at some places; NaN where it is undefined.
        clusters: For each item what it belongs to, once or for each of several crossed factors.
        resamples: How many samples are drawn.
        seed: Of the draws.

    Returns:
        No value where the statistic is undefined; no interval where a factor has fewer than two levels, or where more
        than every twentieth sample leaves it undefined.
    """
    items = len(clusters[0])
    value = statistic(np.arange(items)) if items else nan
    if np.isnan(value):
        return Estimate()
    places = np.arange(items)
    drawn = [statistic(np.repeat(places, weights)) for block in _draws(clusters, resamples, seed) for weights in block]
    return _estimate(value, np.array(drawn), resamples)


def mean_interval(
    values: Sequence[float | None], *clusters: Sequence[Hashable], resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """The mean of the values that are there, with its interval; what `interval` gives of `mean`, only faster."""
    array = floats(values)
    value = mean(array)
    if np.isnan(value):
        return Estimate()
    seen = ~np.isnan(array)
    # Of whole draws at once: how much is there, and how many that are.
    parts = np.stack([np.where(seen, array, 0.0), seen], axis=1)
    blocks = [block @ parts for block in _draws(clusters, resamples, seed)]
    sums, counts = np.concatenate(blocks).T if blocks else np.empty((2, 0))
    means = np.divide(sums, counts, out=np.full_like(sums, nan), where=counts > 0)
    return _estimate(value, means, resamples)


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


def _codes(names: Sequence[Hashable]) -> list[int]:
    places: dict[Hashable, int] = {}
    return [places.setdefault(name, len(places)) for name in names]


def _draws(clusters: Sequence[Sequence[Hashable]], resamples: int, seed: int) -> Iterator[Places]:
    """How often each item is drawn: blocks of (draws, items). Nothing where a factor has fewer than two levels."""
    factors = [np.array(_codes(one)) for one in clusters]
    levels = [int(codes.max()) + 1 for codes in factors]
    if min(levels) < 2:
        return
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, _AT_ONCE):
        draws = min(_AT_ONCE, resamples - start)
        weights = np.ones((draws, len(factors[0])), dtype=np.intp)
        for codes, count in zip(factors, levels, strict=True):
            weights *= generator.multinomial(count, np.full(count, 1 / count), size=draws)[:, codes]
        yield weights


def _estimate(value: float, drawn: Floats, resamples: int) -> Estimate:
    defined = drawn[~np.isnan(drawn)]
    if not len(defined) or len(defined) < (1 - _MOST_UNDEFINED) * resamples:
        return Estimate(value=float(value))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(value=float(value), low=float(low), high=float(high))
