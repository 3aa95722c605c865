"""The journal: every model call is a row, written before its answer is used.

Resume is replay. A run that was killed asks the same questions again, and those that were paid for are answered from
here. What always holds:

* the first answer written under a key stays; who comes later gets that one, so two processes see the same run;
* an answer that `journalled` has returned can be read again after the process is killed;
* each answer stands with the name that its model was asked under, which a server may give another: prices are known by
  either. Rows from before the journal told that name do not tell it.

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
from typing import Any, NamedTuple, TypeAlias

from pydantic import ValidationError

from interalign.errors import InputError
from interalign.llm.limits import text_estimate
from interalign.llm.model import Answer, ChatModel, Request, Usage, call_key
from interalign.llm.sqlite import Wording, connect, transaction, translated, unusable, use_wal

__all__ = ["Call", "Journal", "Paid", "journalled"]

# "ialn" in ASCII: marks the file as ours among all SQLite files.
_APPLICATION = 0x69616C6E
_FORMAT = 2
_WITHOUT_NAMES = 1
"""The format before: the same table without `asked`."""
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS calls (key TEXT PRIMARY KEY, request TEXT NOT NULL, answer TEXT NOT NULL, asked TEXT)
"""
_ADD_NAMES = "ALTER TABLE calls ADD COLUMN asked TEXT"
_INSERT = "INSERT INTO calls (key, request, answer, asked) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
_ROWS = "SELECT rowid, key, request, answer, asked FROM calls WHERE rowid > ? ORDER BY rowid LIMIT ?"
# What is left out of the answer's own JSON is read as 0; a damaged row is none that could be replayed.
_PAID = """
    SELECT rowid, key, asked, json_extract(answer, '$.model'), json_extract(answer, '$.usage.prompt_tokens'),
        json_extract(answer, '$.usage.cached_tokens'), json_extract(answer, '$.usage.completion_tokens'),
        json_extract(request, '$.messages'), json_extract(answer, '$.text')
    FROM calls WHERE json_valid(answer) AND json_valid(request) AND rowid > ? ORDER BY rowid LIMIT ?
"""
_AT_ONCE = 500
_WORDING = Wording(
    name="The journal",
    unreadable="restore it from a copy, or move it away (with its -wal and -shm files) and run the same command again; "
    "without it, answers are asked for, and paid, again.",
    kept="paid answers are kept",
)

_Row: TypeAlias = tuple[str, str, str, str | None]
"""Key, request and answer as JSON, and the name that was asked."""


class Call(NamedTuple):
    """A call that was answered."""

    key: str
    request: Request
    answer: Answer
    asked: str | None = None
    """The name that the model was asked under; None where that is not known."""


class Paid(NamedTuple):
    """What a call in the journal used, without what was said."""

    key: str
    asked: str | None
    """The name that the model was asked under; None where the journal does not tell."""
    served: str
    """The name that the server gave."""
    usage: Usage
    estimated: bool
    """Whether the server did not count, so that the usage is reckoned at four characters a token."""


class _Errand(NamedTuple):
    """What a call waits for: the answer under a key, or that a call is written."""

    key: str
    call: Call | None
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

        A journal of the format before is brought to this one; what it holds stays as it is.

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

    def put(self, key: str, request: Request, answer: Answer, asked: str | None = None) -> Answer:
        """Keep `answer` under `key` unless there is one; returns the answer that the journal holds from now on.

        `asked` is the name that the model was asked under.
        """
        return self.put_many([Call(key, request, answer, asked)])[0]

    def put_many(self, calls: Iterable[Call]) -> list[Answer]:
        """Keep all calls or, on an error, none; returns what the journal holds for each, as `put` does."""
        rows = [(call.key, _request(call.request), _answer(call.answer), call.asked) for call in calls]
        if not rows:
            return []
        with self._lock, translated(self._path, _WORDING), transaction(self._connection):
            self._connection.executemany(_INSERT, rows)
            held = [self._read(row[0]) for row in rows]
        return [answer for answer in held if answer is not None]

    def take_in(self, other: Journal) -> None:
        """Keep what another journal holds and this one does not.

        Raises:
            InputError: a row of the other one holds no answer; rows before it may have been taken in.
            StorageError: the disk is full or cannot be written.
        """
        for rows in other._batches(_ROWS):
            new = [other._checked(row) for _, *row in rows if self.get(row[0]) is None]
            with self._lock, translated(self._path, _WORDING), transaction(self._connection):
                self._connection.executemany(_INSERT, new)

    def paid(self) -> Iterator[Paid]:
        """What each call in the journal used, in the order in which they were written."""
        for rows in self._batches(_PAID):
            for _, key, asked, served, prompt, cached, completion, messages, text in rows:
                known = bool(prompt or completion)
                usage = Usage(
                    prompt_tokens=(prompt or 0) if known else text_estimate(messages),
                    cached_tokens=cached or 0,
                    completion_tokens=(completion or 0) if known else text_estimate(text),
                )
                yield Paid(key, asked, served, usage, not known)

    def _batches(self, query: str) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of a query by row number, some at a time, so that the journal can be used meanwhile."""
        last = 0
        while True:
            with self._lock, translated(self._path, _WORDING):
                rows = self._connection.execute(query, (last, _AT_ONCE)).fetchall()
            if not rows:
                return
            yield rows
            last = rows[-1][0]

    def _checked(self, row: Sequence[Any]) -> _Row:
        key, request, answer, asked = row
        try:
            Request.model_validate_json(request)
            Answer.model_validate_json(answer)
        except ValidationError:
            raise unusable(self._path, _WORDING, f"row {key[:12]} holds no answer") from None
        return key, request, answer, asked

    async def _run(self, key: str, call: Call | None = None) -> Answer | None:
        """`get`, or `put` of a call, in a thread. The call is written even when the caller is cancelled."""
        loop = asyncio.get_running_loop()
        errand = _Errand(key, call, loop.create_future())
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
            held = iter(self.put_many(errand.call for errand in errands if errand.call is not None))
            return [self.get(errand.key) if errand.call is None else next(held) for errand in errands]
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
        return await self._journal._run(key, Call(key, request, answer, asked=self._model.name)) or answer


def _request(request: Request) -> str:
    # What was not wished for is left out, and the row is as it was before there was that wish.
    return request.model_dump_json(exclude=None if request.top_logprobs else {"top_logprobs"})


def _answer(answer: Answer) -> str:
    return answer.model_dump_json(exclude=None if answer.top else {"top"})


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
    version = _version(connection)
    if tables and application != _APPLICATION:
        raise unusable(path, _WORDING, "it is a database of another program")
    if tables and version not in (_WITHOUT_NAMES, _FORMAT):
        raise InputError(
            f"{path} was written by another version of interalign (format {version}, this one reads {_FORMAT}).",
            mend="use that version, or choose another folder with --out.",
        )
    use_wal(connection)
    if tables and version == _FORMAT:
        return
    with transaction(connection):
        # Another process may have done it meanwhile.
        if tables and _version(connection) == _WITHOUT_NAMES:
            connection.execute(_ADD_NAMES)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
        connection.execute(_SCHEMA)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
