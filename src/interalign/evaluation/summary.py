"""From judged replies to one summary per model.

Cases are paired by persona: every model answers the same people, or there is no summary. A reply without a verdict is
missing: it is counted, it has no weight, and it never becomes the lowest score; what it could have been at worst and at
best is told beside. Rows of repeats tell how much chance there is in a run, and count for nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Literal, TypeAlias, TypedDict

import numpy as np
from pydantic import Field, field_validator

from interalign.errors import InputError
from interalign.evaluation.crossed import Clusters, effects_of
from interalign.evaluation.groups import clusters_of_people
from interalign.evaluation.listening import listening_of
from interalign.evaluation.measures import (
    SCALE,
    Bounds,
    CounterfactualLevels,
    GroupLevel,
    InductionLevels,
    NoiseFloor,
    Reached,
    bounds_of,
    case_means,
    counterfactuals_of,
    difference_bounds_of,
    gaps_above,
    group_levels,
    induction_of,
    mean_of,
    noise_floors,
    ratios_of,
    reached_of,
)
from interalign.evaluation.metrics import Floats
from interalign.evaluation.missing import CutReplies, cut_replies, cut_warning, mend_of, most_often, reasons_of
from interalign.evaluation.notation import number
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.statistics import (
    Drawn,
    Estimate,
    ModelEstimates,
    PairEstimates,
    Samples,
    difference_of,
    estimates_of,
    model_estimates,
    pair_estimates,
    resample,
)
from interalign.messages import Value
from interalign.personas.persona import Persona

__all__ = [
    "Kind",
    "ModelSummary",
    "PairDifference",
    "Summary",
    "summarise",
]

Kind: TypeAlias = Literal["model", "control"]

_MOST_MISSING = 0.05
_ABOVE = "gap above"
_LISTENING = "listening"


class ModelSummary(Value):
    """All numbers of one model; None where not measured. `missing` counts the turns without a verdict.

    `difference` and `ir_difference` are paired, against the baseline; `relative` is mean AL / baseline - 1, both of the
    replies that both have a verdict on. All three are None for the baseline itself. `penalties` are mean points
    subtracted per judged reply, by kind.
    """

    name: str
    kind: Kind
    cases: int
    missing: int
    al: tuple[Estimate, ...]
    mean_al: Estimate
    ir: Estimate
    r2: Estimate
    n_ir: Estimate
    gap: Estimate
    uptake: Estimate
    difference: Estimate | None = None
    ir_difference: Estimate | None = None
    relative: Estimate | None = None
    penalties: dict[str, float] = Field(default_factory=dict)
    length_words: float | None = None
    missing_share: float | None = None
    """`missing` out of cases x turns."""
    lacking: dict[str, int] = Field(default_factory=dict)
    """Why verdicts are missing: how many by the reason, the commonest first; they add up to `missing`."""
    red: str | None = None
    """Why these numbers are not to be trusted, in a sentence: more than 5 % of the verdicts are missing."""
    bounds: Bounds | None = None
    """Of mean AL, whatever the missing verdicts would have been; None where none is missing."""
    difference_bounds: Bounds | None = None
    """The same of `difference`."""
    case_sd: float | None = None
    """Standard deviation over cases of a case's mean AL."""
    reached: Reached | None = None
    mind_reading: Estimate | None = None
    """The share of the replies looked at that claim something of the user that nothing has shown."""
    helpfulness: Estimate | None = None
    """Mean, from 1 to 5, over the replies rated."""
    induction: InductionLevels | None = None
    counterfactuals: tuple[CounterfactualLevels, ...] = ()
    noise: NoiseFloor | None = None
    groups: tuple[GroupLevel, ...] = ()
    gap_above: Estimate | None = None
    """`gap` minus that of impersonal replies to the same people at the same turns, where there are any: what the judge
    takes from any reply for a stranger is no personalization. See `measures.gaps_above`."""
    listening: Estimate | None = None
    """By how much a complaint raises the chance that the next reply mends a miss, with rule-based users and judge; None
    with others. See `listening.listening_of`."""
    cut: CutReplies | None = None
    """How many replies were cut at max_tokens; None where it is not known."""
    warning: str | None = None
    """What else is to be known before the numbers are used, in a sentence: more than 5 % of the replies were cut."""

    @field_validator("relative", mode="before")
    @classmethod
    def _as_estimate(cls, relative: object) -> object:
        """Summaries of earlier versions hold it without an interval."""
        return {"value": relative} if isinstance(relative, int | float) else relative


class PairDifference(PairEstimates):
    """Two models on the same people: `second` minus `first`.

    `case_sd` is the standard deviation over cases of the mean difference of the replies that both have a verdict on;
    the shares say how much of its variance profiles and personalities make, 0 where nobody shares any.
    """

    first: str
    second: str
    bounds: Bounds | None = None
    """Of the difference of mean AL, whatever the missing verdicts would have been; None where none is missing."""
    case_sd: float | None = None
    profile_share: float | None = None
    personality_share: float | None = None


class Summary(Value):
    """What an evaluation found. `world` says in one sentence whose users and whose judge the numbers come from.

    `profiles` and `personalities` count those that the cases share with each other; None where they share none, or it
    is not known. `pairs` holds every pair of models and controls, each once.
    """

    world: str
    turns: int
    baseline: str
    resamples: int
    seed: int
    models: tuple[ModelSummary, ...]
    pairs: tuple[PairDifference, ...] = ()
    profiles: int | None = None
    personalities: int | None = None
    notes: tuple[str, ...] = ()
    """What a reader must know of how the numbers came about, in sentences."""

    def model(self, name: str) -> ModelSummary:
        """The model of this name.

        Raises:
            KeyError: no model has this name.
        """
        for model in self.models:
            if model.name == name:
                return model
        raise KeyError(name)

    def of_kind(self, kind: Kind) -> tuple[ModelSummary, ...]:
        """The models, or the controls, in their order."""
        return tuple(model for model in self.models if model.kind == kind)


def summarise(
    rows: Mapping[str, Sequence[TurnRow]],
    *,
    baseline: str,
    world: str,
    controls: Collection[str] = (),
    resamples: int = 10_000,
    seed: int = 0,
    people: Mapping[str, Persona] | None = None,
) -> Summary:
    """Summarise the rows of every model against `baseline`.

    Args:
        rows: the judged replies of each model, by its name.
        baseline: the model that differences are taken to.
        world: whose users and whose judge this was, in a few words.
        controls: which of the names are controls and not models under test.
        resamples: bootstrap resamples behind each interval.
        seed: seed of the resamples.
        people: the personas by id; with them, intervals respect who shares a profile or a personality, and there are
            numbers for groups of people.

    Raises:
        InputError: there are no rows, the models did not answer the same people, a turn stands twice, or there are no
            rows of `baseline`.
    """
    first = {name: [row for row in of_model if row.repeat == 0] for name, of_model in rows.items()}
    _check(first, baseline)
    found = _Found(rows, first, baseline, controls, resamples, seed, people or {})
    clusters = found.samples.clusters
    return Summary(
        world=world,
        turns=found.turns,
        baseline=baseline,
        resamples=resamples,
        seed=seed,
        models=found.models(),
        pairs=found.pairs(),
        profiles=None if clusters.profiles is None else int(clusters.profiles.max()) + 1,
        personalities=None if clusters.personalities is None else int(clusters.personalities.max()) + 1,
    )


class _Found:
    """The rows as arrays, resampled once for everything that is told of them."""

    def __init__(
        self,
        rows: Mapping[str, Sequence[TurnRow]],
        first: Mapping[str, Sequence[TurnRow]],
        baseline: str,
        controls: Collection[str],
        resamples: int,
        seed: int,
        people: Mapping[str, Persona],
    ) -> None:
        self._rows, self._first, self._controls, self._people = rows, first, controls, people
        self._resamples, self._seed = resamples, seed
        self._names = list(first)
        self._base = self._names.index(baseline)
        self._cases = sorted({row.case for row in first[baseline]})
        self._place = {case: index for index, case in enumerate(self._cases)}
        self.turns = max(row.turn for of_model in first.values() for row in of_model)
        self.samples = _samples(first, self._cases, self.turns, clusters_of_people(self._cases, people))
        self._drawn = self._resampled()

    def _resampled(self) -> dict[str, Drawn]:
        extra = ratios_of(list(self._first.values()), self._place, self.turns)
        whole = {
            f"all_{name}": extra[name].over_all_turns
            for name in ("mind_reading", "helpfulness", "precision", "recall")
            if name in extra
        }
        above = gaps_above(self._first, self._controls, self._place, self.turns)
        heard = listening_of(list(self._first.values()), self._place, self.turns)
        ratios = {
            **self.samples.ratios_against(self._base),
            **extra,
            **whole,
            **({} if above is None else {_ABOVE: above}),
            **({} if heard is None else {_LISTENING: heard}),
        }
        return resample(ratios, self.samples.clusters, resamples=self._resamples, seed=self._seed)

    def models(self) -> tuple[ModelSummary, ...]:
        scores, clusters = self.samples.scores, self.samples.clusters
        chance: _Chance = {"resamples": self._resamples, "seed": self._seed}
        estimates = model_estimates(self._drawn, self.samples, self._base)
        reached = reached_of(scores, clusters, **chance)
        noise = noise_floors(list(self._rows.values()), self._place, clusters, **chance)
        groups = group_levels(scores, self._cases, self._people, clusters, **chance)
        return tuple(
            self._model(index, estimates[index]).model_copy(
                update={
                    "reached": reached[index] if estimates[index].mean_al.value is not None else None,
                    "noise": noise[index],
                    "groups": groups[index],
                }
            )
            for index in range(len(self._names))
        )

    def _model(self, index: int, estimates: ModelEstimates) -> ModelSummary:
        name, scores, clusters = self._names[index], self.samples.scores[index], self.samples.clusters
        missing = int(np.isnan(scores).sum())
        lacking, cut = reasons_of(self._first[name], scores.size), cut_replies(self._first[name])
        base = self.samples.scores[self._base]
        return ModelSummary(
            name=name,
            kind="control" if name in self._controls else "model",
            cases=len(scores),
            missing=missing,
            missing_share=missing / scores.size,
            lacking=lacking,
            red=_red(name, scores, lacking),
            cut=cut,
            warning=cut_warning(name, cut),
            bounds=bounds_of(scores) if missing else None,
            difference_bounds=_difference_bounds(base, scores) if index != self._base else None,
            case_sd=_deviation(case_means(scores)),
            **{field: getattr(estimates, field) for field in ModelEstimates.model_fields},
            penalties=_penalties(self._first[name]),
            length_words=_length(self._first[name]),
            mind_reading=self._rate(index, "all_mind_reading", (0, 1)),
            helpfulness=self._rate(index, "all_helpfulness", SCALE),
            induction=induction_of(self._drawn, index, clusters),
            counterfactuals=counterfactuals_of(self._drawn, index, clusters),
            gap_above=mean_of(self._drawn[_ABOVE], index, clusters) if _ABOVE in self._drawn else None,
            listening=self._rate(index, _LISTENING, (-1, 1)),
        )

    def _rate(self, index: int, name: str, bounds: tuple[float, float]) -> Estimate | None:
        if name not in self._drawn:
            return None
        (rate,) = estimates_of(self._drawn[name].model(index), self.samples.clusters, bounds=bounds)
        return None if rate.value is None else rate

    def pairs(self) -> tuple[PairDifference, ...]:
        return tuple(self._pair(first, second) for first, second in combinations(range(len(self._names)), 2))

    def _pair(self, first: int, second: int) -> PairDifference:
        clusters, scores = self.samples.clusters, self.samples.scores
        estimates = pair_estimates(difference_of(self._drawn, self.samples, first, second), clusters)
        differences = case_means(scores[second] - scores[first])
        known = ~np.isnan(differences)
        effects = effects_of(differences[known], clusters.of(known)) if known.sum() > 1 else None
        whole = effects.profile + effects.personality + effects.rest if effects else 0.0
        return PairDifference(
            **{field: getattr(estimates, field) for field in PairEstimates.model_fields},
            first=self._names[first],
            second=self._names[second],
            bounds=_difference_bounds(scores[first], scores[second]),
            case_sd=_deviation(differences),
            profile_share=effects.profile / whole if effects and whole > 0 else None,
            personality_share=effects.personality / whole if effects and whole > 0 else None,
        )


class _Chance(TypedDict):
    resamples: int
    seed: int


def _difference_bounds(first: Floats, second: Floats) -> Bounds | None:
    complete = not (np.isnan(first).any() or np.isnan(second).any())
    return None if complete else difference_bounds_of(first, second)


def _deviation(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.std(ddof=1)) if len(known) > 1 else None


def _red(name: str, scores: Floats, lacking: Mapping[str, int]) -> str | None:
    share = float(np.isnan(scores).mean())
    if share <= _MOST_MISSING:
        return None
    bounds, mend = bounds_of(scores), mend_of(lacking)
    why = most_often(lacking)
    return (
        f"{share:.1%} of the verdicts on {name} are missing, and what is missing need not be like the rest: its mean "
        f"AL would be {number(bounds.low)} if they were all the lowest score, and {number(bounds.high)} if the "
        f"highest. {why[:1].upper()}{why[1:]}{f'; to mend it, {mend}' if mend else ''}."
    )


def _check(rows: Mapping[str, Sequence[TurnRow]], baseline: str) -> None:
    if baseline not in rows:
        known = ", ".join(rows) or "no model"
        raise InputError(f"There are no rows of the baseline {baseline!r}, only of {known}.", mend="evaluate it too.")
    for name, of_model in rows.items():
        if not of_model:
            raise InputError(f"There are no rows of {name!r}.", mend="evaluate it again.")
        _check_once(name, of_model)
    every_case = {row.case for of_model in rows.values() for row in of_model}
    for name, of_model in rows.items():
        absent = sorted(every_case - {row.case for row in of_model})
        if absent:
            some = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
            raise InputError(
                f"{name!r} has no rows of {len(absent)} of {len(every_case)} persons ({some}), so its numbers cannot "
                "be paired with those of the other models.",
                mend="evaluate all models on the same held-out personas; a failed case is a row with its failure.",
            )


def _check_once(name: str, rows: Sequence[TurnRow]) -> None:
    seen: set[tuple[str, int]] = set()
    for row in rows:
        if (row.case, row.turn) in seen:
            raise InputError(f"{name!r} has two rows of turn {row.turn} with {row.case!r}.", mend="evaluate it again.")
        seen.add((row.case, row.turn))


def _samples(rows: Mapping[str, Sequence[TurnRow]], cases: Sequence[str], turns: int, clusters: Clusters) -> Samples:
    place = {case: index for index, case in enumerate(cases)}
    shape = (len(rows), len(cases), turns)
    scores, swapped, uptake = (np.full(shape, np.nan) for _ in range(3))
    for model, of_model in enumerate(rows.values()):
        for row in of_model:
            cell = (model, place[row.case], row.turn - 1)
            if row.verdict is not None:
                scores[cell] = row.verdict.score
            if row.swapped is not None:
                swapped[cell] = row.swapped.score
            if row.uptake is not None:
                uptake[cell] = float(row.uptake)
    return Samples(scores=scores, swapped=swapped, uptake=uptake, clusters=clusters, scale=SCALE)


def _penalties(rows: Sequence[TurnRow]) -> dict[str, float]:
    points: defaultdict[str, float] = defaultdict(float)
    judged = [row.verdict for row in rows if row.verdict is not None]
    for verdict in judged:
        for kind, subtracted in verdict.penalties.items():
            points[kind] += subtracted
    return {kind: total / len(judged) for kind, total in sorted(points.items())}


def _length(rows: Sequence[TurnRow]) -> float | None:
    lengths = [len(row.reply.split()) for row in rows if row.failure is None]
    return sum(lengths) / len(lengths) if lengths else None
