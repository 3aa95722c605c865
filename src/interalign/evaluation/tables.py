"""A summary as tables: for a terminal, with what stands in them in words, and as Markdown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

from rich.box import HORIZONTALS
from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from interalign.evaluation.compare import differing_turns
from interalign.evaluation.legend import meanings
from interalign.evaluation.measures import IMPERSONAL, Bounds
from interalign.evaluation.notation import (
    UNDEFINED,
    ends_and_middle,
    interval,
    markdown_text,
    number,
    p_value,
    shown_turns,
)
from interalign.evaluation.statistics import Estimate
from interalign.evaluation.summary import ModelSummary, PairDifference, Summary

__all__ = ["footnote", "markdown", "stacked", "table"]

_IS_BASELINE = "baseline"
_UNTRAINED = "base"
"""What runs call the model before training."""

_GAP = 2
_LONGEST_NAME = 14
"""Columns of a terminal; a longer name is folded."""

_WHY = {
    "gap": "no reply was judged for a stranger",
    "uptake": "no user complained",
    "listening": "no complaint can be compared",
    "words": "there are no replies",
    "to baseline": "no verdict",
    "first 4": "half or more never get there",
}
"""Why a column may have no value."""


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
    parts += [Text(note, style="yellow") for note in _notes(summary)]
    parts += [_legend(summary, grids), Text(footnote(summary), style="dim")]
    return stacked(parts)


def stacked(parts: Iterable[RenderableType]) -> Table:
    """Parts below each other, with an empty line between."""
    whole = Table.grid()
    for place, part in enumerate(parts):
        if place:
            whole.add_row("")
        whole.add_row(part)
    return whole


def _notes(summary: Summary) -> list[str]:
    """What is to be known before the numbers are used."""
    return [*(model.warning for model in summary.models if model.warning), *summary.notes]


def _shown_columns(summary: Summary, width: int) -> _Columns:
    """All columns that hold anything; of the levels fewer where they do not fit beside each other."""
    columns = _of_turns(summary, shown_turns(summary.turns))
    if _first_width(summary) + sum(_width(summary, name, show) for name, show in columns.items()) > width:
        columns = _of_turns(summary, ends_and_middle(summary.turns))
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


def markdown(summary: Summary) -> str:
    """The summary as one Markdown table, smaller ones for what is told beside, and the footnote."""
    columns = _of_turns(summary, shown_turns(summary.turns)) | _other_columns(summary)
    grids = [_of_models(summary, columns), *_grids_beside(summary)]
    parts = ["\n".join(_markdown_lines(grid)) for grid in grids if grid.rows]
    parts += [f"**{markdown_text(model.red)}**" for model in summary.models if model.red]
    parts += [markdown_text(note) for note in _notes(summary)]
    return "\n\n".join([*parts, markdown_text(footnote(summary))]) + "\n"


def _markdown_lines(grid: _Grid) -> Iterator[str]:
    yield "| " + " | ".join([grid.first, *map(markdown_text, grid.headers)]) + " |"
    yield "|" + "---|" + "---:|" * len(grid.headers)
    for row in grid.rows:
        name = f"*{markdown_text(row.name)}*" if row.aside else markdown_text(row.name)
        cells = [f"{value} ({between})" if between else value for value, between in row.cells]
        yield "| " + " | ".join([name, *cells]) + " |"


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
    columns |= {
        "gap": lambda model: _cell(model.gap, signed=True),
        "uptake": lambda model: _cell(model.uptake),
    }
    if any(model.listening for model in summary.models):
        columns["listening"] = lambda model: _cell(model.listening, signed=True)
    return columns | {
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
    if any(model.cut and model.cut.share for model in summary.models):
        columns["cut"] = lambda model: (number(model.cut.share if model.cut else None), "")
    nothing = (UNDEFINED, "")
    return {name: show for name, show in columns.items() if any(show(model) != nothing for model in summary.models)}


def _grids_beside(summary: Summary) -> tuple[_Grid, ...]:
    return _pair_grid(summary), _counterfactual_grid(summary), _missing_grid(summary), _reason_grid(summary)


def _pair_grid(summary: Summary) -> _Grid:
    """Every pair of models; two alone are told by the difference to the baseline."""
    models = [model.name for model in summary.of_kind("model")]
    rows = [
        _Row(
            name=f"{pair.second} \N{MINUS SIGN} {pair.first}",
            cells=[
                _cell(pair.mean_al, signed=True),
                (p_value(pair.mean_al.p), ""),
                _cell(pair.ir, digits=3, signed=True),
                (p_value(pair.ir.p), ""),
                (_turns_that_differ(pair), ""),
            ],
        )
        for pair in summary.pairs
        if len(models) > 2 and pair.first in models and pair.second in models
    ]
    return _Grid("pair", ["mean AL", "p", "IR", "p", "turns"], rows)


def _turns_that_differ(pair: PairDifference) -> str:
    """How many turns differ, corrected for their number, out of all."""
    return f"{len(differing_turns(pair))}/{len(pair.al)}"


def _counterfactual_grid(summary: Summary) -> _Grid:
    swapped = any(control.gap for model in summary.models for control in model.counterfactuals)
    rows = [
        _Row(
            name=f"{control.name} for {model.name}",
            cells=[
                _cell(control.mean_al),
                _cell(control.difference, signed=True),
                *([_cell(model.gap_above if control.name in IMPERSONAL else None, signed=True)] if swapped else []),
            ],
            aside=True,
        )
        for model in summary.models
        for control in model.counterfactuals
    ]
    beyond = ["gap beyond it"] if swapped else []
    return _Grid("in the model's place", ["mean AL", "model minus control", *beyond], rows)


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


def _reason_grid(summary: Summary) -> _Grid:
    """Why verdicts are missing, the commonest reason of each model first."""
    rows = [
        _Row(name=f"{model.name}: {reason}", cells=[(f"{count:,}", "")], aside=model.kind == "control")
        for model in _ordered(summary)
        for reason, count in model.lacking.items()
    ]
    return _Grid("why verdicts are missing", ["verdicts"], rows)


def _between(bounds: Bounds | None, *, signed: bool = False) -> str:
    if bounds is None:
        return UNDEFINED
    return interval(bounds.low, bounds.high, signed=signed)


def _terminal_table(grid: _Grid) -> Table:
    terminal = Table(box=HORIZONTALS, show_edge=False, pad_edge=False, padding=(0, 0, 0, _GAP - 1))
    longest = _LONGEST_NAME if grid.first == "model" else None
    terminal.add_column(grid.first, max_width=longest, overflow="fold")
    for header in grid.headers:
        # Text, because a name with square brackets is not markup.
        terminal.add_column(Text(header), justify="right", no_wrap=True)
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
    return value, interval(estimate.low, estimate.high, digits, signed=signed)


def footnote(summary: Summary) -> str:
    """Whose users and judge, how many cases, and how sure: what stands under every table."""
    world = summary.world.rstrip(".")
    cases = summary.models[0].cases
    missing = sum(model.missing for model in summary.models)
    people = "1 held-out person" if cases == 1 else f"{cases} held-out persons"
    turns = "1 turn" if summary.turns == 1 else f"{summary.turns} turns"
    return (
        f"{world}. {people}, {turns}. Intervals: 95%, from {summary.resamples:,} "
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
