"""A language model as the user simulator: it plays the whole persona and gives away a part of it each turn.

What a message discloses is not its own to say: the inducer reads it off the chat.
"""

from __future__ import annotations

import re

from interalign.messages import Chat
from interalign.personas.persona import Persona
from interalign.roles.ledger import Disclosure, Ledger
from interalign.roles.llm.player import Player, RoleFailure, setting, tagged
from interalign.roles.user import UserTurn
from interalign.run import derive_seed

__all__ = ["LLMUser"]

_LABEL = re.compile(r"\**user\**:\**\s*", re.IGNORECASE)
_ANY_LABEL = re.compile(r"^\W*(?:user|assistant)\W*:", re.IGNORECASE | re.MULTILINE)
_QUOTES = ('""', "“”", "„“", "«»", "「」")


class LLMUser:
    """Plays personas by their texts.

    Which model plays a persona depends on the persona alone: a message that is asked for again, under another seed,
    comes from the same one.
    """

    def __init__(self, player: Player) -> None:
        self._player = player

    async def speak(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> UserTurn:
        """Return the next user turn; its ledger entry holds the turn and nothing yet.

        Raises:
            RoleFailure: the message is empty.
            ModelError: there is no usable answer.
        """
        turn = 1 + sum(message.role == "user" for message in chat)
        data = f"{setting(persona, chat)}\n\n{tagged('turn', turn)}"
        answer = await self._player.ask(data, derive_seed(seed, persona.id, turn), draw=derive_seed(0, persona.id))
        content = _unwrapped(answer.text)
        if not content:
            raise RoleFailure(f"{answer.model}, as the user, said nothing.", mend="give the role another model.")
        return UserTurn(content=content, disclosure=Disclosure(turn=turn), model=answer.model)


def _unwrapped(text: str) -> str:
    """The message without a label or quotation marks around the whole of it; a transcript stays as it is."""
    text = text.strip()
    label = _LABEL.match(text)
    if label and len(_ANY_LABEL.findall(text)) == 1:
        return _unwrapped(text[label.end() :])
    quoted = any(text[0] == pair[0] and text[-1] == pair[1] for pair in _QUOTES) if len(text) > 1 else False
    if quoted and not {text[0], text[-1]} & set(text[1:-1]):
        return _unwrapped(text[1:-1])
    return text
