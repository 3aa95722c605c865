from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.personas.vocabulary import SLOTS, slot
from interalign.roles.measure import mentions, style_of
from interalign.roles.phrases import user_phrases
from interalign.roles.rendering import article_free, capitalised, lowered, punctuated, to_casual

plain_sentences = st.lists(st.sampled_from(["One thing", "Is it so?", "Do this:", "And then"]), max_size=6)


def test_case() -> None:
    assert capitalised("it is") == "It is"
    assert lowered("It is") == "it is"
    assert lowered("I am") == "I am"
    assert lowered("I'm") == "I'm"
    assert lowered("Indeed") == "indeed"
    assert capitalised("") == lowered("") == ""


def test_articles() -> None:
    assert [article_free(term) for term in ("a cat", "an owl", "the sea", "antlers", "theatre")] == [
        "cat",
        "owl",
        "sea",
        "antlers",
        "theatre",
    ]


@given(plain_sentences, st.integers(0, 3), st.integers())
def test_marks(sentences: list[str], exclaim: int, seed: int) -> None:
    marked = punctuated(sentences, Random(seed), exclaim=exclaim)
    open_ended = [sentence for sentence in sentences if sentence[-1] not in ":?"]
    assert [text.rstrip(".!") for text in marked] == sentences
    assert all(text[-1] in ".!?:" for text in marked)
    assert sum(text.count("!") for text in marked) == min(exclaim, len(open_ended))


def test_casual() -> None:
    assert to_casual("I am sure it is late.", Random(0), slang=0) == "I'm sure it's late."
    assert to_casual("It is very late.", Random(0), slang=1) == "It's super late."
    assert to_casual("Such as it is.", Random(0), slang=1) == "Such as it is."
    assert to_casual("Nothing here.", Random(0), slang=1) == "Nothing here."


@pytest.mark.parametrize("formal", user_phrases().contractions)
def test_each_contraction_is_casual(formal: str) -> None:
    casual = to_casual(f"{capitalised(formal)} so", Random(0), slang=0)
    assert casual[0].isupper()
    assert style_of(f"{formal} so")["formality"] == "formal"
    assert "'" in casual


def test_casual_words_leave_facts_alone() -> None:
    for name in SLOTS:
        for split in ("train", "heldout"):
            for fact in slot(name).facts(split):
                assert mentions(to_casual(fact.term, Random(0), slang=1), fact)
