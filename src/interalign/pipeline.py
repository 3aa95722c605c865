"""The whole way, top to bottom: personas, trees, preferences, SFT, DPO, benchmark, report.

Each stage reads the file of the stage before and writes its own, whole or not at all. A stage whose file is there is
done, so the same command goes on from wherever it was stopped.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

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
from rich.text import Text

from interalign.conversations.preferences import preferences, write_preference_tables
from interalign.conversations.simulate import Cast, grow_trees
from interalign.conversations.tree import Tree
from interalign.errors import InputError, MissingExtra, ModelError
from interalign.evaluation.benchmark import (
    CONTROLS,
    Candidate,
    ControlCandidate,
    ModelCandidate,
    run_benchmark,
)
from interalign.evaluation.summary import Summary, TurnRow, summarise
from interalign.llm.backends import LocalConfig, ScriptedConfig, open_model
from interalign.llm.encoder import Encoder, kept_encoder
from interalign.llm.endpoint import EndpointConfig
from interalign.llm.journal import Journal, journalled
from interalign.llm.model import ChatModel
from interalign.llm.offline import resolve_model
from interalign.personas.compose import compose_personas
from interalign.personas.description import KINDS, PLURALS, Description, Kind
from interalign.personas.exchange import Problem, write_dataset, write_descriptions_parquet
from interalign.personas.filter import SemanticFilter
from interalign.personas.grow import CandidateRow, Grown, grow_pool
from interalign.personas.neighbours import ApproximateIndex
from interalign.personas.persona import Persona
from interalign.personas.pool import (
    PoolConfig,
    PoolMaps,
    PoolSummary,
    Population,
    Start,
    first_members,
    gate,
    populate,
    sides,
    summarise_pool,
    threshold,
)
from interalign.personas.projection import project
from interalign.personas.writer import persona_writer
from interalign.recipe import Recipe, load_recipe, recipe_toml
from interalign.report.page import write as write_report
from interalign.report.pool import write as write_pool_report
from interalign.roles.responder import ModelResponder, Responder, policy_prompt
from interalign.roles.user import refuse_unplayable
from interalign.run import RunFolder, read_json, read_jsonl, storage_errors, write_json, write_jsonl
from interalign.training.checkpoint import installed_versions
from interalign.training.train import Method, train

__all__ = [
    "BASE",
    "WORLD",
    "Work",
    "evaluate",
    "grow_personas",
    "make_personas",
    "make_pool_report",
    "make_report",
    "run_recipe",
    "show_import",
    "simulate",
    "train_model",
]

BASE = "base"
"""The name of the untrained model in results; the baseline of every difference."""

WORLD = "Rule-based users and a rule-based judge, not human beings"
"""What every result of this pipeline says of its users."""

_NAME = re.compile(r"\w[\w.+-]*")
_GENERATOR = "persona generator"
_PROBLEMS_SHOWN = 5


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
    def open(cls, recipe: Recipe, out: Path, console: Console | None = None) -> Iterator[Work]:
        """Hold the run folder and its journal; raises RunBusy, RunMismatch, InputError or StorageError."""
        with (
            RunFolder.open(out, _settled(recipe, out), versions=installed_versions()) as run,
            Journal.open(run.journal) as journal,
        ):
            yield cls(recipe, run, journal, console or Console(stderr=True))

    @contextmanager
    def bar(self, what: str, total: int | None = None) -> Iterator[_Bar]:
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
        with Progress(*columns, console=self.console) as progress:
            yield _Bar(progress, progress.add_task(escape(what), total=total, note=""))

    def done(self, what: str) -> None:
        """Say that a stage is there already."""
        self.console.print(f"{what:<34} done before", style="dim", markup=False, highlight=False)


def _settled(recipe: Recipe, out: Path) -> str:
    """The recipe's text; the one that the folder keeps, where that says the same."""
    kept = out / "recipe.toml"
    try:
        # An older version wrote fewer keys; with their defaults the missing ones change nothing.
        same = load_recipe(kept) == recipe
    except InputError:
        # Nothing is kept yet, or what is kept cannot be meant: the run folder says which.
        same = False
    return kept.read_text(encoding="utf-8") if same else recipe_toml(recipe)


def run_recipe(recipe: Recipe, out: Path, console: Console | None = None) -> Summary:
    """Go the whole way and return what the benchmark found. The report lies in `out`/report.html."""
    started = time.monotonic()
    with Work.open(recipe, out, console) as work:
        make_personas(work)
        simulate(work)
        train_model(work, "sft")
        train_model(work, "dpo")
        summary = evaluate(work, [BASE, "sft", "dpo"])
        make_report(work, {"Last command took": f"{(time.monotonic() - started) / 60:.1f} minutes"})
        return summary


def make_personas(work: Work) -> None:
    """Stage 1, rule-based: write `personas.jsonl` (training) and `heldout.jsonl`, whichever is missing.

    Raises:
        InputError: the run folder is that of a pool, whose personas are of another making.
    """
    if work.run.pool.exists():
        raise InputError(
            f"{work.run.root} holds a grown pool; composed personas do not belong beside it.",
            mend="choose another folder with --out.",
        )
    missing = [
        (path, split)
        for path, split in ((work.run.heldout, "heldout"), (work.run.personas, "train"))
        if not path.exists()
    ]
    if not missing:
        return work.done("personas")
    personas = compose_personas(work.recipe.world, work.recipe.seed)
    for path, split in missing:
        write_jsonl(path, [persona for persona in personas if persona.split == split])
    work.console.print(f"{'personas':<34} {work.recipe.world.train} to train on, {work.recipe.world.heldout} held out")
    return None


def grow_personas(work: Work) -> PoolSummary:
    """Stage 1, with a language model: grow a pool of profiles and one of personalities, split and pair them.

    Writes `pool/`, `personas.jsonl`, `heldout.jsonl` and `pool.html`; `pool/summary.json` comes last, so it says that
    the stage is done.

    Raises:
        InputError: the run folder has personas of another making, or a pool is too small for what is held out.
        MissingExtra: a package is not installed that some later step needs.
        ModelError: the generator failed again and again.
    """
    pool = work.run.pool
    if (pool / "summary.json").exists():
        work.done("persona pool")
    else:
        if work.run.personas.exists() and not pool.exists():
            raise InputError(
                f"{work.run.personas} was not made by growing a pool.", mend="choose another folder with --out."
            )
        config = work.recipe.pool
        # Before an encoder is loaded or a call is paid: what is missing or unfit shall cost nothing.
        _refuse_missing_packages(config)
        starts = {kind: first_members(config, kind) for kind in KINDS}
        borders = {kind: (threshold(config, kind), gate(config, kind)) for kind in KINDS}
        _tell_of_files(work, list(starts.values()))
        with kept_encoder(config.encoder) as encoder:
            grown = asyncio.run(_grow_pool(work, encoder, starts, borders))
            _write_pool(work, grown, encoder)
    make_pool_report(work)
    return read_json(pool / "summary.json", PoolSummary)


def _refuse_missing_packages(config: PoolConfig) -> None:
    needed = {"py3langid": ("py3langid", "personas"), "pyarrow": ("pyarrow", "personas")}
    needed["sklearn"] = ("scikit-learn", "personas")
    if config.projection == "umap":
        needed["umap"] = ("umap-learn", "umap")
    if config.index == "approximate":
        needed["usearch"] = ("usearch", "ann")
    for module, (package, extra) in needed.items():
        if find_spec(module) is None:
            raise MissingExtra(package, extra)


def _tell_of_files(work: Work, starts: Sequence[Start]) -> None:
    # Both kinds may come from one file, whose faults are told once.
    problems = list(dict.fromkeys(problem for start in starts for problem in start.problems))
    notes = list(dict.fromkeys(note for start in starts for note in start.notes))
    path = work.run.pool / "import_problems.jsonl"
    if problems:
        write_jsonl(path, problems)
    else:
        _remove(path)
    show_import(problems, notes, work.console, more_in=path)


def show_import(problems: Sequence[Problem], notes: Sequence[str], console: Console, *, more_in: Path) -> None:
    """Print what is to be said of files that were read: all notes, the first problems, and where the others are."""
    lines = [Text(_printable(note), "dim") for note in notes]
    for problem in problems[:_PROBLEMS_SHOWN]:
        what = Text("look at" if problem.kept else "left out", "yellow")
        lines.append(Text.assemble(what, f" {_printable(f'{problem.place}: {problem.what}')}"))
    more = len(problems) - _PROBLEMS_SHOWN
    if more > 0:
        lines.append(Text.assemble((f"and {more:,} more", "yellow"), f" in {_printable(str(more_in))}"))
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _printable(text: str) -> str:
    # A file's name may hold what a terminal would obey.
    return "".join(char for char in text if char.isprintable())


def _remove(path: Path) -> None:
    with storage_errors(path):
        path.unlink(missing_ok=True)


async def _grow_pool(
    work: Work,
    encoder: Encoder,
    starts: Mapping[Kind, Start],
    borders: Mapping[Kind, tuple[float, float]],
) -> list[Grown]:
    config = work.recipe.pool
    grown = []
    async with open_model(config.generator, {_GENERATOR: persona_writer()}, _GENERATOR) as model:
        for kind in KINDS:
            stop = config.profiles if kind == "profile" else config.personalities
            index = ApproximateIndex(encoder.dimension) if config.index == "approximate" else None
            pool = SemanticFilter(kind, encoder, borders[kind][0], index)
            with work.bar(f"growing {PLURALS[kind]}", stop.target) as bar:
                bar.at_size(len(starts[kind].members), 0)
                one = await grow_pool(
                    starts[kind].members,
                    journalled(model, work.journal),
                    pool,
                    config.grow,
                    stop,
                    seed=work.recipe.seed,
                    on_call=bar.at_size,
                )
                # Again, for where no call was made: seeds that repeat each other were dropped.
                bar.at_size(len(one.pool), len(one.calls))
                grown.append(one)
    return grown


def _write_pool(work: Work, grown: Sequence[Grown], encoder: Encoder) -> None:
    pool, config = work.run.pool, work.recipe.pool
    for one in grown:
        # Paid for and judged: on disk before anything that may still refuse, such as a split of too small a pool.
        write_jsonl(pool / f"{PLURALS[one.kind]}.jsonl", one.pool)
        write_descriptions_parquet(pool / f"{PLURALS[one.kind]}.parquet", one.pool)
    write_jsonl(pool / "candidates.jsonl", (row for one in grown for row in one.candidates))
    write_jsonl(pool / "calls.jsonl", (row for one in grown for row in one.calls))
    population = _populate(work, grown, encoder)
    maps = {
        one.kind: project(
            [member.id for member in one.pool],
            encoder.encode([member.text for member in one.pool]),
            config.projection,
            work.recipe.seed,
        )
        for one in grown
    }
    write_json(pool / "maps.json", PoolMaps(maps=maps, sides=sides(population)))
    write_jsonl(work.run.personas, population.train.personas)
    if population.heldout:
        write_jsonl(work.run.heldout, population.heldout.personas)
    else:
        _remove(work.run.heldout)
    summary = summarise_pool(grown, population, config, generator=_name_of(config.generator))
    write_dataset(pool / "dataset", population.personas, _pool_facts(work, summary), config.grow.form.language)
    write_json(pool / "summary.json", summary)


def _populate(work: Work, grown: Sequence[Grown], encoder: Encoder) -> Population:
    try:
        return populate(grown[0].pool, grown[1].pool, encoder, work.recipe.pool, work.recipe.seed)
    except InputError as error:
        files = " ".join(shlex.quote(str(work.run.pool / f"{PLURALS[one.kind]}.jsonl")) for one in grown)
        raise InputError(
            f"{error.what} The pool is written all the same, in {work.run.pool}.",
            mend=f"{error.mend} As it is, the pool can be paired in another folder: interalign personas pair {files} "
            "--heldout-profiles N --heldout-personalities M --out OTHER",
        ) from error


def _name_of(config: ScriptedConfig | LocalConfig | EndpointConfig) -> str:
    if isinstance(config, ScriptedConfig):
        return "a script that composes from vocabularies"
    return config.checkpoint if isinstance(config, LocalConfig) else config.model


def _pool_facts(work: Work, summary: PoolSummary) -> dict[str, str]:
    return {
        "Recipe": work.recipe.name,
        "Seed": str(work.recipe.seed),
        "Written by": summary.generator,
        "Sentence encoder": summary.encoder,
        **{f"Threshold for {PLURALS[one.kind]}": f"{one.threshold:g}" for one in summary.kinds},
        **{f"Gate for {PLURALS[one.kind]}": f"{one.gate:g}" for one in summary.kinds},
        "interalign": installed_versions()["interalign"],
    }


def make_pool_report(work: Work) -> Path:
    """Write `pool.html` from what `grow_personas` wrote; returns its path."""
    pool = work.run.pool
    maps = read_json(pool / "maps.json", PoolMaps)
    summary = read_json(pool / "summary.json", PoolSummary)
    write_pool_report(
        work.run.pool_report,
        summary,
        [one for kind in KINDS for one in read_jsonl(pool / f"{PLURALS[kind]}.jsonl", Description)],
        read_jsonl(pool / "candidates.jsonl", CandidateRow),
        maps.maps,
        maps.sides,
        title=work.recipe.name,
        facts=_pool_facts(work, summary),
    )
    return work.run.pool_report


def simulate(work: Work) -> None:
    """Stage 2: write `trees.jsonl` and the preference tables.

    Raises:
        ModelError: every conversation failed. Nothing is written, so the same command tries again.
    """
    personas = _people(work.run.personas)
    if work.run.trees.exists():
        trees = read_jsonl(work.run.trees, Tree)
        work.done("conversation trees")
    else:
        trees = asyncio.run(_grow(work, personas))
        _refuse_all_failed("conversation", [tree.failure for tree in trees])
        write_jsonl(work.run.trees, trees)
    if not (work.run.preferences / "sft.parquet").exists():
        write_preference_tables(work.run.preferences, trees, work.recipe.preferences, policy_prompt())
    failed = sum(tree.failure is not None for tree in trees)
    pairs = len(preferences(trees, work.recipe.preferences))
    work.console.print(f"{'':<34} {len(trees)} trees, {failed} ended early, {pairs} preference pairs")


def _people(path: Path) -> list[Persona]:
    personas = read_jsonl(path, Persona)
    for persona in personas:
        refuse_unplayable(persona)
    return personas


async def _grow(work: Work, personas: Sequence[Persona]) -> list[Tree]:
    config = work.recipe.simulate
    cast = Cast(policy=_policy(work, work.recipe.train.base) if config.policy_samples else None)
    trees = []
    with work.bar("conversation trees", len(personas)) as bar:
        async for tree in grow_trees(personas, config, work.recipe.seed, cast):
            trees.append(tree)
            bar.advance()
    return trees


def train_model(work: Work, method: Method) -> None:
    """Stage 3: write the checkpoint `models/<method>`; DPO starts from SFT."""
    out = work.run.models / method
    if out.exists():
        # Left there when the process was killed between the last two steps of a training.
        shutil.rmtree(work.run.models / f"{method}.unfinished", ignore_errors=True)
        return work.done(f"training {method}")
    trees = read_jsonl(work.run.trees, Tree)
    personas = [*read_jsonl(work.run.personas, Persona), *read_jsonl(work.run.heldout, Persona)]
    start = work.run.models / "sft"
    if method == "dpo" and not start.exists():
        raise InputError(f"DPO starts from {start}, which does not exist.", mend="train sft first.")
    # Before a bar is drawn: a base that is no model is refused, the offline one unpacked where it is new.
    resolve_model(work.recipe.train.base)
    with work.bar(f"training {method}") as bar:
        train(
            method,
            trees,
            personas,
            work.recipe.train,
            out,
            start=str(start) if method == "dpo" else None,
            seed=work.recipe.seed,
            preference=work.recipe.preferences,
            progress=bar.at_step,
        )
    return None


def evaluate(work: Work, models: Sequence[str], extra: Mapping[str, str] | None = None) -> Summary:
    """Stage 4: write `eval/<model>/verdicts.jsonl` for each model and control, and `eval/summary.json`.

    Args:
        work: the run.
        models: `base` and names of checkpoints in `models/`.
        extra: more models by name: checkpoint folders or hub names from anywhere. They are played anew each time, for
            the same name may be another model now; what it said before comes from the journal.

    Raises:
        InputError: the name of an extra model is taken or unfit for a folder, or its folder holds no weights.
        ModelError: a model cannot be loaded, or gave no reply at all.
    """
    _check_extra(extra or {})
    personas = _people(work.run.heldout)
    checkpoints = {name: work.recipe.train.base if name == BASE else str(work.run.models / name) for name in models}
    checkpoints |= extra or {}
    rows: dict[str, list[TurnRow]] = {}
    for name, checkpoint in checkpoints.items():
        rows[name] = _judged(work, name, personas, checkpoint, anew=name in (extra or {}))
    for name in CONTROLS:
        rows[name] = _judged(work, name, personas, None)
    summary = summarise(
        rows,
        baseline=BASE if BASE in rows else next(iter(rows)),
        world=WORLD,
        controls=tuple(CONTROLS),
        resamples=work.recipe.benchmark.resamples,
        seed=work.recipe.seed,
    )
    write_json(work.run.eval / "summary.json", summary)
    return summary


def _check_extra(extra: Mapping[str, str]) -> None:
    taken = {BASE, "sft", "dpo", *map(_folder, CONTROLS)}
    for name, checkpoint in extra.items():
        if name in taken or not _NAME.fullmatch(name):
            raise InputError(
                f"A model cannot be called {name!r}: it is taken, or no name for a folder.",
                mend="use letters, digits, '-', '_', '+' and '.', and none of the names in the table.",
            )
        resolve_model(checkpoint)


def _judged(
    work: Work, name: str, personas: Sequence[Persona], checkpoint: str | None, *, anew: bool = False
) -> list[TurnRow]:
    path = _verdicts(work, name)
    if path.exists() and not anew:
        work.done(f"benchmark of {name}")
        return read_jsonl(path, TurnRow)
    rows = asyncio.run(_play(work, name, personas, checkpoint))
    _refuse_all_failed(f"turn with {name}", [row.failure for row in rows])
    write_jsonl(path, rows)
    return rows


def _verdicts(work: Work, name: str) -> Path:
    return work.run.eval / _folder(name) / "verdicts.jsonl"


def _folder(name: str) -> str:
    return name.replace(" ", "-")


def _refuse_all_failed(what: str, failures: Sequence[str | None]) -> None:
    # Written down they would count as done, and a server that was only switched off would never be asked again.
    reasons = [failure for failure in failures if failure is not None]
    if reasons and len(reasons) == len(failures):
        raise ModelError(f"Every {what} failed; the first one said: {reasons[0]}")


async def _play(work: Work, name: str, personas: Sequence[Persona], checkpoint: str | None) -> list[TurnRow]:
    config = work.recipe.benchmark
    candidate: Candidate = (
        ControlCandidate(CONTROLS[name]) if checkpoint is None else ModelCandidate(_policy(work, checkpoint))
    )
    with work.bar(f"benchmark of {name}", len(personas) * config.turns) as bar:
        return await run_benchmark(candidate, personas, config, work.recipe.seed, on_turn=bar.advance)


def _policy(work: Work, checkpoint: str) -> Responder:
    from interalign.llm.local import LocalModel

    model: ChatModel = journalled(LocalModel(checkpoint), work.journal)
    return ModelResponder(model, work.recipe.benchmark.sampling)


def make_report(work: Work, facts: Mapping[str, str] | None = None) -> Path:
    """Stage 5: write `report.html` from what the other stages wrote; returns its path."""
    summary = read_json(work.run.eval / "summary.json", Summary)
    rows = {model.name: read_jsonl(_verdicts(work, model.name), TurnRow) for model in summary.models}
    personas = [*read_jsonl(work.run.personas, Persona), *read_jsonl(work.run.heldout, Persona)]
    write_report(
        work.run.report,
        summary,
        rows,
        read_jsonl(work.run.trees, Tree) if work.run.trees.exists() else [],
        {persona.id: persona for persona in personas},
        title=work.recipe.name,
        facts={
            "Recipe": work.recipe.name,
            "Base model": work.recipe.train.base,
            "Seed": str(work.recipe.seed),
            **{package: number for package, number in installed_versions().items()},
            **(facts or {}),
        },
    )
    return work.run.report
