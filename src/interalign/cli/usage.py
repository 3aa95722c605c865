"""How commands show what language models have used, or would use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.measure import Measurement
from rich.table import Table

from interalign.cli.console import escaped, note, out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interalign.llm.account import RoleUsage

__all__ = ["UNKNOWN_PRICE", "show_usage"]

UNKNOWN_PRICE = "US$ unknown: name what the model costs with --prices FILE (`--help` says what stands in it)."
_LEAST_NAME = 12
"""To so many columns a model's name is folded before anything else gives way."""
_WIDEST = 10_000


def show_usage(title: str, rows: Sequence[RoleUsage], roles: Sequence[str]) -> None:
    """Print what the roles use, in the order of `roles`; where nothing is paid for, without a column of money.

    Numbers are never cut: names fold, and what is least asked for is left out, before that.
    """
    cached, paid = any(row.cached_tokens for row in rows), any(row.usd != 0 for row in rows)
    rows = sorted(rows, key=lambda one: roles.index(one.role))
    table = _usage(title, rows, cached=cached, paid=paid)
    if cached and _least_width(table, rows) > out.width:
        table = _usage(title, rows, cached=False, paid=paid)
    least = _least_width(table, rows)
    table.width = least if least > out.width else None
    out.print(table, crop=False)
    if any(row.usd is None for row in rows):
        note(UNKNOWN_PRICE)


def _least_width(table: Table, rows: Sequence[RoleUsage]) -> int:
    longest = max(cell_len(row.model) for row in rows)
    whole = Measurement.get(out, out.options.update(max_width=_WIDEST), table).maximum
    return whole - longest + min(longest, _LEAST_NAME)


def _usage(title: str, rows: Sequence[RoleUsage], *, cached: bool, paid: bool) -> Table:
    table = Table(title=title or None, box=box.SIMPLE)
    table.add_column("role", no_wrap=True)
    table.add_column("model", overflow="fold")
    for name in ("calls", "prompt\ntokens", *(("of these\ncached",) if cached else ()), "written\ntokens"):
        table.add_column(name, justify="right", no_wrap=True)
    if paid:
        table.add_column("US$", justify="right", no_wrap=True)

    def add(role: str, model: str, of: Sequence[RoleUsage]) -> None:
        counts = [sum(row.calls for row in of), sum(row.prompt_tokens for row in of)]
        counts += [sum(row.cached_tokens for row in of)] if cached else []
        counts += [sum(row.completion_tokens for row in of)]
        known = [row.usd for row in of if row.usd is not None]
        usd = [_money(sum(known) if len(known) == len(of) else None)] if paid else []
        table.add_row(role, escaped(model), *(f"{count:,}" for count in counts), *usd)

    for row in rows:
        add(row.role, row.model, [row])
    table.add_section()
    add("all", "", rows)
    return table


def _money(usd: float | None) -> str:
    return "unknown" if usd is None else f"{usd:,.4f}" if 0 < usd < 0.01 else f"{usd:,.2f}"
