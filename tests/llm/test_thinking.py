from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.llm.thinking import as_thinking, without_thinking


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<think>a</think> b", "b"),
        ("<think>a</think> b <thinking>c</thinking>", "b"),
        ("a</think>b", "b"),
        ("<THINK>\na\n</THINK>\n\nb", "b"),
        ("b <think>a", "b"),
        ("<think>a", ""),
        ("I think so.", "I think so."),
        ("  b\n", "b"),
    ],
)
def test_thinking_is_cut_off(text: str, left: str) -> None:
    assert without_thinking(text) == left


@given(st.text(alphabet="ab <>/"), st.text(alphabet="xyz ", min_size=1))
def test_what_stands_in_the_tags_is_never_left(thought: str, reply: str) -> None:
    assert without_thinking(f"<think>{thought}</think>{reply}") == reply.strip()


@given(st.text(), st.text(alphabet="xyz "))
def test_what_is_thought_before_a_reply_is_not_said(thought: str, reply: str) -> None:
    assert without_thinking(as_thinking(thought) + reply) == reply.strip()
