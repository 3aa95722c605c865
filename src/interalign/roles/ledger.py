"""The disclosure ledger: what the user has shown so far, turn by turn.

It bounds what any honest assistant can know. Rule-based users write their own entry as they speak; with a language
model as the user, the inducer writes it from the chat.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TypeAlias

from pydantic import Field

from interalign.messages import Value
from interalign.personas.description import Kind
from interalign.personas.persona import Fact
from interalign.personas.style import Dimension, StyleValue

__all__ = [
    "Disclosure",
    "Ledger",
    "Reaction",
    "Stated",
    "as_notes",
    "disclosed_facts",
    "disclosed_texts",
    "stated_so_far",
]


class Reaction(Value):
    """A passing remark on how the last reply missed (or, with `met`, met) a preference.

    `got` is what the reply did. `wanted` is what the remark allows to conclude: a style value, or for length a
    direction, `shorter` or `longer` (`met`: the band itself). The remark never says it outright.
    """

    dimension: Dimension
    got: StyleValue
    wanted: StyleValue
    met: bool = False
    words: str = ""
    """The remark, before the person's own way of writing went over it; empty in trees of older versions."""


class Stated(Value):
    """Something of a persona that a message gives away, as a language model read it there."""

    kind: Kind
    """Whether it belongs to the profile (a fact) or to the personality (a trait)."""
    text: str
    """What is disclosed, in the persona's own words."""
    words: str
    """The words of the message that it rests on."""


class Disclosure(Value):
    """One ledger entry: what one user message shows."""

    turn: int
    facts: tuple[Fact, ...] = ()
    manner: dict[Dimension, StyleValue] = Field(default_factory=dict)
    reactions: tuple[Reaction, ...] = ()
    stated: tuple[Stated, ...] = ()
    """What an inducer that is a language model found in the message; empty with rule-based users."""
    topic: str = ""
    """The slot that the message asks about; a good reply names the disclosed fact of this slot."""

    @property
    def missed(self) -> tuple[Reaction, ...]:
        """The reactions to a preference that the last reply missed."""
        return tuple(reaction for reaction in self.reactions if not reaction.met)


Ledger: TypeAlias = Sequence[Disclosure]


def disclosed_facts(ledger: Ledger) -> tuple[Fact, ...]:
    """All facts shown so far, in the order in which they came out, each once."""
    return tuple(dict.fromkeys(fact for entry in ledger for fact in entry.facts))


def disclosed_texts(ledger: Ledger) -> tuple[str, ...]:
    """All facts shown and all that a model found disclosed, in words, in the order in which it came out, each once."""
    told = ([*(f"{fact.slot}: {fact.term}" for fact in one.facts), *(at.text for at in one.stated)] for one in ledger)
    return tuple(dict.fromkeys(chain.from_iterable(told)))


def stated_so_far(ledger: Ledger) -> tuple[Stated, ...]:
    """All that a language model found disclosed, in the order in which it came out, each once."""
    return tuple(dict.fromkeys(one for entry in ledger for one in entry.stated))


def as_notes(ledger: Ledger) -> str:
    """What a policy notes down before it replies: the wishes heard so far, then what the last message states.

    A wish stands where it was first heard, as it was last heard. What was stated earlier stands in earlier notes; a
    user's manner needs none, since the messages show it.
    """
    wishes = {reaction.dimension: reaction.wanted for entry in ledger for reaction in entry.reactions}
    stated = [one.text.rstrip(".") for entry in ledger[-1:] for one in entry.stated]
    noted = [*(f"{dimension} {wanted}" for dimension, wanted in wishes.items()), *stated]
    return f"Notes: {'; '.join(noted) or 'nothing yet'}."
