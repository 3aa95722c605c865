"""The command line of every stage; what needs a process of its own has one, all else runs in this one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tomli_w

from interalign.personas.persona import Persona
from interalign.run import RunFolder, read_jsonl
from tests.cli.commands import Done, interalign

SMALL = """
name = "small"
[world]
train = 3
heldout = 2
[simulate]
turns = 2
"""


def in_a_process(*words: str, cwd: Path) -> Done:
    """The same as a shell would have it."""
    command = [sys.executable, "-m", "interalign", *words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def test_what_the_readme_writes_is_no_part_of_the_repository() -> None:
    root = Path(__file__).parents[1]
    ignored = root / ".gitignore"
    if not ignored.exists():
        pytest.skip("the source distribution has no .gitignore")
    written = {
        word.partition("/")[0] for word in re.findall(r"interalign export (\S+/\S+)", (root / "README.md").read_text())
    }
    assert written
    assert {f"/{folder}/" for folder in written | {"runs"}} <= set(ignored.read_text().splitlines())


def test_version(tmp_path: Path) -> None:
    from interalign import __version__

    assert in_a_process("--version", cwd=tmp_path).stdout.strip() == __version__


def test_stages_go_on_from_each_other_and_find_the_recipe_in_the_run_folder(tmp_path: Path, recipe: Path) -> None:
    first = interalign("personas", "compose", "--recipe", str(recipe), "--out", "run")
    assert first.returncode == 0, first.stderr
    second = interalign("simulate", "--out", "run")
    assert second.returncode == 0, second.stderr
    run = RunFolder(tmp_path / "run")
    assert len(read_jsonl(run.personas, Persona)) == 3
    assert len(run.trees.read_text(encoding="utf-8").splitlines()) == 3
    assert {path.name for path in run.preferences.iterdir()} == {"dpo.parquet", "sft.parquet"}


def test_a_stage_that_is_done_is_not_done_again(tmp_path: Path, recipe: Path) -> None:
    interalign("personas", "compose", "--recipe", str(recipe), "--out", "run")
    before = (tmp_path / "run" / "personas.jsonl").stat().st_mtime_ns
    again = interalign("personas", "compose", "--out", "run")
    assert "done before" in again.stderr
    assert (tmp_path / "run" / "personas.jsonl").stat().st_mtime_ns == before


def assert_one_clear_line(result: Done, code: int, *words: str) -> None:
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error ")
    assert result.stderr.count("\n") == 1
    assert "To mend it:" in result.stderr
    for word in words:
        assert word in result.stderr


def test_an_unknown_key(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[world]\ntrian = 3\n", encoding="utf-8")
    result = in_a_process("run", "bad.toml", cwd=tmp_path)
    assert_one_clear_line(result, 2, "bad.toml", "'world.trian'", "did you mean 'train'")
    assert not (tmp_path / "runs").exists()


def test_a_stage_without_the_one_before() -> None:
    result = interalign("simulate", "--out", "run")
    assert_one_clear_line(result, 2, "holds no personas.jsonl")


def test_a_broken_persona_line(tmp_path: Path, recipe: Path) -> None:
    interalign("personas", "compose", "--recipe", str(recipe), "--out", "run")
    path = tmp_path / "run" / "personas.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([lines[0], lines[1][:50], lines[2]]) + "\n", encoding="utf-8")
    result = interalign("simulate", "--out", "run")
    assert_one_clear_line(result, 2, "personas.jsonl, line 2")
    assert not (tmp_path / "run" / "trees.jsonl").exists()


def test_a_changed_persona_is_noticed(tmp_path: Path, recipe: Path) -> None:
    interalign("personas", "compose", "--recipe", str(recipe), "--out", "run")
    path = tmp_path / "run" / "personas.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines[0]["profile"] += " And more."
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    result = interalign("simulate", "--out", "run")
    assert_one_clear_line(result, 2, "line 1", "does not belong to this content")


def test_a_run_folder_of_another_recipe(tmp_path: Path, recipe: Path) -> None:
    interalign("personas", "compose", "--recipe", str(recipe), "--out", "run")
    recipe.write_text(SMALL.replace("heldout = 2", "heldout = 4"), encoding="utf-8")
    result = interalign("personas", "compose", "--recipe", str(recipe), "--out", "run")
    assert_one_clear_line(result, 5, "world.heldout", "2", "4")


def test_a_folder_from_before_the_pool_goes_on(tmp_path: Path, recipe: Path) -> None:
    interalign("personas", "compose", "--recipe", str(recipe), "--out", "run")
    kept = tmp_path / "run" / "recipe.toml"
    older = tomllib.loads(kept.read_text(encoding="utf-8"))
    del older["pool"]
    kept.write_text(tomli_w.dumps(older), encoding="utf-8")
    for named in ([], ["--recipe", str(recipe)]):
        again = interalign("personas", "compose", *named, "--out", "run")
        assert again.returncode == 0, again.stderr
        assert "done before" in again.stderr
    assert tomllib.loads(kept.read_text(encoding="utf-8")) == older
    # Nothing has been made by the table of the pool, so it may change; that of the world may not.
    recipe.write_text(SMALL.replace("train = 3", "train = 4"), encoding="utf-8")
    other = interalign("personas", "compose", "--recipe", str(recipe), "--out", "run")
    assert_one_clear_line(other, 5, "world.train: 3 -> 4")


def test_a_run_folder_in_use(tmp_path: Path) -> None:
    from interalign.recipe import demo_recipe, recipe_toml

    with RunFolder.open(tmp_path / "run", recipe_toml(demo_recipe()), versions={}):
        result = in_a_process("personas", "compose", "--out", "run", cwd=tmp_path)
    assert_one_clear_line(result, 4, "in use by process")


def test_a_model_folder_without_weights(tmp_path: Path, recipe: Path) -> None:
    (tmp_path / "empty").mkdir()
    recipe.write_text(SMALL + '[train]\nbase = "./empty"\n', encoding="utf-8")
    interalign("personas", "compose", "--recipe", str(recipe), "--out", "run")
    interalign("simulate", "--out", "run")
    result = interalign("train", "--out", "run", "--method", "sft")
    assert_one_clear_line(result, 2, "empty holds no model weights")
    assert not (tmp_path / "run" / "models").exists()


def test_a_method_that_does_not_exist() -> None:
    assert_one_clear_line(interalign("train", "--method", "ppo"), 2, "'ppo'", "sft, sft-rejected, dpo, both")


@pytest.fixture
def grown(tmp_path: Path, recipe: Path) -> Path:
    """A run folder with trees, whose recipe names a tiny base model."""
    from tests.training.tiny import make_model, make_tokenizer

    make_model(tmp_path / "tiny", make_tokenizer("some words"))
    recipe.write_text(SMALL + '[train]\nbase = "./tiny"\n', encoding="utf-8")
    interalign("personas", "compose", "--recipe", str(recipe), "--out", "run")
    interalign("simulate", "--out", "run")
    return tmp_path / "run"


def test_show_batch_trains_nothing(grown: Path) -> None:
    result = interalign("train", "--show-batch", "--out", "run", width=80)
    assert result.returncode == 0, result.stderr
    sft, dpo = result.stdout.index("sft: tree 1 of 3"), result.stdout.index("dpo: tree ")
    assert sft < dpo
    assert "[+ +] trained on; all else is only read." in result.stdout[sft:dpo]
    assert "[+ +] chosen, [- -] rejected; all else is only read." in result.stdout[dpo:]
    assert "<|im_start|>assistant" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "\x1b" not in result.stdout
    assert not (grown / "models").exists()


def test_a_policy_that_takes_notes_learns_induction_first(grown: Path, recipe: Path) -> None:
    recipe.write_text(SMALL + '[train]\nbase = "./tiny"\nnotes = true\nsft.start = "induction"\n', encoding="utf-8")
    result = interalign("train", "--show-batch", "--recipe", str(recipe), "--out", "run", width=80)
    assert result.returncode == 0, result.stderr
    places = [result.stdout.index(f"{method}: tree ") for method in ("induction", "sft", "dpo")]
    assert places == sorted(places)
    assert "[+<think>Notes: " in result.stdout[: places[1]]
    assert "[+<think>Notes: " in result.stdout[places[1] :]
    refused = interalign("train", "--method", "sft", "--recipe", str(recipe), "--out", "run")
    assert_one_clear_line(refused, 2, "models/induction, which does not exist", "train induction first")
    assert not (grown / "models" / "sft").exists()


def test_show_batch_before_there_are_trees(tmp_path: Path, recipe: Path) -> None:
    interalign("personas", "compose", "--recipe", str(recipe), "--out", "run")
    result = interalign("train", "--show-batch", "--out", "run")
    assert_one_clear_line(result, 2, "trees.jsonl does not exist")


def checkpoint(folder: Path, **changes: object) -> None:
    manifest = {
        "name": folder.name,
        "method": "sft",
        "base": "smol/base",
        "parent": "base",
        "data": "0" * 64,
        "seed": 1,
        "steps": 12,
        "settings": {},
        "versions": {},
        "metrics": {"loss": 1.25},
        **changes,
    }
    folder.mkdir(parents=True)
    (folder / "interalign.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_models_are_listed(tmp_path: Path) -> None:
    checkpoint(tmp_path / "run" / "models" / "sft")
    metrics = {"loss": 0.5, "accuracy": 0.75}
    checkpoint(tmp_path / "run" / "models" / "dpo", method="dpo", parent="sft", metrics=metrics)
    (tmp_path / "run" / "models" / "notes").mkdir()
    listed = interalign("models", "run")
    assert listed.returncode == 0, listed.stderr
    heading, *rows = (line.split() for line in listed.stdout.splitlines())
    assert heading == ["model", "method", "base", "started", "from", "steps", "loss", "accuracy"]
    assert rows == [
        ["dpo", "dpo", "base", "sft", "12", "0.500", "0.750"],
        ["sft", "sft", "base", "base", "12", "1.250", "–"],
    ]
    # Any folder of checkpoints will do.
    assert interalign("models", "run/models").stdout == listed.stdout


def test_no_models() -> None:
    result = interalign("models", ".")
    assert (result.returncode, result.stdout) == (0, "")
    assert "There is no checkpoint in ." in result.stderr
    assert_one_clear_line(interalign("models", "nowhere"), 2, "no folder nowhere")


def test_a_model_with_a_damaged_manifest(tmp_path: Path) -> None:
    checkpoint(tmp_path / "models" / "sft", steps="many")
    assert_one_clear_line(interalign("models", "."), 2, "interalign.json is damaged")
