"""Data sets from trees: rows in the formats of TRL, dataset folders with a card, and the published ALOE format."""

from __future__ import annotations

from interalign.conversations.export.aloe import (
    AloeRecord,
    AloeReplies,
    AloeTurn,
    ReadAloe,
    aloe_records,
    read_aloe,
    write_aloe,
)
from interalign.conversations.export.dataset import FORMS, Form, write_export, write_preference_tables
from interalign.conversations.export.rows import Row, dpo_rows, kto_rows, reward_rows, sft_rows, trajectory_rows

__all__ = [
    "FORMS",
    "AloeRecord",
    "AloeReplies",
    "AloeTurn",
    "Form",
    "ReadAloe",
    "Row",
    "aloe_records",
    "dpo_rows",
    "kto_rows",
    "read_aloe",
    "reward_rows",
    "sft_rows",
    "trajectory_rows",
    "write_aloe",
    "write_export",
    "write_preference_tables",
]
