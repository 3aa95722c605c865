from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.messages import Message, as_dicts, well_formed


def test_a_chat_as_dictionaries() -> None:
    chat = (Message(role="user", content="Hello"), Message(role="assistant", content="Hi"))
    assert as_dicts(chat) == [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r'"caf\ud83d"', "caf\ufffd"),
        (r'"\ude00 end"', "\ufffd end"),
        (r'" a \ud83d\ude00 b "', " a \U0001f600 b "),
    ],
)
def test_halves_of_characters_are_replaced(written: str, read: str) -> None:
    assert well_formed(json.loads(written)) == read


def test_halves_that_belong_together_join() -> None:
    assert well_formed("\ud83d" + "\ude00") == "\U0001f600"


@given(st.text(st.characters()))
def test_what_comes_out_can_be_written_and_stays(text: str) -> None:
    once = well_formed(text)
    once.encode("utf-8")
    assert well_formed(once) == once


@given(st.text())
def test_whole_characters_stay(text: str) -> None:
    assert well_formed(text) == text
