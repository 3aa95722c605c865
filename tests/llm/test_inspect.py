from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from interalign.errors import MissingExtra, ModelError
from interalign.llm.inspect import EvalModel, InspectConfig, InspectModel
from interalign.llm.model import Answer, Chance, ChatModel, Request, Sampling, Usage
from interalign.messages import Message

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
HELLO = Request(messages=(Message(role="system", content="Be kind."), Message(role="user", content="Hello")), seed=11)
MOCK = InspectConfig(model="mockllm/model")

# Inspect AI 0.3 speaks to tenacity 9.2 in the words of its earlier versions.
pytestmark = pytest.mark.filterwarnings("ignore:The 'initial' parameter is deprecated")


@pytest.fixture
def ai() -> Iterator[Any]:
    """Inspect's own package of models; the tests that need it are skipped without it."""
    yield pytest.importorskip("inspect_ai.model", reason="inspect-ai is not installed (the extra 'inspect')")


def complete(outputs: Any, request: Request = HELLO, config: InspectConfig = MOCK) -> Answer:
    async def once() -> Answer:
        async with InspectModel(config, custom_outputs=outputs) as model:
            return await model.complete(request)

    return asyncio.run(once())


def said(text: str = "Good day.", *, usage: dict[str, int] | None = None, **fields: Any) -> Any:
    """An output with a usage: without one, the mock counts by a table that it fetches from the internet."""
    from inspect_ai.model import ModelOutput, ModelUsage

    output = ModelOutput.from_content("served", text).model_copy(update=fields)
    output.usage = ModelUsage.model_validate(usage or {})
    return output


def asked(config: InspectConfig, request: Request) -> tuple[list[Any], Any]:
    """The messages and the settings that reach the provider."""
    seen: list[tuple[list[Any], Any]] = []

    def answering(messages: list[Any], tools: Any, tool_choice: Any, settings: Any) -> Any:
        seen.append((messages, settings))
        return said()

    complete(answering, request, config)
    return seen[0]


def test_an_answer_is_read_whole(ai: Any) -> None:
    counted = {"input_tokens": 3, "output_tokens": 4, "input_tokens_cache_read": 5, "input_tokens_cache_write": 2}
    output = said("Good day. \ud83d", usage=counted)
    assert complete([output]) == Answer(
        text="Good day. \N{REPLACEMENT CHARACTER}",
        finish="stop",
        usage=Usage(prompt_tokens=10, completion_tokens=4, cached_tokens=5),
        model="served",
    )


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("stop", "stop"), ("max_tokens", "length"), ("model_length", "length"), ("content_filter", "other")],
)
def test_the_reason_to_finish_is_kept(ai: Any, reason: str, finish: str) -> None:
    output = said()
    output.choices[0].stop_reason = reason
    assert complete([output]).finish == finish


def test_the_request_is_passed_on_whole(ai: Any) -> None:
    sampling = Sampling(max_tokens=9, temperature=0, top_p=0.5, stop=("\n",))
    chat = (*HELLO.messages, Message(role="assistant", content="Hi"), Message(role="user", content="More"))
    config = InspectConfig(model="mockllm/model", concurrency=3, timeout_s=7, max_retries=2)
    messages, settings = asked(config, Request(messages=chat, sampling=sampling, seed=11, response_schema=SCHEMA))
    assert [(message.role, message.text) for message in messages] == [
        ("system", "Be kind."),
        ("user", "Hello"),
        ("assistant", "Hi"),
        ("user", "More"),
    ]
    assert (settings.max_tokens, settings.temperature, settings.top_p, settings.stop_seqs) == (9, 0, 0.5, ["\n"])
    assert (settings.seed, settings.max_connections, settings.attempt_timeout, settings.max_retries) == (11, 3, 7, 2)
    schema = settings.response_schema.json_schema.model_dump(exclude_none=True, by_alias=True)
    assert (schema["required"], list(schema["properties"]), schema["additionalProperties"]) == (["a"], ["a"], False)


def test_a_schema_that_is_not_wanted_or_not_known_is_left_out(ai: Any) -> None:
    wanted = HELLO.model_copy(update={"response_schema": SCHEMA})
    unknown = [
        {"type": "nothing of the kind"},
        {"type": "array", "items": {"$ref": "#/$defs/a"}, "$defs": {"a": SCHEMA}},
    ]
    assert asked(MOCK, HELLO)[1].response_schema is None
    assert asked(InspectConfig(model="mockllm/model", json_schema=False), wanted)[1].response_schema is None
    for schema in unknown:
        assert asked(MOCK, HELLO.model_copy(update={"response_schema": schema}))[1].response_schema is None


def test_samples_of_one_request_have_seeds_of_their_own(ai: Any) -> None:
    seeds = [asked(MOCK, HELLO.model_copy(update={"sample": sample}))[1].seed for sample in range(3)]
    assert len(set(seeds)) == 3


def test_what_the_provider_raises_is_a_model_error(ai: Any) -> None:
    def failing(*_: object) -> Any:
        raise RuntimeError("out  of\norder")

    with pytest.raises(ModelError, match=r"mockllm/model@inspect gave no answer: .*out of order"):
        complete(failing)


def test_an_output_without_an_answer_is_a_model_error(ai: Any) -> None:
    for output, why in ((said(choices=[]), "no choices"), (said(error="overloaded"), "overloaded")):
        with pytest.raises(ModelError, match=f"gave no usable answer: .*{why}"):
            complete([output])


def test_a_provider_that_inspect_does_not_know_is_a_model_error(ai: Any) -> None:
    with pytest.raises(ModelError, match=r"nobody/model cannot be opened.*not recognized"):
        InspectModel(InspectConfig(model="nobody/model"))


def test_the_name_tells_provider_and_model(ai: Any) -> None:
    model = InspectModel(MOCK)
    assert isinstance(model, ChatModel)
    assert (model.name, repr(model)) == ("mockllm/model@inspect", "InspectModel('mockllm/model@inspect')")
    asyncio.run(model.aclose())


@pytest.mark.parametrize(
    "broken", [{"model": "gpt-4o"}, {"model": ""}, {"model": "openai/"}, {"concurrency": 0}, {"api_key": "sk-secret"}]
)
def test_a_config_that_cannot_work_is_refused_without_showing_a_key(broken: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        InspectConfig.model_validate({"model": "openai/gpt-4o"} | broken)
    assert "sk-secret" not in str(caught.value)


def test_chances_are_asked_for_and_read_once_each(ai: Any) -> None:
    wished = HELLO.model_copy(update={"top_logprobs": 2})
    settings = asked(MOCK, wished)[1]
    assert (settings.logprobs, settings.top_logprobs) == (True, 2)
    assert (asked(MOCK, HELLO)[1].logprobs, asked(MOCK, HELLO)[1].top_logprobs) == (None, None)
    written = {"token": "4", "logprob": 1e-9}
    others = [{"token": "4", "logprob": -0.1}, {"token": "5", "logprob": -2.5}, {"token": "1", "logprob": -1e6}]
    output = said()
    output.choices[0].logprobs = ai.Logprobs.model_validate({"content": [{**written, "top_logprobs": others}]})
    assert complete([output], wished).top == ((Chance("4", 0.0), Chance("5", -2.5), Chance("1", -9999.0)),)
    assert complete([said()], wished).top == ()


def asked_of_eval(request: Request, *, sampling: bool = True, **own: Any) -> Any:
    """The settings that reach the provider of a model which Inspect has opened with settings of its own."""
    from inspect_ai.model import GenerateConfig, get_model

    seen: list[Any] = []

    def answering(messages: Any, tools: Any, tool_choice: Any, settings: Any) -> Any:
        seen.append(settings)
        return said()

    opened = get_model("mockllm/model", custom_outputs=answering, config=GenerateConfig(**own))
    asyncio.run(EvalModel(opened, sampling=sampling).complete(request))
    return seen[0]


def test_a_model_of_an_evaluation_keeps_its_own_settings(ai: Any) -> None:
    request = HELLO.model_copy(update={"sampling": Sampling(max_tokens=9, temperature=0.5, stop=("\n",))})
    settings = asked_of_eval(request, temperature=0.1, max_connections=3)
    assert (settings.temperature, settings.max_tokens, settings.stop_seqs) == (0.1, 9, ["\n"])
    assert (settings.seed, settings.max_connections) == (asked(MOCK, HELLO)[1].seed, 3)
    untold = asked_of_eval(request, sampling=False)
    assert (untold.temperature, untold.stop_seqs, untold.seed) == (None, None, settings.seed)
    assert untold.max_tokens != 9


def test_a_model_of_an_evaluation_answers_as_one_that_is_opened_by_name(ai: Any) -> None:
    from inspect_ai.model import get_model

    model = EvalModel(get_model("mockllm/model", custom_outputs=[said(), said(error="overloaded")]))
    assert isinstance(model, ChatModel)
    assert (model.name, repr(model)) == ("mockllm/model@inspect", "EvalModel('mockllm/model@inspect')")
    assert asyncio.run(model.complete(HELLO)) == complete([said()])
    with pytest.raises(ModelError, match=r"gave no usable answer: .*overloaded"):
        asyncio.run(model.complete(HELLO))


def test_a_limit_of_an_evaluation_is_no_failure_of_the_model(ai: Any) -> None:
    from inspect_ai.model import get_model
    from inspect_ai.util import LimitExceededError, token_limit

    output = said(usage={"input_tokens": 4, "output_tokens": 4, "total_tokens": 8})
    model = EvalModel(get_model("mockllm/model", custom_outputs=[output]))
    with token_limit(5), pytest.raises(LimitExceededError):
        asyncio.run(model.complete(HELLO))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.model", None)
    with pytest.raises(MissingExtra, match=r"'inspect-ai'.*interalign\[inspect\]"):
        InspectModel(MOCK)


def test_inspect_loads_with_the_first_of_its_models_only() -> None:
    code = "import sys, interalign.llm.backends; sys.exit('inspect_ai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
