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
    """The mean of every part over the judged replies of each model, the parts in the order in which they appear.

    Repeats are left out: they tell the noise and count for nothing else.
    """
    judged = {name: [row.verdict.parts for row in rows[name] if row.verdict and row.repeat == 0] for name in names}
    parts = dict.fromkeys(part for name in names for verdict in judged[name] for part in verdict)
    return tuple(PartRow(name=part, means=tuple(_mean(judged[name], part) for name in names)) for part in parts)


def _mean(verdicts: Sequence[Mapping[str, float]], part: str) -> float | None:
    values = [verdict[part] for verdict in verdicts if part in verdict]
    return sum(values) / len(values) if values else None
