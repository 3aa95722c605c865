"""Dataset folders from trees: tables that `datasets.load_dataset` loads as they are, and a card of their making.

The splits are those of the personas, so no person is in both. A folder appears whole or not at all. What models wrote
or others supply is shown in the card to the letter and means nothing there.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from jinja2 import Environment, StrictUndefined, Template

from interalign.conversations.export.aloe import aloe_records
from interalign.conversations.export.rows import Row, dpo_rows, kto_rows, reward_rows, sft_rows, trajectory_rows
from interalign.conversations.hygiene import pair_hygiene
from interalign.conversations.preferences import PreferenceConfig, each_preference
from interalign.conversations.tree import Tree
from interalign.errors import InputError, LeakError, MissingExtra
from interalign.personas.persona import Persona, Split
from interalign.roles.responder import policy_prompt
from interalign.run import storage_errors, write_text, writing

__all__ = ["FORMS", "Form", "write_export", "write_preference_tables"]

Form: TypeAlias = Literal["dpo", "sft", "kto", "reward", "trajectory", "aloe"]

FORMS: Mapping[Form, str] = {
    "dpo": "preference pairs, one for each two replies to a user turn",
    "sft": "conversations that end with a preferred reply",
    "kto": "single replies with a label, good or bad",
    "reward": "pairs of whole chats that differ in the last reply",
    "trajectory": "pairs of ways that a conversation took from some user turn on",
    "aloe": "conversations in the published ALOE format",
}
"""What each form holds."""

_ROWS_AT_ONCE = 1000

_ROWS: Mapping[Form, Callable[[Iterable[Tree], PreferenceConfig, str], Iterator[Row]]] = {
    "dpo": dpo_rows,
    "sft": sft_rows,
    "kto": kto_rows,
    "reward": reward_rows,
    "trajectory": trajectory_rows,
}


def write_export(
    folder: Path,
    form: Form,
    trees: Sequence[Tree],
    personas: Sequence[Persona],
    config: PreferenceConfig,
    facts: Mapping[str, str],
    system: str | None = None,
) -> dict[Split, int]:
    """Write a data set as a folder that `datasets.load_dataset` loads as it is, and return the rows of each split.

    `data/train.parquet` and `data/heldout.parquet` hold the rows of the trees whose persona is in that split (for
    `aloe`, JSONL files: the published format is one); a split without rows has no file. `README.md` is the card.

    Args:
        folder: Where to write: a place where nothing is, or an empty folder.
        form: One of `FORMS`.
        trees: The trees.
        personas: Those of the trees, at least; their `split` tells the file.
        config: Which pairs count.
        facts: How the trees were made, for the card, prompt hashes among them ("prompt user.txt": "3f0a...").
        system: The policy's system message, first in every prompt; "" for none, None for interalign's own. The
            published format has none.

    Raises:
        InputError: the folder holds something, a tree's persona is not among the personas, or there are no rows.
        LeakError: the same persona is in both splits.
        StorageError: the disk is full or cannot be written.
        MissingExtra: pyarrow or scikit-learn is not installed.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} is there already.", mend="choose another folder.")
    folder = folder.resolve()
    system = policy_prompt() if system is None else system
    by_split = {
        split: rows
        for split, members in _by_split(trees, personas).items()
        if (rows := _rows(form, members, personas, config, system))
    }
    if not by_split:
        raise InputError(
            f"The trees hold nothing of the form {form} ({FORMS[form]}).",
            mend="lower preferences.min_margin in the recipe, or simulate more conversations.",
        )
    card = _card(form, by_split, trees, config, facts, system)
    with _whole(folder) as beside:
        write_text(beside / "README.md", card)
        for split, rows in by_split.items():
            write = _write_jsonl if form == "aloe" else _write_parquet
            write(beside / _split_file(form, split), rows)
    return {split: len(rows) for split, rows in by_split.items()}


def write_preference_tables(folder: Path, trees: Sequence[Tree], config: PreferenceConfig, system: str) -> None:
    """Write `dpo.parquet` and `sft.parquet`, with the rows of `dpo_rows` and `sft_rows`, a thousand at a time.

    Args:
        folder: where to write.
        trees: the trees, gone through three times, one in memory at a time.
        config: which pairs count.
        system: the policy's system message, first in every prompt.

    Raises:
        InputError: no pair of siblings differs enough.
        StorageError: the disk is full or cannot be written.
    """
    if next(each_preference(trees, config), None) is None:
        raise InputError(
            "No two sibling replies differ by the wanted margin, so there is nothing to prefer.",
            mend="lower preferences.min_margin in the recipe, or simulate more conversations.",
        )
    _write_parquet(folder / "dpo.parquet", dpo_rows(trees, config, system))
    _write_parquet(folder / "sft.parquet", sft_rows(trees, config, system))


def _rows(
    form: Form, trees: Sequence[Tree], personas: Sequence[Persona], config: PreferenceConfig, system: str
) -> list[Row]:
    if form == "aloe":
        return [record.model_dump() for record in aloe_records(trees, personas, config)]
    return list(_ROWS[form](trees, config, system))


def _by_split(trees: Sequence[Tree], personas: Sequence[Persona]) -> dict[Split, list[Tree]]:
    splits: dict[str, Split] = {}
    for persona in personas:
        if splits.setdefault(persona.id, persona.split) != persona.split:
            raise LeakError(f"Persona {persona.id} is in both splits.", mend="keep it in one split only.")
    strangers = [tree.persona_id for tree in trees if tree.persona_id not in splits]
    if strangers:
        raise InputError(
            f"{len(strangers)} trees have a persona that is not among the personas, {strangers[0]} among them.",
            mend="give the personas that the trees were grown from.",
        )
    return {split: [tree for tree in trees if splits[tree.persona_id] == split] for split in get_args(Split)}


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write into, which takes its place when the block ends without an error."""
    beside = folder.with_name(f".interalign-{secrets.token_hex(8)}-{folder.name}")
    try:
        yield beside
        with storage_errors(folder):
            if folder.exists():
                folder.rmdir()
            beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _split_file(form: Form, split: Split) -> str:
    return f"data/{split}.{'jsonl' if form == 'aloe' else 'parquet'}"


def _write_jsonl(path: Path, rows: Iterable[Row]) -> None:
    with writing(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_parquet(path: Path, rows: Iterable[Row]) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise MissingExtra("pyarrow", "train") from error
    left = iter(rows)
    # The first rows tell the types of all: no column is empty in a whole batch and filled in the next.
    first = pyarrow.Table.from_pylist(list(islice(left, _ROWS_AT_ONCE)))
    with writing(path) as beside, parquet.ParquetWriter(beside, first.schema) as table:
        table.write_table(first)
        while batch := list(islice(left, _ROWS_AT_ONCE)):
            table.write_table(pyarrow.Table.from_pylist(batch, schema=first.schema))


def _card(
    form: Form,
    by_split: Mapping[Split, Sequence[Row]],
    trees: Sequence[Tree],
    config: PreferenceConfig,
    facts: Mapping[str, str],
    system: str,
) -> str:
    settings = {name: str(value) for name, value in config.model_dump().items()}
    prompt = {} if form == "aloe" else {"system message, sha256": hashlib.sha256(system.encode()).hexdigest()[:16]}
    return _template().render(
        form=form,
        meaning=FORMS[form],
        columns=list(next(iter(by_split.values()))[0]),
        files={split: _split_file(form, split) for split in by_split},
        counts={split: len(rows) for split, rows in by_split.items()},
        trees=len(trees),
        failed=sum(tree.failure is not None for tree in trees),
        personas=len({tree.persona_id for tree in trees}),
        models=_models(trees),
        making={**facts, **prompt, **settings},
        checks=Counter(f"{fault.role}, {fault.check}" for tree in trees for fault in tree.faults),
        hygiene=pair_hygiene(trees, config),
    )


def _models(trees: Sequence[Tree]) -> dict[str, str]:
    """The language models in each role, by who they spoke as."""
    found: dict[str, set[str]] = {}
    for tree in trees:
        for node in tree.nodes:
            if node.model:
                found.setdefault("user" if node.role == "user" else f"{node.source} replies", set()).add(node.model)
        for comparison in tree.comparisons:
            if comparison.model:
                found.setdefault("judge", set()).add(comparison.model)
    return {role: ", ".join(sorted(names)) for role, names in sorted(found.items())}


@cache
def _template() -> Template:
    # Escaping for HTML would spoil Markdown: what others supply passes through `fenced` instead.
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["fenced"] = _fenced
    environment.filters["share"] = lambda value: "undefined" if value is None else f"{value:.1%}"
    return environment.from_string(files(__package__).joinpath("card.md.jinja").read_text(encoding="utf-8"))


def _fenced(lines: Mapping[str, object]) -> str:
    """Foreign text as a block of code, one line for each, in which no mark, link or tag means anything."""
    block = "\n".join(_printable(f"{name}: {value}") for name, value in lines.items())
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", block)), default=0))
    return f"{fence}text\n{block}\n{fence}"


def _printable(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
