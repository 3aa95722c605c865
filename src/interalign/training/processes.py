"""Several processes that train one model together, as torchrun, accelerate or `interalign train --launch` start them.

The first process, that of global rank 0, is the only one that holds the run folder, decides what all must do alike,
writes files and speaks; the others compute, and speak only where something is wrong with them alone.
Nothing here needs torch to be imported, so that the command line knows its place before it loads anything.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

from interalign.errors import InputError, MissingExtra, TrainingError

__all__ = [
    "LostProcess",
    "connect",
    "count",
    "first_decides",
    "is_first",
    "is_launched",
    "launch",
    "leave",
    "losing_others",
    "meet",
    "rank",
    "wait_to_be_ended",
]

T = TypeVar("T")

_SET_BY_LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
_LOST = re.compile(r"connection (closed|reset|refused)|gloo|nccl", re.IGNORECASE)
_PATIENCE_S = 10.0
_LAUNCHED = "INTERALIGN_LAUNCHED"


class LostProcess(TrainingError):
    """Another process of this training ended before its time; what it says of itself says more."""


def rank() -> int:
    """The number of this process among all on all machines; 0 for the first one and for one alone."""
    return _from_launcher("RANK", 0)


def count() -> int:
    """How many processes train together, on all machines."""
    return _from_launcher("WORLD_SIZE", 1)


def is_first() -> bool:
    """Whether this is the process that writes and speaks."""
    return rank() == 0


def is_launched() -> bool:
    """Whether `launch` started this process, and tells of its end."""
    return _LAUNCHED in os.environ and count() > 1


def _from_launcher(name: str, alone: int) -> int:
    # Job managers set some of these for a machine, where no launcher has started a process for each GPU yet.
    return int(os.environ[name]) if all(os.environ.get(one, "").isdecimal() for one in _SET_BY_LAUNCHERS) else alone


def connect(patience_s: float = 1800) -> None:
    """Meet the other processes, and take this one's own GPU; must come before a model is loaded.

    Args:
        patience_s: how long a process waits for the others, in seconds, before it gives up.

    Raises:
        LostProcess: the others cannot be met.
    """
    if count() == 1:
        return
    torch = _torch()
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        # Without this, accelerate takes processes without a GPU for strangers, each of which trains alone.
        os.environ["ACCELERATE_USE_CPU"] = "true"
    if not torch.distributed.is_initialized():
        if is_launched():
            _end_with_launcher()
        # Weights that are spread over GPUs are gathered on CPUs, which NCCL does not know.
        backend = "cuda:nccl,cpu:gloo" if gpu else "gloo"
        with losing_others():
            torch.distributed.init_process_group(backend, timeout=timedelta(seconds=patience_s))


def _end_with_launcher() -> None:
    # One that is killed outright passes nothing on, and its processes would train on unseen.
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def leave() -> None:
    """Part from the other processes when all is done. One that fails just ends: the launcher ends the others."""
    if count() > 1 and _torch().distributed.is_initialized():
        _torch().distributed.destroy_process_group()


def meet() -> None:
    """Wait until all processes have come here."""
    first_decides(lambda: None)


def first_decides(choose: Callable[[], T]) -> T:
    """What `choose` returns in the first process, in all of them; the others do not call it."""
    if count() == 1:
        return choose()
    chosen = [choose() if is_first() else None]
    with losing_others():
        _torch().distributed.broadcast_object_list(chosen, src=0)
    return cast(T, chosen[0])


@contextmanager
def losing_others() -> Iterator[None]:
    """Within this block, what a backend says when another process has ended becomes a LostProcess."""
    try:
        yield
    except RuntimeError as error:
        if count() == 1 or not _LOST.search(str(error)):
            raise
        raise LostProcess(
            "Another process of this training has ended, or cannot be reached.",
            mend="see what it says; then run the same command again to go on from the last saved state.",
        ) from error


def wait_to_be_ended() -> None:
    """Give the launcher time to end this process before it says what the one that failed first says already."""
    time.sleep(_PATIENCE_S)


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run `python -m interalign` with these arguments in several processes on this machine, until all have ended.

    torch's own launcher starts them, passes signals on to them and ends all when one fails.

    Returns:
        The exit code: of the process that failed first, if one did.

    Raises:
        InputError: there are fewer GPUs, or this process is one of several itself.
        LostProcess: a process was killed.
    """
    torch = _torch()
    _refuse(processes, torch.cuda.device_count())
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ[_LAUNCHED] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
    )
    # Its words are for developers. The processes have loggers of their own.
    logging.disable()
    try:
        elastic_launch(config, sys.executable)("-m", "interalign", *arguments)
    except SignalException as error:
        return 128 + int(error.sigval)
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        if failure.exitcode < 0:
            raise LostProcess(
                f"Process {number} was killed ({signal.Signals(-failure.exitcode).name}), so the others were ended.",
                mend="run the same command again to go on from the last saved state; SIGKILL often means that memory "
                "ran out.",
            ) from error
        return failure.exitcode
    finally:
        logging.disable(logging.NOTSET)
    return 0


def _refuse(processes: int, gpus: int) -> None:
    if count() > 1:
        raise InputError("--launch was given to one of several processes.", mend="leave it out under torchrun.")
    if gpus and processes > gpus:
        raise InputError(
            f"--launch {processes} wants a GPU for each process; this machine has {gpus}.",
            mend=f"use --launch {gpus}, or start it on several machines with torchrun.",
        )


def _torch() -> Any:
    try:
        import torch
        import torch.distributed
    except ModuleNotFoundError as error:
        raise MissingExtra("torch", "train") from error
    return torch
