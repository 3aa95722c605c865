"""`interalign eval`, as it is typed; scripts play the roles and the tested models."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from pathlib import Path

import pytest

from interalign.evaluation.benchmark import BenchmarkConfig, line_up
from interalign.evaluation.cases import card
from interalign.evaluation.controls import COUNTERFACTUALS
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.summary import Summary
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.persona import Persona
from interalign.personas.seeds import seeds
from interalign.pipeline.record import WORLD, Evaluation
from interalign.recipe import Recipe, load_recipe
from interalign.run import read_json, read_jsonl, write_jsonl
from tests.cli.commands import Done, interalign
from tests.llm.servers import completion, error, serving

PEOPLE = [
    Persona(profile=one.text, personality=other.text, split="heldout")
    for one, other in zip(seeds("profile")[:4], seeds("personality")[:4], strict=True)
]
COMPOSED = [one for one in compose_personas(WorldConfig(train=1, heldout=3), seed=3) if one.split == "heldout"]


Run = Callable[..., Done]


@pytest.fixture
def run() -> Run:
    """Run `interalign eval` in this process."""
    return partial(interalign, "eval")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "run" / "heldout.jsonl", PEOPLE)
    return tmp_path / "run"


SCRIPTED = ("--roles", "scripted", "--model", "mine=scripted", "--turns", "4")


def test_language_models_play_all_roles(run: Run, folder: Path) -> None:
    done = run("--out", folder, *SCRIPTED[:-1], "5", "--model", "mine+reminder")
    assert done.returncode == 0, done.stderr
    assert "Users played by a script, judged by a script" in done.stdout
    summary = read_json(folder / "eval" / "summary.json", Summary)
    assert [model.name for model in summary.models] == ["mine+reminder", "mine"]
    rows = read_jsonl(folder / "eval" / "mine" / "verdicts.jsonl", TurnRow)
    assert [(row.case, row.turn) for row in rows] == [(one.id, turn) for one in PEOPLE for turn in (1, 2, 3, 4, 5)]
    assert all(row.verdict and row.swapped for row in rows)
    assert [row.turn for row in rows if row.controls] == [row.turn for row in rows if row.induction] == [5] * 4
    told = read_json(folder / "eval" / "evaluation.json", Evaluation)
    assert {row.role: row.calls for row in told.usage}["user"] == 4 * (1 + 2 * 4)
    roles = {"user", "inducer", "judge", "grader"}
    of_controls = {control.prompt for control in COUNTERFACTUALS.values()}
    assert set(told.prompts) == {*roles, "notes", "repair", "induce", *of_controls, "reminder: reminder"}
    assert (told.cases.cases, told.cases.version) == (4, card(PEOPLE).version)
    kept = load_recipe(folder / "recipe.toml").benchmark
    assert kept.roles is not None and kept.turns == 5
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
    assert shown(folder) == ["other", "mine"]
    (folder.parent / "longer.toml").write_text(old.replace("60", "61"))
    refused = run("--out", folder, "--model", "mine=scripted", "--recipe", folder.parent / "longer.toml")
    assert refused.returncode == 5 and "max_tokens: 60 -> 61" in refused.stderr and "(absent)" not in refused.stderr


def shown(folder: Path) -> list[str]:
    """The models that the summary tells of."""
    return [model.name for model in read_json(folder / "eval" / "summary.json", Summary).of_kind("model")]


def test_models_of_earlier_commands_stay_in_the_results(run: Run, folder: Path) -> None:
    assert run("--out", folder, *SCRIPTED).returncode == 0
    again = (*SCRIPTED[:2], "--model", "other+reminder=scripted", *SCRIPTED[4:])
    done = run("--out", folder, *again)
    assert done.returncode == 0, done.stderr
    assert shown(folder) == ["other+reminder", "mine"] and "mine" in done.stdout
    # What was made in another setting is not told together with it.
    setting = folder / "eval" / "mine" / "setting.json"
    setting.write_text(setting.read_text(encoding="utf-8").replace('"turns": 4', '"turns": 5'), encoding="utf-8")
    assert run("--out", folder, *again).returncode == 0
    assert shown(folder) == ["other+reminder"]


def test_what_was_made_with_other_settings_is_played_again(run: Run, folder: Path) -> None:
    words = ("--out", folder, "--model", "mine=scripted", "--turns", "2")
    control = folder / "eval" / "constant" / "verdicts.jsonl"

    def met() -> set[str]:
        return {row.case for row in read_jsonl(control, TurnRow)}

    write_jsonl(folder / "heldout.jsonl", COMPOSED)
    assert run(*words).returncode == 0 and met() == {one.id for one in COMPOSED}
    write_jsonl(folder / "heldout.jsonl", COMPOSED[:2])
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert "constant was evaluated with other settings (people), and is played again" in done.stderr
    assert met() == {one.id for one in COMPOSED[:2]}
    done = run(*words)
    assert done.returncode == 0 and "other settings" not in done.stderr
    # An older version wrote no settings down.
    control.with_name("setting.json").unlink()
    write_jsonl(control, [row for row in read_jsonl(control, TurnRow) if row.turn == 1])
    assert run(*words).returncode == 0
    assert {row.turn for row in read_jsonl(control, TurnRow)} == {1}


@pytest.mark.parametrize(("budget", "why"), [((), "is not set"), (("--budget", "9usd"), "price")])
def test_what_is_wrong_with_a_later_model_is_found_before_the_first_call(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, budget: tuple[str, ...], why: str
) -> None:
    if budget:
        monkeypatch.setenv("OPENAI_API_KEY", "any")
    else:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    done = run("--out", folder, *SCRIPTED, "--model", "later=nobody-knows@https://example.invalid/v1", *budget)
    assert done.returncode == 2 and why in done.stderr, done.stderr
    assert not (folder / "eval").exists()


def test_profiles_and_personalities_are_kept_with_whole_paths(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, kind in (("p.jsonl", "profile"), ("q.jsonl", "personality")):
        lines = [json.dumps({kind: one.text}) for one in seeds(kind)[:2]]
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    done = run("--out", "run", *SCRIPTED, "--cases", "p.jsonl,q.jsonl")
    assert done.returncode == 0, done.stderr
    assert load_recipe(tmp_path / "run" / "recipe.toml").benchmark.cases == f"{tmp_path}/p.jsonl,{tmp_path}/q.jsonl"
    assert run("--out", "run", "--model", "mine=scripted").returncode == 0


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
    assert "4 cases, 4 turns, 1 model; from a rehearsal" in " ".join(done.stdout.split())
    lines = [line.replace(",", "").split() for line in done.stdout.splitlines()]
    said = {words[0]: int(words[3]) for words in lines if len(words) == 6 and words[1] == "scripted"}
    names = {words[0]: " ".join(words[1:3]) for words in lines if words[:1] and words[0] in said}
    assert run("--out", folder, *SCRIPTED).returncode == 0
    told = read_json(folder / "eval" / "evaluation.json", Evaluation)
    took = {row.role: row.calls for row in told.usage}
    assert names == {row.role: row.model for row in told.usage}
    # A control that says what the model said is judged by the same call.
    assert said.keys() == took.keys() and all(0.8 * said[role] <= took[role] <= said[role] for role in said)


def test_a_call_of_each_kind_is_shown(run: Run, folder: Path) -> None:
    done = run("--out", folder, *SCRIPTED, "--show-prompts", "--user", "u@http://localhost:1/v1")
    assert done.returncode == 0, done.stderr
    for shown in ("u at http://localhost:1/v1; max_tokens 200", "<statements>", "<disclosed>", "You are a helpful"):
        assert shown in done.stdout
    assert not (folder / "eval").exists()


def test_the_judge_is_shown_with_a_verdict_and_each_tested_model_by_its_method(run: Run, folder: Path) -> None:
    words = ("--model", "mine+reminder", "--model", "m2=m@http://localhost:1/v1", "--turns", "5", "--show-prompts")
    done = run("--out", folder, "--roles", "scripted", "--model", "mine=scripted", *words)
    assert done.returncode == 0, done.stderr
    judge = done.stdout.partition("\njudge\n")[2].partition("\ngrader\n")[0]
    first = line_up(PEOPLE, BenchmarkConfig(), Recipe().seed)[0]
    assert first.persona.profile in judge and first.stranger.profile not in judge
    shown = re.split(r"\ntested: ", done.stdout)[1:]
    assert [one.splitlines()[0].partition(" (")[0] for one in shown] == ["mine+reminder", "mine", "m2"]
    told = (files("interalign.evaluation") / "prompts" / "reminder.txt").read_text(encoding="utf-8").strip()
    assert [told in one for one in shown] == [True, False, False] and "50%" not in done.stdout


def test_what_is_lacking_is_told_in_words_and_played_no_better_by_the_same_command(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    words = ("--out", folder, "--roles", "scripted", "--model", "mine=scripted", "--turns", "2", "--no-controls")
    with serving(completion("What should I cook tonight? I have rice and beans at home.")) as server:
        done = run(*words, "--user", f"u@{server.base_url}", width=1000)
        assert done.returncode == 0, done.stderr
        asked = len(server.bodies)
        rows = read_jsonl(folder / "eval" / "mine" / "verdicts.jsonl", TurnRow)
        assert [row.failure is not None for row in rows] == [False, True] * 4
        again = run("--out", folder, "--model", "mine=scripted", width=1000)
        assert again.returncode == 0, again.stderr
        # What was answered comes from the journal.
        assert len(server.bodies) == asked
    for said in (done, again):
        assert "run the same command again" not in said.stdout and "asks again only for what" in said.stdout
        (told,) = (line for line in said.stderr.splitlines() if line.startswith("What is lacking"))
        assert "4 of 4 notes on what the user has shown (inducer) could not be read" in told
        assert re.search(r"of 16 messages of the user 12 were refused by the checks and asked for again \(", told)


def test_a_server_that_is_gone_is_mended_where_the_model_is_named(run: Run, folder: Path) -> None:
    gone = "{ backend = 'endpoint', base_url = 'http://127.0.0.1:9/v1', model = 'm', max_retries = 0 }"
    recipe = folder.parent / "gone.toml"
    recipe.write_text(f"[benchmark.models]\na = {gone}\n", encoding="utf-8")
    done = run("--out", folder, "--recipe", recipe, "--roles", "scripted", width=1000)
    assert done.returncode == 8 and "cannot be reached" in done.stderr, done.stderr
    assert "correct its address where the model is named" in done.stderr


def test_a_plan_says_how_many_cases_it_takes(run: Run, tmp_path: Path) -> None:
    done = run("--out", tmp_path / "absent", "--plan", "--detect", "0.2")
    assert done.returncode == 0, done.stderr
    assert "0.2 points" in done.stdout and not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--model", "mine"), "neither NAME=WHAT nor NAME+METHOD"),
        (
            ("--model", "a=scripted", "--model", "a+remind=scripted"),
            "write +reminder, if that is meant; methods: plain",
        ),
        (("--model", "a=scripted", "--model", "a+remind"), "write +reminder, if that is meant"),
        (("--model", "a+xyz=scripted"), "ends in no method: there is no 'xyz'"),
        (("--model", "absent+reminder"), "There is no model 'absent'"),
        (("--model", "base=scripted"), "cannot be called 'base'"),
        (("--model", "a=scripted", "--model", "a=scripted"), "the same name"),
        (("--model", "a=scripted", "--user", "scripted"), "name models as judge"),
        (("--model", "a=scripted", "--roles", "scripted", "--judge", "rules"), "name models as judge"),
        (("--model", "a=scripted", "--budget", "much"), "neither money nor tokens"),
        (("--model", "a=scripted", "--cases", "absent.jsonl"), "neither aloe nor a file that is there"),
        (("--model", "a=scripted", "--cases", "alo"), "write --cases aloe, if that is meant"),
        (("--model", "a=scripted", "--roles", "scripted", "--user", "rules", "--cases", "aloe"), "let language models"),
        (("--model", "a=scripted"), "cannot be played by rules"),
    ],
)
def test_what_cannot_be_is_refused(run: Run, folder: Path, words: tuple[str, ...], why: str) -> None:
    done = run("--out", folder, *words)
    assert done.returncode == 2 and why in done.stderr, done.stderr
    assert not (folder / "eval").exists() and not (folder / "recipe.toml").exists()


def test_the_finding_comes_first_and_the_ways_on_come_last(run: Run, folder: Path) -> None:
    done = run("--out", folder, *SCRIPTED, "--model", "other=scripted")
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("No difference is shown between other and mine") < done.stdout.index("AL(1)")
    first, second, *_ = done.stderr.splitlines()
    assert first == "testing: mine (a script), other (a script)"
    assert second == "4 cases; 4 turns each: 16 turns with each model."
    *_, results, more = done.stdout.splitlines()
    assert str(folder / "eval") in results and f"interalign report --out {folder}" in results
    assert all(word in more for word in (f"results {folder}", f"compare {folder}", "judge test --scripted"))


def test_what_is_free_has_no_column_of_money(run: Run, folder: Path) -> None:
    assert "US$" not in run("--out", folder, *SCRIPTED, "--estimate").stdout
    assert "US$" in run("--out", folder, *SCRIPTED, "--estimate", "--user", "u@http://localhost:1/v1").stdout


def test_cases_that_are_played_twice_are_told_of(run: Run, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "heldout.jsonl", [one.model_copy(update={"split": "heldout"}) for one in PEOPLE * 3][:4])
    twice = "[benchmark]\nturns = 2\nrepeats = 0.5\ncontrols = false\n"
    (tmp_path / "twice.toml").write_text(twice, encoding="utf-8")
    done = run("--out", tmp_path, "--recipe", tmp_path / "twice.toml", "--roles", "scripted", "--model", "a=scripted")
    assert done.returncode == 0, done.stderr
    assert "4 cases, 2 of them twice; 2 turns each: 12 turns in all." in done.stderr


def test_without_people_the_packaged_ones_are_offered(run: Run, tmp_path: Path) -> None:
    done = run("--out", tmp_path / "new", *SCRIPTED)
    assert done.returncode == 2 and "--cases aloe" in done.stderr and "language models must" not in done.stderr
    done = run("--out", tmp_path / "new", "--model", "a=scripted")
    assert done.returncode == 2 and "language models must play them: --roles" in done.stderr


@pytest.mark.parametrize("old", [None, "[benchmark]\nturns = 2\n"])
def test_a_command_that_failed_leaves_its_roles_to_none(
    run: Run, folder: Path, old: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    kept = folder / "recipe.toml"
    if old is not None:
        kept.write_text(old, encoding="utf-8")

    def unchanged() -> bool:
        return (kept.read_text(encoding="utf-8") if kept.exists() else None) == old

    no_price = ("--user", "u@http://localhost:1/v1", "--budget", "1usd")
    assert run("--out", folder, *SCRIPTED, *no_price).returncode == 2 and unchanged()
    with serving(error(400, "no such model")) as server:
        # The script has spoken, and is in the journal, before the tested model fails.
        failed = run("--out", folder, "--roles", "scripted", "--model", f"a=m@{server.base_url}")
    assert failed.returncode and "no such model" in failed.stderr and unchanged()
    after = run("--out", folder, "--model", "a=scripted")
    assert after.returncode == 2 and "cannot be played by rules" in after.stderr
    assert run("--out", folder, *SCRIPTED).returncode == 0
    assert load_recipe(kept).benchmark.roles is not None


def test_the_help_names_the_script(run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0 and "or scripted" in " ".join(done.stdout.replace("│", " ").split())
