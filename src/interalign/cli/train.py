"""`interalign train` and `interalign models`: from trees to checkpoints, and what checkpoints there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, cast

import typer

from interalign.cli.console import DEMO, BudgetInWords, Out, PriceFile, RecipeFile, chosen_recipe, err, out, work_in
from interalign.errors import InputError

if TYPE_CHECKING:
    from interalign.training.iterated import IteratedMethod
    from interalign.training.job import Method

    Trained: TypeAlias = Method | IteratedMethod | Literal["grpo"]

__all__ = ["models", "train"]

_ON_TREES = ("induction", "sft", "sft-rejected", "dpo", "both")
_METHODS = (*_ON_TREES, "iterated-dpo", "inpo", "comal", "grpo")


def train(
    folder: Out = DEMO,
    recipe: RecipeFile = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="On the trees: sft, dpo, both (one after the other; induction before, where sft starts from it), "
            "sft-rejected (a control: learns what lost), induction (what remarks say of a person). "
            "On its own talk with simulated users: iterated-dpo, inpo, comal, grpo.",
        ),
    ] = "both",
    show_batch: Annotated[
        bool,
        typer.Option("--show-batch", help="Train nothing; print the first batch, with what is trained on in colour."),
    ] = False,
    launch: Annotated[
        int | None,
        typer.Option("--launch", min=1, help="Train in so many processes on this machine, each on a GPU of its own."),
    ] = None,
    budget: BudgetInWords = None,
    prices: PriceFile = None,
) -> None:
    """Train a model into models/METHOD. On trees it also runs under torchrun and accelerate launch."""
    from interalign.llm.account import Budget
    from interalign.llm.hardware import keep_freed_memory
    from interalign.pipeline import make_model
    from interalign.pipeline import show_batch as show
    from interalign.pipeline.work import Work
    from interalign.training import processes

    if method not in _METHODS:
        raise InputError(f"There is no method {method!r}.", mend=f"use one of: {', '.join(_METHODS)}.")
    if method not in _ON_TREES and (show_batch or (launch or 1) > 1 or processes.count() > 1):
        raise InputError(
            f"{method} does not train on trees: it trains in one process, and has no batch to show beforehand.",
            mend=f"leave the option out, or use one of: {', '.join(sorted(_ON_TREES))}.",
        )
    if launch is not None and launch > 1 and not show_batch:
        raise typer.Exit(processes.launch(launch, _arguments(folder, recipe, method)))
    cap = Budget.parse(budget) if budget is not None else None
    chosen = chosen_recipe(recipe, folder)
    keep_freed_memory()
    with work_in(folder, chosen) if processes.is_first() else Work.joined(chosen, folder) as work:
        for one in chosen.train.both if method == "both" else (method,):
            if show_batch:
                out.print(show(work, cast("Method", one)))
            else:
                make_model(work, cast("Trained", one), budget=cap, prices=prices)
        processes.leave()


def _arguments(folder: Path, recipe: Path | None, method: str) -> list[str]:
    """The same command for each process."""
    named = [] if recipe is None else ["--recipe", str(recipe)]
    return ["train", "--out", str(folder), "--method", method, *named]


def models(folder: Annotated[Path, typer.Argument(help="Run folder, or any folder of checkpoints.")] = DEMO) -> None:
    """List the checkpoints in a run folder: method, base, parent, steps and last metrics."""
    from interalign.training.checkpoint import as_table, checkpoints

    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.", mend="check the path, or train one with `interalign train`.")
    found = checkpoints(folder / "models" if (folder / "models").is_dir() else folder)
    if not found:
        err.print(f"There is no checkpoint in {folder}.", markup=False, highlight=False)
        return
    out.print(as_table(found))
