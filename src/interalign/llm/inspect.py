"""Any model that Inspect AI knows, as a chat model: more than twenty providers, each with its own client.

For an OpenAI-compatible server the endpoint backend is several times faster; this is for all the others.
"""

from __future__ import annotations

import json
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from interalign.errors import MissingExtra, ModelError
from interalign.llm.endpoint import seed_of
from interalign.llm.model import Answer, Finish, Request, Usage
from interalign.messages import Chat, Value, well_formed

if TYPE_CHECKING:
    from inspect_ai.model import ChatMessage, GenerateConfig, ModelOutput, ModelUsage, ResponseSchema

__all__ = ["InspectConfig", "InspectModel"]

_SHOWN_CHARACTERS = 300
_FINISH: dict[str, Finish] = {"stop": "stop", "max_tokens": "length", "model_length": "length"}


class InspectConfig(Value):
    """A model by its name in Inspect AI. Keys come from the environment variables that Inspect reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    backend: Literal["inspect"] = "inspect"
    model: Annotated[str, Field(pattern=r"^[^/\s]+/\S+$")]
    """Provider and model, as in anthropic/claude-sonnet-5-5 or bedrock/..."""
    concurrency: Annotated[int, Field(ge=1)] = 16
    """Requests in flight at the same time."""
    timeout_s: Annotated[int, Field(ge=1)] = 120
    """Seconds to wait for one try of one answer."""
    max_retries: Annotated[int, Field(ge=0)] = 5
    """Further tries after what the provider calls passing."""
    json_schema: bool = True
    """Ask the provider to keep answers to a JSON schema where one is wanted."""


class InspectModel:
    """A model of Inspect AI. It belongs to one event loop; close it with `aclose` or `async with`.

    Args:
        config: Which model.
        options: What its provider takes beside (`get_model(..., **options)`).

    Raises:
        MissingExtra: inspect-ai is not installed.
        ModelError: Inspect does not know the provider, or the provider's package or key is missing.
    """

    def __init__(self, config: InspectConfig, **options: Any) -> None:
        try:
            from inspect_ai.model import get_model
        except ImportError:
            raise MissingExtra("inspect-ai", "inspect") from None
        self._config = config
        try:
            self._model = get_model(config.model, memoize=False, **options)
        except Exception as error:
            failed = _failure(config.model, "cannot be opened", error)
            mend = "check its name, and install the provider's package and set its key as Inspect AI asks for."
            raise ModelError(failed, mend=mend) from None

    def __repr__(self) -> str:
        return f"InspectModel({self.name!r})"

    @property
    def name(self) -> str:
        """Provider and model, and that Inspect asks them."""
        return f"{self._config.model}@inspect"

    async def __aenter__(self) -> InspectModel:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the provider's client."""
        await self._model.api.aclose()

    async def complete(self, request: Request) -> Answer:
        """The model's answer to `request`.

        Raises:
            ModelError: the provider refused, was silent, or gave something that is no answer.
        """
        try:
            said = await self._model.generate(_messages(request.messages), config=_config(self._config, request))
        except Exception as error:
            # Each provider raises errors of its own.
            why = _failure(self.name, "gave no answer", error)
            raise ModelError(why, mend="see what the provider says, and run the same command again.") from None
        return self._read(said)

    def _read(self, said: ModelOutput) -> Answer:
        if said.error or not said.choices:
            why = _one_line(said.error or "the output has no choices")
            raise ModelError(f"{self.name} gave no usable answer: {why}.")
        return Answer(
            text=well_formed(said.completion),
            finish=_FINISH.get(said.stop_reason, "other"),
            usage=_usage(said.usage),
            model=said.model or self._config.model,
        )


def _messages(chat: Chat) -> list[ChatMessage]:
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
    return [kinds[message.role](content=message.content) for message in chat]


def _config(config: InspectConfig, request: Request) -> GenerateConfig:
    from inspect_ai.model import GenerateConfig

    sampling = request.sampling
    return GenerateConfig(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        stop_seqs=list(sampling.stop) or None,
        seed=seed_of(request),
        response_schema=_schema(request) if config.json_schema else None,
        max_connections=config.concurrency,
        # Inspect would find a number of its own.
        adaptive_connections=False,
        attempt_timeout=config.timeout_s,
        max_retries=config.max_retries,
        # The journal keeps answers; a second store would answer behind its back.
        cache=False,
    )


def _schema(request: Request) -> ResponseSchema | None:
    from inspect_ai.model import ResponseSchema

    # Inspect knows a part of the JSON schema language only, and would drop a reference without a word.
    if request.response_schema is None or "$ref" in json.dumps(request.response_schema):
        return None
    try:
        return ResponseSchema.model_validate({"name": "answer", "json_schema": request.response_schema, "strict": True})
    except ValidationError:
        return None


def _usage(usage: ModelUsage | None) -> Usage:
    """Inspect counts the part of the prompt that was cached apart from the rest."""
    if usage is None:
        return Usage()
    read, written = usage.input_tokens_cache_read or 0, usage.input_tokens_cache_write or 0
    return Usage(
        prompt_tokens=max(0, usage.input_tokens + read + written),
        completion_tokens=max(0, usage.output_tokens),
        cached_tokens=max(0, read),
    )


def _failure(name: str, what: str, error: Exception) -> str:
    return f"{name} {what}: {_one_line(str(getattr(error, 'message', '') or error) or type(error).__name__)}."


def _one_line(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS] + "..."
