"""`interalign train` and `interalign models`: from trees to checkpoints, and what checkpoints there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interalign.cli.console import DEMO, Out, RecipeFile, chosen_recipe, err, out, work_in
from interalign.errors import InputError

if TYPE_CHECKING:
    from interalign.training.job import Method

__all__ = ["models", "train"]

_METHODS: dict[str, tuple[Method, ...]] = {
    "sft": ("sft",),
    "sft-rejected": ("sft-rejected",),
    "dpo": ("dpo",),
    "both": ("sft", "dpo"),
}


def train(
    folder: Out = DEMO,
    recipe: RecipeFile = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="sft, dpo, both (one after the other), or sft-rejected: the control that learns what lost.",
        ),
    ] = "both",
    show_batch: Annotated[
        bool,
        typer.Option("--show-batch", help="Train nothing; print the first batch, with what is trained on in colour."),
    ] = False,
) -> None:
    """Train on the trees: models/sft and models/dpo."""
    from interalign.pipeline import show_batch as show
    from interalign.pipeline import train_model

    methods = _METHODS.get(method)
    if methods is None:
        raise InputError(f"There is no method {method!r}.", mend=f"use one of: {', '.join(_METHODS)}.")
    with work_in(folder, chosen_recipe(recipe, folder)) as work:
        for one in methods:
            if show_batch:
                out.print(show(work, one))
            else:
                train_model(work, one)


def models(folder: Annotated[Path, typer.Argument(help="Run folder, or any folder of checkpoints.")] = DEMO) -> None:
    """List the checkpoints in a run folder: method, base, parent, steps and last metrics."""
    from interalign.training.checkpoint import as_table, checkpoints

    found = checkpoints(folder / "models" if (folder / "models").is_dir() else folder)
    if not found:
        err.print(f"There is no checkpoint in {folder}.", markup=False, highlight=False)
        return
    out.print(as_table(found))
