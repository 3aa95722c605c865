"""Files with multiple-choice questions: those of PersonaMem and PrefEval as they are published, and a plain form.

A file is JSON lines, a JSON list, or CSV; which form its rows have shows in their fields (`forms.py`). Talk that many
questions share stands in a file of its own. A row that cannot be used is left out, counted and told with its reason,
and a file with no usable row is refused.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from interalign.errors import InputError
from interalign.evaluation.choices.forms import FORMS, FormName, Talks, Unusable, form_of, talks_of
from interalign.evaluation.choices.item import ChoiceItem
from interalign.messages import Value

__all__ = ["ReadChoices", "read_choices"]

_SHOWN = 3
_MEND = "give a file of PersonaMem or PrefEval, or one of the plain form: id, question, options, answer."


class ReadChoices(Value):
    """What a file holds. `notes` say what was left out, and why."""

    form: FormName
    items: tuple[ChoiceItem, ...]
    left_out: int = 0
    notes: tuple[str, ...] = ()


class _Row(NamedTuple):
    """A row, and where it stands."""

    place: str
    fields: Mapping[str, Any]


def read_choices(path: Path, contexts: Path | None = None, *, drop_system: bool = False) -> ReadChoices:
    """Read the questions in a file.

    Args:
        path: the questions.
        contexts: the talk before them, where it stands elsewhere: PersonaMem's shared contexts, PrefEval's implicit
            conversations, or chats by their ids.
        drop_system: leave system messages out of chats: in some files they tell the persona.

    Raises:
        InputError: a file is missing or cannot be read, its form is not known, it needs `contexts`, or no row of it
            can be used.
    """
    rows = _rows(path)
    name = form_of(rows[0].fields)
    if name is None:
        raise InputError(f"{path}: its rows are of no form that is known.", mend=_MEND)
    talks = _talks(name, contexts) if contexts is not None else None
    items, problems = _items(name, rows, path, talks)
    if not items:
        raise InputError(f"{path} holds no question that can be used: {_told(problems)}.", mend=_MEND)
    if drop_system:
        items = [_without_system(item) for item in items]
    notes = (f"{len(problems):,} of {len(rows):,} questions are left out: {_told(problems)}.",) if problems else ()
    return ReadChoices(form=name, items=tuple(items), left_out=len(problems), notes=notes)


def _items(
    name: FormName, rows: Sequence[_Row], path: Path, talks: Talks | None
) -> tuple[list[ChoiceItem], list[tuple[str, str]]]:
    """The items, with ids made unique, and the place and reason of each row that is none."""
    items: list[ChoiceItem] = []
    problems: list[tuple[str, str]] = []
    seen: Counter[str] = Counter()
    for number, row in enumerate(rows, 1):
        try:
            item = FORMS[name](row.fields, f"{path.stem}-{number}", path.stem, talks)
        except Unusable as problem:
            problems.append((row.place, str(problem)))
            continue
        except ValidationError as error:
            problems.append((row.place, _in_words(error)))
            continue
        seen[item.id] += 1
        copies = seen[item.id]
        items.append(item if copies == 1 else item.model_copy(update={"id": f"{item.id}#{copies}"}))
    return items, problems


def _talks(name: FormName, contexts: Path) -> Talks:
    try:
        return talks_of(name, [row.fields for row in _rows(contexts)])
    except Unusable as problem:
        raise InputError(f"{contexts}: {problem}.", mend="give the contexts that belong to the questions.") from None


def _without_system(item: ChoiceItem) -> ChoiceItem:
    return item.model_copy(update={"chat": tuple(message for message in item.chat if message.role != "system")})


def _told(problems: Sequence[tuple[str, str]]) -> str:
    """The most frequent reasons, each with how often it came and where first."""
    first = {why: place for place, why in reversed(problems)}
    counts = Counter(why for _, why in problems).most_common()
    shown = [f"{why} ({count:,}, first in {first[why]})" for why, count in counts[:_SHOWN]]
    more = [f"{len(counts) - _SHOWN} more reasons"] if len(counts) > _SHOWN else []
    return "; ".join([*shown, *more])


def _in_words(error: ValidationError) -> str:
    one = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, one["loc"]))
    what = one["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what


def _rows(path: Path) -> list[_Row]:
    """The rows of a file, whatever its name: a JSON list begins with a bracket, JSON lines with a brace."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.", mend="check the path.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text.", mend="save it as UTF-8.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", mend="check the path and its rights.") from error
    begin = text.lstrip()[:1]
    rows = list(
        _of_list(path, text) if begin == "[" else _of_lines(path, text) if begin == "{" else _of_csv(path, text)
    )
    if not rows:
        raise InputError(f"{path} holds no rows.", mend=_MEND)
    return rows


def _of_list(path: Path, text: str) -> Iterator[_Row]:
    values = _json(f"{path}", text)
    for number, value in enumerate(values, 1):
        yield _Row(f"row {number}", _fields(f"{path}, row {number}", value))


def _of_lines(path: Path, text: str) -> Iterator[_Row]:
    # Other line ends than this one may stand inside a text.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            place = f"{path}, line {number}"
            yield _Row(f"line {number}", _fields(place, _json(place, line)))


def _of_csv(path: Path, text: str) -> Iterator[_Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise InputError(
                    f"{path}, line {reader.line_num}: the row has not as many cells as the header.",
                    mend="mend the row.",
                )
            yield _Row(f"line {reader.line_num}", row)
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num + 1}: {error}.", mend="save it as CSV anew, or as JSON lines."
        ) from None


def _json(place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place} is not JSON: {error}.", mend="mend it, or save the file anew.") from None


def _fields(place: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{place} is no JSON object.", mend=_MEND)
    return value
