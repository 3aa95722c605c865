"""Judges: how well one reply fits one person.

The verifiable judge measures the reply against the persona's preferences and against what has been disclosed. Its
score is exact and free; and it cannot be flattered, because what would flatter a language model (facts it was never
told, emoji by the dozen, the user's own words) costs points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Protocol, TypeAlias, runtime_checkable

from pydantic import Field

from interalign.messages import Chat, Value
from interalign.personas.persona import Fact, Persona
from interalign.personas.style import Dimension, StyleValue
from interalign.personas.vocabulary import slot
from interalign.roles.ledger import Ledger, disclosed_facts
from interalign.roles.measure import (
    count_emoji,
    count_exclamations,
    count_questions,
    length_distance,
    mentions,
    ngram_overlap,
    repetition,
    style_of,
    topicality,
    words,
)

__all__ = [
    "NOT_TOLD",
    "Comparison",
    "Judge",
    "Judgement",
    "RuleJudge",
    "SiblingJudge",
    "Verdict",
    "Vote",
    "judge_reply",
    "style_fit",
]


NOT_TOLD = "no reason told"
"""Why a verdict is missing where a judge returned None."""


class Verdict(Value):
    """A judge's score of one reply for one persona, with the parts that it is made of.

    `parts` are in [0, 1] (1 = fits); `penalties` are points subtracted from the score. A verdict that a judge could
    not give is not a Verdict: it is None or an error, and counted as missing.
    """

    score: Annotated[float, Field(ge=1, le=5)]
    parts: dict[str, float] = Field(default_factory=dict)
    penalties: dict[str, float] = Field(default_factory=dict)


Vote: TypeAlias = Literal["first", "second", "tie"]


class Comparison(Value):
    """What a judge said of two sibling replies, asked twice: with `first` shown first, then with `second` shown first.

    `first` and `second` are places among the siblings (in a tree: node indices). Votes name the reply, wherever it
    stood; a vote that could not be read is None.
    """

    first: int
    second: int
    votes: tuple[Vote | None, Vote | None]
    model: str | None = None

    @property
    def readable(self) -> bool:
        """Whether both votes could be read."""
        return None not in self.votes

    @property
    def consistent(self) -> bool | None:
        """Whether both orders gave the same vote; None where one could not be read."""
        return self.votes[0] == self.votes[1] if self.readable else None

    @property
    def winner(self) -> int | None:
        """The reply that both orders prefer; None for a tie, a disagreement or a vote that could not be read."""
        if not self.consistent or self.votes[0] == "tie":
            return None
        return self.first if self.votes[0] == "first" else self.second


class Judgement(Value):
    """What a judge said of all replies to one user turn."""

    verdicts: tuple[Verdict | None, ...]
    """One for each reply, in order."""
    comparisons: tuple[Comparison, ...] = ()


@runtime_checkable
class SiblingJudge(Protocol):
    """Anything that can judge the replies to one user turn side by side."""

    async def judge(self, persona: Persona, chat: Chat, replies: Sequence[str], ledger: Ledger, seed: int) -> Judgement:
        """Judge `replies`, which all answer the last message of `chat`."""
        ...


class Judge(Protocol):
    """Anything that can score a reply for a persona."""

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        """Return the verdict on `reply` to the last message of `chat`, or None when there is none to give.

        A judge that knows why there is none raises ModelError instead, with a `cause` by which missing verdicts are
        counted; RoleFailure where it has answered, and its answer says no score.
        """
        ...


class RuleJudge:
    """The verifiable judge, as a role."""

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        """Return `judge_reply`'s verdict; `seed` changes nothing."""
        return judge_reply(persona, chat, reply, ledger)

    async def judge(self, persona: Persona, chat: Chat, replies: Sequence[str], ledger: Ledger, seed: int) -> Judgement:
        """Score each reply by itself; an exact score needs no comparison."""
        return Judgement(verdicts=tuple(judge_reply(persona, chat, reply, ledger) for reply in replies))


_STYLE_SHARE, _CONTENT_SHARE = 0.7, 0.3
_STYLE_WITHOUT_SUBSTANCE = 0.4
_MOST_EMOJI, _MOST_EXCLAMATIONS, _MOST_QUESTIONS, _MOST_FACTS = 4, 4, 2, 2
_MOST_WORDS, _WORDS_A_POINT = 120, 60
# At least every tenth word of a sentence is one of these; a string of key words has none.
_LITTLE_WORDS = frozenset(
    words(
        "a about after all an and any are as at be been before both but by can could did do does each every for from "
        "had has have he her here him his how i if in into is it its me might my no not of on one or our she should "
        "so than that the their them there these they this those to until us was we were what when where which who "
        "will with would you your"
    )
)


def judge_reply(persona: Persona, chat: Chat, reply: str, ledger: Ledger) -> Verdict:
    """Measure one reply.

    score = 1 + 4 (0.7 style (0.4 + 0.6 on_topic) + 0.3 content) - penalties, cut to [1, 5], where
    style is the weighted mean of the fits on the eight dimensions, on_topic how much the reply is about what the
    message asks (0, 0.5, 1), and content = 0.4 on_topic + 0.6 recall: whether the disclosed fact that the message
    asks about is named. Style without substance earns less than half.

    Args:
        persona: a rule-based persona (facts and preferences). Another person's persona may be passed to find out how
            well the same reply would fit somebody else; that person's fact in the topic's slot is then asked for.
        chat: the conversation up to and including the user message that `reply` answers.
        reply: the text to judge.
        ledger: the disclosure ledger along `chat`; its last entry belongs to the last message.
    """
    fits = style_fit(persona, reply)
    weights = {dimension: persona.preferences[dimension].weight for dimension in fits}
    style = sum(fits[dimension] * weights[dimension] for dimension in fits) / sum(weights.values())
    asked_for = _asked_for(persona, ledger)
    on_topic = topicality(reply, slot(ledger[-1].topic), asked_for)
    recall = float(any(mentions(reply, fact) for fact in asked_for))
    content = 0.4 * on_topic + 0.6 * recall
    substance = _STYLE_WITHOUT_SUBSTANCE + (1 - _STYLE_WITHOUT_SUBSTANCE) * on_topic
    penalties = {name: points for name, points in _penalties(persona, chat, reply, ledger).items() if points > 0}
    score = 1 + 4 * (_STYLE_SHARE * style * substance + _CONTENT_SHARE * content) - sum(penalties.values())
    return Verdict(
        score=round(min(max(score, 1.0), 5.0), 4),
        parts={**{str(dimension): fit for dimension, fit in fits.items()}, "on_topic": on_topic, "recall": recall},
        penalties=penalties,
    )


def style_fit(persona: Persona, reply: str) -> dict[Dimension, float]:
    """How well the reply meets the persona on each dimension: 1 or 0, for length falling over 15 words outside."""
    measured = style_of(reply)
    return {
        dimension: _length_fit(reply, preference.value)
        if dimension == "length"
        else float(measured[dimension] == preference.value)
        for dimension, preference in persona.preferences.items()
    }


def _length_fit(reply: str, wanted: StyleValue) -> float:
    return max(0.0, 1 - length_distance(len(words(reply)), wanted) / 15)


def _asked_for(persona: Persona, ledger: Ledger) -> list[Fact]:
    """The persona's fact in the slot that the last message asks about, once that slot has been spoken of."""
    topic = ledger[-1].topic
    spoken_of = {fact.slot for fact in disclosed_facts(ledger)}
    return [fact for fact in persona.facts if fact.slot == topic and fact.slot in spoken_of]


def _penalties(persona: Persona, chat: Chat, reply: str, ledger: Ledger) -> dict[str, float]:
    own = [message.content for message in chat if message.role == "assistant"]
    users = [message.content for message in chat if message.role == "user"]
    return {
        "degenerate": _degenerate(reply),
        "mind_reading": min(2.0, 1.0 * len(_undisclosed(persona, chat, reply, ledger))),
        "stuffing": _stuffing(reply, disclosed_facts(ledger)),
        "parroting": 3.0 * max(0.0, ngram_overlap(reply, [*users, persona.profile, persona.personality]) - 0.2),
        "repetition": 3.0 * max(0.0, repetition(reply) - 0.1) + 3.0 * max(0.0, ngram_overlap(reply, own) - 0.4),
        "rambling": max(0.0, (len(words(reply)) - _MOST_WORDS) / _WORDS_A_POINT),
    }


def _undisclosed(persona: Persona, chat: Chat, reply: str, ledger: Ledger) -> list[Fact]:
    """Facts of the persona that the reply names although nobody has brought them up."""
    known = set(disclosed_facts(ledger))
    return [
        fact
        for fact in persona.facts
        if fact not in known and mentions(reply, fact) and not any(mentions(message.content, fact) for message in chat)
    ]


def _stuffing(reply: str, disclosed: Sequence[Fact]) -> float:
    facts = sum(mentions(reply, fact) for fact in disclosed)
    excess = (
        max(0, count_emoji(reply) - _MOST_EMOJI)
        + max(0, count_exclamations(reply) - _MOST_EXCLAMATIONS)
        + max(0, count_questions(reply) - _MOST_QUESTIONS)
        + 2 * max(0, facts - _MOST_FACTS)
    )
    return min(4.0, 0.5 * excess)


def _degenerate(reply: str) -> float:
    """4 (the whole scale) for a text that is no answer at all.

    That is one with next to no words, with more marks than letters, made of key words alone, or going round in circles.
    """
    found = words(reply)
    letters = sum(len(word) for word in found)
    visible = sum(not character.isspace() for character in reply)
    little = sum(word in _LITTLE_WORDS for word in found)
    no_answer = (
        len(found) < 3
        or letters < 0.5 * visible
        or little < 0.1 * len(found)
        or len(set(found)) < 0.3 * len(found)
        or repetition(reply) > 0.5
    )
    return 4.0 if no_answer else 0.0
