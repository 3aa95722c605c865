"""Responders: who answers the user. Here the rule-based ones; any chat model is another.

`compose_reply` writes a reply in a wanted style, checks it with the judge's own ruler and tries again until it fits:
the rule-based responders differ only in the style that they aim for and in the facts that they may use.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from random import Random
from typing import Literal, Protocol, TypeAlias

from interalign.llm.model import ChatModel, Request, Sampling
from interalign.llm.thinking import takes_notes, without_thinking
from interalign.messages import Chat, Message, Value
from interalign.personas.persona import Fact, Persona
from interalign.personas.style import DIMENSIONS, Dimension, Style, StyleValue
from interalign.personas.vocabulary import Slot, slot
from interalign.roles.inducer import DEFAULT_STYLE, Impression, as_text, impression_from, manner_so_far
from interalign.roles.ledger import Ledger, disclosed_facts
from interalign.roles.measure import LENGTH_BANDS, mentions, style_of, words
from interalign.roles.phrases import responder_phrases, user_phrases
from interalign.roles.rendering import article_free, capitalised, lowered, punctuated, to_casual

__all__ = [
    "GENERIC_STYLE",
    "ModelResponder",
    "Reply",
    "Responder",
    "RuleResponder",
    "Source",
    "compose_reply",
    "fitting_fact",
    "impression_fit",
    "policy_prompt",
    "views",
]

Source: TypeAlias = Literal["random", "generic", "constant", "mirror", "tailored", "oracle", "policy"]
"""Who a reply comes from. `policy` is the model that is trained, which sees the chat and nothing else; `views` tells of
the others.
"""

GENERIC_STYLE: dict[Dimension, StyleValue] = {
    **DEFAULT_STYLE,
    "length": "long",
    "question": "some",
    "directness": "gentle",
    "warmth": "warm",
}
"""How a chat assistant that knows nobody answers everybody: long, warm, hedged, with a question at the end."""

_TRIES = 24


class Reply(Value):
    """A reply, and which language model wrote it, if one did."""

    content: str
    model: str | None = None


class Responder(Protocol):
    """Anything that can answer the last user turn of a chat."""

    async def respond(self, chat: Chat, topic: str, impression: Impression | None, seed: int) -> str:
        """Return the reply.

        Args:
            chat: the conversation, ending with a user message.
            topic: the slot that the message asks about; rule-based responders need it, language models read the chat.
            impression: what the reply may use of the user. None: the chat only.
            seed: where the reply's randomness comes from.
        """
        ...


class RuleResponder:
    """Composes a reply from the impression that it is given."""

    async def respond(self, chat: Chat, topic: str, impression: Impression | None, seed: int) -> str:
        """Return `compose_reply`'s text; without an impression in the generic style."""
        impression = impression or Impression(style=GENERIC_STYLE)
        return compose_reply(impression.style, topic, fitting_fact(topic, impression.facts), seed)


class ModelResponder:
    """A chat model in the responder's role: the policy, or the teacher of one.

    A policy that takes notes on the user (`train.notes`) sees those that it took in earlier turns of the chat, as far
    as they were taken here: a tree that is grown on later begins without those of its earlier turns.
    """

    def __init__(self, model: ChatModel, sampling: Sampling) -> None:
        self.model = model
        self.sampling = sampling
        # With its seed what was written, notes included, by the chat as others see it: talks go on side by side.
        self._noted: dict[Chat, tuple[int, str]] = {}

    async def respond(self, chat: Chat, topic: str, impression: Impression | None, seed: int) -> str:
        """Return the model's answer; an impression stands last in the system message, where it changes least."""
        system = policy_prompt() if impression is None else f"{policy_prompt()} {as_text(impression)}"
        messages = (Message(role="system", content=system), *self.with_notes(chat))
        answer = await self.model.complete(Request(messages=messages, sampling=self.sampling, seed=seed))
        said = answer.text.strip()
        if takes_notes(said):
            seen = (*chat, Message(role="assistant", content=without_thinking(said)))
            # Of equal replies with other notes one is kept, whichever comes first.
            self._noted[seen] = min(self._noted.get(seen, (seed, said)), (seed, said))
        return said

    def with_notes(self, chat: Chat) -> Chat:
        """The chat as the model knows it: its replies with the notes that it took before them."""
        if not self._noted:
            return chat
        written = (self._noted.get(chat[:end], (0, chat[end - 1].content)) for end in range(1, len(chat) + 1))
        return tuple(
            message.model_copy(update={"content": content}) for message, (_, content) in zip(chat, written, strict=True)
        )

    async def answer(self, chat: Chat, impression: Impression | None, seed: int) -> Reply:
        """The same without thinking and with the model's name, whatever the chat is about."""
        said = await self.respond(chat, "", impression, seed)
        return Reply(content=without_thinking(said), model=self.model.name)


@cache
def policy_prompt() -> str:
    """The system message that every policy is trained and tested with (`prompts/policy.txt`)."""
    return (files("interalign.roles") / "prompts" / "policy.txt").read_text(encoding="utf-8").strip()


def views(persona: Persona, ledger: Ledger, seed: int) -> dict[Source, Impression]:
    """What each rule-based source of replies is allowed to know of the user before it answers.

    `generic` answers everybody like a chat assistant, `constant` in one plain style; `mirror` copies how the user
    writes; `tailored` (the disclosed-only oracle) uses all that the ledger allows to conclude; `oracle` knows the
    persona's preferences. The first three, and `random`, know no fact but those in the message that they answer.
    """
    just_said = ledger[-1].facts
    return {
        "random": Impression(style=_random_style(Random(seed)), facts=just_said),
        "generic": Impression(style=GENERIC_STYLE, facts=just_said),
        "constant": Impression(style=DEFAULT_STYLE, facts=just_said),
        "mirror": Impression(style=manner_so_far(ledger), facts=just_said),
        "tailored": impression_from(ledger),
        "oracle": Impression(
            style={dimension: wish.value for dimension, wish in persona.preferences.items()},
            facts=disclosed_facts(ledger),
        ),
    }


def fitting_fact(topic: str, facts: Sequence[Fact]) -> Fact | None:
    """Of the given facts, the one that fills the topic's slot, or None when it is not among them."""
    return next((fact for fact in facts if fact.slot == topic), None)


def impression_fit(reply: str, topic: str, impression: Impression) -> float:
    """How well a reply fits an impression, in [0, 1]: the means to choose among candidates without the true persona."""
    measured = style_of(reply)
    met = [float(measured[dimension] == value) for dimension, value in impression.style_or_default().items()]
    fact = fitting_fact(topic, impression.facts)
    met += [float(mentions(reply, fact))] * 2 if fact is not None else []
    return sum(met) / len(met)


def compose_reply(style: Style, topic: str, fact: Fact | None, seed: int) -> str:
    """A reply about `topic` in the wanted style that names `fact` when one is given.

    Of up to 24 drafts the first one that measures as wanted on every dimension is returned, or else the draft with
    the fewest misses.
    """
    random = Random(seed)
    wanted = {**DEFAULT_STYLE, **style}
    best, fewest = "", len(DIMENSIONS) + 2
    for _ in range(_TRIES):
        draft = _draft(wanted, slot(topic), fact, random)
        measured = style_of(draft)
        misses = sum(measured[dimension] != value for dimension, value in wanted.items())
        misses += fact is not None and not mentions(draft, fact)
        misses += len(words(draft)) > _MOST_WORDS
        if misses < fewest:
            best, fewest = draft, misses
        if fewest == 0:
            break
    return best


def _random_style(random: Random) -> dict[Dimension, StyleValue]:
    """A style drawn uniformly on every dimension."""
    return {dimension: random.choice(values) for dimension, values in DIMENSIONS.items()}


# A long answer stays inside what a small policy may generate in the offline recipes (60 tokens).
_MOST_WORDS = 44


def _draft(style: Style, about: Slot, fact: Fact | None, random: Random) -> str:
    question = _question(style, about, random)
    opening = _opening(style, random)
    least, most = LENGTH_BANDS[style["length"]]
    goal = random.randint(least + 2, min(most, _MOST_WORDS) - 1)
    room = goal - len(words(" ".join([*opening, question])))
    if style["layout"] == "list":
        items = _list_body(style, about, fact, random, room)
        # A list has no sentence of its own that could carry an exclamation mark.
        cheer = [random.choice(responder_phrases().cheer)] if style["exclamation"] == "some" and not opening else []
        text = "\n".join(filter(None, [" ".join(_finished([*opening, *cheer], style, random)), *items, question]))
    else:
        sentences = [*opening, *_prose_body(style, about, fact, random, room)]
        text = " ".join(filter(None, [*_finished(sentences, style, random), question]))
    return _dressed(text, style, random)


def _opening(style: Style, random: Random) -> list[str]:
    if style["warmth"] != "warm":
        return []
    phrases = responder_phrases()
    return [random.choice(phrases.warm_opening if style["length"] == "long" else phrases.warm_short)]


def _question(style: Style, about: Slot, random: Random) -> str:
    if style["question"] != "some":
        return ""
    short = responder_phrases().question_short
    return random.choice(about.follow_up if style["length"] == "long" else short) + "?"


def _suggestions(style: Style, about: Slot, fact: Fact | None, random: Random) -> list[str]:
    """Verb phrases in the order in which they are used: the one that names the fact first. Brief is short of words."""
    plain = random.sample(about.suggestion_plain, 5)
    naming = random.sample(about.suggestion, 5)
    if style["length"] == "brief":
        plain.sort(key=lambda phrase: len(words(phrase)))
        naming.sort(key=lambda phrase: len(words(phrase)))
    named = [naming[0].format(noun=article_free(fact.term))] if fact is not None else []
    return [*named, *plain]


def _prose_body(style: Style, about: Slot, fact: Fact | None, random: Random, room: int) -> list[str]:
    phrases = responder_phrases()
    frames = phrases.gentle if style["directness"] == "gentle" else phrases.direct
    first, second, *_ = _suggestions(style, about, fact, random)
    body = [_framed(random.choice(frames), first)]
    extras = [
        f"{random.choice(phrases.connector)} {lowered(_framed(random.choice(frames), second))}",
        random.choice(about.detail),
        random.choice(phrases.filler),
        random.choice(phrases.cheer if style["exclamation"] == "some" else phrases.closer),
    ]
    return body + _fitting(extras, room - len(words(body[0])))


def _list_body(style: Style, about: Slot, fact: Fact | None, random: Random, room: int) -> list[str]:
    phrases = responder_phrases()
    gentle = style["directness"] == "gentle"
    lead = random.choice(phrases.list_lead_gentle if gentle else phrases.list_lead)
    with_lead = gentle or style["length"] != "brief"
    first, second, *more = _suggestions(style, about, fact, random)
    used = len(words(f"{first} {second} {lead if with_lead else ''}"))
    items = [first, second, *_fitting([*more, random.choice(about.detail)], room - used)]
    return [*([lead] if with_lead else []), *(f"- {capitalised(item)}" for item in items)]


def _fitting(sentences: Sequence[str], room: int) -> list[str]:
    """Those of the sentences, in their order, that together stay within `room` words."""
    kept: list[str] = []
    for sentence in sentences:
        if len(words(sentence)) <= room:
            kept.append(sentence)
            room -= len(words(sentence))
    return kept


def _framed(frame: str, verb_phrase: str) -> str:
    return frame.format(vp=verb_phrase, Vp=capitalised(verb_phrase))


def _finished(sentences: list[str], style: Style, random: Random) -> list[str]:
    exclaim = random.choice((1, 1, 2)) if style["exclamation"] == "some" else 0
    return punctuated([capitalised(sentence) for sentence in sentences], random, exclaim=exclaim)


def _dressed(text: str, style: Style, random: Random) -> str:
    """Casual words and emoji go over the whole text, whatever it is made of."""
    if style["formality"] == "casual":
        text = to_casual(text, random)
        if style_of(text)["formality"] != "casual":
            lead = random.choice(responder_phrases().casual_lead)
            text = f"{lead}\n{text}" if text.startswith("-") else f"{lead} {lowered(text)}"
    if style["emoji"] == "some":
        group = random.choice(sorted(user_phrases().emoji))
        text += " " + " ".join(random.sample(user_phrases().emoji[group], random.choice((1, 1, 2))))
    return text
