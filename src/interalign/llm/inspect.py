"""Any model that Inspect AI knows, as a chat model: more than twenty providers, each with its own client.

`InspectModel` opens one by its name, `EvalModel` takes one that an evaluation of Inspect's has opened. For an
OpenAI-compatible server the endpoint backend is several times faster; this is for all the others.
"""

from __future__ import annotations

import json
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from interalign.errors import MissingExtra, ModelError
from interalign.llm.endpoint import seed_of
from interalign.llm.model import Answer, Chance, Finish, Request, Usage
from interalign.messages import Chat, Value, well_formed

if TYPE_CHECKING:
    from inspect_ai.model import ChatMessage, GenerateConfig, Logprob, Model, ModelOutput, ModelUsage, ResponseSchema

__all__ = ["EvalModel", "InspectConfig", "InspectModel", "inspect_messages"]

_SHOWN_CHARACTERS = 300
_RULED_OUT = -9999.0
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
        return await _ask(self._model, self.name, request, _config(self._config, request))


class EvalModel:
    """A model that an evaluation of Inspect's has opened: connections, retries, cache and its end are Inspect's.

    Args:
        model: What `get_model` gave.
        sampling: Whether a request's sampling counts, as far as the model's own settings leave it open. Without it
            tokens are drawn as Inspect was told (`--temperature`, `--max-tokens`), which is for the model under test.
    """

    def __init__(self, model: Model, *, sampling: bool = True) -> None:
        self._model = model
        self._sampling = sampling

    def __repr__(self) -> str:
        return f"EvalModel({self.name!r})"

    @property
    def name(self) -> str:
        """Provider and model, and that Inspect asks them."""
        return f"{self._model}@inspect"

    async def complete(self, request: Request) -> Answer:
        """The model's answer to `request`.

        Raises:
            ModelError: the provider refused, was silent, or gave something that is no answer.
            inspect_ai.util.LimitExceededError: a limit of the evaluation is reached.
        """
        return await _ask(self._model, self.name, request, self._settings(request))

    def _settings(self, request: Request) -> GenerateConfig:
        from inspect_ai.model import GenerateConfig

        wished = _drawing(request) if self._sampling else {}
        own = self._model.config.model_dump(exclude_none=True)
        left_open = {field: value for field, value in wished.items() if field not in own}
        return GenerateConfig(
            seed=seed_of(request), response_schema=_schema(request), **left_open, **_chances_wished(request)
        )


async def _ask(model: Model, name: str, request: Request, settings: GenerateConfig) -> Answer:
    from inspect_ai.model import ModelRefusalError
    from inspect_ai.util import LimitExceededError

    try:
        said = await model.generate(inspect_messages(request.messages), config=settings)
    except (LimitExceededError, ModelRefusalError):
        # The evaluation is to end its sample here: nothing went wrong that another answer could stand in for.
        raise
    except Exception as error:
        # Each provider raises errors of its own.
        why = _failure(name, "gave no answer", error)
        cause = "call failed: timeout" if "timeout" in type(error).__name__.lower() else "call failed"
        raise ModelError(why, mend="see what the provider says, and run the same command again.", cause=cause) from None
    if said.error or not said.choices:
        why = _one_line(said.error or "the output has no choices")
        raise ModelError(f"{name} gave no usable answer: {why}.", unusable=True)
    return Answer(
        text=well_formed(said.completion),
        finish=_FINISH.get(said.stop_reason, "other"),
        usage=_usage(said.usage),
        model=said.model or str(model),
        top=_top(said),
    )


def inspect_messages(chat: Chat) -> list[ChatMessage]:
    """The chat in Inspect's own messages."""
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
    return [kinds[message.role](content=message.content) for message in chat]


def _config(config: InspectConfig, request: Request) -> GenerateConfig:
    from inspect_ai.model import GenerateConfig

    return GenerateConfig(
        seed=seed_of(request),
        response_schema=_schema(request) if config.json_schema else None,
        max_connections=config.concurrency,
        # Inspect would find a number of its own.
        adaptive_connections=False,
        attempt_timeout=config.timeout_s,
        max_retries=config.max_retries,
        # The journal keeps answers; a second store would answer behind its back.
        cache=False,
        **_drawing(request),
        **_chances_wished(request),
    )


def _drawing(request: Request) -> dict[str, Any]:
    """How tokens are drawn, in Inspect's words."""
    sampling = request.sampling
    drawing: dict[str, Any] = {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature}
    if sampling.top_p < 1:
        # 1 changes nothing, and some providers refuse it beside a temperature.
        drawing["top_p"] = sampling.top_p
    if sampling.stop:
        drawing["stop_seqs"] = list(sampling.stop)
    return drawing


def _chances_wished(request: Request) -> dict[str, Any]:
    return {"logprobs": True, "top_logprobs": request.top_logprobs} if request.top_logprobs else {}


def _top(output: ModelOutput) -> tuple[tuple[Chance, ...], ...]:
    """By place the token that was written, and after it others, each once; () where the provider tells nothing."""
    told = output.choices[0].logprobs
    return tuple(_chances(place) for place in told.content) if told is not None else ()


def _chances(place: Logprob) -> tuple[Chance, ...]:
    found: dict[str, Chance] = {}
    for told in (place, *(place.top_logprobs or ())):
        # Rounding may bring a logarithm above 0; what is no number is as good as ruled out.
        likely = min(told.logprob, 0.0) if told.logprob > _RULED_OUT else _RULED_OUT
        token = well_formed(told.token)
        found.setdefault(token, Chance(token, likely))
    return tuple(found.values())


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
