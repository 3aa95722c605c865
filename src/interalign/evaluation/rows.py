"""What the benchmark writes down of each reply: one row a turn, from which every number is computed again at will."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from interalign.conversations.tree import Fault
from interalign.messages import Value
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Disclosure

__all__ = ["Counterfactual", "Induction", "TurnRow"]


class Induction(Value):
    """What a model says, off the record, that it has learnt about the user, checked against persona and ledger."""

    statements: tuple[str, ...]
    true: Annotated[int, Field(ge=0)]
    """How many of the statements the persona bears out."""
    disclosed: Annotated[int, Field(ge=0)]
    """How many things the user had really shown by then."""
    found: Annotated[int, Field(ge=0)]
    """How many of those the statements name."""

    @model_validator(mode="after")
    def _check(self) -> Induction:
        if self.true > len(self.statements) or self.found > self.disclosed:
            raise ValueError("no more statements can be true than there are, nor more be found than was disclosed")
        return self

    @property
    def precision(self) -> float | None:
        """The share of the statements that is true; None without any."""
        return self.true / len(self.statements) if self.statements else None

    @property
    def recall(self) -> float | None:
        """The share of what was disclosed that is named; None when nothing was."""
        return self.found / self.disclosed if self.disclosed else None


class Counterfactual(Value):
    """A control's reply in the place of the model's: judged, and never said, so the conversation goes on without it."""

    reply: str
    verdict: Verdict | None = None
    swapped: Verdict | None = None
    """The verdict on the same reply under another person's persona, where it is asked for."""
    missing: dict[str, str] = Field(default_factory=dict)
    """Why a verdict that was asked for is not there, as in a row."""


class TurnRow(Value):
    """One reply of one model to one held-out person, as it was judged.

    What is None was not asked for, could not be read, or does not apply: it is missing, and never a low score.
    """

    case: str
    """Id of the person."""
    turn: Annotated[int, Field(ge=1)]
    user: str
    reply: str
    disclosure: Disclosure
    verdict: Verdict | None = None
    swapped: Verdict | None = None
    """The verdict on the same reply under another person's persona."""
    uptake: bool | None = None
    """Whether a preference that the user has just reacted to is met; None when there was no reaction before it."""
    mind_reading: bool | None = None
    """Whether the reply claims something of the user that nothing has shown."""
    helpfulness: Annotated[float, Field(ge=1, le=5)] | None = None
    """How well the reply would help anybody who asks this, from 1 to 5: the persona is not looked at."""
    induction: Induction | None = None
    controls: dict[str, Counterfactual] = Field(default_factory=dict)
    """Other replies to the same message, by the names of the controls."""
    repeat: Annotated[int, Field(ge=0)] = 0
    """0 in the run that is reported; above, the same case played again, which tells the noise."""
    faults: tuple[Fault, ...] = ()
    """What was wrong with tries of the user's message, whoever played the user; none of it is the model's fault."""
    failure: str | None = None
    """Why the turn could not be played."""
    missing: dict[str, str] = Field(default_factory=dict)
    """Why what was asked for is not there: by the field's name a few words, the same ones wherever the reason is the
    same, as in {"verdict": "no JSON"}; of a control that is not there by `controls.` and its name. A judge that gave
    no reason has none here, and older rows tell none."""
    cut_at: Annotated[int, Field(ge=0)] | None = None
    """At how many tokens the reply was cut, before its model had come to the end; 0 where it was not cut, None where
    that is not known."""
