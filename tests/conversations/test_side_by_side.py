from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from interalign.conversations.side_by_side import as_done
from interalign.errors import Interrupted


async def all_of(works: list[Callable[[], Coroutine[Any, Any, int]]], at_once: int, into: list[int]) -> None:
    async for one in as_done(works, at_once):
        into.append(one)


def test_no_more_are_open_than_may_be() -> None:
    open_now, most = 0, 0

    async def work(number: int) -> int:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0)
        open_now -= 1
        return number

    done: list[int] = []
    asyncio.run(all_of([partial(work, number) for number in range(20)], 3, done))
    assert sorted(done) == list(range(20)) and most == 3


def test_what_is_done_is_given_out_before_the_stop() -> None:
    begun: list[int] = []

    async def work(number: int) -> int:
        begun.append(number)
        if number == 2:
            raise Interrupted("Stopped.")
        await asyncio.sleep(0.01)
        return number

    done: list[int] = []
    with pytest.raises(Interrupted):
        asyncio.run(all_of([partial(work, number) for number in range(20)], 4, done))
    assert begun == [0, 1, 2, 3] and sorted(done) == [0, 1, 3]


def test_an_error_cancels_the_others() -> None:
    cancelled: list[int] = []

    async def work(number: int) -> int:
        if number == 0:
            raise ValueError("wrong")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    with pytest.raises(ValueError, match="wrong"):
        asyncio.run(all_of([partial(work, number) for number in range(3)], 3, []))
    assert sorted(cancelled) == [1, 2]
