from __future__ import annotations

import pytest
from hypothesis import given

from interalign.personas.gender import ungendered
from tests.personas.gender.drafts import SCRAPS
from tests.personas.gender.real_texts import SEEDS, released


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("They love tea.", "she loves tea"),
        ("She's kind.", "They are kind."),
        ("He’s been ill.", "They have been ill."),
        ("She doesn't mind.", "They do not mind."),
        ("He can't wait and won't try.", "They cannot wait and will not try."),
        ("She tries and goes.", "They try and go."),
        ("An aunt of mine.", "An uncle of mine."),
        ("Her book is hers.", "His book is his."),
        ("A waitress and her wife.", "A waiter and his husband."),
        ("Women like her.", "Men like him."),
        ("Mrs Li is a widow.", "Mr Li is a widower."),
        ("A self-taught nurse.", "a SELF taught nurse!"),
    ],
)
def test_one_key_for_two_genders(one: str, other: str) -> None:
    assert ungendered(one) == ungendered(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("She likes tea.", "She likes coffee."),
        ("He is quick to laugh.", "He is slow to laugh."),
        ("She never argues.", "She argues."),
        ("He has a dog.", "He had a dog."),
        ("She minds.", "She does not mind."),
        ("She is 34.", "She is 43."),
    ],
)
def test_other_words_keep_their_difference(one: str, other: str) -> None:
    assert ungendered(one) != ungendered(other)


def test_seeds_and_their_paraphrases_have_keys_of_their_own() -> None:
    assert len({ungendered(text) for text in SEEDS}) == len(SEEDS) == 80


@given(SCRAPS)
def test_a_key_is_lower_case_words(text: str) -> None:
    key = ungendered(text)
    assert key == " ".join(key.split()) and key == key.casefold()
    assert ungendered(text.upper()) == ungendered(text.lower()) == key


@pytest.mark.parametrize("name", ["personality.jsonl", "profile.jsonl"])
def test_released_texts_are_not_the_same_but_for_gender(name: str) -> None:
    texts = released(name)
    assert len({ungendered(text) for text in texts}) == len(set(texts))
