"""Stage 3, on-policy: rounds of simulation and training, and reinforcement learning against simulated users."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from interalign.conversations.cast import open_cast
from interalign.conversations.environment import Environment, open_environment
from interalign.conversations.simulate import SimulateConfig, grow_trees
from interalign.conversations.tree import Tree
from interalign.conversations.turn import Cast
from interalign.errors import ModelError
from interalign.llm.account import Account
from interalign.llm.journal import journalled
from interalign.llm.local import fingerprint
from interalign.llm.offline import resolve_model
from interalign.personas.persona import Persona
from interalign.pipeline.simulate import training_personas
from interalign.pipeline.stopping import Gate, stopping, wrapping
from interalign.pipeline.work import Work
from interalign.roles.responder import ModelResponder, policy_prompt
from interalign.run import derive_seed, read_jsonl, storage_errors, write_jsonl
from interalign.training.checkpoint import Manifest, installed_versions, save_checkpoint
from interalign.training.iterated import IteratedMethod, anchor_round, met_in_round, simulation_of
from interalign.training.job import Nash
from interalign.training.online.grpo import Trained, train_grpo
from interalign.training.train import TrainConfig, settle_unfinished, train
from interalign.training.weights import load_trainable

__all__ = ["train_iterated", "train_online"]


def train_iterated(work: Work, method: IteratedMethod, account: Account) -> None:
    """Write the checkpoint `models/<method>`, round by round; what rounds leave lies in `rounds/`.

    Raises:
        InputError: the checkpoint to start from is not there.
        ModelError: every conversation of a round failed.
        StopWork: the budget is spent, a server will answer nothing, or the user stopped it. The same command goes on;
            what was paid for lies in the journal.
    """
    out = work.run.models / method
    if out.exists():
        shutil.rmtree(out.with_name(f"{method}.unfinished"), ignore_errors=True)
        return work.done(f"training {method}")
    people, start = training_personas(work, by_rules=work.recipe.simulate.roles is None), _start(work)
    config, rounds = work.recipe.train.iterated, work.run.root / "rounds"
    checkpoints = [start, *(str(rounds / f"{method}-{number}") for number in range(1, config.rounds)), str(out)]
    with _begun(work, "train", "train.dpo", "train.iterated", "simulate", "preferences", made=rounds):
        for number in range(1, config.rounds + 1):
            if Path(checkpoints[number]).exists():
                shutil.rmtree(f"{checkpoints[number]}.unfinished", ignore_errors=True)
                work.done(f"{method}, round {number}")
                continue
            trees = _grown(work, method, number, checkpoints[number - 1], people, account)
            nash = None
            if method != "iterated-dpo":
                anchor = checkpoints[anchor_round(method, config, number)]
                nash = Nash(method=method, anchor=anchor, eta=config.eta, tau=config.tau)
            with work.bar(f"{method}, round {number}: training") as bar:
                train(
                    "dpo",
                    trees,
                    people,
                    _settings_of_round(work),
                    Path(checkpoints[number]),
                    start=checkpoints[number - 1],
                    seed=derive_seed(work.recipe.seed, method, number),
                    preference=work.recipe.preferences,
                    progress=bar.at_step,
                    notice=work.say,
                    nash=nash,
                )
    return None


def _settings_of_round(work: Work) -> TrainConfig:
    # The number of trees that DPO trains on is of those that lie there, not of a round's.
    config = work.recipe.train
    return config.model_copy(update={"dpo": config.dpo.model_copy(update={"trees": None})})


@contextmanager
def _begun(work: Work, *tables: str, made: Path) -> Iterator[None]:
    """Within this block these tables of the recipe must not change; after it, if it made nothing, they may again."""
    first = work.run.begin(*tables)
    try:
        yield
    except BaseException:
        if first and not made.exists():
            work.run.withdraw(*tables)
        raise


def _grown(
    work: Work, method: IteratedMethod, number: int, checkpoint: str, people: Sequence[Persona], account: Account
) -> list[Tree]:
    """The trees of a round, grown with the policy as it is before it."""
    from interalign.llm.local import LocalModel

    path = work.run.root / "rounds" / f"{method}-{number}.trees.jsonl"
    if path.exists():
        return read_jsonl(path, Tree)
    config, train_config = work.recipe.train.iterated, work.recipe.train
    if train_config.quantization != "none":
        work.say("The policy talks with the weights as they are, and is trained with quantised ones.")
    met = met_in_round(people, config, number, work.recipe.seed)
    model = journalled(LocalModel(checkpoint, dtype=train_config.dtype), work.journal)
    simulation = simulation_of(config, work.recipe.simulate)
    seed = derive_seed(work.recipe.seed, "iterated", number)

    async def grow() -> list[Tree]:
        grown = []
        async with _cast(work, simulation, account) as others:
            cast = replace(others, writers={**others.writers, "policy": ModelResponder(model, config.sampling)})
            with work.bar(f"{method}, round {number}: conversations", len(met)) as bar:
                async for tree in grow_trees(met, simulation, seed, cast):
                    grown.append(tree)
                    bar.advance()
        return grown

    trees = asyncio.run(grow())
    failures = [tree.failure for tree in trees if tree.failure is not None]
    if len(failures) == len(trees):
        # Written down they would count as done, and a model that ran out of memory would never be asked again.
        raise ModelError(f"Every conversation of round {number} failed; the first one said: {failures[0]}")
    if failures:
        work.say(f"{len(failures)} of {len(trees)} conversations ended early; the first one said: {failures[0]}")
    write_jsonl(path, trees)
    return trees


@asynccontextmanager
async def _cast(work: Work, config: SimulateConfig, account: Account) -> AsyncIterator[Cast]:
    """Whom the policy meets in a round."""
    if config.roles is None:
        yield Cast()
        return
    async with (
        stopping(work.console) as gate,
        open_cast(config, wrapping(work.journal, account, gate)) as cast,
    ):
        yield cast


def _start(work: Work) -> str:
    """The checkpoint that on-policy training starts from: the same as DPO's."""
    start = work.start_of("dpo")
    return resolve_model(work.recipe.train.base) if start is None else str(start)


def train_online(work: Work, account: Account) -> None:
    """Write the checkpoint `models/grpo`, with all conversations beside it in `rollouts.jsonl`.

    Raises:
        InputError: the checkpoint to start from is not there, or a setting does not fit.
        ModelError, TrainingError: the training cannot go on.
        StopWork: the budget is spent, or a server will answer nothing; the same command goes on.
    """
    import transformers

    from interalign.training.options import check_report_to

    out = work.run.models / "grpo"
    unfinished = out.with_name(f"{out.name}.unfinished")
    if out.exists():
        _tidy(unfinished, out)
        return work.done("training grpo")
    train_config, seed = work.recipe.train, work.recipe.seed
    config, roles = train_config.grpo, train_config.grpo.roles
    people, start = training_personas(work, by_rules=roles is None or roles.user is None), _start(work)

    def environment() -> AbstractAsyncContextManager[Environment]:
        return open_environment(roles, work.recipe.simulate.checks, wrapping(work.journal, account, Gate()))

    check_report_to(train_config.report_to)
    if train_config.report_to:
        config = config.model_copy(update={"trl": {**config.trl, "report_to": list(train_config.report_to)}})
    settings = config.model_dump(mode="json")
    with _begun(work, "train", "train.grpo", made=unfinished):
        transformers.set_seed(seed % 2**32)
        model, tokenizer = load_trainable(start, train_config, packed=False)
        settle_unfinished(unfinished, {"start": fingerprint(start), "seed": seed, **settings})
        with work.bar("training grpo") as bar:
            trained = train_grpo(
                model,
                tokenizer,
                people,
                config,
                system=policy_prompt(),
                work_folder=unfinished,
                seed=seed,
                progress=bar.at_step,
                environment=environment,
            )
        if trained.warning:
            work.say(trained.warning)
        manifest = _manifest(work, trained, Path(start).name, settings, unfinished / "rollouts.jsonl")
        save_checkpoint(out, model, tokenizer, manifest)
    _tidy(unfinished, out)
    return None


def _manifest(work: Work, trained: Trained, parent: str, settings: dict[str, Any], rollouts: Path) -> Manifest:
    return Manifest(
        name="grpo",
        method="grpo",
        base=work.recipe.train.base,
        parent=parent,
        data=_digest(rollouts),
        seed=work.recipe.seed,
        steps=trained.steps,
        settings={**settings, "notes": work.recipe.train.notes},
        versions=installed_versions(),
        metrics=trained.metrics,
    )


def _tidy(unfinished: Path, out: Path) -> None:
    """Put the conversations of a finished training beside its checkpoint, and remove its states."""
    rollouts = unfinished / "rollouts.jsonl"
    with storage_errors(out):
        if rollouts.exists():
            os.replace(rollouts, out / "rollouts.jsonl")
    shutil.rmtree(unfinished, ignore_errors=True)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
