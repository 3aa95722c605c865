"""Checkpoints: a folder that plain transformers and peft load, with a manifest that says where it comes from.

Training and evaluation meet only here. A checkpoint folder appears whole or not at all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from interalign.errors import InputError
from interalign.llm.libraries import quiet, saving
from interalign.messages import Value
from interalign.run import write_json, write_text

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "MANIFEST",
    "Manifest",
    "as_table",
    "checkpoints",
    "installed_versions",
    "read_manifest",
    "save_checkpoint",
]

MANIFEST = "interalign.json"

_PACKAGES = ("interalign", "torch", "transformers", "peft", "trl", "accelerate", "datasets")


class Manifest(Value):
    """Where a checkpoint comes from.

    `data` is the SHA-256 of what it was trained on, `parent` the checkpoint it started from (the base itself for the
    first stage), `settings` the stage's part of the recipe.
    """

    name: str
    method: str
    base: str
    parent: str
    data: str
    seed: int
    steps: int
    settings: dict[str, Any]
    versions: dict[str, str]
    metrics: dict[str, float]


def installed_versions() -> dict[str, str]:
    """The versions of the packages that decide a training's outcome, as far as they are installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def save_checkpoint(
    folder: Path, model: Any, tokenizer: Any, manifest: Manifest, weights: Mapping[str, Any] | None = None
) -> None:
    """Write model, tokenizer, manifest and model card to `folder`, which must not exist; raises StorageError.

    `weights` are the model's by name, where those that it holds itself are only a part of them.
    """
    with quiet(), saving(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            model.save_pretrained(
                beside, safe_serialization=True, **({} if weights is None else {"state_dict": weights})
            )
            tokenizer.save_pretrained(beside)
            write_json(beside / MANIFEST, manifest)
            write_text(beside / "README.md", _card(manifest))
            beside.chmod(0o755)
            os.replace(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint; raises InputError when it is missing or cannot be read."""
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{folder} is no checkpoint of interalign: {MANIFEST} is missing.",
            mend="name a folder that interalign train has written.",
        ) from None
    except (ValidationError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged.", mend="train this model again.") from error


def checkpoints(folder: Path) -> dict[Path, Manifest]:
    """The checkpoints in a folder, by path; raises InputError when a manifest is damaged."""
    paths = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
    return {path: read_manifest(path) for path in paths}


def as_table(found: Mapping[Path, Manifest]) -> Table:
    """Checkpoints as a table for the terminal."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("model", "method", "base", "started from"):
        table.add_column(name, overflow="fold")
    for name in ("steps", "loss", "accuracy"):
        table.add_column(name, justify="right")
    for path, manifest in found.items():
        texts = (path.name, manifest.method, Path(manifest.base).name, manifest.parent)
        numbers = (manifest.metrics.get(name) for name in ("loss", "accuracy"))
        table.add_row(
            *map(escape, texts), str(manifest.steps), *("–" if one is None else f"{one:.3f}" for one in numbers)
        )
    return table


_NOTES = """
Before each reply it writes notes on the user, `<think>Notes: ...</think>`. Leave them in the chat that it sees, and
show the user what follows.
"""


def _card(manifest: Manifest) -> str:
    metrics = "\n".join(f"| {name} | {value:.4g} |" for name, value in manifest.metrics.items())
    lines: Mapping[str, str] = {
        "Method": manifest.method,
        "Base model": manifest.base,
        "Started from": manifest.parent,
        "Optimizer steps": str(manifest.steps),
        "Training data (SHA-256)": manifest.data,
    }
    facts = "\n".join(f"- {name}: {value}" for name, value in lines.items())
    usage = _NOTES if manifest.settings.get("notes") else ""
    return f"""# {manifest.name}

Trained with [interalign](https://pypi.org/project/interalign/) to get to know the person it talks to.

{facts}

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained("path/to/{manifest.name}")
tokenizer = AutoTokenizer.from_pretrained("path/to/{manifest.name}")
```
{usage}
| training metric | last value |
|---|---|
{metrics}
"""
