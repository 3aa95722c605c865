"""The tables of the page on what an evaluation measured, as data: one shape for all of them, and none for what was not.

A column or a row stands where something was measured. A share is told in percent, everything else as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from interalign.evaluation import notation
from interalign.evaluation.compare import differing_turns, turns_in_words
from interalign.evaluation.groups import GroupKind
from interalign.evaluation.measures import SCALE, Bounds, CounterfactualLevels, GroupLevel
from interalign.evaluation.notation import UNDEFINED, number, p_value, shown_turns
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.statistics import Estimate
from interalign.evaluation.summary import ModelSummary, PairDifference, Summary
from interalign.messages import Value
from interalign.report.shell import percent

__all__ = [
    "MOST_TRAITS",
    "Cell",
    "Part",
    "Row",
    "Table",
    "beside_table",
    "counterfactual_table",
    "group_table",
    "induction_table",
    "interval",
    "missing_table",
    "pair_table",
    "reason_table",
    "turn_table",
]

MOST_TRAITS = 10
"""Of the traits so many are shown, those of most persons."""

_GAPS = ("Persona gap", "Model's gap minus control's")

_KINDS: Mapping[GroupKind, str] = {"age": "Age", "difficulty": "Difficulty", "trait": "Traits"}


class Cell(Value):
    """A value as it is shown, its interval in small print, and how far its bar goes, from 0 to 1, if it has one."""

    value: str = UNDEFINED
    interval: str = ""
    bar: float | None = None


class Row(Value):
    """A row. `red`: the numbers are not to be trusted; `aside`: they are those of a control."""

    name: str
    cells: tuple[Cell, ...]
    tag: str = ""
    red: bool = False
    aside: bool = False


class Part(Value):
    """Rows under one title, which may be empty."""

    rows: tuple[Row, ...]
    title: str = ""


class Table(Value):
    """A table; `label` says what it is to who cannot see it."""

    label: str
    first: str
    headers: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def length(self) -> int:
        """How many rows there are."""
        return sum(len(part.rows) for part in self.parts)


_Columns: TypeAlias = dict[str, Callable[[ModelSummary], Cell]]


def interval(estimate: Estimate | None, digits: int = 2, signed: bool = False) -> str:
    """The interval alone, empty when there is none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return notation.interval(estimate.low, estimate.high, digits, signed=signed)


def turn_table(summary: Summary) -> Table | None:
    """AL at every turn, where the table of all numbers shows some turns only."""
    if len(shown_turns(summary.turns)) == summary.turns:
        return None
    return Table(
        label="Alignment level of every model at every turn",
        first="Model",
        headers=tuple(f"AL({turn})" for turn in range(1, summary.turns + 1)),
        parts=(Part(rows=tuple(_row(model, [_cell(level) for level in model.al]) for model in _ordered(summary))),),
    )


def pair_table(summary: Summary) -> Table | None:
    """Every pair of models, controls left out; None where there is no pair."""
    models = {model.name: model for model in summary.of_kind("model")}
    pairs = [pair for pair in summary.pairs if pair.first in models and pair.second in models]
    if not pairs:
        return None
    return Table(
        label="Every pair of models with its differences",
        first="Second \N{MINUS SIGN} first",
        headers=("Mean AL", "p", "IR", "p", "Turns that differ"),
        parts=(
            Part(
                rows=tuple(_pair_row(pair, bool(models[pair.first].red or models[pair.second].red)) for pair in pairs)
            ),
        ),
    )


def _pair_row(pair: PairDifference, red: bool) -> Row:
    cells = (
        _cell(pair.mean_al, signed=True),
        Cell(value=p_value(pair.mean_al.p)),
        _cell(pair.ir, digits=3, signed=True),
        Cell(value=p_value(pair.ir.p)),
        Cell(value=turns_in_words(differing_turns(pair))),
    )
    return Row(name=f"{pair.second} \N{MINUS SIGN} {pair.first}", cells=cells, red=red)


def beside_table(summary: Summary) -> Table | None:
    """What was measured beside alignment with any model."""
    any_cut = any(model.cut and model.cut.share for model in summary.models)
    columns: _Columns = {
        "Mean AL": lambda model: _cell(model.mean_al),
        "Helpfulness": lambda model: _cell(model.helpfulness),
        "Persona gap": lambda model: _cell(model.gap, signed=True),
        "Beyond a plain reply's": lambda model: _cell(model.gap_above, signed=True),
        "Listening": lambda model: _cell(model.listening, signed=True),
        "Mind-reading": lambda model: _share(model.mind_reading),
        "Turns until AL \N{GREATER-THAN OR EQUAL TO}\N{NO-BREAK SPACE}4": lambda model: _first_met(
            model, summary.turns
        ),
        "Never reached": lambda model: _share(model.reached.never if model.reached else None),
        "Cut replies": lambda model: Cell(value=percent(model.cut.share)) if model.cut and any_cut else Cell(),
        "Run to run": lambda model: _cell(model.noise.difference if model.noise else None),
    }
    measured = {name: show for name, show in columns.items() if _any(summary, show)}
    if len(measured) < 2:
        return None
    return _of_models(summary, "What was measured beside alignment", measured)


def _first_met(model: ModelSummary, turns: int) -> Cell:
    if model.reached is None:
        return Cell()
    # Undefined when half of the persons or more are never met.
    return _cell(model.reached.turn, digits=0) if model.reached.turn.value is not None else Cell(value=f"> {turns}")


def induction_table(summary: Summary) -> Table | None:
    """What the models say that they have learnt, turn by turn and over all turns."""
    asked = [
        turn
        for turn in range(summary.turns)
        if any(_known(one.induction.precision[turn]) for one in summary.models if one.induction)
        or any(_known(one.induction.recall[turn]) for one in summary.models if one.induction)
    ]
    if not asked:
        return None
    columns: _Columns = {}
    for name, field in (("True", "precision"), ("Noticed", "recall")):
        columns |= {f"{name}, turn {turn + 1}": _at(turn, field) for turn in asked}
        if len(asked) > 1:
            columns[f"{name}, in all"] = _in_all(field)
    return _of_models(summary, "What the models say that they have learnt", columns)


def _at(turn: int, field: str) -> Callable[[ModelSummary], Cell]:
    return lambda model: _share(getattr(model.induction, field)[turn] if model.induction else None)


def _in_all(field: str) -> Callable[[ModelSummary], Cell]:
    return lambda model: _share(getattr(model.induction, f"mean_{field}") if model.induction else None)


def counterfactual_table(summary: Summary) -> Table | None:
    """How controls answered in each model's place, at the turns where they were asked."""
    models = [model for model in summary.models if model.counterfactuals]
    asked = [
        turn
        for turn in range(summary.turns)
        if any(_known(control.al[turn]) for model in models for control in model.counterfactuals)
    ]
    if not asked:
        return None
    return Table(
        label="Other replies in the place of each model's",
        first="Who answers",
        headers=(
            *(f"AL({turn + 1})" for turn in asked),
            "Mean AL",
            "Model minus control",
            *(_GAPS if any(control.gap for model in models for control in model.counterfactuals) else ()),
        ),
        parts=tuple(Part(title=model.name, rows=_replies(model, asked)) for model in models),
    )


def _replies(model: ModelSummary, asked: Sequence[int]) -> tuple[Row, ...]:
    first = model.counterfactuals[0]
    # The mean over the turns that the control has: the difference is taken there.
    own = _sum(first.mean_al, first.difference)
    itself = [*(_cell(model.al[turn]) for turn in asked), Cell(value=number(own)), Cell(value="")]
    gaps = [control.gap for control in model.counterfactuals if control.gap]
    if gaps:
        itself += [Cell(value=number(_sum(gaps[0], model.gap_above), signed=True)), Cell(value="")]
    return (
        Row(name="the model itself", cells=tuple(itself), red=bool(model.red)),
        *(
            Row(
                name=control.name,
                cells=(
                    *(_cell(control.al[turn]) for turn in asked),
                    _cell(control.mean_al),
                    _cell(control.difference, signed=True),
                    *(_gaps(model, control) if gaps else ()),
                ),
                aside=True,
            )
            for control in model.counterfactuals
        ),
    )


def _sum(one: Estimate | None, other: Estimate | None) -> float | None:
    if one is None or other is None or one.value is None or other.value is None:
        return None
    return one.value + other.value


def _gaps(model: ModelSummary, control: CounterfactualLevels) -> tuple[Cell, Cell]:
    """A control's own gap, and what the model's is beyond it, where the control was judged for a stranger."""
    if control.gap is None:
        return Cell(value=""), Cell(value="")
    return _cell(control.gap, signed=True), _cell(model.gap_above, signed=True)


def group_table(summary: Summary) -> Table | None:
    """Mean AL of each model with groups of people; a group that everybody belongs to is none."""
    models = summary.of_kind("model")
    levels = {(model.name, one.kind, one.name): one.mean_al for model in models for one in model.groups}
    groups = [one for one in models[0].groups if one.cases < models[0].cases] if models else []
    parts = []
    for kind, title in _KINDS.items():
        of_kind = [one for one in groups if one.kind == kind]
        if kind == "trait":
            of_kind = sorted(of_kind, key=lambda one: -one.cases)[:MOST_TRAITS]
        rows = tuple(_group_row(one, [levels.get((model.name, kind, one.name)) for model in models]) for one in of_kind)
        parts += [Part(title=title, rows=rows)] if rows else []
    if not parts:
        return None
    return Table(
        label="Mean alignment level with groups of people",
        first="Group",
        headers=("Persons", *(model.name for model in models)),
        parts=tuple(parts),
    )


def _group_row(group: GroupLevel, levels: Sequence[Estimate | None]) -> Row:
    low, high = SCALE
    cells = [
        _cell(level).model_copy(
            update={"bar": None if level is None or level.value is None else (level.value - low) / (high - low)}
        )
        for level in levels
    ]
    return Row(name=group.name, cells=(Cell(value=f"{group.cases:,}"), *cells))


def missing_table(summary: Summary, rows: Mapping[str, Sequence[TurnRow]]) -> Table | None:
    """Which verdicts are missing and why, and between what the numbers lie; None where none is missing."""
    models = [model for model in _ordered(summary) if model.missing or model.difference_bounds]
    if not any(model.missing for model in models):
        return None
    return Table(
        label="Missing verdicts, and between what the numbers lie whatever they would have been",
        first="Model",
        headers=(
            "Missing", "Share", "Turn not played", "No verdict", "Mean AL, at worst and best",
            f"To {summary.baseline}, at worst and best",
        ),
        parts=(Part(rows=tuple(_row(model, _missing(model, rows[model.name])) for model in models)),),
    )  # fmt: skip


def reason_table(summary: Summary) -> Table | None:
    """Why verdicts are missing, model by model, the commonest reason first; None where none is missing."""
    models = [model for model in _ordered(summary) if model.lacking]
    if not models:
        return None
    parts = tuple(
        Part(
            title=model.name,
            rows=tuple(
                Row(
                    name=reason,
                    cells=(Cell(value=f"{count:,}"), Cell(value=percent(count / model.missing))),
                    aside=model.kind == "control",
                )
                for reason, count in model.lacking.items()
            ),
        )
        for model in models
    )
    return Table(
        label="Why verdicts are missing", first="Reason", headers=("Verdicts", "Share of the missing"), parts=parts
    )


def _missing(model: ModelSummary, rows: Sequence[TurnRow]) -> list[Cell]:
    why = Counter(row.failure is None for row in rows if row.repeat == 0 and row.verdict is None)
    return [
        Cell(value=f"{model.missing:,}"),
        Cell(value=percent(model.missing_share)),
        # A turn without a row was not played either.
        Cell(value=f"{model.missing - why[True]:,}"),
        Cell(value=f"{why[True]:,}"),
        _between(model.bounds),
        _between(model.difference_bounds, signed=True),
    ]


def _between(bounds: Bounds | None, *, signed: bool = False) -> Cell:
    if bounds is None:
        return Cell()
    return Cell(value=" to ".join(number(end, signed=signed) for end in (bounds.low, bounds.high)))


def _of_models(summary: Summary, label: str, columns: _Columns) -> Table:
    """A table of the models, and of the controls of which any of it is known."""
    kept = [
        _row(model, [show(model) for show in columns.values()])
        for model in _ordered(summary)
        if model.kind == "model" or any(show(model).value != UNDEFINED for show in columns.values())
    ]
    return Table(label=label, first="Model", headers=tuple(columns), parts=(Part(rows=tuple(kept)),))


def _row(model: ModelSummary, cells: Sequence[Cell]) -> Row:
    aside = model.kind == "control"
    return Row(name=model.name, cells=tuple(cells), tag="control" if aside else "", red=bool(model.red), aside=aside)


def _ordered(summary: Summary) -> tuple[ModelSummary, ...]:
    return summary.of_kind("model") + summary.of_kind("control")


def _any(summary: Summary, show: Callable[[ModelSummary], Cell]) -> bool:
    return any(show(model).value != UNDEFINED for model in summary.models)


def _known(estimate: Estimate) -> bool:
    return estimate.value is not None


def _cell(estimate: Estimate | None, *, digits: int = 2, signed: bool = False) -> Cell:
    value = None if estimate is None else estimate.value
    return Cell(value=number(value, digits, signed=signed), interval=interval(estimate, digits, signed))


def _share(estimate: Estimate | None) -> Cell:
    if estimate is None or estimate.value is None:
        return Cell()
    if estimate.low is None or estimate.high is None:
        return Cell(value=percent(estimate.value))
    ends = f"{percent(estimate.low).split(chr(0xA0))[0]} to {percent(estimate.high)}"
    return Cell(value=percent(estimate.value), interval=ends)
