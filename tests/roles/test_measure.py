from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.personas.persona import Fact
from interalign.personas.style import DIMENSIONS, Dimension
from interalign.personas.vocabulary import slot
from interalign.roles.measure import (
    LENGTH_BANDS,
    count_emoji,
    count_exclamations,
    count_questions,
    length_band,
    length_distance,
    mentions,
    ngram_overlap,
    repetition,
    style_of,
    topicality,
    words,
)

RAMEN = Fact(slot="dish", term="miso ramen", key="ramen")
sentences = st.lists(
    st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "and", "saw", "no", "dog"]), max_size=30
).map(" ".join)


def test_words() -> None:
    assert words("Don’t panic: it's 42 of snake_case, naïve café!") == (
        ["don’t", "panic", "it's", "of", "snake", "case", "naïve", "café"]
    )
    assert words("") == words("42 🙂 ...") == []


def test_counts() -> None:
    assert count_emoji("👨‍👩‍👧 and 🙂🙂") == 3
    assert count_emoji("no smile :-)") == 0
    assert count_exclamations("Oh! No!!") == 3
    assert count_questions("What??? Why?") == 2


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("Do not do it.", "formality", "formal"),
        ("Don't do it.", "formality", "casual"),
        ("Don’t do it.", "formality", "casual"),
        ("That is Anna's book.", "formality", "formal"),
        ("Okay then.", "formality", "casual"),
        ("You might try.", "directness", "gentle"),
        ("The mighty try.", "directness", "direct"),
        ("I am glad. Do it.", "warmth", "warm"),
        ("Do it. I am glad.", "warmth", "plain"),
        ("Do it\nI am glad", "warmth", "plain"),
        ("- one\n- two", "layout", "list"),
        ("1. one\n2) two", "layout", "list"),
        ("- one", "layout", "prose"),
        ("one - two - three", "layout", "prose"),
        ("So!", "exclamation", "some"),
        ("So?", "question", "some"),
        ("So 🙂", "emoji", "some"),
    ],
)
def test_style_by_example(text: str, dimension: Dimension, value: str) -> None:
    assert style_of(text)[dimension] == value


@given(st.text())
def test_every_text_has_a_style(text: str) -> None:
    assert all(value in DIMENSIONS[dimension] for dimension, value in style_of(text).items())
    assert set(style_of(text)) == set(DIMENSIONS)


@given(st.integers(0, 400), st.sampled_from(list(LENGTH_BANDS)))
def test_length_bands_and_distances_agree(count: int, band: str) -> None:
    least, most = LENGTH_BANDS[band]
    distance = length_distance(count, band)
    assert distance >= 0
    assert (distance == 0) == (least <= count <= most)
    if 1 <= count <= 120:
        assert (distance == 0) == (length_band(count) == band)


def test_length_bands_leave_no_gap() -> None:
    bands = list(LENGTH_BANDS.values())
    assert [least for least, _ in bands[1:]] == [most + 1 for _, most in bands[:-1]]
    assert length_band(10_000) == "long"


@pytest.mark.parametrize("text", ["Ramen!", "two ramens", "the ramen's broth", "(ramen)", "RAMEN"])
def test_mentions(text: str) -> None:
    assert mentions(text, RAMEN)


@pytest.mark.parametrize("text", ["", "ramenish", "program en route", "miso"])
def test_mentions_nothing_else(text: str) -> None:
    assert not mentions(text, RAMEN)


def test_a_key_is_text_and_not_a_pattern() -> None:
    assert not mentions("abc", Fact(slot="dish", term="a.c", key="a.c"))


def test_topicality() -> None:
    dish = slot("dish")
    assert topicality("Nothing of the kind.", dish) == 0
    assert topicality("Taste it.", dish) == 0.5
    assert topicality("Taste the sauce.", dish) == 1
    assert topicality("Taste the sauce of every kitchen and market.", dish) == 1
    assert topicality("Taste, tasting, tastes.", dish) == 0.5
    assert topicality("Try ramen.", dish) == 0
    assert topicality("Try ramen.", dish, [RAMEN]) == 0.5


def test_overlap() -> None:
    assert ngram_overlap("the cat sat on a mat", ["I saw: The cat sat ON a mat"]) == 1
    assert ngram_overlap("the cat sat on a mat", ["a mat on the cat"]) == 0
    assert ngram_overlap("the cat", ["the cat"]) == 0
    assert ngram_overlap("the cat sat on a mat", ["the cat sat on"]) == pytest.approx(1 / 3)


@given(sentences, st.lists(sentences, max_size=3))
def test_overlap_is_a_share_and_grows_with_sources(text: str, sources: list[str]) -> None:
    overlap = ngram_overlap(text, sources)
    assert 0 <= overlap <= ngram_overlap(text, [*sources, text]) <= 1


@given(sentences)
def test_repetition_is_a_share_and_grows_with_copies(text: str) -> None:
    assert 0 <= repetition(text) <= 1
    if len(words(text)) >= 3:
        assert repetition(f"{text} {text}") > 0


def test_repetition() -> None:
    assert repetition("") == repetition("a b") == repetition("a b c d") == 0
    assert repetition("a a a a a") == pytest.approx(2 / 3)
