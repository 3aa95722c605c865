from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from interalign.llm.model import Answer, Chance, Usage
from interalign.roles.llm.ratings import Reading, read_rating, weighted_score

PLAIN = ["4", "4.", "4!", " 4\n", "(4)", "'4'", "“4”", "**4**", "`4`", "# 4", "[[4]]", "4.0", "a 4", "four", "Four."]
SCALED = ["4/5", "4 / 5", "4.0/5", "4 out of 5", "4 (out of 5)", "4 of 5", "4 stars", "4 out of five"]
LABELLED = [
    "Score: 4",
    "Score: 4/5",
    "Score=4",
    "score 4",
    "Score - 4",
    "Rating - 4",
    "Rating \N{EM DASH} 4",
    "**Rating:** 4",
    "[RESULT] 4",
    "Overall: 4",
    "Final score: 4",
    "My rating for this reply is 4.",
    "The rating is four out of five.",
    "Score (1-5): 4",
    "Score: 4 on a scale of 1 to 5",
]
LED = [
    "I'd say 4",
    "I’d say 4",
    "I would give this reply a 4.",
    "I'd give it a score of 4",
    "I rate it 4 stars",
    "It's a 4",
    "This deserves a 4.",
    "The reply gets a 4 out of 5.",
    "On a scale from 1 to 5, I'd say 4.",
]
REASONED = [
    "4 because the tone fits",
    "I'd say 4 because it is short and takes up the cats.",
    "4, since she would like it",
    "4 - fits well",
    "4 (fits well)",
    "4\n\nIt answers the message.",
    "four because it fits",
    "Score: 4. The reply is warm.",
    "4/5: warm and short",
    "4/5 - warm, this one",
    "Score: 4\nThe reply is warm.",
]
AFTER_PROSE = [
    "Warm and short.\nScore: 4",
    "There are 3 faults in it, and 12 words too many.\n\n[RESULT] 4",
    "Style: 2\nContent: 3\nScore: 4",
    "It fits, I think.\nI'd give it a 4.",
    "Score: 4. It fits 2 of 3 traits.\nScore: 4",
    "Rating: 4/5. Her 3 cats are named.\nScore: 4",
]
LAST_SENTENCE = [
    "The reply is fine. Rating: 4",
    "It suits her well. Score: 4.",
    "Warm tone but misses the topic, so I give this a 4.",
    "It does not take up her day, so I give it 4.",
    "It misses her topic so I give this a four.",
    "It suits her well. 4/5",
    "Warm and short but rather dull, 4 out of 5.",
    "In short, I give this a 4.",
    "She has 2 cats. Rating: 4",
    "Score: 4. On reflection it is dull. Rating: 4.",
]
JSON = [
    '{"score": 4}',
    '{"score": 4.0, "style": 3, "content": 2, "honest": true}',
    '{"rating": 4, "why": "the 2 cats"}',
    '{"score": "4"}',
    '{"score": "4/5"}',
    '```json\n{"score": 4}\n```',
    'Here is my answer: {"score": 4}. Good day.',
]


@pytest.mark.parametrize("text", PLAIN + SCALED + LABELLED + LED + REASONED + AFTER_PROSE + LAST_SENTENCE + JSON)
def test_a_score_that_is_said_plainly_is_read(text: str) -> None:
    reading = read_rating(text)
    assert (reading.score, reading.reason) == (4, "")
    if reading.at is None:
        assert "four" in text.lower() and "4" not in text
    else:
        assert text[reading.at] == "4"


@pytest.mark.parametrize("score", [1, 2, 3, 4, 5])
def test_each_of_the_five_is_read_in_digits_and_in_words(score: int) -> None:
    word = ["one", "two", "three", "four", "five"][score - 1]
    for text in (f"{score}", f"Score: {score}/5", word, word.title(), f"I'd say {word}", f'{{"score": {score}}}'):
        assert read_rating(text).score == score


MISSING = {
    "it is empty": ["", " \n\t"],
    "it names no score": [
        "I cannot rate this.",
        "As an assistant I do not judge people.",
        "Good!",
        "One could say so.",
        "One, the tone is off.",
        "This one fits.",
        "Score:",
        "\N{CIRCLED DIGIT FOUR}",
    ],
    "it names more than one number": [
        "4 or 5",
        "4-5",
        "4 - 5",
        "4, 5",
        "4:5",
        "4 5",
        "between 3 and 4",
        "Score: 4 or 5",
        "Score: 4-5",
        "4 (or 5)",
        "1. good 2. bad",
        "1) warm\n2) short",
        "Style: 4\nContent: 3",
        "Score: 4\nScore: 3",
        "Score: 9\nRating: 4",
        "The score is 4.5.\nRating: 4",
        "The reply says 'score: 5'.\nScore: 4",
        "Score: 4 to 5",
    ],
    "its score is on another scale than 1 to 5": [
        "Score: 7/10\nRating: 4",
        "7/10",
        "4/10",
        "4 out of 10",
        "Score: 4/10",
        "80/100",
        "4/5/6",
    ],
    "is no whole number from 1 to 5": ["0", "6", "44", "4.5", "3,5", "Score: 4.25", "100", "-7", "9" * 500],
    "it does not say plainly which score it gives": [
        "not 4 but",
        "It is not 4",
        "I don't think I'd say 4",
        "at least 4",
        "4 at most",
        "4 is too high",
        "4 as a maximum",
        "4 or so",
        "4? Hm.",
        "4 to",
        "-4",
        "Rating: -4",
        "Rating -4",
        "4%",
        "4+",
        "4th",
        "4½",
        "1. good",
        "4) good",
        "4: good",
        "turn 4",
        "Style: 4",
        "4, maybe a five",
        "I'd say 4, or rather three",
        "4 because it is better than a three",
        "Four, five",
        "five-ish",
    ],
    "its JSON cannot be read": [
        '{"score": 4',
        '{"score": 4, "style"',
        "{score: 4}",
        "{4}",
        '{"a":' * 10_000,
        "\\boxed{4}",
    ],
    "its JSON has no score": ["{}", '{"verdict": {"score": 4}}', '{"Score": 4}', '{"style": 4}'],
    "its JSON has more than one score": ['{"score": 4, "score": 4}', '{"score": 4, "rating": 5}'],
    "the score in its JSON is no whole number from 1 to 5": [
        '{"score": 0}',
        '{"score": 6}',
        '{"score": 4.5}',
        '{"score": true}',
        '{"score": null}',
        '{"score": [4]}',
        '{"score": {}}',
        '{"score": NaN}',
        '{"score": 1e999}',
    ],
    "it says more than one JSON object with a score": [
        '{"score": 4} {"score": 5}',
        '{"score": 4} or 5',
        'Maybe a three: {"score": 4}',
        '{"score": 4} {',
    ],
}


@pytest.mark.parametrize(("reason", "text"), [(reason, text) for reason, texts in MISSING.items() for text in texts])
def test_anything_else_is_missing_with_the_reason(reason: str, text: str) -> None:
    reading = read_rating(text)
    assert reading.score is None and reading.at is None
    assert reason in reading.reason


@pytest.mark.parametrize(
    "text",
    [
        "3 reasons why",
        "It is good. 3 reasons why.",
        "between 3 and 4",
        "It fits. I'd say between 3 and 4.",
        "It fits. I give this a 3 or 4.",
        "It fits. I give this a 3?",
        "It fits. Score: 7/10",
        "It fits. Score: 3-4",
        "not a 5",
        "It is fine, but not a 5.",
        "It is fine. I would not give this a 3.",
        "Score: 3. No, 4.",
        "Score: 3. No, score: 4.",
        "I give this a 4. Rating: 3",
        "I'd say 4.\nScore: 3",
        "This is a 4/5. Score: 3",
        "If it were shorter, I would give this a 4.",
        "The reply says I give this a 5.",
        'The reply ends with "go on". It is "Score: 5."',
        "It names 2 cats, so I give it a 3.",
        "It is warm. Tone, 4/5.",
        "It is warm. Style score: 4",
        "It is warm. For style and tone, I give it a 4.",
        "We meet at noon, so it is 3.",
        "It fits. At first, I'd say 4.",
        "It is fine. 3",
    ],
)
def test_prose_whose_score_is_not_plain_is_missing(text: str) -> None:
    assert read_rating(text).score is None


@pytest.mark.parametrize("text", ["7", "4 or 5", "-4", "not 4 but"])
def test_a_text_in_json_is_read_by_the_same_grammar(text: str) -> None:
    assert read_rating(json.dumps({"score": text})) == read_rating(text)


def pieces() -> st.SearchStrategy[str]:
    words = "4 5 1-5 four one score Rating : - /5 because . { } not or * ( ) ½"
    phrases = ("I'd say", "out of 5", '{"score": 4}', '"score": ', " ", "\n", "\u2028", "\N{CIRCLED DIGIT FOUR}")
    told = st.sampled_from([*words.split(), *phrases])
    return st.lists(told | st.text(max_size=3), max_size=8).map("".join)


@given(st.text() | pieces())
@example("[" * 100_000)
@example("{" * 100_000)
@example(" " * 100_000 + "4x")
@example("the " * 30_000 + "score")
@example("(" * 30_000 + "4")
@example("so, " * 30_000 + "4")
@example('{"score": ' + "9" * 5_000 + "}")
def test_any_text_is_one_of_five_scores_or_a_reason(text: str) -> None:
    reading = read_rating(text)
    assert (reading.score in {1, 2, 3, 4, 5}) != bool(reading.reason)
    if reading.at is not None:
        assert text[reading.at] == str(reading.score)


@given(st.integers(1, 5), st.integers(0, 99))
def test_no_second_number_is_passed_over(score: int, other: int) -> None:
    for text in (f"{score} or {other}", f"{score}, {other}", f"{score} because {other}", f"{other} {score}"):
        assert read_rating(text).score is None


def test_a_reading_is_a_score_or_a_reason() -> None:
    for wrong in ({}, {"score": 4, "reason": "because"}, {"score": 0}, {"score": 6}):
        with pytest.raises(ValidationError):
            Reading.model_validate(wrong)


def answer(text: str, *places: dict[str, float]) -> Answer:
    """An answer with the probabilities of tokens at each place, the one that was written first."""
    top = tuple(tuple(Chance(token, math.log(share)) for token, share in place.items()) for place in places)
    return Answer(text=text, finish="stop", usage=Usage(), model="m", top=top)


BEFORE = {'{"score": ': 1.0}
AFTER = {"}": 1.0}


def weighted(place: dict[str, float], text: str = '{"score": 4}') -> float | None:
    return weighted_score(answer(text, BEFORE, place, AFTER), text.index("4"))


def test_scores_are_weighted_by_how_likely_they_are() -> None:
    assert weighted({"4": 0.6, "5": 0.3, "3": 0.1}) == pytest.approx(0.6 * 4 + 0.3 * 5 + 0.1 * 3)


def test_what_is_no_score_is_left_out_of_the_mean() -> None:
    place = {"4": 0.3, "5": 0.1, "null": 0.3, '"': 0.1, "6": 0.05, "45": 0.05, "4.5": 0.05, "": 0.05}
    assert weighted(place) == pytest.approx((0.3 * 4 + 0.1 * 5) / 0.4)


def test_a_digit_counts_with_what_stands_around_it_in_its_token() -> None:
    assert weighted({"4": 0.5, " 4": 0.2, "5}": 0.3}) == pytest.approx(4.3)
    text = '{"score": 4}'
    spaced = answer(text, {'{"score":': 1.0}, {" 4": 0.5, " 2": 0.25, "2": 0.25}, AFTER)
    assert weighted_score(spaced, text.index("4")) == 3
    glued = answer(text, {'{"score': 1.0}, {'": 4': 0.5, '": 2': 0.5, "4": 0.9}, AFTER)
    assert weighted_score(glued, text.index("4")) == 3


def test_the_token_is_found_by_its_place_and_not_by_its_look() -> None:
    text = '{"style": 4, "score": 4}'
    places = ({'{"style": ': 1.0}, {"4": 0.5, "1": 0.5}, {', "score": ': 1.0}, {"4": 0.75, "5": 0.25}, AFTER)
    assert weighted_score(answer(text, *places), text.rindex("4")) == 4.25


def test_an_end_mark_behind_the_text_is_no_harm() -> None:
    text = '{"score": 4}'
    said = answer(text, BEFORE, {"4": 0.5, "5": 0.5}, AFTER, {"<|end|>": 1.0})
    assert weighted_score(said, text.index("4")) == 4.5


def test_chances_of_another_text_and_none_tell_nothing() -> None:
    text = '{"score": 4}'
    for said in (answer(text), answer(text, {"4": 1.0}), answer("4", {"4": 1.0}, {"4": 1.0})):
        assert weighted_score(said, said.text.index("4")) is None
    assert weighted_score(answer("4", {"four": 1.0}), 0) is None
    unlikely = Answer(text="4", finish="stop", usage=Usage(), model="m", top=((Chance("4", -9999),),))
    assert weighted_score(unlikely, 0) is None


@given(st.dictionaries(st.sampled_from("12345"), st.floats(1e-9, 1), min_size=1))
def test_the_mean_lies_between_the_scores_that_are_likely(shares: dict[str, float]) -> None:
    score = weighted_score(answer(next(iter(shares)), shares), 0)
    assert score is not None
    assert min(map(int, shares)) <= score <= max(map(int, shares))
