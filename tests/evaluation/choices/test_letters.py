from __future__ import annotations

from string import ascii_uppercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.evaluation.choices.letters import read_letter


def letter(text: str, options: int = 4) -> str | None:
    place = read_letter(text, options)
    return None if place is None else ascii_uppercase[place]


@pytest.mark.parametrize(
    "text",
    [
        "B",
        "b",
        " (b) ",
        "B.",
        "B)",
        "**B**",
        "`B`",
        "Option B",
        "Answer B",
        "Answer: B",
        "answer: (b)",
        "Answer: <B>",
        'Answer: "B"',
        "Answer: **B**",
        "**Answer:** B",
        "**Answer: B**",
        "The answer is B.",
        "The answer is: **B**",
        "The best answer is (b) because you said so",
        "The correct choice is B",
        "Answer: B) Tea",
        "Answer: B, as you like tea",
        "Answer: B - tea and coffee",
        "My answer: B, since",
        "Final Answer: B",
        "Tea suits A people and C people.\n\nAnswer: B",
        "I think (a) is worse.\nanswer: b",
        "Answer: B\nAnswer: B",
        "B) Tea with lemon",
        "B. Because you said so",
        "B: tea",
        "(B) tea",
        "B\n\nBecause you like tea",
        "<choice>B</choice>",
        "<final_answer> (b)",
        "<final_answer>(b)</final_answer>",
        "\\boxed{B}",
    ],
)
def test_a_plain_letter_is_read(text: str) -> None:
    assert letter(text) == "B"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Both",
        "I would pick B",
        "Because you like it",
        "A bicycle",
        "AB",
        "A or B",
        "(a) or (b)",
        "B, but also C",
        "A) tea B) coffee",
        "A. tea\nB. coffee",
        "Answer:",
        "Answer: BC",
        "Answer: A/B",
        "Answer: B or C",
        "Answer: (B) and (C)",
        "Answer: B, C",
        "Answer: A and B",
        "Answer: A. Answer: B",
        "Answer: A\nNo, the answer is B",
        "The answer is a tea",
        "The answer is not B",
        "The answer isn't B",
        "The answer is unclear",
        "Answer: A bicycle",
        "Answer: I think B",
        "answer B is wrong, take C",
        "Answering this: no",
    ],
)
def test_what_is_not_plain_is_missing(text: str) -> None:
    assert letter(text) is None


def test_a_letter_beyond_the_options_is_no_choice() -> None:
    assert letter("E") is None
    assert letter("Answer: E") is None
    assert letter("Answer: E", options=5) == "E"


@given(st.integers(0, 25), st.integers(2, 26))
def test_every_letter_of_an_option_is_read_and_no_other(place: int, options: int) -> None:
    shown = ascii_uppercase[place]
    for text in (shown, f"({shown.lower()})", f"Answer: {shown}", f"<choice>{shown}</choice>"):
        assert read_letter(text, options) == (place if place < options else None)


@given(st.text(), st.integers(2, 26))
def test_no_text_is_too_odd_to_be_read(text: str, options: int) -> None:
    place = read_letter(text, options)
    assert place is None or 0 <= place < options


@pytest.mark.parametrize("odd", ["\u212a", "\u017f", "\u0131", "Answer: \u212a"])
def test_letters_of_other_alphabets_are_none(odd: str) -> None:
    assert letter(odd, options=3) is None


@pytest.mark.parametrize("unit", ["(", " ", "* ", "answer ", "answer: ", "A)", "'", "B, "])
def test_a_long_answer_of_one_mark_is_read_as_well(unit: str) -> None:
    # What takes quadratic time would not end here.
    assert letter(unit * 20_000) in (None, "A")
