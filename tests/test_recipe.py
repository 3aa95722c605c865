import tomllib
from pathlib import Path

import pytest

from interalign.errors import InputError
from interalign.recipe import Recipe, changed, demo_recipe, load_recipe, recipe_toml

RECIPES = Path(__file__).parents[1] / "recipes"


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_demo_runs_the_demo_recipe() -> None:
    assert load_recipe(RECIPES / "demo.toml") == demo_recipe()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_loads_and_bears_its_name(path: Path) -> None:
    assert load_recipe(path).name == path.stem


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_resolved_recipe_is_the_same_recipe(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    assert load_recipe(write(tmp_path, recipe_toml(recipe))) == recipe


def test_a_resolved_recipe_spells_out_every_stage() -> None:
    assert {"world", "simulate", "preferences", "train", "benchmark"} <= set(tomllib.loads(recipe_toml(Recipe())))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sed = 1", ["'sed'", "did you mean 'seed'"]),
        ("[world]\nheld_out = 3", ["'world.held_out'", "did you mean 'heldout'"]),
        ("[train.dpo]\nbetta = 1.0", ["'train.dpo.betta'", "did you mean 'beta'"]),
        ("[train.lora]\nzzz = 1", ["'train.lora.zzz'", "rank, alpha"]),
        ("[world]\ntrain = 0", ["'world.train'", "0", "greater than or equal to 1"]),
        ("[simulate]\nsiblings = ['mirror']", ["'simulate.siblings'", "at least 2"]),
        ("seed = ", ["not TOML"]),
    ],
)
def test_a_bad_recipe_says_what_where_and_how_to_mend(text: str, words: list[str], tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.toml does not exist"):
        load_recipe(tmp_path / "nowhere.toml")


def test_a_recipe_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        load_recipe(path)


def test_changes_reach_their_keys_and_nothing_else() -> None:
    recipe = demo_recipe()
    made = changed(recipe, {"pool": {"profiles": {"target": 30}, "encoder": "other"}})
    assert (made.pool.profiles.target, made.pool.encoder) == (30, "other")
    back = {"profiles": {"target": recipe.pool.profiles.target}, "encoder": recipe.pool.encoder}
    assert changed(made, {"pool": back}) == recipe


def test_another_backend_keeps_nothing_of_the_old_one() -> None:
    server = {"backend": "endpoint", "base_url": "http://localhost:1/v1", "model": "m", "timeout_s": 5}
    served = changed(demo_recipe(), {"pool": {"generator": server}})
    assert served.pool.generator.backend == "endpoint"
    scripted = changed(served, {"pool": {"generator": {"backend": "scripted"}}})
    assert scripted.pool == demo_recipe().pool


def test_a_change_that_cannot_be_says_which_key() -> None:
    with pytest.raises(InputError, match=r"The command line: 'pool\.profiles\.target' is 0"):
        changed(demo_recipe(), {"pool": {"profiles": {"target": 0}}})
