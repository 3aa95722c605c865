"""What a chat model is: a name, and one answer per request.

Everything that decides an answer stands in the model's name and in the request. That is what lets the journal replay
a run, and it holds for whoever plugs in a model of their own.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from pydantic import Field

from interalign.messages import Chat, Value

__all__ = ["CUT", "REFUSED", "Answer", "Chance", "ChatModel", "Finish", "Request", "Sampling", "Usage", "call_key"]

CUT, REFUSED = "cut at max_tokens", "refused"
"""Why an answer is none (`ModelError.cause`): it had no more tokens, or its model would not give one."""

Finish: TypeAlias = Literal["stop", "length", "other"]
Count: TypeAlias = Annotated[int, Field(ge=0)]


class Sampling(Value):
    """How tokens are drawn."""

    max_tokens: Annotated[int, Field(ge=1)] = 256
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.7
    """0 takes the likeliest token each time."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end the answer; they are not part of it."""


class Request(Value):
    """One question to a model.

    `sample` numbers the answers that are wanted to the same question; `seed` is where their randomness comes from.
    """

    messages: Annotated[Chat, Field(min_length=1)]
    sampling: Sampling = Sampling()
    sample: Count = 0
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    response_schema: dict[str, Any] | None = None
    """JSON schema of the answer. A wish: servers that cannot keep to it answer freely, so whoever asks must check."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 0
    """How many of the likeliest tokens to name at each place of the answer. A wish too: not every server tells them."""


class Usage(Value):
    """Tokens of one call. `cached_tokens` is the part of `prompt_tokens` that the server had computed before."""

    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    cached_tokens: Count = 0


class Chance(NamedTuple):
    """A token that the model wrote, or could have written, and the natural logarithm of how likely it was."""

    token: str
    logprob: Annotated[float, Field(le=0)]


class Answer(Value):
    """What a model said. `finish` is `length` when `max_tokens` cut it; `model` is the name that the server gave."""

    text: str
    finish: Finish
    usage: Usage
    model: str
    top: tuple[Annotated[tuple[Chance, ...], Field(min_length=1)], ...] = ()
    """By place, the token that was written and after it others, likeliest first; () where they were not told."""


@runtime_checkable
class ChatModel(Protocol):
    """Anything that answers a chat: a server, a checkpoint in this process, a script."""

    @property
    def name(self) -> str:
        """What identifies the weights: two models with the same name are one model to the journal."""
        ...

    async def complete(self, request: Request) -> Answer:
        """The answer to `request`; raises ModelError when there is no usable one."""
        ...


def call_key(model: str, request: Request) -> str:
    """The SHA-256, in hexadecimal, of everything that decides an answer: model name, sampling, messages, sample, seed.

    Defaults are part of it, so an answer is never replayed under a default that has changed since. A schema is part of
    it where there is one, and so are chances: journals from before there were such wishes stay valid.
    """
    content = {"model": model, **request.model_dump(mode="json")}
    if request.response_schema is None:
        del content["response_schema"]
    if not request.top_logprobs:
        del content["top_logprobs"]
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
