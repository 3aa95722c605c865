"""Reading a score from 1 to 5 off what a judge has written, and off how likely it held each of the five.

What always holds: a score is read only where the text gives one, and no more than one, in a form that this grammar
knows. Everything else is missing, with the reason; nothing stands in for it.

    answer  = [lead] [label] number [scale] [reason]  |  prose, then as the last line (lead | label) number [scale]
            | prose, then as the last sentence, or as its last clause, (lead | label) number [scale] or number "/5"
    lead    = "I'd say", "I would give it a", "I rate this reply", "This deserves a", "It's a", ...
    label   = "score", "rating", "grade", "result", "verdict", "overall", also as in "my final score";
              then ":", "=", " - ", "is", "of" or nothing
    number  = 1 to 5 in digits ("4", "4.0") or, in English, as a word ("four")
    scale   = "/5", "out of 5", "of 5", "stars", "points"
    reason  = "because", "since", ",", "(", a dash or a new line, then prose that names no other number; after a lead,
              a label or a scale also ".", ":", ";" or "!", which after a bare number may begin a list; after a bare
              word for a number, which may be none ("One, ..."), "because" and "since" only

    JSON    = one object with "score" (or "rating"): a number, or a text of this grammar, and no number beside it

So "It suits her. Rating: 3", "It misses the topic, so I give this a 3." and "Warm and short, but dull, 3 out of 5."
give a score. A last clause begins behind ",", ";", a dash or "so"; its sentence names no other number, quotes nobody
and is no condition. Where prose states two different scores ("Score: 3. No, score: 4."), there is none.

Emphasis, quotation marks and square brackets count for nothing, nor does "on a scale from 1 to 5".
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import Field, model_validator

from interalign.llm.model import Answer, Chance
from interalign.messages import Value

__all__ = ["Reading", "read_rating", "weighted_score"]

_WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}

# The patterns are for texts in which white space of any length is one space or one line end.
_GAP = r"[ \n]?"
_REPLY = r"(?:this|that|the)(?: (?:reply|response|answer))?"
_LEAD = (
    r"(?:i(?: would|['’]d)? (?:say|give|rate|score)|it(?: is|['’]s| gets| deserves| earns| scores)"
    rf"|{_REPLY} (?:is|gets|deserves|earns|scores))"
    rf"(?: (?:it|{_REPLY})(?: is|['’]s)?)?(?: (?:at|as|with))?"
)
_LABEL = (
    rf"(?:(?:my|the|its|final|overall) ){{0,3}}(?:score|rating|grade|result|verdict|overall)(?: for {_REPLY})?"
    r"(?: (?:is|of|would be))?(?: ?[:=]| ?[-–—](?= ))?"
)
_OF_FIVE = r" ?\(?(?:/ ?5|(?:out )?of (?:5|five))\)?"
_SCALE = rf"{_OF_FIVE}(?: (?:stars?|points?))?| (?:stars?|points?)"
_END = r"(?![\w%+°½¼¾]|[.,/:]\w| ?/)"
_VALUE = rf"(?:(?P<digit>[1-5])(?:\.0+)?|(?P<word>{'|'.join(_WORDS)})(?!\w))"
_NUMBER = rf"{_GAP}(?:an? )?[('‘]?{_VALUE}[)'’]?(?P<scale>{_SCALE})?{_END}"
_RATING = re.compile(rf"{_GAP}(?P<lead>{_LEAD})?{_GAP}(?:an? )?(?P<label>{_LABEL})?{_NUMBER}", re.IGNORECASE)
_LABELLED = re.compile(rf"\b{_LABEL}{_GAP}\(?(\d[\d.,/]*|{'|'.join(_WORDS)})", re.IGNORECASE)

_STATED = re.compile(
    rf"\b(?:{_LEAD}|{_LABEL}){_NUMBER.replace('?P<digit>', '').replace('?P<word>', '').replace('?P<scale>', '')}"
    rf"|\b(?:\d[\d.,]*|{'|'.join(_WORDS)}){_OF_FIVE}(?!\w)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[.!?][ \n]|\n")
_CLAUSE = re.compile(
    r"(?: ?[,;–—]| - )?[ \n]?\b(?:and so|so|thus|hence|therefore)\b,?[ \n]|(?: ?[,;–—]| -) ?(?:(?:and|but|overall,?) )?"
)
_SUMMING_UP = re.compile(
    r"[ \n]?(?:overall|so|thus|hence|therefore|in (?:short|sum|total|conclusion)|all in all|to sum up)", re.IGNORECASE
)
_OF_A_PART = re.compile(r"[ \n]?(?:for|in|on|regarding|as|style|content|tone|manner|honesty)\b", re.IGNORECASE)
_UNSURE = re.compile(
    r"^[ \n]?(?:had|were|should)\b|\b(?:if|unless|until|otherwise|normally|usually|initially|first|maybe|perhaps"
    r"|possibly|probably|almost|nearly|might|could|unsure|between|says|said|claim(?:s|ed)?|ask(?:s|ed|ing)?|writes?|wrote"
    r"|states?|stated|tells?|told|call(?:s|ed)?)\b",
    re.IGNORECASE,
)
_SHORTENED = re.compile(r"\b(?:e\.g|i\.e|vs|cf|approx)\.$", re.IGNORECASE)
_QUOTES = frozenset('"“”„«»')
_LONGEST_CLAUSE = 120
"""Characters; no rating of this grammar is longer, and no text is looked at over and over."""
_LEAST_PROSE = 3
"""Words before a clause, so that no part of a score is taken for it ("Tone, 4/5")."""

_NO_MORE = re.compile(r"[ \n]?[.!]*[ \n]?")
_CAUSE = re.compile(r"[ \n]?(?:because|since)\b", re.IGNORECASE)
_REASON = re.compile(r" ?[,(–—]| - |\n|[ \n]?(?:because|since)\b", re.IGNORECASE)
_AFTER_MARK = re.compile(r" ?[.:;!]")
_OTHER_NUMBER = re.compile(
    r"\d|[½¼¾]|\b(?:zero|two|three|four|five|six|seven|eight|nine|ten)\b"
    r"|\b(?:or|to|and|but|maybe|perhaps)(?: an?)? one\b",
    re.IGNORECASE,
)
_OTHER_SCALE = re.compile(r"\d\s*(?:/|out\s+of)\s*(?!5\b)\d", re.IGNORECASE)
_COUNTED = re.compile(r"\d+(?:[.,/]\d+)*")

_LEGEND = re.compile(
    r"(?:on )?(?:a|the|my) scale (?:of|from) (?:1|one) ?(?:to|-|–) ?(?:5|five)[,:]?|\(1 ?(?:to|-|–) ?5\)",
    re.IGNORECASE,
)
_NOTHING = frozenset('*_`"#[]“”„«»')
_KEYS = ("score", "rating")
_IN_JSON = re.compile(r'"(?:score|rating)"\s*:\s*"?([1-5])')


class Reading(Value):
    """What was read off a text: either a score, or why there is none."""

    score: Annotated[int, Field(ge=1, le=5)] | None = None
    reason: str = ""
    """Why there is no score, as in "it names more than one number"; "" where there is one."""
    at: Annotated[int, Field(ge=0)] | None = None
    """The place of the score's digit in the text; None where it is a word, or cannot be told."""

    @model_validator(mode="after")
    def _check(self) -> Reading:
        if (self.score is None) != bool(self.reason):
            raise ValueError("either a score or a reason is needed")
        return self


def read_rating(text: str) -> Reading:
    """The score that a judge has written, in JSON or freely, by the grammar of this module.

    Raises nothing: any text is a score or a reason.
    """
    return _read_json(text) if "{" in text else _read_prose(text)


def weighted_score(answer: Answer, at: int) -> float | None:
    """The mean of the five scores, each weighted by how likely the model held it: sum p(k) k / sum p(k), k = 1..5.

    As in G-Eval (arXiv 2303.16634, section 2.3), from the token that holds the score instead of from many samples.

    Args:
        answer: An answer and its chances.
        at: Where in its text the digit of the score stands.

    Returns:
        The score in [1, 5]; None when the chances do not tell it, or are not those of this text.
    """
    written = "".join(chances[0].token for chances in answer.top)
    # The chances may be those of more than the text, as where a server cuts off an end mark.
    if written.count(answer.text) != 1:
        return None
    place = written.index(answer.text) + at
    for chances in answer.top:
        if place < len(chances[0].token):
            return _mean(chances, chances[0].token[:place])
        place -= len(chances[0].token)
    return None


def _mean(chances: Sequence[Chance], before: str) -> float | None:
    """The mean score over tokens that begin with a text and then a digit."""
    mass: defaultdict[int, float] = defaultdict(float)
    for token, logprob in chances:
        # Whether white space comes with a digit is no part of the score.
        rest = token.lstrip() if not before.strip() else token.removeprefix(before) if token.startswith(before) else ""
        if rest[:1] in {"1", "2", "3", "4", "5"} and not re.match(r"[\d.]", rest[1:]):
            mass[int(rest[0])] += math.exp(logprob)
    total = math.fsum(mass.values())
    return round(math.fsum(score * share for score, share in mass.items()) / total, 4) if total > 0 else None


class _Plain(NamedTuple):
    """A text without what counts for nothing, and for each of its characters where it stood."""

    text: str
    origin: list[int]


def _plain(text: str) -> _Plain:
    kept: list[str] = []
    origin: list[int] = []
    for place, written in enumerate(text):
        character = " " if written in _NOTHING else "\n" if written in "\n\r" else written
        if not character.isspace():
            kept.append(character)
            origin.append(place)
        elif not kept or not kept[-1].isspace():
            kept.append("\n" if character == "\n" else " ")
            origin.append(place)
        elif character == "\n":
            kept[-1] = "\n"
    return _Plain("".join(kept), origin)


def _read_prose(text: str) -> Reading:
    # Blanked before white space is, so that nothing moves.
    plain, origin = _plain(_LEGEND.sub(lambda legend: " " * len(legend[0]), text))
    found = _whole(plain) or _last_line(plain) or _last_sentence(plain, text, origin)
    if found is None:
        return Reading(reason=_why(text))
    return Reading(score=_score(found), at=origin[found.start("digit")] if found["digit"] else None)


def _whole(plain: str) -> re.Match[str] | None:
    """The rating that a text begins with, where the rest of it is a reason or nothing."""
    found = _RATING.match(plain)
    if found is None or _NO_MORE.fullmatch(plain, found.end()):
        return found
    stated = bool(found["lead"] or found["label"] or found["scale"])
    is_reason = _REASON.match(plain, found.end()) if stated or found["digit"] else _CAUSE.match(plain, found.end())
    if not is_reason and not (stated and _AFTER_MARK.match(plain, found.end())):
        return None
    return None if _OTHER_NUMBER.search(plain, found.end()) else found


def _last_line(plain: str) -> re.Match[str] | None:
    """The rating with a lead or a label that the last line is, where no label before it names another."""
    begin = plain.rstrip().rfind("\n") + 1
    found = _RATING.match(plain, begin)
    if found is None or not (found["lead"] or found["label"]) or not _NO_MORE.fullmatch(plain, found.end()):
        return None
    return found if _none_but(_score(found), plain, begin) else None


def _last_sentence(plain: str, text: str, origin: Sequence[int]) -> re.Match[str] | None:
    """The rating that is the last sentence or its last clause, where nothing makes it doubtful."""
    end = len(plain.rstrip().rstrip(".!"))
    begin = max((found.end() for found in _SENTENCE.finditer(plain, 0, end)), default=0)
    if _SHORTENED.search(plain[:begin].rstrip()) or _UNSURE.search(plain[begin:end]):
        return None
    if begin >= end or not _QUOTES.isdisjoint(text[origin[begin] :]):
        return None
    starts = [begin, *_clauses(plain, begin, end)]
    found = next((one for start in starts if (one := _stated_last(plain, start))), None)
    if found is None or _OTHER_NUMBER.search(plain, begin, found.start()):
        return None
    return found if _none_but(_score(found), plain, begin) else None


def _clauses(plain: str, begin: int, end: int) -> list[int]:
    """Where a last clause may begin: behind some prose of no part of the score, or behind words that sum up."""
    marks = [mark for mark in _CLAUSE.finditer(plain, begin, end) if mark.end() >= end - _LONGEST_CLAUSE]
    before = [plain[begin : mark.start()] for mark in marks]
    return [
        mark.end()
        for mark, prose in zip(marks, before, strict=True)
        if _SUMMING_UP.fullmatch(prose) or (len(prose.split()) >= _LEAST_PROSE and not _OF_A_PART.match(prose))
    ]


def _stated_last(plain: str, start: int) -> re.Match[str] | None:
    found = _RATING.match(plain, start)
    if found is None or not _NO_MORE.fullmatch(plain, found.end()):
        return None
    lead = (found["lead"] or "").lower()
    if lead.endswith((" is", "'s", "’s")) and not found["scale"] and " a" not in plain[found.end("lead") : found.end()]:
        # "It is 3" may be the time.
        return None
    scaled = found["scale"] is not None and re.match(_OF_FIVE, found["scale"], re.IGNORECASE)
    return found if lead or found["label"] or scaled else None


def _none_but(score: int, plain: str, end: int) -> bool:
    """Whether no other score than this one is stated before a place."""
    same = {f"{score}", f"{score}/5", *(word for word, number in _WORDS.items() if number == score)}
    labelled = {one[1].rstrip(".,").lower() for one in _LABELLED.finditer(plain, 0, end)}
    values = "|".join(_WORDS)
    stated = {
        re.findall(rf"\d[\d.]*|\b(?:{values})\b", re.sub(rf"{_OF_FIVE}(?: \w+)?$", "", one[0]), re.IGNORECASE)[-1]
        for one in _STATED.finditer(plain, 0, end)
    }
    return labelled <= same and {one.lower().removesuffix(".0").rstrip(".") for one in stated} <= same


def _score(found: re.Match[str]) -> int:
    return int(found["digit"]) if found["digit"] else _WORDS[found["word"].lower()]


def _why(text: str) -> str:
    numbers = _COUNTED.findall(text)
    if not text.strip():
        return "it is empty"
    if not numbers and not _OTHER_NUMBER.search(text):
        return "it names no score"
    if _OTHER_SCALE.search(text):
        return "its score is on another scale than 1 to 5"
    if len(set(numbers)) > 1:
        return "it names more than one number"
    if numbers and numbers[0] not in {"1", "2", "3", "4", "5"}:
        return f"{numbers[0][:20]} is no whole number from 1 to 5"
    return "it does not say plainly which score it gives"


def _read_json(text: str) -> Reading:
    begin = text.index("{")
    try:
        pairs, end = json.JSONDecoder(object_pairs_hook=list).raw_decode(text, begin)
    except (ValueError, RecursionError):
        return Reading(reason="its JSON cannot be read")
    beside = text[:begin] + text[end:]
    if "{" in beside or _OTHER_NUMBER.search(beside):
        return Reading(reason="it says more than one JSON object with a score")
    scores = [value for key, value in pairs if key in _KEYS]
    if len(scores) != 1:
        return Reading(reason="its JSON has more than one score" if scores else "its JSON has no score")
    read = _read_value(scores[0])
    places = [found.start(1) for found in _IN_JSON.finditer(text)]
    return read.model_copy(update={"at": places[0] if read.score is not None and len(places) == 1 else None})


def _read_value(value: Any) -> Reading:
    if isinstance(value, str):
        return _read_prose(value)
    # To Python, true is 1.
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in _WORDS.values():
        return Reading(reason="the score in its JSON is no whole number from 1 to 5")
    return Reading(score=int(value))
