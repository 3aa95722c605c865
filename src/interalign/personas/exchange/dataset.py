"""A pool as tables: a dataset folder with its card, as on the Hugging Face Hub, or one table.

What is written loads with `datasets.load_dataset` as it is, and `read_pool` brings the same values back. A write
appears whole or not at all. Facts that others supply are shown in the card to the letter and mean nothing there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from jinja2 import Environment, StrictUndefined, Template

from interalign.errors import InputError, LeakError
from interalign.personas.description import KINDS, Description
from interalign.personas.exchange.containers import STRUCTURE, arrow_library
from interalign.personas.persona import Persona, Split
from interalign.run import storage_errors, writing

__all__ = ["write_dataset", "write_descriptions_dataset", "write_descriptions_parquet", "write_personas_parquet"]

_Content: TypeAlias = Literal["personas", "descriptions"]
_Row: TypeAlias = dict[str, str]

_SPLITS: tuple[Split, ...] = get_args(Split)
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_DESCRIPTION = ("id", "kind", "text", "origin")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""The Hub's names of sizes, each with the number of rows that it stays below."""


def write_dataset(folder: Path, personas: Sequence[Persona], facts: Mapping[str, str], language: str = "en") -> None:
    """Write personas as a folder that `datasets.load_dataset` and `read_pool` load as it is.

    `data/train.parquet` and `data/heldout.parquet` have the columns `id`, `profile` and `personality`, and those of
    `facts`, `traits`, `manner`, `preferences` and `voice` that any persona has, as JSON strings. A split without
    personas has no file. `README.md` is the dataset card. Files of an earlier dataset in the folder are replaced.

    Args:
        folder: Where to write.
        personas: Their own `split` tells the file.
        facts: How they were made, for the card ("generator": "...").
        language: ISO 639 code of the texts, for the card.

    Raises:
        InputError: there are no personas, or the language is no ISO 639 code.
        LeakError: the same persona is in both splits.
        StorageError: the disk is full or cannot be written.
        MissingExtra: pyarrow is not installed.
    """
    columns = ("id", "profile", "personality", *_structure(personas))
    by_split = {
        split: [_row(one, columns) for one in members] for split, members in _by_split(personas).items() if members
    }
    counts: dict[str, int] = {split: len(rows) for split, rows in by_split.items()}
    _write_folder(folder, _card("personas", tuple(by_split), counts, facts, language), columns, by_split)


def write_descriptions_dataset(
    folder: Path, descriptions: Sequence[Description], facts: Mapping[str, str], language: str = "en"
) -> None:
    """Write descriptions as a folder that `datasets.load_dataset` and `read_pool` load as it is.

    `data/train.parquet` has the columns `id`, `kind`, `text` and `origin`; `README.md` is the dataset card. Files of
    an earlier dataset in the folder are replaced.

    Args:
        folder: Where to write.
        descriptions: Of one kind or of both.
        facts: How they were made, for the card.
        language: ISO 639 code of the texts, for the card.

    Raises:
        InputError: there are no descriptions, or the language is no ISO 639 code.
        StorageError: the disk is full or cannot be written.
        MissingExtra: pyarrow is not installed.
    """
    rows = _description_rows(descriptions)
    numbers = {kind: sum(one.kind == kind for one in descriptions) for kind in KINDS}
    counts: dict[str, int] = {kind: number for kind, number in numbers.items() if number}
    _write_folder(folder, _card("descriptions", ("train",), counts, facts, language), _DESCRIPTION, {"train": rows})


def write_personas_parquet(path: Path, personas: Sequence[Persona]) -> None:
    """Write personas as one table: the columns of a dataset, and `split`.

    Raises:
        InputError: there are no personas.
        LeakError: the same persona is in both splits.
        StorageError: the disk is full or cannot be written.
        MissingExtra: pyarrow is not installed.
    """
    _by_split(personas)
    columns = ("id", "split", "profile", "personality", *_structure(personas))
    with writing(path) as beside:
        _to_parquet(beside, columns, [_row(persona, columns) for persona in personas])


def write_descriptions_parquet(path: Path, descriptions: Sequence[Description]) -> None:
    """Write descriptions as a table with the columns `id`, `kind`, `text` and `origin`.

    Raises:
        InputError: there are no descriptions.
        StorageError: the disk is full or cannot be written.
        MissingExtra: pyarrow is not installed.
    """
    rows = _description_rows(descriptions)
    with writing(path) as beside:
        _to_parquet(beside, _DESCRIPTION, rows)


def _by_split(personas: Sequence[Persona]) -> dict[Split, list[Persona]]:
    """The personas of each split; raises InputError where there are none, and LeakError where one is in both."""
    if not personas:
        raise InputError("There are no personas to write.", mend="make or import personas first.")
    by_split = {split: [persona for persona in personas if persona.split == split] for split in _SPLITS}
    both = set.intersection(*({persona.id for persona in members} for members in by_split.values()))
    if both:
        raise LeakError(
            f"{len(both)} personas are in both splits, {min(both)} among them.", mend="keep each in one split only."
        )
    return by_split


def _structure(personas: Sequence[Persona]) -> list[str]:
    return [name for name in STRUCTURE if any(getattr(persona, name) for persona in personas)]


def _row(persona: Persona, columns: Sequence[str]) -> _Row:
    fields = persona.model_dump(mode="json")
    return {
        name: json.dumps(fields[name], ensure_ascii=False) if name in STRUCTURE else fields[name] for name in columns
    }


def _description_rows(descriptions: Sequence[Description]) -> list[_Row]:
    if not descriptions:
        raise InputError("There are no descriptions to write.", mend="make or import descriptions first.")
    return [description.model_dump(mode="json") for description in descriptions]


def _write_folder(folder: Path, card: str, columns: Sequence[str], by_split: Mapping[Split, list[_Row]]) -> None:
    arrow_library()
    with ExitStack() as unfinished:
        # All are written before the first one moves to its place, so that a full disk changes nothing.
        unfinished.enter_context(writing(folder / "README.md")).write_text(card, encoding="utf-8", newline="")
        for split, rows in by_split.items():
            _to_parquet(unfinished.enter_context(writing(_split_file(folder, split))), columns, rows)
        for split in _SPLITS:
            if split not in by_split:
                with storage_errors(_split_file(folder, split)):
                    _split_file(folder, split).unlink(missing_ok=True)


def _split_file(folder: Path, split: Split) -> Path:
    return folder / "data" / f"{split}.parquet"


def _to_parquet(path: Path, columns: Sequence[str], rows: list[_Row]) -> None:
    pyarrow = arrow_library()
    from pyarrow import parquet

    schema = pyarrow.schema([(name, pyarrow.string()) for name in columns])
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), path)


def _card(
    content: _Content, splits: Sequence[Split], counts: Mapping[str, int], facts: Mapping[str, str], language: str
) -> str:
    """The dataset card; `counts` are by split for personas and by kind for descriptions."""
    if not _LANGUAGE.fullmatch(language):
        raise InputError(f"{language!r} is no language code.", mend="give an ISO 639 code such as en.")
    total = sum(counts.values())
    size = next((name for limit, name in _SIZES if total < limit), "n>1M")
    return _template().render(content=content, splits=splits, counts=counts, language=language, size=size, facts=facts)


@cache
def _template() -> Template:
    # Escaping for HTML would spoil Markdown: what others supply passes through `literal` instead.
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["literal"] = _literal
    return environment.from_string(files(__package__).joinpath("card.md.jinja").read_text(encoding="utf-8"))


def _literal(text: str) -> str:
    """Foreign text as a code span of one table cell, in which no mark, link or tag means anything."""
    kept = "".join(" " if char.isspace() else char for char in text if char.isspace() or char.isprintable())
    # A cell ends at a bar even inside code, and escaping it is read in different ways.
    kept = " ".join(kept.replace("|", "¦").split())
    if not kept:
        return "-"
    fence = "`" * (max((len(run) for run in re.findall("`+", kept)), default=0) + 1)
    return f"{fence} {kept} {fence}" if "`" in kept else f"{fence}{kept}{fence}"
