"""How much of the persona a message gives away: too much at once, or nothing for too long."""

from __future__ import annotations

from functools import lru_cache

from interalign.conversations.checks.phrases import names_in, phrases, sentences
from interalign.personas.persona import Persona
from interalign.roles.measure import mentions, words

__all__ = ["content_words", "discloses_nothing", "discloses_too_much"]

_LEAST_FACTS = 4
_LEAST_SHARED = 2
_SUFFIXES = ("ings", "ing", "ies", "ied", "es", "ed", "er", "s", "y", "e")


def discloses_too_much(said: str, persona: Persona, most: float) -> bool:
    """Whether the message holds more than `most` of the facts, or of the sentences of either text, and 4 or more."""
    counts = [_facts(said, persona), _told(said, persona.profile), _told(said, persona.personality)]
    return any(given >= _LEAST_FACTS and given > most * known for given, known in counts)


def discloses_nothing(said: str, earlier: tuple[str, ...], persona: Persona, turns: int) -> bool:
    """Whether none of the last `turns` messages has a word of the persona, though less than half of it is known.

    One word of the profile is enough to disclose something, and two of a sentence on the personality. Somebody who
    has told most there is may well be silent.
    """
    silent = (*earlier, said)[-turns:]
    if len(silent) < turns or any(_has_word(message, persona) for message in silent):
        return False
    known = _facts if persona.facts else lambda text, of: _told(text, of.profile)
    given, whole = known("\n".join(earlier), persona)
    return given * 2 < whole


def _facts(said: str, persona: Persona) -> tuple[int, int]:
    return sum(mentions(said, fact) for fact in persona.facts), len(persona.facts)


def _told(said: str, text: str) -> tuple[int, int]:
    """How many sentences of the text share two content words or more with what is said, and how many there are."""
    stems = content_words(said)
    units = _units(text)
    return sum(len(unit & stems) >= min(_LEAST_SHARED, len(unit)) for unit in units), len(units)


def _has_word(said: str, persona: Persona) -> bool:
    stems = content_words(said)
    texts = (persona.profile, *(fact.term for fact in persona.facts))
    told = any(unit & stems for text in texts for unit in _units(text))
    return told or _told(said, persona.personality)[0] > 0


@lru_cache(maxsize=1024)
def _units(text: str) -> tuple[frozenset[str], ...]:
    """The content words of each sentence; a name that stands in every second one tells nothing."""
    units = [content_words(sentence) for sentence in sentences(text)]
    names = {_stem(name.lower()) for name in names_in(text)}
    usual = {name for name in names if sum(name in unit for unit in units) > max(1, len(units) // 2)}
    return tuple(unit - usual for unit in units if unit - usual)


@lru_cache(maxsize=2048)
def content_words(text: str) -> frozenset[str]:
    """The stems of the words that tell something."""
    return frozenset(_stem(word) for word in words(text) if word not in _common() and len(word) > 2)


@lru_cache(maxsize=1)
def _common() -> frozenset[str]:
    return frozenset(phrases().common.split())


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    word = word.removesuffix("'s").removesuffix("’s")
    ending = next((end for end in _SUFFIXES if word.endswith(end) and len(word) - len(end) >= 3), "")
    return word.removesuffix(ending)
