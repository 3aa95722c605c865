"""The scripted persona generator: answers the generator's own prompts from the package's vocabularies.

It stands in for a language model where there is none. It reads the same messages, keeps to the outlines that they hold,
and answers the same request with the same JSON; it invents nothing that the vocabularies do not hold.
"""

from __future__ import annotations

import json
import re
from random import Random

from interalign.llm.model import Request, call_key
from interalign.llm.scripted import ScriptedModel
from interalign.personas.coverage import Outline, dimensions, outline_of, shown
from interalign.personas.description import KINDS, PLURALS, Kind
from interalign.personas.vocabulary import SLOTS, TraitEntry, names, slot, traits

__all__ = ["persona_writer"]

_NAME = "scripted persona writer"
_WANTED = re.compile(r"Write (\d+) new (\w+)")
_OUTLINES = re.compile(r"<outlines>(.*?)</outlines>", re.DOTALL)
_PRONOUNS = {"female": ("She", "her", "her"), "male": ("He", "his", "him")}
_FACTS = (4, 6)
_TRAITS = (4, 6)


def persona_writer() -> ScriptedModel:
    """The scripted model that plays the persona generator."""
    return ScriptedModel(_NAME, _reply)


def _reply(request: Request) -> str:
    asked = request.messages[1].content
    count, plural = _WANTED.findall(asked)[-1]
    kind: Kind = next(one for one in KINDS if PLURALS[one] == plural)
    found = _OUTLINES.search(asked)
    outlines = [outline_of(kind, one["shows"]) for one in json.loads(found[1])] if found else []
    random = Random(int(call_key(_NAME, request), 16))
    items = [
        {"number": number, "text": _write(kind, outlines[number - 1] if outlines else {}, random)}
        for number in range(1, int(count) + 1)
    ]
    return json.dumps({plural: items}, ensure_ascii=False)


def _write(kind: Kind, outline: Outline, random: Random) -> str:
    gender = random.choice(("female", "male"))
    parts = _profile(outline, random) if kind == "profile" else _personality(outline, random)
    subject, their, them = _PRONOUNS[gender]
    name = random.choice(names(gender)) if kind == "profile" else subject
    sentences = []
    for index, part in enumerate(parts):
        # The name opens a profile; later sentences that begin with the person begin with the pronoun.
        who = subject if index and part.startswith("{name}") else name
        sentences.append(part.format(name=who, their=their, them=them, they=subject.lower()))
    return ". ".join(sentence[:1].upper() + sentence[1:] for sentence in sentences) + "."


def _profile(outline: Outline, random: Random) -> list[str]:
    said = _said("profile", outline, random)
    # What the outline settles, the vocabulary must not contradict.
    free = [name for name in SLOTS if name not in {"occupation", "home", "family", "study"}] if outline else list(SLOTS)
    wanted = random.randint(*_FACTS)
    facts: list[str] = []
    for name in random.sample(free, len(free)):
        chosen = slot(name)
        fact = random.choice(chosen.facts(random.choice(("train", "heldout"))))
        sentence = random.choice(chosen.profile).replace("{term}", fact.term)
        if len(facts) < wanted and _fits("profile", sentence, outline):
            facts.append(sentence)
    rest = said + facts
    random.shuffle(rest)
    return [f"{{name}} is {_age(outline, random)} years old", *rest]


def _age(outline: Outline, random: Random) -> int:
    levels = next(one for one in dimensions("profile") if one.name == "age").levels
    level = next((one for one in levels if one.name == outline.get("age")), None) or random.choice(levels)
    youngest, oldest = level.range or (18, 90)
    return random.randint(youngest, min(oldest, 95))


def _said(kind: Kind, outline: Outline, random: Random) -> list[str]:
    said = []
    for dimension in dimensions(kind):
        level = next((one for one in dimension.levels if one.name == outline.get(dimension.name)), None)
        if level is not None and level.sentences:
            said.append(random.choice(level.sentences))
    return said


def _fits(kind: Kind, sentence: str, outline: Outline) -> bool:
    """Whether the sentence shows no other level than the outline where the outline has one."""
    subject, their, them = _PRONOUNS["female"]
    shows = shown(kind, sentence.format(name=subject, their=their, them=them, they=subject.lower()))
    return all(outline.get(name, level) == level for name, level in shows.items())


def _personality(outline: Outline, random: Random) -> list[str]:
    parts = _said("personality", outline, random)
    wanted = random.randint(*_TRAITS)
    chosen: list[TraitEntry] = []
    for entry in random.sample(traits(), len(traits())):
        if len(chosen) == wanted:
            break
        clash = any(entry.name in other.opposites or other.name in entry.opposites for other in chosen)
        # A personality names nobody: the person must stand where a pronoun can, and only there.
        fit = [one for one in entry.personality if one.startswith("{name} ") and one.count("{name}") == 1]
        fit = [one for one in fit if _fits("personality", one, outline)]
        if fit and not clash:
            chosen.append(entry)
            parts.append(random.choice(fit))
    random.shuffle(parts)
    return parts
