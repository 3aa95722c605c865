"""Persona files in and out: what others wrote becomes descriptions and personas, and a pool becomes a dataset folder.

What is read was written elsewhere, so it is data and nothing more. One bad record never ends the reading: it is a
problem with its place, and the records around it come in. A text that speaks to a language model is kept and named,
since personas stand delimited wherever a model reads them.

A record that carries the id of its content is one that interalign wrote. It comes back exactly as it stands, or not at
all; only records without such an id are cleaned.
"""

from __future__ import annotations

import csv
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any, TypeAlias, get_args

from pydantic import ValidationError

from interalign.errors import InputError, LeakError, MissingExtra
from interalign.messages import Value
from interalign.personas.description import KINDS, Description, Kind, Origin
from interalign.personas.persona import Persona, Split
from interalign.run import storage_errors, writing

__all__ = [
    "MAX_CHARACTERS",
    "Imported",
    "Problem",
    "addresses_a_model",
    "read_pool",
    "write_dataset",
    "write_descriptions_parquet",
]

MAX_CHARACTERS = 4000
"""The longest text that is taken for a description."""

_MAX_LINE = 1_000_000
_EXCERPT = 60
_ROWS_AT_A_TIME = 1024
_TEXTS = ("profile", "personality", "persona", "text")
_STRUCTURE = ("facts", "traits", "manner", "preferences", "voice")
_COLUMNS = frozenset({*_TEXTS, *_STRUCTURE, "id", "kind", "origin", "split"})
_SPLITS: tuple[Split, ...] = get_args(Split)
_CONTENT_ID = re.compile(r"[0-9a-f]{16}")
_SPACE = re.compile(r"\s*")
_LINE_BREAK = re.compile(r"\r\n?|[\v\f\x85]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_UNDECODED = re.compile(r"[\udc80-\udcff]")
_SET_APART = re.compile(r"(?<![a-z])(?:held[-_ ]?out|test)(?![a-z])", re.I)
_SET_APART_ALONE = re.compile(r"(?:held[-_ ]?out|test)(?:-\d+-of-\d+)?", re.I)
_LANGUAGE = re.compile(r"[a-z]{2,3}")

_UNREADABLE = "cannot be read"
_REMOVED = "texts from which control characters were removed"
_NO_SPLIT = "descriptions from a held-out split (a description has no split)"
_REPEATS = "records that repeat an earlier one"


class Problem(Value):
    """A record that was left out, or one that came in (`kept`) and should be looked at."""

    place: str
    """The file and the place in it: "profile.jsonl, line 6"."""
    what: str
    kept: bool = False


class Imported(Value):
    """What a file or folder held, in its order. `notes` say what is no fault and still worth knowing."""

    descriptions: tuple[Description, ...] = ()
    personas: tuple[Persona, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Source:
    """One file of records: how places in it are called, and what its name tells."""

    path: Path
    name: str
    kind: Kind | None
    split: Split | None


@dataclass(frozen=True)
class _Record:
    """One value of a file, not yet understood."""

    place: str
    value: object


@dataclass(frozen=True)
class _Tally:
    """Something that is counted, and told once with its number."""

    what: str


class _Refused(ValueError):
    """Why a record cannot be used."""


_Stored: TypeAlias = "_Record | Problem | str"
_Found: TypeAlias = "Description | Persona | Problem | _Tally | str"


def read_pool(path: Path, kind: Kind | None = None) -> Imported:
    """The descriptions and personas of a file or a dataset folder.

    A file is JSONL (`.jsonl`), CSV, Parquet, Arrow as `datasets` writes it, or plain text with one description a line
    (`.txt`); a folder is one that `save_to_disk` wrote, or one with data files as on the Hugging Face Hub. A record is
    a bare text or has fields, of which the others are ignored:

    - `profile` and `personality`: a persona; with only one of them, a description of that kind. A persona's further
      fields (`id`, `split`, `facts`, ...) are taken too, as JSON strings where a table holds them.
    - `persona`: a description, of the kind `profile` unless `kind` says otherwise.
    - `text`: a description of the kind that its own field `kind` names, else as a bare text.

    A line of JSON may hold several values. A split, or a file's name, that says `test` or `heldout` makes a persona
    held out.

    Args:
        path: A file or a folder.
        kind: The kind of bare texts. Without it the file's name tells: "personalit", "profile" or "persona" in it.

    Raises:
        InputError: the path does not exist, is of no known form, or holds no record that can be used.
        MissingExtra: Parquet or Arrow without pyarrow.
    """
    found = list(_read(path, kind))
    descriptions = tuple(one for one in found if isinstance(one, Description))
    personas = tuple(one for one in found if isinstance(one, Persona))
    problems = tuple(one for one in found if isinstance(one, Problem))
    if not descriptions and not personas:
        raise _unusable(path, problems)
    ids = [*(one.id for one in descriptions), *(one.id for one in personas)]
    tallies = Counter(one.what for one in found if isinstance(one, _Tally))
    tallies[_REPEATS] = len(ids) - len(set(ids))
    notes = [one for one in found if isinstance(one, str)]
    notes += [f"{what}: {number:,}" for what, number in tallies.items() if number]
    return Imported(descriptions=descriptions, personas=personas, problems=problems, notes=tuple(notes))


def _unusable(path: Path, problems: tuple[Problem, ...]) -> InputError:
    if not problems:
        return InputError(
            f"{path} holds no records.",
            mend="give a .jsonl, .csv, .parquet or .txt file with records in it, or a folder with such data files.",
        )
    first = problems[0]
    more = f" (and {len(problems) - 1:,} more)" if len(problems) > 1 else ""
    mend = "give records with the fields profile and personality, persona or text, in UTF-8."
    if any(_KINDLESS in problem.what for problem in problems):
        mend = "give --kind profile or --kind personality."
    elif first.what.startswith(_UNREADABLE):
        mend = "check the file and its rights, or save it again."
    return InputError(f"{path} holds no record that can be used: {first.place}: {first.what}{more}.", mend=mend)


def _read(path: Path, kind: Kind | None) -> Iterator[_Found]:
    try:
        sources = list(_sources(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", mend="check the path and its rights.") from error
    for source in sources:
        if source.split == "heldout":
            yield f"{source.name} counts as held-out by its name"
        for item in _stored(source):
            if isinstance(item, _Record):
                yield from _understood(item, source, kind)
            else:
                yield item


def _stored(source: _Source) -> Iterator[_Stored]:
    """What stands in one file; a file that is broken, as a whole or from some place on, is a problem at its end."""
    try:
        yield from _READERS[source.path.suffix.lower()](source)
    except _Refused as refused:
        yield Problem(place=source.name, what=str(refused))
    except OSError as error:
        yield Problem(place=source.name, what=f"{_UNREADABLE}: {error.strerror or _shown(str(error))}")
    except Exception as error:
        # pyarrow is imported where it is used, so its errors have no name here.
        if not isinstance(error, UnicodeDecodeError) and not type(error).__module__.startswith("pyarrow"):
            raise
        yield Problem(place=source.name, what=f"{_UNREADABLE}: {_shown(str(error))}")


def _sources(path: Path) -> Iterator[_Source]:
    if path.is_dir():
        # Training personas first, as the rest of the package has them.
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
    apart = _SET_APART_ALONE.fullmatch(path.stem)
    yield _Source(path, _printable_name(path.name), _kind_by_name(path.stem), "heldout" if apart else None)


def _of_folder(folder: Path) -> Iterator[_Source]:
    is_split = (folder / "state.json").is_file()
    saved = [folder] if is_split else _saved_splits(folder)
    paths = _saved_files(saved) if saved else _data_files(folder)
    whole = is_split and _SET_APART_ALONE.fullmatch(folder.name)
    for path in paths:
        inside = path.relative_to(folder)
        apart = whole or _SET_APART.search(inside.with_suffix("").as_posix())
        kind = _kind_by_name(path.stem) or _kind_by_name(folder.name)
        yield _Source(path, _printable_name(inside.as_posix()), kind, "heldout" if apart else None)


def _saved_splits(folder: Path) -> list[Path]:
    if not (folder / "dataset_dict.json").is_file():
        return []
    return sorted(state.parent for state in folder.glob("*/state.json"))


def _saved_files(folders: list[Path]) -> list[Path]:
    """The files that each `state.json` names: a folder that was saved to twice holds stale ones beside them."""
    return [folder / name for folder in folders for name in _named_by_state(folder / "state.json")]


def _named_by_state(state: Path) -> list[str]:
    try:
        # Only the name: a state file from elsewhere must not lead out of its folder.
        names = [Path(file["filename"]).name for file in json.loads(state.read_bytes())["_data_files"]]
        return [name for name in names if name.endswith(".arrow")]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{state} does not name the files of its dataset ({_shown(str(error))}).", mend="save the dataset again."
        ) from error


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


def _jsonl(source: _Source) -> Iterator[_Stored]:
    yield from _lines_of(source, _json_values)


def _text(source: _Source) -> Iterator[_Stored]:
    yield from _lines_of(source, _text_values)


def _lines_of(source: _Source, values_of: Callable[[str], list[object]]) -> Iterator[_Stored]:
    with source.path.open("rb") as file:
        for number, line in _lines(file):
            place = f"{source.name}, line {number}"
            try:
                text = _decoded(line)
                values = values_of(text) if text else []
            except _Refused as refused:
                yield Problem(place=place, what=str(refused))
                continue
            if len(values) > 1:
                what = "strings" if all(isinstance(value, str) for value in values) else "records"
                yield f"{place} holds {len(values)} {what}"
            for index, value in enumerate(values, 1):
                yield _Record(f"{place}, value {index}" if len(values) > 1 else place, value)


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
        raise _Refused(f"is longer than {_MAX_LINE:,} bytes")
    try:
        # Files that were put one after the other have a byte order mark at each beginning.
        return line.decode("utf-8").strip().lstrip("\ufeff").lstrip()
    except UnicodeDecodeError as error:
        raise _Refused(f"byte {error.start + 1} is not UTF-8 text") from None


def _json_values(text: str) -> list[object]:
    """All values of a line. If one of them is broken the line is: its first part may be cut at a stray quote."""
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
        raise _Refused(f"is not JSON: {error.msg.removesuffix(' at')} at column {error.pos + 1}") from None
    except (ValueError, RecursionError):
        # Numbers of thousands of digits, brackets in brackets in brackets.
        raise _Refused("is not JSON that can be read") from None
    return values


def _text_values(text: str) -> list[object]:
    """The line itself, unless it is JSON under a plain name."""
    if text.startswith(('"', "{")):
        try:
            return _json_values(text)
        except _Refused:
            if text.startswith('{"'):
                raise
    return [text]


def _csv(source: _Source) -> Iterator[_Stored]:
    # Bytes that are no text come through as lone surrogates, so that they spoil their own cell only.
    with source.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        header: list[str] | None = None
        for place, cells in _csv_rows(source.name, file):
            if isinstance(cells, Problem):
                yield cells
            elif header is None:
                header = [_key(cell) for cell in cells]
                _check_columns(header)
            elif len(cells) > len(header):
                # A comma outside quotation marks: the text would end at it.
                yield Problem(place=place, what=f"has {len(cells)} cells where the header has {len(header)}")
            else:
                yield _Record(place, _as_fields(zip(header, cells, strict=False)))


def _csv_rows(name: str, file: IO[str]) -> Iterator[tuple[str, list[str] | Problem]]:
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
            yield place, Problem(place=place, what=f"is not CSV: {error}")
            if rows.line_num > line:
                # Inside a quotation that never closed, what follows would be cut at the wrong places.
                yield place, Problem(place=place, what="a quotation begins here and does not end; the rest is not read")
                return
        else:
            if any(cell.strip() for cell in cells):
                yield place, cells


def _check_columns(names: Iterable[str]) -> None:
    names = list(names)
    if not set(names) & set(_TEXTS):
        seen = ", ".join(_shown(name) for name in names[:8]) or "none"
        raise _Refused(f"has none of the columns {', '.join(_TEXTS)}; its columns: {seen}")


def _parquet(source: _Source) -> Iterator[_Stored]:
    _arrow_library()
    from pyarrow import parquet

    with source.path.open("rb") as file:
        table = parquet.ParquetFile(file)
        names = table.schema_arrow.names
        _check_columns(_key(name) for name in names)
        wanted = [name for name in names if _key(name) in _COLUMNS]
        yield from _rows(source, table.iter_batches(batch_size=_ROWS_AT_A_TIME, columns=wanted))


def _arrow(source: _Source) -> Iterator[_Stored]:
    _arrow_library()
    from pyarrow import ipc

    with source.path.open("rb") as file, ipc.open_stream(file) as stream:
        _check_columns(_key(name) for name in stream.schema.names)
        yield from _rows(source, map(_sound, stream))


def _sound(batch: Any) -> Any:
    # Nothing checks the offsets of a stream when it is opened; following false ones would end the process.
    batch.validate(full=True)
    return batch


def _rows(source: _Source, batches: Iterable[Any]) -> Iterator[_Record | Problem]:
    number = 0
    for batch in batches:
        names = [_key(name) for name in batch.schema.names]
        columns = [column for name, column in zip(names, batch.columns, strict=True) if name in _COLUMNS]
        kept = [name for name in names if name in _COLUMNS]
        for row in range(batch.num_rows):
            number += 1
            place = f"{source.name}, row {number}"
            try:
                values = [column[row].as_py() for column in columns]
            except UnicodeDecodeError:
                yield Problem(place=place, what="holds bytes that are not UTF-8 text")
            except (ValueError, OverflowError) as error:
                yield Problem(place=place, what=f"holds a value that cannot be read: {_shown(str(error))}")
            else:
                yield _Record(place, _as_fields(zip(kept, values, strict=True)))


def _arrow_library() -> Any:
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise MissingExtra("pyarrow", "train") from error
    return pyarrow


_READERS: dict[str, Callable[[_Source], Iterator[_Stored]]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".txt": _text,
}


def _key(name: object) -> str:
    return str(name).strip().casefold()


def _as_fields(pairs: Iterable[tuple[object, object]]) -> dict[str, object]:
    """Fields by lower-case name; of two with one name the first counts."""
    fields: dict[str, object] = {}
    for name, value in pairs:
        fields.setdefault(_key(name), value)
    return fields


_NAMES: dict[type, str] = {
    type(None): "nothing",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    bytes: "bytes",
}
_KINDLESS = "is a text without a kind"


def _understood(record: _Record, source: _Source, kind: Kind | None) -> Iterator[_Found]:
    value = record.value
    try:
        if isinstance(value, str):
            yield from _bare(record.place, value, source, kind)
        elif isinstance(value, dict):
            yield from _with_fields(record.place, _as_fields(value.items()), source, kind)
        else:
            raise _Refused(f"is {_called(value)}, not a text or an object")
    except _Refused as refused:
        yield Problem(place=record.place, what=str(refused))


def _with_fields(place: str, fields: dict[str, object], source: _Source, kind: Kind | None) -> Iterator[_Found]:
    if not any(name in fields for name in _TEXTS):
        raise _Refused(f"has none of the fields {', '.join(_TEXTS)}")
    vouched = _identity(fields) is not None
    given = {name for name in _TEXTS if not _is_blank(fields.get(name)) or (vouched and fields.get(name))}
    if not given:
        raise _Refused("is empty")
    split, notes = _split(fields.get("split"), source)
    yield from notes
    if split == "heldout" and not {"profile", "personality"} <= given:
        yield _Tally(_NO_SPLIT)
    own = next((known for known in KINDS if fields.get("kind") == known), None)
    if own and "text" in given:
        yield from _own_description(place, own, fields)
    elif {"profile", "personality"} <= given:
        yield from _persona(place, fields, split)
    elif "profile" in given:
        yield from _description(place, "profile", fields["profile"])
    elif "personality" in given:
        yield from _description(place, "personality", fields["personality"])
    elif "persona" in given:
        yield from _description(place, kind or "profile", fields["persona"])
    else:
        yield from _bare(place, fields["text"], source, kind)


def _split(value: object, source: _Source) -> tuple[Split, list[_Tally]]:
    if _is_blank(value):
        return source.split or "train", []
    name = str(value).strip()
    if _SET_APART_ALONE.fullmatch(name):
        return "heldout", []
    return "train", [] if name.casefold() == "train" else [_Tally(f"records of the split {_shown(name)}, as train")]


def _bare(place: str, text: object, source: _Source, kind: Kind | None) -> Iterator[_Found]:
    kind = kind or source.kind
    if kind is None:
        # First whether it is a text at all: a kind would not mend the others.
        _cleaned(text)
        raise _Refused(f"{_KINDLESS}; --kind gives it one")
    yield from _description(place, kind, text)


def _description(place: str, kind: Kind, value: object) -> Iterator[_Found]:
    text, tallies = _cleaned(value)
    yield from tallies
    yield Description(kind=kind, text=text)
    yield from _speech(place, text)


def _own_description(place: str, kind: Kind, fields: dict[str, object]) -> Iterator[_Found]:
    origin: Origin = next((known for known in get_args(Origin) if fields.get("origin") == known), "imported")
    identity = _identity(fields)
    if identity is None:
        text, tallies = _cleaned(fields["text"])
        yield from tallies
        yield Description(kind=kind, text=text, origin=origin)
    else:
        text = _as_it_stands(fields["text"])
        try:
            yield Description(id=identity, kind=kind, text=text, origin=origin)
        except ValidationError as error:
            raise _Refused(_in_words(error)) from None
        yield from _untidy(place, text)
    yield from _speech(place, text)


def _persona(place: str, fields: dict[str, object], split: Split) -> Iterator[_Found]:
    structure = {name: fields[name] for name in _STRUCTURE if not _is_blank(fields.get(name))}
    identity = _identity(fields)
    if identity is None:
        profile, in_profile = _cleaned(fields["profile"])
        personality, in_personality = _cleaned(fields["personality"])
        yield from in_profile or in_personality
        persona = Persona(split=split, profile=profile, personality=personality)
        try:
            persona = _structured(persona, structure)
        except _Refused as refused:
            # Other people's traits and preferences have other forms; the texts say what matters.
            yield Problem(place=place, what=f"kept: without its {', '.join(structure)}: {refused}", kept=True)
    else:
        profile, personality = _as_it_stands(fields["profile"]), _as_it_stands(fields["personality"])
        persona = _structured(Persona(split=split, profile=profile, personality=personality), structure, identity)
        yield from _untidy(place, persona.profile)
        yield from _untidy(place, persona.personality)
    yield persona
    yield from _speech(place, "\n".join([persona.profile, persona.personality, *_words_of(persona)]))


def _structured(persona: Persona, structure: dict[str, object], identity: str = "") -> Persona:
    """The persona with its structure, checked against the id if there is one."""
    fields = {name: _from_cell(name, value) for name, value in structure.items()}
    try:
        whole = Persona.model_validate({**persona.model_dump(), **fields, "id": identity})
    except ValidationError as error:
        raise _Refused(_in_words(error)) from None
    length = sum(map(len, _words_of(whole)))
    if length > MAX_CHARACTERS:
        raise _Refused(f"its facts and traits are {length:,} characters long, more than {MAX_CHARACTERS:,}")
    return whole


def _from_cell(name: str, value: object) -> object:
    """Structure as it stands in JSON, or out of the JSON string that a table holds."""
    if not isinstance(value, str):
        return value
    try:
        values = _json_values(value)
    except _Refused as refused:
        raise _Refused(f"{name} {refused}") from None
    return values[0] if len(values) == 1 else values


def _words_of(persona: Persona) -> list[str]:
    """The words that stand in a persona's structure."""
    facts = [word for fact in persona.facts for word in (fact.slot, fact.term, fact.key)]
    return [*facts, *(trait.name for trait in persona.traits), *persona.voice.keys(), *persona.voice.values()]


def _identity(fields: dict[str, object]) -> str | None:
    """The id if it is one of ours; other people's numbers and names for their records say nothing."""
    value = fields.get("id")
    return value if isinstance(value, str) and _CONTENT_ID.fullmatch(value) else None


def _cleaned(value: object) -> tuple[str, list[_Tally]]:
    """The text without control characters and without space around it, and whether there were any of those.

    Raises:
        _Refused: it cannot be a description.
    """
    text, removed = _CONTROL.subn("", _LINE_BREAK.sub("\n", _as_text(value)))
    text = text.strip()
    fault = _fault(text)
    if fault is not None:
        raise _Refused(fault)
    return _within_limit(text), [_Tally(_REMOVED)] if removed else []


def _as_it_stands(value: object) -> str:
    return _within_limit(_as_text(value))


def _as_text(value: object) -> str:
    if not isinstance(value, str):
        raise _Refused(f"holds {_called(value)}, not a text")
    if _SURROGATE.search(value):
        undecoded = "bytes that are not UTF-8 text"
        raise _Refused(f"holds {undecoded if _UNDECODED.search(value) else 'half a character (a lone surrogate)'}")
    return value


def _within_limit(text: str) -> str:
    if len(text) > MAX_CHARACTERS:
        raise _Refused(f"is {len(text):,} characters long, more than {MAX_CHARACTERS:,}")
    return text


def _fault(text: str) -> str | None:
    if not text.strip():
        return "is empty"
    return None if any(map(str.isalpha, text)) else "holds no letters"


def _untidy(place: str, text: str) -> Iterator[Problem]:
    """What would have been mended or refused, had the text no id that vouches for it."""
    fault = _fault(text) or ("holds control characters" if _CONTROL.search(text) else None)
    if fault is not None:
        yield Problem(place=place, what=f"kept: {fault}", kept=True)


def _speech(place: str, text: str) -> Iterator[Problem]:
    words = addresses_a_model(text)
    if words is not None:
        yield Problem(place=place, what=f"kept: speaks to a language model: {_shown(words)}", kept=True)


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _called(value: object) -> str:
    return _NAMES.get(type(value), f"a {type(value).__name__}")


def _shown(text: str) -> str:
    """A piece of foreign text that is safe on a terminal and in a report: quoted, short, on one line."""
    text = text if len(text) <= _EXCERPT else text[: _EXCERPT - 1] + "…"
    return '"' + "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text) + '"'


def _in_words(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    what = first["msg"].removeprefix("Value error, ")
    return "".join(char for char in (f"{where}: {what}" if where else what) if not _SURROGATE.match(char))


_MODEL = (
    r"(?:ai|a\.i\.|artificial intelligence|(?:(?:ai|large|small) )?language model|llm|chat ?bot|gpt(?:-\d\S{0,4})?)"
)
_MODEL_NOUN = rf"{_MODEL}(?: (?:assistant|model|system|chat ?bot|agent))?"
_START = r"(?:^|[.!?:;\n\"'(>*#\]-] ?|\b(?:please|now|must|should|shall|you|and then|instead) )"
_OBEYED = (
    r"(?:instruct\w*|prompts?|rules?|guidelines?|directions|directives?|commands?|orders|messages?|programming|context)"
)

_ADDRESSES = re.compile(
    "|".join(
        [
            # Marks of chat templates, and tags that stand for the parts of a prompt.
            r"<\|[^<>|\n]{1,40}\|>",
            r"\[/?inst\]|<</?sys>>|<(?:start|end)_of_turn>|<(?:bos|eos)>",
            r"</?(?:system|assistant|user|human|instructions?|prompt|think|persona|profile|personality|"
            r"examples?|outlines?)(?: [^<>\n]{0,60})?/?>",
            r"(?<!#)#{2,6} ?(?:new |system |your )?"
            r"(?:instructions?|system|prompt|response|assistant|human|user|input|output)\b",
            r"(?:^|\n) ?(?:system|assistant|human|user) ?: ?\S",
            # Orders to leave earlier orders.
            r"\b(?:ignore|disregard|forget|override|overrule|bypass)\b (?:\w+ ){0,3}?"
            rf"(?:previous|prior|above|earlier|preceding|foregoing|system|original)\b (?:\w+ ){{0,2}}?{_OBEYED}\b",
            r"\b(?:ignore|disregard|forget) (?:everything|anything|all(?: of)?(?: the)?|the) "
            r"(?:(?:that |which )?(?:is |was |came |comes |written |said )*(?:above|before this|so far)\b)",
            rf"{_START}(?:ignore|disregard|forget|override|overrule|bypass) (?:all|any|every|these|those|your|the)\b "
            rf"(?:\w+ ){{0,3}}?{_OBEYED}\b",
            r"\b(?:ignoriere|vergiss) (?:\w+ ){0,3}?(?:anweisung|vorgabe|instruktion)\w*",
            r"\b(?:ignorez|ignore|oubliez|oublie) (?:\w+ ){0,3}?(?:instructions|consignes) (?:\w+ )?pr[eé]c[eé]dent\w*",
            r"\b(?:ignora|ignore|olvida|olvide) (?:\w+ ){0,3}?(?:instrucciones|istruzioni|instruções)",
            r"(?:忽略|无视|忘记|無視)[^。\n]{0,12}(?:指令|指示|提示|说明)",
            # What a model is, is told to be, or is asked to show.
            r"(?<!that )(?<!if )(?<!when )(?<!because )(?<!where )(?<!as )(?<!whether )(?<!feel )(?<!like )"
            r"\byou are (?:now|no longer)\b",
            rf"\byou(?: are|'re) (?:now )?an? (?:\w+ ){{0,2}}?{_MODEL_NOUN}\b(?! \w+er\b)",
            r"\byou(?: are|'re) (?:now )?an? (?:\w+ ){0,2}?(?:helpful|virtual|digital|unbiased|impartial) "
            r"(?:assistant|judge|evaluator|grader)\b",
            rf"\b(?:as|i(?: am|'m)(?: just| only)?) an? {_MODEL_NOUN}(?=[,.;:!?)]|$|\n| (?:i|i'm|you|my|your|it)\b)",
            r"\b(?:as an? |i(?: am|'m) an? )(?:ai|(?:ai |large )?language) (?:language )?model\b(?! \w+er\b)",
            r"\b(?:your|the|this|above|previous|hidden|initial) (?:\w+ )?system (?:prompt|message)\b",
            r"\bsystem prompt ?:",
            r"\bfrom now on,? (?:you\b|only\b|always\b|never\b|act\b|respond\b|answer\b|reply\b|speak\b|pretend\b)",
            r"\b(?:developer|dan|god) mode (?:enabled|on|activated|output)\b|\bdo anything now\b",
            r"\b(?:new|updated|real|actual) (?:system )?instructions? ?:",
            r"\b(?:dear|hey|hello|hi|note to|attention,?|message (?:to|for)) (?:the )?"
            rf"(?:{_MODEL_NOUN}|assistant|judge) ?[,:!.]",
            # Orders about the answer, the score and the pool.
            rf"{_START}(?:only (?:respond|reply|answer|output|return|print)|"
            r"(?:respond|reply|answer|output|return|print) only)\b",
            rf"{_START}(?:do not|don't|never) "
            r"(?:break character|refuse (?:to )?(?:answer|comply)|reveal (?:your|this|these))",
            rf"{_START}(?:act|behave|respond|answer|reply) as (?:an? |if |though )",
            rf"{_START}(?:pretend (?:to be|you)|imagine you are|roleplay|role-play|repeat after me)\b",
            rf"{_START}(?:reveal|print|output|repeat|show|leak) (?:me )?(?:your|the|this|all) (?:\w+ ){{0,2}}?"
            r"(?:prompt|instructions|system message|configuration)\b",
            rf"{_START}(?:give|assign|award|rate|score|grade) (?:\w+ ){{0,4}}?(?:repl(?:y|ies)|responses?|answers?|"
            r"assistant|conversation)\b[^.\n]{0,30}\b(?:5|five|10|ten|full|top|highest|maximum|perfect)\b",
            rf"{_START}(?:generate|create|write|invent|produce) (?:me )?"
            r"(?:(?:an?|the|some|more|new|\d+|five|ten|twenty) )"
            r"(?:\w+ ){0,3}?(?:personas?|profiles?|personalit(?:y|ies)|descriptions)\b",
        ]
    ),
    re.IGNORECASE,
)
_TAG = re.compile(r"[\U000e0020-\U000e007e]")
_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"'})
_BLANKS = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r" ?\n[ \n]*")


def addresses_a_model(text: str) -> str | None:
    """The first words of `text` that speak to a language model instead of describing a person; None without any.

    Found are orders to drop earlier instructions, chat template marks and prompt tags, "as an AI", orders about the
    answer or the score, and the like; mostly in English. Letters that look alike to a reader (full-width forms,
    letters hidden in invisible characters or between them) count as what they stand for.
    """
    legible = _legible(text)
    # Some marks count at the beginning of a line only; other words may be broken over two.
    found = _ADDRESSES.search(legible) or _ADDRESSES.search(legible.replace("\n", " "))
    return found.group().strip(" \n.:;!?(*-") or found.group() if found else None


def _legible(text: str) -> str:
    visible = _TAG.sub(lambda tag: chr(ord(tag.group()) - 0xE0000), text)
    visible = "".join(char for char in visible if unicodedata.category(char) not in {"Cf", "Cs"})
    visible = unicodedata.normalize("NFKC", visible).translate(_QUOTES)
    return _BLANK_LINES.sub("\n", _BLANKS.sub(" ", _LINE_BREAK.sub("\n", visible))).strip()


def write_dataset(folder: Path, personas: Sequence[Persona], facts: Mapping[str, str]) -> None:
    """Write personas as a folder that `datasets.load_dataset` and `read_pool` load as it is.

    `data/train.parquet` and `data/heldout.parquet` have the columns `id`, `profile` and `personality`, and those of
    `facts`, `traits`, `manner`, `preferences` and `voice` that any persona has, as JSON strings. A split without
    personas has no file. `README.md` is the dataset card. Files of an earlier dataset in the folder are replaced.

    Args:
        folder: Where to write.
        personas: Their own `split` tells the file.
        facts: How they were made, for the card ("generator": "..."). `language` is the ISO 639 code of the texts, "en"
            if it is not given.

    Raises:
        InputError: there are no personas, or the language is no ISO 639 code.
        LeakError: the same persona is in both splits.
        StorageError: the disk is full or cannot be written.
        MissingExtra: pyarrow is not installed.
    """
    if not personas:
        raise InputError("There are no personas to write.", mend="make or import personas first.")
    by_split = {split: [persona for persona in personas if persona.split == split] for split in _SPLITS}
    both = set.intersection(*({persona.id for persona in members} for members in by_split.values()))
    if both:
        raise LeakError(
            f"{len(both)} personas are in both splits, {min(both)} among them.", mend="keep each in one split only."
        )
    card = _card({split: len(members) for split, members in by_split.items() if members}, facts)
    structure = [name for name in _STRUCTURE if any(getattr(persona, name) for persona in personas)]
    columns = ("id", "profile", "personality", *structure)
    _arrow_library()
    with ExitStack() as files:
        # All are written before the first one moves to its place, so that a full disk changes nothing.
        files.enter_context(writing(folder / "README.md")).write_text(card, encoding="utf-8", newline="")
        for split, members in by_split.items():
            if members:
                beside = files.enter_context(writing(_split_file(folder, split)))
                _to_parquet(beside, columns, [_row(persona, structure) for persona in members])
        for split, members in by_split.items():
            if not members:
                with storage_errors(_split_file(folder, split)):
                    _split_file(folder, split).unlink(missing_ok=True)


def _split_file(folder: Path, split: Split) -> Path:
    return folder / "data" / f"{split}.parquet"


def write_descriptions_parquet(path: Path, descriptions: Sequence[Description]) -> None:
    """Write descriptions as a table with the columns `id`, `kind`, `text` and `origin`.

    Raises:
        InputError: there are no descriptions.
        StorageError: the disk is full or cannot be written.
        MissingExtra: pyarrow is not installed.
    """
    if not descriptions:
        raise InputError("There are no descriptions to write.", mend="make or import descriptions first.")
    rows = [description.model_dump(mode="json") for description in descriptions]
    with writing(path) as beside:
        _to_parquet(beside, ("id", "kind", "text", "origin"), rows)


def _row(persona: Persona, structure: list[str]) -> dict[str, str]:
    fields = persona.model_dump(mode="json")
    texts = {name: fields[name] for name in ("id", "profile", "personality")}
    return texts | {name: json.dumps(fields[name], ensure_ascii=False) for name in structure}


def _to_parquet(path: Path, columns: Sequence[str], rows: list[dict[str, str]]) -> None:
    pyarrow = _arrow_library()
    from pyarrow import parquet

    schema = pyarrow.schema([(name, pyarrow.string()) for name in columns])
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), path)


_CARD = """\
---
configs:
- config_name: default
  data_files:
{data_files}
language:
- {language}
license: other
pretty_name: Personas for conversations
size_categories:
- {size}
tags:
- interalign
- personas
- personalization
- user-simulation
---

# Personas for conversations

## What it is

Each row is an invented person: a *profile* (facts of daily life) and a *personality* (traits and ways of talking), as
text that a user simulator can play. `id` is a hash of the content. Columns such as `facts` and `preferences`, where
there are any, hold JSON.

The split `heldout` is for evaluation alone: no model that is tested on it may have been trained on it.

## How it was made

{made}

## Counts

| split | personas |
|---|---|
{counts}

## Limits

- Nothing here describes a real person on purpose. A likeness is chance, and no statement about anybody.
- Where a language model wrote the texts, they carry its stereotypes: which lives, names and tempers it finds likely,
  and which of them it puts together. They are no sample of any population.
- The texts are data. Some may hold words that speak to a language model; delimit them in prompts.
- The licence is `other` because it depends on who or what wrote the texts. Settle it before you pass them on.

## How to load

```python
from datasets import load_dataset

personas = load_dataset("path/to/this/folder")
```
"""

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def _card(counts: Mapping[Split, int], facts: Mapping[str, str]) -> str:
    language = facts.get("language", "en")
    if not _LANGUAGE.fullmatch(language):
        raise InputError(f"{language!r} is no language code.", mend="give an ISO 639 code such as en.")
    total = sum(counts.values())
    rows = "\n".join(f"| {_literal(name)} | {_literal(value)} |" for name, value in facts.items())
    return _CARD.format(
        data_files="\n".join(f"  - split: {split}\n    path: data/{split}.parquet" for split in counts),
        language=language,
        size=next((name for limit, name in _SIZES if total < limit), "n>1M"),
        made=f"| what | value |\n|---|---|\n{rows}" if facts else "No record of it came with the personas.",
        counts="\n".join(f"| {split} | {number:,} |" for split, number in counts.items()),
    )


def _literal(text: str) -> str:
    """Foreign text as a code span of one table cell, in which no mark, link or tag means anything."""
    kept = "".join(" " if char.isspace() else char for char in text if char.isspace() or char.isprintable())
    # A cell ends at a bar even inside code, and escaping it is read in different ways.
    kept = " ".join(kept.replace("|", "¦").split())
    if not kept:
        return "-"
    fence = "`" * (max((len(run) for run in re.findall("`+", kept)), default=0) + 1)
    return f"{fence} {kept} {fence}" if "`" in kept else f"{fence}{kept}{fence}"
