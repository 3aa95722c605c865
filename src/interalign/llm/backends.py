"""Which model answers: one table of a recipe, told apart by its `backend`, and the model made from it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from interalign.errors import InputError
from interalign.llm.endpoint import EndpointConfig, EndpointModel
from interalign.llm.inspect import InspectConfig, InspectModel
from interalign.llm.limits import Rates, refuse_two_limits
from interalign.llm.model import ChatModel
from interalign.llm.offline import OFFLINE_MODEL
from interalign.llm.scripted import ScriptedModel
from interalign.messages import Value

__all__ = [
    "LocalConfig",
    "ModelConfig",
    "ScriptedConfig",
    "check_limits",
    "costs_nothing",
    "described",
    "label",
    "open_model",
]


class ScriptedConfig(Value):
    """A script that plays the role: no network, no weights, always the same answer to the same question."""

    backend: Literal["scripted"] = "scripted"


class LocalConfig(Value):
    """A model in this process."""

    backend: Literal["local"] = "local"
    checkpoint: Annotated[str, Field(min_length=1)] = OFFLINE_MODEL
    """Checkpoint or adapter folder, hub name, or the offline model's name."""


ModelConfig: TypeAlias = Annotated[
    ScriptedConfig | LocalConfig | EndpointConfig | InspectConfig, Field(discriminator="backend")
]


def costs_nothing(config: ModelConfig) -> bool:
    """Whether the model runs in this process, so that no call of it is paid for (`Account.metered(..., free=...)`)."""
    return isinstance(config, ScriptedConfig | LocalConfig)


def label(config: ModelConfig) -> str:
    """What the model is called where people read of it."""
    if isinstance(config, ScriptedConfig):
        return "a script"
    return config.checkpoint if isinstance(config, LocalConfig) else config.model


def described(config: ModelConfig) -> str:
    """The model and where it runs."""
    if isinstance(config, EndpointConfig):
        return f"{config.model} at {config.base_url}"
    if isinstance(config, InspectConfig):
        return f"{config.model} by Inspect AI"
    return label(config) if isinstance(config, ScriptedConfig) else f"{config.checkpoint} in this process"


def check_limits(configs: Iterable[ModelConfig]) -> None:
    """Refuse what opening these models together would refuse: a model of one server with two limits.

    Raises:
        InputError: there is one.
    """
    known: dict[tuple[str, ...], Rates] = {}
    for one in configs:
        if isinstance(one, EndpointConfig):
            rates = (one.requests_per_minute, one.tokens_per_minute)
            place = (one.base_url, one.model, os.environ.get(one.api_key_env, ""))
            refuse_two_limits(one.base_url, one.model, known.setdefault(place, rates), rates)


@asynccontextmanager
async def open_model(config: ModelConfig, scripts: Mapping[str, ScriptedModel], role: str) -> AsyncIterator[ChatModel]:
    """The model that `config` names, closed at the end of the block.

    Args:
        config: The recipe's table.
        scripts: What plays the roles that can be scripted.
        role: Which role it is for.

    Raises:
        InputError: the role has no script, the key is not set, the same model is open with other limits, or the folder
            holds no weights.
        MissingExtra: the backend's package is not installed.
        ModelError: the checkpoint cannot be loaded, or Inspect cannot open the model.
    """
    if isinstance(config, EndpointConfig):
        async with EndpointModel(config) as model:
            yield model
    elif isinstance(config, InspectConfig):
        async with InspectModel(config) as inspected:
            yield inspected
    elif isinstance(config, LocalConfig):
        from interalign.llm.local import LocalModel

        yield LocalModel(config.checkpoint)
    elif role in scripts:
        yield scripts[role]
    else:
        raise InputError(f"No script plays the {role}.", mend='use backend = "endpoint", "inspect" or "local".')
