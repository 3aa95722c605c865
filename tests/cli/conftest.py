from __future__ import annotations

from collections.abc import Iterator
from functools import cache as remember
from pathlib import Path

import pytest

from interalign.llm import encoder
from tests.cli.pools import Run, prepare, typed


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings that commands share, and nobody else."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def one_encoder() -> Iterator[None]:
    """The encoder is loaded once for all commands: alone, each would load its own."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(encoder, "SentenceEncoder", remember(encoder.SentenceEncoder))
        yield


@pytest.fixture
def personas(tmp_path: Path, cache: Path, one_encoder: None, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command of `interalign personas` in an empty folder; gives its exit code and all it printed."""
    prepare(tmp_path, cache, monkeypatch)
    return typed
