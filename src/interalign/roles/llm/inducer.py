"""A language model as the inducer: it sees the whole persona, and writes down what the chat has given away of it.

A finding counts only where it rests on words that stand in the user's last message. Of the chat it is shown the last
exchange, and what was found before in the place of the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from interalign.messages import Chat, Value
from interalign.personas.description import Kind, normalised
from interalign.personas.persona import Persona
from interalign.roles.inducer import Impression
from interalign.roles.ledger import Ledger, Stated, stated_so_far
from interalign.roles.llm.player import Form, Player, moment

__all__ = ["LLMInducer"]


class _Finding(Value):
    kind: Kind
    text: str
    words: str


class _Findings(Form):
    example: ClassVar[str] = '{"found": [{"kind": "profile"|"personality", "text": "...", "words": "..."}]}'

    found: tuple[_Finding, ...]


class LLMInducer:
    """Reads a chat message by message."""

    def __init__(self, player: Player) -> None:
        self._player = player

    async def induce(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> Impression:
        """Return what the ledger states, and after it what the last message of the chat adds.

        Raises:
            RoleFailure: the answer cannot be read.
            ModelError: there is no usable answer.
        """
        known = stated_so_far(ledger)
        data = moment(persona, "known", [one.text for one in known], chat)
        findings, _ = await self._player.ask_for(_Findings, data, seed)
        return Impression(stated=(*known, *_grounded(findings.found, chat[-1].content, known)))


def _grounded(findings: Sequence[_Finding], message: str, known: Sequence[Stated]) -> Iterator[Stated]:
    """The findings that are new and whose words stand in the message."""
    said = normalised(message)
    held = {normalised(one.text) for one in known}
    for one in findings:
        text, words = normalised(one.text), normalised(one.words)
        if text and text not in held and words and words in said:
            held.add(text)
            yield Stated(kind=one.kind, text=one.text.strip(), words=one.words.strip())
