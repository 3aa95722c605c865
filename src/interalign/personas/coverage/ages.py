"""The ages that a text states, as numbers: "34-year-old", "aged 71", "is forty-one", "in her late sixties".

Whose age it is, the text around it must tell; `coverage` judges that. Ages below 18 and above 110 are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Age", "ages"]

_ADULT = (18, 110)
_TEENS = ("eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_UNITS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DECADES = ("twenties", "thirties", "forties", "fifties", "sixties", "seventies", "eighties", "nineties")
_PARTS = {None: (0, 9), "early": (0, 3), "mid": (4, 6), "middle": (4, 6), "late": (6, 9)}
_NICKNAMES = {"sexagenarian": 60, "septuagenarian": 70, "octogenarian": 80, "nonagenarian": 90}

_NUMBER = rf"(\d{{1,3}}(?![\d.,]\d)|{'|'.join(_TEENS)}|(?:{'|'.join(_TENS)})(?:[- ](?:{'|'.join(_UNITS)}))?)"
_VERBS = (
    r"(?:still|now|is|are|has|have|lives?|works?|runs?|drives?|shares?|keeps?|spends?|teach(?:es)?|does|do|walks?|gets?|"
    r"remains?|rents?)"
)

_EXACT = tuple(
    re.compile(rf"(?<![\w$£€#-])(?:{expression})", re.IGNORECASE)
    for expression in (
        rf"{_NUMBER}[- ]?(?:years?|yrs?)[- ](?:old|of age|young)\b",
        rf"{_NUMBER} ?(?:y/o|yo)\b",
        rf"(?:now |currently )?aged?:? {_NUMBER}(?!\w)(?! (?:and|or) (?:over|above|older|under|up))(?! to\b|[-+])",
        rf"(?:is|'s|are|'re|turned|turns|turning|reached|just|now|already|nearly|almost|barely) {_NUMBER}"
        r"(?=[,;:!?)]|\.(?!\d)| (?:and|but|this|last|next|in|years|now|today|with|or)\b"
        r"|$)(?! years? (?!old|of age))(?! and a half)",
        rf"at (?:the age of )?{_NUMBER},? (?:she|he|they|\w{{1,20}}) {_VERBS}\b",
        rf"at {_NUMBER}, and with\b",
    )
)
# "Maria, 34, drives a bus" and "Maria (34) drives a bus", at the beginning of the text.
_BESIDE_NAME = re.compile(rf"^[^,.()\d]{{2,40}}(?:, | \(){_NUMBER}(?=,|\))", re.IGNORECASE)
_ABOUT = re.compile(
    rf"in (?:her|his|their) (?:(early|mid|middle|late)(?:[- ]to[- ]late)?[- ]?)?({'|'.join(_DECADES)}|[2-9]0'?s)\b",
    re.IGNORECASE,
)
_NICKNAME = re.compile(rf"\b({'|'.join(_NICKNAMES)})\b", re.IGNORECASE)


class Age(NamedTuple):
    """An age in years, between `youngest` and `oldest` (both included), at text[start:end]."""

    youngest: int
    oldest: int
    start: int
    end: int


def ages(text: str) -> Iterator[Age]:
    """The ages of adults that the text states, in no particular order. An age said in two ways may come twice."""
    for expression in (*_EXACT, _BESIDE_NAME):
        for match in expression.finditer(text):
            years = _number(match[1].lower())
            if _ADULT[0] <= years <= _ADULT[1]:
                yield Age(years, years, match.start(1), match.end())
    for match in _ABOUT.finditer(text):
        first, last = _PARTS[match[1].lower() if match[1] else None]
        decade = _decade(match[2].lower())
        yield Age(decade + first, decade + last, match.start(), match.end())
    for match in _NICKNAME.finditer(text):
        decade = _NICKNAMES[match[1].lower()]
        yield Age(decade, decade + 9, match.start(), match.end())


def _number(words: str) -> int:
    if words.isdigit():
        return int(words)
    if words in _TEENS:
        return 18 + _TEENS.index(words)
    tens, _, unit = words.replace("-", " ").partition(" ")
    return 20 + 10 * _TENS.index(tens) + (1 + _UNITS.index(unit) if unit else 0)


def _decade(words: str) -> int:
    return int(words[0]) * 10 if words[0].isdigit() else 20 + 10 * _DECADES.index(words)
