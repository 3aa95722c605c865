"""One typed recipe for the whole way: a TOML file, a table per stage, every key checked.

Each table is the configuration object of its stage and is documented where it stands; this module only puts them
together.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin

import tomli_w
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from interalign.conversations.environment import EnvironmentRoles
from interalign.conversations.preferences import PreferenceConfig
from interalign.conversations.simulate import RolesConfig, SimulateConfig
from interalign.errors import InputError
from interalign.evaluation.benchmark import PACKAGED, BenchmarkConfig
from interalign.messages import Value
from interalign.personas.compose import WorldConfig
from interalign.personas.pool import PoolConfig
from interalign.training.train import DpoConfig, SftConfig, TrainConfig

__all__ = ["Recipe", "changed", "demo_recipe", "load_recipe", "recipe_toml"]

_BACKEND = "backend"
_SHOWN_CHARACTERS = 60


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


def load_recipe(path: Path | str, over: Recipe | None = None) -> Recipe:
    """The recipe in a TOML file; keys that are left out keep their defaults.

    With `over`, tables that the file leaves out are those of that recipe; a table that it names is the file's alone.
    A role's `prompt` and a file of `cases` are looked for beside the file, and stand in the recipe with their whole
    paths.

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
    recipe = _checked(table if over is None else over.model_dump(mode="json") | table, str(path))
    return _with_whole_paths(recipe, path.parent)


def _with_whole_paths(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with the files that it names found from `folder`: the run folder keeps it in another place."""
    changes: dict[str, Any] = {}
    if recipe.simulate.roles is not None:
        roles = _roles_with_whole_paths(recipe.simulate.roles, folder)
        changes["simulate"] = recipe.simulate.model_copy(update={"roles": roles})
    benchmark: dict[str, Any] = {}
    if recipe.benchmark.roles is not None:
        benchmark["roles"] = _roles_with_whole_paths(recipe.benchmark.roles, folder)
    if recipe.benchmark.cases not in (None, PACKAGED):
        benchmark["cases"] = _cases_with_whole_paths(str(recipe.benchmark.cases), folder)
    if benchmark:
        changes["benchmark"] = recipe.benchmark.model_copy(update=benchmark)
    return recipe.model_copy(update=changes)


def _cases_with_whole_paths(cases: str, folder: Path) -> str:
    """A file or folder, or several with commas between; a comma may be part of a name."""
    parts = [cases] if (folder / cases).exists() else [part.strip() for part in cases.split(",")]
    return ",".join(os.path.abspath(folder / part) for part in parts)


R = TypeVar("R", RolesConfig, EnvironmentRoles)


def _roles_with_whole_paths(roles: R, folder: Path) -> R:
    played = {name: getattr(roles, name) for name in type(roles).model_fields}
    whole = {
        name: role.model_copy(update={"prompt": os.path.abspath(folder / role.prompt)})
        for name, role in played.items()
        if role is not None and role.prompt is not None
    }
    return roles.model_copy(update=whole)


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with some keys changed, given as nested tables.

    A table with the same `backend`, or without one, changes the keys that it holds; one with another replaces the old.

    Raises:
        InputError: a key is unknown, or a value is out of range.
    """
    return _checked(_merged(recipe.model_dump(mode="json"), changes), "The command line")


def _merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(table)
    for key, value in changes.items():
        before = merged.get(key)
        if isinstance(before, dict) and isinstance(value, Mapping) and _same_backend(before, value):
            merged[key] = _merged(before, value)
        else:
            merged[key] = value
    return merged


def _same_backend(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    # A table that names another backend is another kind of table, and keeps nothing of the old one.
    return _BACKEND not in now or now[_BACKEND] == before.get(_BACKEND)


def _checked(table: Mapping[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        wrong = _in_words(where, error)
    # Raised out here, since the validation's own error quotes what stood in the recipe, which may be a secret.
    raise wrong


def recipe_toml(recipe: Recipe) -> str:
    """The recipe with every key spelled out, defaults included."""
    return tomli_w.dumps(_without_none(recipe.model_dump(mode="json")))


def _without_none(value: Any) -> Any:
    # TOML has no null; a key that is left out means the same.
    if isinstance(value, dict):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    return [_without_none(one) for one in value] if isinstance(value, list) else value


def _in_words(where: str, error: ValidationError) -> InputError:
    errors = _causes(error.errors(include_url=False))
    # A mistyped key is the likely reason for all else that is wrong with its table.
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    place = _place(first["loc"])
    key = ".".join(place.keys)
    if first["type"] == "extra_forbidden":
        tables = _place(first["loc"][:-1]).tables
        mend = _nearest(str(first["loc"][-1]), [name for table in tables for name in table.model_fields])
        return InputError(f"{where}: the key '{key}' is unknown{more}.", mend=mend)
    if first["type"] == "missing":
        return InputError(f"{where}: the key '{key}' is missing{more}.", mend="add it.")
    if first["type"] == "union_tag_not_found":
        near = get_close_matches(_BACKEND, map(str, first["input"]), n=1)
        mend = f"did you mean it by '{near[0]}'?" if near else f"add it, as one of: {', '.join(_backends(place))}."
        return InputError(f"{where}: the key '{key}.{_BACKEND}' is missing{more}.", mend=mend)
    if first["type"] == "union_tag_invalid":
        mend = _nearest(str(first["ctx"]["tag"]), _backends(place), "backends")
        return InputError(f"{where}: '{key}.{_BACKEND}' names no backend{more}.", mend=mend)
    value = "" if place.secret else _shown(first["input"])
    what = first["msg"].removeprefix("Value error, ")
    return InputError(f"{where}: '{key}'{value}: {what}{more}.", mend="correct this value.")


def _causes(errors: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """The errors without those that follow from others: a list whose one entry is wrong is said to be empty, too."""
    wrong = [one["loc"] for one in errors]
    return [
        one
        for one in errors
        if not any(len(loc) > len(one["loc"]) and loc[: len(one["loc"])] == one["loc"] for loc in wrong)
    ]


def _nearest(name: str, known: Collection[str], what: str = "keys") -> str:
    near = get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"the {what} here are: {', '.join(known)}."


def _shown(value: object) -> str:
    # A whole table or a long text would bury what is wrong with it.
    text = "" if isinstance(value, dict | list | tuple) else repr(value)
    return f" is {text}" if 0 < len(text) <= _SHOWN_CHARACTERS else ""


class _Place(NamedTuple):
    keys: tuple[str, ...]
    """The way there, as it stands in the file."""
    tables: list[type[BaseModel]]
    """What kinds of table may stand there; none where a plain value does."""
    secret: bool
    """Whether what stands there may be a secret in the wrong field, as in a table that can name a server."""


def _place(loc: tuple[int | str, ...]) -> _Place:
    keys: list[str] = []
    tables: list[type[BaseModel]] = [Recipe]
    secret = False
    named = False
    for part in loc:
        if named:
            # A table of tables: the name is whoever wrote the recipe's own.
            keys.append(str(part))
            named = False
            continue
        if len(tables) > 1:
            # After a table of several kinds pydantic names the kind, which is no key.
            tables = [table for table in tables if table.model_fields[_BACKEND].default == part]
            continue
        keys.append(str(part))
        if isinstance(part, int):
            # The entries of a list are tables of one kind, which the list's own key has told.
            continue
        field = tables[0].model_fields.get(part) if tables else None
        tables = _tables(field.annotation) if field else []
        named = bool(tables) and field is not None and get_origin(field.annotation) is dict
        secret = secret or any(table.model_config.get("hide_input_in_errors") for table in tables)
    return _Place(tuple(keys), tables, secret)


def _tables(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for one in get_args(annotation) for table in _tables(one)]


def _backends(place: _Place) -> list[str]:
    return [str(table.model_fields[_BACKEND].default) for table in place.tables]
