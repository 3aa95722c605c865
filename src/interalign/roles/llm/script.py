"""Scripted models for every role of a conversation: what language models do there, done by counting words.

They stand in for language models where there are none, in tests, documentation and dry runs. They see what a model
sees, the messages of the request and nothing else, and answer the same request with the same text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from random import Random
from typing import Any, NamedTuple

from interalign.llm.model import Request, call_key
from interalign.llm.scripted import ScriptedModel

__all__ = ["scripts"]

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[.!?][\"”’)])\s+|(?<=[。！？])")  # noqa: RUF001
_WORD = re.compile(r"\w+")
_LITTLE = frozenset(
    _WORD.findall(
        "a about after all am an and any are as at be been but by can could did do does for from had has have he her "
        "him his how i if in into is it its like me my no not of on one or our out she so some than that the their "
        "them then there they this to up was we were what when where which who whom whose will with would you your"
    )
)
_NOTES = re.compile(r"(.*)<notes>(\{[^<>]*\})</notes>", re.DOTALL)
_KINDS = ("profile", "personality")
_FOUND_SHARE = 0.6

_FIRST_OPENERS = ("Hi.", "Hello there.", "Hey.", "Good evening.")
_OPENERS = ("Okay.", "Hm, I see.", "Right.", "Fair enough.", "Well.", "Maybe so.", "Ah.")
_QUESTIONS = (
    "What would you do in my place?",
    "Where does one begin with that?",
    "Do you think that matters?",
    "Is there anything I could try this week?",
    "What do people usually do about it?",
    "Does that make any sense?",
)
_SPENT = "There is not much more to tell."

_LEADS = ("Here is one way to go about it.", "There are a few ways to look at this.", "That can be arranged.")
_ADVICE = (
    "Begin with the smallest step and see where it takes things.",
    "Write down two options and sleep on them.",
    "Ask somebody nearby who went through the same.",
    "Put a quarter of an hour aside and try it once.",
    "Leave it for a day, then look again.",
)
_ENDS = ("The rest can wait.", "Nothing more is needed for now.", "It gets easier from there.")
_TAKEN_UP = ("As you said: {told}", "What you mentioned counts here: {told}", "With this in mind: {told}")


def scripts() -> dict[str, ScriptedModel]:
    """A scripted model for each role: user, inducer, tailored, generic, judge, and a checker who lets all pass."""
    plays: dict[str, Callable[[Request, Random], str]] = {
        "user": _user,
        "inducer": _inducer,
        "tailored": _tailored,
        "generic": _generic,
        "judge": _judge,
        "checker": lambda request, random: json.dumps({"faults": []}),
    }
    return {role: _scripted(f"scripted {role}", play) for role, play in plays.items()}


def _scripted(name: str, play: Callable[[Request, Random], str]) -> ScriptedModel:
    return ScriptedModel(name, lambda request: play(request, Random(int(call_key(name, request), 16))))


def _user(request: Request, random: Random) -> str:
    """The next one or two sentences of the persona, retold in the first person, between an opener and a question."""
    prompt = request.messages[1].content
    persona, turn = _inside(prompt, "persona"), _inside(prompt, "turn")
    name = _name(persona["profile"])
    retold = ([_retold(one, text, name, _I) for one in _sentences(text)] for text in map(persona.get, _KINDS))
    in_turn = [one for one in chain.from_iterable(zip_longest(*retold)) if one is not None]
    said = " ".join(line["user"] for line in _chat(prompt) if "user" in line)
    fresh = [one for one in in_turn if one not in said]
    # Counted on from a place of their own, so that no two messages in a row begin or end alike.
    place = sum(map(len, in_turn)) + turn
    opener = _cycled(_FIRST_OPENERS if turn == 1 else _OPENERS, place)
    return " ".join([opener, *(fresh[: random.choice((1, 1, 2))] or [_SPENT]), _cycled(_QUESTIONS, place)])


def _inducer(request: Request, random: Random) -> str:
    """The sentences of the persona most of whose words stand in the last message, with the words that show it."""
    prompt = request.messages[1].content
    persona, known = _inside(prompt, "persona"), _inside(prompt, "known")
    message = _sentences(_chat(prompt)[-1]["user"])
    found = [
        {"kind": kind, "text": sentence, "words": max(message, key=lambda said: len(_shared(sentence, said)))}
        for kind in _KINDS
        for sentence in _sentences(persona[kind])
        if sentence not in known and _told(sentence, " ".join(message))
    ]
    return json.dumps({"found": found}, ensure_ascii=False)


def _tailored(request: Request, random: Random) -> str:
    """A generic reply that takes up one of the notes, the one that is closest to the message where one is."""
    *_, (message, block) = [("", "{}"), *_NOTES.findall(request.messages[-1].content)]
    notes = json.loads(block)
    known = {one: " ".join(notes[kind]) for kind in _KINDS for one in notes.get(kind, ())}
    if not known:
        return _generic(request, random)
    closest = max(random.sample(list(known), len(known)), key=lambda one: len(_shared(one, message)))
    told = _retold(closest, known[closest], _name(" ".join(notes.get("profile", ()))), _YOU)
    return f"{random.choice(_TAKEN_UP).format(told=told)} {random.choice(_ADVICE)} {random.choice(_ENDS)}"


def _generic(request: Request, random: Random) -> str:
    return f"{random.choice(_LEADS)} {random.choice(_ADVICE)} {random.choice(_ENDS)}"


def _judge(request: Request, random: Random) -> str:
    """The reply that shares more words with the persona is the better one."""
    prompt = request.messages[1].content
    person = " ".join(_inside(prompt, "persona").values())
    a, b = (len(_shared(_inside(prompt, tag), person)) for tag in ("reply_a", "reply_b"))
    better = "tie" if a == b else "A" if a > b else "B"
    return json.dumps({"better": better, "score_a": min(1 + a // 2, 5), "score_b": min(1 + b // 2, 5)})


def _inside(prompt: str, tag: str) -> Any:
    return json.loads(prompt.split(f"<{tag}>", 1)[1].split(f"</{tag}>", 1)[0])


def _chat(prompt: str) -> list[dict[str, str]]:
    # Other line ends than this one may stand inside a message.
    lines = prompt.split("<chat>\n", 1)[1].split("</chat>", 1)[0].split("\n")
    return [json.loads(line) for line in lines if line]


def _sentences(text: str) -> list[str]:
    return [one.strip() for one in _SENTENCE_END.split(" ".join(text.split())) if one.strip()]


def _content(text: str) -> set[str]:
    """The words of a text that carry its meaning; works and work are one."""
    return {word.removesuffix("s") for word in _WORD.findall(text.casefold()) if word not in _LITTLE}


def _shared(one: str, other: str) -> set[str]:
    return _content(one) & _content(other)


def _told(sentence: str, message: str) -> bool:
    content = _content(sentence)
    return bool(content) and len(content & _content(message)) >= _FOUND_SHARE * len(content)


def _cycled(of: Sequence[str], place: int) -> str:
    return of[place % len(of)]


_PRONOUNS = {"he": ("him", "his"), "she": ("her", "her"), "they": ("them", "their")}
_ADVERB = r"(?:(?:never|always|often|rarely|still|also|only|hardly|now|once|usually|sometimes) )?"
_VERB = r"(?:was|had|[^\W\d_]+s|[^\W\d_]+ed)\b"
_NAMED = re.compile(rf"\b([^\W\d_]{{2,}})(?=['’]s\b| {_ADVERB}{_VERB})")


class _Person(NamedTuple):
    """Who is put in the place of the person that a sentence is about."""

    subject: str
    object: str
    possessive: str
    verbs: dict[str, str]


_I = _Person("I", "me", "my", {"is": "am", "are": "am", "was": "was", "were": "was"})
_YOU = _Person("you", "you", "your", {"is": "are", "are": "are", "was": "were", "were": "were"})
_VERBS = {"has": "have", "does": "do", "goes": "go"}


def _retold(sentence: str, text: str, name: str | None, person: _Person) -> str:
    """A sentence of a text about somebody in the first or second person; simple English verbs follow."""
    pronoun = _pronoun(text)
    them, their = _PRONOUNS[pronoun]
    if name is not None:
        sentence = re.sub(rf"\b{name}['’]s\b", person.possessive, sentence)
        sentence = re.sub(rf"\b{name}\b(?= {_ADVERB}{_VERB})", pronoun, sentence)
        sentence = re.sub(rf"\b{name}\b", person.object, sentence)
    sentence = re.sub(rf"\b{their}(?= \w)", person.possessive, sentence, flags=re.I)
    sentence = re.sub(rf"\b(?:{them}|{their})\b", person.object, sentence, flags=re.I)
    clause = rf"\b{pronoun} ({_ADVERB})(\w+)"
    sentence = re.sub(clause, lambda it: f"{person.subject} {it[1]}{_verb(it[2], person)}", sentence, flags=re.I)
    sentence = re.sub(rf"\b{pronoun}\b", person.subject, sentence, flags=re.I)
    return sentence[:1].upper() + sentence[1:]


def _pronoun(text: str) -> str:
    words = _WORD.findall(text.casefold())
    used = {pronoun: sum(map(words.count, {pronoun, *_PRONOUNS[pronoun]})) for pronoun in ("he", "she")}
    return max(used, key=lambda pronoun: used[pronoun]) if any(used.values()) else "they"


def _name(profile: str) -> str | None:
    """The name of a person, where the first sentence of the profile has one before a verb."""
    names = [one for one in _NAMED.findall("".join(_sentences(profile)[:1])) if one.istitle()]
    return next((one for one in names if one.casefold() not in _LITTLE), None)


def _verb(verb: str, person: _Person) -> str:
    if verb in person.verbs or verb in _VERBS:
        return {**_VERBS, **person.verbs}[verb]
    if verb in _LITTLE or not verb.endswith("s") or verb.endswith("ss"):
        return verb
    if verb.endswith("ies"):
        return f"{verb[:-3]}y"
    return verb[:-2] if re.search(r"(?:s|sh|ch|x|z)es$", verb) else verb[:-1]
