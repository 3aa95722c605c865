"""The inducer: what an attentive, honest listener can conclude from the chat so far.

The rule-based inducer reads the disclosure ledger only. It is Bayes-optimal for how rule-based users show their
manner (`roles/user.py`), and lets reactions overrule manner, as people's reactions should.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from pydantic import Field

from interalign.messages import Chat, Value
from interalign.personas.persona import Fact, Persona
from interalign.personas.style import DIMENSIONS, Dimension, StyleValue
from interalign.roles.ledger import Ledger, Reaction, Stated, disclosed_facts

__all__ = [
    "DEFAULT_STYLE",
    "SHOW_RATE",
    "SLIP_RATE",
    "Impression",
    "Inducer",
    "RuleInducer",
    "as_text",
    "impression_from",
    "manner_so_far",
]

DEFAULT_STYLE: dict[Dimension, StyleValue] = {
    "length": "medium",
    "emoji": "none",
    "exclamation": "none",
    "question": "none",
    "formality": "formal",
    "directness": "direct",
    "layout": "prose",
    "warmth": "plain",
}
"""What to assume of somebody of whom nothing is known yet."""

SHOW_RATE = 0.6
"""How often a user's message shows a manner that is a presence (an emoji, a contraction, a hedge, ...)."""
SLIP_RATE = 0.05
"""How often a message shows it although it is not the user's manner."""

_PRESENCE: dict[Dimension, tuple[StyleValue, StyleValue]] = {
    "emoji": ("some", "none"),
    "exclamation": ("some", "none"),
    "formality": ("casual", "formal"),
    "directness": ("gentle", "direct"),
    "warmth": ("warm", "plain"),
}
_BANDS: tuple[StyleValue, ...] = DIMENSIONS["length"]


class Impression(Value):
    """What has been concluded about a user: facts disclosed, style wanted.

    `style` holds only the dimensions on which the chat gave evidence; `heard` those of them that rest on a reaction
    and not just on how the user writes.
    """

    facts: tuple[Fact, ...] = ()
    style: dict[Dimension, StyleValue] = Field(default_factory=dict)
    heard: tuple[Dimension, ...] = ()
    stated: tuple[Stated, ...] = ()
    """What an inducer that is a language model read in the chat so far; empty with rule-based users."""

    def style_or_default(self) -> dict[Dimension, StyleValue]:
        """A value for every dimension: what was concluded, or else the default."""
        return {**DEFAULT_STYLE, **self.style}


class Inducer(Protocol):
    """Anything that can write down what a chat has disclosed."""

    async def induce(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> Impression:
        """Return the impression after the last message of the chat, a user turn.

        An inducer may look up in the persona how to word what the chat has disclosed, and must add nothing else. What
        it states beyond the ledger becomes the ledger's entry for the last message.
        """
        ...


class RuleInducer:
    """Reads the ledger. Exact and free; the chat's words are not looked at."""

    async def induce(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> Impression:
        """Return what the ledger allows to conclude; nothing else is looked at."""
        return impression_from(ledger)


def impression_from(ledger: Ledger) -> Impression:
    """The impression that the ledger allows: manner as the first guess, reactions on top."""
    style = manner_so_far(ledger)
    heard: dict[Dimension, StyleValue] = {}
    for dimension in DIMENSIONS:
        value = _from_reactions(ledger, dimension, style.get(dimension))
        if value is not None:
            heard[dimension] = value
    return Impression(facts=disclosed_facts(ledger), style={**style, **heard}, heard=tuple(heard))


def manner_so_far(ledger: Ledger) -> dict[Dimension, StyleValue]:
    """The user's most likely way of writing, given what each message showed; {} before the first message."""
    shown = [entry.manner for entry in ledger if entry.manner]
    if not shown:
        return {}
    style: dict[Dimension, StyleValue] = {"length": _typical_length(shown)}
    for dimension, (present, absent) in _PRESENCE.items():
        evidence = sum(_log_odds(message.get(dimension) == present) for message in shown)
        style[dimension] = present if evidence > 0 else absent
    return style


def as_text(impression: Impression) -> str:
    """The impression in words, as a tailored language model is told it."""
    facts = ", ".join(f"{fact.slot}: {fact.term}" for fact in impression.facts) or "nothing yet"
    style = ", ".join(f"{dimension}: {value}" for dimension, value in impression.style.items()) or "nothing yet"
    return f"Known about the user: {facts}. The user seems to want answers like this: {style}."


def _log_odds(present: bool) -> float:
    if present:
        return math.log(SHOW_RATE / SLIP_RATE)
    return math.log((1 - SHOW_RATE) / (1 - SLIP_RATE))


def _typical_length(shown: Sequence[dict[Dimension, StyleValue]]) -> StyleValue:
    bands = sorted(_BANDS.index(message["length"]) for message in shown if "length" in message)
    return _BANDS[bands[len(bands) // 2]] if bands else DEFAULT_STYLE["length"]


def _from_reactions(ledger: Ledger, dimension: Dimension, guess: StyleValue | None) -> StyleValue | None:
    if dimension == "length":
        return _length_from_reactions(ledger, guess)
    reactions = _reactions_on(ledger, dimension)
    return reactions[-1].wanted if reactions else None


def _length_from_reactions(ledger: Ledger, guess: StyleValue | None) -> StyleValue | None:
    """Length has three values and remarks that give a direction, so each remark narrows down what is possible."""
    possible = list(_BANDS)
    heard = False
    for reaction in _reactions_on(ledger, "length"):
        heard = True
        got = _BANDS.index(reaction.got)
        if reaction.wanted == "shorter":
            possible = [band for band in possible if _BANDS.index(band) < got] or possible
        elif reaction.wanted == "longer":
            possible = [band for band in possible if _BANDS.index(band) > got] or possible
        else:
            possible = [reaction.got]
    if not heard:
        return None
    return guess if guess in possible else possible[len(possible) // 2]


def _reactions_on(ledger: Ledger, dimension: Dimension) -> list[Reaction]:
    return [reaction for entry in ledger for reaction in entry.reactions if reaction.dimension == dimension]
