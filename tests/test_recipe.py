import re
import tomllib
import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from interalign.errors import InputError
from interalign.personas.pool import PoolConfig
from interalign.recipe import Recipe, changed, demo_recipe, load_recipe, recipe_toml

RECIPES = Path(__file__).parents[1] / "recipes"


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def generator(table: str) -> str:
    return f"[pool.generator]\n{table}\n"


def roles(user: str, prompt: str = "") -> str:
    """A recipe in which one server plays all roles, with the user's model as it is given."""
    model = '{ backend = "endpoint", base_url = "http://localhost:1/v1", model = "m" }'
    played = {role: model for role in ("user", "inducer", "tailored", "generic", "judge")} | {"user": user or model}
    lines = [f"{role}.models = [{{ model = {table} }}]" for role, table in played.items()]
    return "[simulate.roles]\n" + "\n".join([*lines, f"user.prompt = '{prompt}'" if prompt else ""])


def server(more: str) -> str:
    return generator(f'backend = "endpoint"\nbase_url = "http://localhost:1/v1"\n{more}')


def test_the_demo_runs_the_demo_recipe() -> None:
    assert load_recipe(RECIPES / "demo.toml") == demo_recipe()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_loads_and_bears_its_name(path: Path) -> None:
    assert load_recipe(path).name == path.stem


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_resolved_recipe_is_the_same_recipe(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    assert load_recipe(write(tmp_path, recipe_toml(recipe))) == recipe


def test_the_pool_recipe_names_every_setting(tmp_path: Path) -> None:
    text = (RECIPES / "persona_pool.toml").read_text(encoding="utf-8")
    every = re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE)
    assert load_recipe(write(tmp_path, every)).pool.split.personas == 3310
    assert missing(PoolConfig, tomllib.loads(every)["pool"]) == []


def missing(config: type[BaseModel], table: dict[str, Any]) -> list[str]:
    """The keys that a table lacks, and those that its tables lack; which keys a generator has depends on its kind."""
    found = [name for name in config.model_fields if name not in table]
    for name, field in config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) and name in table:
            found += [f"{name}.{key}" for key in missing(field.annotation, table[name])]
    return found


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
        (server('modle = "x"'), ["'pool.generator.modle' is unknown", "did you mean 'model'"]),
        (server('model = "x"\napi_key = "sk-1"'), ["'pool.generator.api_key'", "did you mean 'api_key_env'"]),
        (server(""), ["the key 'pool.generator.model' is missing", "add it"]),
        (generator('backend = "local"\nchekpoint = "x"'), ["'pool.generator.chekpoint'", "'checkpoint'"]),
        (generator('backend = "scripted"\nmodel = "x"'), ["'pool.generator.model'", "keys here are: backend"]),
        (generator('backend = "endpont"'), ["'pool.generator.backend'", "did you mean 'endpoint'"]),
        (generator('backend = "gpt"'), ["'pool.generator.backend'", "scripted, local, endpoint"]),
        (generator('bakend = "local"'), ["'pool.generator.backend' is missing", "'bakend'"]),
        (generator('model = "x"'), ["'pool.generator.backend' is missing", "scripted, local, endpoint"]),
        ("[pool]\ngenerator = 3", ["'pool.generator'", "dictionary"]),
        (roles('{ backend = "enpoint" }'), ["user.models.0.model.backend' names no backend. To", "mean 'endpoint'"]),
        (roles('{ backend = "gpt" }'), ["user.models.0.model.backend' names no", "are: scripted, local, endpoint"]),
        (roles('{ bakend = "local" }'), ["user.models.0.model.backend' is missing. To", "'bakend'"]),
        (roles('{ backend = "local", chekpoint = "x" }'), ["model.chekpoint' is unknown. To", "'checkpoint'"]),
        (roles("{}, weigth = 2"), ["models.0.weigth' is unknown (and 1 more)", "'weight'"]),
    ],
)
def test_a_bad_recipe_says_what_where_and_how_to_mend(text: str, words: list[str], tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_roles_prompt_is_beside_the_recipe_wherever_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "mine", roles("", "../mine/user.txt"))
    monkeypatch.chdir(tmp_path)
    loaded = load_recipe("mine/recipe.toml")
    assert loaded.simulate.roles is not None
    assert loaded.simulate.roles.user.prompt == str(tmp_path / "mine" / "user.txt")
    # The copy that the run folder keeps, and a recipe for another stage over it.
    kept = load_recipe(write(tmp_path / "elsewhere", recipe_toml(loaded)))
    assert kept == loaded
    assert load_recipe(write(tmp_path / "mine", "seed = 9"), over=kept).simulate == loaded.simulate


@pytest.mark.parametrize(
    "text",
    [
        server('model = "m"\napi_key_env = "sk-s3cret"'),
        server('model = "m"\napi_key = "s3cret"'),
        server('api_key_env = "s3cret"'),
        server('model = ["s3cret"]'),
        generator('backend = "endpoint"\nbase_url = "https://me:s3cret@h/v1"\nmodel = "m"'),
        generator('backend = "vendor"\napi_key = "s3cret"'),
        generator('backend = "s3cret"'),
        generator('api_key = "s3cret"'),
        '[simulate.roles]\nuser.models = [{ model = { backend = "endpoint", api_key = "s3cret" } }]',
        '[pool]\ngenerator = "s3cret"',
    ],
)
def test_what_may_be_a_secret_is_never_repeated(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pool\.generator|simulate\.roles") as caught:
        load_recipe(write(tmp_path, text))
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[pool.profiles]\ntarget = 10", "'pool': 20 profiles cannot be held out of a pool of 10: lower"),
        ("[pool]\nencoder = ['a', 'b']", "'pool.encoder': Input should be"),
        (f"[pool]\nindex = '{'x' * 100}'", "'pool.index': Input should be"),
        ("[pool]\nindex = 'exat'", "'pool.index' is 'exat': Input should be"),
    ],
)
def test_only_short_values_are_repeated(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe(write(tmp_path, text))
    assert words in str(caught.value)


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


def test_the_same_backend_keeps_what_is_not_named() -> None:
    server = {"backend": "endpoint", "base_url": "http://localhost:1/v1", "model": "m", "timeout_s": 5}
    served = changed(demo_recipe(), {"pool": {"generator": server}})
    moved = changed(served, {"pool": {"generator": {"backend": "endpoint", "model": "other"}}})
    assert moved == changed(demo_recipe(), {"pool": {"generator": server | {"model": "other"}}})


def test_a_change_that_cannot_be_says_which_key() -> None:
    with pytest.raises(InputError, match=r"The command line: 'pool\.profiles\.target' is 0"):
        changed(demo_recipe(), {"pool": {"profiles": {"target": 0}}})


def benchmark_roles(user: str) -> str:
    model = '{ backend = "endpoint", base_url = "http://localhost:1/v1", model = "m" }'
    lines = [f"{role}.models = [{{ model = {model} }}]" for role in ("user", "inducer", "judge")]
    return "[benchmark.roles]\n" + "\n".join([*lines, user])


def test_files_of_the_benchmark_are_looked_for_beside_the_recipe(tmp_path: Path) -> None:
    text = '[benchmark]\ncases = "people.jsonl"\n' + benchmark_roles("user.prompt = 'mine.txt'")
    benchmark = load_recipe(write(tmp_path, text)).benchmark
    assert benchmark.cases == str(tmp_path / "people.jsonl")
    assert benchmark.roles is not None and benchmark.roles.user is not None
    assert benchmark.roles.user.prompt == str(tmp_path / "mine.txt")
    assert load_recipe(write(tmp_path, '[benchmark]\ncases = "aloe"')).benchmark.cases == "aloe"


def test_each_of_several_files_of_cases_is_looked_for_beside_the_recipe(tmp_path: Path) -> None:
    recipe = write(tmp_path, '[benchmark]\ncases = "p.jsonl, q.jsonl"')
    assert load_recipe(recipe).benchmark.cases == f"{tmp_path / 'p.jsonl'},{tmp_path / 'q.jsonl'}"
    (tmp_path / "p.jsonl, q.jsonl").touch()
    assert load_recipe(recipe).benchmark.cases == str(tmp_path / "p.jsonl, q.jsonl")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[benchmark.models.mine]\nbackend = "endpoint"\nmodel = "m"', "'benchmark.models.mine.base_url' is missing"),
        ('[benchmark.models.mine]\nbackend = "remote"', "'benchmark.models.mine.backend' names no backend"),
        ('[benchmark.models.mine]\nmodel = "m"', "'benchmark.models.mine.backend' is missing"),
        ('[benchmark.models.mine]\nbackend = "local"\nchekpoint = "m"', "'benchmark.models.mine.chekpoint' is unknown"),
        (benchmark_roles("judge.weigthed = true"), "'benchmark.roles.judge.weigthed' is unknown"),
        ("[benchmark]\nturns = 3\ncontrol_turns = [4]", "control_turns names turn 4"),
    ],
)
def test_what_is_wrong_with_a_benchmark_is_named(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe(write(tmp_path, text))
    assert why in str(caught.value)
