"""What stops work with language models before its end: Ctrl-C, or a server that will answer nothing.

Ctrl-C comes in two steps: the first lets calls in flight end, since they are paid for, and the second stops at once.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.console import Console

from interalign.conversations.cast import Wrap
from interalign.errors import Interrupted, ModelError, Outage, StopWork
from interalign.llm.account import Account
from interalign.llm.endpoint import EndpointModel
from interalign.llm.journal import Journal, journalled
from interalign.llm.model import Answer, ChatModel, Request
from interalign.llm.scripted import ScriptedModel

__all__ = ["GO_ON", "Gate", "stop_told", "stopping", "wrapping"]

GO_ON = "run the same command again to go on from here."
_IN_A_ROW = 10
"""So many calls that fail one after the other, each after the client's own tries, with no answer of that model
between, are no matter of single conversations."""


class Gate:
    """Shut, it lets no further call begin."""

    def __init__(self) -> None:
        self.shut = False
        self._outage: StopWork | None = None
        self._failed: Counter[str] = Counter()
        """How many calls in a row, by model: where one server answers, another may be gone."""

    def check(self) -> None:
        """Raise Interrupted once the gate is shut, or Outage where a server has shut it."""
        if self._outage is not None:
            raise Outage(self._outage.what, mend=self._outage.mend)
        if self.shut:
            raise Interrupted("Stopped.", mend=GO_ON)

    def guarded(self, model: ChatModel) -> ChatModel:
        """`model`, behind this gate: raises Interrupted or Outage once the gate is shut."""
        return _Guarded(model, self)

    def watched(self, model: ChatModel) -> ChatModel:
        """`model`, which shuts the gate when its server will answer nothing, and then raises Outage.

        That is so when it says what it would say to any request, or when calls fail and fail.
        """
        return _Watched(model, self)

    def answered(self, name: str) -> None:
        """A model has answered."""
        self._failed[name] = 0

    def failed(self, name: str, error: ModelError) -> None:
        """A call of a model has failed; raises Outage where no other would fare better.

        A server that turns down this very request, or answers it with something of no use, is there. Such failures come
        again whenever a run is resumed, with the answers between them from the journal, and are never an outage.
        """
        if not error.lasting and (error.refused or error.unusable):
            self.answered(name)
        else:
            self._failed[name] += 1
        if self._outage is None and (error.lasting or self._failed[name] >= _IN_A_ROW):
            row = "" if error.lasting else f" ({self._failed[name]} calls in a row failed)"
            mend = f"{error.mend.rstrip('.')}; then {GO_ON}" if error.mend else GO_ON
            what = f"{error.what.rstrip('.')}{row}"
            self._outage = Outage(what if what.endswith("?") else f"{what}.", mend=mend)
            self.shut = True
        if self._outage is not None:
            self.check()


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


class _Watched:
    def __init__(self, model: ChatModel, gate: Gate) -> None:
        self._model = model
        self._gate = gate

    @property
    def name(self) -> str:
        return self._model.name

    async def complete(self, request: Request) -> Answer:
        try:
            answer = await self._model.complete(request)
        except ModelError as error:
            self._gate.failed(self.name, error)
            raise
        self._gate.answered(self.name)
        return answer


def stop_told(stop: StopWork, how_far: str) -> StopWork:
    """The same stop of work, which also says how far the work has come; one of the user says how to go on."""
    what = f"{stop.what} {how_far}"
    if isinstance(stop, Interrupted):
        # Wanted, so nothing is to be mended.
        return Interrupted(f"{what} {GO_ON[0].upper()}{GO_ON[1:]}")
    return type(stop)(what, mend=stop.mend)


def wrapping(journal: Journal, account: Account, gate: Gate) -> Wrap:
    """What goes around every model of a run: the journal, the account, and the gate."""

    def wrap(model: ChatModel, role: str, free: bool) -> ChatModel:
        if isinstance(model, EndpointModel):
            # A thousand calls may wait for a slot; they are not in flight yet.
            model.before_sending = gate.check
        if isinstance(model, ScriptedModel):
            # It costs nothing and says the same again; kept, a trial would count against the budget of the run.
            return account.metered(gate.guarded(model), role, free=free)
        # Inside the journal, whose answers say nothing of the server.
        return account.metered(gate.guarded(journalled(gate.watched(model), journal)), role, free=free)

    return wrap


@asynccontextmanager
async def stopping(console: Console) -> AsyncIterator[Gate]:
    """A gate that the first Ctrl-C shuts; a second one cancels the block, which then raises KeyboardInterrupt."""
    gate, loop, task = Gate(), asyncio.get_running_loop(), asyncio.current_task()
    at_once = asked = False

    def stop() -> None:
        nonlocal at_once, asked
        if asked:
            at_once = True
            if task is not None:
                task.cancel()
            return
        asked = gate.shut = True
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
