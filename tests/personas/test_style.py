from __future__ import annotations

from typing import get_args

from interalign.personas.style import DIMENSIONS, SHOWN_IN_WRITING, Dimension
from interalign.roles.measure import style_of


def test_dimensions_are_those_of_the_type() -> None:
    assert tuple(DIMENSIONS) == get_args(Dimension)
    assert all(len(set(values)) == len(values) >= 2 for values in DIMENSIONS.values())


def test_only_questions_and_lists_do_not_show_in_writing() -> None:
    assert set(DIMENSIONS) - set(SHOWN_IN_WRITING) == {"question", "layout"}
    assert len(set(SHOWN_IN_WRITING)) == len(SHOWN_IN_WRITING)


def test_every_value_can_be_read_off_a_text() -> None:
    texts = (
        "One should do it.",
        "I'm glad you asked! Maybe try it 🙂?",
        "- one\n- two",
        "word " * 30,
        "word " * 50,
    )
    seen = {(dimension, value) for text in texts for dimension, value in style_of(text).items()}
    assert seen == {(dimension, value) for dimension, values in DIMENSIONS.items() for value in values}
