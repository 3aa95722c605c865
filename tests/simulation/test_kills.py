"""`interalign simulate` is killed at random moments: nothing is paid for twice, and the trees are the same."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from interalign.run import RunFolder
from tests.simulation.faulty_roles import RoleServer, journalled_calls, people, playing, same_call, start_folder

KILLS = 20
CONCURRENCY = 8
PEOPLE = 60
MOST_REQUESTS = 50


def start(folder: RunFolder) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "interalign", "simulate", "--out", str(folder.root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(folder: RunFolder) -> None:
    process = start(folder)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 0, said


def kill(folder: RunFolder, server: RoleServer, random: Random) -> None:
    """Start, and kill somewhere on the way: before the first request, or some requests and a moment later."""
    before, further = len(server.bodies), random.randrange(-5, MOST_REQUESTS)
    process = start(folder)
    deadline = time.monotonic() + 60
    while len(server.bodies) < before + max(further, 0):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.03 if further > 0 else 1))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_twenty_kills_lose_nothing_and_pay_for_nothing_twice(tmp_path: Path) -> None:
    random = Random(5)
    with playing(delay_s=0.03) as server:
        options = {"concurrency": CONCURRENCY, "timeout_s": 30}
        whole = start_folder(tmp_path / "whole", server, people(PEOPLE), **options)
        finish(whole)
        calls = len(server.bodies)
        assert calls == len(journalled_calls(whole)) > KILLS * MOST_REQUESTS

        folder = start_folder(tmp_path / "killed", server, people(PEOPLE), **options)
        kept: set[str] = set()
        for _ in range(KILLS):
            begun = len(server.bodies)
            kill(folder, server, random)
            now = set(journalled_calls(folder))
            assert kept <= now
            asked = [same_call(body) for body in server.bodies[begun:]]
            assert not kept & set(asked)
            # Answered while the process died, or waiting for the one connection that writes.
            assert len(set(asked) - now) <= 2 * CONCURRENCY
            kept = now
        assert not folder.trees.exists()
        begun = len(server.bodies)
        finish(folder)
        assert not kept & {same_call(body) for body in server.bodies[begun:]}
        assert calls == len(journalled_calls(folder))
        assert len(server.bodies) - calls <= calls + KILLS * 2 * CONCURRENCY
    for name in ("trees.jsonl", "simulation.json"):
        assert (folder.root / name).read_bytes() == (whole.root / name).read_bytes()
