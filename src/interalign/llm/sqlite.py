"""SQLite files that several threads and processes write at once, and their errors in words that say how to mend them.

What always holds: a block in `transaction` is written as a whole or not at all, and the connection can be used again
after it failed.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interalign.errors import InputError, StorageError
from interalign.messages import Value
from interalign.run import storage_errors

__all__ = ["Wording", "connect", "transaction", "translated", "unusable", "use_wal"]

_BUSY_S = 60.0
_UNREADABLE = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})


class Wording(Value):
    """How errors speak of one kind of file."""

    name: str
    """What it is called, before its path: "The journal"."""
    unreadable: str
    """How one that cannot be read is mended."""
    kept: str
    """What a full disk has not taken: "paid answers are kept"."""
    read_only: str | None = None
    """How one that must not be written is mended, where there is more to say than that its folder is to be written."""


def connect(path: Path, wording: Wording) -> sqlite3.Connection:
    """A connection to the file at `path`, made when it is missing, for threads to share under a lock of their own.

    Each statement stands alone unless it is in a `transaction`.

    Raises:
        StorageError: the folder or the file cannot be made.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with translated(path, wording):
        return sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)


def use_wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log, in which readers and a writer do not wait for each other."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            # SQLite does not wait here by itself when two processes make the same new file at once.
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    # In WAL mode this loses no row when the process is killed; only a power cut can take the latest ones.
    connection.execute("PRAGMA synchronous = NORMAL")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """What is written in the block is written as a whole or, on an error, not at all."""
    # IMMEDIATE waits for other writers at the start; a read that turns into a write would fail without waiting.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A full disk may have ended the transaction already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def translated(path: Path, wording: Wording) -> Iterator[None]:
    """SQLite's errors in the block as interalign's, in the words for this kind of file.

    Raises:
        InputError: the file is damaged, or is no SQLite file.
        StorageError: the disk is full, another process holds the file, or it cannot be written.
    """
    try:
        yield
    except sqlite3.ProgrammingError:
        # A connection used after it was closed, for one: a mistake in the program, which no user can mend.
        raise
    except sqlite3.DatabaseError as error:
        code = _code(error)
        if code in _UNREADABLE:
            raise unusable(path, wording, str(error)) from error
        raise StorageError(
            f"{wording.name} {path} cannot be written: {error}.", mend=_mend(code, path, wording)
        ) from error


def unusable(path: Path, wording: Wording, why: str) -> InputError:
    """The error for a file that is there and cannot be read."""
    return InputError(f"{wording.name} {path} cannot be read: {why}.", mend=wording.unreadable)


def _mend(code: int | None, path: Path, wording: Wording) -> str:
    if code == sqlite3.SQLITE_FULL:
        return f"free some space on the disk of {path.parent} and run the same command again: {wording.kept}."
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "end the other process that holds it, and run the same command again."
    if code == sqlite3.SQLITE_READONLY and wording.read_only:
        return wording.read_only
    return f"make sure that {path.parent} is a folder that can be written, and run the same command again."


def _code(error: sqlite3.Error) -> int | None:
    # The low byte is the kind of error; the rest tells variants apart.
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
