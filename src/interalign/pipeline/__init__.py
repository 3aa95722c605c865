"""The whole way, top to bottom: personas, trees, preferences, SFT, DPO, benchmark, report.

Each stage reads the file of the stage before and writes its own, whole or not at all. A stage whose file is there is
done, so the same command goes on from wherever it was stopped. `pool.py` is the first stage with a language model,
`simulate.py` the second with its cast and its rehearsal; `work.py` is what all stages share.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, cast, get_args

from rich.console import Console, RenderableType

from interalign.conversations.tree import Tree
from interalign.errors import InputError, ModelError
from interalign.evaluation.benchmark import (
    CONTROLS,
    Candidate,
    ControlCandidate,
    ModelCandidate,
    run_benchmark,
)
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.summary import Summary, summarise
from interalign.llm.journal import journalled
from interalign.llm.model import ChatModel
from interalign.llm.offline import resolve_model
from interalign.personas.compose import compose_personas
from interalign.personas.persona import Persona
from interalign.pipeline.online import train_iterated, train_online
from interalign.pipeline.simulate import simulate
from interalign.pipeline.work import Work
from interalign.recipe import Recipe
from interalign.report.page import write as write_report
from interalign.roles.responder import ModelResponder, Responder
from interalign.roles.user import refuse_unplayable
from interalign.run import read_json, read_jsonl, write_json, write_jsonl
from interalign.training import processes
from interalign.training.checkpoint import installed_versions
from interalign.training.iterated import IteratedMethod
from interalign.training.job import Method
from interalign.training.train import train

__all__ = [
    "BASE",
    "TRAINED",
    "WORLD",
    "evaluate",
    "make_model",
    "make_personas",
    "make_report",
    "run_recipe",
    "show_batch",
    "simulate",
    "train_model",
]

BASE = "base"
"""The name of the untrained model in results; the baseline of every difference."""

WORLD = "Rule-based users and a rule-based judge, not human beings"
"""What every result of this pipeline says of its users."""

TRAINED = ("sft", "sft-rejected", "dpo", "iterated-dpo", "inpo", "comal", "grpo")
"""The models that stages of a run make, in the order in which they are shown."""

_NAME = re.compile(r"\w[\w.+-]*")


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
    work.run.begin("world")
    personas = compose_personas(work.recipe.world, work.recipe.seed)
    for path, split in missing:
        write_jsonl(path, [persona for persona in personas if persona.split == split])
    work.console.print(f"{'personas':<34} {work.recipe.world.train} to train on, {work.recipe.world.heldout} held out")
    return None


def make_model(work: Work, method: Method | IteratedMethod | Literal["grpo"]) -> None:
    """Stage 3: write the checkpoint `models/<method>`, by whatever method."""
    if method == "grpo":
        train_online(work)
    elif method in get_args(IteratedMethod):
        train_iterated(work, cast(IteratedMethod, method))
    else:
        train_model(work, cast(Method, method))


def train_model(work: Work, method: Method) -> None:
    """Stage 3: write the checkpoint `models/<method>`. Where several processes train together, each calls this.

    Raises:
        InputError: DPO is to start from SFT, which is not there.
        LostProcess: another process of the training has ended.
    """
    out = work.run.models / method
    options = (*work.recipe.train.sft.trl.items(), *work.recipe.train.dpo.trl.items())
    processes.connect(max([value for name, value in options if name == "ddp_timeout"], default=1800))
    if processes.first_decides(out.exists):
        if processes.is_first():
            # Left there when the process was killed between the last two steps of a training.
            shutil.rmtree(work.run.models / f"{method}.unfinished", ignore_errors=True)
        return work.done(f"training {method}")
    trees = read_jsonl(work.run.trees, Tree)
    personas = [*read_jsonl(work.run.personas, Persona), *read_jsonl(work.run.heldout, Persona)]
    start = work.run.models / "sft" if method == "dpo" and work.recipe.train.dpo.start == "sft" else None
    if start is not None and not start.exists():
        raise InputError(
            f"DPO starts from {start}, which does not exist.",
            mend='train sft first, or set train.dpo.start = "base".',
        )
    # Before a bar is drawn: a base that is no model is refused, the offline one unpacked where it is new.
    processes.first_decides(lambda: resolve_model(work.recipe.train.base))
    with work.bar(f"training {method}", shown=processes.is_first()) as bar:
        train(
            method,
            trees,
            personas,
            work.recipe.train,
            out,
            start=None if start is None else str(start),
            seed=work.recipe.seed,
            preference=work.recipe.preferences,
            progress=bar.at_step,
            notice=work.say,
        )
    return None


def show_batch(work: Work, method: Method) -> RenderableType:
    """The first conversation that a method would train on, with what is trained on marked."""
    from interalign.training.show import first_batch

    trees = read_jsonl(work.run.trees, Tree)
    return first_batch(method, trees, work.recipe.train, preference=work.recipe.preferences)


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
    personas = read_jsonl(work.run.heldout, Persona)
    for persona in personas:
        refuse_unplayable(persona)
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
    taken = {BASE, *TRAINED, *map(_folder, CONTROLS)}
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
