"""`interalign metrics`: IR, N-IR and R2 of anybody's alignment levels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interalign.cli.console import escaped, out

if TYPE_CHECKING:
    from rich.table import Table

    from interalign.evaluation.published import Label

__all__ = ["metrics"]

_METRICS = ("mean_al", "ir", "r2", "n_ir", "n_r2")


def metrics(
    table: Annotated[
        Path,
        typer.Argument(
            help="CSV, TSV or JSON lines with the columns al1, al2, ... (AL(1) and AL_1 are read as well); others are "
            "kept as labels."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list with full precision.")] = False,
) -> None:
    """Compute mean AL, IR, R2, N-IR and N-R2 of each row of a table of alignment levels."""
    from interalign.evaluation.published import read_curves, record_of

    records = [record_of(curve) for curve in read_curves(table)]
    if as_json:
        typer.echo(json.dumps(records, indent=2, ensure_ascii=False, allow_nan=False))
        return
    out.print(_shown(records))
    if any(record[name] is None for record in records for name in _METRICS):
        out.print("–: undefined, as R2, N-IR and N-R2 of a flat row are, and all but the mean of a single score.")


def _shown(records: Sequence[Mapping[str, Label]]) -> Table:
    """A row a curve; a label that all rows share stands below."""
    from rich.box import HORIZONTALS
    from rich.table import Table

    labels = list(dict.fromkeys(name for record in records for name in record if name not in _METRICS))
    shared = [name for name in labels if len(records) > 1 and len({record.get(name) for record in records}) == 1]
    told = [name for name in labels if name not in shared]
    caption = ", ".join(f"{name}: {_text(records[0].get(name))}" for name in shared)
    shown = Table(box=HORIZONTALS, padding=(0, 1, 0, 0), caption=escaped(caption) or None)
    for name in told:
        shown.add_column(escaped(name), overflow="fold")
    for name in _METRICS:
        shown.add_column(name, justify="right", no_wrap=True)
    for record in records:
        shown.add_row(
            *(escaped(_text(record.get(name))) for name in told),
            *(_number(record[name]) for name in _METRICS),
        )
    return shown


def _text(value: Label) -> str:
    return "" if value is None else str(value)


def _number(value: Label) -> str:
    from interalign.evaluation.notation import number

    return number(value if isinstance(value, float) else None, 3)
