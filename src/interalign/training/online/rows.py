"""`rollouts.jsonl`: every conversation that was trained on, one row each, so that a reward can be read and doubted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from interalign.messages import Value
from interalign.run import read_jsonl, storage_errors, write_jsonl
from interalign.training.online.conversation import Conversation
from interalign.training.online.rewards import Earned

__all__ = ["RolloutRow", "TurnNote", "append_rows", "forget_rows_after", "rollout_row"]


class TurnNote(Value):
    """One exchange, in short."""

    user: str
    reply: str
    score: float | None
    cut: bool


class RolloutRow(Value):
    """One conversation, in short."""

    round: int
    """In which round of conversations it was played, from 1; with `num_iterations` 1 that is the step."""
    case: int
    sample: int
    persona: str
    turns: tuple[TurnNote, ...]
    terms: dict[str, float | None]
    reward: float | None
    stated: str | None
    failure: str | None


def rollout_row(number: int, conversation: Conversation, earned: Earned) -> RolloutRow:
    """The row of a conversation that was played in round `number`."""
    return RolloutRow(
        round=number,
        case=conversation.case.number,
        sample=conversation.sample,
        persona=conversation.case.persona.id,
        turns=tuple(
            TurnNote(
                user=one.user, reply=one.reply, score=None if one.verdict is None else one.verdict.score, cut=one.cut
            )
            for one in conversation.exchanges
        ),
        terms=earned.terms,
        reward=earned.total,
        stated=conversation.stated,
        failure=conversation.failure,
    )


def append_rows(path: Path, rows: Sequence[str]) -> None:
    """Append rows, given as JSON without line ends, in one write; raises StorageError."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write("".join(f"{row}\n" for row in rows))


def forget_rows_after(path: Path, rounds: int) -> None:
    """Keep the rows of the first `rounds` rounds: a training that goes on from there plays the others again.

    Raises:
        InputError: the file was changed by others and cannot be read.
        StorageError: it cannot be written.
    """
    if not path.exists():
        return
    # A killed process may have left the last line half written.
    whole = path.read_bytes().rpartition(b"\n")[0]
    with storage_errors(path):
        path.write_bytes(whole + b"\n" if whole else b"")
    write_jsonl(path, [row for row in read_jsonl(path, RolloutRow) if row.round <= rounds])
