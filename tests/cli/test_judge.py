"""`interalign judge`, as it is typed: rules, scripts, and a real server on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from interalign.cli.console import err, out
from interalign.cli.judge import judge
from interalign.errors import BudgetSpent, InputError, RunMismatch
from interalign.evaluation.judging.sheet import SheetAgreement
from interalign.evaluation.judging.trial import Trial
from interalign.pipeline.judging import DriftHistory
from interalign.run import read_json, write_text
from tests.llm.servers import completion, serving

Run = Callable[..., Result]

RATINGS = """item,anna,ben,judge
a,5,4,5
b,1,2,2
c,3,3,2
d,4,4,
e,2,1,1
f,5,5,4
"""


def rating(score: int) -> str:
    return json.dumps({"score": score, "style": score, "content": score, "honest": True})


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a subcommand in an empty folder; an error of ours is the result's exception."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for console in (out, err):
        monkeypatch.setattr(console, "_width", 200)

    def once(*words: str | Path) -> Result:
        return CliRunner().invoke(judge, [str(word) for word in words])

    return once


def test_people_and_judge_are_compared(run: Run, tmp_path: Path) -> None:
    write_text(tmp_path / "ratings.csv", RATINGS)
    done = run("agreement", "ratings.csv")
    assert done.exit_code == 0, done.exception
    assert "judge and people: 5 items" in done.stdout
    assert "Rated by people and not by the judge: 1 item." in done.stdout
    assert "anna (person)" in done.stdout
    read = SheetAgreement.model_validate_json(run("agreement", "ratings.csv", "--json").stdout)
    assert read.judge.missing == 1
    assert isinstance(run("agreement", "ratings.csv", "--judge", "none").exception, InputError)


def test_rules_are_put_on_trial(run: Run) -> None:
    done = run("test", "--rules", "--items", "12", "--tests", "person,claims")
    assert done.exit_code == 0, done.exception
    assert "sees the person" in done.stdout
    assert "weak It lets false claims about the user pass." in done.stdout
    kept = read_json(Path("runs/judge/trial-rules.json"), Trial)
    assert kept.person is not None and kept.length is None
    assert not Path("runs/judge/journal.sqlite").exists()


def test_an_estimate_counts_the_calls_that_are_made(run: Run) -> None:
    words = ("test", "--scripted", "--items", "2", "--tests", "person,order")
    told = run(*words, "--estimate")
    assert told.exit_code == 0, told.exception
    assert not Path("runs").exists()
    done = run(*words)
    for role, calls in {"rater": 4, "judge": 4}.items():
        assert f"{role} (a script): {calls} calls" in told.stdout
        assert f"{role} (scripted {role}): {calls} calls" in done.stdout
    assert "no calls" in run("test", "--rules", "--estimate").stdout


def test_a_judge_is_named_in_one_word_as_elsewhere(run: Run) -> None:
    words = ("test", "--items", "2", "--tests", "person")
    with serving(completion(rating(3))) as server:
        done = run(*words, "--model", f"asked@{server.base_url}")
        assert done.exit_code == 0, done.exception
        assert {body["model"] for body in server.bodies} == {"asked"}
    assert run(*words, "--model", "scripted").exit_code == 0
    assert "lacks http://" in str(run(*words, "--model", "m@localhost:8731/v1").exception)


def test_what_was_asked_is_not_asked_again(run: Run) -> None:
    with serving(completion(rating(3))) as server:
        words = ("test", "--model", "asked", "--base-url", server.base_url, "--items", "3", "--tests", "person")
        done = run(*words, "--json")
        assert done.exit_code == 0, done.exception
        assert len(server.bodies) == 6
        found = Trial.model_validate_json(done.stdout)
        assert found.person is not None and found.person.auc.value == 0.5
        again = run(*words, "--json")
        assert again.stdout == done.stdout
        # One more person is two more questions, and is the stranger of the third now.
        run(*words[:-3], "4", "--tests", "person")
        assert len(server.bodies) == 9


def test_a_spent_budget_stops_and_a_larger_one_goes_on(run: Run) -> None:
    with serving(completion(rating(3), usage={"prompt_tokens": 900, "completion_tokens": 100})) as server:
        words = ("test", "--model", "asked", "--base-url", server.base_url, "--items", "3", "--tests", "person")
        stopped = run(*words, "--budget", "2000 tokens")
        assert isinstance(stopped.exception, BudgetSpent)
        assert 0 < len(server.bodies) < 6
        assert not Path("runs/judge/trial-asked.json").exists()
        done = run(*words, "--budget", "1M tokens")
        assert done.exit_code == 0, done.exception
        assert len(server.bodies) == 6


def test_self_preference_asks_both_models_to_write(run: Run) -> None:
    with serving(completion(rating(3))) as server:
        done = run(
            *("test", "--model", "mine", "--base-url", server.base_url, "--items", "3", "--tests", "self"),
            *("--rival", "theirs", "--rival-url", server.base_url),
        )
        assert done.exit_code == 0, done.exception
        assert {body["model"] for body in server.bodies} == {"mine", "theirs"}
        assert sum(body["model"] == "theirs" for body in server.bodies) == 3
    assert "own reply, points" in done.stdout


def test_a_judge_that_changes_under_its_name_raises_an_alarm(run: Run) -> None:
    replies = [completion(rating(3))] * 32 + [completion(rating(4))]
    with serving(*replies) as server:
        words = ("drift", "--model", "asked", "--base-url", server.base_url, "--items", "2")
        first = run(*words)
        assert first.exit_code == 0, first.exception
        assert "The first look at asked is written down" in first.stdout
        second = run(*words, "--fail")
        assert (second.exit_code, "No drift is shown." in second.stdout) == (0, True), second.exception
        # Each look asks anew: eight questions, twice.
        assert len(server.bodies) == 32
        third = run(*words, "--fail")
        assert (third.exit_code, "alarm This judge" in third.stdout) == (1, True)
    history = read_json(Path("runs/judge/drift-asked.json"), DriftHistory)
    assert len(history.snapshots) == 3
    assert history.snapshots[0].scores != history.snapshots[2].scores


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("test",), "Which judge"),
        (("test", "--rules", "--scripted"), "Which judge"),
        (("test", "--rules", "--base-url", "http://localhost:1/v1"), "no model"),
        (("test", "--rules", "--tests", "person,charm"), "no test 'charm'"),
        (("test", "--rules", "--rival", "other"), "A rival is a model"),
        (("drift",), "Which judge"),
    ],
)
def test_what_is_not_clear_is_refused(run: Run, words: tuple[str, ...], what: str) -> None:
    done = run(*words)
    assert isinstance(done.exception, InputError)
    assert what in str(done.exception)
    assert not Path("runs").exists()


def test_the_folder_of_another_run_is_left_alone(run: Run, tmp_path: Path) -> None:
    write_text(tmp_path / "run" / "recipe.toml", 'name = "mine"\n\n[simulate]\nturns = 3\n')
    write_text(tmp_path / "run" / "trees.jsonl", "{}\n")
    done = run("test", "--rules", "--items", "2", "--out", "run")
    assert isinstance(done.exception, RunMismatch)
