"""`interalign simulate --engine ray`: the same trees on several workers, and nothing paid for twice when one dies."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from interalign.cli import main
from interalign.conversations.simulate import SimulateConfig, roles_played_by
from interalign.errors import InputError
from interalign.llm.account import Account, Budget
from interalign.llm.endpoint import EndpointConfig
from interalign.llm.journal import Call, Journal
from interalign.llm.model import Answer, Request, Usage, call_key
from interalign.llm.prices import Prices
from interalign.messages import Message
from interalign.pipeline.ray_engine import _divided, _share, gather_journals
from interalign.recipe import Recipe
from interalign.run import RunFolder, write_jsonl
from tests.simulation.faulty_roles import RoleServer, journalled_calls, people, playing, same_call, start_folder

PEOPLE = 12
CONCURRENCY = 4
ON_RAY = ("--engine", "ray", "--workers", "2")

slow_on_ray = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (pip install 'interalign[ray]')"),
]


def command(folder: RunFolder, *options: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "interalign", "simulate", "--out", str(folder.root), *options]
    # A group of its own, which can be interrupted as a terminal does it.
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(folder: RunFolder, *options: str, code: int = 0) -> str:
    process = command(folder, *options)
    out, said = process.communicate(timeout=100)
    assert process.returncode == code, said
    return out + said


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"it did not come to that: {process.communicate()}")
        time.sleep(0.01)


def shards(folder: RunFolder) -> list[Path]:
    return sorted(folder.root.glob("journal-*.sqlite"))


def kept_by_workers(folder: RunFolder) -> set[str]:
    """The calls in the workers' journals, by `same_call`, as they stand."""
    return {call for path in shards(folder) for call in journalled_calls(Beside(folder.root, path))}


class Beside(RunFolder):
    """A run folder that has another journal."""

    def __init__(self, root: Path, journal: Path) -> None:
        super().__init__(root)
        object.__setattr__(self, "_journal", journal)

    @property
    def journal(self) -> Path:
        journal: Path = self._journal  # type: ignore[attr-defined]
        return journal


def helpers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [one for one in helpers(process) if any("_Worker" in word for word in one.cmdline()[:1])]


def contents(folder: RunFolder) -> list[bytes]:
    return [(folder.root / name).read_bytes() for name in ("trees.jsonl", "simulation.json")]


def rows(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return sorted(connection.execute("SELECT key, answer FROM calls").fetchall())


@pytest.fixture
def server() -> Iterator[RoleServer]:
    with playing(delay_s=0.03) as one:
        yield one


def whole_run(root: Path, server: RoleServer) -> RunFolder:
    """What one process makes of it."""
    folder = start_folder(root, server, people(PEOPLE), concurrency=CONCURRENCY, timeout_s=60)
    finish(folder)
    return folder


class TestOnRay:
    pytestmark = slow_on_ray

    def test_two_workers_make_what_one_process_makes(self, tmp_path: Path, server: RoleServer) -> None:
        alone = whole_run(tmp_path / "alone", server)
        divided = start_folder(tmp_path / "divided", server, people(PEOPLE), concurrency=CONCURRENCY, timeout_s=60)

        finish(divided, *ON_RAY)

        assert contents(divided) == contents(alone)
        assert rows(divided.journal) == rows(alone.journal)
        assert not shards(divided)

    def test_a_killed_worker_goes_on_and_asks_nothing_again(self, tmp_path: Path, server: RoleServer) -> None:
        whole = whole_run(tmp_path / "whole", server)
        calls = len(server.bodies)
        folder = start_folder(tmp_path / "killed", server, people(PEOPLE), concurrency=CONCURRENCY, timeout_s=60)

        process = command(folder, *ON_RAY)
        wait_for(lambda: len(server.bodies) > calls + calls // 3, process)
        listening = [
            one.laddr.ip
            for helper in helpers(process)
            for one in helper.net_connections("inet")
            if one.status == psutil.CONN_LISTEN
        ]
        assert listening
        assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
        server.held.clear()
        killed, other = workers(process)
        killed.kill()
        killed.wait()
        kept, asked = kept_by_workers(folder), len(server.bodies)
        server.held.set()
        wait_for(lambda: len({one.pid for one in workers(process)} - {killed.pid, other.pid}) > 0, process)
        _, said = process.communicate(timeout=100)

        assert process.returncode == 0, said
        assert len(kept) > calls // 5
        assert not kept & {same_call(body) for body in server.bodies[asked:]}
        # What was in flight in the worker that died was asked twice, and nothing else.
        assert len(server.bodies) <= 2 * calls + CONCURRENCY
        assert contents(folder) == contents(whole)
        assert not shards(folder)
        begun = len(server.bodies)
        folder.trees.unlink()
        finish(folder)
        assert len(server.bodies) == begun

    def test_what_a_killed_run_leaves_is_taken_up_by_one_process(self, tmp_path: Path, server: RoleServer) -> None:
        whole = whole_run(tmp_path / "whole", server)
        calls = len(server.bodies)
        folder = start_folder(tmp_path / "killed", server, people(PEOPLE), concurrency=CONCURRENCY, timeout_s=60)
        process = command(folder, *ON_RAY)
        wait_for(lambda: len(server.bodies) > calls + calls // 3, process)
        grow, left = workers(process), helpers(process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not psutil.wait_procs(grow, timeout=30)[1]
        for one in psutil.wait_procs(left, timeout=0)[1]:
            # Ray's agents take their time.
            one.kill()
        kept, asked = kept_by_workers(folder), len(server.bodies)

        finish(folder)

        assert len(kept) > calls // 5
        assert not kept & {same_call(body) for body in server.bodies[asked:]}
        assert contents(folder) == contents(whole)
        assert not shards(folder)

    def test_interrupted_it_keeps_what_was_answered(self, tmp_path: Path, server: RoleServer) -> None:
        folder = start_folder(tmp_path / "run", server, people(PEOPLE), concurrency=CONCURRENCY, timeout_s=60)
        process = command(folder, *ON_RAY)
        wait_for(lambda: len(server.bodies) > 30, process)

        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)

        assert process.returncode == 130, said
        assert set(journalled_calls(folder)) == {same_call(body) for body in server.bodies}
        assert not shards(folder)
        assert not folder.trees.exists()

    def test_the_budget_is_divided_and_kept(self, tmp_path: Path, server: RoleServer) -> None:
        folder = start_folder(tmp_path / "run", server, people(PEOPLE), concurrency=1, timeout_s=60)
        for budget in (20_000, 20_000, 40_000):
            said = finish(folder, *ON_RAY, "--budget", f"{budget} tokens", code=10)
            assert "One of 2 workers has spent its share" in said
            used = sum(
                one.usage.prompt_tokens + one.usage.completion_tokens for one in journalled_calls(folder).values()
            )
            assert budget / 2 < used < budget + 2 * 2_000
        assert len(server.bodies) == len(journalled_calls(folder))

    @pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
    def test_an_address_where_no_cluster_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
    ) -> None:
        folder = RunFolder(tmp_path)
        write_jsonl(folder.personas, people(2))
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert address in finish(folder, "--scripted", *ON_RAY, code=2)

    def test_an_error_of_the_workers_is_told_as_it_is(self, tmp_path: Path, server: RoleServer) -> None:
        folder = start_folder(tmp_path / "run", server, people(2), api_key_env="NO_SUCH_KEY", concurrency=1)
        recipe = folder.root / "recipe.toml"
        text = recipe.read_text(encoding="utf-8").replace(server.base_url, "http://models.invalid/v1")
        recipe.write_text(text, encoding="utf-8")

        said = finish(folder, *ON_RAY, code=2)

        assert "NO_SUCH_KEY" in said
        assert "Traceback" not in said


def test_without_ray_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(RunFolder(tmp_path).personas, people(2))
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(sys, "argv", ["interalign", "simulate", "--out", str(tmp_path), "--scripted", *ON_RAY])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 3
    assert "interalign[ray]" in capsys.readouterr().err


@pytest.mark.parametrize(("options", "why"), [(("--engine", "dask"), "no engine"), (("--workers", "2"), "belongs to")])
def test_options_that_do_not_fit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    why: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["interalign", "simulate", "--out", str(tmp_path), "--scripted", *options])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert why in capsys.readouterr().err


def call(text: str, tokens: int = 3) -> Call:
    request = Request(messages=(Message(role="user", content=text),))
    usage = Usage(prompt_tokens=tokens, completion_tokens=0)
    answer = Answer(text=f"re: {text}", finish="stop", usage=usage, model="m")
    return Call(call_key("m", request), request, answer, asked=f"asked for {text}")


def test_journals_of_workers_become_part_of_the_runs(tmp_path: Path) -> None:
    for name, texts in (("journal-0", ("a", "b")), ("journal-11", ("b", "c"))):
        with Journal.open(tmp_path / f"{name}.sqlite") as shard:
            shard.put_many(map(call, texts))
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        first = call("a")[0]
        journal.put(first, *call("a")[1:])
        gather_journals(journal, tmp_path)
        assert len(journal) == 3
        answers = [journal.get(call(text)[0]) for text in "abc"]
        assert {one.asked for one in journal.paid()} == {f"asked for {text}" for text in "abc"}
    assert [answer and answer.text for answer in answers] == ["re: a", "re: b", "re: c"]
    assert [path.name for path in tmp_path.iterdir()] == ["journal.sqlite"]


def test_a_damaged_journal_of_a_worker_is_named_and_kept(tmp_path: Path) -> None:
    damaged = tmp_path / "journal-3.sqlite"
    with Journal.open(damaged) as shard:
        shard.put(*call("a"))
    with closing(sqlite3.connect(damaged)) as connection:
        connection.execute("UPDATE calls SET answer = '{'")
        connection.commit()
    with Journal.open(tmp_path / "journal.sqlite") as journal, pytest.raises(InputError, match=r"journal-3\.sqlite"):
        gather_journals(journal, tmp_path)
    assert damaged.exists()


def test_limits_are_divided_and_none_becomes_nothing() -> None:
    model = EndpointConfig(
        base_url="http://localhost/v1", model="m", concurrency=9, requests_per_minute=3, tokens_per_minute=1000
    )
    recipe = Recipe(simulate=SimulateConfig(in_flight=10, roles=roles_played_by(model)))

    divided = _divided(recipe, 4).simulate

    assert divided.in_flight == 2
    assert divided.roles is not None
    for role in ("user", "inducer", "tailored", "generic", "judge"):
        (one,) = getattr(divided.roles, role).models
        assert isinstance(one.model, EndpointConfig)
        assert (one.model.concurrency, one.model.requests_per_minute, one.model.tokens_per_minute) == (2, 1, 250)
        assert one.model.base_url == model.base_url


@pytest.mark.parametrize(("budget", "share"), [(1000, 400), (100, 200), (201, 200), (200, 200)])
def test_what_the_budget_leaves_is_divided(tmp_path: Path, budget: int, share: int) -> None:
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        journal.put(*call("a", 200))
    account = Account(Budget(tokens=budget), Prices(), journal=tmp_path / "journal.sqlite")
    assert _share(account, 4) == Budget(tokens=share)
    assert _share(Account(None, Prices()), 4) is None


def test_a_share_is_never_nothing() -> None:
    assert _share(Account(Budget(tokens=3), Prices()), 4) == Budget(tokens=1)
    assert _share(Account(Budget(usd=3), Prices()), 4) == Budget(usd=0.75)
