"""Stage 1 with a language model: a pool grown, split and paired, with every file that it leaves."""

from __future__ import annotations

import asyncio
import shlex
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.text import Text

from interalign.errors import InputError, MissingExtra, ModelError
from interalign.llm.account import Account, Budget
from interalign.llm.backends import ModelConfig, ScriptedConfig, costs_nothing, label, open_model
from interalign.llm.encoder import Encoder, kept_encoder
from interalign.llm.journal import journalled
from interalign.llm.model import ChatModel
from interalign.llm.prices import load_prices
from interalign.messages import Value
from interalign.personas.description import KINDS, PLURALS, Description, Kind
from interalign.personas.exchange import Problem, write_dataset, write_descriptions_parquet
from interalign.personas.filter import SemanticFilter, distinct
from interalign.personas.grow import CandidateRow, Grown, barren_from, grow_pool
from interalign.personas.masking import MaskedEncoder
from interalign.personas.neighbours import ApproximateIndex
from interalign.personas.pool import (
    PoolConfig,
    PoolMaps,
    PoolSummary,
    Population,
    Start,
    first_members,
    gate,
    populate,
    refuse_too_many,
    sides,
    summarise_pool,
    threshold,
)
from interalign.personas.projection import project
from interalign.personas.writer import persona_writer
from interalign.pipeline.work import Work
from interalign.recipe import Recipe
from interalign.report.pool import PoolPage
from interalign.report.pool import write as write_pool_report
from interalign.run import RunFolder, read_json, read_jsonl, storage_errors, write_json, write_jsonl
from interalign.training.checkpoint import installed_versions

__all__ = ["grow_personas", "make_pool_report", "show_import"]

_GENERATOR = "persona generator"
_GIVEN_UP = "given_up.json"
_PROBLEMS_SHOWN = 5


@dataclass(frozen=True)
class _Inputs:
    """What a pool is grown from, and the threshold and the gate of each kind."""

    starts: dict[Kind, Start]
    borders: dict[Kind, tuple[float, float]]


class _GivenUp(Value):
    """What `barren_from` said of growths that came to nothing, by kind: answers from there on are asked for anew."""

    calls: Mapping[Kind, tuple[int, ...]] = {}


def grow_personas(
    recipe: Recipe,
    out: Path,
    console: Console | None = None,
    *,
    budget: Budget | None = None,
    prices: Path | None = None,
) -> PoolSummary:
    """Stage 1, with a language model: grow a pool of profiles and one of personalities, split and pair them.

    Writes `pool/`, `personas.jsonl`, `heldout.jsonl` and `pool.html` in the run folder `out`; `pool/summary.json` comes
    last, so it says that the stage is done. Until then the recipe's table of the pool may change, and growing again
    goes on with what was answered.

    Args:
        recipe: How.
        out: The run folder.
        console: Where progress shows.
        budget: What the calls of this run may cost, earlier commands included.
        prices: A table of prices in place of the package's.

    Raises:
        InputError: the run folder has personas of another making, a pool is too small for what is held out, or the
            budget cannot be kept for want of a price.
        MissingExtra: a package is not installed that some later step needs.
        ModelError: the generator failed again and again, or its answers were of no use.
        RunBusy, RunMismatch, StorageError: as `RunFolder.open`.
        StopWork: the budget is spent. The same command goes on from there.
    """
    run = RunFolder(out)
    done = run.pool / "summary.json"
    # Before the folder is made, an encoder loaded or a call paid: what is missing or unfit shall cost nothing.
    inputs = None if done.exists() else _read_inputs(run, recipe.pool)
    table = load_prices(prices)
    # What is not done may be grown in another way.
    with Work.open(recipe, out, console, () if inputs is None else ("pool.",)) as work:
        if inputs is None:
            work.done("persona pool")
        else:
            _tell_of_files(work, list(inputs.starts.values()))
            with kept_encoder(recipe.pool.encoder) as encoder:
                account = Account(budget, table, journal=run.journal)
                grown = asyncio.run(_grow_pool(work, encoder, inputs, account))
                _write_pool(work, grown, encoder)
        make_pool_report(work)
        return read_json(done, PoolSummary)


def _read_inputs(run: RunFolder, config: PoolConfig) -> _Inputs:
    if run.personas.exists() and not run.pool.exists():
        raise InputError(f"{run.personas} was not made by growing a pool.", mend="choose another folder with --out.")
    _refuse_missing_packages(config)
    starts = {kind: first_members(config, kind) for kind in KINDS}
    refuse_too_many(config, starts)
    return _Inputs(starts, {kind: (threshold(config, kind), gate(config, kind)) for kind in KINDS})


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


async def _grow_pool(work: Work, encoder: Encoder, inputs: _Inputs, account: Account) -> list[Grown]:
    config = work.recipe.pool
    grown: list[Grown] = []
    given_up = _given_up(work.run)
    async with _generator(config.generator) as opened:
        model = account.metered(journalled(opened, work.journal), _GENERATOR, free=costs_nothing(config.generator))
        for kind in KINDS:
            stop = config.profiles if kind == "profile" else config.personalities
            index = ApproximateIndex(encoder.dimension) if config.index == "approximate" else None
            pool = SemanticFilter(kind, encoder, inputs.borders[kind][0], index)
            members = inputs.starts[kind].members
            size = len(distinct(members))
            with work.bar(f"growing {PLURALS[kind]}", stop.target, shown=size < stop.target) as bar:
                bar.at_size(size, 0)
                one = await grow_pool(
                    members,
                    model,
                    pool,
                    config.grow,
                    stop,
                    seed=work.recipe.seed,
                    on_call=bar.at_size,
                    given_up=given_up.calls.get(kind, ()),
                )
            _give_up(work.run, one, stop.target, given_up)
            grown.append(one)
    return grown


def _given_up(run: RunFolder) -> _GivenUp:
    path = run.pool / _GIVEN_UP
    return read_json(path, _GivenUp) if path.exists() else _GivenUp()


def _give_up(run: RunFolder, grown: Grown, target: int, before: _GivenUp) -> None:
    """Raise ModelError where a growth came to nothing. What it was told is not asked for again, but the question is."""
    first = barren_from(grown)
    if first is None:
        return
    earlier = before.calls.get(grown.kind, ())
    write_json(run.pool / _GIVEN_UP, _GivenUp(calls={**before.calls, grown.kind: (*earlier, first)}))
    raise ModelError(
        f"{_why_barren(grown)}. The pool of {PLURALS[grown.kind]} has {len(grown.pool):,} of {target:,}.",
        mend="check the model and its sampling (--show-prompts shows what it is asked), and run the same command "
        "again: what was of use is kept, and the rest is asked for anew.",
    )


def _why_barren(grown: Grown) -> str:
    unread = [row for row in grown.calls if not row.items]
    calls = len(grown.calls)
    if len(unread) == calls or grown.stop == "unreadable":
        what = f"{len(unread):,} of {calls:,} calls for {PLURALS[grown.kind]} brought no answer that can be read"
        return f"{what}. The last one: {str(unread[-1].problem).rstrip('.')}"
    refused = [row for row in grown.candidates if row.call is not None and row.verdict == "rejected"]
    (reason, count), *_ = Counter(row.reason for row in refused).most_common(1)
    return (
        f"None of the {len(refused):,} {PLURALS[grown.kind]} that {calls:,} calls brought was taken in; "
        f"{count:,} of them: {reason}"
    )


@asynccontextmanager
async def _generator(config: ModelConfig) -> AsyncIterator[ChatModel]:
    async with AsyncExitStack() as stack:
        try:
            model = await stack.enter_async_context(open_model(config, {_GENERATOR: persona_writer()}, _GENERATOR))
        except ModelError as error:
            # The name of a model on a server looks like one of the hub.
            raise ModelError(error.what, mend=f"{error.mend} A model on a server needs --base-url.") from error
        yield model


def _write_pool(work: Work, grown: Sequence[Grown], encoder: Encoder) -> None:
    pool, config = work.run.pool, work.recipe.pool
    population = _populate(work, grown, encoder)
    _write_grown(pool, grown)
    maps = {
        one.kind: project(
            [member.id for member in one.pool],
            MaskedEncoder(encoder).encode([member.text for member in one.pool]),
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


def _write_grown(pool: Path, grown: Sequence[Grown]) -> None:
    for one in grown:
        write_jsonl(pool / f"{PLURALS[one.kind]}.jsonl", one.pool)
        write_descriptions_parquet(pool / f"{PLURALS[one.kind]}.parquet", one.pool)
    write_jsonl(pool / "candidates.jsonl", (row for one in grown for row in one.candidates))
    write_jsonl(pool / "calls.jsonl", (row for one in grown for row in one.calls))


def _populate(work: Work, grown: Sequence[Grown], encoder: Encoder) -> Population:
    try:
        return populate(grown[0].pool, grown[1].pool, encoder, work.recipe.pool, work.recipe.seed)
    except InputError as error:
        if not any(one.calls for one in grown):
            # All of it came from files, so nothing is lost, and the folder may be begun anew.
            raise
        # Paid for and judged.
        _write_grown(work.run.pool, grown)
        files = " ".join(shlex.quote(str(work.run.pool / f"{PLURALS[one.kind]}.jsonl")) for one in grown)
        raise InputError(
            f"{error.what} The pool is written all the same, in {work.run.pool}.",
            mend=f"{error.mend} The same folder takes other sizes, and pays for no answer twice. As it is, the pool "
            f"can be paired in another folder: interalign personas pair {files} --heldout-profiles N "
            "--heldout-personalities M --out OTHER",
        ) from error


def _name_of(config: ModelConfig) -> str:
    return "the scripted persona writer" if isinstance(config, ScriptedConfig) else label(config)


def _pool_facts(work: Work, summary: PoolSummary) -> dict[str, str]:
    return {
        "Recipe": work.recipe.name,
        "Seed": str(work.recipe.seed),
        "Written by": summary.generator,
        "Sentence encoder": f"{summary.encoder}, names and gender masked",
        **{f"Threshold for {PLURALS[one.kind]}": f"{one.threshold:g}" for one in summary.kinds},
        **{f"Gate for {PLURALS[one.kind]}": f"{one.gate:g}" for one in summary.kinds},
        "interalign": installed_versions()["interalign"],
    }


def make_pool_report(work: Work) -> Path:
    """Write `pool.html` from what `grow_personas` wrote; returns its path."""
    pool = work.run.pool
    summary = read_json(pool / "summary.json", PoolSummary)
    page = PoolPage(
        summary=summary,
        pools=[one for kind in KINDS for one in read_jsonl(pool / f"{PLURALS[kind]}.jsonl", Description)],
        candidates=read_jsonl(pool / "candidates.jsonl", CandidateRow),
        maps=read_json(pool / "maps.json", PoolMaps),
        title=work.recipe.name,
        facts=_pool_facts(work, summary),
    )
    write_pool_report(work.run.pool_report, page)
    return work.run.pool_report
