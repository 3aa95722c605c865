"""`interalign choices`, as it is typed, with a real server on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from interalign.cli.choices import choices
from interalign.errors import BudgetSpent, InputError, InteralignError, ModelError, Outage
from interalign.evaluation.choices import Choice, ChoiceSummary
from interalign.evaluation.choices.asking import order_of
from interalign.evaluation.choices.files import read_choices
from interalign.run import read_json, read_jsonl
from tests.llm.servers import FaultyServer, completion, error, serving

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the command in an empty folder."""
    app = typer.Typer()
    app.command()(choices)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")

    def once(*words: str | Path, server: FaultyServer | None = None) -> Result:
        where = ("--base-url", server.base_url) if server else ()
        return CliRunner().invoke(app, [*map(str, words), "--model", "served", *where])

    return once


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    rows = [
        {
            "id": f"q{one}",
            "question": "What shall I drink?",
            "options": ["Tea", "Coffee", "Hot milk"],
            "answer": one % 3,
            "group": f"kind {one % 2}",
            "person": f"person {one // 2}",
            "chat": [{"role": "user", "content": f"I like number {one}."}, {"role": "assistant", "content": "Noted."}],
        }
        for one in range(6)
    ]
    path = tmp_path / "drinks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def told(result: Result, kind: type[InteralignError]) -> str:
    assert isinstance(result.exception, kind), result.exception
    return str(result.exception)


def test_choices_are_written_with_their_orders_and_told(run: Run, questions: Path, tmp_path: Path) -> None:
    with serving(completion("Answer: A")) as server:
        done = run(questions, server=server)
    assert done.exit_code == 0, done.exception
    assert "kind 1" in done.stdout
    assert "12 calls, 108 tokens" in done.stdout
    place = tmp_path / "runs" / "choices" / "drinks" / "served"
    rows = read_jsonl(place / "plain.jsonl", Choice)
    items = {item.id: item for item in read_choices(questions).items}
    assert [row.order for row in rows] == [order_of(items[row.item], 0) for row in rows]
    assert all(row.chosen == row.order[0] and row.right == (row.order[0] == items[row.item].answer) for row in rows)
    summary = read_json(place / "plain.json", ChoiceSummary)
    assert summary.overall.with_chat.right == sum(row.right is True for row in rows if row.shown == "chat")
    assert (summary.overall.gain.value, summary.overall.people, len(summary.groups)) == (0, 3, 2)


def test_what_was_paid_is_not_asked_again(run: Run, questions: Path) -> None:
    with serving(completion("Answer: A")) as server:
        assert run(questions, "--limit", "2", server=server).exit_code == 0
        assert len(server.bodies) == 4
        done = run(questions, "--json", server=server)
        assert len(server.bodies) == 12
        again = run(questions, "--json", server=server)
        assert len(server.bodies) == 12
    assert done.stdout == again.stdout
    assert ChoiceSummary.model_validate_json(done.stdout).overall.questions == 6


def test_a_budget_stops_the_work_and_a_larger_one_goes_on(run: Run, questions: Path, tmp_path: Path) -> None:
    with serving(completion("Answer: A")) as server:
        words = (questions, "--in-flight", "1", "--max-tokens", "5")
        assert "is spent" in told(run(*words, "--budget", "30 tokens", server=server), BudgetSpent)
        paid = len(server.bodies)
        assert 0 < paid < 12
        assert not list(tmp_path.rglob("plain.json"))
        assert run(*words, "--budget", "100k tokens", server=server).exit_code == 0
        assert len(server.bodies) == 12


def test_an_estimate_asks_nobody(run: Run, questions: Path, tmp_path: Path) -> None:
    with serving(error(500)) as server:
        done = run(questions, "--estimate", "--method", "self-critique", "--max-tokens", "10", server=server)
        assert not server.bodies
    assert done.exit_code == 0, done.exception
    assert "6 questions, 36 calls" in done.stdout
    assert "US$ unknown" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_prompts_are_shown_as_they_would_be_sent(run: Run, questions: Path) -> None:
    with serving(error(500)) as server:
        done = run(questions, "--show-prompts", server=server)
        assert not server.bodies
    assert "I like number 0." in done.stdout
    assert done.stdout.count("What shall I drink?") == 2


def test_a_method_asks_in_its_own_way(run: Run, questions: Path, tmp_path: Path) -> None:
    with serving(completion("REPLY: B")) as server:
        assert run(questions, "--method", "cot", server=server).exit_code == 0
        assert all("REPLY:" in body["messages"][-1]["content"] for body in server.bodies)
    (rows,) = tmp_path.rglob("cot.jsonl")
    assert all(row.chosen == row.order[1] for row in read_jsonl(rows, Choice))


def test_a_server_that_does_not_know_the_model_ends_the_work(run: Run, questions: Path, tmp_path: Path) -> None:
    with serving(error(404, "no such model")) as server:
        assert "served" in told(run(questions, server=server), Outage)
    assert not list(tmp_path.rglob("plain.json"))


def test_where_no_question_is_answered_nothing_is_written(run: Run, questions: Path, tmp_path: Path) -> None:
    with serving(error(400, "context too long")) as server:
        assert "No question was answered" in told(run(questions, "--limit", "2", server=server), ModelError)
    assert not list(tmp_path.rglob("plain.json"))


def test_answers_that_cannot_be_read_are_missing_and_none_at_all_is_no_result(
    run: Run, questions: Path, tmp_path: Path
) -> None:
    with serving(completion("It depends.")) as server:
        said = told(run(questions, "--json", server=server), ModelError)
    assert "None of 12 answers names a letter plainly" in said and "'It depends.'" in said
    assert not list(tmp_path.rglob("plain.json"))
    with serving(completion("It depends."), *[completion("Answer: A")] * 11) as server:
        done = run(questions, "--json", "--in-flight", "1", "--temperature", "0.1", server=server)
        summary = ChoiceSummary.model_validate_json(done.stdout)
    assert summary.overall.with_chat.missing + summary.overall.without_chat.missing == 1


def test_the_model_may_be_named_with_its_server_or_be_a_script(
    questions: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    app = typer.Typer()
    app.command()(choices)
    with serving(completion("Answer: A")) as server:
        done = CliRunner().invoke(app, [str(questions), "--model", f"served@{server.base_url}"])
        assert done.exit_code == 0, done.exception
        assert {body["model"] for body in server.bodies} == {"served"}
    assert "--prices" in done.output
    done = CliRunner().invoke(app, [str(questions), "--model", "scripted"])
    assert done.exit_code == 0 and "a script" in done.output, done.exception
    assert "lacks http://" in told(CliRunner().invoke(app, [str(questions), "--model", "m@localhost:8731"]), InputError)


def test_an_unknown_method_is_refused(run: Run, questions: Path) -> None:
    assert "plain, reminder" in told(run(questions, "--method", "magic"), InputError)
