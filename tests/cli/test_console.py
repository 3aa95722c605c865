from __future__ import annotations

from typing import Any

import pytest

from interalign.cli.console import (
    checked_model,
    in_place_of,
    limited_like,
    model_in_a_word,
    model_named,
    server_model,
)
from interalign.errors import InputError
from interalign.llm.backends import LocalConfig, ModelConfig, ScriptedConfig
from interalign.llm.endpoint import EndpointConfig
from interalign.llm.inspect import InspectConfig

HERE, THERE = "http://localhost:8000/v1", "https://api.example.com/v1"
KEPT: dict[str, Any] = {"timeout_s": 600, "concurrency": 4, "max_retries": 1, "tokens_per_minute": 9000}


def named(url: str, model: str = "new") -> ModelConfig:
    return checked_model({"backend": "endpoint", "base_url": url, "model": model})


def test_a_model_in_the_place_of_another_takes_over_how_that_is_asked() -> None:
    old = EndpointConfig(base_url=HERE, model="old", api_key_env="HERE_KEY", json_schema=False, **KEPT)
    new = in_place_of([ScriptedConfig(), old], named(HERE))
    assert new == EndpointConfig(base_url=HERE, model="new", api_key_env="HERE_KEY", json_schema=False, **KEPT)


def test_a_key_goes_to_no_other_server() -> None:
    old = EndpointConfig(base_url=HERE, model="old", api_key_env="HERE_KEY", **KEPT)
    assert in_place_of([old], named(THERE)) == EndpointConfig(base_url=THERE, model="new", **KEPT)


def test_of_several_the_one_on_the_same_server_is_followed() -> None:
    slow, fast = (
        EndpointConfig(base_url=url, model="old", timeout_s=timeout) for url, timeout in ((HERE, 9), (THERE, 5))
    )
    for url, timeout in ((HERE, 9), (THERE, 5), ("http://localhost:1/v1", 9)):
        found = in_place_of([slow, fast], named(url))
        assert isinstance(found, EndpointConfig) and found.timeout_s == timeout


@pytest.mark.parametrize(
    ("before", "new", "found"),
    [
        ((), {"backend": "scripted"}, ScriptedConfig()),
        ([InspectConfig(model="a/b")], {"backend": "local", "checkpoint": "x"}, LocalConfig(checkpoint="x")),
        ([LocalConfig(checkpoint="y")], {"backend": "local", "checkpoint": "x"}, LocalConfig(checkpoint="x")),
        (
            [InspectConfig(model="a/b", timeout_s=7)],
            {"backend": "inspect", "model": "a/c"},
            InspectConfig(model="a/c", timeout_s=7),
        ),
    ],
)
def test_other_kinds_of_models(before: list[ModelConfig], new: dict[str, Any], found: ModelConfig) -> None:
    assert in_place_of(before, checked_model(new)) == found


def test_one_model_of_one_server_has_its_strictest_limit_wherever_it_is_named() -> None:
    def limited(requests: int | None, tokens: int | None, url: str = HERE) -> EndpointConfig:
        return EndpointConfig(base_url=url, model="m", requests_per_minute=requests, tokens_per_minute=tokens)

    others = [limited(60, None), limited(None, 500), limited(90, 700), limited(1, 1, THERE), ScriptedConfig()]
    assert limited_like(limited(None, None), others) == limited(60, 500)
    assert limited_like(limited(None, None), []) == limited(None, None)
    assert limited_like(ScriptedConfig(), others) == ScriptedConfig()


@pytest.mark.parametrize(
    "what", ["m@localhost:8731", "m@localhost", "m@10.0.0.3:80/v1", "org/m@gpu-3:8000", "m@a.example/v1"]
)
def test_an_address_without_http_is_told(what: str) -> None:
    with pytest.raises(InputError, match=r"lacks http://.*write [\w/]+@http://"):
        model_in_a_word(what)


def test_one_word_names_a_server_a_script_or_nothing_of_the_kind() -> None:
    server = model_in_a_word("m@http://localhost:8000/v1")
    assert isinstance(server, EndpointConfig) and (server.model, server.base_url) == ("m", "http://localhost:8000/v1")
    assert model_in_a_word("scripted") == ScriptedConfig() == server_model("scripted", None)
    assert server_model("m@http://localhost:8000/v1", None) == server
    assert all(model_in_a_word(name) is None for name in ("runs/demo", "org/model", "org/model@main"))


@pytest.mark.parametrize(
    ("what", "model"),
    [
        ("scripted", ScriptedConfig()),
        ("m@http://localhost:8000/v1", EndpointConfig(base_url="http://localhost:8000/v1", model="m")),
        ("org/m@https://api.example.com/v1", EndpointConfig(base_url="https://api.example.com/v1", model="org/m")),
        ("inspect:mockllm/model", InspectConfig(model="mockllm/model")),
        ("models/mine", LocalConfig(checkpoint="models/mine")),
        ("org/model@main", LocalConfig(checkpoint="org/model@main")),
    ],
)
def test_a_model_in_one_word(what: str, model: ModelConfig) -> None:
    assert model_named(what) == model


@pytest.mark.parametrize("what", ["inspect:model", "m@http://", "@http://localhost/v1", "m@http://u:p@host/v1"])
def test_no_model_in_one_word(what: str) -> None:
    with pytest.raises(InputError):
        model_named(what)
