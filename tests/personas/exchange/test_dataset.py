from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interalign.errors import InputError, LeakError, MissingExtra, StorageError
from interalign.personas.description import Description
from interalign.personas.exchange import (
    Imported,
    read_pool,
    write_dataset,
    write_descriptions_dataset,
    write_descriptions_parquet,
    write_personas_parquet,
)
from interalign.personas.persona import Persona
from interalign.run import write_jsonl
from tests.personas.exchange.pools import BAKER, GUARD, MOODY, UNICODE, WORLD, names

DESCRIPTIONS = (
    Description(kind="profile", text=BAKER, origin="seed"),
    Description(kind="personality", text=MOODY, origin="generated"),
    Description(kind="profile", text=GUARD),
)
PERSONAS = st.lists(
    st.builds(
        Persona,
        split=st.sampled_from(["train", "heldout"]),
        profile=UNICODE,
        personality=UNICODE,
        voice=st.dictionaries(UNICODE, UNICODE, max_size=2),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda persona: persona.id,
)


def test_a_written_dataset_comes_back(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", WORLD, {"generator": "rules"})
    imported = read_pool(tmp_path / "set")
    assert imported.personas == WORLD
    assert imported.problems == ()
    assert names(tmp_path / "set") == ["README.md", "data/heldout.parquet", "data/train.parquet"]


def test_the_datasets_library_loads_what_is_written(tmp_path: Path) -> None:
    from datasets import load_dataset

    write_dataset(tmp_path / "set", WORLD, {"generator": "rules"})
    loaded = load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 6, "heldout": 3}
    row = loaded["heldout"][0]
    assert row["profile"] == WORLD[6].profile
    assert json.loads(row["facts"])[0] == WORLD[6].facts[0].model_dump()
    plain = Persona(profile=BAKER, personality=MOODY)
    write_dataset(tmp_path / "plain", [plain], {})
    loaded = load_dataset(str(tmp_path / "plain"), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    assert loaded["train"][0] == {"id": plain.id, "profile": BAKER, "personality": MOODY}


def test_the_datasets_library_loads_descriptions(tmp_path: Path) -> None:
    from datasets import load_dataset

    write_descriptions_dataset(tmp_path / "set", DESCRIPTIONS, {"generator": "a model"}, language="de")
    assert names(tmp_path / "set") == ["README.md", "data/train.parquet"]
    loaded = load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    assert list(loaded["train"]) == [one.model_dump() for one in DESCRIPTIONS]
    assert read_pool(tmp_path / "set") == Imported(descriptions=DESCRIPTIONS)


def test_rewriting_leaves_nothing_of_before(tmp_path: Path) -> None:
    write_dataset(tmp_path, WORLD, {})
    write_dataset(tmp_path, WORLD[:2], {})
    assert names(tmp_path) == ["README.md", "data/train.parquet"]
    write_dataset(tmp_path, WORLD[6:], {})
    assert names(tmp_path) == ["README.md", "data/heldout.parquet"]
    assert read_pool(tmp_path).personas == WORLD[6:]
    write_descriptions_dataset(tmp_path, DESCRIPTIONS, {})
    assert names(tmp_path) == ["README.md", "data/train.parquet"]


def test_a_failed_write_changes_nothing(tmp_path: Path) -> None:
    write_dataset(tmp_path, WORLD[:2], {})
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    (tmp_path / "data" / "heldout.parquet").mkdir()
    with pytest.raises(StorageError):
        write_dataset(tmp_path, WORLD[1:2], {"a": "b"})
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before
    with pytest.raises(StorageError):
        write_dataset(tmp_path / "README.md", WORLD, {})


def test_a_dataset_without_personas_or_with_a_leak_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no personas"):
        write_dataset(tmp_path / "set", [], {})
    with pytest.raises(LeakError, match="1 personas are in both splits"):
        write_dataset(tmp_path / "set", [*WORLD, WORLD[0].model_copy(update={"split": "heldout"})], {})
    with pytest.raises(InputError, match="no language code"):
        write_dataset(tmp_path / "set", WORLD, {}, language="en\n- x")
    with pytest.raises(InputError, match="no personas"):
        write_personas_parquet(tmp_path / "x.parquet", [])
    with pytest.raises(LeakError, match="1 personas are in both splits"):
        write_personas_parquet(tmp_path / "x.parquet", [*WORLD, WORLD[0].model_copy(update={"split": "heldout"})])
    with pytest.raises(InputError, match="no descriptions"):
        write_descriptions_dataset(tmp_path / "set", [], {})
    with pytest.raises(InputError, match="no language code"):
        write_descriptions_dataset(tmp_path / "set", DESCRIPTIONS, {}, language="German")
    with pytest.raises(InputError, match="no descriptions"):
        write_descriptions_parquet(tmp_path / "x.parquet", [])
    assert names(tmp_path) == []


def test_the_card_says_what_the_dataset_is(tmp_path: Path) -> None:
    write_dataset(tmp_path, WORLD, {"generator": "a model", "language": "a fact"}, language="fr")
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    header = card.split("---\n")[1]
    assert (
        "  - split: train\n    path: data/train.parquet\n  - split: heldout\n    path: data/heldout.parquet\n" in header
    )
    assert "license: other\n" in header
    assert "language:\n- fr\n" in header
    assert "size_categories:\n- n<1K\n" in header
    assert [line for line in card.splitlines() if line.startswith("## ")] == [
        "## What it is",
        "## How it was made",
        "## Counts",
        "## Limits",
        "## How to load",
    ]
    assert "| `generator` | `a model` |\n| `language` | `a fact` |" in card
    assert "| split | personas |\n|---|---|\n| train | 6 |\n| heldout | 3 |" in card


def test_the_card_of_descriptions_speaks_of_descriptions(tmp_path: Path) -> None:
    write_descriptions_dataset(tmp_path, DESCRIPTIONS, {}, language="de")
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    header = card.split("---\n")[1]
    assert "  data_files:\n  - split: train\n    path: data/train.parquet\nlanguage:\n- de\n" in header
    assert "| kind | descriptions |\n|---|---|\n| profile | 2 |\n| personality | 1 |\n" in card
    assert "`origin`" in card and "descriptions = load_dataset(" in card
    # What only personas have.
    assert "heldout" not in card and "`preferences`" not in card


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\n\n# b\n---", "`a # b ---`"),
        ("x | y", "`x ¦ y`"),
        ("![i](http://a.b/c)", "`![i](http://a.b/c)`"),
        ("<script>", "`<script>`"),
        ("`code` and ``more``", "``` `code` and ``more`` ```"),
        ("{size}\\", "`{size}\\`"),
        ("\u202eab\x00", "`ab`"),
        (" ", "-"),
    ],
)
def test_facts_mean_nothing_in_the_card(tmp_path: Path, value: str, shown: str) -> None:
    write_dataset(tmp_path, WORLD, {value: value})
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert f"\n| what | value |\n|---|---|\n| {shown} | {shown} |\n\n## Counts\n" in card


def test_descriptions_come_back_from_jsonl_and_parquet(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "pool.jsonl", DESCRIPTIONS)
    write_descriptions_parquet(tmp_path / "pool.parquet", DESCRIPTIONS)
    for name in ("pool.jsonl", "pool.parquet"):
        assert read_pool(tmp_path / name) == Imported(descriptions=DESCRIPTIONS)


def test_without_the_extra_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"interalign\[personas\]"):
        write_dataset(tmp_path / "set", WORLD, {})
    assert not (tmp_path / "set").exists()


@settings(max_examples=40)
@given(PERSONAS)
def test_any_persona_comes_back(personas: list[Persona]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder) / "set", personas, {})
        ordered = tuple(sorted(personas, key=lambda persona: persona.split == "heldout"))
        assert read_pool(Path(folder) / "set").personas == ordered
        write_jsonl(Path(folder) / "personas.jsonl", personas)
        write_personas_parquet(Path(folder) / "personas.parquet", personas)
        for name in ("personas.jsonl", "personas.parquet"):
            assert read_pool(Path(folder) / name).personas == tuple(personas)


@settings(max_examples=40)
@given(st.lists(st.builds(Description, kind=st.sampled_from(["profile", "personality"]), text=UNICODE), min_size=1))
def test_any_description_comes_back(descriptions: list[Description]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_jsonl(Path(folder) / "x.jsonl", descriptions)
        write_descriptions_parquet(Path(folder) / "x.parquet", descriptions)
        write_descriptions_dataset(Path(folder) / "set", descriptions, {})
        for name in ("x.jsonl", "x.parquet", "set"):
            assert read_pool(Path(folder) / name).descriptions == tuple(descriptions)
