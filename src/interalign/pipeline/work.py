"""What all stages share: the recipe, the run folder, the journal, and where progress shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from interalign.errors import InputError
from interalign.llm.journal import Journal
from interalign.recipe import Recipe, load_recipe, recipe_toml
from interalign.run import RunFolder, storage_errors
from interalign.training.checkpoint import installed_versions
from interalign.training.job import Method

__all__ = ["Work"]


@dataclass(frozen=True)
class _Bar:
    """One progress bar."""

    progress: Progress
    task: TaskID

    def advance(self) -> None:
        """One unit done."""
        self.progress.advance(self.task)

    def at_size(self, size: int, calls: int) -> None:
        """How large the pool is, with the calls that took beside."""
        self.progress.update(self.task, completed=size, note=f"{calls} calls")

    def at_step(self, done: int, total: int, loss: float) -> None:
        """Optimizer steps done, out of a total that the first step tells, with the loss beside."""
        self.progress.update(self.task, completed=done, total=total, note=f"loss {loss:.3f}")


@dataclass(frozen=True)
class Work:
    """What all stages share: the recipe, the run folder, the journal of model calls, and where progress shows."""

    recipe: Recipe
    run: RunFolder
    journal: Journal
    console: Console

    @classmethod
    @contextmanager
    def open(
        cls, recipe: Recipe, out: Path, console: Console | None = None, free: Sequence[str] = ()
    ) -> Iterator[Work]:
        """Hold the run folder and its journal; raises RunBusy, RunMismatch, InputError or StorageError."""
        text, kept = _settled(recipe, out)
        with (
            RunFolder.open(out, text, versions=installed_versions(), free=free, kept=kept) as run,
            _journal(run.journal) as journal,
        ):
            yield cls(recipe, run, journal, console or Console(stderr=True))

    @classmethod
    @contextmanager
    def joined(cls, recipe: Recipe, out: Path) -> Iterator[Work]:
        """The work that another process holds, for one that trains with it: it only reads the folder, and is silent."""
        with TemporaryDirectory() as folder, Journal.open(Path(folder) / "journal.sqlite") as journal:
            yield cls(recipe, RunFolder(out), journal, Console(quiet=True))

    def start_of(self, method: Method) -> Path | None:
        """The checkpoint of this folder that a method on trees starts from; None: the base model.

        Raises:
            InputError: it is not there.
        """
        before = self.recipe.train.start(method)
        if before == "base":
            return None
        start = self.run.models / before
        if not start.exists():
            table = "sft" if before == "induction" else "dpo"
            raise InputError(
                f"The training starts from {start}, which does not exist.",
                mend=f'train {before} first, or set train.{table}.start = "base".',
            )
        return start

    @contextmanager
    def bar(self, what: str, total: int | None = None, *, shown: bool = True) -> Iterator[_Bar]:
        """A progress bar with time left."""
        columns = (
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]left[/dim]"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}[/dim]"),
        )
        with Progress(*columns, console=self.console, disable=not shown) as progress:
            yield _Bar(progress, progress.add_task(escape(what), total=total, note=""))

    def say(self, sentence: str) -> None:
        """Say something that the user should read, beside a bar or without one."""
        self.console.print(sentence, style="yellow", markup=False, highlight=False)

    def done(self, what: str) -> None:
        """Say that a stage is there already."""
        self.console.print(f"{what:<34} done before", style="dim", markup=False, highlight=False)


@contextmanager
def _journal(path: Path) -> Iterator[Journal]:
    """The journal. One that is empty at the end is removed: in a folder where nothing was made, none is left."""
    empty = False
    try:
        with Journal.open(path) as journal:
            try:
                yield journal
            finally:
                empty = not len(journal)
    finally:
        if empty:
            with storage_errors(path):
                path.unlink(missing_ok=True)


def _settled(recipe: Recipe, out: Path) -> tuple[str, str | None]:
    """The recipe's text, and what the folder keeps, both with every key.

    An older version wrote fewer keys. With their defaults the missing ones change nothing: where both say the same, the
    text is the one that the folder has.
    """
    path = out / "recipe.toml"
    try:
        kept = load_recipe(path)
    except InputError:
        # Nothing is kept yet, or what is kept cannot be meant: the run folder says which.
        return recipe_toml(recipe), None
    return (path.read_text(encoding="utf-8"), None) if kept == recipe else (recipe_toml(recipe), recipe_toml(kept))
