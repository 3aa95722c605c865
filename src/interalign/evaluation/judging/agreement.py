"""How far a judge agrees with people, and how far people agree among themselves.

What is missing (None) is left out and counted, never filled in. What cannot be computed is None: a judge that always
says the same has no correlation, not one of 0. Scores keep their distances: 2 and 4 lie two apart also where nobody
said 3.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from math import nan
from typing import Literal, TypeAlias

import numpy as np

from interalign.errors import InputError
from interalign.evaluation.judging.resampling import RESAMPLES, Floats, Places, floats, interval, mean_interval, some
from interalign.evaluation.statistics import Estimate
from interalign.messages import Value

__all__ = [
    "Agreement",
    "Scale",
    "Weighting",
    "agreement",
    "cohen_kappa",
    "krippendorff_alpha",
    "pair_accuracy",
    "spearman",
]

Scores: TypeAlias = Sequence[float | None]
Weighting: TypeAlias = Literal["none", "linear", "quadratic"]
Scale: TypeAlias = Literal["ordinal", "interval"]


class Agreement(Value):
    """How far two raters agree on the same items. In all of these 1 is perfect; chance is 0, for `pairs` 0.5."""

    items: int
    """Scored by both."""
    missing: int
    """Scored by the first and not by the second."""
    kappa: Estimate
    """Cohen's kappa of the scores as whole numbers: near misses count nothing."""
    kappa_linear: Estimate
    kappa_quadratic: Estimate
    alpha_ordinal: Estimate
    alpha_interval: Estimate
    spearman: Estimate
    pairs: Estimate
    """Of two items that the first tells apart, how often the second orders them alike; a tie of the second is half."""
    difference: Estimate
    """Mean of the second's score less the first's, in points."""


def agreement(
    human: Scores, judge: Scores, *clusters: Sequence[Hashable], resamples: int = RESAMPLES, seed: int = 0
) -> Agreement:
    """Every measure of agreement on the items that both have scored, each with its interval.

    Args:
        human: One score for each item; it may be a mean of several people.
        judge: The judge's score of the same items.
        clusters: What items share (`interval`); left out, each item is one of its own.
        resamples: Samples behind each interval.
        seed: Of the samples.

    Raises:
        InputError: the two have not the same items.
    """
    if len(human) != len(judge) or any(len(one) != len(human) for one in clusters):
        raise InputError("People and judge have not scored the same items.", mend="give one score, or None, for each.")
    both = [place for place, pair in enumerate(zip(human, judge, strict=True)) if None not in pair]
    first, second = (floats(one[place] for place in both) for one in (human, judge))
    shared: list[Sequence[Hashable]] = [[one[place] for place in both] for one in clusters] or [both]

    def estimate(measure: Callable[[Floats, Floats], float], low: float = -1, high: float = 1) -> Estimate:
        def of(places: Places) -> float:
            return measure(first[places], second[places])

        return interval(of, *shared, bounds=(low, high), resamples=resamples, seed=seed)

    return Agreement(
        items=len(both),
        missing=sum(one is not None and other is None for one, other in zip(human, judge, strict=True)),
        kappa=estimate(lambda a, b: _kappa(a, b, "none")),
        kappa_linear=estimate(lambda a, b: _kappa(a, b, "linear")),
        kappa_quadratic=estimate(lambda a, b: _kappa(a, b, "quadratic")),
        alpha_ordinal=estimate(lambda a, b: _alpha(np.stack([a, b], axis=1), "ordinal")),
        alpha_interval=estimate(lambda a, b: _alpha(np.stack([a, b], axis=1), "interval")),
        spearman=estimate(_spearman),
        pairs=estimate(_ordered_alike, low=0),
        difference=mean_interval(list(second - first), *shared, resamples=resamples, seed=seed),
    )


def cohen_kappa(first: Scores, second: Scores, weighting: Weighting = "none") -> float | None:
    """Cohen's kappa: 1 - (weighted disagreement) / (the same by chance), of scores rounded to whole numbers.

    Halves are rounded up. Disagreements weigh 1, their distance, or its square. None where chance cannot disagree.

    Source: Cohen, "Weighted kappa" (1968), Psychological Bulletin 70(4).
    """
    return some(_kappa(*_both(first, second), weighting))


def krippendorff_alpha(ratings: Sequence[Scores], scale: Scale = "ordinal") -> float | None:
    """Krippendorff's alpha of any number of raters, with missing ratings.

    Args:
        ratings: Items x raters. Items with fewer than two ratings count nothing.
        scale: Whether ratings are ranks, or distances between them mean something.

    Returns:
        1 - observed / expected disagreement; None where all ratings are the same, or none stand side by side.

    Source: Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011). The ordinal difference of two values,
    the number of ratings between their middles, is the difference of their midranks, so both scales are one formula.
    """
    widths = {len(one) for one in ratings}
    if len(widths) > 1:
        raise InputError("Items have different numbers of raters.", mend="write None for a rating that is missing.")
    table = floats(rating for one in ratings for rating in one)
    return some(_alpha(table.reshape(len(ratings), -1), scale)) if ratings else None


def spearman(first: Scores, second: Scores) -> float | None:
    """Spearman's rank correlation, ties at their middle rank; None where one of the two never differs."""
    return some(_spearman(*_both(first, second)))


def pair_accuracy(human: Scores, judge: Scores, groups: Sequence[Hashable] | None = None) -> float | None:
    """Of all pairs of items that `human` tells apart, the share that `judge` orders alike; its ties are half.

    With `groups` only pairs within a group are looked at, as replies to the same message. None without such a pair.
    """
    if groups is None:
        return some(_ordered_alike(*_both(human, judge)))
    counts = [_pair_counts(*_both(*_picked(human, judge, groups, group))) for group in dict.fromkeys(groups)]
    asked = sum(count for _, count in counts)
    return sum(alike for alike, _ in counts) / asked if asked else None


def _picked(
    human: Scores, judge: Scores, groups: Sequence[Hashable], group: Hashable
) -> tuple[list[float | None], list[float | None]]:
    places = [place for place, one in enumerate(groups) if one == group]
    return [human[place] for place in places], [judge[place] for place in places]


def _both(first: Scores, second: Scores) -> tuple[Floats, Floats]:
    """The scores of the items that both have scored."""
    a, b = floats(first), floats(second)
    seen = ~(np.isnan(a) | np.isnan(b))
    return a[seen], b[seen]


def _kappa(first: Floats, second: Floats, weighting: Weighting) -> float:
    if not len(first):
        return nan
    a, b = np.floor(first + 0.5), np.floor(second + 0.5)
    values, codes = np.unique(np.concatenate([a, b]), return_inverse=True)
    table = np.zeros((len(values), len(values)))
    np.add.at(table, (codes[: len(a)], codes[len(a) :]), 1 / len(a))
    distance = np.abs(values[:, None] - values)
    weights = {"none": (distance > 0).astype(float), "linear": distance, "quadratic": distance**2}[weighting]
    by_chance = float((weights * np.outer(table.sum(1), table.sum(0))).sum())
    return 1 - float((weights * table).sum()) / by_chance if by_chance else nan


def _alpha(ratings: Floats, scale: Scale) -> float:
    """Alpha of (items, raters) with NaN for missing.

    The sum of squared differences of all pairs among m numbers is m (sum of squares) - (sum) squared.
    """
    ratings = ratings[(~np.isnan(ratings)).sum(1) >= 2]
    seen = ~np.isnan(ratings)
    values = ratings[seen]
    if not len(values):
        return nan
    placed = np.zeros_like(ratings)
    placed[seen] = _midranks(values) if scale == "ordinal" else values - values.mean()
    count, total, squares = seen.sum(1), placed.sum(1), (placed**2).sum(1)
    observed = float(((count * squares - total**2) / (count - 1)).sum()) / len(values)
    pooled = len(values) * squares.sum() - total.sum() ** 2
    expected = float(pooled) / (len(values) * (len(values) - 1))
    return 1 - observed / expected if np.ptp(values) else nan


def _midranks(values: Floats) -> Floats:
    """The rank of each value, counted from the middle so that large samples lose no digits; ties share their middle."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - counts / 2 - len(values) / 2)[codes]
    return ranks


def _spearman(first: Floats, second: Floats) -> float:
    if len(first) < 2 or not np.ptp(first) or not np.ptp(second):
        return nan
    a, b = _midranks(first), _midranks(second)
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


def _ordered_alike(human: Floats, judge: Floats) -> float:
    alike, count = _pair_counts(human, judge)
    return alike / count if count else nan


def _pair_counts(human: Floats, judge: Floats) -> tuple[float, float]:
    """How many pairs the first tells apart, and before it how many of them the second orders alike, ties as half."""
    if not len(human):
        return 0.0, 0.0
    rows, columns = (np.unique(one, return_inverse=True)[1] for one in (human, judge))
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1.0)
    # For each cell the items that both put lower, and those that only the first puts lower.
    below = np.vstack([np.zeros(table.shape[1]), np.cumsum(table, axis=0)[:-1]])
    lower = np.cumsum(below, axis=1) - below
    return float((table * (lower + below / 2)).sum()), float((table.sum(1) * below.sum(1)).sum())
