from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from rich.console import Console
from transformers import AutoModelForCausalLM

from interalign.conversations.tree import Tree
from interalign.errors import InputError, StorageError
from interalign.llm.libraries import saving
from interalign.llm.local import load_checkpoint
from interalign.personas.persona import Persona
from interalign.run import write_json
from interalign.training.checkpoint import (
    MANIFEST,
    Manifest,
    as_table,
    checkpoints,
    installed_versions,
    read_manifest,
    save_checkpoint,
)
from interalign.training.train import SftConfig, TrainConfig, train
from tests.training.tiny import SYSTEM

IDS = torch.arange(3, 40)[None]


def manifest(**changes: Any) -> Manifest:
    return Manifest(
        **{
            "name": "one",
            "method": "sft",
            "base": "tiny",
            "parent": "tiny",
            "data": "0" * 64,
            "seed": 1,
            "steps": 2,
            "settings": {"epochs": 1.0},
            "versions": installed_versions(),
            "metrics": {"loss": 1.25},
            **changes,
        }
    )


def test_manifest_is_read_back(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "one", AutoModelForCausalLM.from_pretrained(base), tokenizer, manifest())
    assert read_manifest(tmp_path / "one") == manifest()
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_folder_without_a_manifest_is_no_checkpoint(base: Path) -> None:
    with pytest.raises(InputError, match=MANIFEST):
        read_manifest(base)


@pytest.mark.parametrize("content", [b"{}", b"\xff", b"", b"{"])
def test_a_damaged_manifest_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        read_manifest(tmp_path)


def loaded_by_its_card(folder: Path) -> dict[str, Any]:
    """What the lines on a checkpoint's card make, run as they stand but for the path."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    assert "interalign" not in code[1]
    names: dict[str, Any] = {}
    exec(code[1].replace(f"path/to/{folder.name}", str(folder)), names)
    return names


def test_the_lines_on_the_card_load_a_trained_adapter(tuned: Path) -> None:
    names = loaded_by_its_card(tuned)
    ours, tokenizer = load_checkpoint(str(tuned), device="cpu", dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(names["model"].float()(IDS).logits, ours(IDS).logits, atol=1e-4, rtol=1e-4)
    assert names["tokenizer"]("Hello")["input_ids"] == tokenizer("Hello")["input_ids"]
    assert names["tokenizer"].chat_template == tokenizer.chat_template


def test_plain_peft_loads_a_trained_adapter(tuned: Path, config: TrainConfig) -> None:
    model = AutoPeftModelForCausalLM.from_pretrained(tuned, dtype=torch.float32)
    ours, _ = load_checkpoint(str(tuned), device="cpu", dtype=torch.float32)
    base, _ = load_checkpoint(config.base, device="cpu", dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, ours(IDS).logits, atol=1e-4, rtol=1e-4)
        assert (model(IDS).logits - base(IDS).logits).abs().max() > 0.1


def test_the_lines_on_the_card_load_full_weights_that_were_trained(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tmp_path: Path
) -> None:
    full = config.model_copy(update={"full_weights": True, "sft": SftConfig(learning_rate=1e-3)})
    train("sft", trees, people, full, tmp_path / "one", system=SYSTEM, seed=1)
    names = loaded_by_its_card(tmp_path / "one")
    assert type(names["model"]).__module__.startswith("transformers.")
    ours, _ = load_checkpoint(str(tmp_path / "one"), device="cpu", dtype=torch.float32)
    base, _ = load_checkpoint(config.base, device="cpu", dtype=torch.float32)
    with torch.no_grad():
        logits = names["model"].float()(IDS).logits
        assert torch.equal(logits, ours(IDS).logits)
        assert (logits - base(IDS).logits).abs().max() > 0.01


def test_full_weights_are_kept_as_they_are(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    save_checkpoint(tmp_path / "one", model, tokenizer, manifest())
    names = loaded_by_its_card(tmp_path / "one")
    assert names["tokenizer"].chat_template == tokenizer.chat_template
    with torch.no_grad():
        assert torch.equal(names["model"](IDS).logits, model(IDS).logits)


@pytest.mark.parametrize("notes", [True, False])
def test_the_card_tells_how_notes_are_to_be_treated(base: Path, tokenizer: Any, tmp_path: Path, notes: bool) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    save_checkpoint(tmp_path / "one", model, tokenizer, manifest(settings={"notes": notes}))
    assert ("<think>Notes:" in (tmp_path / "one" / "README.md").read_text(encoding="utf-8")) is notes


def test_the_card_tells_the_facts_and_the_metrics(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    save_checkpoint(tmp_path / "one", model, tokenizer, manifest(metrics={"loss": 1.25, "accuracy": 2 / 3}))
    card = (tmp_path / "one" / "README.md").read_text(encoding="utf-8")
    for line in ("# one", "- Method: sft", "- Optimizer steps: 2", "| loss | 1.25 |", "| accuracy | 0.6667 |"):
        assert line in card.splitlines()


def table_text(folder: Path, width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(as_table(checkpoints(folder)))
    return stream.getvalue()


def test_checkpoints_are_found_in_a_folder_by_name(tmp_path: Path) -> None:
    for name in ("sft", "dpo"):
        write_json(tmp_path / name / MANIFEST, manifest(name=name))
    (tmp_path / "dpo.unfinished").mkdir()
    (tmp_path / "notes.txt").write_text("", encoding="utf-8")
    assert list(checkpoints(tmp_path)) == [tmp_path / "dpo", tmp_path / "sft"]
    assert checkpoints(tmp_path / "sft") == {}
    assert checkpoints(tmp_path / "nowhere") == {}


def test_the_table_names_what_is_known(tmp_path: Path) -> None:
    write_json(tmp_path / "moved" / MANIFEST, manifest(base="a/hub-name", parent="tiny", metrics={"loss": 1.25}))
    heading, row = (line.split() for line in table_text(tmp_path).splitlines())
    assert heading == ["model", "method", "base", "started", "from", "steps", "loss", "accuracy"]
    # A folder that was renamed goes by its name now.
    assert row == ["moved", "sft", "hub-name", "tiny", "2", "1.250", "–"]


def test_names_in_the_table_are_no_markup(tmp_path: Path) -> None:
    write_json(tmp_path / "one" / MANIFEST, manifest(base="[red]base[/red]", parent="[bold]x", method="[/]"))
    text = table_text(tmp_path, width=120)
    for name in ("[bold]x", "[/]"):
        assert name in text


def test_a_damaged_checkpoint_among_others_is_told(tmp_path: Path) -> None:
    write_json(tmp_path / "one" / MANIFEST, manifest())
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / MANIFEST).write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="two"):
        checkpoints(tmp_path)


def test_a_full_disk_leaves_nothing_half_written(base: Path, tokenizer: Any, small_disk: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    with pytest.raises(StorageError, match="No space left"):
        save_checkpoint(small_disk / "one", model, tokenizer, manifest())
    assert list(small_disk.iterdir()) == []


def test_a_writer_of_torch_that_finds_the_disk_full(small_disk: Path) -> None:
    with pytest.raises(StorageError, match="No space left"), saving(small_disk / "state.pt"):
        torch.save(torch.zeros(50_000), small_disk / "state.pt")
