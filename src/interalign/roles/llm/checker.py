"""A language model as the checker of user simulators: a second look at messages that the rules have let pass."""

from __future__ import annotations

from typing import ClassVar, Literal

from interalign.messages import Chat
from interalign.personas.persona import Persona
from interalign.roles.llm.player import Form, Player, setting, tagged

__all__ = ["LLMChecker"]


class _Found(Form):
    example: ClassVar[str] = '{"faults": ["role flip"|"leaked reasoning"|"contradiction"|...]}'

    faults: tuple[
        Literal[
            "role flip",
            "leaked reasoning",
            "leaked instructions",
            "assistant-speak",
            "restart",
            "contradiction",
            "over-disclosure",
        ],
        ...,
    ]


class LLMChecker:
    """Says what is wrong with the next message of a simulated user."""

    def __init__(self, player: Player) -> None:
        self._player = player

    async def faults(self, persona: Persona, chat: Chat, said: str, seed: int) -> tuple[str, ...]:
        """The faults of `said`, the message after `chat`, by the names of the checks; each once.

        Raises:
            RoleFailure: the answer cannot be read. The message is then neither good nor bad.
            ModelError: there is no usable answer.
        """
        data = f"{setting(persona, chat)}\n\n{tagged('message', said)}"
        found, _ = await self._player.ask_for(_Found, data, seed)
        return tuple(dict.fromkeys(found.faults))
