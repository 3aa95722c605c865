"""A pool as tables: a dataset folder with its card, as on the Hugging Face Hub, and a table of descriptions.

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
from typing import get_args

from jinja2 import Environment, StrictUndefined, Template

from interalign.errors import InputError, LeakError
from interalign.personas.description import Description
from interalign.personas.exchange.containers import STRUCTURE, arrow_library
from interalign.personas.persona import Persona, Split
from interalign.run import storage_errors, writing

__all__ = ["write_dataset", "write_descriptions_parquet"]

_SPLITS: tuple[Split, ...] = get_args(Split)
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""The Hub's names of sizes, each with the number of rows that it stays below."""


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
    structure = [name for name in STRUCTURE if any(getattr(persona, name) for persona in personas)]
    columns = ("id", "profile", "personality", *structure)
    arrow_library()
    with ExitStack() as unfinished:
        # All are written before the first one moves to its place, so that a full disk changes nothing.
        unfinished.enter_context(writing(folder / "README.md")).write_text(card, encoding="utf-8", newline="")
        for split, members in by_split.items():
            if members:
                beside = unfinished.enter_context(writing(_split_file(folder, split)))
                _to_parquet(beside, columns, [_row(persona, structure) for persona in members])
        for split, members in by_split.items():
            if not members:
                with storage_errors(_split_file(folder, split)):
                    _split_file(folder, split).unlink(missing_ok=True)


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


def _split_file(folder: Path, split: Split) -> Path:
    return folder / "data" / f"{split}.parquet"


def _row(persona: Persona, structure: list[str]) -> dict[str, str]:
    fields = persona.model_dump(mode="json")
    texts = {name: fields[name] for name in ("id", "profile", "personality")}
    return texts | {name: json.dumps(fields[name], ensure_ascii=False) for name in structure}


def _to_parquet(path: Path, columns: Sequence[str], rows: list[dict[str, str]]) -> None:
    pyarrow = arrow_library()
    from pyarrow import parquet

    schema = pyarrow.schema([(name, pyarrow.string()) for name in columns])
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), path)


def _card(counts: Mapping[Split, int], facts: Mapping[str, str]) -> str:
    language = facts.get("language", "en")
    if not _LANGUAGE.fullmatch(language):
        raise InputError(f"{language!r} is no language code.", mend="give an ISO 639 code such as en.")
    total = sum(counts.values())
    size = next((name for limit, name in _SIZES if total < limit), "n>1M")
    return _template().render(counts=counts, language=language, size=size, facts=facts)


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
