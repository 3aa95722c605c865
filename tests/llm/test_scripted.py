from __future__ import annotations

import asyncio

import pytest

from interalign.errors import InputError
from interalign.llm.model import Answer, Chance, ChatModel, Request, Usage
from interalign.llm.scripted import ScriptedModel
from interalign.messages import Message

REPLIES = ["one", "two", "three"]


def ask(text: str, sample: int = 0) -> Request:
    messages = (Message(role="system", content="Be kind."), Message(role="user", content=text))
    return Request(messages=messages, sample=sample)


def answers(model: ChatModel, requests: list[Request]) -> list[Answer]:
    async def all_at_once() -> list[Answer]:
        return await asyncio.gather(*map(model.complete, requests))

    return asyncio.run(all_at_once())


def test_a_function_of_the_request_answers() -> None:
    model = ScriptedModel("echo", lambda request: request.messages[-1].content.upper())
    assert answers(model, [ask("what a day")]) == [
        Answer(
            text="WHAT A DAY",
            finish="stop",
            usage=Usage(prompt_tokens=5, completion_tokens=3, cached_tokens=0),
            model="echo",
        )
    ]


def test_the_content_picks_from_a_list_and_the_order_does_not() -> None:
    requests = [ask("hello", sample) for sample in range(30)]
    forwards = answers(ScriptedModel("list", REPLIES), requests)
    backwards = answers(ScriptedModel("list", REPLIES), requests[::-1])
    assert forwards == backwards[::-1]
    assert {answer.text for answer in forwards} == set(REPLIES)


def test_it_is_a_chat_model_with_the_name_it_was_given() -> None:
    model = ScriptedModel("list", REPLIES)
    assert isinstance(model, ChatModel)
    assert model.name == "list"
    assert repr(model) == "ScriptedModel('list')"


@pytest.mark.parametrize("replies", ["one text", [], ()])
def test_replies_that_cannot_be_used_are_refused(replies: list[str]) -> None:
    with pytest.raises(InputError, match="scripted model 'list'"):
        ScriptedModel("list", replies)


def test_a_script_is_certain_of_each_token() -> None:
    said = ScriptedModel("list", ['{"score": 4}'])
    (answer,) = answers(said, [ask("hello").model_copy(update={"top_logprobs": 5})])
    assert "".join(place[0].token for place in answer.top) == answer.text
    assert (Chance("4", 0.0),) in answer.top
    assert answers(said, [ask("hello")])[0].top == ()
