"""From neutral sentences to written style: casing, contractions, marks and emoji.

The phrase files are neutral, so that the same sentence can be said by a formal and by a casual person.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from random import Random

from interalign.roles.phrases import user_phrases

__all__ = ["article_free", "capitalised", "lowered", "punctuated", "to_casual"]

_END = re.compile(r"[.!?:,…]$")


def capitalised(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def lowered(text: str) -> str:
    """The text with its first letter in lower case, unless it starts with the pronoun I."""
    return text if re.match(r"I\b", text) else text[:1].lower() + text[1:]


def article_free(term: str) -> str:
    """The term without a leading article."""
    return re.sub(r"^(?:an?|the)\s+", "", term)


def punctuated(sentences: Sequence[str], random: Random, *, exclaim: int = 0) -> list[str]:
    """The sentences with a mark at their end: `exclaim` of them, drawn at random, get an exclamation mark.

    Sentences that bring their own mark (a question, a lead-in with a colon) keep it.
    """
    open_ended = [index for index, sentence in enumerate(sentences) if not _END.search(sentence)]
    loud = set(random.sample(open_ended, min(exclaim, len(open_ended))))
    return [
        sentence if index not in open_ended else sentence + ("!" if index in loud else ".")
        for index, sentence in enumerate(sentences)
    ]


def to_casual(text: str, random: Random, *, slang: float = 0.5) -> str:
    """The text with contractions, and with each word that has a casual form replaced with probability `slang`."""
    text = _contraction_pattern().sub(lambda match: _keep_case(match[0], _contractions()[match[0].lower()]), text)
    casual = user_phrases().casual
    return _casual_pattern().sub(
        lambda match: _keep_case(match[0], casual[match[0].lower()]) if random.random() < slang else match[0], text
    )


def _keep_case(old: str, new: str) -> str:
    # "I am" must become "I'm" wherever it stands, so the pronoun decides, not the position.
    if old.startswith("I ") or (old[:1].isupper() and new[:1].isalpha()):
        return new[:1].upper() + new[1:]
    return new


@cache
def _contractions() -> dict[str, str]:
    return dict(user_phrases().contractions)


@cache
def _contraction_pattern() -> re.Pattern[str]:
    # Not at the end of a clause: nobody writes "such as it's".
    return re.compile(_alternatives(tuple(_contractions())).pattern + r"(?=\s+\w)", re.IGNORECASE)


@cache
def _casual_pattern() -> re.Pattern[str]:
    return _alternatives(tuple(user_phrases().casual))


def _alternatives(phrases: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(phrases, key=len, reverse=True)
    return re.compile(r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b", re.IGNORECASE)
