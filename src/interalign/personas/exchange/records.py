"""What a record means: raw values become descriptions and personas, or problems.

A text from elsewhere is cleaned of what no text needs; one whose id vouches for it stays as it is. Neither is ever
shortened or mended otherwise: a record comes in with its own words or is left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias, get_args

from pydantic import ValidationError

from interalign.errors import InputError
from interalign.messages import Value
from interalign.personas.description import KINDS, Description, Kind, Origin
from interalign.personas.exchange.containers import (
    SET_APART,
    STRUCTURE,
    TEXTS,
    UNREADABLE,
    Note,
    Problem,
    Record,
    Refused,
    as_fields,
    json_values,
    shown,
    stored,
)
from interalign.personas.persona import Persona, Split
from interalign.personas.speech import addresses_a_model

__all__ = ["MAX_CHARACTERS", "Imported", "read_pool"]

MAX_CHARACTERS = 4000
"""The longest text that is taken for a description."""

_CONTENT_ID = re.compile(r"[0-9a-f]{16}")
_LINE_BREAK = re.compile(r"\r\n?|[\v\f\x85]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_UNDECODED = re.compile(r"[\udc80-\udcff]")

_KINDLESS = "is a text without a kind"
_REMOVED = Note("texts from which control characters were removed", counted=True)
_NO_SPLIT = Note("descriptions from a held-out split (a description has no split)", counted=True)
_REPEATS = "records that repeat an earlier one"
_NAMES: dict[type, str] = {
    type(None): "nothing",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    bytes: "bytes",
}


class Imported(Value):
    """What a file or folder held, in its order. `notes` say what is no fault and still worth knowing."""

    descriptions: tuple[Description, ...] = ()
    personas: tuple[Persona, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


_Found: TypeAlias = Description | Persona | Problem | Note


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
    notes = [one for one in found if isinstance(one, Note)]
    counts = Counter(note.what for note in notes if note.counted)
    ids = [*(one.id for one in descriptions), *(one.id for one in personas)]
    counts[_REPEATS] = len(ids) - len(set(ids))
    told = [note.what for note in notes if not note.counted]
    told += [f"{what}: {number:,}" for what, number in counts.items() if number]
    return Imported(descriptions=descriptions, personas=personas, problems=problems, notes=tuple(told))


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
    elif first.what.startswith(UNREADABLE):
        mend = "check the file and its rights, or save it again."
    return InputError(f"{path} holds no record that can be used: {first.place}: {first.what}{more}.", mend=mend)


def _read(path: Path, kind: Kind | None) -> Iterator[_Found]:
    for item in stored(path):
        if not isinstance(item, Record):
            yield item
            continue
        try:
            yield from _understood(item, kind)
        except Refused as refused:
            yield Problem(place=item.place, what=str(refused))


def _understood(record: Record, kind: Kind | None) -> Iterator[_Found]:
    if isinstance(record.value, str):
        yield from _description(record.place, kind or record.source.kind, record.value)
    elif isinstance(record.value, dict):
        yield from _with_fields(record, as_fields(record.value.items()), kind)
    else:
        raise Refused(f"is {_called(record.value)}, not a text or an object")


def _with_fields(record: Record, fields: dict[str, object], kind: Kind | None) -> Iterator[_Found]:
    if not any(name in fields for name in TEXTS):
        raise Refused(f"has none of the fields {', '.join(TEXTS)}")
    vouched = bool(_identity(fields))
    given = [name for name in TEXTS if not _is_blank(fields.get(name)) or (vouched and fields.get(name))]
    if not given:
        raise Refused("is empty")
    split, remark = _split(fields.get("split"), record.source.split)
    if remark:
        yield remark
    is_persona = {"profile", "personality"} <= set(given)
    if split == "heldout" and not is_persona:
        yield _NO_SPLIT
    own = next((known for known in KINDS if fields.get("kind") == known), None)
    if own and "text" in given:
        origin: Origin = next((known for known in get_args(Origin) if fields.get("origin") == known), "imported")
        yield from _description(record.place, own, fields["text"], _identity(fields), origin)
    elif is_persona:
        yield from _persona(record.place, fields, split)
    else:
        kinds: dict[str, Kind | None] = {
            "profile": "profile",
            "personality": "personality",
            "persona": kind or "profile",
            "text": kind or record.source.kind,
        }
        yield from _description(record.place, kinds[given[0]], fields[given[0]])


def _identity(fields: dict[str, object]) -> str:
    """The id if it is one of ours, else nothing: other people's numbers and names for their records say nothing."""
    value = fields.get("id")
    return value if isinstance(value, str) and _CONTENT_ID.fullmatch(value) else ""


def _split(value: object, of_file: Split | None) -> tuple[Split, Note | None]:
    """The split that a record names, else its file's; and a note where it names none that is known."""
    if _is_blank(value):
        return of_file or "train", None
    name = str(value).strip()
    if SET_APART.fullmatch(name):
        return "heldout", None
    if name.casefold() == "train":
        return "train", None
    return "train", Note(f"records of the split {shown(name)}, as train", counted=True)


def _description(
    place: str, kind: Kind | None, value: object, identity: str = "", origin: Origin = "imported"
) -> Iterator[_Found]:
    text = _taken(value, identity)
    # After the text: a kind would not mend one that cannot be used anyway.
    if kind is None:
        raise Refused(f"{_KINDLESS}; --kind gives it one")
    try:
        yield Description(id=identity, kind=kind, text=text, origin=origin)
    except ValidationError as error:
        raise Refused(_in_words(error)) from None
    yield from _remarks(place, [value], identity)
    yield from _speech(place, text)


def _persona(place: str, fields: dict[str, object], split: Split) -> Iterator[_Found]:
    identity = _identity(fields)
    texts = [fields["profile"], fields["personality"]]
    profile, personality = (_taken(text, identity) for text in texts)
    persona = Persona(split=split, profile=profile, personality=personality)
    structure = {name: fields[name] for name in STRUCTURE if not _is_blank(fields.get(name))}
    try:
        persona = _structured(persona, structure, identity)
    except Refused as refused:
        if identity:
            raise
        # Other people's traits and preferences have other forms; the texts say what matters.
        yield Problem(place=place, what=f"kept: without its {', '.join(structure)}: {refused}", kept=True)
    yield persona
    yield from _remarks(place, texts, identity)
    yield from _speech(place, "\n".join([persona.profile, persona.personality, *_words_of(persona)]))


def _structured(persona: Persona, structure: dict[str, object], identity: str) -> Persona:
    """The persona with its structure, checked against the id if there is one."""
    fields = {name: _from_cell(name, value) for name, value in structure.items()}
    try:
        whole = Persona.model_validate({**persona.model_dump(), **fields, "id": identity})
    except ValidationError as error:
        raise Refused(_in_words(error)) from None
    length = sum(map(len, _words_of(whole)))
    if length > MAX_CHARACTERS:
        raise Refused(f"its facts and traits are {length:,} characters long, more than {MAX_CHARACTERS:,}")
    return whole


def _from_cell(name: str, value: object) -> object:
    """Structure as it stands in JSON, or out of the JSON string that a table holds."""
    if not isinstance(value, str):
        return value
    try:
        values = json_values(value)
    except Refused as refused:
        raise Refused(f"{name} {refused}") from None
    return values[0] if len(values) == 1 else values


def _words_of(persona: Persona) -> list[str]:
    """The words that stand in a persona's structure."""
    facts = [word for fact in persona.facts for word in (fact.slot, fact.term, fact.key)]
    return [*facts, *(trait.name for trait in persona.traits), *persona.voice.keys(), *persona.voice.values()]


def _taken(value: object, identity: str) -> str:
    """The text: as it stands if an id vouches for it, else without control characters and without space around it.

    Raises:
        Refused: it cannot be a description.
    """
    if not isinstance(value, str):
        raise Refused(f"holds {_called(value)}, not a text")
    if _SURROGATE.search(value):
        undecoded = "bytes that are not UTF-8 text"
        raise Refused(f"holds {undecoded if _UNDECODED.search(value) else 'half a character (a lone surrogate)'}")
    text = value
    if not identity:
        text = _CONTROL.sub("", _LINE_BREAK.sub("\n", value)).strip()
        fault = _fault(text)
        if fault:
            raise Refused(fault)
    if len(text) > MAX_CHARACTERS:
        raise Refused(f"is {len(text):,} characters long, more than {MAX_CHARACTERS:,}")
    return text


def _fault(text: str) -> str | None:
    if not text.strip():
        return "is empty"
    return None if any(map(str.isalpha, text)) else "holds no letters"


def _remarks(place: str, values: Iterable[object], identity: str) -> Iterator[Problem | Note]:
    """What cleaning did to a record's texts; where an id forbids it, what it would have done."""
    texts = [str(value) for value in values]
    if not identity:
        if any(_CONTROL.search(_LINE_BREAK.sub("\n", text)) for text in texts):
            yield _REMOVED
        return
    for text in texts:
        fault = _fault(text) or ("holds control characters" if _CONTROL.search(text) else None)
        if fault:
            yield Problem(place=place, what=f"kept: {fault}", kept=True)


def _speech(place: str, text: str) -> Iterator[Problem]:
    words = addresses_a_model(text)
    if words is not None:
        yield Problem(place=place, what=f"kept: speaks to a language model: {shown(words)}", kept=True)


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _called(value: object) -> str:
    return _NAMES.get(type(value), f"a {type(value).__name__}")


def _in_words(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    what = first["msg"].removeprefix("Value error, ")
    return "".join(char for char in (f"{where}: {what}" if where else what) if not _SURROGATE.match(char))
