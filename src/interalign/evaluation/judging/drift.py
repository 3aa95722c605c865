"""Whether a judge is still the judge it was: the same questions asked now and before.

A served model may change under its name. The first look writes down what it answers, each later one compares. A judge
that draws its answers differs from itself, so every question is asked several times each time, and only what that
noise does not explain is called drift.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, Field, model_validator

from interalign.errors import InputError
from interalign.evaluation.judging.probes import Probe, judged, moments, quality_probes
from interalign.evaluation.judging.resampling import Floats, floats, mean_interval
from interalign.evaluation.statistics import Estimate
from interalign.messages import Value
from interalign.roles.judge import Judge

__all__ = ["ALPHA", "Drift", "Snapshot", "drift", "snapshot"]

ALPHA = 0.05
_PERMUTATIONS = 4999
_AT_ONCE = 500


class Snapshot(Value):
    """What a judge answered to the fixed questions, at one time."""

    judge: str
    """Its name: the model, and how it is asked."""
    prompt: str = ""
    """Hash of its instructions; another prompt is another judge."""
    taken: AwareDatetime
    n: Annotated[int, Field(ge=1)]
    """Moments; four questions each."""
    seed: int
    questions: str
    """Digest of the questions, which another version of the package may put otherwise."""
    cases: tuple[str, ...]
    """Whose question each is."""
    scores: tuple[tuple[float | None, ...], ...]
    """Questions x repeats."""
    lacking: dict[str, int] = Field(default_factory=dict)
    """Why answers are missing: how many by the reason, the commonest first; older snapshots do not tell."""

    @model_validator(mode="after")
    def _check(self) -> Snapshot:
        if len(self.scores) != len(self.cases) or len({len(one) for one in self.scores}) != 1:
            raise ValueError("each question has its case and as many answers as every other")
        return self


class Drift(Value):
    """What has changed between two snapshots of one judge."""

    since: AwareDatetime
    questions: int
    compared: int
    """Questions with a score then and now."""
    shift: Estimate
    """Mean score now less then, in points."""
    changed: float | None
    """The share of compared questions whose mean score is another."""
    noise: float | None
    """Mean distance of two repeats of one question at the same time, in points."""
    distance: float | None
    """Mean distance of now and then, in points; with noise alone it would not be 0 either."""
    p_scores: float | None
    """Of a permutation test: how likely so large differences are if the time of asking meant nothing."""
    missing_before: float
    missing_now: float
    lacking_now: dict[str, int] = Field(default_factory=dict)
    """Why answers are missing now, the commonest reason first."""
    p_missing: float
    alpha: float
    """The two tests share it: each alarms below half of it."""

    @property
    def alarm(self) -> bool:
        """Whether the judge answers differently from before, beyond its own noise."""
        return any(p is not None and p < self.alpha / 2 for p in (self.p_scores, self.p_missing))


async def snapshot(
    judge: Judge, name: str, *, prompt: str = "", taken: AwareDatetime, n: int = 20, seed: int = 0, repeats: int = 2
) -> Snapshot:
    """Ask `judge` the fixed questions, four for each of `n` moments of the rule-based world, several times each.

    The answers must be new ones: a journal from another time would give the old ones back.

    Raises:
        ModelError: it could answer none of them.
        StopWork: no further question can be asked.
    """
    probes = quality_probes(moments(n, seed))
    lacking = Counter[str]()
    answers = [await judged(judge, probes, repeat, lacking=lacking) for repeat in range(repeats)]
    scores = [[None if one is None else one.score for one in of_all] for of_all in answers]
    return Snapshot(
        judge=name,
        prompt=prompt,
        taken=taken,
        n=n,
        seed=seed,
        questions=_digest(probes),
        cases=tuple(probe.case for probe in probes),
        scores=tuple(zip(*scores, strict=True)),
        lacking=dict(lacking.most_common()),
    )


def drift(before: Snapshot, now: Snapshot, *, alpha: float = ALPHA, seed: int = 0) -> Drift:
    """Compare two snapshots.

    The test: all answers to one question, then and now, are dealt anew to the two times, question by question; the
    statistic is the sum of the squared differences of the two means. Unlike a test of the mean shift it also sees a
    judge that has become kinder to some replies and harder on others. Missing answers are tested likewise, as 0 and 1.

    Raises:
        InputError: the snapshots are of two judges, of different questions, or with different numbers of repeats.
    """
    _refuse_other(before, now)
    old, new = (_table(one) for one in (before, now))
    then, later = _means(old), _means(new)
    away = later - then
    seen = ~np.isnan(away)
    return Drift(
        since=before.taken,
        questions=len(now.scores),
        compared=int(seen.sum()),
        shift=mean_interval([None if np.isnan(one) else float(one) for one in away], now.cases, seed=seed),
        changed=float((np.abs(away[seen]) > 1e-9).mean()) if seen.any() else None,
        noise=_noise(old, new),
        distance=float(np.abs(away[seen]).mean()) if seen.any() else None,
        p_scores=_p_value(old, new, seed) if seen.any() else None,
        missing_before=float(np.isnan(old).mean()),
        missing_now=float(np.isnan(new).mean()),
        lacking_now=now.lacking,
        p_missing=_p_value(np.isnan(old).astype(float), np.isnan(new).astype(float), seed),
        alpha=alpha,
    )


def _refuse_other(before: Snapshot, now: Snapshot) -> None:
    for what, old, new in (
        ("judge", before.judge, now.judge),
        ("prompt", before.prompt, now.prompt),
        ("set of questions", before.questions, now.questions),
        ("number of repeats", len(before.scores[0]), len(now.scores[0])),
    ):
        if old != new:
            raise InputError(
                f"Before it was another {what} ({old}, now {new}), so a difference would not be drift.",
                mend="compare the same judge on the same questions, or begin a new file.",
            )


def _digest(probes: Sequence[Probe]) -> str:
    digest = hashlib.sha256()
    for probe in probes:
        digest.update(probe.model_dump_json().encode())
    return digest.hexdigest()[:12]


def _table(of: Snapshot) -> Floats:
    return floats(score for row in of.scores for score in row).reshape(len(of.scores), -1)


def _means(table: Floats) -> Floats:
    """The mean of each row without what is missing: (..., repeats) -> (...), NaN where all is."""
    seen = ~np.isnan(table)
    count = seen.sum(-1)
    total = np.where(seen, table, 0.0).sum(-1)
    means: Floats = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return means


def _noise(*tables: Floats) -> float | None:
    """Mean distance of two answers to one question at one time."""
    distances: list[NDArray[np.float64]] = []
    for table in tables:
        for one in range(table.shape[1]):
            distances += [np.abs(table[:, one] - table[:, other]) for other in range(one)]
    found = np.concatenate(distances) if distances else np.array([])
    found = found[~np.isnan(found)]
    return float(found.mean()) if len(found) else None


def _p_value(old: Floats, new: Floats, seed: int) -> float:
    """Of all deals, the one that came about included, the share with at least its sum of squared differences."""
    together, repeats = np.concatenate([old, new], axis=1), old.shape[1]
    observed = _distance(together[None], repeats)[0]
    generator = np.random.default_rng(seed)
    as_far = 1
    for start in range(0, _PERMUTATIONS, _AT_ONCE):
        count = min(_AT_ONCE, _PERMUTATIONS - start)
        dealt = generator.permuted(np.broadcast_to(together, (count, *together.shape)), axis=2)
        # What only rounding tells apart is as far.
        as_far += int((_distance(dealt, repeats) >= observed * (1 - 1e-9)).sum())
    return as_far / (1 + _PERMUTATIONS)


def _distance(dealt: Floats, repeats: int) -> Floats:
    """The sum of squared differences of the two means: (deals, questions, 2 repeats) -> (deals)."""
    away = _means(dealt[..., repeats:]) - _means(dealt[..., :repeats])
    total: Floats = np.where(np.isnan(away), 0.0, away**2).sum(-1)
    return total
