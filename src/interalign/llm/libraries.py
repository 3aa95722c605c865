"""Other people's libraries, made to behave: transformers, datasets, safetensors and torch.

They print progress bars and advice of their own, which would tear the command line's display, and they report a full
disk each in its own words. Wherever interalign loads, trains or saves a model, it does so inside these blocks.
"""

from __future__ import annotations

import errno
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from logging import ERROR
from pathlib import Path

from interalign.run import storage_errors

__all__ = ["quiet", "saving"]

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_TORCH_WRITER = ("inline_container.cc", "iostream error", "PytorchStreamWriter")


@contextmanager
def quiet() -> Iterator[None]:
    """Within this block transformers, datasets, peft and TRL show no progress bars and log errors only."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    with ExitStack() as after:
        after.callback(logging.set_verbosity, logging.get_verbosity())
        logging.set_verbosity(ERROR)
        # A download may take minutes and keeps its bar; transformers turns it off together with its own.
        downloads_shown = not are_progress_bars_disabled()
        if logging.is_progress_bar_enabled():
            after.callback(logging.enable_progress_bar)
            logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        if downloads_shown:
            enable_progress_bars()
        after.enter_context(_without_dataset_bars())
        after.enter_context(_environ("TQDM_DISABLE", "1"))
        after.enter_context(warnings.catch_warnings())
        # peft 0.21 asks transformers under a name that goes away in version 6.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


@contextmanager
def _without_dataset_bars() -> Iterator[None]:
    try:
        import datasets
    except ModuleNotFoundError:
        yield
        return
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


@contextmanager
def _environ(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Like `storage_errors`, also for what safetensors and torch raise when the disk of `path` is full or closed."""
    with storage_errors(path):
        try:
            yield
        except Exception as error:
            number = _errno(error)
            if number is None:
                raise
            raise OSError(number, os.strerror(number)) from error


def _errno(error: Exception) -> int | None:
    """The operating system's error number behind a library's error; None when there is none, or it shows already."""
    if isinstance(error, OSError):
        # A folder in the way of a folder, as a file would be.
        return errno.EEXIST if error.errno == errno.ENOTEMPTY else None
    named = _OS_ERROR.search(str(error))
    if named:
        return int(named[1])
    # torch says only that its writer failed, not why.
    return errno.ENOSPC if any(sign in str(error) for sign in _TORCH_WRITER) else None
