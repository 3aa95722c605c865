"""The phrases of the checks, from the text file beside this loader."""

from __future__ import annotations

import re
import tomllib
from functools import cache, lru_cache
from importlib.resources import files

from interalign.messages import Value

__all__ = ["Phrases", "expression", "legible", "names_in", "phrases", "sentences"]

_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "\u00a0": " "})
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
_CAPITALISED = re.compile(r"\b[A-Z][^\W\d_]{2,}\b")
_NOBODY = "(?:the|this|my) (?:persona|user|character|person)"


class Phrases(Value):
    """Lists of regular expressions by what they betray, and lists of words."""

    role_flip: tuple[str, ...]
    leaked_reasoning: tuple[str, ...]
    leaked_instructions: tuple[str, ...]
    assistant_speak: tuple[str, ...]
    greeting: tuple[str, ...]
    introduction: tuple[str, ...]
    first_meeting: tuple[str, ...]
    female: str
    male: str
    common: str


@cache
def phrases() -> Phrases:
    """All phrases."""
    return Phrases.model_validate(
        tomllib.loads((files(__package__) / "phrases.toml").read_text(encoding="utf-8")),
    )


@lru_cache(maxsize=256)
def expression(alternatives: tuple[str, ...], names: frozenset[str] = frozenset()) -> re.Pattern[str]:
    """One expression for all alternatives; `{who}` in them is one of `names`, or "the persona" and the like."""
    who = "|".join([_NOBODY, *sorted(re.escape(name) for name in names)])
    return re.compile("|".join(f"(?:{one.replace('{who}', who)})" for one in alternatives), re.IGNORECASE)


def legible(text: str) -> str:
    """The text with straight quotes, as the expressions expect it."""
    return text.translate(_QUOTES)


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text."""
    return [part for part in _SENTENCE_END.split(text) if part.strip()]


@lru_cache(maxsize=512)
def names_in(text: str) -> frozenset[str]:
    """Words that the text writes with a capital and never without: names of people, pets and places."""
    small = set(re.findall(r"\b[^\W\d_A-Z][^\W\d_]+\b", text))
    common = set(phrases().common.split())
    return frozenset(
        name for name in _CAPITALISED.findall(text) if name.lower() not in small and name.lower() not in common
    )
