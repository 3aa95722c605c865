"""Who a model is tested on: the packaged people, or those of a file. A case is one held-out persona.

What always holds: cases are held out, at least two, and no two are the same person; a file comes in whole or not at
all, since a benchmark that loses some of its cases is another benchmark. The packaged cases cross twenty profiles with
five personalities, the sizes of the paper's benchmark; their texts are this project's own. They are people in words
only, for language models to play: rule-based users need the composed ones of a run.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from interalign.conversations.export import read_aloe
from interalign.errors import InputError, LeakError
from interalign.messages import Value
from interalign.personas.description import KINDS, PLURALS, Description, Kind, normalised
from interalign.personas.exchange import Problem, read_pool
from interalign.personas.exchange.containers import Record, as_fields, shown, stored
from interalign.personas.gender import ungendered
from interalign.personas.masking import masked_key
from interalign.personas.pairing import pair
from interalign.personas.persona import Persona, Trait
from interalign.personas.split import halves

__all__ = [
    "ALOE",
    "AloePersonality",
    "AloeProfile",
    "CaseCard",
    "Leak",
    "ShownTrait",
    "aloe_cases",
    "aloe_personalities",
    "aloe_profiles",
    "card",
    "leaks",
    "read_cases",
    "refuse_leaks",
]

ALOE = "aloe"
"""The name of the packaged cases."""

_PERSONALITIES_EACH = 5
_LEAKS_SHOWN = 5
_RARE_WORDS = 3

_Items: TypeAlias = Annotated[dict[str, str], Field(min_length=8, max_length=10)]


class AloeProfile(Value):
    """One of the packaged people: the text, and what it says by slot, in words that stand in it."""

    text: Annotated[str, Field(min_length=1)]
    facts: _Items

    @model_validator(mode="after")
    def _check(self) -> AloeProfile:
        _check_words(self.text, self.facts.values())
        return self


class ShownTrait(Value):
    """A trait of a packaged personality, with the words of the text that show it."""

    name: str
    words: str
    difficult: bool = False


class AloePersonality(Value):
    """One of the packaged characters, told so that it fits every profile."""

    text: Annotated[str, Field(min_length=1)]
    traits: Annotated[tuple[ShownTrait, ...], Field(min_length=8, max_length=10)]

    @model_validator(mode="after")
    def _check(self) -> AloePersonality:
        _check_words(self.text, (trait.words for trait in self.traits))
        return self


def _check_words(text: str, words: Iterable[str]) -> None:
    absent = [one for one in words if one not in text]
    if absent:
        raise ValueError(f"{shown(absent[0])} does not stand in the text {shown(text)}")


@cache
def aloe_profiles() -> tuple[AloeProfile, ...]:
    """The twenty packaged profiles, in the order of the file."""
    return tuple(AloeProfile.model_validate(entry) for entry in _entries("profile"))


@cache
def aloe_personalities() -> tuple[AloePersonality, ...]:
    """The five packaged personalities, in the order of the file."""
    return tuple(AloePersonality.model_validate(entry) for entry in _entries("personality"))


def _entries(kind: Kind) -> list[dict[str, Any]]:
    path = files("interalign.evaluation") / "aloe" / f"{PLURALS[kind]}.toml"
    entries: list[dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))[kind]
    return entries


@cache
def aloe_cases() -> tuple[Persona, ...]:
    """The hundred packaged cases: every profile with every personality, always in the same order.

    Any beginning of them is as even as its length allows: every profile comes once before one comes again, and the
    personalities take turns.
    """
    profiles, personalities = aloe_profiles(), aloe_personalities()
    return tuple(
        _crossed(profile, personalities[(place + lap) % len(personalities)])
        for lap in range(len(personalities))
        for place, profile in enumerate(profiles)
    )


def _crossed(profile: AloeProfile, personality: AloePersonality) -> Persona:
    traits = tuple(Trait(name=one.name, difficult=one.difficult) for one in personality.traits)
    return Persona(split="heldout", profile=profile.text, personality=personality.text, traits=traits)


def read_cases(source: str | Path) -> tuple[Persona, ...]:
    """The cases that `source` names, each marked as held out; equal sources give equal cases in equal order.

    Args:
        source: "aloe" for the packaged cases (a file of that name is `./aloe.jsonl` or a Path); or a file or folder of
            personas as `personas/exchange` reads them, published conversations among them, whose people come in once
            each; or a folder of profiles and personalities, or two files with a comma between, profiles first. Of these
            each profile meets five personalities (all, where there are fewer), in its own gender and none at odds with
            it.

    Raises:
        InputError: there are fewer than two people, two are the same, or a record cannot be used.
        LeakError: there are training personas among them.
        MissingExtra: Parquet or Arrow without pyarrow.
    """
    if source == ALOE:
        return aloe_cases()
    read = [_read(path, kind) for path, kind in _paths(source)]
    personas = [one for part in read for one in part.personas]
    descriptions = [one for part in read for one in part.descriptions]
    if personas and descriptions:
        raise InputError(
            f"{source} holds whole personas and bare descriptions.",
            mend="give personas, or profiles and personalities.",
        )
    cases = _made(str(source), descriptions) if descriptions else tuple(personas)
    _check_people(str(source), cases)
    return tuple(one.model_copy(update={"split": "heldout"}) for one in cases)


class _Read(Value):
    personas: tuple[Persona, ...] = ()
    descriptions: tuple[Description, ...] = ()


def _paths(source: str | Path) -> list[tuple[Path, Kind | None]]:
    """The files, each with the kind of bare texts in it where the source says it."""
    parts = [part.strip() for part in str(source).split(",")]
    if len(parts) == len(KINDS) and all(parts) and not Path(source).exists():
        return list(zip(map(Path, parts), KINDS, strict=True))
    return [(Path(source), None)]


def _read(path: Path, kind: Kind | None) -> _Read:
    records = list(_records(path))
    problems: Sequence[Problem]
    if any("conversations" in fields for fields in records):
        conversations = read_aloe(path, "heldout")
        read, problems = _Read(personas=conversations.personas), conversations.problems
    else:
        pool = read_pool(path, kind)
        read, problems = _Read(personas=pool.personas, descriptions=pool.descriptions), pool.problems
    lost = [problem for problem in problems if not problem.kept]
    if lost:
        raise InputError(
            f"{_counted(lost, 'record')} of {path} cannot be used: {lost[0].place}: {lost[0].what}.",
            mend="mend or remove them: a benchmark that loses cases on the way is another one.",
        )
    _refuse_training(path, read.personas, records)
    return read


def _records(path: Path) -> Iterator[dict[str, object]]:
    """The fields of the records that have any: the readers keep only what they understand of them."""
    for item in stored(path):
        if isinstance(item, Record) and isinstance(item.value, dict):
            yield as_fields(item.value.items())


def _refuse_training(path: Path, personas: Sequence[Persona], records: Iterable[Mapping[str, object]]) -> None:
    """Refuse what is marked for training, and what is not held out beside others that are.

    A record without a split says nothing of its use, so a file in which none has one is taken.
    """
    heldout = sum(one.split == "heldout" for one in personas)
    marked = sum(str(fields.get("split")).strip().casefold() == "train" for fields in records)
    training = len(personas) - heldout if heldout else marked
    if training:
        raise LeakError(
            f"{training:,} of the {len(personas):,} personas of {path} are training personas: what a model was trained "
            "on tests nothing.",
            mend='give a file whose personas are all of the split "heldout", such as heldout.jsonl of a run.',
        )


def _made(source: str, descriptions: Sequence[Description]) -> tuple[Persona, ...]:
    """Personas of profiles and personalities, five of each profile."""
    of_kind = {kind: [one for one in descriptions if one.kind == kind] for kind in KINDS}
    for kind, other in zip(KINDS, reversed(KINDS), strict=True):
        if not of_kind[kind]:
            raise InputError(
                f"{source} holds {PLURALS[other]} and no {PLURALS[kind]}: a case needs both.",
                mend="give a folder with both files, or both with a comma between, profiles first.",
            )
        _refuse_repeats(source, PLURALS[kind], [(one.text,) for one in of_kind[kind]])
    wanted = _PERSONALITIES_EACH * len(of_kind["profile"])
    made = pair(of_kind["profile"], of_kind["personality"], wanted, 0, split="heldout", exact=False)
    return made.personas


def _check_people(source: str, cases: Sequence[Persona]) -> None:
    _refuse_repeats(source, "people", [(one.profile, one.personality) for one in cases])
    if len(cases) < 2:
        raise InputError(
            f"{source} holds one person, and each reply is judged under a stranger's persona, too.", mend="add others."
        )


def _refuse_repeats(source: str, what: str, texts: Sequence[tuple[str, ...]]) -> None:
    """Refuse what stands there twice, up to case, punctuation and spacing."""
    # Texts without a single word have an empty form in common, and nothing else.
    keys = [tuple(normalised(text) or text for text in one) for one in texts]
    count = Counter(keys)
    repeated = [one[0] for one, key in zip(texts, keys, strict=True) if count[key] > 1]
    if repeated:
        raise InputError(
            f"{len(repeated):,} of the {len(texts):,} {what} of {source} are the same as another, but for case, "
            f"punctuation and spacing: {shown(repeated[0])}.",
            mend="leave each in once: whoever is tested twice counts twice.",
        )


_Why: TypeAlias = Literal["same text", "differs in name or gender only"]


class Leak(Value):
    """Half of a persona that stands among the cases and among the training personas."""

    kind: Kind
    text: str
    """As it stands in the cases."""
    why: _Why
    """The same text is so up to case, punctuation and spacing."""
    cases: tuple[str, ...]
    """Ids of the cases that it stands in."""


def leaks(cases: Sequence[Persona], training: Iterable[Persona]) -> tuple[Leak, ...]:
    """The profiles and personalities of the cases that training personas have as well, profiles first.

    Words are compared, not meanings: `interalign personas audit --against` finds paraphrases.
    """
    theirs: dict[Kind, set[str]] = {kind: set() for kind in KINDS}
    for one in training:
        theirs["profile"].add(one.profile)
        theirs["personality"].add(one.personality)
    ours = halves(cases)
    return tuple(
        Leak(kind=kind, text=text, why=why, cases=tuple(one.id for one in cases if getattr(one, kind) == text))
        for kind in KINDS
        for text, why in _shared([one.text for one in ours if one.kind == kind], theirs[kind])
    )


def _shared(ours: Sequence[str], theirs: Iterable[str]) -> list[tuple[str, _Why]]:
    """Those of our texts that are among theirs, or that one of theirs is under another name or gender."""
    words = {text: normalised(text) for text in theirs}
    same = set(words.values()) | words.keys()
    # Masking takes a millisecond a text, so of theirs only those are masked that have a rare word of ours.
    rare = {
        word
        for text in ours
        for word in sorted(set(normalised(text).split()), key=lambda word: (len(word), word))[-_RARE_WORDS:]
    }
    retold = {masked_key(text) for text, found in words.items() if not rare.isdisjoint(found.split())} - {""}
    shared: list[tuple[str, _Why]] = []
    for text in ours:
        if (normalised(text) or text) in same:
            shared.append((text, "same text"))
        elif masked_key(text) in retold:
            shared.append((text, "differs in name or gender only"))
    return shared


def refuse_leaks(cases: Sequence[Persona], training: Iterable[Persona]) -> None:
    """Raise LeakError, which names them, where halves of cases stand among training personas; see `leaks`."""
    found = leaks(cases, training)
    if not found:
        return
    ids = {case for leak in found for case in leak.cases}
    told = [f"{leak.kind} {shown(leak.text)} of case {leak.cases[0]} ({leak.why})" for leak in found[:_LEAKS_SHOWN]]
    more = f"; and {len(found) - len(told):,} more" if len(found) > len(told) else ""
    raise LeakError(
        f"{len(ids):,} of the {len(cases):,} cases share a profile or a personality with training personas: "
        f"{'; '.join(told)}{more}.",
        mend="test on other people, or train a model without these.",
    )


class CaseCard(Value):
    """A set of cases in figures."""

    version: str
    """16 hexadecimal digits that are the same for the same people, in whatever order."""
    cases: Annotated[int, Field(ge=0)]
    profiles: Annotated[int, Field(ge=0)]
    """Different ones."""
    personalities: Annotated[int, Field(ge=0)]
    """The same; one that is told in several genders counts once."""
    crossed: bool
    """Whether every profile stands with every personality."""
    traits: Annotated[int, Field(ge=0)]
    """Named traits of the personalities, over all of them; 0 where they are told in the text only."""
    difficult: Annotated[int, Field(ge=0)]
    """How many of those make a person hard to please."""
    rule_based: Annotated[int, Field(ge=0)]
    """Cases that rule-based users can play."""


def card(cases: Sequence[Persona] | None = None) -> CaseCard:
    """The figures of a set of cases; of the packaged ones where none are given."""
    cases = aloe_cases() if cases is None else cases
    profiles = {one.profile for one in cases}
    key = {text: ungendered(text) for text in {one.personality for one in cases}}
    personalities = {key[one.personality]: one.traits for one in cases}
    pairs = {(one.profile, key[one.personality]) for one in cases}
    digest = hashlib.sha256("\n".join(sorted({one.id for one in cases})).encode())
    return CaseCard(
        version=digest.hexdigest()[:16],
        cases=len(cases),
        profiles=len(profiles),
        personalities=len(personalities),
        crossed=len(pairs) == len(profiles) * len(personalities),
        traits=sum(map(len, personalities.values())),
        difficult=sum(trait.difficult for traits in personalities.values() for trait in traits),
        rule_based=sum(one.is_rule_based for one in cases),
    )


def _counted(things: Sequence[object], one: str) -> str:
    return f"{len(things):,} {one}{'' if len(things) == 1 else 's'}"
