"""Any OpenAI-compatible server as a chat model.

The official client does the retries and honours Retry-After. The call goes past its typed front, which walks every
message of a chat again and is several times slower for it. The key comes from the environment and stands nowhere
else: not in a message, not in a repr, not in the name.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator

from interalign.errors import InputError, MissingExtra, ModelError
from interalign.llm.limits import estimated_tokens, shared_limit
from interalign.llm.model import CUT, REFUSED, Answer, Chance, Finish, Request, Usage
from interalign.messages import Value, as_dicts, well_formed
from interalign.run import derive_seed

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAIError

__all__ = ["EndpointConfig", "EndpointModel", "seed_of"]

_NO_KEY = "none"
_SHOWN_CHARACTERS = 300
# The client waits no longer than this between two tries, whatever the server asks for.
_LONGEST_WAIT_S = 120.0
# The largest seed that every server takes.
_LARGEST_SEED = 2**31 - 1

# What servers answer to a request that they could do in another form.
_REFUSED_AS_IT_IS = frozenset({400, 413, 422})
_NOBODY = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN})
# What they answer to any request as long as the key and the model's name are these.
_LASTING = frozenset({401, 403, 404})
# Some say 403 where they will not hear of what a message says.
_OF_CONTENT = re.compile(r"moderat|flagged|content", re.IGNORECASE)
# How servers write the logarithm of a token that was ruled out: JSON has no infinity.
_RULED_OUT = -9999.0
_OF_CHANCES = re.compile(r"log_?prob", re.IGNORECASE)

Wish: TypeAlias = Literal["schema", "chances"]
"""What a request may ask for that a server can do without."""

_MENDS = {
    400: "check that the model takes these messages and settings.",
    401: "check the key in the environment variable {key_env}.",
    403: "check the key in the environment variable {key_env}, and what it may use.",
    404: "check base_url and model.",
    429: "lower concurrency, set requests_per_minute or tokens_per_minute, or wait and run the same command again.",
}


class EndpointConfig(Value):
    """A server and a model on it."""

    # What is wrong may be a secret in the wrong field: errors name the field and do not repeat what stood there.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    backend: Literal["endpoint"] = "endpoint"
    base_url: str
    """Up to and including the version, as in https://api.openai.com/v1 or http://localhost:8000/v1."""
    model: Annotated[str, Field(min_length=1)]
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; a server on this machine needs none."""
    concurrency: Annotated[int, Field(ge=1)] = 16
    """Requests in flight at the same time."""
    timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 120
    """Seconds to wait for one try of one answer."""
    max_retries: Annotated[int, Field(ge=0)] = 5
    """Further tries after a refused connection, a timeout, 408, 409, 429, a server error or a response that was cut."""
    json_schema: bool = True
    """Ask the server to keep answers to a JSON schema where one is wanted. One that refuses is not asked again."""
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    """How many requests are sent in a minute, by all roles that use this model with this key; None: no limit."""
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    """How many tokens they use in a minute, read and written together; None: no limit."""

    @field_validator("base_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            # Reading the port checks it.
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            # The error's own text quotes the URL, and a secret with it.
            usable = False
        if not usable:
            raise ValueError("a URL that begins with http:// or https:// and names a server is needed")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("the URL must not hold a user, a password or a query: keys come from the environment")
        return url.rstrip("/")


class EndpointModel:
    """A model on an OpenAI-compatible server. It belongs to one event loop; close it with `aclose` or `async with`.

    Raises:
        InputError: the environment variable with the key is not set, or holds something that cannot be a key; or the
            same model is open with other limits.
        MissingExtra: the openai package, or what keeps limits, is not installed.
    """

    def __init__(self, config: EndpointConfig) -> None:
        self._config = config
        self._key = _key(config)
        self._client = _client(config, self._key)
        self.before_sending: Callable[[], None] | None = None
        """Called when a request has waited for its turn: what it raises goes to the caller, and nothing is sent."""
        self._slots = asyncio.Semaphore(config.concurrency)
        self._not_taken: frozenset[Wish] = frozenset() if config.json_schema else frozenset({"schema"})
        self._limit = shared_limit(
            config.base_url,
            config.model,
            self._key,
            requests_per_minute=config.requests_per_minute,
            tokens_per_minute=config.tokens_per_minute,
        )

    def __repr__(self) -> str:
        return f"EndpointModel({self.name!r})"

    @property
    def name(self) -> str:
        """Model and server: the same model name may be other weights elsewhere."""
        return f"{self._config.model}@{self._config.base_url}"

    async def __aenter__(self) -> EndpointModel:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def complete(self, request: Request) -> Answer:
        """The server's answer to `request`.

        Raises:
            ModelError: the server refused, was silent, or gave something that is no answer.
        """
        tokens = estimated_tokens(request)
        wanted = _wishes(request) - self._not_taken
        # Some servers know no schemas, some not this one's parts, some tell no chances, and each says so in words of
        # its own: what is refused is asked with fewer wishes.
        for wishes in _fewer_and_fewer(wanted):
            said = await self._whole(_body(self._config.model, request, wishes), tokens)
            if not (isinstance(said, _Failed) and _is_refused(said, wishes)):
                break
        if isinstance(said, _Failed):
            raise said.error
        self._not_taken |= wanted - wishes
        answer = self._read(said)
        self._limit.settle(tokens, answer.usage)
        return answer

    async def _whole(self, body: dict[str, Any], tokens: int) -> str | _Failed:
        """The response to `body`; one that was cut on its way is asked for again, as after a lost connection."""
        for _ in range(self._config.max_retries):
            said = await self._post(body, tokens)
            if isinstance(said, _Failed) or said.rstrip().endswith("}"):
                return said
        return await self._post(body, tokens)

    async def _post(self, body: dict[str, Any], tokens: int) -> str | _Failed:
        from openai import APIStatusError, OpenAIError

        try:
            async with self._slots:
                await self._limit.reserve(tokens)
                if self.before_sending is not None:
                    self.before_sending()
                async with asyncio.timeout(_patience_s(self._config)):
                    return await self._client.post("/chat/completions", body=body, cast_to=str)
        except (OpenAIError, TimeoutError) as error:
            # Returned, so that the client's error, which may hold the key, does not hang on to ours.
            status = error.status_code if isinstance(error, APIStatusError) else None
            return _Failed(self._failure(error), status)

    def _read(self, text: str) -> Answer:
        try:
            return _answer(text, self._config.model)
        except _Unusable as error:
            why, cause = self._shown(str(error)), error.cause
        raise ModelError(
            f"{self.name} gave no usable answer: {why}.", mend="look at the server's log.", unusable=True, cause=cause
        )

    def _failure(self, error: OpenAIError | TimeoutError) -> ModelError:
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        tries = f"({self._config.max_retries + 1} tries)" if self._config.max_retries else "(1 try)"
        if isinstance(error, APIStatusError):
            mend = _MENDS.get(error.status_code, "look at the server's log, and run the same command again later.")
            what = f"{self.name} refused: {self._shown(_server_says(error))}."
            of_content = error.status_code in _LASTING and bool(_OF_CONTENT.search(_server_says(error)))
            refused = error.status_code in _REFUSED_AS_IT_IS or of_content
            lasting = error.status_code in _LASTING and not of_content
            return ModelError(
                what,
                mend=mend.format(key_env=self._config.api_key_env),
                refused=refused,
                lasting=lasting,
                cause=REFUSED if of_content else f"call failed: status {error.status_code}",
            )
        unreachable = _unreachable(error)
        if unreachable is None and isinstance(error, APITimeoutError | TimeoutError):
            what = f"{self.name} did not answer within {self._config.timeout_s:g} s {tries}."
            return ModelError(what, mend="raise timeout_s, or lower concurrency.", cause="call failed: timeout")
        if isinstance(error, APIConnectionError):
            why = self._shown(str(unreachable or error.__cause__ or error))
            what = f"{self.name} cannot be reached: {why} {tries}. Does the server run, and is its address right?"
            return ModelError(
                what,
                mend="start the server, or correct its address where the model is named (as MODEL@URL, by --base-url, "
                "or as base_url in a recipe).",
                lasting=_is_absent(unreachable),
                cause="call failed: no connection",
            )
        return ModelError(f"{self.name} gave no answer: {self._shown(str(error))}.")

    def _shown(self, text: str) -> str:
        """What a server said, safe to print: without the key, on one line, not too long."""
        if self._key != _NO_KEY:
            text = text.replace(self._key, "***")
        line = " ".join(text.split()).rstrip(".")
        return line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS] + "..."


@dataclass(frozen=True)
class _Failed:
    """Why there is no response, and the HTTP status where the server gave one."""

    error: ModelError
    status: int | None


def _wishes(request: Request) -> frozenset[Wish]:
    schema: frozenset[Wish] = frozenset() if request.response_schema is None else frozenset({"schema"})
    return schema | {"chances"} if request.top_logprobs else schema


def _fewer_and_fewer(wanted: frozenset[Wish]) -> Iterator[frozenset[Wish]]:
    """All wishes first, then what is left when one of them is given up, then none."""
    yield wanted
    if len(wanted) > 1:
        yield wanted - {"chances"}
        yield wanted - {"schema"}
    if wanted:
        yield frozenset()


def _is_refused(said: _Failed, wishes: frozenset[Wish]) -> bool:
    """Whether the server may take the same request with fewer wishes."""
    # OpenAI's own models that reason answer 403 to whoever asks for chances.
    forbidden = said.status == 403 and "chances" in wishes and bool(_OF_CHANCES.search(said.error.what))
    return said.status in _REFUSED_AS_IT_IS or forbidden


class _Unusable(Exception):
    """A response that holds no answer; the text says why, and `cause` in words that can be counted."""

    def __init__(self, why: str, cause: str = "call failed: no usable answer") -> None:
        self.cause = cause
        super().__init__(why)


def _key(config: EndpointConfig) -> str:
    # A key that was pasted with its line end is a key.
    key = os.environ.get(config.api_key_env, "").strip()
    if not key and _is_loopback(config.base_url):
        return _NO_KEY
    if not key:
        raise InputError(
            f"The environment variable {config.api_key_env}, which holds the key for {config.base_url}, is not set.",
            mend=f"export {config.api_key_env}=... (any text for a server that asks for none), or name another "
            "variable in api_key_env.",
        )
    if not (key.isascii() and key.isprintable()):
        raise InputError(
            f"The environment variable {config.api_key_env} holds characters that cannot be part of a key.",
            mend=f"set {config.api_key_env} again.",
        )
    return key


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _client(config: EndpointConfig, key: str) -> AsyncOpenAI:
    try:
        from openai import AsyncOpenAI, DefaultAioHttpClient
    except ImportError:
        raise MissingExtra("openai", "endpoint") from None
    return AsyncOpenAI(
        api_key=key,
        base_url=config.base_url,
        timeout=config.timeout_s,
        max_retries=config.max_retries,
        # The default transport looks at every idle connection before every request.
        http_client=DefaultAioHttpClient(),
    )


def _unreachable(error: BaseException | None) -> OSError | None:
    """What the system said of a connection that could not be made; the client takes all of it for a timeout."""
    while error is not None:
        if isinstance(error, OSError) and not isinstance(error, TimeoutError) and error.__cause__ is None:
            return error
        error = error.__cause__
    return None


def _is_absent(error: OSError | None) -> bool:
    """Whether nobody listens there, or the name is none. A connection that was made and then lost is another thing."""
    if isinstance(error, ConnectionRefusedError | socket.gaierror):
        return True
    # Of a name with several addresses the system tells all errors in one text, without a number.
    return error is not None and (error.errno in _NOBODY or "Multiple exceptions" in str(error))


def _patience_s(config: EndpointConfig) -> float:
    # The client's timeout starts again with every byte, so a server that trickles would hold a call for ever.
    return (config.max_retries + 1) * config.timeout_s + config.max_retries * _LONGEST_WAIT_S


def _body(model: str, request: Request, wishes: frozenset[Wish]) -> dict[str, Any]:
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": as_dicts(request.messages),
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": seed_of(request),
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if "schema" in wishes:
        named = {"name": "answer", "strict": True, "schema": request.response_schema}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    if "chances" in wishes:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    return body


def seed_of(request: Request) -> int:
    """The seed to send: each sample has one of its own, since the same seed twice gives the same answer twice."""
    seed = derive_seed(request.seed, "sample", request.sample) if request.sample else request.seed
    return seed & _LARGEST_SEED


def _server_says(error: Any) -> str:
    # The client quotes the message of an error in OpenAI's form only; other servers have forms of their own.
    said = str(error.message)
    return said if " - " in said or not error.body else f"{said} - {error.body}"


def _answer(text: str, model: str) -> Answer:
    """The answer in a response body; raises _Unusable."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Unusable(f"the response is not JSON ({error}): {text}") from None
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _Unusable("the response has no choices")
    message = choices[0].get("message")
    content = message.get("content") if isinstance(message, dict) else None
    finish = choices[0].get("finish_reason")
    if not isinstance(content, str):
        raise _Unusable(f"the message has no text (finish_reason {finish!r})", _why_no_text(message, finish))
    served = body.get("model")
    return Answer(
        text=well_formed(content),
        finish=_finish(finish),
        usage=_usage(body.get("usage")),
        model=served if isinstance(served, str) else model,
        top=_top(choices[0].get("logprobs")),
    )


def _why_no_text(message: object, finish: object) -> str:
    """Why a message has no text, in words that can be counted."""
    if finish == "content_filter" or (isinstance(message, dict) and message.get("refusal")):
        return REFUSED
    # A model that reasons may have used up its tokens before the first word of its answer.
    return CUT if finish == "length" else "call failed: no text"


def _top(told: object) -> tuple[tuple[Chance, ...], ...]:
    """The chances in a choice; () where there are none, or not in the form of the OpenAI protocol."""
    places = told.get("content") if isinstance(told, dict) else None
    if not isinstance(places, list):
        return ()
    read = tuple(map(_chances, places))
    return read if all(read) else ()


def _chances(place: object) -> tuple[Chance, ...]:
    """What is told of one place, the token that was written first, each token once; () where it is not told."""
    written = _chance(place)
    others = place.get("top_logprobs") if isinstance(place, dict) else None
    if written is None:
        return ()
    found = {written.token: written}
    for chance in map(_chance, others if isinstance(others, list) else []):
        if chance is not None:
            found.setdefault(chance.token, chance)
    return tuple(found.values())


def _chance(told: object) -> Chance | None:
    token, logprob = (told.get("token"), told.get("logprob")) if isinstance(told, dict) else (None, None)
    if not isinstance(token, str) or not isinstance(logprob, int | float):
        return None
    # Rounding may bring a logarithm above 0; what is no number is as good as ruled out.
    return Chance(well_formed(token), float(min(logprob, 0.0)) if logprob > _RULED_OUT else _RULED_OUT)


def _finish(reason: object) -> Finish:
    if reason == "stop":
        return "stop"
    return "length" if reason == "length" else "other"


def _usage(usage: object) -> Usage:
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("prompt_tokens_details")
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else 0,
    )


def _count(number: object) -> int:
    return number if isinstance(number, int) and number >= 0 else 0
