"""The command line: thin commands over the library. Heavy packages load inside the commands that need them."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interalign import __version__
from interalign.cli.choices import choices
from interalign.cli.console import DEMO, Out, RecipeFile, chosen_recipe, err, escaped, out, say, work_in
from interalign.cli.evaluate import evaluate, show_summary
from interalign.cli.export import export
from interalign.cli.judge import judge
from interalign.cli.metrics import metrics
from interalign.cli.personas import personas
from interalign.cli.results import compare, ranking, rescore, results
from interalign.cli.simulate import simulate
from interalign.cli.train import models, train
from interalign.errors import InteralignError, Interrupted
from interalign.training import processes

if TYPE_CHECKING:
    from interalign.recipe import Recipe

__all__ = ["app", "main"]

_INTERRUPTED = 130

app = typer.Typer(
    name="interalign",
    help="Train chat models that get to know the person they talk to, and measure whether they really do.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
_WHOLE, _STAGES, _RESULTS, _YARDSTICKS = "The whole way", "Stages", "Results", "Judges and other benchmarks"
app.add_typer(personas, name="personas", rich_help_panel=_STAGES)


def main() -> None:
    """Run the command line; an error becomes one clear line and a non-zero exit code."""
    try:
        _quiet_third_parties()
        app()
    except Interrupted as stop:
        err.print(escaped(str(stop)), soft_wrap=True, highlight=False)
        sys.exit(stop.exit_code)
    except InteralignError as error:
        if not processes.is_first() or isinstance(error, processes.LostProcess):
            processes.wait_to_be_ended()
        line = escaped(" ".join(str(error).splitlines()))
        err.print(f"{_who()}[bold red]error[/bold red] {line}", soft_wrap=True, highlight=False)
        sys.exit(error.exit_code)
    except OSError as error:
        # A path that the system refuses (too long, no rights, a broken disk): its own words say it best.
        err.print(f"{_who()}[bold red]error[/bold red] {escaped(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(InteralignError.exit_code)
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns an interrupt into an exit without a word.
        if isinstance(end, SystemExit) and end.code != _INTERRUPTED:
            raise
        if processes.is_first() and not processes.is_launched():
            err.print("\nStopped. Run the same command again to go on from here.")
        sys.exit(_INTERRUPTED)


def _who() -> str:
    """What stands before the error of one of several processes that train together; the first one speaks for all."""
    return "" if processes.is_first() else f"process {processes.rank()}: "


@app.command(rich_help_panel=_WHOLE)
def demo(folder: Out = DEMO) -> None:
    """The whole way in small, offline: personas, trees, SFT, DPO, benchmark, report."""
    from interalign.recipe import demo_recipe

    _whole_way(demo_recipe(), folder)


@app.command(rich_help_panel=_WHOLE)
def run(
    recipe: Annotated[Path, typer.Argument(help="TOML recipe, for example recipes/demo.toml.")],
    folder: Annotated[
        Path | None, typer.Option("--out", help="Run folder. Default: runs/ and the recipe's name.")
    ] = None,
) -> None:
    """The whole way by a recipe; the same command goes on after an interruption."""
    from interalign.recipe import load_recipe

    loaded = load_recipe(recipe)
    _whole_way(loaded, folder or Path("runs") / loaded.name)


for stage in (simulate, export, train, models):
    app.command(rich_help_panel=_STAGES)(stage)
app.command("eval", rich_help_panel=_STAGES)(evaluate)
for result in (results, compare, ranking, rescore, metrics):
    app.command(rich_help_panel=_RESULTS)(result)
app.command(rich_help_panel=_YARDSTICKS)(choices)
app.add_typer(judge, name="judge", rich_help_panel=_YARDSTICKS)


@app.command(rich_help_panel=_STAGES)
def report(folder: Out = DEMO, recipe: RecipeFile = None) -> None:
    """Write report.html, one self-contained page, from an evaluated run."""
    from interalign.pipeline import make_report

    with work_in(folder, chosen_recipe(recipe, folder)) as work:
        say(f"report: {make_report(work)}")


@app.command(rich_help_panel=_WHOLE)
def doctor() -> None:
    """What this machine can do, what is missing, and how to mend it."""
    from interalign.doctor import absent_lines, as_table, inspect_machine

    found = inspect_machine()
    out.print(as_table(found))
    for line in absent_lines(found):
        say(line)
    if found.with_status("missing"):
        raise typer.Exit(1)


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        out.print(__version__, highlight=False)
        raise typer.Exit


def _whole_way(recipe: Recipe, folder: Path) -> None:
    from interalign.llm.hardware import keep_freed_memory
    from interalign.pipeline import run_recipe

    keep_freed_memory()
    show_summary(run_recipe(recipe, folder, err))
    say(f"\nreport: {folder / 'report.html'}")


def _quiet_third_parties() -> None:
    # Their warnings are for developers; what a user must know, interalign says itself.
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Read when torch is loaded: what several processes say to each other about themselves.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # Every try to reach a hub that is not there would print two lines.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
