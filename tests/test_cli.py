import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tomli_w

from interalign.personas.persona import Persona
from interalign.run import RunFolder, read_jsonl

SMALL = """
name = "small"
[world]
train = 3
heldout = 2
[simulate]
turns = 2
"""


def interalign(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "interalign", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def test_version(tmp_path: Path) -> None:
    from interalign import __version__

    assert interalign("--version", cwd=tmp_path).stdout.strip() == __version__


def test_stages_go_on_from_each_other_and_find_the_recipe_in_the_run_folder(tmp_path: Path, recipe: Path) -> None:
    first = interalign("personas", "compose", "--recipe", str(recipe), "--out", "run", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    second = interalign("simulate", "--out", "run", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    run = RunFolder(tmp_path / "run")
    assert len(read_jsonl(run.personas, Persona)) == 3
    assert len(run.trees.read_text(encoding="utf-8").splitlines()) == 3
    assert {path.name for path in run.preferences.iterdir()} == {"dpo.parquet", "sft.parquet"}


def test_a_stage_that_is_done_is_not_done_again(tmp_path: Path, recipe: Path) -> None:
    interalign("personas", "compose", "--recipe", str(recipe), "--out", "run", cwd=tmp_path)
    before = (tmp_path / "run" / "personas.jsonl").stat().st_mtime_ns
    again = interalign("personas", "compose", "--out", "run", cwd=tmp_path)
    assert "done before" in again.stderr
    assert (tmp_path / "run" / "personas.jsonl").stat().st_mtime_ns == before


def assert_one_clear_line(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
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
    result = interalign("run", "bad.toml", cwd=tmp_path)
    assert_one_clear_line(result, 2, "bad.toml", "'world.trian'", "did you mean 'train'")
    assert not (tmp_path / "runs").exists()


def test_a_stage_without_the_one_before(tmp_path: Path) -> None:
    result = interalign("simulate", "--out", "run", cwd=tmp_path)
    assert_one_clear_line(result, 2, "holds no personas.jsonl")


def test_a_broken_persona_line(tmp_path: Path, recipe: Path) -> None:
    interalign("personas", "compose", "--recipe", str(recipe), "--out", "run", cwd=tmp_path)
    path = tmp_path / "run" / "personas.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([lines[0], lines[1][:50], lines[2]]) + "\n", encoding="utf-8")
    result = interalign("simulate", "--out", "run", cwd=tmp_path)
    assert_one_clear_line(result, 2, "personas.jsonl, line 2")
    assert not (tmp_path / "run" / "trees.jsonl").exists()


def test_a_changed_persona_is_noticed(tmp_path: Path, recipe: Path) -> None:
    interalign("personas", "compose", "--recipe", str(recipe), "--out", "run", cwd=tmp_path)
    path = tmp_path / "run" / "personas.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines[0]["profile"] += " And more."
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    result = interalign("simulate", "--out", "run", cwd=tmp_path)
    assert_one_clear_line(result, 2, "line 1", "does not belong to this content")


def test_a_run_folder_of_another_recipe(tmp_path: Path, recipe: Path) -> None:
    interalign("personas", "compose", "--recipe", str(recipe), "--out", "run", cwd=tmp_path)
    recipe.write_text(SMALL.replace("heldout = 2", "heldout = 4"), encoding="utf-8")
    result = interalign("personas", "compose", "--recipe", str(recipe), "--out", "run", cwd=tmp_path)
    assert_one_clear_line(result, 5, "world.heldout", "2", "4")


def test_a_folder_from_before_the_pool_goes_on(tmp_path: Path, recipe: Path) -> None:
    interalign("personas", "compose", "--recipe", str(recipe), "--out", "run", cwd=tmp_path)
    kept = tmp_path / "run" / "recipe.toml"
    older = tomllib.loads(kept.read_text(encoding="utf-8"))
    del older["pool"]
    kept.write_text(tomli_w.dumps(older), encoding="utf-8")
    for named in ([], ["--recipe", str(recipe)]):
        again = interalign("personas", "compose", *named, "--out", "run", cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        assert "done before" in again.stderr
    assert tomllib.loads(kept.read_text(encoding="utf-8")) == older
    # Nothing has been made by the table of the pool, so it may change; that of the world may not.
    recipe.write_text(SMALL.replace("train = 3", "train = 4"), encoding="utf-8")
    other = interalign("personas", "compose", "--recipe", str(recipe), "--out", "run", cwd=tmp_path)
    assert_one_clear_line(other, 5, "world.train: 3 -> 4")


def test_a_run_folder_in_use(tmp_path: Path) -> None:
    from interalign.recipe import demo_recipe, recipe_toml

    with RunFolder.open(tmp_path / "run", recipe_toml(demo_recipe()), versions={}):
        result = interalign("personas", "compose", "--out", "run", cwd=tmp_path)
    assert_one_clear_line(result, 4, "in use by process")


def test_a_model_folder_without_weights(tmp_path: Path, recipe: Path) -> None:
    (tmp_path / "empty").mkdir()
    recipe.write_text(SMALL + '[train]\nbase = "./empty"\n', encoding="utf-8")
    interalign("personas", "compose", "--recipe", str(recipe), "--out", "run", cwd=tmp_path)
    interalign("simulate", "--out", "run", cwd=tmp_path)
    result = interalign("train", "--out", "run", "--method", "sft", cwd=tmp_path)
    assert_one_clear_line(result, 2, "empty holds no model weights")
    assert not (tmp_path / "run" / "models").exists()


def test_a_method_that_does_not_exist(tmp_path: Path) -> None:
    assert_one_clear_line(interalign("train", "--method", "ppo", cwd=tmp_path), 2, "'ppo'", "sft, sft-rejected, dpo, both")
