"""A language model as the rating judge: one reply at a time, scored from 1 to 5.

What always holds: a score is what the model said, or there is none. An answer that cannot be read is asked for once
more; after that a RoleFailure says why, in its `cause` in words that can be counted. A failure of the server is another
ModelError.

Of the chat the judge is shown the last exchange, and for the rest what the person has given away of themselves (the
ledger), which bounds what an honest reply can claim of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Generic, NamedTuple, TypeVar

from interalign.llm.model import Answer
from interalign.messages import Chat
from interalign.personas.persona import Persona
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Ledger, disclosed_texts
from interalign.roles.llm.player import (
    Form,
    Player,
    Score,
    Unreadable,
    exchange,
    moment,
    read_form,
    schema_of,
    tagged,
)
from interalign.roles.llm.ratings import Reading, read_rating, weighted_score

__all__ = ["HelpfulnessRater", "LLMRater"]

_NO_SCORE = "no whole number from 1 to 5"
_FREE = "Rating: N, where N is 1, 2, 3, 4 or 5"
_ALTERNATIVES = 5
"""How many tokens are wished for: as many as there are scores, which every server gives that gives any."""


class _Scored(Form):
    example: ClassVar[str] = '{"score": 1-5}'

    score: Score


class _Rating(_Scored):
    example: ClassVar[str] = '{"score": 1-5, "style": 1-5, "content": 1-5, "honest": true|false}'

    style: Score
    content: Score
    honest: bool


F = TypeVar("F", bound=_Scored)


class LLMRater:
    """Scores a reply for a person, by itself.

    Args:
        player: Who rates.
        weighted: Whether a score is the mean of the five, weighted by how likely the model held each, where its server
            tells that (see `ratings.weighted_score`); a score whose chances are not told stands as it was said.
        free_text: For judges that write as they like: an answer that is no JSON of the form is read by the grammar of
            `ratings`, no schema is sent, and what is asked for after an answer that cannot be read is a reason and a
            line "Rating: N". A verdict that was read so has no parts. Its player's instructions are those of
            `instructions("rater_free")`.
    """

    def __init__(self, player: Player, weighted: bool = False, free_text: bool = False) -> None:
        self._asking = _Asking(player, _Rating, weighted, free_text)

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict:
        """Rate `reply` to the last message of `chat`; which model rates depends on the seed alone.

        Returns:
            The score and its parts: `style` and `content` in steps of a quarter from 0 to 1, and `honest`, which is 0
            when the reply claims something of the person that was not disclosed. The parts change nothing in the
            score.

        Raises:
            RoleFailure: the answer could not be read.
            ModelError: the server refused or was silent.
        """
        place = moment(persona, "disclosed", disclosed_texts(ledger), chat)
        rated = await self._asking.rated(f"{place}\n\n{tagged('reply', reply)}", seed)
        return Verdict(score=rated.score, parts=_parts(rated.form))


class HelpfulnessRater:
    """Scores how well a reply would help anybody who asks this: nothing is known of the person.

    Args:
        player: Who rates.
        weighted: As for LLMRater.
        free_text: As for LLMRater.
    """

    def __init__(self, player: Player, weighted: bool = False, free_text: bool = False) -> None:
        self._asking = _Asking(player, _Scored, weighted, free_text)

    async def helpfulness(self, chat: Chat, reply: str, seed: int) -> float:
        """The score in [1, 5] of `reply` to the last message of `chat`.

        Raises:
            RoleFailure: the answer could not be read.
            ModelError: the server refused or was silent.
        """
        return (await self._asking.rated(f"{exchange(chat)}\n\n{tagged('reply', reply)}", seed)).score


class _Rated(NamedTuple, Generic[F]):
    score: float
    form: F | None
    """The whole answer; None when a score was all that could be read."""


class _Asking(Generic[F]):
    """How a player is asked for a form with a score, and how its answers are read."""

    def __init__(self, player: Player, form: type[F], weighted: bool, free_text: bool) -> None:
        self._player = player
        self._form = form
        self._weighted = weighted
        self._free_text = free_text

    async def rated(self, data: str, seed: int) -> _Rated[F]:
        """What the answer says; raises RoleFailure when it could not be read."""
        read: Callable[[str], _Rated[F]] = partial(_read_freely if self._free_text else _read, self._form)
        example, repair = (_FREE, "repair_free") if self._free_text else (self._form.example, "repair")
        schema = None if self._free_text else schema_of(self._form)
        wished = _ALTERNATIVES if self._weighted else 0
        said, answer = await self._player.ask_until_read(
            read, example, data, seed, repair=repair, schema=schema, top_logprobs=wished
        )
        weighted = _weighted(answer) if self._weighted else None
        return said if weighted is None else said._replace(score=weighted)


def _read(form: type[F], text: str) -> _Rated[F]:
    read = read_form(form, text)
    return _Rated(read.score, read)


def _read_freely(form: type[F], text: str) -> _Rated[F]:
    """The whole form, or else a score alone; raises Unreadable."""
    try:
        return _read(form, text)
    except Unreadable:
        reading = read_rating(text)
    if reading.score is None:
        raise Unreadable(reading.reason, _cause(reading))
    return _Rated(reading.score, None)


def _cause(reading: Reading) -> str:
    """The reason of a reading without the number that was read."""
    if reading.reason.endswith(_NO_SCORE):
        return _NO_SCORE
    return reading.reason.removeprefix("it ").removeprefix("its ")


def _weighted(answer: Answer) -> float | None:
    """The weighted score of an answer that has been read, where its chances are told."""
    at = read_rating(answer.text).at if answer.top else None
    return None if at is None else weighted_score(answer, at)


def _parts(rating: _Rating | None) -> dict[str, float]:
    if rating is None:
        return {}
    return {
        "style": (rating.style - 1) / 4,
        "content": (rating.content - 1) / 4,
        "honest": float(rating.honest),
    }
