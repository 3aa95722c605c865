"""What all commands share: where they print, which run folder they work in, and how they stop."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from interalign.pipeline.work import Work
    from interalign.recipe import Recipe

__all__ = ["DEMO", "Out", "RecipeFile", "chosen_recipe", "err", "escaped", "out", "say", "work_in"]

out, err = Console(), Console(stderr=True)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

Out = Annotated[Path, typer.Option("--out", help="Run folder: every stage reads and writes its files there.")]
RecipeFile = Annotated[
    Path | None,
    typer.Option("--recipe", help="TOML recipe. Default: the one in the run folder, else the demo's."),
]
DEMO = Path("runs/demo")


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


def say(text: str) -> None:
    """Print a line as it stands, however long."""
    out.print(escaped(text), highlight=False, soft_wrap=True)


def escaped(text: str) -> str:
    """Foreign text as it stands: neither markup, nor control characters, which a terminal would obey."""
    from rich.markup import escape

    return escape(_CONTROL.sub("", text))
