"""Texts as they are compared: with the described person's name and gender masked.

A sentence encoder hears who is spoken of before it hears what is said. Under MiniLM a profile that was copied under
another first name lay at 0.65 of its original, farther away than two strangers who share a name, and gender was the
first principal component of a pool. What makes two descriptions one person is what they say. So name and gender are
masked wherever descriptions are compared, and cosines that interalign states are those of masked texts; the
descriptions themselves stay as they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from interalign.llm.encoder import Encoder
from interalign.personas.gender import ungendered, with_gender
from interalign.personas.gender.verbs import is_act, is_third
from interalign.personas.gender.words import grammar

__all__ = ["MaskedEncoder", "masked", "masked_key", "name_of", "without_name"]

_WORD = re.compile(r"(?<![\w’'])[^\W\d_]+(?:[-’'][^\W\d_]+)*")
_POSSESSIVE = re.compile(r"[’']s$")
_SENTENCE_END = re.compile(r"(?:^|[.!?…:][\"”’)]?\s+|\n\s*)$")
# What follows the name of somebody whose age or trade comes next.
_DESCRIBED = re.compile(r",\s+(?:\d|aged\b|an?\s|the\s|now\s)|\s+\(\d")
_PLACED = re.compile(
    r"\b(?:across|around|at|beyond|east|from|in|inside|into|near|north|outside|south|through|to|via|west)\s+$",
    re.IGNORECASE,
)
_AFTER_A_PLACE = re.compile(r"[^\W\d_]+,\s+$")
_NEXT = re.compile(r"\s+([^\W\d_]+)")
_IS = frozenset(("has", "had", "is", "was", "will"))
# Where a subject stands, so that what follows it is a verb: "where Anas lives", "At 41, Tom drives", but "Thai dishes".
_SUBJECT_NEXT = re.compile(
    r"^$|\b(?:after|as|because|before|how|if|since|so|that|until|what|when|where|which|while)\s+$"
    r"|(?:^|[.!?]\s+)(?:After|Aged|At|Before|Between|By|During|Each|Every|For|From|In|Most|Now|On|Once|Since)\s[^.!?,]*,\s+$",
    re.IGNORECASE,
)
_SURNAMES = 3
_SURE_MENTIONS = 3
# With a capital at the beginning of a sentence, and neither names nor among the words that the rules of gender know.
_NO_NAMES = """
ask call dr everybody everyone few half he her here his home i its life many meet men most mr mrs ms mx now old once one
only people prof she someone such their there thus today two women work you monday tuesday wednesday thursday friday
saturday sunday"""
_LOOKED_AT = 60


class _Mention(NamedTuple):
    """A capitalised word, or several in a row, where somebody may be named."""

    first: str
    full: str
    end: int
    opens: bool
    """Whether a sentence begins with it, which gives any word a capital."""
    before: str


def name_of(text: str) -> str | None:
    """The name of the person whom `text` describes, in full where it stands in full; None where none is found.

    A name acts ("Nomsa sings", "where Anas lives") or is described ("Ren, 31, works"), and is no place. Of several the
    most frequent is the person's, then the first: others are named in passing. A capital at the beginning of a
    sentence proves nothing, except at the beginning of the text.
    """
    mentions = [mention for mention in _mentions(text) if not _PLACED.search(mention.before)]
    inside = {mention.first for mention in mentions if not mention.opens}
    count = Counter(mention.first for mention in mentions)
    named: dict[str, str] = {}
    for mention in mentions:
        sure = not mention.opens or not mention.before or mention.first in inside
        if count[mention.first] >= _SURE_MENTIONS or (sure and _names_somebody(text, mention)):
            named.setdefault(mention.first, mention.full)
    return named[max(named, key=count.__getitem__)] if named else None


def without_name(text: str) -> str:
    """`text` with "they" for the described person's name, as it would be told without one; its verbs stay."""
    name = name_of(text)
    if name is None:
        return text
    first, _, surnames = name.partition(" ")
    further = f"(?:[ ]{re.escape(surnames)})?" if surnames else ""
    named = rf"(?<![\w’'-]){re.escape(first)}{further}(?P<possessive>[’']s)?(?![\w-])"
    return re.sub(named, lambda match: "Their" if match["possessive"] else "They", text)


def masked(text: str) -> str:
    """`text` with the described person's name and gender levelled: for comparing, not for reading."""
    return without_name(with_gender(text, "neutral"))


def masked_key(text: str) -> str:
    """A key that two texts share when they differ only in the described person's name and in gender."""
    return ungendered(without_name(text))


class MaskedEncoder:
    """An encoder of descriptions that does not hear names and gender.

    Args:
        encoder: Encodes the masked texts.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    @property
    def name(self) -> str:
        """That of the encoder of masked texts."""
        return self._encoder.name

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return self._encoder.dimension

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of the masked texts, [len(texts), dimension]."""
        return self._encoder.encode([masked(text) for text in texts])


def _mentions(text: str) -> Iterator[_Mention]:
    words = list(_WORD.finditer(text))
    place = 0
    while place < len(words):
        match = words[place]
        run = [_POSSESSIVE.sub("", match.group())]
        place += 1
        if not _is_capitalised(run[0]) or run[0].casefold() in _no_names():
            continue
        while _goes_on(text, words, place, run):
            run.append(_POSSESSIVE.sub("", words[place].group()))
            place += 1
        before = text[max(0, match.start() - _LOOKED_AT) : match.start()]
        end = match.start() + len(" ".join(run))
        yield _Mention(run[0], " ".join(run), end, bool(_SENTENCE_END.search(before)), before)


def _goes_on(text: str, words: Sequence[re.Match[str]], place: int, run: Sequence[str]) -> bool:
    """Whether the word at `place` is a further part of the name."""
    if place == len(words) or len(run) > _SURNAMES or not _is_capitalised(words[place].group()):
        return False
    # One space between, so that a possessive or a comma ends the name.
    return text[words[place - 1].end() : words[place].start()] == " " and words[place - 1].group().endswith(run[-1])


@cache
def _no_names() -> frozenset[str]:
    return grammar().function | set(_NO_NAMES.split())


def _is_capitalised(word: str) -> bool:
    # "BBC" is nobody's name.
    return word[0].isupper() and not word.isupper()


def _names_somebody(text: str, mention: _Mention) -> bool:
    if _DESCRIBED.match(text, mention.end):
        # "in Leipzig, Germany, a city"
        return not _AFTER_A_PLACE.search(mention.before)
    following = _NEXT.match(text, mention.end)
    if following is None:
        return False
    verb = following[1]
    return verb in _IS or is_act(verb) or (is_third(verb) and bool(_SUBJECT_NEXT.search(mention.before)))
