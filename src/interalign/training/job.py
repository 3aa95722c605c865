"""A training job: which replies and pairs of which trees are learnt, from which checkpoint, and where the result goes.

What cannot be learnt from is left out by a stated rule and counted: replies without a word, siblings that are equal,
and replies whose conversation is longer than the model reads. Turns before those are kept; of chats that are mixed in,
long ones are left out whole.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from interalign.conversations.preferences import PreferenceConfig, preferences, preferred
from interalign.conversations.tree import Tree
from interalign.errors import TrainingError
from interalign.messages import Chat, Value

if TYPE_CHECKING:
    from interalign.training.train import DpoConfig, InductionConfig, SftConfig, TrainConfig

__all__ = [
    "Job",
    "LeftOut",
    "Lesson",
    "Method",
    "Nash",
    "Notice",
    "Progress",
    "context_length",
    "fitting",
    "lessons_of",
    "refuse_too_long",
    "silent",
]

Method: TypeAlias = Literal["induction", "sft", "sft-rejected", "dpo"]
"""`induction` learns what remarks say of a person, for policies that take notes; `sft-rejected` learns the replies that
lost: a control, which shows how much of a gain is style and domain.
"""

Progress: TypeAlias = Callable[[int, int, float], None]
"""Called after each optimizer step with steps done, steps in all, and the loss."""

Notice: TypeAlias = Callable[[str], None]
"""Called with a sentence that whoever started the training should read."""


def silent(sentence: str) -> None:
    """A `Notice` that tells nobody."""


class LeftOut(Value):
    """How many replies (SFT) or pairs (DPO) are not trained on, and why."""

    empty: int = 0
    """A reply to be learnt, or a side of a pair, has no word."""
    equal: int = 0
    """Both sides of a pair say the same."""
    too_long: int = 0
    """The conversation, with the reply, is longer than the model reads."""

    def told(self, what: str) -> str | None:
        """In words, or None when nothing is left out."""
        reasons = {"empty": self.empty, "of equal replies": self.equal, "longer than the model reads": self.too_long}
        parts = [f"{count:,} {reason}" for reason, count in reasons.items() if count]
        return f"{what} left out: {', '.join(parts)}" if parts else None


@dataclass(frozen=True)
class Lesson:
    """What is learnt from one tree: nodes of replies and, for DPO, pairs (chosen, rejected) of them."""

    tree: int
    replies: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...] = ()


class Nash(Value):
    """INPO's step, in the place of a preference loss (see `nash.py`)."""

    method: Literal["inpo", "comal"] = "inpo"
    """What the rounds are called in which it is taken."""
    anchor: str
    """The checkpoint that the policy is held near."""
    eta: Annotated[float, Field(gt=0)]
    """How large the step is: the margin between two replies is drawn to 1 / (2 eta) nats."""
    tau: Annotated[float, Field(gt=0)]
    """How much the anchor counts, at most eta."""

    @model_validator(mode="after")
    def _check(self) -> Nash:
        if self.tau > self.eta:
            raise ValueError("tau is at most eta")
        return self


@dataclass(frozen=True)
class Job:
    """One training stage.

    `lessons` are of `trees`; `chats` are learnt beside them (SFT), each message of the assistant; `nash`, if there is
    one, is learnt by in place of DPO's loss.
    """

    method: Method
    trees: tuple[Tree, ...]
    lessons: tuple[Lesson, ...]
    system: str
    start: str
    out: Path
    config: TrainConfig
    seed: int
    chats: tuple[Chat, ...] = ()
    nash: Nash | None = None
    notice: Notice = field(default=silent, compare=False)

    @property
    def work(self) -> Path:
        """Where the state of an unfinished training is kept; removed when it is done."""
        return self.out.with_name(f"{self.out.name}.unfinished")

    @property
    def stage(self) -> InductionConfig | SftConfig | DpoConfig:
        """The settings of this stage."""
        return self.config.stage(self.method)

    @property
    def packed(self) -> bool:
        """Whether trees are to be packed. INPO knows no other way."""
        return self.config.packing == "tree" or self.nash is not None

    @property
    def trl_seed(self) -> int:
        """The seed as torch and numpy take it."""
        return self.seed % 2**32

    @property
    def data_hash(self) -> str:
        """SHA-256 of what is learnt."""
        digest = hashlib.sha256(self.system.encode())
        for tree in self.trees:
            digest.update(tree.model_dump_json().encode())
        digest.update(repr(self.lessons).encode())
        for chat in self.chats:
            digest.update(repr(chat).encode())
        return digest.hexdigest()


def lessons_of(
    method: Method, trees: Sequence[Tree], preference: PreferenceConfig
) -> tuple[tuple[Lesson, ...], LeftOut]:
    """What a method learns from trees, and what it leaves out since it says nothing."""
    if method == "dpo":
        return _of_pairs(trees, preference)
    lessons, empty = [], 0
    for number, tree in enumerate(trees):
        wanted = sorted(_to_imitate(method, tree, preference))
        replies = tuple(reply for reply in wanted if tree.nodes[reply].content.strip())
        empty += len(wanted) - len(replies)
        if replies:
            lessons.append(Lesson(number, replies))
    return tuple(lessons), LeftOut(empty=empty)


def _to_imitate(method: Method, tree: Tree, preference: PreferenceConfig) -> set[int]:
    if method == "sft":
        return {reply for turn in tree.user_turns() for reply in preferred(tree, turn, preference)}
    return {pair.rejected for pair in preferences([tree], preference)}


def _of_pairs(trees: Sequence[Tree], preference: PreferenceConfig) -> tuple[tuple[Lesson, ...], LeftOut]:
    lessons, empty, equal = [], 0, 0
    for number, tree in enumerate(trees):
        kept = []
        for pair in preferences([tree], preference):
            chosen, rejected = (tree.nodes[node].content.strip() for node in (pair.chosen, pair.rejected))
            empty += not (chosen and rejected)
            equal += bool(chosen) and chosen == rejected
            if chosen and rejected and chosen != rejected:
                kept.append((pair.chosen, pair.rejected))
        if kept:
            lessons.append(Lesson(number, _sides(kept), tuple(kept)))
    return tuple(lessons), LeftOut(empty=empty, equal=equal)


def _sides(pairs: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    return tuple(sorted({reply for pair in pairs for reply in pair}))


def fitting(lesson: Lesson, tokens: Callable[[int], int], limit: int) -> tuple[Lesson, int]:
    """A lesson without what is too long to read, and how many replies or pairs that takes from it.

    Args:
        lesson: may come out empty.
        tokens: of the conversation down to a reply, itself included.
        limit: the most that the model reads.
    """
    replies = tuple(reply for reply in lesson.replies if tokens(reply) <= limit)
    if not lesson.pairs:
        return replace(lesson, replies=replies), len(lesson.replies) - len(replies)
    pairs = tuple(pair for pair in lesson.pairs if set(pair) <= set(replies))
    return Lesson(lesson.tree, _sides(pairs), pairs), len(lesson.pairs) - len(pairs)


def context_length(job: Job, model: Any) -> int:
    """The tokens of the longest conversation that is trained on: the recipe's, at most what the model reads."""
    reads = getattr(model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
    return min(job.config.max_length or reads, reads)


def refuse_too_long(job: Job, too_long: int, *, nothing_left: bool) -> None:
    """Tell what is left out as too long.

    Raises:
        TrainingError: nothing else is there.
    """
    told = LeftOut(too_long=too_long).told("pairs" if job.method == "dpo" else "replies")
    if nothing_left:
        raise TrainingError(
            "There is nothing to train on: every conversation is longer than the model reads.",
            mend="raise train.max_length, train a model with a longer context, or simulate fewer turns.",
        )
    if told:
        job.notice(told)
