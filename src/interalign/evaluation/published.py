"""Alignment curves from anybody's table, so that published numbers can be computed again and compared with ours.

A table has the columns al1, al2, ..., one row a curve; whatever else stands in a row is a label and kept. An empty cell
is a turn without a score. Nothing is guessed: what is no number is refused with its place.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from interalign.errors import InputError
from interalign.evaluation.metrics import CurveMetrics, curve_metrics
from interalign.messages import Value

__all__ = ["Curve", "Label", "read_curves", "record_of"]

Label: TypeAlias = str | int | float | bool | None

_LEVEL = re.compile(r"al[ _]?\(?(\d{1,6})\)?", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d{1,3})?", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_JSON_LINES = (".jsonl", ".ndjson")


class Curve(Value):
    """AL(1) to AL(K) of one row, None for a turn without a score, and what else the row says."""

    labels: dict[str, Label]
    al: tuple[float | None, ...]

    @property
    def metrics(self) -> CurveMetrics:
        """All metrics of the curve."""
        return curve_metrics(self.al)


def record_of(curve: Curve) -> dict[str, Label]:
    """The labels, then mean_al, ir, r2, n_ir and n_r2, with None for what is undefined.

    A label that is called like a metric is kept as "given_" and its name.
    """
    found = curve.metrics.model_dump()
    labels = {f"given_{name}" if name in found else name: value for name, value in curve.labels.items()}
    return {**labels, **found}


def read_curves(path: Path) -> list[Curve]:
    """The curves of a table: comma, semicolon or tab separated with a header, or JSON lines (`.jsonl`, `.ndjson`).

    The columns may stand in any order. With semicolons, numbers may have decimal commas.

    Raises:
        InputError: the file cannot be read, has no curve or no column al1, lacks a column up to the last, has one
            twice, or a cell of it is neither a number nor empty.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", mend="name a file that can.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text.", mend="save the table as UTF-8.") from None
    json_lines = path.suffix.lower() in _JSON_LINES or text.lstrip()[:1] == "{"
    rows = list(_json_rows(path, text) if json_lines else _table_rows(path, text))
    if not rows:
        raise InputError(f"{path} has no curve.", mend="give one a row, below the header.")
    columns = _level_columns(path, list(dict.fromkeys(name for _, row in rows for name in row)))
    return [_curve(path, line, row, columns) for line, row in rows]


def _table_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Label]]]:
    """Each row below the header, with the line that it ends on."""
    delimiter = max("\t;,", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells under {len(header)} columns.",
                    mend="leave a cell empty where there is nothing, and quote a text that has the separator in it.",
                )
            yield reader.line_num, dict(zip(header, _points(cells, header, delimiter), strict=True))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}.", mend="close the quotes.") from None


def _points(cells: Sequence[str], header: Sequence[str], delimiter: str) -> list[str]:
    """The cells, with a decimal point where a level has a comma that cannot separate anything."""
    return [
        cell.strip().replace(",", ".")
        if delimiter != "," and _LEVEL.fullmatch(name) and _DECIMAL_COMMA.fullmatch(cell.strip())
        else cell.strip()
        for name, cell in zip(header, cells, strict=True)
    ]


def _check_header(path: Path, header: Sequence[str]) -> None:
    twice = next((name for place, name in enumerate(header) if name in header[:place]), None)
    if twice is not None:
        raise InputError(f"{path}: the column {twice!r} stands twice.", mend="give each column its own name.")


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Label]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: this is no JSON object.", mend="give one object a line.")
        nested = next((name for name, value in row.items() if isinstance(value, (dict, list))), None)
        if nested is not None:
            raise InputError(
                f"{path}, line {number}: {nested!r} is not one value.",
                mend="give each level its own key: al1, al2, ...",
            )
        yield number, row


def _level_columns(path: Path, names: Sequence[str]) -> list[str]:
    """The names of the columns of AL(1) to AL(K), in the order of the turns."""
    places: dict[int, str] = {}
    for name in names:
        if match := _LEVEL.fullmatch(name.strip()):
            turn = int(match[1])
            if turn in places:
                raise InputError(
                    f"{path}: {places[turn]!r} and {name!r} are both turn {turn}.", mend="keep one of them."
                )
            places[turn] = name
    if not places:
        some = ", ".join(map(repr, names[:6])) or "none"
        raise InputError(f"{path} has no column al1, al2, ... (columns: {some}).", mend="name the levels so.")
    absent = next((turn for turn in range(1, max(places) + 1) if turn not in places), None)
    if absent is not None or 0 in places:
        wrong = "has a column for turn 0" if 0 in places else f"has no column al{absent}, but al{max(places)}"
        raise InputError(
            f"{path} {wrong}.", mend="count the turns from 1; a turn without scores is a column of empty cells."
        )
    return [places[turn] for turn in sorted(places)]


def _curve(path: Path, line: int, row: Mapping[str, Label], columns: Sequence[str]) -> Curve:
    return Curve(
        labels={name: _label(path, line, name, value) for name, value in row.items() if name not in columns},
        al=tuple(_level(path, line, name, row.get(name)) for name in columns),
    )


def _label(path: Path, line: int, name: str, value: Label) -> Label:
    if isinstance(value, float) and value - value != 0:
        raise InputError(f"{path}, line {line}, {name}: {value} is no number.", mend="write null, or a text.")
    return value


def _level(path: Path, line: int, name: str, cell: Label) -> float | None:
    if cell is None or cell == "":
        return None
    if isinstance(cell, bool) or not _NUMBER.fullmatch(str(cell)) or float(cell) - float(cell) != 0:
        raise InputError(
            f"{path}, line {line}, column {name}: {str(cell)[:40]!r} is no number.",
            mend="write one, with a decimal point, or leave the cell empty where there is no score.",
        )
    return float(cell)
