from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from interalign.errors import InputError, MissingExtra
from interalign.llm.limits import RateLimit, estimated_tokens, shared_limit
from interalign.llm.model import Request, Sampling, Usage
from interalign.messages import Message

T = TypeVar("T")


class _Selector:
    """Never sleeps: waiting for so long moves the clock by so much."""

    def __init__(self, loop: Clock, inner: Any) -> None:
        self._loop = loop
        self._inner = inner

    def select(self, timeout: float | None) -> Any:
        # As on a real clock, no two moments are the same.
        self._loop.now += max(timeout or 0, 1e-6)
        return self._inner.select(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Clock(asyncio.SelectorEventLoop):
    """An event loop in which time passes only while everybody waits."""

    now = 0.0

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Selector(self, self._selector)

    def time(self) -> float:
        return self.now


def on_clock(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=Clock) as runner:
        return runner.run(work)


async def times(limit: RateLimit, amounts: list[int]) -> list[float]:
    """When each reservation was granted, in seconds; all are asked for at once."""
    loop = asyncio.get_running_loop()
    start = loop.time()

    async def one(tokens: int) -> float:
        await limit.reserve(tokens)
        return round(loop.time() - start, 3)

    return await asyncio.gather(*map(one, amounts))


def most_in_a_minute(when: list[float]) -> int:
    return max(sum(start <= other < start + 60 for other in when) for start in when)


def test_tokens_are_estimated_by_characters_and_what_may_be_written() -> None:
    messages = (Message(role="system", content="12345"), Message(role="user", content="1234"))
    assert estimated_tokens(Request(messages=messages, sampling=Sampling(max_tokens=9))) == 2 + 1 + 9


@pytest.mark.parametrize("rate", [1, 30, 60, 90])
def test_no_more_requests_than_agreed_go_out_in_a_minute(rate: int) -> None:
    when = on_clock(times(RateLimit(rate, None), [10**9] * 100))
    assert when == sorted(when)
    # What may go at once, and what becomes free within the minute.
    assert rate <= most_in_a_minute(when) <= rate + max(1, rate // 60)


def test_tokens_go_out_evenly_and_in_order_even_when_one_request_takes_more_than_a_minute_allows() -> None:
    when = on_clock(times(RateLimit(None, 600), [5, 1200, 1, 60]))
    assert when == [0.0, pytest.approx(119.5, abs=0.2), pytest.approx(119.6, abs=0.2), pytest.approx(125.6, abs=0.2)]


def test_what_was_reserved_too_much_or_too_little_is_carried_over() -> None:
    async def after(used: int) -> float:
        limit = RateLimit(None, 600)
        await limit.reserve(300)
        limit.settle(300, Usage(prompt_tokens=used))
        loop = asyncio.get_running_loop()
        start = loop.time()
        await limit.reserve(300)
        return loop.time() - start

    # Ten tokens become free in a second.
    assert on_clock(after(300)) == pytest.approx(30, abs=0.2)
    assert on_clock(after(100)) == pytest.approx(10, abs=0.2)
    assert on_clock(after(400)) == pytest.approx(40, abs=0.2)
    assert on_clock(after(0)) == pytest.approx(30, abs=0.2)


def test_of_what_was_reserved_too_much_at_most_a_minutes_worth_is_carried_over() -> None:
    async def last() -> float:
        limit = RateLimit(None, 60)
        await limit.reserve(600)
        limit.settle(600, Usage(prompt_tokens=1))
        return (await times(limit, [60, 60]))[-1]

    assert on_clock(last()) == pytest.approx(60, abs=1)


def test_without_a_limit_nobody_waits() -> None:
    async def many() -> list[float]:
        limit = RateLimit(None, None)
        limit.settle(10, Usage(prompt_tokens=5))
        return await times(limit, [10**9] * 100)

    assert on_clock(many()) == [0.0] * 100


def test_a_limit_serves_one_event_loop_after_the_other() -> None:
    limit = RateLimit(60, 600)
    for _ in range(2):
        assert on_clock(times(limit, [10]))[0] == 0


def rates(requests: int | None = None, tokens: int | None = None) -> dict[str, int | None]:
    return {"requests_per_minute": requests, "tokens_per_minute": tokens}


def test_one_model_under_one_key_has_one_limit() -> None:
    one = shared_limit("http://a/v1", "m", "key", **rates(60))
    assert shared_limit("http://a/v1", "m", "key", **rates(60)) is one
    for other in (("http://b/v1", "m", "key"), ("http://a/v1", "n", "key"), ("http://a/v1", "m", "other")):
        assert shared_limit(*other, **rates(60)) is not one


def test_two_limits_for_one_model_are_refused_and_the_key_is_not_shown() -> None:
    first = shared_limit("http://a/v1", "m", "secret", **rates(60, 1000))
    with pytest.raises(InputError, match="60 requests per minute and 1000 tokens per minute, and not at all") as caught:
        shared_limit("http://a/v1", "m", "secret", **rates())
    assert "secret" not in str(caught.value)
    del first, caught
    gc.collect()
    assert shared_limit("http://a/v1", "m", "secret", **rates()).rates == (None, None)


def test_a_missing_package_is_named_where_there_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiolimiter", None)
    RateLimit(None, None)
    with pytest.raises(MissingExtra, match=r"'aiolimiter'.*interalign\[endpoint\]"):
        RateLimit(None, 1)
