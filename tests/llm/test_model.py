from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from interalign.llm.model import Answer, Chance, Request, Sampling, Usage, call_key
from interalign.messages import Message

HELLO = Message(role="user", content="Hello")
REQUEST = Request(messages=(HELLO,))
# A change of this number would make every paid answer of before unreachable.
OLD_KEY = "12825e540dac3b8a3f283d074ee8cf52d04ba9794fea0a821ca839417a79a943"


def samplings() -> st.SearchStrategy[Sampling]:
    return st.builds(
        Sampling,
        max_tokens=st.integers(1, 4096),
        temperature=st.floats(0, 2),
        top_p=st.floats(0.01, 1),
        stop=st.lists(st.text(min_size=1), max_size=2).map(tuple),
    )


def requests() -> st.SearchStrategy[Request]:
    messages = st.builds(Message, role=st.sampled_from(["system", "user", "assistant"]), content=st.text())
    return st.builds(
        Request,
        messages=st.lists(messages, min_size=1, max_size=3).map(tuple),
        sampling=samplings(),
        sample=st.integers(0, 5),
        seed=st.integers(0, 2**63 - 1),
    )


@settings(deadline=None)
@given(st.text(), requests(), st.text(), requests())
def test_two_calls_have_one_key_only_when_they_are_the_same(a: str, left: Request, b: str, right: Request) -> None:
    assert (call_key(a, left) == call_key(b, right)) == ((a, left) == (b, right))
    assert call_key(a, left) == call_key(a, Request.model_validate_json(left.model_dump_json()))


@pytest.mark.parametrize(
    "change",
    [
        {"messages": (Message(role="system", content="Hello"),)},
        {"messages": (Message(role="user", content="Hello "),)},
        {"messages": (HELLO, HELLO)},
        {"sampling": Sampling(max_tokens=255)},
        {"sampling": Sampling(temperature=0)},
        {"sampling": Sampling(top_p=0.9)},
        {"sampling": Sampling(stop=("\n",))},
        {"sample": 1},
        {"seed": 1},
        {"response_schema": {}},
        {"top_logprobs": 1},
    ],
)
def test_the_key_changes_with_each_field(change: dict[str, Any]) -> None:
    assert call_key("m", REQUEST.model_copy(update=change)) != call_key("m", REQUEST)


def test_the_key_changes_with_the_model_and_is_fixed_for_ever() -> None:
    assert call_key("n", REQUEST) != call_key("m", REQUEST)
    assert call_key("m", REQUEST) == OLD_KEY


@pytest.mark.parametrize(
    "broken",
    [
        {"messages": []},
        {"sampling": {"max_tokens": 0}},
        {"sampling": {"temperature": -1}},
        {"sampling": {"temperature": float("nan")}},
        {"sampling": {"top_p": 0}},
        {"sampling": {"stop": [""]}},
        {"sample": -1},
        {"seed": 2**63},
        {"top_logprobs": -1},
        {"top_logprobs": 21},
    ],
)
def test_a_request_that_no_model_can_answer_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Request.model_validate({"messages": [{"role": "user", "content": "Hello"}], **broken})


def test_wishes_that_are_not_made_are_no_part_of_the_key() -> None:
    assert call_key("m", REQUEST.model_copy(update={"top_logprobs": 0, "response_schema": None})) == OLD_KEY
    wished = [REQUEST.model_copy(update={"top_logprobs": count}) for count in (1, 5)]
    assert len({OLD_KEY, *(call_key("m", one) for one in wished)}) == 3


def test_an_answer_keeps_its_chances() -> None:
    chances = ((Chance("4", -0.1), Chance("5", -2.5)), (Chance(".", 0.0),))
    said = Answer(text="4.", finish="stop", usage=Usage(), model="m", top=chances)
    again = Answer.model_validate_json(said.model_dump_json())
    assert again == said and isinstance(again.top[0][1], Chance)
    assert '"top":[[["4",-0.1],["5",-2.5]],[[".",0.0]]]' in said.model_dump_json()


@pytest.mark.parametrize("top", [[[]], [[["4", 0.1]]], [[["4", float("-inf")]]], [[["4"]]], "4"])
def test_what_is_no_chance_is_refused(top: object) -> None:
    with pytest.raises(ValidationError):
        Answer.model_validate({"text": "4", "finish": "stop", "usage": {}, "model": "m", "top": top})
