"""Checks of the user simulator: whether the next message of a simulated user can stand.

A benchmark is only as good as its users, and a model that plays one falls out of its part in known ways. The checks
are rules over words, cheap enough for every turn, and rather miss a fault than refuse a good message: a refused turn
is asked for again and costs a call. Their phrases are English; in other languages only repetition is found, so take
"no disclosure" out of `ChecksConfig.checks` there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import Field

from interalign.conversations.checks.contradictions import contradicts
from interalign.conversations.checks.disclosure import discloses_nothing, discloses_too_much
from interalign.conversations.checks.phrases import legible
from interalign.conversations.checks.repeats import repeats_opener, restarts
from interalign.conversations.checks.wording import (
    flips_role,
    leaks_instructions,
    leaks_reasoning,
    speaks_as_assistant,
)
from interalign.messages import Chat, Value
from interalign.personas.persona import Persona

__all__ = ["CHECKS", "CheckName", "ChecksConfig", "faults"]

CheckName: TypeAlias = Literal[
    "role flip",
    "leaked reasoning",
    "leaked instructions",
    "assistant-speak",
    "restart",
    "repeated opener",
    "contradiction",
    "over-disclosure",
    "no disclosure",
]

CHECKS: tuple[CheckName, ...] = get_args(CheckName)


class ChecksConfig(Value):
    """Which checks every message of a simulated user goes through, and what they allow."""

    checks: tuple[CheckName, ...] = CHECKS
    """The checks that are on."""
    retries: Annotated[int, Field(ge=0)] = 2
    """How often a faulty message is asked for again."""
    most_disclosed: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The share of the persona's facts that one message may give away."""
    silent_turns: Annotated[int, Field(ge=1)] = 4
    """How many messages in a row without anything of the persona are too many."""


def faults(persona: Persona, chat: Chat, said: str, config: ChecksConfig | None = None) -> tuple[CheckName, ...]:
    """What is wrong with the next message of a simulated user, in the order of `CHECKS`; empty for a good one.

    Args:
        persona: who is played.
        chat: the conversation so far, ending with a reply, or empty.
        said: the message to check; any text is taken.
        config: which checks are on.
    """
    config = config or ChecksConfig()
    said = legible(said)
    earlier = tuple(legible(message.content) for message in chat if message.role == "user")
    replies = tuple(legible(message.content) for message in chat if message.role == "assistant")
    rules: dict[CheckName, Callable[[], bool]] = {
        "role flip": lambda: flips_role(said, persona, replies),
        "leaked reasoning": lambda: leaks_reasoning(said, persona),
        "leaked instructions": lambda: leaks_instructions(said, persona),
        "assistant-speak": lambda: speaks_as_assistant(said),
        "restart": lambda: restarts(said, earlier, persona),
        "repeated opener": lambda: repeats_opener(said, earlier),
        "contradiction": lambda: contradicts(said, persona),
        "over-disclosure": lambda: discloses_too_much(said, persona, config.most_disclosed),
        "no disclosure": lambda: discloses_nothing(said, earlier, persona, config.silent_turns),
    }
    return tuple(name for name in CHECKS if name in config.checks and rules[name]())
