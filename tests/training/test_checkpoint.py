from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from interalign.errors import InputError, StorageError
from interalign.llm.libraries import saving
from interalign.llm.local import load_checkpoint
from interalign.training.checkpoint import MANIFEST, Manifest, installed_versions, read_manifest, save_checkpoint

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


def test_the_lines_on_the_card_load_a_trained_checkpoint(tuned: Path) -> None:
    card = (tuned / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    assert len(code[1].strip().splitlines()) == 3
    names: dict[str, Any] = {}
    exec(code[1].replace(f"path/to/{tuned.name}", str(tuned)), names)
    ours, tokenizer = load_checkpoint(str(tuned), device="cpu", dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(names["model"].float()(IDS).logits, ours(IDS).logits, atol=1e-4, rtol=1e-4)
    assert names["tokenizer"]("Hello")["input_ids"] == tokenizer("Hello")["input_ids"]


def test_the_card_of_full_weights_loads_as_well(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    save_checkpoint(tmp_path / "one", model, tokenizer, manifest())
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    assert AutoTokenizer.from_pretrained(tmp_path / "one").chat_template == tokenizer.chat_template
    with torch.no_grad():
        assert torch.equal(again(IDS).logits, model(IDS).logits)


def test_a_full_disk_leaves_nothing_half_written(base: Path, tokenizer: Any, small_disk: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    with pytest.raises(StorageError, match="No space left"):
        save_checkpoint(small_disk / "one", model, tokenizer, manifest())
    assert list(small_disk.iterdir()) == []


def test_a_writer_of_torch_that_finds_the_disk_full(small_disk: Path) -> None:
    with pytest.raises(StorageError, match="No space left"), saving(small_disk / "state.pt"):
        torch.save(torch.zeros(50_000), small_disk / "state.pt")
