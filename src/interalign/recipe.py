"""One typed recipe for the whole way: a TOML file, a table per stage, every key checked.

Each table is the configuration object of its stage and is documented where it stands; this module only puts them
together.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, get_args

import tomli_w
from pydantic import BaseModel, Field, ValidationError

from interalign.conversations.preferences import PreferenceConfig
from interalign.conversations.simulate import SimulateConfig
from interalign.errors import InputError
from interalign.evaluation.benchmark import BenchmarkConfig
from interalign.messages import Value
from interalign.personas.compose import WorldConfig
from interalign.personas.pool import PoolConfig
from interalign.training.train import DpoConfig, SftConfig, TrainConfig

__all__ = ["Recipe", "changed", "demo_recipe", "load_recipe", "recipe_toml"]


class Recipe(Value):
    """Everything that decides a run's outcome, beside the versions of the packages."""

    name: Annotated[str, Field(pattern=r"^\w[\w .+-]*$")] = "run"
    """Shown in the report, and the run folder's name where none is given: no path, so no slashes."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 7
    """All seeds of the run derive from this one."""
    world: WorldConfig = WorldConfig()
    """The personas of the rule-based world."""
    pool: PoolConfig = PoolConfig()
    """Personas that a language model writes; `interalign personas grow` makes them."""
    simulate: SimulateConfig = SimulateConfig()
    """Conversation trees."""
    preferences: PreferenceConfig = PreferenceConfig()
    """Pairs of sibling replies."""
    train: TrainConfig = TrainConfig()
    """SFT and DPO."""
    benchmark: BenchmarkConfig = BenchmarkConfig()
    """The evaluation on held-out personas."""


def demo_recipe() -> Recipe:
    """The recipe of `interalign demo`, the same as recipes/demo.toml.

    Its learning rates are those of small adapters on a 135M model with 36 conversations to learn from; larger models
    want the defaults.
    """
    sft = SftConfig(learning_rate=4e-3)
    dpo = DpoConfig(learning_rate=5e-5, sft_weight=0.2, trees=12)
    return Recipe(name="demo", world=WorldConfig(train=36), train=TrainConfig(sft=sft, dpo=dpo))


def load_recipe(path: Path | str) -> Recipe:
    """The recipe in a TOML file; keys that are left out keep their defaults.

    Raises:
        InputError: the file is missing or not TOML, a key is unknown, or a value is out of range.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"The recipe {path} does not exist.", mend="check the path; see recipes/ for examples."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The recipe {path} cannot be read: {error}.", mend="save it as UTF-8 text.") from error
    except (ValueError, RecursionError) as error:
        # Not only TOMLDecodeError: endless digits and endless brackets raise these.
        raise InputError(f"The recipe {path} is not TOML: {error}.", mend="correct that line.") from error
    return _checked(table, str(path))


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with some keys changed, given as nested tables; raises InputError where a value is out of range."""
    return _checked(_merged(recipe.model_dump(mode="json"), changes), "The command line")


def _merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(table)
    for key, value in changes.items():
        before = merged.get(key)
        # A table that names another backend is another kind of table, and keeps nothing of the old one.
        if isinstance(before, dict) and isinstance(value, Mapping) and "backend" not in value:
            merged[key] = _merged(before, value)
        else:
            merged[key] = value
    return merged


def _checked(table: Mapping[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        raise _in_words(where, error) from error


def recipe_toml(recipe: Recipe) -> str:
    """The recipe with every key spelled out, defaults included."""
    return tomli_w.dumps(_without_none(recipe.model_dump(mode="json")))


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    # TOML has no null; a key that is left out means the same.
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }


def _in_words(path: str, error: ValidationError) -> InputError:
    first = error.errors(include_url=False, include_context=False)[0]
    key = ".".join(map(str, first["loc"]))
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _known_keys(first["loc"][:-1])
        near = get_close_matches(str(first["loc"][-1]), known, n=1)
        mend = f"did you mean '{near[0]}'?" if near else f"the keys here are: {', '.join(known)}."
        return InputError(f"{path}: the key '{key}' is unknown{more}.", mend=mend)
    return InputError(f"{path}: '{key}' is {first['input']!r}: {first['msg']}{more}.", mend="correct this value.")


def _known_keys(where: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Recipe
    for key in where:
        annotation = model.model_fields[str(key)].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next(one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel))
    return list(model.model_fields)
