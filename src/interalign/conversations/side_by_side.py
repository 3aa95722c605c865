"""Many pieces of work side by side, given out as they are done, and how they stop.

No more than a set number is open at once, whichever of them takes long. When the work is to stop, nothing further
begins; what is open comes to its end, or to where it stops itself, and what came to its end is given out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from itertools import islice
from typing import Any, TypeVar

from interalign.errors import StopWork

__all__ = ["as_done"]

T = TypeVar("T")


async def as_done(works: Iterable[Callable[[], Coroutine[Any, Any, T]]], at_once: int) -> AsyncGenerator[T, None]:
    """Yield what each of `works` returns, as soon as it has; they begin in their order.

    Raises:
        StopWork: one of them raised it; the others have ended, and their results were yielded before.
        Exception: whatever else one of them raises; the others are cancelled.
    """
    waiting = iter(works)
    under_way: set[asyncio.Task[T]] = set()
    stopped: list[StopWork] = []
    try:
        while True:
            room = 0 if stopped else at_once - len(under_way)
            under_way |= {_begun(work) for work in islice(waiting, room)}
            if not under_way:
                break
            done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            while done:
                # Taken off, so that a result that has been given out is not kept.
                ended = done.pop()
                error = ended.exception()
                if isinstance(error, StopWork):
                    stopped.append(error)
                else:
                    yield ended.result()
        if stopped:
            raise stopped[0]
    finally:
        for task in under_way:
            task.cancel()


def _begun(work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
    task = asyncio.create_task(work())
    # Where several fail at once, one is told; asyncio would complain that nobody looked at the others.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
