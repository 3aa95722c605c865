"""Stage 3, on-policy: rounds of simulation and training, and reinforcement learning against simulated users."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from interalign.conversations.simulate import grow_trees
from interalign.conversations.tree import Tree
from interalign.conversations.turn import Cast
from interalign.errors import InputError
from interalign.llm.journal import journalled
from interalign.llm.offline import resolve_model
from interalign.personas.persona import Persona
from interalign.pipeline.simulate import training_personas
from interalign.pipeline.work import Work
from interalign.roles.responder import ModelResponder, policy_prompt
from interalign.run import derive_seed, read_jsonl, write_jsonl
from interalign.training.checkpoint import Manifest, installed_versions, save_checkpoint
from interalign.training.iterated import IteratedMethod, anchor_round, met_in_round, simulation_of
from interalign.training.job import Nash
from interalign.training.online.grpo import train_grpo
from interalign.training.train import train
from interalign.training.weights import load_trainable

__all__ = ["train_iterated", "train_online"]


def train_iterated(work: Work, method: IteratedMethod) -> None:
    """Write the checkpoint `models/<method>`, round by round; what rounds leave lies in `rounds/<method>/`.

    Raises:
        InputError: the checkpoint to start from is not there, or language models play the roles.
    """
    out = work.run.models / method
    if out.exists():
        return work.done(f"training {method}")
    if work.recipe.simulate.roles is not None:
        raise InputError(
            f"{method} meets rule-based users; this recipe names language models for the roles.",
            mend="leave out [simulate.roles], or train dpo on trees that `simulate` has grown with them.",
        )
    people, start = training_personas(work), _start(work)
    config, rounds = work.recipe.train.iterated, work.run.root / "rounds" / method
    checkpoints = [start, *(str(rounds / f"{number}") for number in range(1, config.rounds)), str(out)]
    for number in range(1, config.rounds + 1):
        if Path(checkpoints[number]).exists():
            work.done(f"{method}, round {number}")
            continue
        trees = _grown(work, method, number, checkpoints[number - 1], people)
        nash = None
        if method != "iterated-dpo":
            anchor = checkpoints[anchor_round(method, config, number)]
            nash = Nash(anchor=anchor, eta=config.eta, tau=config.tau)
        with work.bar(f"{method}, round {number}: training") as bar:
            train(
                "dpo",
                trees,
                people,
                work.recipe.train,
                Path(checkpoints[number]),
                start=checkpoints[number - 1],
                seed=derive_seed(work.recipe.seed, method, number),
                preference=work.recipe.preferences,
                progress=bar.at_step,
                notice=work.say,
                nash=nash,
            )
    return None


def _grown(work: Work, method: IteratedMethod, number: int, checkpoint: str, people: Sequence[Persona]) -> list[Tree]:
    """The trees of a round, grown with the policy as it is before it."""
    from interalign.llm.local import LocalModel

    path = work.run.root / "rounds" / method / f"{number}.trees.jsonl"
    if path.exists():
        return read_jsonl(path, Tree)
    config = work.recipe.train.iterated
    met = met_in_round(people, config, number, work.recipe.seed)
    model = journalled(LocalModel(checkpoint), work.journal)
    cast = Cast(writers={"policy": ModelResponder(model, config.sampling)})

    async def grow() -> list[Tree]:
        grown = []
        seed = derive_seed(work.recipe.seed, "iterated", number)
        with work.bar(f"{method}, round {number}: conversations", len(met)) as bar:
            async for tree in grow_trees(met, simulation_of(config, work.recipe.simulate), seed, cast):
                grown.append(tree)
                bar.advance()
        return grown

    trees = asyncio.run(grow())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, trees)
    return trees


def _start(work: Work) -> str:
    """The checkpoint that on-policy training starts from: the same as DPO's."""
    if work.recipe.train.dpo.start == "base":
        return resolve_model(work.recipe.train.base)
    start = work.run.models / "sft"
    if not start.exists():
        raise InputError(
            f"The training starts from {start}, which does not exist.",
            mend='train sft first, or set train.dpo.start = "base".',
        )
    return str(start)


def train_online(work: Work) -> None:
    """Write the checkpoint `models/grpo`, with all conversations beside it in `rollouts.jsonl`.

    Raises:
        InputError: the checkpoint to start from is not there, or a setting does not fit.
        ModelError, TrainingError: the training cannot go on.
    """
    import transformers

    out = work.run.models / "grpo"
    if out.exists():
        return work.done("training grpo")
    people, start = training_personas(work), _start(work)
    unfinished = out.with_name(f"{out.name}.unfinished")
    seed = work.recipe.seed
    transformers.set_seed(seed % 2**32)
    model, tokenizer = load_trainable(start, work.recipe.train)
    with work.bar("training grpo") as bar:
        trained = train_grpo(
            model,
            tokenizer,
            people,
            work.recipe.train.grpo,
            system=policy_prompt(),
            work_folder=unfinished,
            seed=seed,
            progress=bar.at_step,
        )
    if trained.warning:
        work.say(trained.warning)
    manifest = Manifest(
        name="grpo",
        method="grpo",
        base=work.recipe.train.base,
        parent=Path(start).name,
        data=_digest(unfinished / "rollouts.jsonl"),
        seed=seed,
        steps=trained.steps,
        settings=work.recipe.train.grpo.model_dump(mode="json"),
        versions=installed_versions(),
        metrics=trained.metrics,
    )
    save_checkpoint(out, model, tokenizer, manifest)
    os.replace(unfinished / "rollouts.jsonl", out / "rollouts.jsonl")
    shutil.rmtree(unfinished, ignore_errors=True)
    return None


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
