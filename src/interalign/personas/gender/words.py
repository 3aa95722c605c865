"""The words that the rules know: the TOML files beside this module, read once and only when first asked for.

Everything is in lower case. A list of words is one string in its file, split at white space.
"""

from __future__ import annotations

import tomllib
from functools import cache, cached_property
from importlib.resources import files
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, get_args

from pydantic import BeforeValidator

from interalign.messages import Value

__all__ = [
    "GENDERS",
    "Case",
    "Gender",
    "Noun",
    "Pronoun",
    "grammar",
    "is_adverb",
    "nouns",
    "people",
    "pronouns",
    "titles",
    "verbs",
    "words_around_her",
]

Gender: TypeAlias = Literal["female", "male", "neutral"]
Case: TypeAlias = Literal["subject", "object", "dependent", "independent", "reflexive"]
Words: TypeAlias = Annotated[frozenset[str], BeforeValidator(str.split)]

GENDERS: tuple[Gender, ...] = get_args(Gender)


class People(Value):
    """`people.toml`: who a text may speak of."""

    humans: Words
    possessives: Words
    subjects: Words
    nouns: tuple[tuple[str, str, str], ...]
    forms: dict[Gender, dict[Case, str]]
    titles: dict[Gender, tuple[str, ...]]
    plurals: dict[str, str]


class Grammar(Value):
    """`grammar.toml`: what holds sentences together."""

    function: Words
    adverbs: Words
    no_adverbs: Words
    phrases: frozenset[str]
    be: Words
    ends_complement: Words
    inverts: Words
    joints: Words
    clauses: Words
    helps: Words
    abbreviations: Words
    short_is: Words


class Verbs(Value):
    """`verbs.toml`: verbs, and what tells them from nouns."""

    modals: Words
    finite: Words
    after_has: Words
    sure_objects: Words
    takes_nouns: Words
    no_plurals: Words
    adjectives: Words
    not_verbs: Words
    past: Words
    base_endings: Words
    often_nouns: Words
    plain: Words
    auxiliary: dict[str, str]
    thirds: dict[str, str]

    @cached_property
    def known(self) -> frozenset[str]:
        """The bases of all verbs."""
        return self.plain | self.often_nouns


class WordsAroundHer(Value):
    """`her.toml`: what decides whether "her" is what she has or she herself."""

    causes: Words
    perceives: Words
    thinks: Words
    done: Words
    gives: Words
    given: Words
    moves: Words
    places: Words
    ends: Words


class Pronoun(NamedTuple):
    """Whose form it is, and which. For "her" and "his", whose form depends on what follows, one of the two."""

    gender: Gender
    case: Case


class Noun(NamedTuple):
    """Whose gender a noun tells, and what the same person is called in each."""

    gender: Gender
    partners: dict[Gender, str]


@cache
def people() -> People:
    """The words for people."""
    return People.model_validate(_load("people.toml"))


@cache
def grammar() -> Grammar:
    """The words that hold sentences together."""
    return Grammar.model_validate(_load("grammar.toml"))


@cache
def verbs() -> Verbs:
    """The verbs."""
    return Verbs.model_validate(_load("verbs.toml"))


@cache
def words_around_her() -> WordsAroundHer:
    """The words that stand before and after "her"."""
    return WordsAroundHer.model_validate(_load("her.toml"))


@cache
def pronouns() -> dict[str, Pronoun]:
    """Every form of "she", "he" and "they"."""
    forms = people().forms.items()
    table = {form: Pronoun(gender, case) for gender, cases in forms for case, form in cases.items()}
    return {"themself": Pronoun("neutral", "reflexive"), **table}


@cache
def nouns() -> dict[str, Noun]:
    """Every noun that tells a gender."""
    table: dict[str, Noun] = {}
    for female, male, neutral in people().nouns:
        partners: dict[Gender, str] = {"female": female, "male": male, "neutral": neutral}
        table[female] = Noun("female", partners)
        if male != neutral:
            table[male] = Noun("male", partners)
    return table


@cache
def titles() -> dict[str, Gender]:
    """Every title that tells a gender."""
    return {t.lower(): gender for gender, known in people().titles.items() if gender != "neutral" for t in known}


def is_adverb(word: str) -> bool:
    """Whether `word` may be passed over between a subject and its verb."""
    known = grammar()
    return word in known.adverbs or (word.endswith("ly") and word not in known.no_adverbs)


def _load(name: str) -> dict[str, Any]:
    return tomllib.loads((files(__package__) / name).read_text(encoding="utf-8"))
