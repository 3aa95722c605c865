"""Whose gender it is: pronouns and nouns vote, and other people's are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from interalign.personas.gender.person import own_nouns, own_titles
from interalign.personas.gender.reading import Tokens, read, word_at
from interalign.personas.gender.words import Case, Gender, nouns, people, pronouns

__all__ = ["gender_of", "pronouns_in", "told_gender"]


def gender_of(text: str) -> Gender | None:
    """The gender of the person whom `text` describes; None where nothing tells it.

    Pronouns that begin a sentence count first, then all pronouns, then nouns for the person ("a widower of eighty").
    "He" after "her husband" is somebody else and counts for nothing. A person's spouse or partner says nothing about
    the person, and neither does a first name.
    """
    return told_gender(read(text))


def told_gender(tokens: Tokens) -> Gender | None:
    """`gender_of` for a text that is read already."""
    votes = _votes(tokens)
    by_pronoun = _by_pronoun(votes)
    if by_pronoun in ("female", "male") or votes.subjects["neutral"]:
        return by_pronoun
    # "A woman who collects stamps and labels them."
    by_noun = Counter(gender for _, gender in chain(own_nouns(tokens), own_titles(tokens)))
    if by_noun:
        return by_noun.most_common(1)[0][0]
    return "neutral" if by_pronoun or votes.unsure else None


def pronouns_in(tokens: Tokens) -> Iterator[tuple[int, Gender, Case]]:
    """The places of pronouns that stand for somebody, each with gender and case."""
    for index in range(len(tokens)):
        if _counts(tokens, index):
            yield index, *pronouns()[tokens[index].word]


def _counts(tokens: Tokens, index: int) -> bool:
    """Whether a pronoun stands for somebody; in "he/she" and "his or her" it stands for anybody."""
    pronoun = pronouns().get(tokens[index].word)
    if pronoun is None or "/" in (word_at(tokens, index - 1, index), word_at(tokens, index + 1, index)):
        return False
    for step in (-1, 1):
        if word_at(tokens, index + step, index) == "or":
            partner = pronouns().get(word_at(tokens, index + 2 * step, index))
            if partner is not None and {partner.gender, pronoun.gender} == {"female", "male"}:
                return False
    return True


@dataclass
class _Votes:
    """Both counters have their genders in the order in which the text does."""

    subjects: Counter[Gender] = field(default_factory=Counter)
    """Pronouns that begin a sentence."""
    pronouns: Counter[Gender] = field(default_factory=Counter)
    unsure: bool = False
    """Whether forms of "they" have other people before them."""


def _votes(tokens: Tokens) -> _Votes:
    votes = _Votes()
    own = {index for index, _ in own_nouns(tokens)}
    others: set[Gender] = set()
    seen: set[Gender] = set()
    crowd = False
    for index, token in enumerate(tokens):
        if index and token.sentence != tokens[index - 1].sentence:
            seen, crowd = set(), False
        crowd = crowd or token.word in people().humans
        noun = nouns().get(token.word)
        # Somebody whom the described person has: "her husband", "she has a son". What follows of that gender is his.
        if noun and index not in own and seen - {noun.gender}:
            others.add(noun.gender)
        if not _counts(tokens, index):
            continue
        gender, case = pronouns()[token.word]
        begins = token.first and case == "subject"
        if begins and gender not in others:
            others.clear()
        if gender in others:
            continue
        seen.add(gender)
        if gender == "neutral" and crowd and not begins:
            votes.unsure = True
            continue
        votes.subjects[gender] += begins
        votes.pronouns[gender] += 1
    return votes


def _by_pronoun(votes: _Votes) -> Gender | None:
    """The gender with more pronouns at the beginning of sentences, then anywhere; the first one of equals."""
    subjects, all_of = votes.subjects, votes.pronouns
    singular = [gender for gender in all_of if gender != "neutral"]
    if not singular:
        return "neutral" if all_of else None
    more = max(singular, key=lambda gender: (subjects[gender], all_of[gender]))
    if subjects[more]:
        return max((gender for gender in all_of if gender in (more, "neutral")), key=subjects.__getitem__)
    return "neutral" if subjects["neutral"] and all_of["neutral"] >= all_of[more] else more
