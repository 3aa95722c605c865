"""The whole way, top to bottom: personas, trees, preferences, training, benchmark, report.

Each stage reads the file of the stage before and writes its own, whole or not at all. A stage whose file is there is
done, so the same command goes on from wherever it was stopped. `pool.py` is the first stage with a language model,
`simulate.py` the second with its cast and its rehearsal, `evaluate.py` the last; `work.py` is what all stages share.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast, get_args

from rich.console import Console, RenderableType

from interalign.conversations.environment import roles_of
from interalign.conversations.tree import Tree
from interalign.errors import InputError
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.summary import Summary
from interalign.llm.account import Account, Budget
from interalign.llm.backends import ScriptedConfig
from interalign.llm.offline import resolve_model
from interalign.llm.prices import load_prices
from interalign.personas.compose import compose_personas
from interalign.personas.persona import Persona
from interalign.pipeline.evaluate import evaluate, people_of, verdicts_at
from interalign.pipeline.online import train_iterated, train_online
from interalign.pipeline.record import WORLD, Evaluation
from interalign.pipeline.results import judge_in_words
from interalign.pipeline.simulate import is_unfinished, simulate
from interalign.pipeline.tested import BASE, TRAINED
from interalign.pipeline.work import Work
from interalign.recipe import Recipe
from interalign.report.judging import Players
from interalign.report.page import write as write_report
from interalign.run import read_json, read_jsonl, write_jsonl
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


def run_recipe(recipe: Recipe, out: Path, console: Console | None = None) -> Summary:
    """Go the whole way and return what the benchmark found. The report lies in `out`/report.html."""
    started = time.monotonic()
    with Work.open(recipe, out, console) as work:
        make_personas(work)
        simulate(work)
        for method in recipe.train.both:
            train_model(work, method)
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


def make_model(
    work: Work,
    method: Method | IteratedMethod | Literal["grpo"],
    *,
    budget: Budget | None = None,
    prices: Path | None = None,
) -> None:
    """Stage 3: write the checkpoint `models/<method>`, by whatever method.

    `budget` caps what language models in the roles of rounds and GRPO may cost, over everything in the folder;
    `prices` is a table of prices in place of the package's.
    """
    if method == "grpo":
        train_online(work, Account(budget, load_prices(prices), journal=work.run.journal))
    elif method in get_args(IteratedMethod):
        account = Account(budget, load_prices(prices), journal=work.run.journal)
        train_iterated(work, cast(IteratedMethod, method), account)
    else:
        train_model(work, cast(Method, method))


def train_model(work: Work, method: Method) -> None:
    """Stage 3: write the checkpoint `models/<method>`. Where several processes train together, each calls this.

    Raises:
        InputError: the checkpoint that the training is to start from is not there.
        LostProcess: another process of the training has ended.
    """
    out = work.run.models / method
    config = work.recipe.train
    options = [option for one in (config.induction, config.sft, config.dpo) for option in one.trl.items()]
    processes.connect(max([value for name, value in options if name == "ddp_timeout"], default=1800))
    if processes.first_decides(out.exists):
        if processes.is_first():
            # Left there when the process was killed between the last two steps of a training.
            shutil.rmtree(work.run.models / f"{method}.unfinished", ignore_errors=True)
        return work.done(f"training {method}")
    if is_unfinished(work) and processes.is_first():
        work.say("The simulation was stopped before its end: only the trees that are there are trained on.")
    trees = read_jsonl(work.run.trees, Tree)
    personas = [*read_jsonl(work.run.personas, Persona), *read_jsonl(work.run.heldout, Persona)]
    start = work.start_of(method)
    # Before a bar is drawn: a base that is no model is refused, the offline one unpacked where it is new.
    processes.first_decides(lambda: resolve_model(config.base))
    with work.bar(f"training {method}", shown=processes.is_first()) as bar:
        train(
            method,
            trees,
            personas,
            config,
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


def make_report(work: Work, facts: Mapping[str, str] | None = None) -> Path:
    """Stage 5: write `report.html` from what the other stages wrote; returns its path."""
    summary = read_json(work.run.eval / "summary.json", Summary)
    rows = {model.name: read_jsonl(verdicts_at(work.run, model.name), TurnRow) for model in summary.models}
    personas = people_of(work.run)
    personas += [
        one for path in (work.run.personas, work.run.heldout) if path.exists() for one in read_jsonl(path, Persona)
    ]
    write_report(
        work.run.report,
        summary,
        rows,
        read_jsonl(work.run.trees, Tree) if work.run.trees.exists() else [],
        {persona.id: persona for persona in personas},
        players=_players(work),
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


def _players(work: Work) -> Players:
    """Who sat beside the tested models in the evaluation of this run."""
    benchmark, told = work.recipe.benchmark, work.run.eval / "evaluation.json"
    prompts = read_json(told, Evaluation).prompts if told.exists() else {}
    played = roles_of(benchmark.roles, helpfulness=benchmark.helpfulness)
    said = {role: judge_in_words(one, prompts.get(role)) for role, one in played.items()}
    others = {role: who for role, who in said.items() if role not in ("user", "judge")}
    scripted = "judge" in played and all(isinstance(one.model, ScriptedConfig) for one in played["judge"].models)
    return Players(user=said.get("user"), judge=said.get("judge"), others=others, scripted=scripted)
