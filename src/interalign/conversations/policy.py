"""Tree policies: which replies to a user turn the conversation goes on from."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from interalign.messages import Value

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


def chosen(
    policy: PolicyConfig, turn: int, replies: int, *, drawn: int, best: int | None = None, luck: float = 1.0
) -> tuple[int, ...]:
    """The places, among the replies to a user turn, of those that are continued.

    Args:
        policy: By which it is chosen.
        turn: Counted from 1.
        replies: How many there are.
        drawn: The place that the seed has drawn.
        best: The place of the reply that the judge prefers, where there is one.
        luck: A number in [0, 1) from the seed, which decides whether the best is taken.
    """
    if policy.name == "full" and turn < policy.depth:
        return tuple(range(replies))
    if policy.name == "best" and best is not None and luck < policy.greed:
        return (best,)
    return (drawn,)
