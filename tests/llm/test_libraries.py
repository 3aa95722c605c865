from __future__ import annotations

import errno
import os
import warnings
from pathlib import Path

import datasets
import pytest
from safetensors import SafetensorError
from transformers.utils import logging

from interalign.errors import StorageError
from interalign.llm.libraries import quiet, saving


def test_quiet_ends_with_its_block() -> None:
    def loudness() -> tuple[object, ...]:
        bars = (logging.is_progress_bar_enabled(), datasets.is_progress_bar_enabled())
        return (*bars, logging.get_verbosity(), os.environ.get("TQDM_DISABLE"), len(warnings.filters))

    before = loudness()
    with pytest.raises(KeyError), quiet():
        assert loudness()[:3] == (False, False, logging.ERROR)
        raise KeyError
    assert loudness() == before


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY)),
        SafetensorError("I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
    ],
)
def test_errors_of_the_disk_are_told_in_our_words(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=str(tmp_path)), saving(tmp_path / "a"):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), KeyError("x"), SafetensorError("not a header")])
def test_other_errors_stay_what_they_are(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)), saving(tmp_path / "a"):
        raise error
