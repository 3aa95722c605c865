"""What is left of a text when nobody in it has a gender: the key by which two texts are compared."""

from __future__ import annotations

import re
import unicodedata

from interalign.personas.gender.agreement import means_has
from interalign.personas.gender.reading import Tokens, read, word_at
from interalign.personas.gender.words import grammar, nouns, people, pronouns, titles

__all__ = ["ungendered"]

_KEYS = {
    "is": "be", "are": "be", "am": "be", "'re": "be", "'m": "be",
    "was": "was", "were": "was",
    "has": "have", "have": "have", "'ve": "have",
    "does": "do", "do": "do",
    "'ll": "will", "an": "a", "cannot": "can not", "can't": "can not", "won't": "will not",
}  # fmt: skip
_PART = re.compile(r"[^\W_]+")


def ungendered(text: str) -> str:
    """A key that two texts share when they differ only in the gender of the people in them.

    Pronouns become "they", "their" or "themselves", gendered nouns their neutral partners, and every word loses an
    ending "s" or "e", so that "she's" is "they are" and "loves" is "love". It is for comparing, not for reading;
    other words keep their difference.
    """
    tokens = read(unicodedata.normalize("NFKC", text).casefold(), quotes=False)
    keys = (key for index in range(len(tokens)) for key in _keys(tokens, index))
    return " ".join(_stem(key) for key in keys)


def _keys(tokens: Tokens, index: int) -> list[str]:
    """What the key has for one token, before stemming."""
    word = tokens[index].word
    if word in pronouns():
        case = pronouns()[word].case
        return [people().forms["neutral"][case if case in ("subject", "reflexive") else "dependent"]]
    if word == "'s":
        short = word_at(tokens, index - 1, index) in grammar().short_is
        return ["have" if means_has(tokens, index) else "be"] if short else []
    if word in _KEYS:
        return _KEYS[word].split()
    if word.endswith("n't"):
        return [_KEYS.get(word[:-3], word[:-3]), "not"]
    if word in titles():
        return ["mx"]
    return _PART.findall(_neutral_noun(word))


def _neutral_noun(word: str) -> str:
    noun = nouns().get(word) or nouns().get(word.removesuffix("s"))
    return people().plurals.get(word, word if noun is None else noun.partners["neutral"])


def _stem(word: str) -> str:
    """The word without what sets "loves" apart from "love", "tries" from "try" and "goes" from "go"."""
    stem = word
    if stem.endswith("s") and not stem.endswith(("ss", "us")):
        stem = stem[:-1]
    stem = stem.removesuffix("e")
    if stem.endswith("zz"):
        stem = stem[:-1]
    return stem[:-1] + "y" if stem.endswith("i") else stem or word
