"""A text as words with their sentences, and the way about in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from interalign.personas.gender.words import grammar, is_adverb

__all__ = ["NEAR", "Token", "Tokens", "before", "past_adverbs", "read", "word_at"]

NEAR = 40
"""How many words a rule looks back or ahead, so that a text of one endless sentence costs no more than any other."""
_APPOSED = 8

_TOKEN = re.compile(r"[^\W_]+?n['’]t\b|[^\W_]+(?:[-\u2011][^\W_]+)*|['’][^\W_]+|\S|\n")
# Bounded, so that a text of nothing but quotation marks costs no more than any other.
_QUOTED = re.compile(
    r'"[^"\n]{1,400}"|“[^“”\n]{1,400}”|‘(?:[^‘’\n]|’(?=\w)){1,400}’'
    r"|(?<!\w)'(?=\w)(?:[^'\n]|(?<=\w)'(?=\w)){1,400}'(?!\w)"
)


class Token(NamedTuple):
    """A word, the apostrophe part of one, or a sign. `word` is lower case; words in quotation marks have none."""

    start: int
    end: int
    word: str
    sentence: int
    first: bool
    """The first word of its sentence."""


Tokens: TypeAlias = Sequence[Token]


def read(text: str, *, quotes: bool = True) -> list[Token]:
    """The tokens of `text`. With `quotes`, what stands in quotation marks is no word: it is somebody's own."""
    quoted = _QUOTED.finditer(text) if quotes else iter(())
    quote = next(quoted, None)
    tokens: list[Token] = []
    sentence, fresh = 0, True
    for match in _TOKEN.finditer(text):
        start, end = match.span()
        while quote is not None and quote.end() <= start:
            quote = next(quoted, None)
        quoted_to = quote.end() if quote is not None and quote.start() <= start else None
        if _ends_sentence(text, match, tokens, quoted_to):
            sentence, fresh = sentence + 1, True
        word = match.group().lower().replace("’", "'")
        first = fresh and word[0].isalnum()
        tokens.append(Token(start, end, word if quoted_to is None else '"', sentence, first))
        fresh = fresh and not first
    return [token for token in tokens if token.word != "\n"]


def _ends_sentence(text: str, match: re.Match[str], read_so_far: Tokens, quoted_to: int | None) -> bool:
    sign, end = match.group(), match.end()
    if sign == "\n":
        # A small letter goes on with the sentence of the line before.
        return not text[end : end + 1].islower()
    if sign not in ".!?…" or text[end : end + 1].isalnum():
        return False
    if quoted_to is not None:
        # `"Why?" she asks` goes on, `"Why?" He shrugs` does not.
        return end == quoted_to - 1 and text[quoted_to : quoted_to + 2].strip().isupper()
    return not (sign == "." and read_so_far and read_so_far[-1].word in grammar().abbreviations)


def word_at(tokens: Tokens, index: int, like: int) -> str:
    """The word at `index` if it stands in the sentence of the token `like`, else ""."""
    if 0 <= index < len(tokens) and tokens[index].sentence == tokens[like].sentence:
        return tokens[index].word
    return ""


def before(tokens: Tokens, index: int, most: int = NEAR) -> Iterator[int]:
    """The places before `index` in its sentence, nearest first."""
    for place in range(index - 1, max(-1, index - 1 - most), -1):
        if tokens[place].sentence != tokens[index].sentence:
            return
        yield place


def past_adverbs(tokens: Tokens, place: int, like: int) -> int:
    """The first place from `place` on that is neither an adverb nor a parenthesis."""
    limit = place + NEAR
    while place < limit:
        word = word_at(tokens, place, like)
        if f"{word} {word_at(tokens, place + 1, like)}" in grammar().phrases:
            place += 2
        elif is_adverb(word):
            place += 1
        elif word in (",", "—", "–", "("):
            ends = range(place + 1, place + 1 + _APPOSED)
            closing = next((end for end in ends if word_at(tokens, end, like) in (",", "—", "–", ")")), None)
            if closing is None:
                return place
            place = closing + 1
        else:
            return place
    return place
