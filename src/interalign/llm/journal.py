"""The journal: every model call is a row, written before its answer is used.

Resume is replay. A run that was killed asks the same questions again, and those that were paid for are answered from
here. What always holds:

* the first answer written under a key stays; who comes later gets that one, so two processes see the same run;
* an answer that `journalled` has returned can be read again after the process is killed.

What concurrent calls want of the file is done by one thread at a time, as much of it together as has come meanwhile:
a thread and a transaction for each would cost more than the work itself.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias

from pydantic import ValidationError

from interalign.errors import InputError
from interalign.llm.model import Answer, ChatModel, Request, call_key
from interalign.llm.sqlite import Wording, connect, transaction, translated, unusable, use_wal

__all__ = ["Journal", "journalled"]

# "ialn" in ASCII: marks the file as ours among all SQLite files.
_APPLICATION = 0x69616C6E
_FORMAT = 1
_SCHEMA = "CREATE TABLE IF NOT EXISTS calls (key TEXT PRIMARY KEY, request TEXT NOT NULL, answer TEXT NOT NULL)"
_INSERT = "INSERT INTO calls (key, request, answer) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING"
_WORDING = Wording(
    name="The journal",
    unreadable="restore it from a copy, or move it away (with its -wal and -shm files) and run the same command again; "
    "without it, answers are asked for, and paid, again.",
    kept="paid answers are kept",
)

_Row: TypeAlias = tuple[str, Request, Answer]


class _Errand(NamedTuple):
    """What a call waits for: the answer under a key, or that a row is written."""

    key: str
    row: _Row | None
    done: asyncio.Future[Answer | None]


class Journal:
    """Answers by call key, in one SQLite file. Threads may share it, and several processes may open the same file.

    Make one with `Journal.open`.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._lock = threading.Lock()
        self._errands: list[_Errand] = []
        self._running = False
        self._errands_lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Journal({str(self._path)!r})"

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Journal]:
        """Open the journal at `path`, made when it is missing, and close it at the end of the block.

        Raises:
            InputError: the file is not a journal, is damaged, or was written by another version of interalign.
            StorageError: the disk is full or cannot be written.
        """
        path = Path(path)
        connection = connect(path, _WORDING)
        journal = cls(path, connection)
        try:
            with translated(path, _WORDING):
                _prepare(connection, path)
            yield journal
        finally:
            with journal._lock:
                connection.close()

    def __len__(self) -> int:
        with self._lock, translated(self._path, _WORDING):
            return int(self._connection.execute("SELECT count(*) FROM calls").fetchone()[0])

    def get(self, key: str) -> Answer | None:
        """The answer under `key`, or None when that call was never answered."""
        with self._lock, translated(self._path, _WORDING):
            return self._read(key)

    def put(self, key: str, request: Request, answer: Answer) -> Answer:
        """Keep `answer` under `key` unless there is one; returns the answer that the journal holds from now on."""
        return self.put_many([(key, request, answer)])[0]

    def put_many(self, rows: Iterable[_Row]) -> list[Answer]:
        """Keep all rows or, on an error, none; returns what the journal holds for each row, as `put` does."""
        encoded = [(key, request.model_dump_json(), answer.model_dump_json()) for key, request, answer in rows]
        if not encoded:
            return []
        with self._lock, translated(self._path, _WORDING), transaction(self._connection):
            self._connection.executemany(_INSERT, encoded)
            held = [self._read(key) for key, _, _ in encoded]
        return [answer for answer in held if answer is not None]

    async def _run(self, key: str, row: _Row | None = None) -> Answer | None:
        """`get`, or `put` of a row, in a thread. The row is written even when the caller is cancelled."""
        loop = asyncio.get_running_loop()
        errand = _Errand(key, row, loop.create_future())
        with self._errands_lock:
            if not self._running:
                # Submitted here and not in a task, which the end of the loop would cancel: it waits for threads.
                loop.run_in_executor(None, self._run_all)
                self._running = True
            self._errands.append(errand)
        return await errand.done

    def _run_all(self) -> None:
        while True:
            with self._errands_lock:
                errands, self._errands = self._errands, []
                self._running = bool(errands)
            if not errands:
                return
            outcomes = self._outcomes(errands)
            for loop in {errand.done.get_loop() for errand in errands}:
                # In a loop that is closed nobody waits.
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(_settle, loop, errands, outcomes)

    def _outcomes(self, errands: Sequence[_Errand]) -> list[Answer | Exception | None]:
        try:
            held = iter(self.put_many(errand.row for errand in errands if errand.row is not None))
            return [self.get(errand.key) if errand.row is None else next(held) for errand in errands]
        except Exception as error:
            # One by one, so that the error reaches only those whose it is.
            return [error] if len(errands) == 1 else [self._outcomes([errand])[0] for errand in errands]

    def _read(self, key: str) -> Answer | None:
        row = self._connection.execute("SELECT answer FROM calls WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        try:
            return Answer.model_validate_json(row[0])
        except ValidationError:
            raise unusable(self._path, _WORDING, f"row {key[:12]} holds no answer") from None


def journalled(model: ChatModel, journal: Journal) -> ChatModel:
    """`model`, answering from `journal` what was asked before, and writing there what is new before returning it.

    Two identical requests in flight at the same time ask once. A call that has begun is finished and written even
    when its caller is cancelled, as long as the event loop runs: it is paid for. Failures are not written, so they
    are asked again. The model that is returned belongs to one event loop.
    """
    return _Journalled(model, journal)


class _Journalled:
    def __init__(self, model: ChatModel, journal: Journal) -> None:
        self._model = model
        self._journal = journal
        self._in_flight: dict[str, asyncio.Task[Answer]] = {}

    def __repr__(self) -> str:
        return f"journalled({self._model!r}, {self._journal!r})"

    @property
    def name(self) -> str:
        return self._model.name

    async def complete(self, request: Request) -> Answer:
        key = call_key(self._model.name, request)
        task = self._in_flight.get(key)
        if task is None:
            task = self._in_flight[key] = asyncio.create_task(self._answer(key, request))
            task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(task)

    def _forget(self, key: str, done: asyncio.Task[Answer]) -> None:
        del self._in_flight[key]
        if not done.cancelled():
            # Every caller may have been cancelled meanwhile; asyncio would then complain that nobody looked.
            done.exception()

    async def _answer(self, key: str, request: Request) -> Answer:
        known = await self._journal._run(key)
        if known is not None:
            return known
        answer = await self._model.complete(request)
        return await self._journal._run(key, (key, request, answer)) or answer


def _settle(
    loop: asyncio.AbstractEventLoop, errands: Sequence[_Errand], outcomes: Sequence[Answer | Exception | None]
) -> None:
    """Tell those who wait in this loop."""
    for errand, outcome in zip(errands, outcomes, strict=True):
        if errand.done.get_loop() is not loop or errand.done.done():
            continue
        if isinstance(outcome, Exception):
            errand.done.set_exception(outcome)
        else:
            errand.done.set_result(outcome)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make a new file a journal, or check that an old one is."""
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if tables and application != _APPLICATION:
        raise unusable(path, _WORDING, "it is a database of another program")
    if tables and version != _FORMAT:
        raise InputError(
            f"{path} was written by another version of interalign (format {version}, this one reads {_FORMAT}).",
            mend="use that version, or choose another folder with --out.",
        )
    use_wal(connection)
    if not tables:
        with transaction(connection):
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {_FORMAT}")
            connection.execute(_SCHEMA)
