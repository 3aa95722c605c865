"""What replies lose points for: how far each part of the verdict is met, and what is subtracted, per model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from interalign.evaluation.rows import TurnRow
from interalign.messages import Value

__all__ = ["PartRow", "part_rows"]


class PartRow(Value):
    """One part of the verdict: its name and its mean in [0, 1] per model (None: never judged)."""

    name: str
    means: tuple[float | None, ...]


def part_rows(rows: Mapping[str, Sequence[TurnRow]], names: Sequence[str]) -> tuple[PartRow, ...]:
    """The mean of every part over the judged replies of each model, the parts in the order in which they appear."""
    parts = dict.fromkeys(
        part for name in names for row in rows[name] if row.verdict is not None for part in row.verdict.parts
    )
    return tuple(PartRow(name=part, means=tuple(_mean(rows[name], part) for name in names)) for part in parts)


def _mean(rows: Sequence[TurnRow], part: str) -> float | None:
    values = [row.verdict.parts[part] for row in rows if row.verdict is not None and part in row.verdict.parts]
    return sum(values) / len(values) if values else None
