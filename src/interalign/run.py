"""The run folder, files that appear whole or not at all, and seeds.

A stage is done when its output file exists. That is true only because every file is written beside its place and
moved there in one step: a killed process leaves the file of before, or none. One process at a time works in a run
folder; the lock is the operating system's, so it ends with the process that holds it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import socket
import tomllib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, overload

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from interalign.errors import InputError, RunBusy, RunMismatch, StorageError
from interalign.messages import Value

__all__ = [
    "RunFolder",
    "Shelf",
    "Stored",
    "beside",
    "derive_seed",
    "read_json",
    "read_jsonl",
    "storage_errors",
    "write_json",
    "write_jsonl",
    "write_text",
    "writing",
]

V = TypeVar("V", bound=Value)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CLOSED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_IN_THE_WAY = frozenset({errno.EEXIST, errno.ENOTDIR, errno.EISDIR})
_UNFINISHED = re.compile(r"\.interalign-[0-9a-f]{16}-.+")
_BEGUN = frozenset({"recipe.toml", "versions.json", "import_problems.jsonl"})
"""What stands in a run folder before anything is made: what was asked for, with what, and faults of files read."""
_TABLES = {
    "world": "personas.jsonl",
    "pool": "pool",
    "simulate": "trees.jsonl",
    "preferences": "preferences",
    "train": "models",
    "train.induction": "models/induction",
    "train.sft": "models/sft",
    "train.dpo": "models/dpo",
    "train.iterated": "rounds",
    "train.grpo": "models/grpo",
    "benchmark": "eval",
}
"""What the stages leave, by the tables of the recipe that decide it; the longest name counts."""
_NEVER_SETTLED = ("benchmark.models", "benchmark.in_flight")
"""Keys that may change whatever has been made: further models to test join those that were tested."""
_ABSENT = "(absent)"
_WRITTEN_BY = {
    "personas.jsonl": "personas compose",
    "heldout.jsonl": "personas compose",
    "trees.jsonl": "simulate",
    "evaluation.json": "eval",
    "summary.json": "eval",
    "verdicts.jsonl": "eval",
}
"""Of files that other commands read: the command that writes them."""

_KEYS_SHOWN = 8


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to, whose file is gone at the end of the block.

    The folder is made when it is missing. The suffix is kept, since some writers choose their format by it.

    Raises:
        StorageError: the folder cannot be made.
    """
    # A link is followed, so that what is written can be moved to where it points.
    target = path.resolve() if path.is_symlink() else path
    place = target.with_name(f".interalign-{secrets.token_hex(8)}-{target.name}")
    with storage_errors(path):
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield place
    finally:
        # On a disk that cannot be written even this fails, and must not hide the reason.
        with suppress(OSError):
            place.unlink()


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; the file moves to `path` when the block ends without an error.

    The folder is made when it is missing, and the suffix is kept. After an error nothing is left behind and what stood
    at `path` is untouched.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    with storage_errors(path), beside(path) as place:
        yield place
        _sync(place)
        # A link stays, and the file that it points to changes.
        os.replace(place, path.resolve() if path.is_symlink() else path)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's errors about a full or closed disk into a StorageError about `path`."""
    try:
        yield
    except OSError as error:
        elsewhere = isinstance(error.filename, str) and Path(error.filename).parent != path.parent
        where = f" ({error.filename})" if elsewhere else ""
        what = f"{path} cannot be written: {error.strerror}{where}."
        if error.errno in _FULL:
            raise StorageError(
                what,
                mend=f"free some space on the disk of {path.parent} and run the same command again: "
                "finished work is kept.",
            ) from error
        if error.errno in _CLOSED:
            raise StorageError(
                what,
                mend=f"make {path.parent} writable, or choose another folder with --out.",
            ) from error
        if error.errno in _IN_THE_WAY:
            raise StorageError(what, mend="move away what is there, or choose another place with --out.") from error
        if error.errno == errno.ENOENT:
            # Folders are made as they are needed, so this is a place where none can be.
            raise StorageError(what, mend="choose another place with --out.") from error
        raise


def _sync(path: Path) -> None:
    # Without this a power cut can leave an empty file under the final name. Windows wants a handle that may write.
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, with its line ends as they are; raises StorageError."""
    with writing(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, obj: object) -> None:
    """Write `obj` (plain data, values, or values within plain data) as indented JSON; raises StorageError.

    NaN and infinity are refused with a ValueError: what is undefined is None.
    """
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    write_text(path, text + "\n")


def _plain(obj: object) -> object:
    if isinstance(obj, BaseModel):
        return obj.model_dump(mode="json")
    if isinstance(obj, os.PathLike):
        return os.fspath(obj)
    raise TypeError(f"{type(obj).__name__} cannot be written as JSON")


def write_jsonl(path: Path, values: Iterable[Value]) -> None:
    """Write one value per line as UTF-8, one at a time, so `values` may be longer than memory; raises StorageError."""
    with writing(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        file.writelines(value.model_dump_json() + "\n" for value in values)


def read_json(path: Path, kind: type[V]) -> V:
    """The one value of a JSON file.

    Raises:
        InputError: the file is missing or cannot be read, or holds no `kind`.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.", mend=f"check the path, or {_first(path)}.") from None
    except (OSError, ValidationError) as error:
        why = _in_words(error) if isinstance(error, ValidationError) else error.strerror
        raise InputError(
            f"{path} cannot be read: {why}.", mend="delete it and run the stage that writes it again."
        ) from error


def read_jsonl(path: Path, kind: type[V]) -> list[V]:
    """The values of a JSONL file, in the order of its lines. Blank lines are skipped.

    Raises:
        InputError: the file is missing or cannot be read, or a line is not UTF-8, not JSON, or not a `kind`.
    """
    with _read_errors(path), path.open("rb") as file:
        # Bytes end a line at \n only; text would also do so at \r, which may stand inside one.
        return [_read_line(line, path, number, kind) for number, line in enumerate(file, 1) if line.strip()]


class Stored(Sequence[V]):
    """The values of a JSONL file, in the order of its lines. They stay in the file: each is read as it is asked for.

    What is kept are 16 bytes a line. Blank lines are skipped. The file must stay as it is meanwhile; it is held open
    by no more than an iteration under way. A value that cannot be read is found when it is asked for.

    Raises:
        InputError: the file is missing or cannot be read; later, it has changed, or a line is no value of the kind.
    """

    def __init__(self, path: Path, kind: type[V]) -> None:
        self._path = path
        self._kind = kind
        self._starts = array("Q")
        self._numbers = array("Q")
        with _read_errors(path), path.open("rb") as file:
            self._state = _state(file)
            start = 0
            for number, line in enumerate(file, 1):
                if line.strip():
                    self._starts.append(start)
                    self._numbers.append(number)
                start += len(line)

    def __repr__(self) -> str:
        return f"Stored({str(self._path)!r}, {self._kind.__name__})"

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> V: ...

    @overload
    def __getitem__(self, index: slice) -> Stored[V]: ...

    def __getitem__(self, index: int | slice) -> V | Stored[V]:
        if isinstance(index, slice):
            return self.picked(range(*index.indices(len(self))))
        start, number = self._starts[index], self._numbers[index]
        with self._opened() as file:
            file.seek(start)
            return _read_line(file.readline(), self._path, number, self._kind)

    def __iter__(self) -> Iterator[V]:
        with self._opened() as file:
            for start, number in zip(self._starts, self._numbers, strict=True):
                file.seek(start)
                yield _read_line(file.readline(), self._path, number, self._kind)

    def picked(self, places: Iterable[int]) -> Stored[V]:
        """The values at these places, in their order, which stay in the file as well."""
        some = copy(self)
        some._starts, some._numbers = array("Q"), array("Q")
        for place in places:
            some._starts.append(self._starts[place])
            some._numbers.append(self._numbers[place])
        return some

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        with _read_errors(self._path), self._path.open("rb") as file:
            if _state(file) != self._state:
                raise InputError(f"{self._path} has changed while it was read.", mend="run the same command again.")
            yield file


class Shelf(Mapping[str, V]):
    """Stored values by a name that each has, in their order; of those with the same name the last one counts.

    All are read once, and then each again as it is asked for. Can be sent to another process that sees the file.

    Raises:
        InputError: as `Stored`.
    """

    def __init__(self, values: Stored[V], name: Callable[[V], str]) -> None:
        self._values = values
        self._places = {name(value): place for place, value in enumerate(values)}

    def __getitem__(self, name: str) -> V:
        return self._values[self._places[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    # Mapping's own reads a value to find out.
    def __contains__(self, name: object) -> bool:
        return name in self._places


def _first(path: Path) -> str:
    """Which command writes a file of a run."""
    command = _WRITTEN_BY.get(path.name)
    return f"run `interalign {command}` first" if command else "run the stage that writes this file first"


def _state(file: IO[bytes]) -> tuple[int, int]:
    """What is another when a file has been changed or replaced."""
    stat = os.fstat(file.fileno())
    return stat.st_size, stat.st_mtime_ns


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.", mend=f"check the path, or {_first(path)}.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", mend="check the path and its rights.") from error


def _read_line(line: bytes, path: Path, number: int, kind: type[V]) -> V:
    try:
        # Some editors begin a file with a byte order mark.
        return kind.model_validate_json(line.rstrip().decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        wrong = f"byte {error.start + 1} is not UTF-8 text"
        mend = "save the file as UTF-8"
    except ValidationError as error:
        wrong = _in_words(error)
        mend = "mend this line"
    raise InputError(
        f"{path}, line {number}: {wrong}.", mend=f"{mend}, or delete the file and run the stage that writes it again."
    )


def _in_words(error: ValidationError) -> str:
    """The first thing that is wrong, as `field.subfield: what`, and how many more there are."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    # A row is parsed alone, so pydantic's own line number is always 1 and would mislead.
    what = re.sub(r" at line \d+ column (\d+)$", r" at column \1", first["msg"].removeprefix("Value error, "))
    where = ".".join(map(str, first["loc"]))
    more = error.error_count() - 1
    return (f"{where}: " if where else "") + what.rstrip(".") + (f" (and {more} more)" if more else "")


def derive_seed(run_seed: int, *parts: str | int) -> int:
    """A seed in [0, 2**63) for one place in a run, such as (persona id, turn, role, sample).

    It depends on its arguments alone, so the order in which work finishes changes nothing. The encoding keeps the
    borders and the types of the parts: ("ab", "c"), ("a", "bc") and (1,), ("1",) all have seeds of their own.
    """
    canonical = json.dumps([run_seed, *parts], separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:8]) >> 1


@dataclass(frozen=True)
class RunFolder:
    """Where one run keeps its files. Reading needs only the paths; work that writes goes through `open`."""

    root: Path

    @classmethod
    @contextmanager
    def open(
        cls,
        path: Path,
        recipe: str,
        *,
        versions: Mapping[str, str],
        free: Sequence[str] = (),
        kept: str | None = None,
    ) -> Iterator[RunFolder]:
        """Hold the run folder at `path` for this process; it is made on first use.

        Args:
            path: The folder.
            recipe: The resolved recipe as TOML. It is written on first use and compared, value by value, later. A table
                may change until a stage that it decides has begun (`begin`), and all of it until anything is made.
            free: Beginnings of dotted keys that may change all the same, as where work goes on in another way.
            versions: Package to version, written to `versions.json`; it describes the last use of the folder.
            kept: What the recipe in the folder says with every key spelled out, where an older version wrote fewer.

        Raises:
            RunBusy: another process, or another part of this one, holds the folder.
            RunMismatch: the folder was made by a recipe with other values.
            InputError: a recipe is not TOML, or `path` is a file.
            StorageError: the folder cannot be written.
        """
        folder = cls(Path(path))
        if folder.root.exists() and not folder.root.is_dir():
            raise InputError(f"{path} is a file, not a folder.", mend="choose another folder with --out.")
        with _locked(folder.root):
            _settle_recipe(folder.root, recipe, free, kept)
            _remove_unfinished(folder.root)
            write_json(folder.root / "versions.json", dict(versions))
            yield folder

    def begin(self, *tables: str) -> bool:
        """Say that a stage has begun which these tables of the recipe decide: from now on they must not change.

        Returns:
            Whether none of these had begun before.
        """
        first = not any(_marker(self.root, table).exists() for table in tables)
        for table in tables:
            write_text(_marker(self.root, table), "")
        return first

    def withdraw(self, *tables: str) -> None:
        """Say that nothing came of a stage, or that what it had made is gone: its tables may change again."""
        for table in tables:
            with storage_errors(self.root):
                _marker(self.root, table).unlink(missing_ok=True)

    @property
    def pool(self) -> Path:
        """Folder of the pool that personas were paired from: descriptions, candidates, calls, figures."""
        return self.root / "pool"

    @property
    def personas(self) -> Path:
        """Personas to train on."""
        return self.root / "personas.jsonl"

    @property
    def heldout(self) -> Path:
        """Personas that only evaluation may see."""
        return self.root / "heldout.jsonl"

    @property
    def trees(self) -> Path:
        """Conversation trees."""
        return self.root / "trees.jsonl"

    @property
    def preferences(self) -> Path:
        """Folder of preference tables."""
        return self.root / "preferences"

    @property
    def models(self) -> Path:
        """Folder with one checkpoint folder per trained model."""
        return self.root / "models"

    @property
    def eval(self) -> Path:
        """Folder with one folder of verdicts per model."""
        return self.root / "eval"

    @property
    def report(self) -> Path:
        """The report page."""
        return self.root / "report.html"

    @property
    def pool_report(self) -> Path:
        """The page of the persona pool."""
        return self.root / "pool.html"

    @property
    def simulation_report(self) -> Path:
        """The page of a simulation that language models played."""
        return self.root / "simulation.html"

    @property
    def journal(self) -> Path:
        """The journal of model calls."""
        return self.root / "journal.sqlite"


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    # The holder's name stands in a file of its own: on some systems a locked file cannot be read.
    holder = root / ".holder.json"
    with storage_errors(root / ".lock"):
        root.mkdir(parents=True, exist_ok=True)
        # Any thread may end the run that another one began.
        lock = FileLock(root / ".lock", thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise RunBusy(
                f"{root} is in use by {_holder_in_words(holder)}.",
                mend="wait until it is done, or choose another folder with --out.",
            ) from None
    try:
        write_json(holder, {"pid": os.getpid(), "host": socket.gethostname()})
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
        lock.release()


def _holder_in_words(holder: Path) -> str:
    try:
        named = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {named['pid']} on {named['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        # The holder has taken the lock and not yet written its name, or is just leaving.
        return "another process"


def _remove_unfinished(root: Path) -> None:
    """Remove what killed processes left half written; safe under the lock only."""
    for path in root.rglob(".interalign-*"):
        if _UNFINISHED.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def _settle_recipe(root: Path, recipe: str, free: Sequence[str], kept: str | None) -> None:
    now = _parsed(recipe, "The resolved recipe")
    path = root / "recipe.toml"
    if not path.exists():
        write_text(path, recipe)
        return
    try:
        before = _parsed(path.read_text(encoding="utf-8") if kept is None else kept, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read: {error}.", mend="restore the file, or choose another folder with --out."
        ) from error
    differences = _differences(before, now)
    if not free and _was_trial(root, before):
        # What scripts have played stands in nobody's way. (With `free` keys, work goes on with what is there.)
        free = ("simulate.",)
    settled = (
        []
        if _nothing_made(root)
        else [one for one in differences if not one.startswith(tuple(free)) and _is_settled(root, one)]
    )
    if differences and not settled:
        write_text(path, recipe)
    elif differences:
        differences = settled
        more = len(differences) - _KEYS_SHOWN
        shown = "; ".join(differences[:_KEYS_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise RunMismatch(
            f"{root} was made by a recipe with other values: {shown}.",
            mend="put the old values back, or choose another folder with --out.",
        )


def _is_settled(root: Path, difference: str) -> bool:
    """Whether a stage that the changed key decides has begun."""
    key = difference.partition(":")[0]
    table = next((one for one in sorted(_TABLES, key=len, reverse=True) if f"{key}.".startswith(f"{one}.")), key)
    if table == "name" or key.startswith(_NEVER_SETTLED):
        # A name is shown, and decides nothing.
        return False
    return table not in _TABLES or (root / _TABLES[table]).exists() or _marker(root, table).exists()


def _was_trial(root: Path, recipe: Mapping[str, Any]) -> bool:
    """Whether scripts played all roles of a simulation by this recipe, and no model was trained on it."""
    roles = recipe.get("simulate", {}).get("roles", {}).values()
    players = [one["model"]["backend"] for role in roles for one in role["models"]]
    return bool(players) and set(players) == {"scripted"} and not (root / _TABLES["train"]).exists()


def _marker(root: Path, table: str) -> Path:
    return root / f".begun-{table}"


def _nothing_made(root: Path) -> bool:
    # Hidden files are the lock's and those of killed processes.
    return all(
        path.name in _BEGUN or path.name.startswith(".") or (path.is_dir() and not path.is_symlink())
        for path in root.rglob("*")
    )


def _parsed(text: str, what: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(
            f"{what} is not TOML: {error}.", mend="restore the file, or choose another folder with --out."
        ) from error


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """`dotted.key: old -> new` for every key that is not the same in both, in the order of the keys."""
    old, new = dict(_flat(before)), dict(_flat(now))
    return [
        f"{key}: {old.get(key, _ABSENT)} -> {new.get(key, _ABSENT)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def _flat(table: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    # Values become text here: text tells true from 1, and NaN equals itself.
    for key, value in table.items():
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            yield from _flat(dict(enumerate(value)), f"{prefix}{key}.")
        elif isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False, default=str)
