"""The metrics of an alignment curve: AL(k), IR, R2 and their normalised forms.

A curve is AL(1), ..., AL(K). A turn without a score is None and is left out of every sum; k keeps its place. What
cannot be computed is None, never 0. The array forms (`slopes`, `determinations`, `spans`) take any number of curves at
once with NaN for a missing turn, so that one curve and ten thousand resampled ones go through the same formulas.

Source: "Aligning LLMs with Individual Preferences via Interaction" (arXiv 2410.03642), section on evaluation metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from interalign.messages import Value

__all__ = [
    "CurveMetrics",
    "alignment_level",
    "curve_metrics",
    "determinations",
    "improvement_rate",
    "normalise",
    "normalised_improvement_rate",
    "r_squared",
    "slopes",
    "spans",
]

Floats: TypeAlias = NDArray[np.float64]

# Means of equal scores differ by rounding; a curve whose span is below this share of its height is flat.
_ROUNDING = 1e-12


class CurveMetrics(Value):
    """All metrics of one curve, in the unit of the scores (per turn for `ir`)."""

    mean_al: float | None
    ir: float | None
    r2: float | None
    n_ir: float | None
    n_r2: float | None


def alignment_level(scores: Sequence[Sequence[float | None]]) -> list[float | None]:
    """AL(k) = mean score at turn k over the cases that have one. `scores` is cases x turns.

    Raises:
        ValueError: the cases do not have the same number of turns.
    """
    columns = zip(*scores, strict=True)
    present = ([score for score in column if score is not None] for column in columns)
    return [sum(column) / len(column) if column else None for column in present]


def improvement_rate(al: Sequence[float | None]) -> float | None:
    """IR: the slope b of least squares for AL(k) = a + b k over k = 1..K. None with fewer than two turns."""
    return _scalar(slopes(_curve(al)))


def r_squared(al: Sequence[float | None]) -> float | None:
    """R2: the share of the variance of AL(k) that the fitted line explains. None for a flat curve."""
    return _scalar(determinations(_curve(al)))


def normalise(al: Sequence[float | None]) -> list[float | None]:
    """N-AL(k) = (AL(k) - min AL) / (max AL - min AL) over all turns. All None for a flat curve."""
    curve = _curve(al)
    span = _scalar(spans(curve))
    if not span:
        return [None] * len(al)
    low = float(np.nanmin(curve))
    return [None if level is None else (level - low) / span for level in al]


def normalised_improvement_rate(al: Sequence[float | None]) -> float | None:
    """N-IR: the slope of least squares for N-AL(k). None for a flat curve.

    It equals IR / (max AL - min AL): any perfect line over K turns has 1 / (K - 1), however small its gain. Read it
    beside AL and IR, never alone.
    """
    return improvement_rate(normalise(al))


def curve_metrics(al: Sequence[float | None]) -> CurveMetrics:
    """All metrics of one curve."""
    defined = [level for level in al if level is not None]
    normalised = normalise(al)
    return CurveMetrics(
        mean_al=sum(defined) / len(defined) if defined else None,
        ir=improvement_rate(al),
        r2=r_squared(al),
        n_ir=improvement_rate(normalised),
        n_r2=r_squared(normalised),
    )


def slopes(curves: Floats) -> Floats:
    """IR of each curve: (..., turns) -> (...). NaN where fewer than two turns are defined, 0 for a flat curve."""
    k_deviation, deviation = _deviations(curves)
    flat = spans(curves) == 0
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = (k_deviation * deviation).sum(-1) / (k_deviation**2).sum(-1)
    slope = np.where(flat, 0.0, slope)
    return np.where(_enough(curves), slope, np.nan)


def determinations(curves: Floats) -> Floats:
    """R2 of each curve: (..., turns) -> (...). NaN for a flat curve and for fewer than two defined turns."""
    k_deviation, deviation = _deviations(curves)
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = (k_deviation * deviation).sum(-1)
        explained = covariance**2 / ((k_deviation**2).sum(-1) * (deviation**2).sum(-1))
    # Rounding alone can lift a perfect fit above 1.
    explained = np.minimum(explained, 1.0)
    return np.where(_enough(curves) & (spans(curves) > 0), explained, np.nan)


def spans(curves: Floats) -> Floats:
    """Largest minus smallest AL of each curve: (..., turns) -> (...). Exactly 0 when flat, NaN when empty."""
    seen = ~np.isnan(curves)
    high = np.max(curves, axis=-1, initial=-np.inf, where=seen)
    low = np.min(curves, axis=-1, initial=np.inf, where=seen)
    height = np.maximum(np.abs(high), np.abs(low))
    empty = ~seen.any(-1)
    span = np.where(empty, np.nan, np.subtract(high, low, out=np.zeros_like(high), where=~empty))
    return np.where(span <= _ROUNDING * height, 0.0, span)


def _enough(curves: Floats) -> NDArray[np.bool_]:
    return np.asarray((~np.isnan(curves)).sum(-1) >= 2)


def _deviations(curves: Floats) -> tuple[Floats, Floats]:
    """Deviations of k and of AL(k) from their means over the defined turns, 0 where a turn is missing."""
    seen = ~np.isnan(curves)
    turns = np.arange(1, curves.shape[-1] + 1, dtype=np.float64)
    count = np.maximum(seen.sum(-1, keepdims=True), 1)
    levels = np.where(seen, curves, 0.0)
    k_mean = np.where(seen, turns, 0.0).sum(-1, keepdims=True) / count
    mean = levels.sum(-1, keepdims=True) / count
    return np.where(seen, turns - k_mean, 0.0), np.where(seen, levels - mean, 0.0)


def _curve(al: Sequence[float | None]) -> Floats:
    return np.array([np.nan if level is None else level for level in al], dtype=np.float64)


def _scalar(value: Floats) -> float | None:
    number = float(value)
    return None if np.isnan(number) else number
