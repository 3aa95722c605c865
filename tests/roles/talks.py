"""Conversations with rule-based users for tests: real personas, real users, scripted replies."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import NamedTuple

from interalign.messages import Chat, Message
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.persona import Persona
from interalign.personas.style import DIMENSIONS, Dimension, StyleValue
from interalign.roles.ledger import Disclosure
from interalign.roles.responder import Source, compose_reply, fitting_fact, views
from interalign.roles.user import user_turn

PERSONAS = compose_personas(WorldConfig(train=30, heldout=30), seed=5)


class Talk(NamedTuple):
    """A conversation that ends with a user message, and its ledger."""

    persona: Persona
    chat: Chat
    ledger: tuple[Disclosure, ...]

    @property
    def topic(self) -> str:
        """The slot that the last message asks about."""
        return self.ledger[-1].topic

    def reply(self, source: Source, seed: int = 0) -> str:
        """What a scripted responder answers."""
        view = views(self.persona, self.ledger, seed)[source]
        return compose_reply(view.style, self.topic, fitting_fact(self.topic, view.facts), seed)

    def answered(self, reply: str, seed: int) -> Talk:
        """The conversation one turn later."""
        chat = (*self.chat, Message(role="assistant", content=reply))
        said = user_turn(self.persona, chat, self.ledger, seed)
        chat = (*chat, Message(role="user", content=said.content))
        return Talk(self.persona, chat, (*self.ledger, said.disclosure))


def opening(persona: Persona, seed: int) -> Talk:
    """The conversation after the user's first message."""
    said = user_turn(persona, (), (), seed)
    return Talk(persona, (Message(role="user", content=said.content),), (said.disclosure,))


def talks(persona: Persona, turns: int, seed: int, source: Source = "random") -> tuple[Talk, ...]:
    """The conversation as it stood after each user message."""
    return _talks(PERSONAS.index(persona), turns, seed, source)


@cache
def _talks(index: int, turns: int, seed: int, source: Source) -> tuple[Talk, ...]:
    so_far = [opening(PERSONAS[index], seed)]
    while len(so_far) < turns:
        reply = so_far[-1].reply(source, seed + len(so_far))
        so_far.append(so_far[-1].answered(reply, seed))
    return tuple(so_far)


def any_style(random: Random) -> dict[Dimension, StyleValue]:
    """A style drawn uniformly on every dimension."""
    return {dimension: random.choice(values) for dimension, values in DIMENSIONS.items()}
