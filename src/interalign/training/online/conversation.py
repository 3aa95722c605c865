"""What is played in online training: a case (whom the policy meets), and the conversation that came of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from interalign.messages import Chat, Message, Value
from interalign.personas.persona import Persona
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Disclosure

__all__ = ["Case", "Conversation", "Exchange"]


class Case(Value):
    """One meeting with one persona. All conversations of a group play the same case, and begin with one message."""

    persona: Persona
    number: Annotated[int, Field(ge=0)]
    """Which meeting of the training this is; it makes another occasion of the same persona another conversation."""


class Exchange(Value):
    """A user's message, the policy's reply, and what the judge says of the reply."""

    user: str
    disclosure: Disclosure
    reply: str
    tokens: Annotated[int, Field(ge=1)]
    """How many tokens the policy drew for the reply, its end mark included."""
    cut: bool
    """Whether the reply was cut at the token limit."""
    verdict: Verdict | None = None
    """None: the judge has not spoken yet, or could give no verdict."""


class Conversation(Value):
    """One conversation of the policy in training with a user."""

    case: Case
    sample: Annotated[int, Field(ge=0)]
    """Its place in the group that plays the case."""
    exchanges: tuple[Exchange, ...] = ()
    stated: str | None = None
    """What the policy said of the user, asked off the record at the end; None when it was not asked."""
    induced: Annotated[float, Field(ge=0, le=1)] | None = None
    """What a grader makes of that (`rewards.graded`); None without a grader, or where it could not tell."""
    failure: str | None = None
    """Why the conversation broke off, in words; None when it was played to its end."""

    @property
    def chat(self) -> Chat:
        """All messages, without the system message."""
        return tuple(
            message
            for exchange in self.exchanges
            for message in (
                Message(role="user", content=exchange.user),
                Message(role="assistant", content=exchange.reply),
            )
        )

    @property
    def ledger(self) -> tuple[Disclosure, ...]:
        """One entry for each message of the user."""
        return tuple(exchange.disclosure for exchange in self.exchanges)
