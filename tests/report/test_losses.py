from __future__ import annotations

from interalign.evaluation.rows import TurnRow
from interalign.report.losses import PartRow, part_rows
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Disclosure


def row(turn: int, parts: dict[str, float] | None) -> TurnRow:
    verdict = None if parts is None else Verdict(score=3, parts=parts)
    return TurnRow(case="a", turn=turn, user="u", reply="r", disclosure=Disclosure(turn=turn), verdict=verdict)


def test_parts_are_means_over_the_replies_that_have_them() -> None:
    again = row(1, {"length": 0.0, "other": 1.0}).model_copy(update={"repeat": 1})
    one = [row(1, {"length": 1.0}), row(2, {"length": 0.5, "topic": 0.0}), row(3, None), again]
    rows = {"one": one, "two": [row(1, {})]}
    assert part_rows(rows, ["two", "one"]) == (
        PartRow(name="length", means=(None, 0.75)),
        PartRow(name="topic", means=(None, 0.0)),
    )
