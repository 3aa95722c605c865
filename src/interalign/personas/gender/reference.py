"""Which pronouns mean the described person, and not the people or things just named."""

from __future__ import annotations

from collections.abc import Iterator

from interalign.personas.gender.reading import Tokens, before, word_at
from interalign.personas.gender.tell import pronouns_in
from interalign.personas.gender.verbs import base
from interalign.personas.gender.words import Case, Gender, grammar, people

__all__ = ["own_pronouns"]


def own_pronouns(tokens: Tokens, own: Gender) -> Iterator[int]:
    """The places of the pronouns of a described person who has the gender `own`."""
    for index, gender, case in pronouns_in(tokens):
        if gender == own and (own != "neutral" or _own_they(tokens, index, case)):
            yield index


def _own_they(tokens: Tokens, index: int, case: Case) -> bool:
    if tokens[index].first:
        return True
    subject, crowd = _antecedents(tokens, index)
    last = word_at(tokens, index - 1, index)
    if subject is None:
        # "People tell them their secrets."
        return not (case == "dependent" and crowd is not None and last == "them")
    if case == "object":
        return _may_be_object(tokens, subject, index)
    if crowd is None or any(_parts(tokens, place) for place in range(crowd, index)):
        return True
    if case == "subject":
        return last in (",", "and", "but", "so", "yet", "or")
    # "They show others their photos", "they tell people about their day", "they make friends laugh with their puns".
    between = {tokens[place].word for place in range(crowd + 1, index)}
    near = between <= grammar().function or last == "with" or word_at(tokens, index + 1, index) == "own"
    return near and base(word_at(tokens, crowd - 1, index)) not in grammar().helps


def _antecedents(tokens: Tokens, index: int) -> tuple[int | None, int | None]:
    """The last "they" before `index` in its sentence, and the last word for other people after that."""
    crowd = None
    for back in before(tokens, index):
        if tokens[back].word == "they":
            return back, crowd
        if crowd is None and tokens[back].word in people().humans:
            crowd = back
    return None, crowd


def _parts(tokens: Tokens, place: int) -> bool:
    """Whether a sentence makes a new start here."""
    new = tokens[place].word == "," and word_at(tokens, place + 1, place) in ("and", "but", "so", "yet")
    return new or tokens[place].word in (";", ":", "—", "–")


def _may_be_object(tokens: Tokens, subject: int, index: int) -> bool:
    """Whether "them" can be the "they" before it: as object of its own verb the person would be "themselves"."""
    last = word_at(tokens, index - 1, index)
    if last in ("around", "behind", "beside", "near", "beneath", "before", "after"):
        return True
    for place in range(subject + 1, index):
        word, after = tokens[place].word, word_at(tokens, place + 1, index)
        if word in people().subjects and after not in ("and", "or"):
            return True
        if word in grammar().clauses and not after.endswith("ing") and after not in ("and", "but", "or"):
            return True
        if word in people().humans and index - place > 1 and after not in (",", "and", "but", "or"):
            return True
    # "They take a notebook with them."
    carried = {tokens[place].word for place in range(subject + 1, index - 2)}
    return last == "with" and not carried.isdisjoint(("carry", "bring", "take", "keep", "have"))
