"""What a judge's score means: against people's scores, and against the verifiable judge where truth is known.

A judge may order replies well and still be a point too kind. A rising step function (isotonic regression) puts that
right; how much error it leaves is measured on people that it was not fitted on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from importlib.util import find_spec

import numpy as np
from pydantic import model_validator

from interalign.errors import InputError, MissingExtra
from interalign.evaluation.judging.agreement import cohen_kappa, pair_accuracy, spearman
from interalign.evaluation.judging.probes import Probe, exact, judged, moments, quality_probes
from interalign.evaluation.judging.resampling import Floats, Places, floats, interval, mean_interval
from interalign.evaluation.statistics import Estimate
from interalign.messages import Value
from interalign.roles.judge import Judge, Verdict

__all__ = [
    "Calibration",
    "CalibrationStep",
    "IsotonicMap",
    "calibrate",
    "calibration",
    "calibration_curve",
    "expected_calibration_error",
    "isotonic_map",
    "mapped_error",
]

_FOLDS = 5
_LEAST = 10


class CalibrationStep(Value):
    """What stands behind one score of a judge."""

    score: int
    """The judge's, rounded."""
    count: int
    judge: float
    """Mean of the judge's scores that round to it."""
    human: Estimate
    """Mean of the true scores (of people, or of the verifiable judge) of the same items."""


class IsotonicMap(Value):
    """A rising map from a judge's scores to true ones: straight lines between its points, flat beyond them."""

    scores: tuple[float, ...]
    truths: tuple[float, ...]

    @model_validator(mode="after")
    def _check(self) -> IsotonicMap:
        if not self.scores or len(self.scores) != len(self.truths):
            raise ValueError("a map needs points, each with a score and a truth")
        if list(self.scores) != sorted(self.scores) or list(self.truths) != sorted(self.truths):
            raise ValueError("the points of a map rise")
        return self

    def __call__(self, score: float) -> float:
        """The true score that a judge's score stands for."""
        return float(np.interp(score, self.scores, self.truths))


class Calibration(Value):
    """A judge against the verifiable one, on replies of known worth to rule-based users."""

    replies: int
    missing: float
    """The share of replies without a verdict."""
    spearman: Estimate
    pairs: Estimate
    """Of two replies to the same message that differ in worth, how often the judge orders them so; ties are half."""
    kappa_quadratic: Estimate
    error: Estimate
    """Mean distance of the scores from the exact ones, in points."""
    mapped_error: Estimate | None
    """The same after an isotonic map, fitted on other people; None without scikit-learn or with few replies."""
    map: IsotonicMap | None
    """Fitted on all replies, to correct scores of this judge."""
    confusion: tuple[tuple[int, ...], ...]
    """How many replies have which rounded exact score (row, 1 to 5) and which rounded score of the judge (column)."""
    by_kind: dict[str, tuple[float, float | None]]
    """For each kind of reply the mean exact score, and the judge's."""
    curve: tuple[CalibrationStep, ...]
    calibration_error: float | None


async def calibrate(judge: Judge, n: int, seed: int) -> Calibration:
    """Ask a judge about four replies to each of `n` moments of the rule-based world.

    Raises:
        ModelError: it could judge none of them.
        StopWork: no further question can be asked.
    """
    probes = quality_probes(moments(n, seed))
    return calibration(probes, await judged(judge, probes), seed=seed)


def calibration(probes: Sequence[Probe], verdicts: Sequence[Verdict | None], *, seed: int = 0) -> Calibration:
    """What verdicts on `quality_probes` tell."""
    truth = [exact(probe).score for probe in probes]
    scores = [None if verdict is None else verdict.score for verdict in verdicts]
    cases = [probe.case for probe in probes]
    given = [place for place, score in enumerate(scores) if score is not None]
    a, b, known = [truth[one] for one in given], [scores[one] for one in given], [cases[one] for one in given]

    def measured(measure: Callable[[list[float], list[float | None]], float | None]) -> Estimate:
        def of(places: Places) -> float:
            value = measure([a[place] for place in places], [b[place] for place in places])
            return float("nan") if value is None else value

        return interval(of, known, bounds=(-1, 1), seed=seed)

    fits = find_spec("sklearn") is not None and len(given) >= _LEAST and len(set(known)) > 1
    return Calibration(
        replies=len(probes),
        missing=1 - len(given) / len(probes) if probes else 0.0,
        spearman=measured(spearman),
        pairs=_within(a, b, known, seed),
        kappa_quadratic=measured(lambda one, other: cohen_kappa(one, other, "quadratic")),
        error=mean_interval(_distances(b, a), known, seed=seed),
        mapped_error=mapped_error(b, a, known, seed=seed) if fits else None,
        map=isotonic_map(b, a) if fits else None,
        confusion=_confusion(truth, scores),
        by_kind=_by_kind(probes, truth, scores),
        curve=calibration_curve(a, b, known, seed=seed),
        calibration_error=expected_calibration_error(a, b),
    )


def calibration_curve(
    human: Sequence[float | None],
    judge: Sequence[float | None],
    clusters: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
) -> tuple[CalibrationStep, ...]:
    """For each rounded score of the judge the mean of the true scores; halves are rounded up."""
    clusters = clusters or range(len(human))
    items = [
        (one, score, cluster)
        for one, score, cluster in zip(human, judge, clusters, strict=True)
        if one is not None and score is not None
    ]
    steps = sorted({_rounded(score) for _, score, _ in items})
    return tuple(_step(step, [item for item in items if _rounded(item[1]) == step], seed) for step in steps)


def expected_calibration_error(human: Sequence[float | None], judge: Sequence[float | None]) -> float | None:
    """The mean over all items of how far, at their rounded score, judge and truth lie apart on average, in points.

    Source: Guo et al., "On Calibration of Modern Neural Networks" (2017), with scores in place of probabilities.
    """
    sums: dict[int, list[float]] = {}
    for one, score in zip(human, judge, strict=True):
        if one is not None and score is not None:
            sums.setdefault(_rounded(score), []).append(one - score)
    count = sum(map(len, sums.values()))
    return sum(abs(sum(away)) for away in sums.values()) / count if count else None


def isotonic_map(judge: Sequence[float | None], truth: Sequence[float | None]) -> IsotonicMap:
    """The rising map from judge to truth with the least squared error.

    Raises:
        InputError: no item has both scores.
        MissingExtra: scikit-learn is not installed.
    """
    pairs = [(one, other) for one, other in zip(judge, truth, strict=True) if one is not None and other is not None]
    if not pairs:
        raise InputError("No item has a score of the judge and a true one.", mend="give at least one of both.")
    try:
        from sklearn.isotonic import IsotonicRegression
    except ModuleNotFoundError as error:
        raise MissingExtra("scikit-learn", "personas") from error

    fitted = IsotonicRegression(out_of_bounds="clip").fit(*np.array(pairs).T)
    # Rounding may bring a point a hair below the one before.
    truths = np.maximum.accumulate(fitted.y_thresholds_)
    return IsotonicMap(scores=tuple(map(float, fitted.X_thresholds_)), truths=tuple(map(float, truths)))


def mapped_error(
    judge: Sequence[float | None], truth: Sequence[float | None], cases: Sequence[Hashable], *, seed: int = 0
) -> Estimate:
    """Mean distance from the truth, in points, after a map that was fitted on other cases (five folds).

    Raises:
        InputError: there are fewer than two cases with scores.
        MissingExtra: scikit-learn is not installed.
    """
    known = [place for place, pair in enumerate(zip(judge, truth, strict=True)) if None not in pair]
    names = list(dict.fromkeys(cases[place] for place in known))
    if len(names) < 2:
        raise InputError("A map cannot be tested on other cases where there is only one.", mend="give more cases.")
    fold = {name: place % min(_FOLDS, len(names)) for place, name in enumerate(names)}
    mapped: list[float | None] = [None] * len(judge)
    for held in set(fold.values()):
        others = [place for place in known if fold[cases[place]] != held]
        fitted = isotonic_map([judge[place] for place in others], [truth[place] for place in others])
        for place in known:
            score = judge[place]
            if fold[cases[place]] == held and score is not None:
                mapped[place] = fitted(score)
    return mean_interval(_distances(mapped, truth), cases, seed=seed)


def _step(step: int, items: Sequence[tuple[float, float, Hashable]], seed: int) -> CalibrationStep:
    human, judge, clusters = zip(*items, strict=True)
    return CalibrationStep(
        score=step,
        count=len(items),
        judge=sum(judge) / len(judge),
        human=mean_interval(human, clusters, seed=seed),
    )


def _within(truth: Sequence[float], scores: Sequence[float | None], cases: Sequence[str], seed: int) -> Estimate:
    """Pair accuracy within cases; each case is one unit of the samples."""
    names = list(dict.fromkeys(cases))
    per_case = []
    for name in names:
        places = [place for place, one in enumerate(cases) if one == name]
        values = [truth[place] for place in places]
        told_apart = sum(one != other for at, one in enumerate(values) for other in values[:at])
        share = pair_accuracy(values, [scores[place] for place in places])
        per_case.append((told_apart * (share or 0.0), told_apart))
    alike, asked = floats(one for one, _ in per_case), floats(float(one) for _, one in per_case)
    return interval(lambda at: _ratio(alike[at], asked[at]), names, bounds=(0, 1), seed=seed)


def _ratio(top: Floats, bottom: Floats) -> float:
    return float(top.sum() / bottom.sum()) if bottom.sum() else float("nan")


def _distances(scores: Sequence[float | None], truth: Sequence[float | None]) -> list[float | None]:
    return [
        None if one is None or other is None else abs(one - other) for one, other in zip(scores, truth, strict=True)
    ]


def _confusion(truth: Sequence[float], scores: Sequence[float | None]) -> tuple[tuple[int, ...], ...]:
    table = np.zeros((5, 5), dtype=int)
    for one, score in zip(truth, scores, strict=True):
        if score is not None:
            table[_rounded(one) - 1, _rounded(score) - 1] += 1
    return tuple(tuple(map(int, row)) for row in table)


def _by_kind(
    probes: Sequence[Probe], truth: Sequence[float], scores: Sequence[float | None]
) -> dict[str, tuple[float, float | None]]:
    found: dict[str, tuple[float, float | None]] = {}
    for kind in dict.fromkeys(probe.kind for probe in probes):
        places = [place for place, probe in enumerate(probes) if probe.kind == kind]
        seen = floats(scores[place] for place in places)
        mean = float(seen[~np.isnan(seen)].mean()) if not np.isnan(seen).all() else None
        found[kind] = (sum(truth[place] for place in places) / len(places), mean)
    return found


def _rounded(score: float) -> int:
    return int(np.floor(score + 0.5))
