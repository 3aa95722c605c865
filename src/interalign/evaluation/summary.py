"""From judged replies to one summary per model, as data, as a terminal table and as Markdown.

Cases are paired by persona: every model answers the same people, or there is no summary. A reply without a verdict is
missing: it is counted, it has no weight, and it never becomes the lowest score; what it could have been at worst and at
best is told beside. Rows of repeats tell how much chance there is in a run, and count for nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Literal, TypeAlias, TypedDict

import numpy as np
from pydantic import Field
from rich.box import HORIZONTALS
from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from interalign.errors import InputError
from interalign.evaluation.crossed import Clusters, effects_of
from interalign.evaluation.groups import clusters_of_people
from interalign.evaluation.legend import meanings
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
    group_levels,
    induction_of,
    noise_floors,
    ratios_of,
    reached_of,
)
from interalign.evaluation.metrics import Floats
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
    "UNDEFINED",
    "Kind",
    "ModelSummary",
    "PairDifference",
    "Summary",
    "group_table",
    "markdown",
    "number",
    "shown_turns",
    "summarise",
    "table",
]

Kind: TypeAlias = Literal["model", "control"]

UNDEFINED = "\N{EN DASH}"

_MOST_MISSING = 0.05
_SHOWN_TRAITS = 10

_IS_BASELINE = "baseline"
_UNTRAINED = "base"
"""What runs call the model before training."""

_GAP = 2
_LONGEST_NAME = 14
"""Columns of a terminal; a longer name is folded."""

_WHY = {
    "gap": "no reply was judged for a stranger",
    "uptake": "no user complained",
    "words": "there are no replies",
    "to baseline": "no verdict",
    "first 4": "half or more never get there",
}
"""Why a column may have no value."""


class ModelSummary(Value):
    """All numbers of one model; None where not measured. `missing` counts the turns without a verdict.

    `difference` and `ir_difference` are paired, against the baseline; `relative` is mean AL / baseline - 1. All three
    are None for the baseline itself. `penalties` are mean points subtracted per judged reply, by kind.
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
    relative: float | None = None
    penalties: dict[str, float] = Field(default_factory=dict)
    length_words: float | None = None
    missing_share: float | None = None
    """`missing` out of cases x turns."""
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
        ratios = {**self.samples.ratios, **extra, **whole}
        return resample(ratios, self.samples.clusters, resamples=self._resamples, seed=self._seed)

    def models(self) -> tuple[ModelSummary, ...]:
        scores, clusters = self.samples.scores, self.samples.clusters
        chance: _Chance = {"resamples": self._resamples, "seed": self._seed}
        estimates = model_estimates(self._drawn, self.samples, self._base)
        reached = reached_of(scores, clusters, **chance)
        noise = noise_floors(list(self._rows.values()), self._place, clusters, **chance)
        groups = group_levels(scores, self._cases, self._people, clusters, **chance)
        return tuple(
            self._model(index, estimates[index], estimates[self._base].mean_al.value).model_copy(
                update={
                    "reached": reached[index] if estimates[index].mean_al.value is not None else None,
                    "noise": noise[index],
                    "groups": groups[index],
                }
            )
            for index in range(len(self._names))
        )

    def _model(self, index: int, estimates: ModelEstimates, baseline: float | None) -> ModelSummary:
        name, scores, clusters = self._names[index], self.samples.scores[index], self.samples.clusters
        level = estimates.mean_al.value
        comparable = level is not None and baseline is not None and estimates.difference is not None
        missing = int(np.isnan(scores).sum())
        base = self.samples.scores[self._base]
        return ModelSummary(
            name=name,
            kind="control" if name in self._controls else "model",
            cases=len(scores),
            missing=missing,
            missing_share=missing / scores.size,
            red=_red(name, scores),
            bounds=bounds_of(scores) if missing else None,
            difference_bounds=_difference_bounds(base, scores) if index != self._base else None,
            case_sd=_deviation(case_means(scores)),
            **{field: getattr(estimates, field) for field in ModelEstimates.model_fields},
            relative=level / baseline - 1 if comparable and level is not None and baseline is not None else None,
            penalties=_penalties(self._first[name]),
            length_words=_length(self._first[name]),
            mind_reading=self._rate(index, "all_mind_reading", (0, 1)),
            helpfulness=self._rate(index, "all_helpfulness", SCALE),
            induction=induction_of(self._drawn, index, clusters),
            counterfactuals=counterfactuals_of(self._drawn, index, clusters),
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


def _red(name: str, scores: Floats) -> str | None:
    share = float(np.isnan(scores).mean())
    if share <= _MOST_MISSING:
        return None
    bounds = bounds_of(scores)
    return (
        f"{share:.1%} of the verdicts on {name} are missing, and what is missing need not be like the rest: its mean "
        f"AL would be {number(bounds.low)} if they were all the lowest score, and {number(bounds.high)} if the highest."
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


def number(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """A number as it is shown everywhere; an en dash when it is undefined, and never a negative zero."""
    if value is None:
        return UNDEFINED
    rounded = round(value, digits) + 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}"


def shown_turns(turns: int) -> tuple[int, ...]:
    """The turns whose AL is shown in a table: all up to five, otherwise the first, the middle and the last."""
    return tuple(range(1, turns + 1)) if turns <= 5 else _ends_and_middle(turns)


def _ends_and_middle(turns: int) -> tuple[int, ...]:
    return tuple(sorted({1, (turns + 1) // 2, turns}))


def table(summary: Summary, width: int = 80) -> Table:
    """The summary for a terminal: as few tables as fit into `width` columns, and what stands in them in words.

    Below the models stand, where there is anything to tell: every pair of three or more, what a control would have
    answered, and what missing verdicts leave open.
    """
    columns = _shown_columns(summary, width)
    grids = [_of_models(summary, part) for part in _packed(summary, columns, width)]
    grids += [grid for grid in _grids_beside(summary) if grid.rows]
    parts: list[RenderableType] = [_terminal_table(grid) for grid in grids]
    parts += [Text(model.red, style="bold red") for model in summary.models if model.red]
    parts += [_legend(summary, grids), Text(_footnote(summary), style="dim")]
    whole = Table.grid()
    for place, part in enumerate(parts):
        if place:
            whole.add_row("")
        whole.add_row(part)
    return whole


def _shown_columns(summary: Summary, width: int) -> _Columns:
    """All columns that hold anything; of the levels fewer where they do not fit beside each other."""
    columns = _of_turns(summary, shown_turns(summary.turns))
    if _first_width(summary) + sum(_width(summary, name, show) for name, show in columns.items()) > width:
        columns = _of_turns(summary, _ends_and_middle(summary.turns))
    columns |= _other_columns(summary)
    kept = {name: show for name, show in columns.items() if any(_is_defined(cell) for cell in _cells(summary, show))}
    return kept or columns


def _packed(summary: Summary, columns: _Columns, width: int) -> list[_Columns]:
    """The columns in their order, in as few tables as hold them all, and these about equally wide."""
    widths = {name: _width(summary, name, show) for name, show in columns.items()}
    parts = _filled(widths, width - _first_width(summary))
    for narrower in range(width - _first_width(summary) - 1, 0, -1):
        same = _filled(widths, narrower)
        if len(same) > len(parts):
            break
        parts = same
    return [{name: columns[name] for name in part} for part in parts]


def _filled(widths: Mapping[str, int], room: int) -> list[list[str]]:
    """Names in their order, so many at a time as have room; at least one."""
    parts: list[list[str]] = [[]]
    for name, width in widths.items():
        if parts[-1] and sum(widths[other] for other in parts[-1]) + width > room:
            parts.append([])
        parts[-1].append(name)
    return parts


def _cells(summary: Summary, show: Callable[[ModelSummary], _Cell]) -> list[_Cell]:
    return [show(model) for model in summary.models]


def _is_defined(cell: _Cell) -> bool:
    return cell[0] not in (UNDEFINED, _IS_BASELINE)


def _width(summary: Summary, name: str, show: Callable[[ModelSummary], _Cell]) -> int:
    """The width of a column with the space before it."""
    return max(cell_len(text) for text in (name, *chain.from_iterable(_cells(summary, show)))) + _GAP


def _first_width(summary: Summary) -> int:
    return min(_LONGEST_NAME, max(cell_len(name) for name in ("model", *(model.name for model in summary.models))))


def _legend(summary: Summary, grids: Sequence[_Grid]) -> Table:
    """What the columns mean that are shown, and why some have no value."""
    legend = Table.grid(padding=(0, 2, 0, 0))
    legend.add_column(no_wrap=True)
    legend.add_column()
    shown = list(chain.from_iterable(grid.headers for grid in grids))
    controls = [model.name for model in summary.of_kind("control")]
    controls += [control.name for model in summary.models for control in model.counterfactuals]
    for name, meaning in (*meanings((*shown, *controls)), *_why_undefined(summary, shown)):
        legend.add_row(Text(name, style="dim bold"), Text(meaning, style="dim"))
    return legend


def _why_undefined(summary: Summary, shown: Collection[str]) -> Iterator[tuple[str, str]]:
    """Why values are not there: once for each column that shows none, and for each that lacks some."""
    columns = {**_gain_columns(summary), **_rate_columns()}
    if summary.models[0].reached is not None:
        columns["first 4"] = lambda model: _cell(model.reached.turn if model.reached else None)
    lacking = [name for name, show in columns.items() if UNDEFINED in (cell[0] for cell in _cells(summary, show))]
    short = any(model.ir.value is None for model in summary.models)
    of_rates = "a line needs two judged turns" if short else "a flat curve has none"
    for sign, names in (
        (UNDEFINED, [name for name in lacking if name in shown]),
        ("not shown", [name for name in lacking if name not in shown]),
    ):
        reasons: defaultdict[str, list[str]] = defaultdict(list)
        for name in names:
            reasons[_WHY.get(name, of_rates)].append(name)
        if reasons:
            yield sign, "; ".join(f"{', '.join(of_reason)} ({why})" for why, of_reason in reasons.items())


def group_table(summary: Summary) -> Table | None:
    """Mean AL of each model with groups of people, for a terminal; None without groups.

    Of the traits, those with most persons are shown; `ModelSummary.groups` has all.
    """
    groups = _shown_groups(summary)
    if not groups:
        return None
    models = summary.of_kind("model")
    levels = {(model.name, group.kind, group.name): _cell(group.mean_al) for model in models for group in model.groups}
    rows = [
        _Row(
            name=f"{one.kind}: {one.name}" if one.kind != "trait" else one.name,
            cells=[
                (str(one.cases), ""),
                *(levels.get((model.name, one.kind, one.name), (UNDEFINED, "")) for model in models),
            ],
            below=index > 0 and one.kind != groups[index - 1].kind,
        )
        for index, one in enumerate(groups)
    ]
    return _terminal_table(_Grid("mean AL with", ["persons", *(model.name for model in models)], rows), first=24)


def _shown_groups(summary: Summary) -> list[GroupLevel]:
    every = summary.models[0].groups
    traits = sorted((one for one in every if one.kind == "trait"), key=lambda one: -one.cases)[:_SHOWN_TRAITS]
    return [one for one in every if one.kind != "trait"] + traits


def markdown(summary: Summary) -> str:
    """The summary as one Markdown table, smaller ones for what is told beside, and the footnote."""
    columns = _of_turns(summary, shown_turns(summary.turns)) | _other_columns(summary)
    grids = [_of_models(summary, columns), *_grids_beside(summary)]
    parts = ["\n".join(_markdown_lines(grid)) for grid in grids if grid.rows]
    parts += [f"**{_escaped(model.red)}**" for model in summary.models if model.red]
    return "\n\n".join([*parts, _footnote(summary)]) + "\n"


def _markdown_lines(grid: _Grid) -> Iterator[str]:
    yield "| " + " | ".join([grid.first, *map(_escaped, grid.headers)]) + " |"
    yield "|" + "---|" + "---:|" * len(grid.headers)
    for row in grid.rows:
        name = f"*{_escaped(row.name)}*" if row.aside else _escaped(row.name)
        cells = [f"{value} ({interval})" if interval else value for value, interval in row.cells]
        yield "| " + " | ".join([name, *cells]) + " |"


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace("|", "\\|")


_Cell: TypeAlias = tuple[str, str]
"""A value and its interval, as text; the interval is empty when there is none."""

_Columns: TypeAlias = dict[str, Callable[[ModelSummary], _Cell]]


@dataclass(frozen=True)
class _Row:
    """A row of a table; `aside` for a control, `below` when a line stands above it."""

    name: str
    cells: Sequence[_Cell]
    aside: bool = False
    below: bool = False


@dataclass(frozen=True)
class _Grid:
    """A table before it is drawn for a terminal or written as Markdown."""

    first: str
    headers: Sequence[str]
    rows: Sequence[_Row]


def _of_models(summary: Summary, columns: _Columns) -> _Grid:
    rows = [
        _Row(
            name=model.name,
            cells=[show(model) for show in columns.values()],
            aside=model.kind == "control",
            below=place == len(summary.of_kind("model")) > 0,
        )
        for place, model in enumerate(_ordered(summary))
    ]
    return _Grid("model", list(columns), rows)


def _of_turns(summary: Summary, turns: Sequence[int]) -> _Columns:
    def level(turn: int) -> Callable[[ModelSummary], _Cell]:
        return lambda model: _cell(model.al[turn - 1])

    columns: _Columns = {f"AL({turn})": level(turn) for turn in turns}
    columns["mean AL"] = lambda model: _cell(model.mean_al)
    return columns


def _other_columns(summary: Summary) -> _Columns:
    return _gain_columns(summary) | _rate_columns() | _measured(summary)


def _gain_columns(summary: Summary) -> _Columns:
    def difference(model: ModelSummary) -> _Cell:
        return (_IS_BASELINE, "") if model.name == summary.baseline else _cell(model.difference, signed=True)

    columns: _Columns = {"to baseline": difference} if _is_compared(summary) else {}
    return columns | {
        "gap": lambda model: _cell(model.gap, signed=True),
        "uptake": lambda model: _cell(model.uptake),
        "words": lambda model: (number(model.length_words, 0), ""),
    }


def _is_compared(summary: Summary) -> bool:
    return len(summary.of_kind("model")) > 1


def _rate_columns() -> _Columns:
    return {
        "IR": lambda model: _cell(model.ir, digits=3, signed=True),
        "N-IR": lambda model: _cell(model.n_ir, digits=3, signed=True),
        "R2": lambda model: _cell(model.r2),
    }


def _measured(summary: Summary) -> _Columns:
    """Columns of what was measured with any model."""
    columns: _Columns = {
        "first 4": lambda model: _cell(model.reached.turn if model.reached else None, digits=0),
        "never 4": lambda model: _cell(model.reached.never if model.reached else None),
        "mind-reading": lambda model: _cell(model.mind_reading),
        "helpful": lambda model: _cell(model.helpfulness),
        "true": lambda model: _cell(model.induction.mean_precision if model.induction else None),
        "noticed": lambda model: _cell(model.induction.mean_recall if model.induction else None),
    }
    nothing = (UNDEFINED, "")
    return {name: show for name, show in columns.items() if any(show(model) != nothing for model in summary.models)}


def _grids_beside(summary: Summary) -> tuple[_Grid, ...]:
    return _pair_grid(summary), _counterfactual_grid(summary), _missing_grid(summary)


def _pair_grid(summary: Summary) -> _Grid:
    """Every pair of models; two alone are told by the difference to the baseline."""
    models = [model.name for model in summary.of_kind("model")]
    rows = [
        _Row(
            name=f"{pair.second} \N{MINUS SIGN} {pair.first}",
            cells=[
                _cell(pair.mean_al, signed=True),
                (_p(pair.mean_al.p), ""),
                _cell(pair.ir, digits=3, signed=True),
                (_p(pair.ir.p), ""),
                (_turns_that_differ(pair), ""),
            ],
        )
        for pair in summary.pairs
        if len(models) > 2 and pair.first in models and pair.second in models
    ]
    return _Grid("pair", ["mean AL", "p", "IR", "p", "turns"], rows)


def _p(value: float | None) -> str:
    if value is None:
        return UNDEFINED
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _turns_that_differ(pair: PairDifference) -> str:
    """How many turns differ, corrected for their number, out of all."""
    return f"{sum(turn.p is not None and turn.p < 0.05 for turn in pair.al)}/{len(pair.al)}"


def _counterfactual_grid(summary: Summary) -> _Grid:
    rows = [
        _Row(
            name=f"{control.name} for {model.name}",
            cells=[_cell(control.mean_al), _cell(control.difference, signed=True)],
            aside=True,
        )
        for model in summary.models
        for control in model.counterfactuals
    ]
    return _Grid("in the model's place", ["mean AL", "model minus control"], rows)


def _missing_grid(summary: Summary) -> _Grid:
    compared = _is_compared(summary)
    rows = [
        _Row(
            name=model.name,
            cells=[
                (f"{model.missing_share:.1%}" if model.missing_share is not None else UNDEFINED, ""),
                (_between(model.bounds), ""),
                *([(_between(model.difference_bounds, signed=True), "")] if compared else []),
            ],
            aside=model.kind == "control",
        )
        for model in _ordered(summary)
        if model.bounds or model.difference_bounds
    ]
    beside = ["to baseline, at worst or best"] if compared else []
    return _Grid("missing verdicts", ["share", "mean AL, all 1 or 5", *beside], rows)


def _between(bounds: Bounds | None, *, signed: bool = False) -> str:
    if bounds is None:
        return UNDEFINED
    return _range(bounds.low, bounds.high, signed=signed)


def _terminal_table(grid: _Grid, first: int | None = None) -> Table:
    terminal = Table(box=HORIZONTALS, show_edge=False, pad_edge=False, padding=(0, 0, 0, _GAP - 1))
    longest = first or (_LONGEST_NAME if grid.first == "model" else None)
    terminal.add_column(grid.first, max_width=longest, overflow="fold")
    for header in grid.headers:
        # Text, because a name with square brackets is not markup.
        terminal.add_column(Text(header), justify="right", no_wrap=first is None)
    for row in grid.rows:
        if row.below:
            terminal.add_section()
        terminal.add_row(Text(row.name), *map(_stacked, row.cells))
    return terminal


def _stacked(cell: _Cell) -> Text:
    """The interval under its value: beside it, seven columns would not fit into a terminal."""
    value, interval = cell
    return Text.assemble(value, ("\n" + interval, "dim")) if interval else Text(value)


def _ordered(summary: Summary) -> tuple[ModelSummary, ...]:
    return summary.of_kind("model") + summary.of_kind("control")


def _cell(estimate: Estimate | None, *, digits: int = 2, signed: bool = False) -> _Cell:
    if estimate is None or estimate.value is None:
        return UNDEFINED, ""
    value = number(estimate.value, digits, signed=signed)
    if estimate.low is None or estimate.high is None:
        return value, ""
    return value, _range(estimate.low, estimate.high, digits, signed=signed)


def _range(low: float, high: float, digits: int = 2, *, signed: bool = False) -> str:
    # In words: before a number that may be negative a dash would read as a minus.
    return " to ".join(number(end, digits, signed=signed) for end in (low, high))


def _footnote(summary: Summary) -> str:
    world = summary.world.rstrip(".")
    cases = summary.models[0].cases
    missing = sum(model.missing for model in summary.models)
    turns = "1 turn" if summary.turns == 1 else f"{summary.turns} turns"
    return (
        f"{world}. {cases} held-out persons, {turns}. Intervals: 95%, from {summary.resamples:,} "
        f"resamples of {_resampled(summary)} (seed {summary.seed}).{_of_baseline(summary)} "
        f"Verdicts missing: {missing}.{_noise(summary)}"
    )


def _of_baseline(summary: Summary) -> str:
    """Which model is the baseline, and why."""
    if not _is_compared(summary):
        return ""
    why = ""
    if summary.baseline == _UNTRAINED:
        why = ", the model before training"
    elif summary.baseline == summary.of_kind("model")[0].name:
        why = ", the first of the models"
    return f" Baseline: {summary.baseline}{why}."


def _resampled(summary: Summary) -> str:
    counted = [(summary.profiles, "profiles"), (summary.personalities, "personalities")]
    shared = [f"{count} {name}" for count, name in counted if count is not None]
    return " and ".join(shared) or "persons"


def _noise(summary: Summary) -> str:
    floors = [model.noise for model in summary.models if model.noise is not None]
    known = [floor.difference.value for floor in floors if floor.difference.value is not None]
    if not known:
        return ""
    return f" Noise: the mean AL of a person differs by {number(max(known))} from one run to the next."
