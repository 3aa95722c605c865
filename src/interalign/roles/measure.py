"""Reading style and content off a text, by rules.

Every function here is pure and exact: the verifiable judge, the disclosure ledger, the rule-based inducer and the
data checks all measure with the same ruler.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

import emoji

from interalign.personas.persona import Fact
from interalign.personas.style import Dimension, StyleValue
from interalign.personas.vocabulary import Slot

__all__ = [
    "LENGTH_BANDS",
    "count_emoji",
    "count_exclamations",
    "count_questions",
    "length_band",
    "length_distance",
    "mentions",
    "ngram_overlap",
    "repetition",
    "style_of",
    "topicality",
    "words",
]

LENGTH_BANDS: dict[StyleValue, tuple[int, int]] = {"brief": (1, 20), "medium": (21, 34), "long": (35, 120)}
"""Words per reply, both ends included. Chat replies are short; more than 120 words is nobody's preference."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_LIST_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.!?]+(?:\s|$)|\n")
_HEDGE = re.compile(r"\b(?:maybe|perhaps|might|could|possibly|may)\b", re.IGNORECASE)
_WARM = re.compile(
    r"\b(?:glad|sorry|sounds?|lovely|wonderful|understand|thanks?|appreciate|happy|admire|kind of you|congratulations"
    r"|how nice|great to hear|good to hear|nice to hear|hope)\b",
    re.IGNORECASE,
)
_CONTRACTION = re.compile(
    r"\b(?:\w+n['’]t|(?:i|you|we|they|he|she|it|that|there|who|what)['’](?:m|re|ve|ll|d)"
    r"|(?:it|that|there|here|what|who|where|how|he|she|let|when)['’]s)\b",
    re.IGNORECASE,
)
_CASUAL_WORD = re.compile(
    r"\b(?:gonna|wanna|gotta|hafta|cuz|kinda|sorta|yeah|yep|nope|hey|ok|okay|alright|super|tons of|outta|gimme|lemme"
    r"|dunno|folks|btw|tbh|imo|asap|awesome|yummy|somethin|nothin|prolly|tho|thru|info|pics?|fave)\b",
    re.IGNORECASE,
)


def words(text: str) -> list[str]:
    """The words of a text, lower case, apostrophes kept inside."""
    return [word.lower() for word in _WORD.findall(text)]


def count_emoji(text: str) -> int:
    """How many emoji the text has; an emoji made of several code points counts once."""
    # Plain text is the usual case, and scanning it for emoji would take most of a judge's time.
    return 0 if text.isascii() else emoji.emoji_count(text)


def count_exclamations(text: str) -> int:
    """How many exclamation marks the text has."""
    return text.count("!")


def count_questions(text: str) -> int:
    """How many question marks the text has; several in a row count once."""
    return len(re.findall(r"\?+", text))


def style_of(text: str) -> dict[Dimension, StyleValue]:
    """The style value that the text shows on each of the eight dimensions."""
    casual = bool(_CONTRACTION.search(text) or _CASUAL_WORD.search(text))
    return {
        "length": length_band(len(words(text))),
        "emoji": "some" if count_emoji(text) else "none",
        "exclamation": "some" if count_exclamations(text) else "none",
        "question": "some" if count_questions(text) else "none",
        "formality": "casual" if casual else "formal",
        "directness": "gentle" if _HEDGE.search(text) else "direct",
        "layout": "list" if len(_LIST_ITEM.findall(text)) >= 2 else "prose",
        "warmth": "warm" if _WARM.search(_first_sentence(text)) else "plain",
    }


def length_band(count: int) -> StyleValue:
    """The length band that a number of words falls into; beyond the last band it is still `long`."""
    return next((band for band, (_, most) in LENGTH_BANDS.items() if count <= most), "long")


def length_distance(count: int, band: StyleValue) -> int:
    """By how many words a count lies outside a length band; 0 inside."""
    least, most = LENGTH_BANDS[band]
    return max(least - count, count - most, 0)


def mentions(text: str, fact: Fact) -> bool:
    """Whether the text names the fact by its key, plural and possessive included."""
    return bool(_key_pattern(fact.key).search(text))


def topicality(text: str, slot: Slot, named: Iterable[Fact] = ()) -> float:
    """How much the text is about a slot: 0, 0.5 or 1 for none, one, or two and more of its words.

    Its words are the slot's keywords, what it is called ("hobby"), and the keys of the facts in `named`.
    """
    known = (*slot.keywords, slot.label.split()[-1])
    found = {keyword for keyword in known if _prefix_pattern(keyword).search(text)}
    # "stud" and "study" are one word to a reader: a keyword that starts another found one adds nothing.
    distinct = [word for word in found if not any(other != word and word.startswith(other) for other in found)]
    return min(len(distinct) + sum(mentions(text, fact) for fact in named), 2) / 2


def ngram_overlap(text: str, sources: Iterable[str], n: int = 4) -> float:
    """The share of the text's word n-grams that occur in any of the sources; 0 when it has none."""
    own = _ngrams(words(text), n)
    if not own:
        return 0.0
    known = {gram for source in sources for gram in _ngrams(words(source), n)}
    return sum(gram in known for gram in own) / len(own)


def repetition(text: str, n: int = 3) -> float:
    """The share of the text's word n-grams that repeat an earlier one in the same text; 0 when it has none."""
    grams = _ngrams(words(text), n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _first_sentence(text: str) -> str:
    return _SENTENCE_END.split(text.strip(), maxsplit=1)[0]


def _ngrams(of: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(of[i : i + n]) for i in range(len(of) - n + 1)]


@cache
def _key_pattern(key: str) -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(key)}(?:e?s|['’]s)?\b", re.IGNORECASE)


@cache
def _prefix_pattern(keyword: str) -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(keyword)}", re.IGNORECASE)
