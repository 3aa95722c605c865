"""A language model as the grader of induction: which statements about a person are true, and what they have found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, ClassVar, TypeAlias

from pydantic import Field

from interalign.messages import Value
from interalign.personas.persona import Persona
from interalign.roles.llm.player import Form, Player, RoleFailure, tagged

__all__ = ["Graded", "LLMGrader", "statements_in"]

_MOST = 20
_BULLET = re.compile(r"^\s*(?:[-*•–]+|\(?\d{1,2}[.):])\s+")
_MARKUP = re.compile(r"\*\*|__|^#+\s*")
_NOTHING = frozenset({"nothing", "none", "nothing yet", "n/a"})

_Number: TypeAlias = Annotated[int, Field(ge=1)]


class Graded(Value):
    """The places, from 0, of the statements that are true and of the disclosed things that are named."""

    true: tuple[int, ...]
    found: tuple[int, ...]


class _Marks(Form):
    example: ClassVar[str] = '{"true": [numbers of statements], "found": [numbers of disclosed entries]}'

    true: tuple[_Number, ...]
    found: tuple[_Number, ...]


class LLMGrader:
    """Checks statements about a person against the persona and against what has been disclosed."""

    def __init__(self, player: Player) -> None:
        self._player = player

    async def grade(self, persona: Persona, disclosed: Sequence[str], statements: Sequence[str], seed: int) -> Graded:
        """Return what is true and what is found.

        Raises:
            RoleFailure: the answer cannot be read, or names what is not there.
            ModelError: the server refused or was silent.
        """
        person = tagged("persona", {"profile": persona.profile, "personality": persona.personality})
        listed = (tagged("disclosed", _numbered(disclosed)), tagged("statements", _numbered(statements)))
        marks, model = await self._player.ask_for(_Marks, "\n\n".join((person, *listed)), seed)
        if max(marks.true, default=0) > len(statements) or max(marks.found, default=0) > len(disclosed):
            raise RoleFailure(
                f"{model} marked more than the {len(statements)} statements and {len(disclosed)} disclosed entries.",
                mend="give the role another model.",
                cause="names what is not there",
            )
        return Graded(true=_places(marks.true), found=_places(marks.found))


def statements_in(text: str) -> tuple[str, ...]:
    """The statements of an answer, one a line, without bullets and headings; at most 20, each once."""
    lines = (_MARKUP.sub("", _BULLET.sub("", line)).strip() for line in text.splitlines())
    kept = [line for line in lines if line and not line.endswith(":") and line.rstrip(".!").casefold() not in _NOTHING]
    return tuple(dict.fromkeys(kept))[:_MOST]


def _numbered(texts: Sequence[str]) -> dict[str, str]:
    return {str(number): text for number, text in enumerate(texts, 1)}


def _places(numbers: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted({number - 1 for number in numbers}))
