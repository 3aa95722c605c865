"""What the persona commands print: pools, audits and calibrations as tables of at most 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from interalign.cli.console import escaped, out
from interalign.report.growth import judged, no_room, rejections, span, story

if TYPE_CHECKING:
    from interalign.personas.calibrate import Calibration
    from interalign.personas.pool import KindSummary, PoolSummary
    from interalign.personas.split import Audit, NearPair

__all__ = ["show_audit", "show_calibration", "show_pool"]

_TEXT_SHOWN = 150
_PAIRS_SHOWN = 5


def show_pool(summary: PoolSummary) -> None:
    """Both pools side by side, then the personas made from them."""
    table = _table("", *(f"{one.kind} pool" for one in summary.kinds))
    rows = [("size (seeds among them)", [f"{one.size:,} ({one.seeds:,})" for one in summary.kinds])]
    rows += _growth(summary.kinds) if summary.calls else []
    rows += [
        ("threshold", [f"{one.threshold:g}" for one in summary.kinds]),
        ("held out / refused / to train on", [_sides(one) for one in summary.kinds]),
        ("evenness of coverage", [_evenness(one) for one in summary.kinds]),
    ]
    for name, cells in rows:
        table.add_row(name, *cells)
    out.print()
    out.print(table)
    for one in summary.kinds:
        out.print(story(one), highlight=False)
    if summary.scripted:
        out.print("The descriptions come from a script, not from a language model.", highlight=False)
    out.print(
        f"[bold]{summary.train:,} personas to train on, {summary.heldout:,} held out[/bold]; each personality in "
        f"{span(summary.per_personality)} of them, each profile in {span(summary.per_profile)}.",
        highlight=False,
    )


def _growth(kinds: Sequence[KindSummary]) -> list[tuple[str, list[str]]]:
    """The rows about what the generator wrote; a pool for which it was not asked has dashes."""
    rows = [("candidates", [f"{one.candidates:,}" for one in kinds])]
    if any(map(no_room, kinds)):
        rows.append(("  no room, target reached", [f"{no_room(one):,}" for one in kinds]))
    rows.append(("accepted", [_share(one.accepted, judged(one)) for one in kinds]))
    for reason in _all_of(map(rejections, kinds)):
        rows.append((f"  {reason}", [_share(one.rejections.get(reason, 0), judged(one)) for one in kinds]))
    for outcome in _all_of(one.outcomes for one in kinds):
        rows.append((f"calls {outcome}", [f"{one.outcomes.get(outcome, 0):,}" for one in kinds]))
    rows += [
        ("items missing in answers", [f"{one.missing:,}" for one in kinds]),
        ("tokens read + written", [f"{one.prompt_tokens:,} + {one.completion_tokens:,}" for one in kinds]),
    ]
    return [
        (name, [cell if one.calls else "–" for one, cell in zip(kinds, cells, strict=True)]) for name, cells in rows
    ]


def show_audit(audit: Audit) -> None:
    """Counts by kind, then the nearest pairs with both texts."""
    table = _table("", *(one.kind for one in audit.kinds))
    table.add_row("descriptions", *(f"{one.ours:,}" for one in audit.kinds))
    if audit.against:
        table.add_row("held against", *(f"{one.theirs or 0:,}" for one in audit.kinds))
    table.add_row("same text", *(f"{one.same_text:,}" for one in audit.kinds))
    table.add_row("differ in name or gender only", *(f"{one.name_or_gender_only:,}" for one in audit.kinds))
    table.add_row("too similar", *(f"{one.too_similar:,}" for one in audit.kinds))
    table.add_row("border (cosine)", *(f"{one.gate:g}" for one in audit.kinds))
    out.print(table)
    for one in audit.kinds:
        out.print(f"\n[bold]Nearest pairs of the kind {one.kind}[/bold]", highlight=False)
        for pair in one.nearest[:_PAIRS_SHOWN]:
            _show_pair(pair)


def show_calibration(calibration: Calibration) -> None:
    """How copies and different people score, and the border that is proposed."""
    table = _table(
        calibration.kind,
        "pairs",
        "least",
        "5 %",
        "median",
        "95 %",
        "most",
        f"≥ {calibration.threshold:.2f}",
        f"≥ {calibration.gate:.2f}",
    )
    for spread in (*calibration.copies, calibration.different, calibration.against_few):
        table.add_row(
            spread.label,
            f"{spread.count:,}",
            *(f"{one:.2f}" for one in spread.quantiles),
            f"{spread.at_threshold:.0%}",
            f"{spread.at_gate:.0%}",
        )
    out.print(table)
    out.print(
        f"[bold]threshold {calibration.threshold:g}, gate {calibration.gate:g}[/bold] for a {calibration.kind} under "
        f"{escaped(calibration.encoder)}.",
        highlight=False,
    )
    out.print(
        f"Other names and genders: the check of words finds {calibration.words_caught:.0%}, whatever the cosine.\n",
        highlight=False,
    )


def _show_pair(pair: NearPair) -> None:
    score = "  –  " if pair.score is None else f"{pair.score:.3f}"
    out.print(f"{score} {pair.why or 'below the border'}", highlight=False)
    for text in (pair.ours, pair.theirs):
        shown = text if len(text) <= _TEXT_SHOWN else text[:_TEXT_SHOWN] + "..."
        out.print(f"  [dim]{escaped(' '.join(shown.split()))}[/dim]", highlight=False)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=index > 0)
    return table


def _all_of(counts: Iterable[Mapping[str, int]]) -> list[str]:
    return list(dict.fromkeys(name for one in counts for name in one))


def _share(count: int, total: int) -> str:
    return f"{count:,} ({count / total:.0%})" if total else f"{count:,}"


def _sides(one: KindSummary) -> str:
    return f"{one.heldout:,} / {len(one.refused):,} / {one.train:,}"


def _evenness(one: KindSummary) -> str:
    stated = [value for value in one.coverage.evenness.values() if value is not None]
    return f"{sum(stated) / len(stated):.2f}" if stated else "–"
