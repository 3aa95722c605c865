"""How fast a server may be asked: requests and tokens per minute, kept before a request is sent.

What a server refuses for coming too fast is asked again by the client, so a limit is a courtesy that saves waiting, not
what makes a run correct.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary, WeakValueDictionary

from interalign.errors import InputError, MissingExtra
from interalign.llm.model import Request, Usage

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

__all__ = [
    "RateLimit",
    "Rates",
    "estimated_tokens",
    "prompt_estimate",
    "refuse_two_limits",
    "shared_limit",
    "text_estimate",
]

Rates: TypeAlias = tuple[int | None, int | None]
"""Requests and tokens per minute; None for no limit."""

_CHARACTERS_PER_TOKEN = 4
_MINUTE_S = 60.0


def text_estimate(text: str) -> int:
    """Tokens of a text at four characters each, as providers reckon for English; never 0."""
    return max(1, -(-len(text) // _CHARACTERS_PER_TOKEN))


def prompt_estimate(request: Request) -> int:
    """Tokens of the messages by `text_estimate`."""
    return sum(text_estimate(message.content) for message in request.messages)


def estimated_tokens(request: Request) -> int:
    """The most that a call is reckoned to use: its messages by `prompt_estimate`, and all of `max_tokens`."""
    return prompt_estimate(request) + request.sampling.max_tokens


class RateLimit:
    """One limit that several models of a process share, in any event loop.

    Requests and tokens go out evenly: no more than a second's worth, or one request, at once. In each case first come
    is first served.

    Tokens are reserved by estimate. The library cannot give back what was reserved too much, so `settle` carries the
    difference over to the next reservations; of what was too much, at most a minute's worth.

    Args:
        requests_per_minute: None for no limit.
        tokens_per_minute: None for no limit; tokens read and written together.

    Raises:
        MissingExtra: a limit is asked for, and aiolimiter is not installed.
    """

    def __init__(self, requests_per_minute: int | None, tokens_per_minute: int | None) -> None:
        self.rates = (requests_per_minute, tokens_per_minute)
        # A limiter of the library belongs to the event loop that it was first used in.
        self._buckets: WeakKeyDictionary[asyncio.AbstractEventLoop, _Buckets] = WeakKeyDictionary()
        if any(self.rates):
            _limiter(1)

    async def reserve(self, tokens: int) -> None:
        """Wait until a request of so many tokens may be sent."""
        if any(self.rates):
            await self._here().reserve(tokens)

    def settle(self, reserved: int, usage: Usage) -> None:
        """Correct what `reserve` took by what was used; nothing where the server does not count."""
        used = usage.prompt_tokens + usage.completion_tokens
        if any(self.rates) and used:
            self._here().owe(used - reserved)

    def _here(self) -> _Buckets:
        loop = asyncio.get_running_loop()
        if loop not in self._buckets:
            self._buckets[loop] = _Buckets(*self.rates)
        return self._buckets[loop]


class _Buckets:
    """The limiters of one event loop."""

    def __init__(self, requests_per_minute: int | None, tokens_per_minute: int | None) -> None:
        self._requests = _limiter(requests_per_minute) if requests_per_minute else None
        self._tokens = _limiter(tokens_per_minute) if tokens_per_minute else None
        self._most_credit = tokens_per_minute or 0
        self._owed = 0
        # The library serves small amounts first, and long prompts might wait for ever.
        self._turn = asyncio.Lock()

    async def reserve(self, tokens: int) -> None:
        async with self._turn:
            if self._requests is not None:
                await self._requests.acquire()
            if self._tokens is not None:
                left = float(max(0, tokens + self._owed))
                self._owed = min(0, tokens + self._owed)
                while left > 0:
                    part = min(left, self._tokens.max_rate)
                    await self._tokens.acquire(part)
                    left -= part

    def owe(self, tokens: int) -> None:
        self._owed = max(self._owed + tokens, -self._most_credit)


def _limiter(per_minute: int) -> AsyncLimiter:
    try:
        from aiolimiter import AsyncLimiter
    except ImportError:
        raise MissingExtra("aiolimiter", "endpoint") from None
    at_once = max(1.0, per_minute / _MINUTE_S)
    return AsyncLimiter(at_once, at_once * _MINUTE_S / per_minute)


# A limit lives as long as a model that keeps it.
_SHARED: WeakValueDictionary[tuple[str, str, str], RateLimit] = WeakValueDictionary()


def shared_limit(
    base_url: str, model: str, key: str, *, requests_per_minute: int | None, tokens_per_minute: int | None
) -> RateLimit:
    """The limit of one model on one server under one key: the same one for all who ask while any of them keeps it.

    Raises:
        InputError: somebody keeps it at other rates.
        MissingExtra: a limit is asked for, and aiolimiter is not installed.
    """
    rates: Rates = (requests_per_minute, tokens_per_minute)
    limit = _SHARED.get((base_url, model, key))
    if limit is None:
        limit = _SHARED[base_url, model, key] = RateLimit(*rates)
    refuse_two_limits(base_url, model, limit.rates, rates)
    return limit


def refuse_two_limits(base_url: str, model: str, before: Rates, rates: Rates) -> None:
    """Raise InputError unless a model is limited as it was `before`."""
    if before != rates:
        raise InputError(
            f"{model} on {base_url} is limited in two ways: {_in_words(before)}, and {_in_words(rates)}.",
            mend="write the same requests_per_minute and tokens_per_minute wherever this model is named.",
        )


def _in_words(rates: Rates) -> str:
    named = zip(rates, ("requests", "tokens"), strict=True)
    return " and ".join(f"{rate} {what} per minute" for rate, what in named if rate) or "not at all"
