"""From judged replies to one summary per model, as data, as a terminal table and as Markdown.

Cases are paired by persona: every model answers the same people, or there is no summary. A reply without a verdict is
missing: it is counted, it has no weight, and it never becomes the lowest score.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from pydantic import Field
from rich.box import HORIZONTALS
from rich.table import Table
from rich.text import Text

from interalign.errors import InputError
from interalign.evaluation.metrics import Floats
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.statistics import Estimate, ModelEstimates, Samples, bootstrap
from interalign.messages import Value

__all__ = [
    "UNDEFINED",
    "Kind",
    "ModelSummary",
    "Summary",
    "markdown",
    "number",
    "shown_turns",
    "summarise",
    "table",
]

Kind: TypeAlias = Literal["model", "control"]

UNDEFINED = "\N{EN DASH}"


class ModelSummary(Value):
    """All numbers of one model. `missing` counts the turns without a verdict out of cases x turns.

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


class Summary(Value):
    """What an evaluation found. `world` says in one sentence whose users and whose judge the numbers come from."""

    world: str
    turns: int
    baseline: str
    resamples: int
    seed: int
    models: tuple[ModelSummary, ...]

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
) -> Summary:
    """Summarise the rows of every model against `baseline`.

    Args:
        rows: the judged replies of each model, by its name.
        baseline: the model that differences are taken to.
        world: whose users and whose judge this was, in a few words.
        controls: which of the names are controls and not models under test.
        resamples: bootstrap resamples behind each interval.
        seed: seed of the resamples.

    Raises:
        InputError: there are no rows, the models did not answer the same people, a turn stands twice, or there are no
            rows of `baseline`.
    """
    _check(rows, baseline)
    cases = sorted({row.case for row in rows[baseline]})
    turns = max(row.turn for of_model in rows.values() for row in of_model)
    names = list(rows)
    samples = _samples(rows, cases, turns)
    estimates = bootstrap(samples, baseline=names.index(baseline), resamples=resamples, seed=seed)
    level = estimates[names.index(baseline)].mean_al.value
    models = tuple(
        _model_summary(
            name, "control" if name in controls else "model", rows[name], of_model, samples.scores[index], level
        )
        for index, (name, of_model) in enumerate(zip(names, estimates, strict=True))
    )
    return Summary(world=world, turns=turns, baseline=baseline, resamples=resamples, seed=seed, models=models)


def _model_summary(
    name: str, kind: Kind, rows: Sequence[TurnRow], estimates: ModelEstimates, scores: Floats, baseline: float | None
) -> ModelSummary:
    level = estimates.mean_al.value
    comparable = level is not None and baseline is not None and estimates.difference is not None
    return ModelSummary(
        name=name,
        kind=kind,
        cases=len(scores),
        missing=int(np.isnan(scores).sum()),
        **{field: getattr(estimates, field) for field in ModelEstimates.model_fields},
        relative=level / baseline - 1 if comparable and level is not None and baseline is not None else None,
        penalties=_penalties(rows),
        length_words=_length(rows),
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


def _samples(rows: Mapping[str, Sequence[TurnRow]], cases: Sequence[str], turns: int) -> Samples:
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
    return Samples(scores=scores, swapped=swapped, uptake=uptake)


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
    return tuple(range(1, turns + 1)) if turns <= 5 else (1, (turns + 1) // 2, turns)


def table(summary: Summary) -> Table:
    """The summary for a terminal of 80 columns: levels, what they say of the model, and how they change over turns."""
    whole = Table.grid()
    for columns in (_level_columns(summary), _gain_columns(), _rate_columns()):
        whole.add_row(_terminal_table(summary, columns))
    whole.add_row(Text(_footnote(summary), style="dim"))
    return whole


def markdown(summary: Summary) -> str:
    """The summary as one Markdown table with its footnote."""
    columns = {**_level_columns(summary), **_gain_columns(), **_rate_columns()}
    lines = [
        "| " + " | ".join(["model", *columns]) + " |",
        "|" + "---|" + "---:|" * len(columns),
    ]
    for model in _ordered(summary):
        name = model.name.replace("\\", "\\\\").replace("|", "\\|")
        cells = [f"*{name}*" if model.kind == "control" else name]
        for column in columns.values():
            value, interval = column(model)
            cells.append(f"{value} ({interval})" if interval else value)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _footnote(summary), ""])


_Cell: TypeAlias = tuple[str, str]
"""A value and its interval, as text; the interval is empty when there is none."""

_Columns: TypeAlias = dict[str, Callable[[ModelSummary], _Cell]]


def _level_columns(summary: Summary) -> _Columns:
    def level(turn: int) -> Callable[[ModelSummary], _Cell]:
        return lambda model: _cell(model.al[turn - 1])

    columns: _Columns = {f"AL({turn})": level(turn) for turn in shown_turns(summary.turns)}
    columns["mean AL"] = lambda model: _cell(model.mean_al)
    return columns


def _gain_columns() -> _Columns:
    return {
        "to baseline": lambda model: _cell(model.difference, signed=True),
        "gap": lambda model: _cell(model.gap, signed=True),
        "uptake": lambda model: _cell(model.uptake),
        "words": lambda model: (number(model.length_words, 0), ""),
    }


def _rate_columns() -> _Columns:
    return {
        "IR": lambda model: _cell(model.ir, signed=True),
        "N-IR": lambda model: _cell(model.n_ir, signed=True),
        "R2": lambda model: _cell(model.r2),
    }


def _terminal_table(summary: Summary, columns: _Columns) -> Table:
    terminal = Table(box=HORIZONTALS, padding=0)
    terminal.add_column("model", width=14, overflow="fold")
    for header in columns:
        terminal.add_column(header, justify="right", no_wrap=True)
    for kind in ("model", "control"):
        terminal.add_section()
        for model in (model for model in summary.models if model.kind == kind):
            # Text, because a name with square brackets is not markup.
            terminal.add_row(Text(model.name), *(_stacked(show(model)) for show in columns.values()))
    return terminal


def _stacked(cell: _Cell) -> Text:
    """The interval under its value: beside it, seven columns would not fit into a terminal."""
    value, interval = cell
    return Text.assemble(value, ("\n" + interval, "dim")) if interval else Text(value)


def _ordered(summary: Summary) -> tuple[ModelSummary, ...]:
    return summary.of_kind("model") + summary.of_kind("control")


def _cell(estimate: Estimate | None, *, signed: bool = False) -> _Cell:
    if estimate is None or estimate.value is None:
        return UNDEFINED, ""
    value = number(estimate.value, signed=signed)
    if estimate.low is None or estimate.high is None:
        return value, ""
    # Before a number that may be negative a dash would read as a minus.
    between = " to " if signed else "\N{EN DASH}"
    return value, between.join(number(end, signed=signed) for end in (estimate.low, estimate.high))


def _footnote(summary: Summary) -> str:
    world = summary.world.rstrip(".")
    cases = summary.models[0].cases
    missing = sum(model.missing for model in summary.models)
    return (
        f"{world}. {cases} held-out persons, {summary.turns} turns. Intervals: 95 %, from "
        f"{summary.resamples:,} resamples of persons (seed {summary.seed}). Baseline: {summary.baseline}. "
        f"Verdicts missing: {missing}."
    )
