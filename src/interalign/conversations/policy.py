"""Tree policies: which replies to a user turn the conversation goes on from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from interalign.messages import Value
from interalign.roles.responder import Source

__all__ = ["PolicyConfig", "PolicyName", "chosen"]

PolicyName: TypeAlias = Literal["path", "full", "best"]


class PolicyConfig(Value):
    """Which replies the conversation goes on from."""

    name: PolicyName = "path"
    """`path`: one reply of each turn, drawn by seed (the paper). `full`: every reply of turns before `depth`, one of
    each later turn. `best`: with probability `greed` the reply that the judge prefers, otherwise one drawn by seed."""
    depth: Annotated[int, Field(ge=1)] = 2
    """With `full`: the first turn of which only one reply is continued."""
    greed: Annotated[float, Field(ge=0, le=1)] = 0.5
    """With `best`: how often the best reply is the one that is continued."""
    continue_from: Annotated[tuple[Source, ...], Field(min_length=1)] | None = None
    """Whose replies a conversation goes on from; left out: anybody's. At a turn where none of them has answered it goes
    on from anybody's, too. Rounds go on from the policy's replies beside these. After a tailored reply the chat itself
    shows how the person likes to be answered, which a model that is trained on it can copy without listening."""

    @property
    def in_words(self) -> str:
        """What pages call it."""
        return self.name + (f" (from {', '.join(self.continue_from)})" if self.continue_from else "")

    def eligible(self, sources: Sequence[str]) -> tuple[int, ...]:
        """The places, among replies by these sources, of those that a conversation may go on from."""
        every = tuple(range(len(sources)))
        if self.continue_from is None:
            return every
        return tuple(place for place in every if sources[place] in self.continue_from) or every


def chosen(
    policy: PolicyConfig,
    turn: int,
    eligible: tuple[int, ...],
    *,
    drawn: int,
    best: int | None = None,
    luck: float = 1.0,
) -> tuple[int, ...]:
    """The places, among the replies to a user turn, of those that are continued.

    Args:
        policy: By which it is chosen.
        turn: Counted from 1.
        eligible: The places to choose from.
        drawn: The one of them that the seed has drawn.
        best: The one of them that the judge prefers, where there is one.
        luck: A number in [0, 1) from the seed, which decides whether the best is taken.
    """
    if policy.name == "full" and turn < policy.depth:
        return eligible
    if policy.name == "best" and best is not None and luck < policy.greed:
        return (best,)
    return (drawn,)
