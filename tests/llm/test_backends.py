from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from interalign.errors import InputError
from interalign.llm.backends import (
    LocalConfig,
    ModelConfig,
    ScriptedConfig,
    check_limits,
    costs_nothing,
    described,
    open_model,
)
from interalign.llm.endpoint import EndpointConfig
from interalign.llm.inspect import InspectConfig
from interalign.llm.model import Request
from interalign.llm.scripted import ScriptedModel
from interalign.messages import Message
from tests.llm.servers import completion, serving

HELLO = Request(messages=(Message(role="user", content="Hello"),))
SCRIPTS = {"writer": ScriptedModel("script", ["scripted"])}


def parsed(table: dict[str, Any]) -> ModelConfig:
    return TypeAdapter[ModelConfig](ModelConfig).validate_python(table)


def ask(config: ModelConfig, role: str = "writer") -> tuple[str, str]:
    async def once() -> tuple[str, str]:
        async with open_model(config, SCRIPTS, role) as model:
            return model.name, (await model.complete(HELLO)).text

    return asyncio.run(once())


def test_a_table_is_told_by_its_backend() -> None:
    assert parsed({"backend": "scripted"}) == ScriptedConfig()
    assert parsed({"backend": "local"}) == LocalConfig()
    table = {"backend": "endpoint", "base_url": "http://localhost:1/v1", "model": "m"}
    assert parsed(table) == EndpointConfig(base_url="http://localhost:1/v1", model="m")
    assert parsed({"backend": "inspect", "model": "openai/gpt-4o"}) == InspectConfig(model="openai/gpt-4o")


@pytest.mark.parametrize("table", [{"backend": "magic"}, {}, {"backend": "scripted", "model": "m"}])
def test_a_table_of_no_backend_is_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parsed(table)


def test_a_script_plays_its_role() -> None:
    assert ask(ScriptedConfig()) == ("script", "scripted")


def test_a_role_without_a_script_says_what_can_play_it() -> None:
    with pytest.raises(InputError, match=r"No script plays the judge\..*endpoint"):
        ask(ScriptedConfig(), "judge")


def test_a_server_answers_under_its_name() -> None:
    with serving(completion("served")) as server:
        name, text = ask(EndpointConfig(base_url=server.base_url, model="m"))
    assert (name, text) == (f"m@{server.base_url}", "served")


def test_an_inspect_table_opens_inspects_model() -> None:
    pytest.importorskip("inspect_ai.model", reason="inspect-ai is not installed (the extra 'inspect')")

    async def name() -> str:
        async with open_model(InspectConfig(model="mockllm/model"), SCRIPTS, "writer") as model:
            return model.name

    assert asyncio.run(name()) == "mockllm/model@inspect"


def test_only_what_runs_in_this_process_costs_nothing() -> None:
    endpoint = EndpointConfig(base_url="http://localhost:1/v1", model="m")
    assert [costs_nothing(config) for config in (ScriptedConfig(), LocalConfig())] == [True, True]
    assert [costs_nothing(config) for config in (endpoint, InspectConfig(model="a/b"))] == [False, False]


def test_a_model_is_described_with_where_it_runs() -> None:
    endpoint = EndpointConfig(base_url="http://localhost:1/v1", model="m")
    models = (ScriptedConfig(), LocalConfig(checkpoint="x/y"), endpoint, InspectConfig(model="a/b"))
    assert [described(one) for one in models] == [
        "a script",
        "x/y in this process",
        "m at http://localhost:1/v1",
        "a/b by Inspect AI",
    ]


def test_two_limits_of_one_model_are_found_before_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    free = EndpointConfig(base_url="http://localhost:1/v1", model="m")
    slow = free.model_copy(update={"tokens_per_minute": 100})
    other = slow.model_copy(update={"model": "n"})
    keyed = slow.model_copy(update={"api_key_env": "MY_KEY"})
    monkeypatch.setenv("MY_KEY", "k")
    check_limits([free, other, ScriptedConfig(), keyed, free])
    with pytest.raises(InputError, match=r"m on http://localhost:1/v1 is limited in two ways: not at all, and 100 tok"):
        check_limits([free, other, slow])
