"""Stage 1 with a language model: a pool grown, split and paired, with every file that it leaves."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.text import Text

from interalign.errors import InputError, MissingExtra
from interalign.llm.backends import LocalConfig, ScriptedConfig, open_model
from interalign.llm.encoder import Encoder, kept_encoder
from interalign.llm.endpoint import EndpointConfig
from interalign.llm.journal import journalled
from interalign.personas.description import KINDS, PLURALS, Description, Kind
from interalign.personas.exchange import Problem, write_dataset, write_descriptions_parquet
from interalign.personas.filter import SemanticFilter
from interalign.personas.grow import CandidateRow, Grown, grow_pool
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
    sides,
    summarise_pool,
    threshold,
)
from interalign.personas.projection import project
from interalign.personas.writer import persona_writer
from interalign.pipeline.work import Work
from interalign.report.pool import write as write_pool_report
from interalign.run import read_json, read_jsonl, storage_errors, write_json, write_jsonl
from interalign.training.checkpoint import installed_versions

__all__ = ["grow_personas", "make_pool_report", "show_import"]

_GENERATOR = "persona generator"
_PROBLEMS_SHOWN = 5


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
        return "the scripted persona writer"
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
