"""People's ratings and a judge's, from a table: one row for each item that was judged.

The table is a CSV file in UTF-8 with a header. `item` names what was judged. `judge`, or another column that is named,
holds the judge's scores; every other column holds one person's, or people's mean. An empty cell is a missing score.
Items that share something are not independent: `case` names whose conversation an item is from; or `profile` and
`personality` do where both come back in several cases.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from io import StringIO
from math import isfinite
from pathlib import Path

from interalign.errors import InputError
from interalign.evaluation.judging.agreement import Agreement, agreement
from interalign.evaluation.judging.calibration import (
    CalibrationStep,
    IsotonicMap,
    calibration_curve,
    expected_calibration_error,
    isotonic_map,
)
from interalign.evaluation.judging.panel import PanelAgreement, panel_agreement
from interalign.evaluation.judging.resampling import RESAMPLES
from interalign.messages import Value

__all__ = ["Sheet", "SheetAgreement", "read_sheet", "sheet_agreement"]

_ITEM = "item"
_SHARED = ("case", "profile", "personality")


class Sheet(Value):
    """What a table of ratings holds, item by item."""

    items: tuple[str, ...]
    judge: tuple[float | None, ...]
    raters: dict[str, tuple[float | None, ...]]
    """By the names of the columns."""
    shared: tuple[tuple[str, ...], ...] = ()
    """What items share, for each factor."""

    @property
    def human(self) -> tuple[float | None, ...]:
        """The mean of the people who have rated an item; None where nobody has."""
        rows = ([score for score in row if score is not None] for row in zip(*self.raters.values(), strict=True))
        return tuple(sum(row) / len(row) if row else None for row in rows)


class SheetAgreement(Value):
    """How far a judge agrees with people, and people among themselves."""

    judge: Agreement
    """With the mean of the people."""
    everybody: PanelAgreement | None
    """The judge as one more rater among several people; None with one person."""
    people: PanelAgreement | None
    """People alone: as far as a judge can come."""
    curve: tuple[CalibrationStep, ...]
    calibration_error: float | None
    map: IsotonicMap | None
    """From the judge's scores to people's; None without scikit-learn."""


def read_sheet(path: Path, judge: str = "judge") -> Sheet:
    """Read a table of ratings; columns are parted by commas, semicolons or tabs.

    Args:
        path: The file.
        judge: The column of the judge's scores.

    Raises:
        InputError: the file cannot be read, a column is missing, an item comes twice, or a score is no number.
    """
    rows = _rows(path)
    names = list(rows[0]) if rows else []
    raters = [name for name in names if name not in (_ITEM, judge, *_SHARED)]
    for name, wanted in ((_ITEM, _ITEM in names), (judge, judge in names), ("of a person's scores", bool(raters))):
        if not wanted:
            raise InputError(
                f"{path} has no column {name}, or no row.",
                mend="give it a header with item, judge, and a column for each person who has rated.",
            )
    items = [row[_ITEM] for row in rows]
    twice = next((item for place, item in enumerate(items) if item in items[:place]), None)
    if twice is not None:
        raise InputError(f"{path} has the item {twice!r} twice.", mend="keep one row for each item.")
    factors = ("case",) if "case" in names else tuple(name for name in _SHARED if name in names)
    return Sheet(
        items=tuple(items),
        judge=_column(path, rows, judge),
        raters={name: _column(path, rows, name) for name in raters},
        shared=tuple(tuple(row[name] for row in rows) for name in factors),
    )


def sheet_agreement(sheet: Sheet, *, resamples: int = RESAMPLES, seed: int = 0) -> SheetAgreement:
    """Every measure of agreement of a table, with intervals."""
    human, several = sheet.human, len(sheet.raters) > 1
    scored = any(None not in pair for pair in zip(human, sheet.judge, strict=True))
    everybody = {"judge": sheet.judge, **{f"{name} (person)": scores for name, scores in sheet.raters.items()}}
    return SheetAgreement(
        judge=agreement(human, sheet.judge, *sheet.shared, resamples=resamples, seed=seed),
        everybody=panel_agreement(everybody, *sheet.shared, resamples=resamples, seed=seed) if several else None,
        people=panel_agreement(sheet.raters, *sheet.shared, resamples=resamples, seed=seed) if several else None,
        curve=calibration_curve(human, sheet.judge, sheet.shared[0] if sheet.shared else None, seed=seed),
        calibration_error=expected_calibration_error(human, sheet.judge),
        map=isotonic_map(sheet.judge, human) if scored and find_spec("sklearn") is not None else None,
    )


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text.", mend="save the table as CSV in UTF-8.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", mend="check the path and its rights.") from error
    header = text.partition("\n")[0]
    mark = max(",;\t", key=header.count)
    try:
        table = [[cell.strip() for cell in row] for row in csv.reader(StringIO(text), delimiter=mark, strict=True)]
    except csv.Error as error:
        raise InputError(f"{path} is not CSV: {error}.", mend="save the table as CSV in UTF-8.") from None
    names, rows = (table[0], [row for row in table[1:] if any(row)]) if table else ([], [])
    wrong = next((row for row in rows if len(row) != len(names)), None)
    if wrong is not None or len(set(names)) < len(names):
        what = f"a row of {len(wrong)} cells under {len(names)} names" if wrong else "two columns of one name"
        raise InputError(f"{path} has {what}.", mend="give each row a cell, which may be empty, for each column.")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _column(path: Path, rows: Sequence[Mapping[str, str]], name: str) -> tuple[float | None, ...]:
    return tuple(_score(path, row, name) for row in rows)


def _score(path: Path, row: Mapping[str, str], name: str) -> float | None:
    if not row[name]:
        return None
    try:
        score = float(row[name])
    except ValueError:
        score = float("nan")
    if not isfinite(score):
        raise InputError(
            f"{path}, item {row[_ITEM]!r}: {name} is {row[name]!r}, which is no number.",
            mend="write a number, or leave the cell empty where there is no score; leave out columns of other things.",
        )
    return score
