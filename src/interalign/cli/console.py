"""What all commands share: where they print, which run folder they work in, and how they stop."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from interalign.errors import InputError

if TYPE_CHECKING:
    from interalign.llm.backends import ModelConfig
    from interalign.llm.model import Request
    from interalign.pipeline.work import Work
    from interalign.recipe import Recipe

__all__ = [
    "DEMO",
    "IN_A_WORD",
    "SCRIPTED",
    "BaseUrl",
    "BudgetInWords",
    "Estimate",
    "Out",
    "PriceFile",
    "RecipeFile",
    "ShowPrompts",
    "checked_model",
    "chosen_recipe",
    "err",
    "escaped",
    "in_place_of",
    "limited_like",
    "model_in_a_word",
    "model_named",
    "note",
    "out",
    "say",
    "say_call",
    "server_model",
    "work_in",
]

out, err = Console(), Console(stderr=True)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

Out = Annotated[Path, typer.Option("--out", help="Run folder: every stage reads and writes its files there.")]
RecipeFile = Annotated[
    Path | None,
    typer.Option("--recipe", help="TOML recipe. Default: the one in the run folder, else the demo's."),
]
BaseUrl = Annotated[
    str | None, typer.Option("--base-url", help="An OpenAI-compatible server, as in http://localhost:8000/v1.")
]
BudgetInWords = Annotated[
    str | None, typer.Option("--budget", help='What the run may cost, as in "20usd" or "3M tokens".')
]
PriceFile = Annotated[
    Path | None,
    typer.Option(
        "--prices",
        help='TOML file of prices, in place of the package\'s: for each model a table \\[models."name"] with `prompt`, '
        "`completion` and, where read tokens that were cached cost less, `cached`, in US dollars per million tokens.",
    ),
]
Estimate = Annotated[
    bool, typer.Option("--estimate", help="Say how many calls, tokens and dollars it would take, and do nothing.")
]
ShowPrompts = Annotated[
    bool, typer.Option("--show-prompts", help="Print a call of each kind as it would be sent, and do nothing.")
]
DEMO = Path("runs/demo")
SCRIPTED = "scripted"
IN_A_WORD = (
    "MODEL@URL (an OpenAI-compatible server, as in m@http://localhost:8000/v1), inspect:PROVIDER/MODEL, a "
    "checkpoint folder, a hub name, or scripted (a script, to see how it goes: free, at once, offline)"
)
"""What stands in helps where `model_named` or `server_model` reads a word."""
_ADDRESS = re.compile(r"(?:localhost|\d+(?:\.\d+){3}|[\w-]+(?:\.[\w-]+)+)(?::\d+)?(?:/|$)|[\w.-]+:\d+(?:/|$)")
_SERVER = "OPENAI_BASE_URL"
_OPTIONS = {"base_url": "--base-url", "model": "--model", "checkpoint": "--model"}


def chosen_recipe(recipe: Path | None, folder: Path, default: Recipe | None = None) -> Recipe:
    """The recipe that was named, over the run folder's own; without a name that one, or the default (the demo's).

    Tables that a named recipe leaves out stay as the folder has them: a recipe for one stage can follow another.

    Raises:
        InputError: a recipe cannot be used.
    """
    from interalign.recipe import demo_recipe, load_recipe

    kept = folder / "recipe.toml"
    before = load_recipe(kept) if kept.exists() else None
    if recipe is not None:
        return load_recipe(recipe, over=before)
    return before or default or demo_recipe()


@contextmanager
def work_in(folder: Path, recipe: Recipe, free: Sequence[str] = ()) -> Iterator[Work]:
    """Hold a run folder, with progress on the error stream; keys of the recipe that begin as in `free` may change."""
    from interalign.pipeline.work import Work

    with Work.open(recipe, folder, err, free) as work:
        yield work


def model_in_a_word(what: str) -> ModelConfig | None:
    """The model that one word names as scripted, inspect:PROVIDER/MODEL or MODEL@URL; None for a folder or hub name.

    Raises:
        InputError: it cannot be, or its address lacks http://.
    """
    if what == SCRIPTED:
        return checked_model({"backend": "scripted"})
    if what.startswith("inspect:"):
        return checked_model({"backend": "inspect", "model": what.removeprefix("inspect:")})
    name, at, url = what.partition("@")
    if at and url.startswith(("http://", "https://")):
        return checked_model({"backend": "endpoint", "base_url": url, "model": name}, {"base_url": what, "model": what})
    if at and _ADDRESS.match(url) and not Path(what).expanduser().exists():
        raise InputError(
            f"{what}: the address of the server lacks http:// (or https://).", mend=f"write {name}@http://{url}."
        )
    return None


def model_named(what: str) -> ModelConfig:
    """The model that one word names, as `model_in_a_word` reads it, or else a folder or hub name.

    Raises:
        InputError: it cannot be.
    """
    named = model_in_a_word(what)
    return checked_model({"backend": "local", "checkpoint": what}, {"checkpoint": what}) if named is None else named


def server_model(model: str, base_url: str | None) -> ModelConfig:
    """The model that --model and --base-url name; without --base-url also in one word, as `model_in_a_word` reads it.

    Without --base-url, a name that is no folder is asked for on the server of OPENAI_BASE_URL where that is set, else
    on the Hugging Face Hub; which of the two is told.

    Raises:
        InputError: one of them cannot be.
    """
    from interalign.llm.offline import OFFLINE_MODEL

    if base_url is not None:
        return checked_model({"backend": "endpoint", "base_url": base_url, "model": model})
    named = model_in_a_word(model)
    if named is not None:
        return named
    if model != OFFLINE_MODEL and not Path(model).expanduser().exists():
        url = os.environ.get(_SERVER, "").strip()
        if url:
            # The address may hold a password, so it is not told.
            note(f"{model} is no folder, so the server of {_SERVER} is asked for it; --base-url names another one.")
            return checked_model({"backend": "endpoint", "base_url": url, "model": model}, {"base_url": _SERVER})
        note(
            f"{model} is no folder, so the Hugging Face Hub is asked for it; for a model on a server write MODEL@URL, "
            f"add --base-url, or set {_SERVER}."
        )
    return checked_model({"backend": "local", "checkpoint": model})


def checked_model(table: Mapping[str, Any], names: Mapping[str, str] | None = None) -> ModelConfig:
    """The model that a table names; `names` says, by its keys, where they come from, if not from options.

    Raises:
        InputError: a value cannot be.
    """
    from pydantic import TypeAdapter, ValidationError

    from interalign.llm.backends import ModelConfig

    try:
        model: ModelConfig = TypeAdapter[ModelConfig](ModelConfig).validate_python(table)
        return model
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    # Raised out here, since the validation's own error may quote a secret.
    key = str(first["loc"][-1])
    example = " as in http://localhost:8000/v1" if key == "base_url" else ""
    raise InputError(
        f"{({**_OPTIONS, **(names or {})}).get(key, key)}: {first['msg'].removeprefix('Value error, ')}.",
        mend=f"correct it{example}.",
    )


def in_place_of(before: Sequence[ModelConfig], model: ModelConfig) -> ModelConfig:
    """`model` with the settings of the one that it replaces: how long it is waited for, how much it is asked at once.

    They are those of the same server, or else of the first of the same kind. A key is that of its server: for another
    server it is looked for where `model` says.
    """
    from interalign.llm.endpoint import EndpointConfig

    named = {field: getattr(model, field) for field in model.model_fields_set}
    alike = [one for one in before if one.backend == model.backend]
    if not alike:
        return model
    if not isinstance(model, EndpointConfig):
        return alike[0].model_copy(update=named)
    servers = [one for one in alike if isinstance(one, EndpointConfig)]
    same = next((one for one in servers if one.base_url == model.base_url), None)
    return (same or servers[0]).model_copy(update=named | ({} if same else {"api_key_env": model.api_key_env}))


def limited_like(model: ModelConfig, others: Iterable[ModelConfig]) -> ModelConfig:
    """`model` under the strictest limits that it has among these: a server keeps one limit for all roles of a model."""
    from interalign.llm.endpoint import EndpointConfig

    if not isinstance(model, EndpointConfig):
        return model
    same = [
        one
        for one in (model, *others)
        if isinstance(one, EndpointConfig) and (one.base_url, one.model) == (model.base_url, model.model)
    ]
    limits: dict[str, int | None] = {}
    for rate in ("requests_per_minute", "tokens_per_minute"):
        set_to = [limit for one in same if (limit := getattr(one, rate)) is not None]
        limits[rate] = min(set_to, default=None)
    return model.model_copy(update=limits)


def note(text: str) -> None:
    """Say something quietly on the error stream, however long."""
    err.print(escaped(text), style="dim", highlight=False, soft_wrap=True)


def say_call(name: str, models: Sequence[tuple[ModelConfig, float]], request: Request) -> None:
    """Print a call as it would be sent: whose it is, who is asked and how, and what is said.

    Args:
        name: Whose call it is.
        models: The models that may be asked, with their weights.
        request: The call.
    """
    from interalign.llm.backends import described

    whole = sum(weight for _, weight in models)
    asked = [described(one) + (f" ({weight / whole:.0%})" if len(models) > 1 else "") for one, weight in models]
    sampling = request.sampling
    how = [f"max_tokens {sampling.max_tokens}", f"temperature {sampling.temperature:g}"]
    how += [f"top_p {sampling.top_p:g}"] if sampling.top_p < 1 else []
    how += [f"stop {list(sampling.stop)}"] if sampling.stop else []
    wants = request.response_schema is not None
    free = [one for one, _ in models if wants and not getattr(one, "json_schema", True)]
    schema = "with a JSON schema" + (", save where json_schema is off" if free else "") if wants else "no JSON schema"
    out.print(f"\n[bold]{escaped(name)}[/bold]", highlight=False)
    say(f"{', '.join(asked)}; {', '.join(how)}; {schema}")
    for message in request.messages:
        out.print(f"[dim]{message.role}:[/dim]", highlight=False)
        say(message.content)


def say(text: str) -> None:
    """Print a line as it stands, however long."""
    out.print(escaped(text), highlight=False, soft_wrap=True)


def escaped(text: str) -> str:
    """Foreign text as it stands: neither markup, nor control characters, which a terminal would obey."""
    from rich.markup import escape

    return escape(_CONTROL.sub("", text))
