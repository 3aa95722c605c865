"""User simulators: who the assistant talks to. Here the rule-based one.

A rule-based user never says how it wants to be answered. It shows it, gradually and with noise, in how it writes, and
in passing remarks on replies that missed (or, after a miss, met) what it wants. What a message shows is recorded as
it is said, so the disclosure ledger is exact.

The message depends on the persona, the last reply and the seed only: same recipe, same replies, same bytes.
"""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Protocol

from interalign.errors import InputError
from interalign.messages import Chat, Value
from interalign.personas.persona import Fact, Persona
from interalign.personas.style import SHOWN_IN_WRITING, Dimension, StyleValue
from interalign.personas.vocabulary import SLOTS, TraitEntry, slot, traits
from interalign.roles.inducer import SHOW_RATE, SLIP_RATE
from interalign.roles.judge import style_fit
from interalign.roles.ledger import Disclosure, Ledger, Reaction, disclosed_facts
from interalign.roles.measure import count_questions, style_of, topicality
from interalign.roles.phrases import Remarks, user_phrases
from interalign.roles.rendering import capitalised, lowered, punctuated, to_casual
from interalign.run import derive_seed

__all__ = ["MISSED_BELOW", "RuleUser", "UserSimulator", "UserTurn", "refuse_unplayable", "user_turn"]

MISSED_BELOW = 0.5
"""A fit below this is a miss, of which the user may complain."""


class UserTurn(Value):
    """What the user says, and what it shows."""

    content: str
    disclosure: Disclosure
    model: str | None = None
    """Which language model spoke, if one did."""


class UserSimulator(Protocol):
    """Anything that can play a persona."""

    async def speak(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> UserTurn:
        """Return the next user turn after `chat` (empty for the opening)."""
        ...


class RuleUser:
    """The rule-based user simulator, as a role. `seed` is the seed of the conversation, the same for every turn."""

    async def speak(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> UserTurn:
        """Return `user_turn`'s message."""
        return user_turn(persona, chat, ledger, seed)


def refuse_unplayable(persona: Persona) -> None:
    """Refuse a persona without the structure that a rule-based user is made of, as one that comes from text alone.

    Raises:
        InputError: facts, manner, preferences or voice are missing, or a slot, trait or voice is in no vocabulary.
    """
    voice = persona.voice
    wrong = {
        "facts": not persona.facts or any(fact.slot not in SLOTS for fact in persona.facts),
        "traits": any(trait.name not in _traits_by_name() for trait in persona.traits),
        "manner": not persona.manner.keys() >= set(SHOWN_IN_WRITING),
        "preferences": not persona.preferences,
        "voice": not voice.keys() >= {"tone", "casing", "pause"} or voice.get("emoji") not in user_phrases().emoji,
    }
    if any(wrong.values()):
        raise InputError(
            f"Persona {persona.id} cannot be played by rules, because of its "
            f"{', '.join(part for part, is_wrong in wrong.items() if is_wrong)}.",
            mend="use personas that `interalign personas compose` has made, or let language models play them "
            "(`interalign simulate --model`, `interalign eval --roles`; simulate.roles, benchmark.roles in a recipe).",
        )


_REACTS, _REACTS_TWICE, _PRAISES = 0.85, 0.4, 0.5
_TELLS_TWO, _STARTS_WITH_TWO = 0.2, 0.6
_ASKS_BACK_TO_EARLIER = 0.7
_LENGTH_SHOWS = 0.85
_PLAIN_REMARK = 0.6  # the others are in images, and in the tone of the person


def user_turn(persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> UserTurn:
    """The next message of a rule-based persona, with its ledger entry.

    Args:
        persona: facts, manner, preferences and voice must be there (`persona.is_rule_based`).
        chat: the conversation so far, ending with a reply, or empty.
        ledger: one entry per user message in `chat`.
        seed: seed of the conversation.
    """
    turn = len(ledger) + 1
    reply = chat[-1].content if chat else None
    # Plan and wording have seeds of their own: two models that are tested on one persona meet the same plan, even
    # though the remarks on their replies differ.
    facts, topic = _plan_turn(persona, ledger, Random(derive_seed(seed, persona.id, turn, "plan")))
    random = Random(derive_seed(seed, persona.id, turn, "words"))
    intent = _Intent(
        facts=facts,
        topic=topic,
        reactions=_reactions(persona, reply, ledger, random) if reply is not None else (),
        asked=reply is not None and count_questions(reply) > 0,
        answer=_answer(persona, ledger, facts, reply) if reply is not None else None,
        opening=reply is None,
        shown=_shown_manner(persona, random),
    )
    remarks = [_remark(persona, reaction, random) for reaction in intent.reactions]
    content = _written(persona, _sentences(persona, intent, remarks, random), intent.shown, random)
    disclosure = Disclosure(
        turn=turn,
        facts=facts if intent.answer is None else (*facts, intent.answer),
        manner={**intent.shown, **_marks(content)},
        reactions=tuple(
            reaction.model_copy(update={"words": remark})
            for reaction, remark in zip(intent.reactions, remarks, strict=True)
        ),
        topic=topic,
    )
    return UserTurn(content=content, disclosure=disclosure)


def _marks(content: str) -> dict[Dimension, StyleValue]:
    # A message that is all questions has no sentence to put an exclamation mark to: the ledger holds what is there.
    return {"exclamation": style_of(content)["exclamation"]}


class _Intent(Value):
    """What a message is going to say, before it is put into words."""

    facts: tuple[Fact, ...]
    topic: str
    reactions: tuple[Reaction, ...]
    asked: bool
    answer: Fact | None
    opening: bool
    shown: dict[Dimension, StyleValue]


def _plan_turn(persona: Persona, ledger: Ledger, plan: Random) -> tuple[tuple[Fact, ...], str]:
    """Which facts slip out this turn, and which slot the message asks about: a new one, or one known from before."""
    known = disclosed_facts(ledger)
    fresh = [fact for fact in persona.facts if fact not in known]
    facts = tuple(fresh[: 2 if plan.random() < (_TELLS_TWO if known else _STARTS_WITH_TWO) else 1])
    asked = [entry.topic for entry in ledger]
    earlier = [fact for fact in known if fact.slot not in asked[-2:]]
    ask_earlier = plan.random() < _ASKS_BACK_TO_EARLIER
    if earlier and (ask_earlier or not facts):
        return facts, plan.choice(earlier).slot
    return facts, plan.choice(facts or known).slot


def _answer(persona: Persona, ledger: Ledger, facts: tuple[Fact, ...], reply: str) -> Fact | None:
    """The undisclosed fact that the reply's last question is about; None when it asks nothing or something else."""
    if not count_questions(reply):
        return None
    question = reply[: reply.rindex("?")].splitlines()[-1]
    known = {*disclosed_facts(ledger), *facts}
    hidden = (fact for fact in persona.facts if fact not in known)
    return next((fact for fact in hidden if topicality(question, slot(fact.slot)) == 1), None)


def _reactions(persona: Persona, reply: str, ledger: Ledger, random: Random) -> tuple[Reaction, ...]:
    """Remarks on what the reply missed, what matters most first; now and then praise for what it got right at last."""
    got = style_of(reply)
    fits = style_fit(persona, reply)
    by_weight = sorted(fits, key=lambda d: -persona.preferences[d].weight * (0.5 + random.random()))
    missed = [d for d in by_weight if fits[d] < MISSED_BELOW]
    noticed = [d for d in missed[:1] if random.random() < _REACTS]
    noticed += [d for d in missed[1:2] if noticed and random.random() < _REACTS_TWICE]
    reactions = [Reaction(dimension=d, got=got[d], wanted=_wanted(persona, d, got[d])) for d in noticed]
    complained = {reaction.dimension for entry in ledger for reaction in entry.missed}
    praised = {reaction.dimension for entry in ledger for reaction in entry.reactions if reaction.met}
    mended = [d for d in by_weight if d in complained - praised and fits[d] == 1.0]
    if mended and random.random() < _PRAISES:
        reactions.append(Reaction(dimension=mended[0], got=got[mended[0]], wanted=got[mended[0]], met=True))
    return tuple(reactions)


def _wanted(persona: Persona, dimension: Dimension, got: StyleValue) -> StyleValue:
    wanted = persona.preferences[dimension].value
    if dimension != "length":
        return wanted
    order = ("brief", "medium", "long")
    # A reply can miss the band and still be named like it ("long", but far too long): then it was too long.
    return "longer" if order.index(got) < order.index(wanted) else "shorter"


def _shown_manner(persona: Persona, random: Random) -> dict[Dimension, StyleValue]:
    """What this message shows of the persona's manner: a presence shows often, not always, and sometimes slips in."""
    manner = persona.manner
    presences: dict[Dimension, StyleValue] = {
        "emoji": "some",
        "exclamation": "some",
        "formality": "casual",
        "directness": "gentle",
        "warmth": "warm",
    }
    absent = {"emoji": "none", "exclamation": "none", "formality": "formal", "directness": "direct", "warmth": "plain"}
    shown: dict[Dimension, StyleValue] = {
        dimension: present
        if random.random() < (SHOW_RATE if manner[dimension] == present else SLIP_RATE)
        else absent[dimension]
        for dimension, present in presences.items()
    }
    steady = random.random() < _LENGTH_SHOWS
    shown["length"] = manner["length"] if steady else random.choice(("brief", "medium", "long"))
    return shown


def _sentences(persona: Persona, intent: _Intent, remarks: list[str], random: Random) -> list[str]:
    """The message as neutral sentences: opening, remarks, answer, facts, elaboration, request, closing."""
    phrases = user_phrases()
    brief, long = (intent.shown["length"] == length for length in ("brief", "long"))
    sentences = [random.choice(phrases.first_opener)] if intent.opening and random.random() < 0.3 else []
    sentences += remarks
    if intent.shown["warmth"] == "warm":
        sentences.append(random.choice(phrases.pleasantry_first if intent.opening else phrases.pleasantry))
    if intent.answer is not None:
        sentences.append(random.choice(phrases.answer_lead))
        sentences.append(_disclosing(intent.answer, random))
    elif intent.asked and not brief and random.random() < 0.3:
        sentences.append(random.choice(phrases.deflect))
    sentences += [_disclosing(fact, random) for fact in intent.facts]
    sentences += _elaboration(persona, intent, random)
    if long and random.random() < 0.35:
        sentences.append(random.choice(phrases.bridge))
    sentences.append(_request(intent, random))
    if intent.shown["directness"] == "gentle":
        sentences = _hedged(sentences, random)
    if long and random.random() < 0.3:
        sentences.append(random.choice(phrases.sign_off))
    return sentences


def _disclosing(fact: Fact, random: Random) -> str:
    return random.choice(slot(fact.slot).disclose).format(term=fact.term)


def _remark(persona: Persona, reaction: Reaction, random: Random) -> str:
    remarks = _remarks_on(persona, reaction)
    if reaction.met:
        return random.choice(remarks.praise)
    if random.random() < _PLAIN_REMARK:
        return random.choice(remarks.plain)
    return random.choice(remarks.blunt if persona.voice["tone"] == "blunt" else remarks.polite)


def _remarks_on(persona: Persona, reaction: Reaction) -> Remarks:
    by_wanted = user_phrases().reaction[reaction.dimension]
    if reaction.wanted in by_wanted:
        return by_wanted[reaction.wanted]
    # Praise for a length that fits at last: what the person used to miss is what is praised now.
    return by_wanted["longer" if persona.preferences["length"].value == "long" else "shorter"]


def _elaboration(persona: Persona, intent: _Intent, random: Random) -> list[str]:
    """What people add who like to write: a thought on the topic, a trait showing through, a thought on nothing."""
    about, phrases = slot(intent.topic), user_phrases()
    aside = random.choice(_asides(persona)) if persona.traits else random.choice(phrases.musing)
    match intent.shown["length"]:
        case "brief":
            return []
        case "medium":
            return [random.choice((random.choice(about.elaboration), aside))] if random.random() < 0.6 else []
        case _:
            return [random.choice((random.choice(about.elaboration), random.choice(phrases.musing))), aside]


def _asides(persona: Persona) -> tuple[str, ...]:
    entries = _traits_by_name()
    return tuple(aside for trait in persona.traits for aside in entries[trait.name].asides)


@cache
def _traits_by_name() -> dict[str, TraitEntry]:
    return {entry.name: entry for entry in traits()}


def _request(intent: _Intent, random: Random) -> str:
    question = random.choice(slot(intent.topic).request)
    if intent.shown["directness"] != "gentle" and random.random() < 0.15:
        return f"{random.choice(user_phrases().push)} {lowered(question)}?"
    return f"{question}?"


def _hedged(sentences: list[str], random: Random) -> list[str]:
    """One sentence of the message with a hedge in front; only some hedges can stand before a question."""
    hedge = random.choice(user_phrases().hedge)
    before_question = hedge.endswith((",", "but"))
    fitting = [index for index, sentence in enumerate(sentences) if before_question or not sentence.endswith("?")]
    index = random.choice(fitting[-2:]) if fitting else len(sentences) - 1
    return [*sentences[:index], f"{hedge} {lowered(sentences[index])}", *sentences[index + 1 :]]


def _written(persona: Persona, sentences: list[str], shown: dict[Dimension, StyleValue], random: Random) -> str:
    """The sentences in the person's hand: marks, pauses, casual words, casing, emoji."""
    exclaim = random.choice((1, 1, 2)) if shown["exclamation"] == "some" else 0
    text = _paused(punctuated([capitalised(s) for s in sentences], random, exclaim=exclaim), persona, random)
    if shown["formality"] == "casual":
        text = to_casual(text, random)
        if style_of(text)["formality"] != "casual":
            text = f"{random.choice(('Hey', 'Ok so', 'Yeah'))}, {lowered(text)}"
        if persona.voice["casing"] == "lower":
            text = text.lower()
    if shown["emoji"] == "some":
        emoji = user_phrases().emoji[persona.voice["emoji"]]
        text += " " + "".join(random.sample(emoji, random.choice((1, 1, 2))))
    return text


def _paused(sentences: list[str], persona: Persona, random: Random) -> str:
    """Joins sentences; some people run two of them together with dots or a dash."""
    mark = {"ellipsis": "...", "dash": " -"}.get(persona.voice["pause"])
    joints = [index for index, sentence in enumerate(sentences[:-1]) if sentence.endswith(".")]
    if mark and joints and random.random() < SHOW_RATE:
        joint = random.choice(joints)
        sentences = [*sentences]
        sentences[joint] = sentences[joint][:-1] + mark
        sentences[joint + 1] = lowered(sentences[joint + 1])
    return " ".join(sentences)
