from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.personas.gender.verbs import Change, base, third
from interalign.personas.gender.words import verbs


@pytest.mark.parametrize(
    ("verb", "one"),
    [
        ("love", "loves"),
        ("try", "tries"),
        ("play", "plays"),
        ("go", "goes"),
        ("woo", "woos"),
        ("watch", "watches"),
        ("miss", "misses"),
        ("fix", "fixes"),
        ("buzz", "buzzes"),
        ("tie", "ties"),
        ("ache", "aches"),
        ("quiz", "quizzes"),
        ("have", "has"),
        ("be", "is"),
    ],
)
def test_the_third_person_and_back(verb: str, one: str) -> None:
    assert third(verb) == one
    assert base(one) == verb


@given(st.sampled_from(sorted(verbs().known)))
def test_every_known_verb_comes_back_from_its_third_person(verb: str) -> None:
    assert base(third(verb)) == verb
    assert Change(plural=True).of(third(verb)) == verb
    assert Change(plural=False).of(verb) == third(verb)


@pytest.mark.parametrize("word", ["", "'s", "people", "went", "walked", "singing", "can", "café", "them"])
def test_other_words_do_not_change(word: str) -> None:
    assert Change(plural=True).of(word) is None
    assert Change(plural=False).of(word) is None
