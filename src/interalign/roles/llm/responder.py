"""Language models as responders: tailored with notes about the user, generic without.

Both get the same messages. The notes stand behind the last one, so that the two share all that comes before, and a
chat carries no notes on to its next turn.
"""

from __future__ import annotations

from typing import Any

from interalign.llm.thinking import without_thinking
from interalign.messages import Chat, Message
from interalign.personas.generate import as_data
from interalign.roles.inducer import Impression
from interalign.roles.llm.player import Player, RoleFailure, packaged
from interalign.roles.responder import Reply

__all__ = ["LLMResponder"]


class LLMResponder:
    """Answers the chat itself, after the player's instructions as the system message."""

    def __init__(self, player: Player) -> None:
        self._player = player

    async def answer(self, chat: Chat, impression: Impression | None, seed: int) -> Reply:
        """Return the reply to the last message of `chat`, a user turn.

        Args:
            chat: The conversation.
            impression: What the reply may use of the user; without one, or with nothing in it, the chat only.
            seed: Of the reply.

        Raises:
            RoleFailure: the reply is empty, or nothing but thinking.
            ModelError: there is no usable answer.
        """
        notes = _notes(impression) if impression is not None else {}
        if notes:
            told = f"{chat[-1].content}\n\n{packaged('responder').format(notes=as_data(notes))}"
            chat = (*chat[:-1], Message(role="user", content=told))
        answer = await self._player.reply(chat, seed)
        content = without_thinking(answer.text)
        if not content:
            raise RoleFailure(f"{answer.model} gave an empty reply.", mend="give the role another model.")
        return Reply(content=content, model=answer.model)


def _notes(impression: Impression) -> dict[str, Any]:
    """What is known, by what it is about; {} when nothing is. Facts and style are those of rule-based users."""
    facts = [f"{fact.slot}: {fact.term}" for fact in impression.facts]
    notes = {
        "profile": facts + [one.text for one in impression.stated if one.kind == "profile"],
        "personality": [one.text for one in impression.stated if one.kind == "personality"],
        "seems to want replies that are": dict(impression.style),
    }
    return {about: known for about, known in notes.items() if known}
