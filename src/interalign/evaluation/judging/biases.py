"""What moves a judge although it should not, and what does not move it although it should.

Each function takes probes and the verdicts on them, so that a judge is asked once and its answers can be looked at
again; `trial` asks. Beside each figure of a judge stands the verifiable judge's on the same probes: a reply may really
have become better or worse for the person. Intervals are over people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan

import numpy as np

from interalign.evaluation.judging.probes import Probe, exact
from interalign.evaluation.judging.resampling import Floats, Places, floats, interval, mean_interval
from interalign.evaluation.statistics import Estimate
from interalign.messages import Value
from interalign.roles.judge import Comparison, Verdict
from interalign.roles.measure import words

__all__ = [
    "ClaimBias",
    "LengthBias",
    "OrderBias",
    "PersonBias",
    "Rise",
    "SelfPreference",
    "Written",
    "claim_bias",
    "length_bias",
    "order_bias",
    "person_bias",
    "self_preference",
    "temptations",
]

_TEMPTATIONS = ("emoji", "cheers", "praise", "repeated facts")
"""What may please a judge."""


class OrderBias(Value):
    """What it does to a comparing judge which reply it is shown first."""

    compared: int
    """Pairs with two readable votes."""
    unreadable: float | None
    """The share of votes that could not be read."""
    flips: Estimate
    """The share of pairs on which the two orders disagree."""
    first: Estimate
    """Of the votes for one of the two, the share for the one that was shown first; 0.5 without a bias."""


class PersonBias(Value):
    """Whether a judge looks at the person: the same replies under their own person and under a stranger."""

    replies: int
    gap: Estimate
    """Mean score under the own person less that under the stranger, in points."""
    auc: Estimate
    """How often a reply scores higher under its own person, ties as half; 0.5 for a judge that is blind to persons."""
    exact_gap: float | None
    """The verifiable judge's gap on the same replies."""


class LengthBias(Value):
    """What words do to the score that say nothing, in replies that are equally good for the person."""

    replies: int
    slope: Estimate
    """Points for ten more words."""
    exact_slope: float | None


class Rise(Value):
    """What an addition to a good reply does to its score."""

    addition: str
    rise: Estimate
    """Mean points over the reply with as many words of filler in its place."""
    exact_rise: float | None


class ClaimBias(Value):
    """What happens when a reply claims something of the user that nothing has shown."""

    undisclosed: Rise
    """Claims that are true."""
    false: Rise
    """Claims that are not; the verifiable judge does not know them."""
    found: Estimate
    """The share of both that the judge names a claim, where it says so at all (`Verdict.parts["honest"]`)."""
    false_alarms: Estimate
    """The share of replies without a claim that it names one."""


class Written(Value):
    """One moment that both a judge's own model and another model have replied to."""

    case: str
    own: float | None
    """The judge's score of its own model's reply."""
    other: float | None
    own_exact: float
    """The verifiable judge's score of the same."""
    other_exact: float


class SelfPreference(Value):
    """Whether a judge scores what its own model wrote higher than another's replies of the same worth."""

    pairs: int
    lead: Estimate
    """Points by which the own reply leads where the verifiable judge sees no difference (the intercept of a line)."""
    raw: Estimate
    """Mean points by which it leads altogether."""


def order_bias(
    comparisons: Sequence[Comparison], cases: Sequence[str] | None = None, *, resamples: int = 1000, seed: int = 0
) -> OrderBias:
    """What the order of two replies does, from comparisons asked both ways; `cases` are the persons, one for each."""
    cases = cases or [str(place) for place in range(len(comparisons))]
    flips = [None if one.consistent is None else float(not one.consistent) for one in comparisons]
    for_first = np.array([_for_first(one) for one in comparisons]).reshape(-1, 2)

    def share(places: Places) -> float:
        first, decided = for_first[places].sum(0)
        return float(first / decided) if decided else nan

    votes = [vote for one in comparisons for vote in one.votes]
    return OrderBias(
        compared=sum(one.readable for one in comparisons),
        unreadable=sum(vote is None for vote in votes) / len(votes) if votes else None,
        flips=mean_interval(flips, cases, bounds=(0, 1), resamples=resamples, seed=seed),
        first=interval(share, cases, bounds=(0, 1), resamples=resamples, seed=seed),
    )


def person_bias(probes: Sequence[Probe], verdicts: Sequence[Verdict | None], *, seed: int = 0) -> PersonBias:
    """What `person_probes` tell."""
    own, stranger, cases = _paired(probes, _scores(verdicts), "stranger", "own")
    ahead = [None if np.isnan(gap) else float(gap > 0) + float(gap == 0) / 2 for gap in own - stranger]
    exactly = _paired(probes, _exact(probes), "stranger", "own")
    return PersonBias(
        replies=int((~np.isnan(own - stranger)).sum()),
        gap=mean_interval(_nones(own - stranger), cases, seed=seed),
        auc=mean_interval(ahead, cases, bounds=(0, 1), seed=seed),
        exact_gap=_mean(exactly[0] - exactly[1]),
    )


def length_bias(probes: Sequence[Probe], verdicts: Sequence[Verdict | None], *, seed: int = 0) -> LengthBias:
    """What `length_probes` tell: a line through the scores of each reply and its longer versions, then the mean."""
    cases = list(dict.fromkeys(probe.case for probe in probes))
    scores, truth = _scores(verdicts), _exact(probes)
    slopes = [_slope(probes, scores, case) for case in cases]
    return LengthBias(
        replies=len(cases),
        slope=mean_interval(slopes, cases, seed=seed),
        exact_slope=_mean(floats(_slope(probes, truth, case) for case in cases)),
    )


def temptations(probes: Sequence[Probe], verdicts: Sequence[Verdict | None], *, seed: int = 0) -> tuple[Rise, ...]:
    """What `temptation_probes` tell."""
    truth = _exact(probes)
    return tuple(_rise(probes, verdicts, truth, kind, seed) for kind in _TEMPTATIONS)


def claim_bias(probes: Sequence[Probe], verdicts: Sequence[Verdict | None], *, seed: int = 0) -> ClaimBias:
    """What `honesty_probes` tell."""
    truth = _exact(probes)

    def named(*kinds: str) -> Estimate:
        chosen = [(probe, verdict) for probe, verdict in zip(probes, verdicts, strict=True) if probe.kind in kinds]
        says = [_names_a_claim(verdict) for _, verdict in chosen]
        return mean_interval(says, [probe.case for probe, _ in chosen], bounds=(0, 1), seed=seed)

    return ClaimBias(
        undisclosed=_rise(probes, verdicts, truth, "undisclosed", seed),
        false=_rise(probes, verdicts, truth, "false", seed),
        found=named("undisclosed", "false"),
        false_alarms=named("undisclosed filler", "false filler"),
    )


def self_preference(written: Sequence[Written], *, seed: int = 0) -> SelfPreference:
    """Whether the judge prefers its own model's replies at equal exact scores."""
    known = [one for one in written if one.own is not None and one.other is not None]
    leads = floats(one.own - one.other for one in known if one.own is not None and one.other is not None)
    worth = floats(one.own_exact - one.other_exact for one in known)
    cases = [one.case for one in known]
    return SelfPreference(
        pairs=len(known),
        lead=interval(lambda places: _intercept(worth[places], leads[places]), cases, seed=seed),
        raw=mean_interval(_nones(leads), cases, seed=seed),
    )


def _for_first(comparison: Comparison) -> tuple[int, int]:
    """Of the votes for one of two replies: how many for the one that stood first, and how many altogether."""
    straight, swapped = comparison.votes
    decided = [vote for vote in (straight, swapped) if vote in ("first", "second")]
    return (straight == "first") + (swapped == "second"), len(decided)


def _names_a_claim(verdict: Verdict | None) -> float | None:
    """Whether the verdict says that something is claimed; None where it does not say."""
    if verdict is None:
        return None
    if "honest" in verdict.parts:
        return float(verdict.parts["honest"] < 0.5)
    # The verifiable judge has a penalty for it, and names those that there are.
    return float("mind_reading" in verdict.penalties) if "recall" in verdict.parts else None


def _rise(
    probes: Sequence[Probe],
    verdicts: Sequence[Verdict | None],
    truth: Sequence[float | None],
    kind: str,
    seed: int,
) -> Rise:
    tempted, plain, cases = _paired(probes, _scores(verdicts), f"{kind} filler", kind)
    exactly = _paired(probes, truth, f"{kind} filler", kind)
    return Rise(
        addition=kind,
        rise=mean_interval(_nones(tempted - plain), cases, seed=seed),
        exact_rise=_mean(exactly[0] - exactly[1]),
    )


def _paired(
    probes: Sequence[Probe], scores: Sequence[float | None], base: str, kind: str
) -> tuple[Floats, Floats, list[str]]:
    """The scores of the two kinds, person by person, and the persons who have both probes."""
    by_kind: Mapping[str, dict[str, float | None]] = {
        wanted: {probe.case: score for probe, score in zip(probes, scores, strict=True) if probe.kind == wanted}
        for wanted in (kind, base)
    }
    cases = [case for case in by_kind[kind] if case in by_kind[base]]
    first, second = (floats(by_kind[one][case] for case in cases) for one in (kind, base))
    return first, second, cases


def _slope(probes: Sequence[Probe], scores: Sequence[float | None], case: str) -> float | None:
    """Points for ten words in one person's replies; None with fewer than two scores."""
    points = [
        (len(words(probe.reply)) / 10, score)
        for probe, score in zip(probes, scores, strict=True)
        if probe.case == case and score is not None
    ]
    if len(points) < 2:
        return None
    length, score = np.array(points).T
    away = length - length.mean()
    return float((away * score).sum() / (away**2).sum())


def _intercept(worth: Floats, leads: Floats) -> float:
    """Where the line of leads over differences of worth stands at no difference."""
    if not len(leads):
        return nan
    away = worth - worth.mean()
    spread = float((away**2).sum())
    slope = float((away * leads).sum()) / spread if spread else 0.0
    return float(leads.mean() - slope * worth.mean())


def _scores(verdicts: Sequence[Verdict | None]) -> list[float | None]:
    return [None if verdict is None else verdict.score for verdict in verdicts]


def _exact(probes: Sequence[Probe]) -> list[float | None]:
    return [exact(probe).score for probe in probes]


def _nones(values: Floats) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _mean(values: Floats) -> float | None:
    seen = values[~np.isnan(values)]
    return float(seen.mean()) if len(seen) else None
