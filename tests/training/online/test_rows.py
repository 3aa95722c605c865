from __future__ import annotations

from pathlib import Path

import pytest

from interalign.errors import StorageError
from interalign.personas.persona import Persona
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Disclosure
from interalign.run import read_jsonl
from interalign.training.online.conversation import Case, Conversation, Exchange
from interalign.training.online.rewards import RewardConfig, earned
from interalign.training.online.rows import RolloutRow, append_rows, forget_rows_after, rollout_row


@pytest.fixture
def rows(people: tuple[Persona, ...]) -> list[RolloutRow]:
    """One row for each of four rounds."""
    said = Exchange(
        user="Hi\u2028you",
        disclosure=Disclosure(turn=1),
        reply="Good\n",
        tokens=2,
        cut=True,
        verdict=Verdict(score=4),
    )
    talks = [Conversation(case=Case(persona=people[0], number=n), sample=0, exchanges=(said,)) for n in range(4)]
    return [
        rollout_row(number, talk, one)
        for number, (talk, one) in enumerate(zip(talks, earned(talks, RewardConfig()), strict=True), 1)
    ]


def test_rows_are_appended_whole(tmp_path: Path, rows: list[RolloutRow]) -> None:
    path = tmp_path / "new" / "rollouts.jsonl"
    append_rows(path, [row.model_dump_json() for row in rows[:3]])
    append_rows(path, [rows[3].model_dump_json()])
    assert read_jsonl(path, RolloutRow) == rows
    assert rows[0].reward == 0.75
    assert [note.score for note in rows[0].turns] == [4]


def test_rows_after_a_state_are_forgotten(tmp_path: Path, rows: list[RolloutRow]) -> None:
    path = tmp_path / "rollouts.jsonl"
    forget_rows_after(path, 2)
    assert not path.exists()
    append_rows(path, [row.model_dump_json() for row in rows])
    with path.open("a", encoding="utf-8") as file:
        file.write('{"round":5,"ca')
    forget_rows_after(path, 2)
    assert read_jsonl(path, RolloutRow) == rows[:2]
    forget_rows_after(path, 0)
    assert path.read_bytes() == b""


def test_a_full_disk_is_told_of(small_disk: Path, rows: list[RolloutRow]) -> None:
    with pytest.raises(StorageError, match="No space left"):
        append_rows(small_disk / "rollouts.jsonl", [rows[0].model_dump_json()] * 1000)
