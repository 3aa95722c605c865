from __future__ import annotations

import pytest

from interalign.messages import Value
from interalign.personas.gender.words import (
    GENDERS,
    grammar,
    is_adverb,
    nouns,
    people,
    pronouns,
    titles,
    verbs,
    words_around_her,
)


@pytest.mark.parametrize("loaded", [people(), grammar(), verbs(), words_around_her()])
def test_every_list_has_words_in_lower_case(loaded: Value) -> None:
    for name, words in loaded:
        assert words
        if isinstance(words, frozenset):
            assert all(word == word.lower() for word in words), name


def test_every_pronoun_tells_gender_and_case() -> None:
    assert {pronoun.gender for pronoun in pronouns().values()} == set(GENDERS)
    assert pronouns()["they"] == ("neutral", "subject")
    assert pronouns()["themself"] == pronouns()["themselves"] == ("neutral", "reflexive")


def test_a_noun_has_partners_and_a_neutral_form_tells_nothing() -> None:
    assert nouns()["waiter"].partners == {"female": "waitress", "male": "waiter", "neutral": "server"}
    assert nouns()["actress"].gender == "female"
    assert "actor" not in nouns()
    assert titles() == {"mr": "male", "mrs": "female", "ms": "female"}


def test_lists_that_exclude_each_other_share_no_word() -> None:
    assert verbs().plain.isdisjoint(verbs().often_nouns)
    assert grammar().adverbs.isdisjoint(grammar().no_adverbs - {"only"})


@pytest.mark.parametrize(("word", "adverb"), [("often", True), ("quietly", True), ("only", True), ("rely", False)])
def test_is_adverb(word: str, adverb: bool) -> None:
    assert is_adverb(word) == adverb
