"""`interalign eval` against a server that plays every role and spoils answers: nothing is lost and nothing made up."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from interalign.evaluation.rows import TurnRow
from interalign.evaluation.summary import Summary
from interalign.pipeline.record import Evaluation
from interalign.run import RunFolder, read_json, read_jsonl, write_jsonl
from tests.cli.commands import interalign
from tests.llm.servers import Reply, error, in_a_thread
from tests.simulation.faulty_roles import REFUSAL, RoleServer, journalled_calls, people, playing, same_call

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str]]
TURNS = 5
CASES = 6
# A user, an inducer, a model and a judge each turn, who also looks with the swapped persona; once three controls, one
# of them for the other person as well, and induction.
CALLS = 5 * TURNS + 7 + 2


@pytest.fixture
def evaluate() -> Run:
    """Run `interalign eval` in this process; gives its exit code and all it printed."""

    def once(folder: RunFolder, server: RoleServer, *options: str) -> tuple[int, str]:
        done = interalign(*command(folder, server), *options)
        return done.returncode, done.said

    return once


def command(folder: RunFolder, server: RoleServer) -> list[str]:
    served = f"served@{server.base_url}"
    return ["eval", "--out", str(folder.root), "--roles", served, "--model", f"mine={served}", "--turns", str(TURNS)]


def folder_with_people(root: Path, count: int = CASES) -> RunFolder:
    run = RunFolder(root)
    write_jsonl(run.heldout, [one.model_copy(update={"split": "heldout"}) for one in people(count)])
    return run


def rows_of(run: RunFolder) -> list[TurnRow]:
    return read_jsonl(run.eval / "mine" / "verdicts.jsonl", TurnRow)


def test_every_call_is_kept_and_asked_once(evaluate: Run, tmp_path: Path) -> None:
    with playing() as server:
        run = folder_with_people(tmp_path / "run")
        code, said = evaluate(run, server)
        assert code == 0, said
        rows = rows_of(run)
        repeats = [row for row in rows if row.repeat]
        assert len(rows) - len(repeats) == CASES * TURNS and len(repeats) == TURNS
        assert all(row.failure is None and row.verdict is not None for row in rows)
        # A control that happens to say what the model said is judged by the same call.
        asked = len(server.bodies)
        assert 0.9 * (CASES * CALLS + 4 * TURNS) < asked <= CASES * CALLS + 4 * TURNS
        told = read_json(run.eval / "evaluation.json", Evaluation)
        assert sum(row.calls for row in told.usage) == len(journalled_calls(run)) == len(server.bodies)
        assert {row.role for row in told.usage} == {"user", "inducer", "judge", "grader", "tested"}
        assert "Users played by served, judged by served" in said
        assert read_json(run.eval / "summary.json", Summary).world == told.world

        before = (run.eval / "mine" / "verdicts.jsonl").read_bytes()
        assert evaluate(run, server)[0] == 0
        assert len(server.bodies) == asked
        assert (run.eval / "mine" / "verdicts.jsonl").read_bytes() == before

        # Another model meets the same openings, for which nobody is asked again.
        code, said = evaluate(run, server, "--model", f"other+reminder=served@{server.base_url}")
        assert code == 0, said
        other = read_jsonl(run.eval / "other+reminder" / "verdicts.jsonl", TurnRow)
        assert [row.user for row in other if row.turn == 1] == [row.user for row in rows if row.turn == 1]
        again = [same_call(body) for body in server.bodies]
        assert len(set(again)) == len(again)


def test_what_a_server_spoils_is_told_and_never_scored(evaluate: Run, tmp_path: Path) -> None:
    with playing(spoilt=0.2) as server:
        run = folder_with_people(tmp_path / "run", 12)
        (tmp_path / "hasty.toml").write_text("[benchmark]\nin_flight = 12\n", encoding="utf-8")
        code, said = evaluate(run, server, "--recipe", str(tmp_path / "hasty.toml"))
        assert code == 0, said
        assert sum(server.faults.values()) > 0.1 * len(server.bodies)
        rows = rows_of(run)
        assert {(row.case, row.turn) for row in rows if not row.repeat} == {
            (one.id, turn) for one in read_people(run) for turn in range(1, TURNS + 1)
        }
        for row in rows:
            assert row.user != REFUSAL
            assert (row.failure is None) == bool(row.user)
            assert row.failure is None or (row.verdict is None and not row.controls)
        assert any(row.verdict for row in rows)
        told = read_json(run.eval / "evaluation.json", Evaluation)
        assert sum(told.faults.values()) == sum(len(row.faults) for row in rows) > 0
        kept = journalled_calls(run)
        assert sum(row.calls for row in told.usage) == len(kept)


def read_people(run: RunFolder) -> list[object]:
    from interalign.personas.persona import Persona

    return list(read_jsonl(run.heldout, Persona))


def test_a_budget_stops_and_a_larger_one_goes_on(evaluate: Run, tmp_path: Path) -> None:
    with playing() as server:
        whole, run = (folder_with_people(tmp_path / name) for name in ("whole", "run"))
        assert evaluate(whole, server)[0] == 0
        calls = len(server.bodies)
        code, said = evaluate(run, server, "--budget", "40000 tokens")
        assert code == 10, said
        assert "The budget of 40,000 tokens is spent" in said and "raise --budget" in said
        # Repeats wait until all first conversations are there.
        assert "Of mine, " in said and f"of {CASES} conversations" in said
        assert not (run.eval / "mine").exists()
        kept = len(journalled_calls(run))
        assert len(server.bodies) == calls + kept
        code, said = evaluate(run, server, "--budget", "10M tokens")
        assert code == 0, said
        assert len(server.bodies) == 2 * calls
    for name in ("mine/verdicts.jsonl", "summary.json"):
        assert (run.eval / name).read_bytes() == (whole.eval / name).read_bytes()


class Particular(RoleServer):
    """Turns down every other request of a judge, always the same ones, as a filter of contents does."""

    def next_reply(self, body: bytes, key: str | None) -> Reply:
        reply = super().next_reply(body, key)
        messages = json.dumps(json.loads(body)["messages"])
        # Without a schema, too, which the client leaves out where a request is refused with one.
        if "<reply>" not in messages or hashlib.sha256(messages.encode()).digest()[0] % 2:
            return reply
        return error(400, "filtered")


def test_what_a_server_turns_down_is_missing_however_often_the_command_is_run(evaluate: Run, tmp_path: Path) -> None:
    with in_a_thread(Particular()) as server:
        run = folder_with_people(tmp_path / "run")
        code, said = evaluate(run, server)
        assert code == 0, said
        before = len(server.bodies)
        code, said = evaluate(run, server)
        # Those only that were turned down are asked again, one after the other.
        assert code == 0 and len(server.bodies) - before > 10, said
    rows = rows_of(run)
    assert any(row.verdict is None for row in rows) and any(row.verdict for row in rows)
    assert all(row.failure is None for row in rows)


def test_a_server_that_is_gone_is_told_once(evaluate: Run, tmp_path: Path) -> None:
    with playing() as server:
        run = folder_with_people(tmp_path / "run")
    code, said = evaluate(run, server)
    assert code == 8, said
    assert "cannot be reached" in said and "run the same command again" in said
    assert not (run.eval / "mine").exists()


@pytest.mark.slow
def test_an_interrupt_keeps_what_was_paid_for(evaluate: Run, tmp_path: Path) -> None:
    with playing(delay_s=0.02) as server:
        whole, run = (folder_with_people(tmp_path / name, 12) for name in ("whole", "run"))
        assert evaluate(whole, server)[0] == 0
        calls = len(server.bodies)
        process = subprocess.Popen(
            [sys.executable, "-m", "interalign", *command(run, server)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"NO_PROXY": "127.0.0.1"},
        )
        deadline = time.monotonic() + 240
        while len(server.bodies) < calls + 30:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 130, said
        assert "Run the same command again to go on from here." in said
        assert len(journalled_calls(run)) == len(server.bodies) - calls < calls
        assert evaluate(run, server)[0] == 0
        assert len(server.bodies) == 2 * calls
    assert (run.eval / "summary.json").read_bytes() == (whole.eval / "summary.json").read_bytes()
