"""Ctrl-C, in two steps: the first lets calls in flight end, since they are paid for, and the second stops at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.console import Console

from interalign.errors import Interrupted
from interalign.llm.model import Answer, ChatModel, Request

__all__ = ["Gate", "stopping"]


class Gate:
    """Shut, it lets no further call begin."""

    def __init__(self) -> None:
        self.shut = False

    def check(self) -> None:
        """Raise Interrupted once the gate is shut."""
        if self.shut:
            raise Interrupted("Stopped.", mend="run the same command again to go on from here.")

    def guarded(self, model: ChatModel) -> ChatModel:
        """`model`, behind this gate: raises Interrupted once the gate is shut."""
        return _Guarded(model, self)


class _Guarded:
    def __init__(self, model: ChatModel, gate: Gate) -> None:
        self._model = model
        self._gate = gate

    @property
    def name(self) -> str:
        return self._model.name

    async def complete(self, request: Request) -> Answer:
        self._gate.check()
        return await self._model.complete(request)


@asynccontextmanager
async def stopping(console: Console) -> AsyncIterator[Gate]:
    """A gate that the first Ctrl-C shuts; a second one cancels the block, which then raises KeyboardInterrupt."""
    gate, loop, task = Gate(), asyncio.get_running_loop(), asyncio.current_task()
    at_once = False

    def stop() -> None:
        nonlocal at_once
        if gate.shut:
            at_once = True
            if task is not None:
                task.cancel()
            return
        gate.shut = True
        console.print("\nStopping: calls in flight are finished first; Ctrl-C again stops at once.", highlight=False)

    try:
        loop.add_signal_handler(signal.SIGINT, stop)
    except (NotImplementedError, RuntimeError, ValueError):
        # Windows, or a thread that is not the main one: there an interrupt stops at once.
        yield gate
        return
    try:
        yield gate
    except asyncio.CancelledError:
        if at_once:
            raise KeyboardInterrupt from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGINT)
