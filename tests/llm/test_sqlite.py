from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from interalign.errors import InputError, StorageError
from interalign.llm.sqlite import Wording, connect, transaction, translated, unusable, use_wal

WORDING = Wording(name="The ledger", unreadable="write a new one.", kept="entries are kept")
INSERT = "INSERT INTO entries VALUES (?)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[sqlite3.Connection]:
    connection = connect(path, WORDING)
    use_wal(connection)
    connection.execute("CREATE TABLE entries (entry TEXT NOT NULL)")
    yield connection
    connection.close()


def entries(connection: sqlite3.Connection) -> list[str]:
    return [entry for (entry,) in connection.execute("SELECT entry FROM entries")]


def test_a_transaction_is_written_as_a_whole_or_not_at_all(ledger: sqlite3.Connection, path: Path) -> None:
    with transaction(ledger):
        ledger.executemany(INSERT, [("a",), ("b",)])
    with pytest.raises(KeyError), transaction(ledger):
        ledger.execute(INSERT, ("c",))
        raise KeyError
    with pytest.raises(StorageError, match="NOT NULL"), translated(path, WORDING), transaction(ledger):
        ledger.executemany(INSERT, [("d",), (None,)])
    with transaction(ledger):
        ledger.execute(INSERT, ("e",))
    assert entries(ledger) == ["a", "b", "e"]


def test_a_reader_does_not_wait_for_a_writer(ledger: sqlite3.Connection, path: Path) -> None:
    other = connect(path, WORDING)
    other.execute("PRAGMA busy_timeout = 0")
    with transaction(ledger):
        ledger.execute(INSERT, ("a",))
        assert entries(other) == []
    assert entries(other) == ["a"]
    other.close()


def test_a_file_that_another_process_holds(ledger: sqlite3.Connection, path: Path) -> None:
    other = connect(path, WORDING)
    other.execute("PRAGMA busy_timeout = 0")
    with transaction(ledger), pytest.raises(StorageError) as caught, translated(path, WORDING), transaction(other):
        pass
    other.close()
    assert caught.value.what == f"The ledger {path} cannot be written: database is locked."
    assert caught.value.mend == "end the other process that holds it, and run the same command again."


def test_a_full_disk(ledger: sqlite3.Connection, path: Path) -> None:
    # SQLite's own limit stands in for the disk's: the error is the same.
    ledger.execute("PRAGMA max_page_count = 3")
    with pytest.raises(StorageError) as caught, translated(path, WORDING), transaction(ledger):
        ledger.execute(INSERT, ("x" * 100_000,))
    expected = f"free some space on the disk of {path.parent} and run the same command again: entries are kept."
    assert caught.value.mend == expected


@pytest.mark.parametrize(
    ("own", "mend"), [(None, "make sure that {} is a folder that can be written"), ("unlock it.", "unlock it.")]
)
def test_what_must_not_be_written(ledger: sqlite3.Connection, path: Path, own: str | None, mend: str) -> None:
    # Whoever runs the tests may be allowed to write every file; the error is the same.
    ledger.execute("PRAGMA query_only = ON")
    wording = WORDING.model_copy(update={"read_only": own})
    with pytest.raises(StorageError) as caught, translated(path, wording), transaction(ledger):
        ledger.execute(INSERT, ("a",))
    assert "readonly database" in caught.value.what
    assert (caught.value.mend or "").startswith(mend.format(path.parent))


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"The ledger .* cannot be written.*a folder that can be written"):
        connect(tmp_path, WORDING)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        connect(tmp_path / "file" / "ledger.sqlite", WORDING)


def test_what_cannot_be_read_says_how_it_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("This is no database, but it is long enough to be looked at. " * 40)
    connection = connect(path, WORDING)
    with pytest.raises(InputError) as caught, translated(path, WORDING):
        use_wal(connection)
    connection.close()
    expected = unusable(path, WORDING, "file is not a database")
    assert (caught.value.what, caught.value.mend) == (expected.what, expected.mend)
    assert expected.what == f"The ledger {path} cannot be read: file is not a database."
    assert expected.mend == "write a new one."


def test_a_closed_connection_is_a_mistake_of_the_program(path: Path) -> None:
    connection = connect(path, WORDING)
    connection.close()
    with pytest.raises(sqlite3.ProgrammingError), translated(path, WORDING):
        use_wal(connection)
