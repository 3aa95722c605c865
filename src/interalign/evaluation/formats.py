"""A finished evaluation in the formats that other tools, papers and model cards take.

Nothing is computed here: every number is one of the summary's. What is undefined stays so in each format (null, an
empty cell, a dash) and is never 0; names are other people's texts, and are escaped in each format.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from types import UnionType
from typing import Literal, NamedTuple, TypeAlias, Union, get_args, get_origin

from interalign.errors import InputError, MissingExtra
from interalign.evaluation.notation import interval, number, on_one_line, shown_turns
from interalign.evaluation.statistics import Estimate, PairEstimates, holm
from interalign.evaluation.summary import Kind, ModelSummary, Summary
from interalign.evaluation.tables import footnote, markdown
from interalign.messages import Value, well_formed
from interalign.run import writing

__all__ = [
    "FORMATS",
    "TEXTS",
    "Format",
    "Measure",
    "as_csv",
    "as_json",
    "as_latex",
    "as_model_index",
    "tidy",
    "write_parquet",
]

Format: TypeAlias = Literal["json", "csv", "parquet", "markdown", "latex", "model-index"]

FORMATS: Mapping[Format, str] = {
    "json": "the whole summary",
    "csv": "one row per model, metric and turn",
    "parquet": "the rows of csv, typed",
    "markdown": "a table of models, and smaller ones beside",
    "latex": "a table for a paper (booktabs)",
    "model-index": "YAML for the model card of one model",
}
"""What each format holds."""

_ALPHA = 0.05
_NOT_IN_YAML = re.compile(r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # Some language packages make the straight quote a command of theirs.
    '"': "''",
    "`": r"\textasciigrave{}",
    "\N{EN DASH}": r"\textendash{}",
}
# Two hyphens in a row would be printed as one dash.
_HYPHENS = re.compile(r"-(?=-)")


class Measure(Value):
    """One number of one model, with its 95 % interval where it has one."""

    model: str
    kind: Kind
    metric: str
    """The field of the summary; where that holds several numbers, their names follow after dots."""
    turn: int | None = None
    """The turn that the number is of; None for one of the whole conversation."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    """Of no difference, where the number is a difference that was tested."""


def tidy(summary: Summary) -> tuple[Measure, ...]:
    """All numbers of all models, one a row: `al` once for each turn, everything else once."""
    return tuple(
        Measure(
            model=model.name,
            kind=model.kind,
            metric=metric,
            turn=turn,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            p=estimate.p,
        )
        for model in (*summary.of_kind("model"), *summary.of_kind("control"))
        for field, info in ModelSummary.model_fields.items()
        if not _is_text(info.annotation)
        for metric, turn, estimate in _numbers(field, getattr(model, field))
    )


def _numbers(name: str, held: object, turn: int | None = None) -> Iterator[tuple[str, int | None, Estimate]]:
    """Every number in a field; texts and flags are none."""
    if isinstance(held, Estimate):
        yield name, turn, held
    elif held is None or (isinstance(held, int | float) and not isinstance(held, bool)):
        yield name, turn, Estimate(value=held)
    elif isinstance(held, Value):
        for field, info in type(held).model_fields.items():
            if not _is_text(info.annotation):
                yield from _numbers(f"{name}.{field}", getattr(held, field), turn)
    elif isinstance(held, Mapping):
        for key, one in held.items():
            yield from _numbers(f"{name}.{key}", one, turn)
    elif isinstance(held, tuple):
        for place, one in enumerate(held, 1):
            # What stands in a row is of one turn each, or has a name of its own.
            named = isinstance(one, Value) and not isinstance(one, Estimate)
            yield from _numbers(f"{name}.{_name_of(one)}", one) if named else _numbers(name, one, place)


def _is_text(annotation: object) -> bool:
    several = get_origin(annotation) in (Literal, Union, UnionType)
    kinds = get_args(annotation) if several else (annotation,)
    return any(kind is str or isinstance(kind, str) for kind in kinds)


def _name_of(value: Value) -> str:
    fields = type(value).model_fields.items()
    return ".".join(str(getattr(value, field)) for field, info in fields if _is_text(info.annotation))


def as_json(summary: Summary) -> str:
    """The whole summary; undefined is null."""
    return summary.model_dump_json(indent=2) + "\n"


def as_csv(summary: Summary) -> str:
    """The rows of `tidy` with a header, in full precision (RFC 4180, with line feeds); undefined is empty."""
    fields = list(Measure.model_fields)
    rows = ([getattr(row, field) for field in fields] for row in tidy(summary))
    return "".join(map(_csv_line, (fields, *rows)))


def _csv_line(cells: Sequence[object]) -> str:
    # With a line feed alone as its line end the writer would leave carriage returns in a name unquoted.
    line = StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"


def write_parquet(path: Path, summary: Summary) -> None:
    """The rows of `tidy` as a Parquet file; undefined is null. The file's metadata says whose numbers these are.

    Raises:
        MissingExtra: pyarrow is not installed.
        StorageError: the file cannot be written.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("pyarrow", "train") from None

    text, real = pa.string(), pa.float64()
    schema = pa.schema(
        [("model", text), ("kind", text), ("metric", text), ("turn", pa.int32())]
        + [(name, real) for name in ("value", "low", "high", "p")],
        metadata={"interalign": summary.model_dump_json(exclude={"models", "pairs"})},
    )
    with writing(path) as place:
        parquet.write_table(pa.Table.from_pylist([row.model_dump() for row in tidy(summary)], schema=schema), place)


class _Column(NamedTuple):
    """A column of a table of models."""

    header: str
    of: Callable[[ModelSummary], Estimate | None]
    digits: int = 2
    signed: bool = False
    pair: Callable[[PairEstimates], Estimate] | None = None
    """The paired difference of two models, the second minus the first; None where there is none."""


def _columns(summary: Summary) -> tuple[_Column, ...]:
    def level(turn: int) -> Callable[[ModelSummary], Estimate | None]:
        return lambda model: model.al[turn - 1]

    def difference(turn: int) -> Callable[[PairEstimates], Estimate]:
        return lambda pair: pair.al[turn - 1]

    return (
        *(_Column(f"AL({turn})", level(turn), pair=difference(turn)) for turn in shown_turns(summary.turns)),
        _Column("mean AL", lambda model: model.mean_al, pair=lambda pair: pair.mean_al),
        _Column("to baseline", lambda model: model.difference, signed=True),
        _Column("IR", lambda model: model.ir, 3, signed=True, pair=lambda pair: pair.ir),
        _Column("N-IR", lambda model: model.n_ir, 3, signed=True),
        _Column("R2", lambda model: model.r2),
        _Column("gap", lambda model: model.gap, signed=True),
    )


def _best(summary: Summary, column: _Column) -> str | None:
    """The model that is shown to be above every other in a column; controls are not in the race.

    Its paired differences exclude 0, also when they are corrected for the number of all pairs, since it was chosen with
    hindsight. None: there is no such model, or too many verdicts are missing to say.
    """
    names = [model.name for model in summary.of_kind("model")]
    if column.pair is None or any(model.red for model in summary.of_kind("model")):
        return None
    pairs = [pair for pair in summary.pairs if {pair.first, pair.second} <= {*names}]
    differences = [column.pair(pair) for pair in pairs]
    beaten: dict[str, set[str]] = {name: set() for name in names}
    for pair, difference, p in zip(pairs, differences, holm([one.p for one in differences]), strict=True):
        if difference.value is not None and difference.excludes_zero and p is not None and p < _ALPHA:
            better, other = (pair.second, pair.first) if difference.value > 0 else (pair.first, pair.second)
            beaten[better].add(other)
    return next((name for name in names if len(names) > 1 and len(beaten[name]) == len(names) - 1), None)


def _caption(summary: Summary) -> str:
    red = [model.red for model in summary.models if model.red]
    warned = [model.warning for model in summary.models if model.warning]
    return " ".join([*red, *warned, *summary.notes, footnote(summary)])


def _said_of(best: Sequence[str | None]) -> list[str]:
    if best == [None] * len(best):
        return []
    return ["Bold: above every other model, by paired differences (95 \\% intervals; $p < 0.05$ after Holm)."]


def _interval(column: _Column, estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return interval(estimate.low, estimate.high, column.digits, signed=column.signed)


def as_latex(summary: Summary) -> str:
    r"""A `table` environment for a paper, intervals in small print under the values; needs `\usepackage{booktabs}`."""
    columns = _columns(summary)
    best = [_best(summary, column) for column in columns]
    rows: list[str] = []
    for kind in ("model", "control"):
        models = summary.of_kind(kind)
        rows += [r"\midrule"] if models else []
        for model in models:
            rows += _latex_rows(model, columns, best)
    caption = " ".join([_latex_text(_caption(summary)), *_said_of(best)])
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            r"\label{tab:interalign}",
            rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
            r"\toprule",
            " & ".join(["model", *(_latex_header(column.header) for column in columns)]) + r" \\",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _latex_rows(model: ModelSummary, columns: Sequence[_Column], best: Sequence[str | None]) -> list[str]:
    name = _latex_text(model.name)
    values = [rf"\textit{{{name}}}" if model.kind == "control" else name]
    intervals = [""]
    for column, ahead in zip(columns, best, strict=True):
        estimate = column.of(model)
        if estimate is None or estimate.value is None:
            values.append("--")
            intervals.append("")
            continue
        value = _latex_number(number(estimate.value, column.digits, signed=column.signed))
        values.append(rf"\textbf{{{value}}}" if model.name == ahead else value)
        between = _interval(column, estimate)
        intervals.append(rf"{{\scriptsize {_latex_number(between)}}}" if between else "")
    lines = [" & ".join(values) + r" \\"]
    return [*lines, " & ".join(intervals) + r" \\"] if any(intervals) else lines


def _latex_number(text: str) -> str:
    # A hyphen is no minus sign.
    return text.replace("-", "$-$")


def _latex_header(header: str) -> str:
    return header.replace("R2", "$R^2$")


def _latex_text(text: str) -> str:
    escaped = "".join(_TEX.get(character, character) for character in on_one_line(text))
    return _HYPHENS.sub("-{}", escaped)


def as_model_index(summary: Summary, model: str | None = None) -> str:
    """The `model-index` of a Hugging Face model card, to be put between the `---` lines of its README.md.

    A metric that is undefined is left out, since the format has no word for that. Each interval stands in the `args`
    of its metric, and what the numbers rest on in those of the dataset.

    Args:
        summary: The evaluation.
        model: Whose card; may be left out where one model beside the baseline was tested.

    Raises:
        InputError: there is no such model, several could be meant, or its numbers are not to be trusted: a card has no
            place to say so.
    """
    chosen = _chosen(summary, model)
    if chosen.red:
        raise InputError(
            f"{chosen.red} A model card would not say so.",
            mend="find out why verdicts are missing, and evaluate again.",
        )
    lines = ["model-index:", f"- name: {_yaml(chosen.name)}", "  results:"]
    lines += ["  - task:", "      type: text-generation", "      name: Adapting to the person in conversation"]
    lines += ["    dataset:", "      type: interalign", f"      name: {_yaml(on_one_line(summary.world))}"]
    lines += ["      split: heldout", "      args:"]
    facts = {"cases": chosen.cases, "turns": summary.turns, "missing_verdicts": chosen.missing, "seed": summary.seed}
    lines += [f"        {name}: {count}" for name, count in facts.items()]
    lines += [f"        baseline: {_yaml(summary.baseline)}", "    metrics:"]
    for type_, name, estimate in _card_metrics(summary, chosen):
        lines += _yaml_metric(type_, name, estimate)
    return "\n".join([*lines, ""])


def _chosen(summary: Summary, name: str | None) -> ModelSummary:
    models = {model.name: model for model in summary.of_kind("model")}
    known = ", ".join(models) or "none"
    if name is not None:
        if name not in models:
            raise InputError(f"There is no tested model {name!r}.", mend=f"name one of: {known}.")
        return models[name]
    others = [model for model in models.values() if model.name != summary.baseline] or list(models.values())
    if len(others) != 1:
        raise InputError("A model card is that of one model, and several were tested.", mend=f"name one of: {known}.")
    return others[0]


def _card_metrics(summary: Summary, model: ModelSummary) -> Iterator[tuple[str, str, Estimate]]:
    known = {
        ("mean_al", "Mean alignment level (1 to 5)"): model.mean_al,
        ("al_first", "Alignment level at the first turn"): model.al[0],
        ("al_last", f"Alignment level at turn {summary.turns}"): model.al[-1],
        ("improvement_rate", "Improvement rate (points per turn)"): model.ir,
        ("personalization_gap", "Personalization gap (points)"): model.gap,
        ("difference", "Mean alignment level, difference to the baseline"): model.difference,
    }
    for (type_, name), estimate in known.items():
        if estimate is not None and estimate.value is not None:
            yield type_, name, estimate


def _yaml_metric(type_: str, name: str, estimate: Estimate) -> list[str]:
    lines = [f"    - type: {type_}", f"      value: {number(estimate.value, 4)}", f"      name: {_yaml(name)}"]
    if estimate.low is not None and estimate.high is not None:
        lines += ["      args:", "        interval: 0.95"]
        lines += [f"        low: {number(estimate.low, 4)}", f"        high: {number(estimate.high, 4)}"]
    return lines


def _yaml(text: str) -> str:
    """A text as a quoted scalar: JSON's, which is YAML's as well, with what YAML does not let stand written out."""
    quoted = json.dumps(well_formed(text), ensure_ascii=False)
    return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)


TEXTS: Mapping[str, Callable[[Summary], str]] = {
    "json": as_json,
    "csv": as_csv,
    "markdown": markdown,
    "latex": as_latex,
    "model-index": as_model_index,
}
"""The formats that are text."""
