from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from interalign.errors import InputError
from interalign.llm.offline import OFFLINE_MODEL, cache_folder, offline_model_folder, resolve_model


def test_cache_folder(tmp_path: Path) -> None:
    assert cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "interalign"
    assert cache_folder({"XDG_CACHE_HOME": "relative"}) == cache_folder({}) == Path.home() / ".cache/interalign"


def test_a_hub_name_is_left_to_the_hub() -> None:
    assert resolve_model("somebody/some-model") == "somebody/some-model"


@pytest.mark.parametrize("name", ["./missing", "/missing/model", "~/missing-model"])
def test_a_path_that_is_not_there(name: str) -> None:
    with pytest.raises(InputError, match="holds no model weights"):
        resolve_model(name)


def test_a_folder_without_weights_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    for path in (tmp_path, tmp_path / "config.json"):
        with pytest.raises(InputError, match="holds no model weights"):
            resolve_model(str(path))


@pytest.mark.parametrize("file", ["model.safetensors", "adapter_model.safetensors", "model-00001-of-2.safetensors"])
def test_a_folder_with_weights(tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / file).write_bytes(b"")
    assert resolve_model(str(tmp_path / "models")) == str(tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    assert resolve_model("models") == "models"


def test_the_unpacked_offline_model_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = offline_model_folder(os.environ)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert resolve_model(OFFLINE_MODEL) == str(folder)


UNPACK = "from interalign.llm.offline import offline_model; print(offline_model())"


@pytest.mark.slow
def test_two_processes_unpack_at_once(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", UNPACK], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    folder = tmp_path / "interalign" / OFFLINE_MODEL
    for process in both:
        out, err = process.communicate()
        # One line and nothing else: what the libraries have to say is kept quiet.
        assert (process.returncode, out.strip(), err) == (0, str(folder), "")
    assert {path.name for path in folder.parent.iterdir()} == {OFFLINE_MODEL, f"{OFFLINE_MODEL}.lock"}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
