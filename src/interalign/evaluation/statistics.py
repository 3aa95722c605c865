"""Intervals by a seeded bootstrap over cases, the same resamples for every model.

A case is one persona; its turns are not independent, so whole cases are drawn with replacement. Every model is
weighted with the same draws, so the difference of two models is a paired difference. A case without a score at a turn
has no weight there. Row 0 of every array of draws is the sample itself: the value and its interval come out of the
same formulas.

The intervals are percentile intervals of 95 %. R2 and N-IR are skewed and bounded; their intervals need not be
centred on the value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from interalign.evaluation.metrics import Floats, determinations, slopes, spans
from interalign.messages import Value

__all__ = ["Estimate", "ModelEstimates", "Samples", "bootstrap"]

LEVEL = 0.95

# A statistic that many resamples leave undefined has no honest percentile: the defined ones are a selection.
_MOST_UNDEFINED = 0.05

# Weights of this many cells are held at once (64 MB), however many cases there are.
_CELLS_AT_ONCE = 8_000_000


class Estimate(Value):
    """A number with its 95 % interval. `value` is None when undefined, the interval when it cannot be estimated."""

    value: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """True when the whole interval lies on one side of 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


class ModelEstimates(Value):
    """Every statistic of one model. The differences are paired, and None for the baseline itself."""

    al: tuple[Estimate, ...]
    mean_al: Estimate
    ir: Estimate
    r2: Estimate
    n_ir: Estimate
    gap: Estimate
    uptake: Estimate
    difference: Estimate | None = None
    ir_difference: Estimate | None = None


@dataclass(frozen=True)
class Samples:
    """What is resampled: three arrays of (models, cases, turns), NaN for missing.

    `scores` under the own persona, `swapped` of the same replies under another person's persona, `uptake` 1 or 0 for
    a preference that was just reacted to and then met or not.
    """

    scores: Floats
    swapped: Floats
    uptake: Floats

    def __post_init__(self) -> None:
        shapes = {self.scores.shape, self.swapped.shape, self.uptake.shape}
        if len(shapes) != 1 or self.scores.ndim != 3 or not self.scores.shape[1]:
            raise ValueError(f"scores, swapped and uptake must have one shape (models, cases, turns), not {shapes}")


def bootstrap(
    samples: Samples, *, baseline: int | None = None, resamples: int = 10_000, seed: int = 0
) -> tuple[ModelEstimates, ...]:
    """Every statistic of every model with its interval; differences are to the model at index `baseline`.

    Mean AL and gap are means over turns of means over cases; uptake is a share of all reactions.
    """
    al, gaps, uptake = _draws(samples, resamples, seed)
    mean_al, ir, span = _mean_over_turns(al), slopes(al), spans(al)
    r2 = determinations(al)
    n_ir = np.divide(ir, span, out=np.full_like(ir, np.nan), where=span > 0)
    gap = _mean_over_turns(gaps)
    paired = samples.scores.shape[1] > 1

    def estimate(draws: Floats) -> Estimate:
        return _estimate(draws, paired)

    def to_baseline(draws: Floats, model: int) -> Estimate | None:
        return None if baseline in (None, model) else estimate(draws[:, model] - draws[:, baseline])

    return tuple(
        ModelEstimates(
            al=tuple(estimate(al[:, model, turn]) for turn in range(al.shape[2])),
            mean_al=estimate(mean_al[:, model]),
            ir=estimate(ir[:, model]),
            r2=estimate(r2[:, model]),
            n_ir=estimate(n_ir[:, model]),
            gap=estimate(gap[:, model]),
            uptake=estimate(uptake[:, model, 0]),
            difference=to_baseline(mean_al, model),
            ir_difference=to_baseline(ir, model),
        )
        for model in range(al.shape[1])
    )


def _draws(samples: Samples, resamples: int, seed: int) -> tuple[Floats, Floats, Floats]:
    """AL(k) and gap(k) of (1 + resamples, models, turns) and uptake of (1 + resamples, models, 1)."""
    seen, sums = _parts(samples.scores)
    gap_seen, gap_sums = _parts(samples.scores - samples.swapped)
    met_seen, met_sums = (part.sum(2, keepdims=True) for part in _parts(samples.uptake))
    chunks = [
        (_ratio(weights, sums, seen), _ratio(weights, gap_sums, gap_seen), _ratio(weights, met_sums, met_seen))
        for weights in _weights(samples.scores.shape[1], resamples, seed)
    ]
    al, gap, uptake = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    return al, gap, uptake


def _weights(cases: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each case is drawn: blocks of (draws, cases) that sum to `cases` per row, all ones first."""
    yield np.ones((1, cases))
    generator = np.random.default_rng(seed)
    share = np.full(cases, 1 / cases)
    at_once = max(1, _CELLS_AT_ONCE // cases)
    for start in range(0, resamples, at_once):
        yield generator.multinomial(cases, share, size=min(at_once, resamples - start)).astype(np.float64)


def _parts(values: Floats) -> tuple[Floats, Floats]:
    """Where a value is present (1 or 0), and the values with 0 where there is none."""
    missing = np.isnan(values)
    return (~missing).astype(np.float64), np.where(missing, 0.0, values)


def _ratio(weights: Floats, sums: Floats, counts: Floats) -> Floats:
    """Weighted means: (draws, cases) and (models, cases, turns) -> (draws, models, turns), NaN where nothing is."""
    top = _weighted(weights, sums)
    bottom = _weighted(weights, counts)
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)


def _weighted(weights: Floats, values: Floats) -> Floats:
    models, cases, turns = values.shape
    flat = values.transpose(1, 0, 2).reshape(cases, models * turns)
    return (weights @ flat).reshape(len(weights), models, turns)


def _mean_over_turns(levels: Floats) -> Floats:
    seen, sums = (part.sum(-1) for part in _parts(levels))
    means: Floats = np.divide(sums, seen, out=np.full_like(seen, np.nan), where=seen > 0)
    return means


def _estimate(draws: Floats, resampled: bool) -> Estimate:
    """Row 0 as the value, percentiles of the other rows as the interval. One case alone has no interval."""
    value = draws[0]
    if np.isnan(value):
        return Estimate()
    rest = draws[1:]
    defined = rest[~np.isnan(rest)]
    if not resampled or not defined.size or defined.size < (1 - _MOST_UNDEFINED) * rest.size:
        return Estimate(value=float(value))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(value=float(value), low=float(low), high=float(high))
