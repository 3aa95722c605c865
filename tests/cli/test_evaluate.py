"""`interalign eval`, as it is typed; scripts play the roles and the tested models."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from interalign.cli import main
from interalign.cli.console import err, out
from interalign.cli.evaluate import model_named
from interalign.errors import InputError
from interalign.evaluation.cases import card
from interalign.evaluation.controls import CONTROL_PROMPTS
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.summary import Summary
from interalign.llm.backends import LocalConfig, ModelConfig, ScriptedConfig
from interalign.llm.endpoint import EndpointConfig
from interalign.llm.inspect import InspectConfig
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.persona import Persona
from interalign.personas.seeds import seeds
from interalign.pipeline.evaluate import WORLD, Evaluation
from interalign.recipe import load_recipe
from interalign.run import read_json, read_jsonl, write_jsonl

PEOPLE = [
    Persona(profile=one.text, personality=other.text, split="heldout")
    for one, other in zip(seeds("profile")[:4], seeds("personality")[:4], strict=True)
]
COMPOSED = [one for one in compose_personas(WorldConfig(train=1, heldout=3), seed=3) if one.split == "heldout"]


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `interalign eval` in this process."""
    for console in (out, err):
        monkeypatch.setattr(console, "_width", 200)

    def once(*words: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["interalign", "eval", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        code = end.value.code
        return Done(code if isinstance(code, int) else int(code is not None), captured.out, captured.err)

    return once


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "run" / "heldout.jsonl", PEOPLE)
    return tmp_path / "run"


SCRIPTED = ("--roles", "scripted", "--model", "mine=scripted", "--turns", "4")


def test_language_models_play_all_roles(run: Run, folder: Path) -> None:
    done = run("--out", folder, *SCRIPTED, "--model", "mine+reminder")
    assert done.returncode == 0, done.stderr
    assert "Users played by a script, judged by a script" in done.stdout
    summary = read_json(folder / "eval" / "summary.json", Summary)
    assert [model.name for model in summary.models] == ["mine+reminder", "mine"]
    rows = read_jsonl(folder / "eval" / "mine" / "verdicts.jsonl", TurnRow)
    assert [(row.case, row.turn) for row in rows] == [(one.id, turn) for one in PEOPLE for turn in (1, 2, 3, 4)]
    assert all(row.verdict and row.swapped for row in rows)
    assert [row.turn for row in rows if row.controls] == [row.turn for row in rows if row.induction] == [4] * 4
    told = read_json(folder / "eval" / "evaluation.json", Evaluation)
    assert {row.role: row.calls for row in told.usage}["user"] == 4 * (1 + 2 * 3)
    roles = {"user", "inducer", "judge", "grader"}
    assert set(told.prompts) == {*roles, "notes", "repair", "induce", *CONTROL_PROMPTS}
    assert (told.cases.cases, told.cases.version) == (4, card(PEOPLE).version)
    kept = load_recipe(folder / "recipe.toml").benchmark
    assert kept.roles is not None and kept.turns == 4
    # What was said of the roles is the folder's now, and another judge needs another folder.
    assert run("--out", folder, "--model", "mine=scripted").returncode == 0
    refused = run("--out", folder, "--model", "mine=scripted", "--judge", "other@http://localhost:1/v1")
    assert refused.returncode == 5


def test_without_controls_nothing_is_asked_beside_the_conversation(run: Run, folder: Path) -> None:
    done = run("--out", folder, *SCRIPTED, "--no-controls")
    assert done.returncode == 0, done.stderr
    told = read_json(folder / "eval" / "evaluation.json", Evaluation)
    assert {row.role: row.calls for row in told.usage} == {"user": 16, "inducer": 16, "tested": 16, "judge": 16}


def test_helpfulness_is_rated_where_it_is_asked_for(run: Run, folder: Path) -> None:
    (folder.parent / "helpful.toml").write_text(
        "[benchmark]\nturns = 2\nhelpfulness = true\nrepeats = 0.5\ncontrol_turns = []\ninduction_turns = []\n"
        '[benchmark.models]\nmine = { backend = "scripted" }\n'
        "[benchmark.roles]\n"
        + "".join(
            f"{role}.models = [{{ model = {{ backend = 'scripted' }} }}]\n" for role in ("user", "inducer", "judge")
        ),
        encoding="utf-8",
    )
    done = run("--out", folder, "--recipe", folder.parent / "helpful.toml")
    assert done.returncode == 0, done.stderr
    rows = read_jsonl(folder / "eval" / "mine" / "verdicts.jsonl", TurnRow)
    assert [row.repeat for row in rows] == [0] * 8 + [1] * 4
    assert all((row.helpfulness is None) == bool(row.repeat) for row in rows)
    assert not any(row.controls or row.induction for row in rows)


def test_a_run_of_an_older_version_takes_further_models(run: Run, folder: Path) -> None:
    write_jsonl(folder / "heldout.jsonl", COMPOSED)
    old = "[benchmark]\nturns = 2\nmax_tokens = 60\n"
    (folder / "recipe.toml").write_text(old, encoding="utf-8")
    assert run("--out", folder, "--model", "mine=scripted").returncode == 0
    assert (folder / "recipe.toml").read_text(encoding="utf-8") == old
    (folder.parent / "more.toml").write_text(old + '[benchmark.models]\nother = { backend = "scripted" }\n')
    done = run("--out", folder, "--recipe", folder.parent / "more.toml")
    assert done.returncode == 0, done.stderr
    assert [model.name for model in read_json(folder / "eval" / "summary.json", Summary).of_kind("model")] == ["other"]
    (folder.parent / "longer.toml").write_text(old.replace("60", "61"))
    refused = run("--out", folder, "--model", "mine=scripted", "--recipe", folder.parent / "longer.toml")
    assert refused.returncode == 5 and "max_tokens: 60 -> 61" in refused.stderr and "(absent)" not in refused.stderr


def test_a_case_that_was_trained_on_is_refused(run: Run, folder: Path) -> None:
    write_jsonl(folder / "personas.jsonl", [PEOPLE[0].model_copy(update={"split": "train"})])
    done = run("--out", folder, *SCRIPTED, "--cases", folder / "heldout.jsonl")
    assert done.returncode == 6 and "share a profile" in done.stderr
    assert not (folder / "eval").exists()


def test_rules_as_user_and_judge_are_the_default(run: Run, folder: Path) -> None:
    write_jsonl(folder / "heldout.jsonl", COMPOSED)
    done = run("--out", folder, "--model", "mine=scripted", "--turns", "3")
    assert done.returncode == 0, done.stderr
    summary = read_json(folder / "eval" / "summary.json", Summary)
    assert summary.world == WORLD
    assert [model.name for model in summary.of_kind("control")] == [
        "constant",
        "mirror",
        "disclosed-only oracle",
        "full oracle",
    ]
    told = read_json(folder / "eval" / "evaluation.json", Evaluation)
    assert {row.role: row.calls for row in told.usage} == {"tested": 9}
    done = run("--out", folder.parent / "plain", "--model", "mine=scripted", "--cases", folder / "heldout.jsonl")
    assert done.returncode == 0, done.stderr
    assert len(read_jsonl(folder.parent / "plain" / "eval" / "cases.jsonl", Persona)) == 3


def test_rules_may_play_the_user_for_a_language_model_that_judges(run: Run, folder: Path) -> None:
    write_jsonl(folder / "heldout.jsonl", COMPOSED)
    done = run("--out", folder, *SCRIPTED, "--user", "rules")
    assert done.returncode == 0, done.stderr
    assert "Rule-based users, judged by a script" in done.stdout
    told = read_json(folder / "eval" / "evaluation.json", Evaluation)
    assert {row.role for row in told.usage} == {"judge", "grader", "tested"}


def test_an_estimate_is_what_it_takes(run: Run, folder: Path) -> None:
    done = run("--out", folder, *SCRIPTED, "--estimate")
    assert done.returncode == 0, done.stderr
    assert not (folder / "recipe.toml").exists() and not (folder / "eval").exists()
    lines = [line.replace(",", "").replace("a script", "script").split() for line in done.stdout.splitlines()]
    said = {words[0]: int(words[2]) for words in lines if len(words) == 6 and words[1] == "script"}
    assert run("--out", folder, *SCRIPTED).returncode == 0
    told = read_json(folder / "eval" / "evaluation.json", Evaluation)
    took = {row.role: row.calls for row in told.usage}
    # A control that says what the model said is judged by the same call.
    assert said.keys() == took.keys() and all(0.8 * said[role] <= took[role] <= said[role] for role in said)


def test_a_call_of_each_kind_is_shown(run: Run, folder: Path) -> None:
    done = run("--out", folder, *SCRIPTED, "--show-prompts", "--user", "u@http://localhost:1/v1")
    assert done.returncode == 0, done.stderr
    for shown in ("u at http://localhost:1/v1; max_tokens 200", "<statements>", "<disclosed>", "You are a helpful"):
        assert shown in done.stdout
    assert not (folder / "eval").exists()


def test_a_plan_says_how_many_cases_it_takes(run: Run, tmp_path: Path) -> None:
    done = run("--out", tmp_path / "absent", "--plan", "--detect", "0.2")
    assert done.returncode == 0, done.stderr
    assert "0.2 points" in done.stdout and not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--model", "mine"), "neither NAME=WHAT nor NAME+METHOD"),
        (("--model", "absent+reminder"), "There is no model 'absent'"),
        (("--model", "base=scripted"), "cannot be called 'base'"),
        (("--model", "a=scripted", "--model", "a=scripted"), "the same name"),
        (("--model", "a=scripted", "--user", "scripted"), "name models as judge"),
        (("--model", "a=scripted", "--roles", "scripted", "--judge", "rules"), "name models as judge"),
        (("--model", "a=scripted", "--budget", "much"), "neither money nor tokens"),
        (("--model", "a=scripted", "--cases", "absent.jsonl"), "absent.jsonl"),
        (("--model", "a=scripted"), "cannot be played by rules"),
    ],
)
def test_what_cannot_be_is_refused(run: Run, folder: Path, words: tuple[str, ...], why: str) -> None:
    done = run("--out", folder, *words)
    assert done.returncode == 2 and why in done.stderr, done.stderr
    assert not (folder / "eval").exists()


@pytest.mark.parametrize(
    ("what", "model"),
    [
        ("scripted", ScriptedConfig()),
        ("m@http://localhost:8000/v1", EndpointConfig(base_url="http://localhost:8000/v1", model="m")),
        ("org/m@https://api.example.com/v1", EndpointConfig(base_url="https://api.example.com/v1", model="org/m")),
        ("inspect:mockllm/model", InspectConfig(model="mockllm/model")),
        ("models/mine", LocalConfig(checkpoint="models/mine")),
        ("org/model@main", LocalConfig(checkpoint="org/model@main")),
    ],
)
def test_a_model_in_one_word(what: str, model: ModelConfig) -> None:
    assert model_named(what) == model


@pytest.mark.parametrize("what", ["inspect:model", "m@http://", "@http://localhost/v1", "m@http://u:p@host/v1"])
def test_no_model_in_one_word(what: str) -> None:
    with pytest.raises(InputError):
        model_named(what)
