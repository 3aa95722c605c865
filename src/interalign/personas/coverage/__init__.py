"""Human variability: what the people of a pool should differ in, what a text shows of it, and what a pool still lacks.

A language model that is asked for people gives the same few over and over: young, contented, in an office. So a plan of
dimensions and levels (`profile.toml`, `personality.toml`) tells the generator which people to write next, and says how
far a pool has come. A level is read off a text by regular expressions, so that the measure is free, the same everywhere
and cannot be talked round. It prefers to stay silent: a level that is not plainly stated counts as unstated.
"""

from __future__ import annotations

import math
import re
import tomllib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from itertools import combinations
from random import Random
from typing import Any, NamedTuple, TypeAlias

from interalign.errors import InputError
from interalign.messages import Value
from interalign.personas.coverage.ages import ages
from interalign.personas.description import Kind

__all__ = [
    "Coverage",
    "CoverageDimension",
    "Level",
    "Outline",
    "Sign",
    "asked",
    "contradiction",
    "dimensions",
    "draw_outlines",
    "measure_coverage",
    "outline_of",
    "shown",
    "signs",
]

Outline: TypeAlias = dict[str, str]
"""Dimension to level, for some or all of the dimensions of a kind."""

_FLOOR = 0.02
_LEFT_OUT = (1, 2)
_CONTEXT = 120
# No description is nearly so long. What is may be hostile, and would take its time.
_READ = 10_000
_SEPARATOR = "; "
_SENTENCE_END = re.compile(r"[.!?;]['\")]* ")
_QUOTES = str.maketrans({"’": "'", "‘": "'", "‑": "-", "–": "-", "“": '"', "”": '"'})  # noqa: RUF001
# "Not" reaches a few words far, unless the sentence turns, or goes on with "only".
_NEGATION = re.compile(
    r"(?:\b(?:not|never|no|neither|nor|hardly|barely|scarcely|without|cannot|far from|anything but|nothing|lacks?|"
    r"less|isnt|wasnt|doesnt)|n't)"
    r"(?! only\b| just\b| merely\b| simply\b| far from\b| surprisingly\b)"
    r"(?: (?!and\b|but\b|because\b|so\b|though\b|although\b|until\b|since\b|yet\b|while\b)[\w'-]{1,24}){0,3} $",
    re.IGNORECASE,
)
# The open words in a cue, as in "keeps (?:\w{1,12} ){0,2}promises", must not turn it round.
_GAP = re.compile(r"(\(\?: ?)(?=(?:\\w|\[\\w[^\]]*\])\{1,)")
_NO_DENIAL = r"\1(?!(?:no|not|never|neither|nor|hardly|rarely|seldom|without|few)\\b)"


class Level(Value):
    """One level of a dimension: how it is asked for, how a text shows it, and sentences that do."""

    name: str
    ask: str
    range: tuple[int, int] | None = None
    """Years of age, both included. A level with a range has no cues: ages are read as numbers."""
    cues: tuple[str, ...] = ()
    framed: dict[str, tuple[str, ...]] = {}
    """Name of a frame of the dimension to the words that it takes."""
    over: tuple[str, ...] = ()
    """Levels of the same dimension that this one outdoes where a text shows both."""
    past: bool = False
    """Whether it counts what is told of the past."""
    sentences: tuple[str, ...] = ()
    """Clauses without final punctuation that begin with `{name}` and may hold `{they}`, `{their}` and `{them}`."""


class CoverageDimension(Value):
    """One respect in which people differ. `profile.toml` says what the lists of regular expressions do."""

    name: str
    levels: tuple[Level, ...]
    ordered: bool = False
    """Whether the levels go from less to more, so that a picture may shade them."""
    others: tuple[str, ...] = ()
    others_after: tuple[str, ...] = ()
    past: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
    frames: dict[str, str] = {}
    negation: bool = True
    """Whether a cue after a negation is passed over. A home is often told by what it lacks."""


class Sign(Value):
    """Where a text shows a level: the words, and where they begin in the text with its white space evened."""

    dimension: str
    level: str
    words: str
    start: int


class Coverage(Value):
    """How far the descriptions of one kind cover the plan."""

    kind: Kind
    size: int
    counts: dict[str, dict[str, int]]
    """By dimension and level, zeros included."""
    unstated: dict[str, int]
    """By dimension: descriptions that show no level. With the counts they add up to `size`."""
    evenness: dict[str, float | None]
    """By dimension: entropy of the stated levels over its maximum. 1 is even; None where nothing is stated."""
    pairs: float | None
    """Share of the pairs of levels of two dimensions, clashes left out, that a description shows; None for no texts."""


def dimensions(kind: Kind) -> tuple[CoverageDimension, ...]:
    """The dimensions of a kind, in the order of its file."""
    return _plan(kind)[0]


def asked(kind: Kind, outline: Mapping[str, str]) -> str:
    """The outline in words, as the generator is told: "aged 65 to 79; lives in South Asia (name the place)".

    Raises:
        InputError: a dimension or a level is unknown.
    """
    known = {(one.name, level.name): level.ask for one in dimensions(kind) for level in one.levels}
    for place in outline.items():
        if place not in known:
            raise InputError(
                f"'{place[0]}: {place[1]}' is no level of the {kind} plan.",
                mend=f"use the names in coverage/{kind}.toml.",
            )
    return _SEPARATOR.join(ask for place, ask in known.items() if outline.get(place[0]) == place[1])


def outline_of(kind: Kind, words: str) -> Outline:
    """The outline that `asked` put into these words.

    Raises:
        InputError: a part of them is not from the plan.
    """
    known = {level.ask: (one.name, level.name) for one in dimensions(kind) for level in one.levels}
    outline: Outline = {}
    for part in words.split(_SEPARATOR) if words else ():
        if part not in known:
            raise InputError(f"{part!r} asks for no level of the {kind} plan.", mend="pass on the words of `asked`.")
        name, level = known[part]
        outline[name] = level
    return outline


def shown(kind: Kind, text: str) -> Outline:
    """The levels that the text shows; the first one stated wins, unless another is named as going over it.

    Dimensions of which nothing is stated are left out. What is denied or said of another person does not count,
    nor what comes after 10,000 characters.
    """
    return dict(_shown(kind, text))


def signs(kind: Kind, text: str) -> tuple[Sign, ...]:
    """Every sign of a level in the text, by dimension and place: the reasons for `shown`, and what it passed over."""
    return tuple(sign for _, found in _signs(kind, text) for sign in found)


@lru_cache(maxsize=8192)
def _shown(kind: Kind, text: str) -> tuple[tuple[str, str], ...]:
    by_dimension = {one.name: one for one in dimensions(kind)}
    return tuple((name, _settled(by_dimension[name], found)) for name, found in _signs(kind, text) if found)


def _settled(dimension: CoverageDimension, found: Sequence[Sign]) -> str:
    present = {sign.level for sign in found}
    outdone = {name for level in dimension.levels if level.name in present for name in level.over}
    first = next((sign for sign in found if sign.level not in outdone), found[0])
    return first.level


# Pairing asks about each text once for every text of the other kind.
@lru_cache(maxsize=8192)
def _signs(kind: Kind, text: str) -> tuple[tuple[str, tuple[Sign, ...]], ...]:
    plain = " ".join(text[:_READ].translate(_QUOTES).split())
    return tuple((reader.dimension.name, reader.read(plain)) for reader in _readers(kind))


class _Reader:
    """The compiled expressions of one dimension."""

    def __init__(self, dimension: CoverageDimension) -> None:
        self.dimension = dimension
        levels = [level for level in dimension.levels if not level.range]
        self.cues = [(level.name, _words(level.cues)) for level in levels if level.cues]
        self.framed = [(level.name, _words(_framed(dimension, level))) for level in levels if level.framed]
        self.others = _any(dimension.others)
        self.after = _any(dimension.others_after)
        self.past = _any(dimension.past)
        self.of_past = {level.name for level in levels if level.past}
        self.weak = _any(dimension.weak)

    def read(self, text: str) -> tuple[Sign, ...]:
        """The signs by place; the weak ones only where there are no others."""
        strong: list[Sign] = []
        weak: list[Sign] = []
        for level, start, end in self._matches(text):
            before = _before(text, start)
            if self._of_others(level, before, text[end : end + _CONTEXT]):
                continue
            sign = Sign(dimension=self.dimension.name, level=level, words=text[start:end], start=start)
            (weak if self.weak and self.weak.search(before) else strong).append(sign)
        # Of two signs at one place the longer one says more.
        return tuple(sorted(strong or weak, key=lambda sign: (sign.start, -len(sign.words))))

    def _of_others(self, level: str, before: str, after: str) -> bool:
        return bool(
            (self.dimension.negation and _NEGATION.search(before))
            or (self.others and self.others.search(before))
            or (self.after and self.after.match(after))
            or (self.past and level not in self.of_past and self.past.search(before))
        )

    def _matches(self, text: str) -> Sequence[_Match]:
        found = [_Match(level, *match.span()) for level, words in self.cues for match in words.finditer(text)]
        # "Single parent" holds no "parent", and "works as a cook in a hospital" tells of a cook.
        framed = [_Match(level, *match.span()) for level, words in self.framed for match in words.finditer(text)]
        passed = {one for one, _ in _nested(found, found)} | {other for _, other in _nested(found, framed)}
        return [one for one in (*found, *framed) if one not in passed] + [
            _Match(level.name, age.start, age.end)
            for age in (ages(text) if any(level.range for level in self.dimension.levels) else ())
            for level in self.dimension.levels
            if level.range and level.range[0] <= age.youngest and age.oldest <= level.range[1]
        ]


class _Match(NamedTuple):
    level: str
    start: int
    end: int


def _nested(inner: Iterable[_Match], outer: Iterable[_Match]) -> Iterator[tuple[_Match, _Match]]:
    """The pairs of a match and a longer one of another level around it."""
    by_place = sorted(inner, key=lambda match: match.start)
    starts = [match.start for match in by_place]
    for other in outer:
        for one in by_place[bisect_left(starts, other.start) : bisect_left(starts, other.end)]:
            shorter = one.end <= other.end and one.end - one.start < other.end - other.start
            if shorter and one.level != other.level:
                yield one, other


def _before(text: str, start: int) -> str:
    """What the sentence says before this place, as far as it matters."""
    context = text[max(0, start - _CONTEXT) : start]
    ends = [match.end() for match in _SENTENCE_END.finditer(context)]
    return context[ends[-1] :] if ends else context


def _any(expressions: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(f"(?:{one})" for one in expressions), re.IGNORECASE) if expressions else None


def _words(expressions: Sequence[str]) -> re.Pattern[str]:
    every = "|".join(f"(?:{_GAP.sub(_NO_DENIAL, one)})" for one in expressions)
    return re.compile(rf"(?<!\w)(?:{every})(?!\w)", re.IGNORECASE)


def _framed(dimension: CoverageDimension, level: Level) -> list[str]:
    return [
        dimension.frames[frame].replace("{}", f"(?:{words})")
        for frame, lists in level.framed.items()
        for words in lists
    ]


@cache
def _readers(kind: Kind) -> tuple[_Reader, ...]:
    return tuple(_Reader(dimension) for dimension in dimensions(kind))


@cache
def _plan(kind: Kind) -> tuple[tuple[CoverageDimension, ...], frozenset[frozenset[tuple[str, str]]]]:
    """The dimensions, and the pairs of (dimension, level) that no outline asks for together."""
    plan: dict[str, Any] = tomllib.loads((files(__package__) / f"{kind}.toml").read_text(encoding="utf-8"))
    found = tuple(CoverageDimension.model_validate(_with_shared(plan, entry)) for entry in plan["dimension"])
    clashes = []
    for clash in plan["clash"]:
        first, second = (tuple(place.split(".", 1)) for place in clash["levels"])
        clashes.append(frozenset({(first[0], first[1]), (second[0], second[1])}))
    return found, frozenset(clashes)


def _with_shared(plan: Mapping[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """The dimension of a file, with the lists that stand there for all of them."""
    shared = {name: [*plan.get(name, ()), *entry.pop(name, ())] for name in ("others", "others_after")}
    return {"levels": entry.pop("level"), **entry, **shared}


def measure_coverage(kind: Kind, texts: Iterable[str]) -> Coverage:
    """How evenly, and in how many combinations, the texts show the levels of their kind."""
    plan = dimensions(kind)
    levels: Counter[tuple[str, str]] = Counter()
    together: set[frozenset[tuple[str, str]]] = set()
    size = 0
    for text in texts:
        size += 1
        places = list(shown(kind, text).items())
        levels.update(places)
        together.update(frozenset(pair) for pair in combinations(places, 2))
    counts = {one.name: {level.name: levels[one.name, level.name] for level in one.levels} for one in plan}
    possible = _possible_pairs(kind)
    return Coverage(
        kind=kind,
        size=size,
        counts=counts,
        unstated={name: size - sum(of_dimension.values()) for name, of_dimension in counts.items()},
        evenness={name: _evenness(list(of_dimension.values())) for name, of_dimension in counts.items()},
        pairs=len(together & possible) / len(possible) if size else None,
    )


def _evenness(counts: Sequence[int]) -> float | None:
    total = sum(counts)
    if not total:
        return None
    entropy = -sum(count / total * math.log(count / total) for count in counts if count)
    # Rounding may lead a hair beyond the bounds.
    return min(1.0, max(0.0, entropy / math.log(len(counts))))


def _possible_pairs(kind: Kind) -> set[frozenset[tuple[str, str]]]:
    plan, clashes = _plan(kind)
    return {
        frozenset({(one.name, level.name), (other.name, paired.name)})
        for one, other in combinations(plan, 2)
        for level in one.levels
        for paired in other.levels
    } - clashes


def draw_outlines(kind: Kind, count: int, counts: Mapping[str, Mapping[str, int]], seed: int) -> tuple[Outline, ...]:
    """`count` outlines that ask for what a pool lacks. Equal arguments give equal outlines.

    A level is drawn with the weight of its deficit: the even share of all that are counted and drawn so far and this
    one, less its own. What is drawn counts at once, so that one call spreads out too. No outline holds a clash. A
    personality leaves one or two dimensions open, since few people can be summed up in all seven.

    Args:
        kind: The kind of the descriptions.
        count: How many.
        counts: By dimension and level, what the pool shows; what is absent counts as 0.
        seed: Seed of the draw.
    """
    random = Random(seed)
    plan = dimensions(kind)
    so_far = {
        one.name: {level.name: counts.get(one.name, {}).get(level.name, 0) for level in one.levels} for one in plan
    }
    outlines = []
    for _ in range(count):
        outline = _draw(kind, so_far, random)
        for name, level in outline.items():
            so_far[name][level] += 1
        outlines.append({one.name: outline[one.name] for one in plan if one.name in outline})
    return tuple(outlines)


def _draw(kind: Kind, so_far: Mapping[str, Mapping[str, int]], random: Random) -> Outline:
    clashes = _plan(kind)[1]
    left_out = random.randint(*_LEFT_OUT) if kind == "personality" else 0
    outline: Outline = {}
    names = random.sample(list(so_far), len(so_far) - left_out)
    # The most lopsided first, so that no clash calls for a level that abounds; otherwise in random order.
    for name in sorted(names, key=lambda name: -_surplus(so_far[name])):
        allowed = [
            level
            for level in so_far[name]
            if not any(frozenset({(name, level), place}) in clashes for place in outline.items())
        ]
        outline[name] = random.choices(allowed, [_deficit(so_far[name], level) for level in allowed])[0]
    return outline


def _deficit(levels: Mapping[str, int], level: str) -> float:
    share = (sum(levels.values()) + 1) / len(levels)
    return max(share - levels[level], _FLOOR)


def _surplus(levels: Mapping[str, int]) -> float:
    return max(levels.values()) - sum(levels.values()) / len(levels)


_OPPOSITES = (
    ("openness", "low", "high"),
    ("conscientiousness", "low", "high"),
    ("extraversion", "low", "high"),
    ("agreeableness", "low", "high"),
    ("neuroticism", "low", "high"),
    ("style", "terse", "talkative"),
)


def contradiction(profile: str, personality: str) -> str | None:
    """One sentence with the words by which the two texts contradict each other; None where they do not.

    They do where both show the same trait and show opposite poles of it. A text that shows both poles itself, such as
    a shy person who loves company, contradicts nothing.
    """
    in_profile, in_personality = dict(_signs("personality", profile)), dict(_signs("personality", personality))
    for dimension, *poles in _OPPOSITES:
        first = _only_pole(in_profile[dimension], poles)
        second = _only_pole(in_personality[dimension], poles)
        if first and second and first.level != second.level:
            return f"The profile says '{first.words}', the personality says '{second.words}' ({dimension})."
    return None


def _only_pole(found: Sequence[Sign], poles: Sequence[str]) -> Sign | None:
    of_pole = [sign for sign in found if sign.level in poles]
    return of_pole[0] if len({sign.level for sign in of_pole}) == 1 else None
