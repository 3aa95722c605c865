"""What a benchmark tells of a model beside its alignment curve, each with its uncertainty and None where not measured.

How soon a person is met, whether replies claim what nobody said, whether they would help anybody, what the model says
that it has learnt, how a control would have answered in its place, how much a second run differs, for whom it works,
and between which bounds the truth lies when verdicts are missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations

import numpy as np

from interalign.evaluation.crossed import Clusters
from interalign.evaluation.groups import GroupKind, membership
from interalign.evaluation.metrics import Floats
from interalign.evaluation.rows import Counterfactual, Induction, TurnRow
from interalign.evaluation.statistics import (
    Drawn,
    Estimate,
    Ratio,
    estimate_of,
    estimates_of,
    mean_over_turns,
    medians,
    resample,
)
from interalign.messages import Value
from interalign.personas.persona import Persona

__all__ = [
    "IMPERSONAL",
    "MET",
    "SCALE",
    "Bounds",
    "CounterfactualLevels",
    "GroupLevel",
    "InductionLevels",
    "NoiseFloor",
    "Reached",
    "bounds_of",
    "case_means",
    "counterfactuals_of",
    "difference_bounds_of",
    "gaps_above",
    "group_levels",
    "induction_of",
    "mean_of",
    "noise_floors",
    "ratios_of",
    "reached_of",
]

SCALE = (1.0, 5.0)
"""The lowest and the highest score."""

MET = 4.0
"""From this score on a reply is said to meet the person."""

IMPERSONAL = ("generic-nice", "constant")
"""The controls that look at nobody: replies of the tested model in its own place, and those of a script, which names
what was just said and nothing else."""

_CONTROL = "control:"
_AGAINST = "against:"
_GAP = "gap:"

# There are many groups, and their intervals are wide: these are enough.
_GROUP_RESAMPLES = 2000


class Bounds(Value):
    """Between what a number lies whatever the missing verdicts would have been: with all of them 1, and with all 5.

    Source: Manski, "Nonparametric bounds on treatment effects" (American Economic Review 80, 1990).
    """

    low: float
    high: float


class Reached(Value):
    """The first turn with a score of 4 or more, over the cases of which it is known.

    A case that has not got there and lacks verdicts might have: it is missing. `turn` is the median, with the cases
    that never get there counted as later than all others; it is undefined when they are half or more. `never` is their
    share.
    """

    turn: Estimate
    never: Estimate


class InductionLevels(Value):
    """What the model says off the record that it has learnt: how much is true, and how much of the disclosed is named.

    Shares of all statements and of all things disclosed, per turn and over all turns.
    """

    precision: tuple[Estimate, ...]
    recall: tuple[Estimate, ...]
    mean_precision: Estimate
    mean_recall: Estimate


class CounterfactualLevels(Value):
    """How a control would have answered in the model's place.

    `difference` is paired, the model minus the control, over the replies that both have a verdict on. `gap` is the
    control's own personalization gap, None where its replies were not judged for a stranger.
    """

    name: str
    al: tuple[Estimate, ...]
    mean_al: Estimate
    difference: Estimate
    gap: Estimate | None = None


class NoiseFloor(Value):
    """How far a case's mean AL differs from one run to the next, by nothing but chance.

    `difference` is the mean absolute difference of two repeats, `sd` the standard deviation between them, over the
    `cases` that were played more than once. Two repeats are compared by the turns that both have a verdict on.
    """

    cases: int
    difference: Estimate
    sd: Estimate


class GroupLevel(Value):
    """The mean AL over the persons of one group, of which there are at least five."""

    kind: GroupKind
    name: str
    cases: int
    mean_al: Estimate


def bounds_of(scores: Floats) -> Bounds:
    """Bounds of a model's mean AL; `scores` is (cases, turns), NaN for missing."""
    return Bounds(low=_mean_filled(scores, SCALE[0]), high=_mean_filled(scores, SCALE[1]))


def difference_bounds_of(first: Floats, second: Floats) -> Bounds:
    """Bounds of the second model's mean AL minus the first's."""
    low, high = SCALE
    return Bounds(
        low=_mean_filled(second, low) - _mean_filled(first, high),
        high=_mean_filled(second, high) - _mean_filled(first, low),
    )


def _mean_filled(scores: Floats, value: float) -> float:
    return float(np.where(np.isnan(scores), value, scores).mean())


def case_means(scores: Floats) -> Floats:
    """The mean over the judged turns, the last axis; NaN where none is."""
    ratio = Ratio.of(scores)
    sums, counts = ratio.sums.sum(-1), ratio.counts.sum(-1)
    means: Floats = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return means


def reached_of(scores: Floats, clusters: Clusters, *, resamples: int, seed: int) -> tuple[Reached, ...]:
    """How soon each model meets its people; `scores` is (models, cases, turns)."""
    met = np.nan_to_num(scores, nan=0.0) >= MET
    first = np.where(met.any(2), met.argmax(2) + 1.0, np.inf)
    first = np.where(np.isnan(scores).any(2) & ~met.any(2), np.nan, first)
    never = np.where(np.isnan(first), np.nan, np.isinf(first).astype(np.float64))
    shares = resample({"never": Ratio.of(never[:, :, None])}, clusters, resamples=resamples, seed=seed)["never"]
    turns = medians(first, clusters, resamples=resamples, seed=seed)
    return tuple(
        Reached(turn=turn, never=estimates_of(shares.model(model), clusters, bounds=(0, 1))[0])
        for model, turn in enumerate(turns)
    )


def ratios_of(rows: Sequence[Sequence[TurnRow]], place: Mapping[str, int], turns: int) -> dict[str, Ratio]:
    """What any row tells beside its score, by name; what no row tells is left out."""
    shape = (len(rows), len(place), turns)

    def ratio(read: Callable[[TurnRow], tuple[float, float] | None]) -> Ratio:
        sums, counts = np.zeros(shape), np.zeros(shape)
        for model, of_model in enumerate(rows):
            for row in of_model:
                if (found := read(row)) is not None:
                    cell = (model, place[row.case], row.turn - 1)
                    sums[cell], counts[cell] = found
        return Ratio(sums=sums, counts=counts)

    readers: dict[str, Callable[[TurnRow], tuple[float, float] | None]] = {
        "mind_reading": lambda row: None if row.mind_reading is None else (float(row.mind_reading), 1.0),
        "helpfulness": lambda row: None if row.helpfulness is None else (row.helpfulness, 1.0),
        "precision": lambda row: _hits(row.induction, lambda said: (said.true, len(said.statements))),
        "recall": lambda row: _hits(row.induction, lambda said: (said.found, said.disclosed)),
    }
    for name in _controls(rows):
        readers[f"{_CONTROL}{name}"] = _control_reader(name)
        readers[f"{_AGAINST}{name}"] = _against_reader(name)
        readers[f"{_GAP}{name}"] = _gap_reader(name)
    found = {name: ratio(read) for name, read in readers.items()}
    return {name: one for name, one in found.items() if one.counts.any()}


def _hits(induction: Induction | None, read: Callable[[Induction], tuple[int, int]]) -> tuple[float, float] | None:
    if induction is None:
        return None
    hits, tries = read(induction)
    return float(hits), float(tries)


def _controls(rows: Sequence[Sequence[TurnRow]]) -> list[str]:
    return list(dict.fromkeys(name for of_model in rows for row in of_model for name in row.controls))


def _control_reader(name: str) -> Callable[[TurnRow], tuple[float, float] | None]:
    def read(row: TurnRow) -> tuple[float, float] | None:
        control = row.controls.get(name)
        return None if control is None or control.verdict is None else (control.verdict.score, 1.0)

    return read


def _gap_reader(name: str) -> Callable[[TurnRow], tuple[float, float] | None]:
    def read(row: TurnRow) -> tuple[float, float] | None:
        gap = _gap(row.controls.get(name))
        return None if gap is None else (gap, 1.0)

    return read


def _gap(judged: TurnRow | Counterfactual | None) -> float | None:
    if judged is None or judged.verdict is None or judged.swapped is None:
        return None
    return judged.verdict.score - judged.swapped.score


def gaps_above(
    rows: Mapping[str, Sequence[TurnRow]], controls: Collection[str], place: Mapping[str, int], turns: int
) -> Ratio | None:
    """The gap of each reply minus that of an impersonal one to the same person at the same turn; None without any.

    Any reply may lose points for a stranger, whose persona does not fit what the chat is about. What the first of
    `IMPERSONAL` loses so in the model's place is not the model's merit; where nobody was asked for that, the script of
    that kind among the `controls` has been judged at the same turn of a conversation of its own.
    """
    nice, script = IMPERSONAL
    scripted = rows[script] if script in rows and script in controls else ()
    beside = {(row.case, row.turn): _gap(row) for row in scripted}
    values = np.full((len(rows), len(place), turns), np.nan)
    for model, of_model in enumerate(rows.values()):
        for row in of_model if of_model is not scripted else ():
            own = _gap(row)
            zero = _gap(row.controls[nice]) if nice in row.controls else beside.get((row.case, row.turn))
            if own is not None and zero is not None:
                values[model, place[row.case], row.turn - 1] = own - zero
    return None if np.isnan(values).all() else Ratio.of(values)


def _against_reader(name: str) -> Callable[[TurnRow], tuple[float, float] | None]:
    """How much more the model's reply got than the control's in its place."""
    of_control = _control_reader(name)

    def read(row: TurnRow) -> tuple[float, float] | None:
        control = of_control(row)
        return None if control is None or row.verdict is None else (row.verdict.score - control[0], 1.0)

    return read


def induction_of(drawn: Mapping[str, Drawn], model: int, clusters: Clusters) -> InductionLevels | None:
    """What was drawn of `ratios_of`, with `precision` and `recall` over all turns beside; None where not measured."""
    if "precision" not in drawn or "recall" not in drawn:
        return None
    found = {
        name: estimates_of(drawn[name].model(model), clusters, bounds=(0, 1))
        for name in ("precision", "recall", "all_precision", "all_recall")
    }
    if found["all_precision"][0].value is None and found["all_recall"][0].value is None:
        return None
    return InductionLevels(
        precision=found["precision"],
        recall=found["recall"],
        mean_precision=found["all_precision"][0],
        mean_recall=found["all_recall"][0],
    )


def counterfactuals_of(drawn: Mapping[str, Drawn], model: int, clusters: Clusters) -> tuple[CounterfactualLevels, ...]:
    """The controls that answered in this model's place, in their order."""
    levels = []
    for name in (name.removeprefix(_CONTROL) for name in drawn if name.startswith(_CONTROL)):
        control = drawn[f"{_CONTROL}{name}"].model(model)
        if np.isnan(control.draws[0]).all():
            continue
        against = drawn.get(f"{_AGAINST}{name}")
        gain = Estimate() if against is None else estimate_of(mean_over_turns(against.model(model)), clusters)
        gap = drawn.get(f"{_GAP}{name}")
        levels.append(
            CounterfactualLevels(
                name=name,
                al=estimates_of(control, clusters, bounds=SCALE),
                mean_al=estimate_of(mean_over_turns(control), clusters, bounds=SCALE),
                difference=gain,
                gap=None if gap is None else mean_of(gap, model, clusters),
            )
        )
    return tuple(levels)


def mean_of(drawn: Drawn, model: int, clusters: Clusters) -> Estimate | None:
    """The mean over turns of one model's statistic; None where it has none."""
    mean = estimate_of(mean_over_turns(drawn.model(model)), clusters)
    return None if mean.value is None else mean


def noise_floors(
    rows: Sequence[Sequence[TurnRow]], place: Mapping[str, int], clusters: Clusters, *, resamples: int, seed: int
) -> tuple[NoiseFloor | None, ...]:
    """How far the repeats of each model's cases differ; None where no case was played twice."""
    values = np.full((len(rows), len(place), 2), np.nan)
    for model, of_model in enumerate(rows):
        for case, distances in _distances(of_model).items():
            if case in place:
                # Half the mean squared difference of every two is the variance with n - 1 below.
                values[model, place[case]] = float(np.abs(distances).mean()), float((distances**2).mean() / 2)
    if np.isnan(values).all():
        return (None,) * len(rows)
    drawn = resample({"noise": Ratio.of(values)}, clusters, resamples=resamples, seed=seed)["noise"]
    floors: list[NoiseFloor | None] = []
    for model in range(len(rows)):
        difference, variance = estimates_of(drawn.model(model), clusters, bounds=(0.0, np.inf))
        cases = int((~np.isnan(values[model, :, 0])).sum())
        floors.append(NoiseFloor(cases=cases, difference=difference, sd=_root(variance)) if cases else None)
    return tuple(floors)


def _distances(rows: Sequence[TurnRow]) -> dict[str, Floats]:
    """For each case how far every two of its repeats are apart, at the mean of the turns that both have a score for."""
    scores: defaultdict[str, defaultdict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row.verdict is not None:
            scores[row.case][row.repeat][row.turn] = row.verdict.score
    found = {}
    for case, repeats in sorted(scores.items()):
        pairs = combinations([repeats[repeat] for repeat in sorted(repeats)], 2)
        apart = [
            float(np.mean([other[turn] - one[turn] for turn in sorted(one.keys() & other.keys())]))
            for one, other in pairs
            if one.keys() & other.keys()
        ]
        if apart:
            found[case] = np.array(apart)
    return found


def _root(variance: Estimate) -> Estimate:
    ends = (None if end is None else max(0.0, end) ** 0.5 for end in (variance.value, variance.low, variance.high))
    return Estimate(**dict(zip(("value", "low", "high"), ends, strict=True)))


def group_levels(
    scores: Floats,
    cases: Sequence[str],
    people: Mapping[str, Persona],
    clusters: Clusters,
    *,
    resamples: int,
    seed: int,
) -> tuple[tuple[GroupLevel, ...], ...]:
    """The mean AL of each model, (models, cases, turns), with each group of people."""
    levels: list[list[GroupLevel]] = [[] for _ in scores]
    for group, members in membership(cases, people).items():
        kept = np.zeros(len(cases), dtype=bool)
        kept[members] = True
        of_group = clusters.of(kept)
        of_members = {"al": Ratio.of(scores[:, kept])}
        drawn = resample(of_members, of_group, resamples=min(resamples, _GROUP_RESAMPLES), seed=seed)
        means = mean_over_turns(drawn["al"])
        for level, estimate in zip(levels, estimates_of(means, of_group, bounds=SCALE), strict=True):
            level.append(GroupLevel(kind=group.kind, name=group.name, cases=len(members), mean_al=estimate))
    return tuple(tuple(of_model) for of_model in levels)
