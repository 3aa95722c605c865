"""`interalign simulate` and `interalign export`, as they are typed; scripts play the roles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.cli.console import out
from interalign.cli.simulate import MEANINGS, _show, _show_usage
from interalign.conversations.checks import CHECKS
from interalign.conversations.tree import Tree
from interalign.llm.account import RoleUsage
from interalign.personas.persona import Persona
from interalign.personas.seeds import seeds
from interalign.pipeline.simulate import Simulation
from interalign.run import read_json, read_jsonl, write_jsonl
from tests.cli.commands import interalign as run

PEOPLE = [
    Persona(profile=one.text, personality=other.text)
    for one, other in zip(seeds("profile")[:6], seeds("personality")[:6], strict=True)
]


WANTED = {
    "user": "max_tokens 200, temperature 0.9; no JSON schema",
    "inducer": "max_tokens 600, temperature 0; with a JSON schema",
    "tailored": "max_tokens 400, temperature 0.7; no JSON schema",
    "generic": "max_tokens 400, temperature 0.7; no JSON schema",
    "judge": "max_tokens 100, temperature 0; with a JSON schema",
}
"""How each role is asked where the command line names the model."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "run" / "personas.jsonl", PEOPLE)
    return tmp_path / "run"


def test_a_simulation_by_scripts_is_exported_in_any_form(folder: Path, tmp_path: Path) -> None:
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


def test_scripts_play_a_recipe_that_was_made_for_rules(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "rules.toml"
    siblings = 'siblings = ["tailored", "random"]\npolicy = { continue_from = ["random"] }\n'
    recipe.write_text(f"[simulate]\n{siblings}", encoding="utf-8")
    done = run("simulate", "--out", folder, "--recipe", recipe, "--scripted", "--turns", "2")
    assert done.returncode == 0, done.stderr
    trees = read_jsonl(folder / "trees.jsonl", Tree)
    assert {node.source for tree in trees for node in tree.nodes if node.continued} == {"tailored", "generic"}


def test_growing_on_may_change_how_it_is_grown_and_nothing_else_may(folder: Path) -> None:
    assert run("simulate", "--out", folder, "--scripted", "--turns", "2", "--personas", "3").returncode == 0
    before = read_jsonl(folder / "trees.jsonl", Tree)
    (folder.parent / "seed.toml").write_text("seed = 8", encoding="utf-8")
    refused = run("simulate", "--out", folder, "--recipe", folder.parent / "seed.toml")
    assert (refused.returncode, "seed: 7 -> 8" in refused.stderr) == (5, True)
    words = ("--grow", folder / "trees.jsonl", "--policy", "full", "--depth", "2")
    assert run("simulate", "--out", folder, *words).returncode == 0
    after = read_jsonl(folder / "trees.jsonl", Tree)
    assert [tree.persona_id for tree in after] == [tree.persona_id for tree in before]
    assert all(len(list(tree.user_turns())) == 3 for tree in after)
    grown = read_json(folder / "simulation.json", Simulation).grown
    assert [(one.policy.name, one.turns, one.personas) for one in grown] == [("path", 2, 3), ("full", 2, 3)]
    assert run("simulate", "--out", folder, *words[:2], "--model", "another").returncode == 5


def test_an_estimate_counts_the_calls_and_makes_none(folder: Path) -> None:
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


def test_the_prompts_can_be_read_before_anything_is_sent(folder: Path) -> None:
    done = run("simulate", "--out", folder, "--scripted", "--show-prompts", "--turns", "2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    header = {lines[number]: lines[number + 1] for number, line in enumerate(lines) if line in WANTED}
    assert list(header) == ["user", "inducer", "tailored", "generic", "judge"]
    assert {role: line.partition("; ")[2] for role, line in header.items()} == WANTED
    assert all(line.startswith("a script; ") for line in header.values())
    assert any(json.loads(line)["user"] for line in lines if line.startswith('{"user"'))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--scripted", "--model", "x"], 2, "--scripted takes no --model"),
        (["--base-url", "http://localhost:1/v1"], 2, "add --model"),
        (["--base-url", "localhost:1/v1", "--model", "x"], 2, "--base-url: a URL that begins with http://"),
        (["--base-url", "http://localhost:1/v1", "--model", ""], 2, "--model: String should have"),
        (["--scripted", "--policy", "path", "--depth", "3"], 2, "--depth belongs to the policy full"),
        (["--scripted", "--depth", "3", "--estimate"], 2, "--depth belongs to the policy full"),
        (["--scripted", "--budget", "3 chf"], 2, "neither money nor tokens"),
        (["--scripted", "--policy", "tree"], 2, "'path', 'full' or 'best'"),
        (["--scripted", "--grow", "nowhere.jsonl"], 2, "nowhere.jsonl does not exist"),
        (["--scripted", "--prices", "nowhere.toml"], 2, "nowhere.toml does not exist"),
        ([], 2, "cannot be played by rules"),
        (["--estimate"], 2, "Rules play all roles"),
        (["--base-url", "http://localhost:1/v1", "--model", "x", "--budget", "3usd"], 2, "price of x@"),
    ],
)
def test_what_cannot_be_is_said_and_leaves_no_trees(folder: Path, words: list[str], code: int, said: str) -> None:
    done = run("simulate", "--out", folder, *words)
    assert (done.returncode, said in " ".join(done.stderr.split())) == (code, True), done.stderr
    assert not (folder / "trees.jsonl").exists()
    # Nothing was made, so another command may follow in the same folder.
    assert run("simulate", "--out", folder, "--scripted", "--turns", "1", "--personas", "2").returncode == 0


@pytest.mark.parametrize("option", ["--turns=2", "--estimate", "--show-prompts"])
def test_a_folder_without_personas_is_not_made(tmp_path: Path, option: str) -> None:
    done = run("simulate", "--out", tmp_path / "typo", "--scripted", option)
    assert (done.returncode, "nobody to talk to" in done.stderr) == (2, True)
    assert "personas compose, grow or pair" in done.stderr
    assert not (tmp_path / "typo").exists()


def usage(number: int, role: str, cached: int) -> RoleUsage:
    return RoleUsage(
        role=role,
        model="meta-llama/Llama-3.3-70B-Instruct-Turbo",
        calls=number,
        prompt_tokens=7 * number,
        cached_tokens=cached,
        completion_tokens=3 * number,
        usd=number / 100,
    )


@given(st.integers(1, 10**11), st.sampled_from([0, 12_345, 9 * 10**11]), st.sampled_from([40, 80, 81, 100, 200]))
def test_the_numbers_of_the_account_are_whole_on_any_screen(number: int, cached: int, width: int) -> None:
    with pytest.MonkeyPatch.context() as patched, out.capture() as captured:
        patched.setattr(out, "_width", width)
        _show_usage("estimate", [usage(number, "user", cached), usage(number, "judge", cached)])
    lines = captured.get().splitlines()
    (user,) = [line.split() for line in lines if line.split()[:1] == ["user"]]
    (both,) = [line.split() for line in lines if line.split()[:1] == ["all"]]
    for times, row in ((1, user), (2, both)):
        wanted = [f"{times * count:,}" for count in (number, 7 * number, 3 * number)]
        assert [one for one in row if one in wanted] == wanted
        assert row[-1] in {f"{times * number / 100:,.2f}", f"{times * number / 100:,.4f}"}
    assert ("cached" in captured.get()) <= (cached > 0)
    if number < 10**8 and width >= 80:
        assert max(map(len, lines)) <= width


def test_an_estimate_says_nothing_of_what_is_cached_and_fits_into_a_pipe(folder: Path) -> None:
    words = ("--base-url", "http://localhost:1/v1", "--model", "meta-llama/Llama-3.3-70B-Instruct-Turbo-Free")
    done = run("simulate", "--out", folder, *words, "--turns", "30", "--estimate", width=80)
    assert done.returncode == 0, done.stderr
    assert "cached" not in done.stdout and "…" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_roles_prompt_is_looked_for_beside_the_recipe(folder: Path, tmp_path: Path) -> None:
    role = 'models = [{ model = { backend = "scripted" } }]'
    roles = "\n".join(f"[simulate.roles.{one}]\n{role}" for one in ("inducer", "tailored", "generic", "judge"))
    user = f'[simulate.roles.user]\n{role}\nprompt = "mine.txt"'
    (tmp_path / "recipe.toml").write_text(f"[simulate]\nturns = 1\n{roles}\n{user}", encoding="utf-8")
    words = ("simulate", "--out", folder, "--recipe", tmp_path / "recipe.toml")
    for option in ("--turns=1", "--show-prompts"):
        done = run(*words, option)
        assert (done.returncode, f"{tmp_path / 'mine.txt'} cannot be read" in done.stderr) == (2, True)
    (tmp_path / "mine.txt").write_text("Play somebody shy.", encoding="utf-8")
    assert "Play somebody shy." in run(*words, "--show-prompts").stdout
    assert run(*words, "--personas", "2").returncode == 0
    # The folder's own copy of the recipe finds it as well.
    again = run("simulate", "--out", folder, "--personas", "3")
    assert again.returncode == 0, again.stderr
    assert len(read_jsonl(folder / "trees.jsonl", Tree)) == 3


def test_another_model_in_the_roles_keeps_how_their_own_is_asked(folder: Path, tmp_path: Path) -> None:
    model = '{{ backend = "endpoint", base_url = "http://localhost:1/v1", model = "m"{more} }}'
    more = {"judge": ", json_schema = false, requests_per_minute = 60"}
    roles = [
        f"{role}.models = [{{ model = {model.format(more=more.get(role, ''))} }}]\n{role}.sampling.max_tokens = 33"
        for role in ("user", "inducer", "tailored", "generic", "judge")
    ]
    (tmp_path / "mine.toml").write_text("[simulate.roles]\n" + "\n".join(roles), encoding="utf-8")
    words = ("--recipe", tmp_path / "mine.toml", "--model", "n", "--base-url", "http://localhost:2/v1")
    done = run("simulate", "--out", folder, *words, "--show-prompts")
    assert done.returncode == 0, done.stderr
    asked = [line for line in done.stdout.splitlines() if line.startswith("n at http://localhost:2/v1; max_tokens 33")]
    assert len(asked) == 5 and sum("save where json_schema is off" in line for line in asked) == 1


def test_a_model_limited_in_two_ways_is_found_by_the_estimate(folder: Path, tmp_path: Path) -> None:
    model = '{{ backend = "endpoint", base_url = "http://localhost:1/v1", model = "m"{more} }}'
    limits = {"judge": ", requests_per_minute = 60"}
    roles = [
        f"{role}.models = [{{ model = {model.format(more=limits.get(role, ''))} }}]"
        for role in ("user", "inducer", "tailored", "generic", "judge")
    ]
    (tmp_path / "two.toml").write_text("[simulate.roles]\n" + "\n".join(roles), encoding="utf-8")
    for option in ("--estimate", "--show-prompts"):
        done = run("simulate", "--out", folder, "--recipe", tmp_path / "two.toml", option)
        assert (done.returncode, "m on http://localhost:1/v1 is limited in two ways" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("address", "model", "asked"),
    [
        ("http://localhost:7/v1", "nobody/knows", "nobody/knows at http://localhost:7/v1;"),
        ("", "nobody/knows", "nobody/knows in this process;"),
        ("http://localhost:7/v1", ".", ". in this process;"),
    ],
)
def test_a_model_without_an_address_is_on_the_server_of_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch, address: str, model: str, asked: str
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    done = run("simulate", "--out", folder, "--model", model, "--show-prompts")
    assert done.returncode == 0, done.stderr
    assert sum(line.startswith(asked) for line in done.stdout.splitlines()) == 5
    assert ("is no folder" in done.stderr) == (model != ".")


def test_an_address_of_the_environment_that_is_none_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:s3cret@localhost:7/v1")
    done = run("simulate", "--out", folder, "--model", "nobody/knows", "--estimate")
    assert (done.returncode, "error OPENAI_BASE_URL: the URL must not hold" in done.stderr) == (2, True)
    assert "s3cret" not in done.stderr


def test_the_help_says_what_stands_in_a_price_file() -> None:
    said = " ".join(run("simulate", "--help").stdout.replace("│", " ").split())
    assert all(words in said for words in ('[models."name"]', "completion", "in US dollars per million tokens"))


def test_every_check_is_explained_where_its_faults_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(MEANINGS) == {*CHECKS, "unreadable"}
    faults = {"user: restart": 3, "judge: unreadable": 1, "user: a check to come": 2}
    _show(Simulation(trees=1, ended_early=0, pairs=0, turns=18, faults=faults, missing_verdicts=0))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"user: restart: 3 in 18 user turns ({MEANINGS['restart']})"
    assert lines[1] == f"judge: unreadable: 1 in 18 user turns ({MEANINGS['unreadable']})"
    assert lines[2] == "user: a check to come: 2 in 18 user turns"


def test_a_trial_with_a_few_is_followed_by_the_others(folder: Path) -> None:
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


def test_growing_a_few_on_keeps_the_other_trees(folder: Path) -> None:
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


def test_that_personas_does_not_decide_how_many_trees_there_are_is_said(folder: Path) -> None:
    assert run("simulate", "--out", folder, "--scripted", "--turns", "2", "--personas", "4").returncode == 0
    fewer = run("simulate", "--out", folder, "--personas", "2")
    assert (fewer.returncode, "4 trees are there already, more than --personas 2" in fewer.stderr) == (0, True)
    words = ("--grow", folder / "trees.jsonl", "--turns", "3")
    more = run("simulate", "--out", folder, *words, "--personas", "5")
    assert (more.returncode, "4 trees are there to grow on, fewer than --personas 5" in more.stderr) == (0, True)
    exact = run("simulate", "--out", folder, "--turns", "3", "--personas", "4")
    assert (exact.returncode, "trees are there" in exact.stderr) == (0, False)
    deep = run("simulate", "--out", folder, *words, "--depth", "2")
    assert (deep.returncode, "--depth belongs to the policy full" in deep.stderr) == (2, True)


@pytest.mark.parametrize("option", ["--min-margin", "--length-match"])
def test_a_bound_without_end_is_refused_in_a_line(folder: Path, tmp_path: Path, option: str) -> None:
    done = run("export", tmp_path / "out", "--out", folder, option, "inf")
    assert (done.returncode, done.stderr.startswith(f"error {option}: ")) == (2, True)


def test_held_out_people_are_not_talked_to(folder: Path) -> None:
    write_jsonl(folder / "heldout.jsonl", [PEOPLE[0].model_copy(update={"split": "heldout"})])
    done = run("simulate", "--out", folder, "--scripted")
    assert (done.returncode, PEOPLE[0].id in done.stderr) == (6, True)
    write_jsonl(folder / "heldout.jsonl", [])
    write_jsonl(folder / "personas.jsonl", [PEOPLE[0].model_copy(update={"split": "heldout"}), *PEOPLE[1:]])
    assert run("simulate", "--out", folder, "--scripted").returncode == 6
    assert not (folder / "trees.jsonl").exists()


def test_nothing_to_grow_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").touch()
    done = run("simulate", "--out", folder, "--scripted", "--grow", tmp_path / "none.jsonl")
    assert (done.returncode, "none.jsonl holds no trees" in done.stderr) == (2, True)
    (folder / "personas.jsonl").write_text("")
    done = run("simulate", "--out", folder, "--scripted")
    assert (done.returncode, "no persona to talk to" in done.stderr) == (2, True)
    assert not (folder / "trees.jsonl").exists()
