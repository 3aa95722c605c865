"""`interalign simulate` and `interalign export`, as they are typed; scripts play the roles."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from interalign.cli import main
from interalign.cli.console import err, out
from interalign.conversations.tree import Tree
from interalign.personas.persona import Persona
from interalign.personas.seeds import seeds
from interalign.pipeline.simulate import Simulation
from interalign.run import read_json, read_jsonl, write_jsonl

PEOPLE = [
    Persona(profile=one.text, personality=other.text)
    for one, other in zip(seeds("profile")[:6], seeds("personality")[:6], strict=True)
]


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command of `interalign` in this process."""
    for console in (out, err):
        # Side by side, tests have a terminal of 80 columns from the beginning.
        monkeypatch.setattr(console, "_width", 200)

    def once(*words: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["interalign", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        code = end.value.code
        return Done(code if isinstance(code, int) else int(code is not None), captured.out, captured.err)

    return once


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "run" / "personas.jsonl", PEOPLE)
    return tmp_path / "run"


def test_a_simulation_by_scripts_is_exported_in_any_form(run: Run, folder: Path, tmp_path: Path) -> None:
    done = run("simulate", "--out", folder, "--scripted", "--turns", "3")
    assert done.returncode == 0, done.stderr
    assert "How often the chosen reply is the one with more" in done.stdout
    trees = read_jsonl(folder / "trees.jsonl", Tree)
    assert [tree.persona_id for tree in trees] == [one.id for one in PEOPLE]
    told = read_json(folder / "simulation.json", Simulation)
    assert (told.trees, told.ended_early, told.turns, told.missing_verdicts) == (6, 0, 18, 0)
    assert {row.role: row.calls for row in told.usage} == {
        "user": 18, "inducer": 18, "tailored": 18, "generic": 18, "judge": 36,
    }  # fmt: skip
    assert all(row.usd == 0 for row in told.usage)
    assert set(told.prompts) == {"user", "inducer", "tailored", "generic", "judge", "notes", "repair"}
    for form in ("dpo", "aloe"):
        done = run("export", tmp_path / form, "--out", folder, "--form", form)
        assert done.returncode == 0, done.stderr
        assert "prompt user" in (tmp_path / form / "README.md").read_text()
    back = run("export", tmp_path / "back", "--aloe", tmp_path / "aloe" / "data" / "train.jsonl", "--form", "sft")
    assert back.returncode == 0, back.stderr


def test_growing_on_may_change_how_it_is_grown_and_nothing_else_may(run: Run, folder: Path) -> None:
    assert run("simulate", "--out", folder, "--scripted", "--turns", "2", "--personas", "3").returncode == 0
    before = read_jsonl(folder / "trees.jsonl", Tree)
    refused = run("simulate", "--out", folder, "--policy", "full")
    assert (refused.returncode, "simulate.policy.name" in refused.stderr) == (5, True)
    words = ("--grow", folder / "trees.jsonl", "--policy", "full", "--depth", "2")
    assert run("simulate", "--out", folder, *words).returncode == 0
    after = read_jsonl(folder / "trees.jsonl", Tree)
    assert [tree.persona_id for tree in after] == [tree.persona_id for tree in before]
    assert all(len(list(tree.user_turns())) == 3 for tree in after)
    grown = read_json(folder / "simulation.json", Simulation).grown
    assert [(one.policy.name, one.turns, one.personas) for one in grown] == [("path", 2, 3), ("full", 2, 3)]
    assert run("simulate", "--out", folder, *words[:2], "--model", "another").returncode == 5


def test_an_estimate_counts_the_calls_and_makes_none(run: Run, folder: Path) -> None:
    done = run(
        "simulate", "--out", folder, "--base-url", "http://localhost:1/v1", "--model", "nobody-knows", "--estimate"
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if "nobody-knows" in line]
    assert {row[0]: row[2] for row in rows} == {
        "user": "30", "inducer": "30", "tailored": "30", "generic": "30", "judge": "60",
    }  # fmt: skip
    assert all(row[-1] == "unknown" for row in rows)
    assert not (folder / "journal.sqlite").exists()


def test_the_prompts_can_be_read_before_anything_is_sent(run: Run, folder: Path) -> None:
    done = run("simulate", "--out", folder, "--scripted", "--show-prompts", "--turns", "2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line in {"user", "inducer", "tailored", "generic", "judge"}] == [
        "user", "inducer", "tailored", "generic", "judge",
    ]  # fmt: skip
    assert any(json.loads(line)["user"] for line in lines if line.startswith('{"user"'))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--scripted", "--model", "x"], 2, "--scripted takes no --model"),
        (["--base-url", "http://localhost:1/v1"], 2, "add --model"),
        (["--scripted", "--budget", "3 chf"], 2, "neither money nor tokens"),
        (["--scripted", "--policy", "tree"], 2, "'path', 'full' or 'best'"),
        (["--scripted", "--grow", "nowhere.jsonl"], 2, "nowhere.jsonl does not exist"),
        (["--scripted", "--prices", "nowhere.toml"], 2, "nowhere.toml does not exist"),
        ([], 2, "cannot be played by rules"),
        (["--estimate"], 2, "Rules play all roles"),
        (["--base-url", "http://localhost:1/v1", "--model", "x", "--budget", "3usd"], 2, "price of x@"),
    ],
)
def test_what_cannot_be_is_said_and_leaves_no_trees(
    run: Run, folder: Path, words: list[str], code: int, said: str
) -> None:
    done = run("simulate", "--out", folder, *words)
    assert (done.returncode, said in " ".join(done.stderr.split())) == (code, True), done.stderr
    assert not (folder / "trees.jsonl").exists()
    # Nothing was made, so another command may follow in the same folder.
    assert run("simulate", "--out", folder, "--scripted", "--turns", "1", "--personas", "2").returncode == 0


def test_a_folder_without_personas_is_not_made(run: Run, tmp_path: Path) -> None:
    done = run("simulate", "--out", tmp_path / "typo", "--scripted")
    assert (done.returncode, "nobody to talk to" in done.stderr) == (2, True)
    assert not (tmp_path / "typo").exists()


def test_a_trial_with_a_few_is_followed_by_the_others(run: Run, folder: Path) -> None:
    assert run("simulate", "--out", folder, "--scripted", "--turns", "2", "--personas", "2").returncode == 0
    first = read_jsonl(folder / "trees.jsonl", Tree)
    assert run("simulate", "--out", folder).returncode == 0
    trees = read_jsonl(folder / "trees.jsonl", Tree)
    assert (trees[:2], [tree.persona_id for tree in trees]) == (first, [one.id for one in PEOPLE])
    told = read_json(folder / "simulation.json", Simulation)
    assert [one.personas for one in told.grown] == [2, 4]
    assert {row.role: row.calls for row in told.usage}["user"] == 12
    again = run("simulate", "--out", folder)
    assert "done before" in again.stderr
    assert read_json(folder / "simulation.json", Simulation) == told


def test_growing_a_few_on_keeps_the_other_trees(run: Run, folder: Path) -> None:
    assert run("simulate", "--out", folder, "--scripted", "--turns", "2").returncode == 0
    before = read_jsonl(folder / "trees.jsonl", Tree)
    words = ("--grow", folder / "trees.jsonl", "--turns", "3", "--personas", "1")
    assert run("simulate", "--out", folder, *words).returncode == 0
    after = read_jsonl(folder / "trees.jsonl", Tree)
    assert after[1:] == before[1:]
    assert len(list(after[0].user_turns())) == 3
    # The account is that of all trees: 2 turns of 6 people, and one more of one.
    usage = read_json(folder / "simulation.json", Simulation).usage
    assert {row.role: row.calls for row in usage}["user"] == 13


def test_held_out_people_are_not_talked_to(run: Run, folder: Path) -> None:
    write_jsonl(folder / "heldout.jsonl", [PEOPLE[0].model_copy(update={"split": "heldout"})])
    done = run("simulate", "--out", folder, "--scripted")
    assert (done.returncode, PEOPLE[0].id in done.stderr) == (6, True)
    write_jsonl(folder / "heldout.jsonl", [])
    write_jsonl(folder / "personas.jsonl", [PEOPLE[0].model_copy(update={"split": "heldout"}), *PEOPLE[1:]])
    assert run("simulate", "--out", folder, "--scripted").returncode == 6
    assert not (folder / "trees.jsonl").exists()


def test_nothing_to_grow_is_said(run: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").touch()
    done = run("simulate", "--out", folder, "--scripted", "--grow", tmp_path / "none.jsonl")
    assert (done.returncode, "none.jsonl holds no trees" in done.stderr) == (2, True)
    (folder / "personas.jsonl").write_text("")
    done = run("simulate", "--out", folder, "--scripted")
    assert (done.returncode, "no persona to talk to" in done.stderr) == (2, True)
    assert not (folder / "trees.jsonl").exists()
