"""Files and folders of records: each record as a raw value with its place, before anybody asks what it means.

A value comes with what its file's name tells of it. What cannot be read is a problem with its place, and whatever can
be read before and after it still comes.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import IO, Any, TypeAlias

from interalign.errors import InputError, MissingExtra
from interalign.messages import Value
from interalign.personas.description import Kind
from interalign.personas.persona import Split

__all__ = [
    "SET_APART",
    "STRUCTURE",
    "TEXTS",
    "UNREADABLE",
    "Note",
    "Problem",
    "Record",
    "Refused",
    "Source",
    "Stored",
    "arrow_library",
    "as_fields",
    "json_values",
    "shown",
    "stored",
]

TEXTS = ("profile", "personality", "persona", "text")
"""The fields that may hold a description; where a record has several, the first counts."""
STRUCTURE = ("facts", "traits", "manner", "preferences", "voice")
"""The fields of a persona's structured form."""
SET_APART = re.compile(r"(?:held[-_ ]?out|test)(?:-\d+-of-\d+)?", re.I)
"""A name of a split, or of its file, that is set apart from training."""
UNREADABLE = "cannot be read"
"""How a problem of a whole file begins."""

_COLUMNS = frozenset({*TEXTS, *STRUCTURE, "id", "kind", "origin", "split"})
_MAX_LINE = 1_000_000
_ROWS_AT_A_TIME = 1024
_EXCERPT = 60
_SPACE = re.compile(r"\s*")
_SET_APART_WITHIN = re.compile(r"(?<![a-z])(?:held[-_ ]?out|test)(?![a-z])", re.I)


class Problem(Value):
    """A record that was left out, or one that came in (`kept`) and should be looked at."""

    place: str
    """The file and the place in it: "profile.jsonl, line 6"."""
    what: str
    kept: bool = False


class Refused(ValueError):
    """Why a record, or what it stands in, cannot be used."""


@dataclass(frozen=True)
class Note:
    """What is no fault and still worth knowing. One that is `counted` is told once, with its number."""

    what: str
    counted: bool = False


@dataclass(frozen=True)
class Source:
    """One file of records: how places in it are called, and what its name tells."""

    path: Path
    name: str
    kind: Kind | None
    split: Split | None


@dataclass(frozen=True)
class Record:
    """One value of a file, not yet understood."""

    source: Source
    place: str
    value: object


Stored: TypeAlias = Record | Problem | Note


def stored(path: Path) -> Iterator[Stored]:
    """The records of a file or a folder, in its order, files for training first.

    A file that is broken, as a whole or from some place on, is a problem where it ends.

    Raises:
        InputError: the path does not exist, cannot be read, or is of no known form.
        MissingExtra: Parquet or Arrow without pyarrow.
    """
    try:
        sources = list(_sources(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", mend="check the path and its rights.") from error
    for source in sources:
        if source.split == "heldout":
            yield Note(f"{source.name} counts as held-out by its name")
        yield from _of_file(source)


def _of_file(source: Source) -> Iterator[Stored]:
    try:
        yield from _READERS[source.path.suffix.lower()](source)
    except Refused as refused:
        yield Problem(place=source.name, what=str(refused))
    except OSError as error:
        yield Problem(place=source.name, what=f"{UNREADABLE}: {error.strerror or shown(str(error))}")
    except Exception as error:
        # pyarrow is imported where it is used, so its errors have no name here.
        if not isinstance(error, UnicodeDecodeError) and not type(error).__module__.startswith("pyarrow"):
            raise
        yield Problem(place=source.name, what=f"{UNREADABLE}: {shown(str(error))}")


def _sources(path: Path) -> Iterator[Source]:
    if path.is_dir():
        yield from sorted(_of_folder(path), key=lambda source: source.split == "heldout")
        return
    if not path.exists():
        raise InputError(f"{path} does not exist.", mend="check the path.")
    if not path.is_file():
        raise InputError(f"{path} is neither a file nor a folder.", mend="check the path.")
    if path.suffix.lower() not in _READERS:
        raise InputError(
            f"{path} ends in {path.suffix or 'no suffix'}, which names no known form.",
            mend=f"give a file that ends in {', '.join(_READERS)}.",
        )
    apart = SET_APART.fullmatch(path.stem)
    yield Source(path, _printable_name(path.name), _kind_by_name(path.stem), "heldout" if apart else None)


def _of_folder(folder: Path) -> Iterator[Source]:
    is_split = (folder / "state.json").is_file()
    saved = [folder] if is_split else _saved_splits(folder)
    paths = [path for split in saved for path in _saved_files(split)] if saved else _data_files(folder)
    whole = is_split and SET_APART.fullmatch(folder.name)
    for path in paths:
        inside = path.relative_to(folder)
        apart = whole or _SET_APART_WITHIN.search(inside.with_suffix("").as_posix())
        kind = _kind_by_name(path.stem) or _kind_by_name(folder.name)
        yield Source(path, _printable_name(inside.as_posix()), kind, "heldout" if apart else None)


def _saved_splits(folder: Path) -> list[Path]:
    if not (folder / "dataset_dict.json").is_file():
        return []
    return sorted(state.parent for state in folder.glob("*/state.json"))


def _saved_files(folder: Path) -> list[Path]:
    """The files that `state.json` names: a folder that was saved to twice holds stale ones beside them."""
    state = folder / "state.json"
    try:
        # Only the name: a state file from elsewhere must not lead out of its folder.
        names = [Path(file["filename"]).name for file in json.loads(state.read_bytes())["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{state} does not name the files of its dataset ({shown(str(error))}).", mend="save the dataset again."
        ) from error
    return [folder / name for name in names if name.endswith(".arrow")]


def _data_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        # Plain text is left out here: beside data it is a licence or a list of packages.
        if path.suffix.lower() in _READERS.keys() - {".txt", ".arrow"}
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def _kind_by_name(name: str) -> Kind | None:
    name = name.casefold()
    if "personalit" in name:
        return "personality"
    return "profile" if "profile" in name or "persona" in name else None


def _printable_name(name: str) -> str:
    # A file's name may hold bytes that are no text, which no record could store.
    return os.fsencode(name).decode("utf-8", "replace")


def _from_lines(source: Source, values_of: Callable[[str], list[object]]) -> Iterator[Stored]:
    with source.path.open("rb") as file:
        for number, line in _lines(file):
            place = f"{source.name}, line {number}"
            try:
                text = _decoded(line)
                values = values_of(text) if text else []
            except Refused as refused:
                yield Problem(place=place, what=str(refused))
                continue
            if len(values) > 1:
                what = "strings" if all(isinstance(value, str) for value in values) else "records"
                yield Note(f"{place} holds {len(values)} {what}")
            for index, value in enumerate(values, 1):
                yield Record(source, f"{place}, value {index}" if len(values) > 1 else place, value)


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Line number and line; None for a line that is longer than any record, of which only a part is ever held."""
    for number in count(1):
        # Bytes end a line at \n only; text would also do so at \r, which may stand inside one.
        line = file.readline(_MAX_LINE)
        if not line:
            return
        if len(line) < _MAX_LINE or line.endswith(b"\n"):
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(_MAX_LINE)
        yield number, None


def _decoded(line: bytes | None) -> str:
    if line is None:
        raise Refused(f"is longer than {_MAX_LINE:,} bytes")
    try:
        # Files that were put one after the other have a byte order mark at each beginning.
        return line.decode("utf-8").strip().lstrip("\ufeff").lstrip()
    except UnicodeDecodeError as error:
        raise Refused(f"byte {error.start + 1} is not UTF-8 text") from None


def json_values(text: str) -> list[object]:
    """All values of a line. If one of them is broken the line is: its first part may be cut at a stray quote.

    Raises:
        Refused: it is not JSON.
    """
    decoder = json.JSONDecoder()
    values: list[object] = []
    at = 0
    try:
        while at < len(text):
            value, at = decoder.raw_decode(text, at)
            values.append(value)
            space = _SPACE.match(text, at)
            at = space.end() if space else at
    except json.JSONDecodeError as error:
        raise Refused(f"is not JSON: {error.msg.removesuffix(' at')} at column {error.pos + 1}") from None
    except (ValueError, RecursionError):
        # Numbers of thousands of digits, brackets in brackets in brackets.
        raise Refused("is not JSON that can be read") from None
    return values


def _text_values(text: str) -> list[object]:
    """The line itself, unless it is JSON under a plain name."""
    if text.startswith(('"', "{")):
        try:
            return json_values(text)
        except Refused:
            if text.startswith('{"'):
                raise
    return [text]


def _from_csv(source: Source) -> Iterator[Stored]:
    # Bytes that are no text come through as lone surrogates, so that they spoil their own cell only.
    with source.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        header: list[str] | None = None
        for row in _csv_rows(source.name, file):
            if isinstance(row, Problem):
                yield row
                continue
            place, cells = row
            if header is None:
                header = cells
                _check_columns(header)
            elif len(cells) > len(header):
                # A comma outside quotation marks: the text would end at it.
                yield Problem(place=place, what=f"has {len(cells)} cells where the header has {len(header)}")
            else:
                yield Record(source, place, as_fields(zip(header, cells, strict=False)))


def _csv_rows(name: str, file: IO[str]) -> Iterator[tuple[str, list[str]] | Problem]:
    """Rows that hold anything, each with the place where it begins."""
    rows = csv.reader(file)
    while True:
        line = rows.line_num + 1
        place = f"{name}, line {line}"
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Problem(place=place, what=f"is not CSV: {error}")
            if rows.line_num > line:
                # Inside a quotation that never closed, what follows would be cut at the wrong places.
                yield Problem(place=place, what="a quotation begins here and does not end; the rest is not read")
                return
        else:
            if any(cell.strip() for cell in cells):
                yield place, cells


def _from_parquet(source: Source) -> Iterator[Stored]:
    arrow_library()
    from pyarrow import parquet

    with source.path.open("rb") as file:
        table = parquet.ParquetFile(file)
        names = table.schema_arrow.names
        _check_columns(names)
        wanted = [name for name in names if _key(name) in _COLUMNS]
        yield from _rows(source, table.iter_batches(batch_size=_ROWS_AT_A_TIME, columns=wanted))


def _from_arrow(source: Source) -> Iterator[Stored]:
    arrow_library()
    from pyarrow import ipc

    with source.path.open("rb") as file, ipc.open_stream(file) as stream:
        _check_columns(stream.schema.names)
        yield from _rows(source, map(_sound, stream))


def _sound(batch: Any) -> Any:
    # Nothing checks the offsets of a stream when it is opened; following false ones would end the process.
    batch.validate(full=True)
    return batch


def _rows(source: Source, batches: Iterable[Any]) -> Iterator[Stored]:
    number = 0
    for batch in batches:
        columns = [
            (name, column)
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
            if _key(name) in _COLUMNS
        ]
        for row in range(batch.num_rows):
            number += 1
            place = f"{source.name}, row {number}"
            try:
                fields = as_fields((name, column[row].as_py()) for name, column in columns)
            except UnicodeDecodeError:
                yield Problem(place=place, what="holds bytes that are not UTF-8 text")
            except (ValueError, OverflowError) as error:
                yield Problem(place=place, what=f"holds a value that cannot be read: {shown(str(error))}")
            else:
                yield Record(source, place, fields)


def arrow_library() -> Any:
    """The package pyarrow; raises MissingExtra."""
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise MissingExtra("pyarrow", "personas") from error
    return pyarrow


_READERS: dict[str, Callable[[Source], Iterator[Stored]]] = {
    ".jsonl": partial(_from_lines, values_of=json_values),
    ".csv": _from_csv,
    ".parquet": _from_parquet,
    ".arrow": _from_arrow,
    ".txt": partial(_from_lines, values_of=_text_values),
}


def _check_columns(names: Iterable[object]) -> None:
    keys = [_key(name) for name in names]
    if not set(keys) & set(TEXTS):
        seen = ", ".join(map(shown, keys[:8])) or "none"
        raise Refused(f"has none of the columns {', '.join(TEXTS)}; its columns: {seen}")


def as_fields(pairs: Iterable[tuple[object, object]]) -> dict[str, object]:
    """Fields by lower-case name; of two with one name the first counts."""
    fields: dict[str, object] = {}
    for name, value in pairs:
        fields.setdefault(_key(name), value)
    return fields


def _key(name: object) -> str:
    return str(name).strip().casefold()


def shown(text: str) -> str:
    """A piece of foreign text that is safe on a terminal and in a report: quoted, short, on one line."""
    text = text if len(text) <= _EXCERPT else text[: _EXCERPT - 1] + "…"
    return '"' + "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text) + '"'
