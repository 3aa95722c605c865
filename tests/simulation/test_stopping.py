"""Stopping `interalign simulate` on purpose or by a full disk: exit codes, and going on to the same trees."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from interalign.conversations.tree import Tree
from interalign.llm.model import Answer
from interalign.pipeline.simulate import Simulation
from interalign.run import RunFolder, read_json, read_jsonl
from tests.simulation.faulty_roles import RoleServer, journalled_calls, people, same_call, start_folder
from tests.small_disk import small_disk_at

Run = Callable[..., tuple[int, str]]
CONCURRENCY = 4
GO_ON = "Run the same command again to go on from here."


def start(folder: RunFolder) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "interalign", "simulate", "--out", str(folder.root)]
    # A narrow terminal would break lines that are read here.
    environment = os.environ | {"COLUMNS": "200"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code and what stood on the error stream."""
    _, said = process.communicate(timeout=100)
    assert "Traceback" not in said
    return process.returncode, said


def wait_until(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not there():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.005)


def interrupt(process: subprocess.Popen[str]) -> None:
    """Send the first Ctrl-C, and return when it has been understood."""
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "Stopping: calls in flight are finished first" not in (line := process.stderr.readline()):
        assert line, "it ended without a word"


def tokens(answer: Answer) -> int:
    return answer.usage.prompt_tokens + answer.usage.completion_tokens


def assert_same(folder: RunFolder, other: RunFolder) -> None:
    for name in ("trees.jsonl", "simulation.json"):
        assert (folder.root / name).read_bytes() == (other.root / name).read_bytes()


@pytest.fixture
def server(running: RoleServer) -> RoleServer:
    running.forget()
    return running


@pytest.fixture
def folder(server: RoleServer, tmp_path: Path) -> RunFolder:
    """What is to come to the same as the whole run."""
    return start_folder(tmp_path / "run", server, people(8), concurrency=CONCURRENCY)


@pytest.fixture(scope="module")
def calls(whole: RunFolder) -> int:
    """How many calls the whole run takes."""
    return len(journalled_calls(whole))


def test_the_first_interrupt_keeps_every_answer_and_the_run_goes_on(
    simulate: Run, server: RoleServer, whole: RunFolder, folder: RunFolder, calls: int
) -> None:
    server.delay_s = 0.02
    process = start(folder)
    wait_until(lambda: len(server.bodies) >= 30, process)
    server.held.clear()
    sent = len(server.bodies)
    interrupt(process)
    server.held.set()
    code, said = ended(process)
    assert code == 130
    last = said.splitlines()[-1].removeprefix("error ")
    assert last.startswith("Stopped. 0 of 8 conversations are done and written; with those under way they have ")
    assert last.endswith(f" tokens. {GO_ON}")
    assert not folder.trees.exists()
    # What waited for a slot was not sent any more, and all that was sent is kept.
    assert len(server.bodies) - sent <= CONCURRENCY
    assert set(journalled_calls(folder)) == {same_call(body) for body in server.bodies}

    server.delay_s = 0
    assert simulate(folder)[0] == 0
    assert len(server.bodies) == calls
    assert_same(folder, whole)


def test_an_interrupt_writes_what_is_done_and_the_run_goes_on(
    simulate: Run, server: RoleServer, whole: RunFolder, folder: RunFolder, calls: int
) -> None:
    server.delay_s = 0.02
    recipe = folder.root / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("in_flight = 128", "in_flight = 2"))
    done: list[int] = []
    # Twice: the second command plays again what the first has written, and may not come as far.
    for part in (1, 2):
        process = start(folder)
        wait_until(lambda part=part: len(server.bodies) >= calls * part / 3, process)  # type: ignore[misc]
        interrupt(process)
        code, said = ended(process)
        trees = read_jsonl(folder.trees, Tree)
        done.append(len(trees))
        assert code == 130 and f"{len(trees)} of 8 conversations are done and written" in said, said
        assert set(folder.trees.read_bytes().splitlines()) < set(whole.trees.read_bytes().splitlines())
    assert 1 < done[0] < done[1] < 8
    server.delay_s = 0
    assert simulate(folder)[0] == 0
    assert len(server.bodies) == calls
    assert_same(folder, whole)


@pytest.mark.slow
def test_the_second_interrupt_waits_for_no_server(
    simulate: Run, server: RoleServer, whole: RunFolder, folder: RunFolder
) -> None:
    process = start(folder)
    wait_until(lambda: server.answered >= 30, process)
    server.held.clear()
    interrupt(process)
    process.send_signal(signal.SIGINT)
    # The server still holds its answers.
    code, said = ended(process)
    assert code == 130
    assert said.splitlines()[-1] == f"Stopped. {GO_ON}"
    server.held.set()
    assert len(journalled_calls(folder)) >= 30 - 2 * CONCURRENCY
    assert simulate(folder)[0] == 0
    assert_same(folder, whole)


@pytest.mark.slow
def test_two_at_once_in_one_folder(simulate: Run, server: RoleServer, tmp_path: Path) -> None:
    server.held.clear()
    folder = start_folder(tmp_path / "run", server, people(2))
    first = start(folder)
    wait_until(lambda: bool(server.bodies), first)
    code, said = simulate(folder)
    assert code == 4
    assert f"is in use by process {first.pid}" in said and said.count("\n") == 1
    server.held.set()
    assert ended(first)[0] == 0


def test_a_budget_stops_and_a_larger_one_goes_on(
    simulate: Run, server: RoleServer, whole: RunFolder, calls: int, tmp_path: Path
) -> None:
    folder = start_folder(tmp_path / "run", server, people(8))
    each = sum(map(tokens, journalled_calls(whole).values())) / 8
    code, said = simulate(folder, "--budget", "45000 tokens")
    assert code == 10, said
    assert "The budget of 45,000 tokens is spent" in said and "raise --budget" in said
    kept = journalled_calls(folder)
    # Nearly all of it went into conversations that are whole.
    trees = read_jsonl(folder.trees, Tree)
    assert len(trees) >= 45_000 // each - 1 > 1
    assert [tree.failure for tree in trees] == [None] * len(trees)
    assert set(folder.trees.read_bytes().splitlines()) < set(whole.trees.read_bytes().splitlines())
    assert f"{len(trees)} of 8 conversations are done and written" in said
    told = read_json(folder.root / "simulation.json", Simulation)
    assert (told.trees, told.unfinished) == (len(trees), 8 - len(trees))
    # What the others have used is told as well.
    assert sum(row.calls for row in told.usage) == len(kept)
    assert (folder.preferences / "dpo.parquet").exists()
    assert f"{8 - len(trees)} conversations are still to come" in folder.simulation_report.read_text()
    # Whatever was sent is kept.
    assert len(server.bodies) == len(kept)
    used = [tokens(answer) for answer in kept.values()]
    assert 45_000 <= sum(used) < 45_000 + max(used)
    # As much again is no more.
    before = folder.trees.read_bytes()
    code, said = simulate(folder, "--budget", "45000 tokens")
    assert code == 10 and f"({sum(used):,} tokens, all before this command)" in said
    assert len(server.bodies) == len(kept)
    assert folder.trees.read_bytes() == before
    assert simulate(folder, "--budget", "10M tokens")[0] == 0
    assert len(server.bodies) == calls
    assert_same(folder, whole)
    for name in ("dpo.parquet", "sft.parquet"):
        assert (folder.preferences / name).read_bytes() == (whole.preferences / name).read_bytes()
    assert not (folder.root / ".stopped.json").exists()
    assert sum(row.calls for row in read_json(folder.root / "simulation.json", Simulation).usage) == calls


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk_at(tmp_path / "small", "256k") as folder:
        yield folder


def test_a_full_disk_keeps_what_was_paid_for(
    simulate: Run, server: RoleServer, whole: RunFolder, calls: int, tmp_path: Path, small_disk: Path
) -> None:
    folder = start_folder(small_disk / "run", server, people(8))
    code, said = simulate(folder)
    assert code == 7, said
    assert "journal.sqlite" in said and "paid answers are kept" in said and "Traceback" not in said
    assert not folder.trees.exists() and not folder.preferences.exists()
    assert not list(folder.root.rglob(".interalign-*"))
    kept = set(journalled_calls(folder))
    assert 10 < len(kept) < calls

    larger = RunFolder(tmp_path / "larger")
    shutil.copytree(folder.root, larger.root)
    begun = len(server.bodies)
    assert simulate(larger)[0] == 0
    assert not kept & {same_call(body) for body in server.bodies[begun:]}
    assert_same(larger, whole)
