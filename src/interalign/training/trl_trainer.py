"""Training row by row with TRL's trainers: the reference that tree packing is measured against.

Every row is one reply after its own conversation, or one pair of replies. An optimizer step sees rows one at a time and
adds up their gradients: as many as `trees_per_step` trees hold on average, drawn from all trees instead of from whole
ones. That is the one difference to the `tree` backend, and with `sft_weight` a second: the likelihood of the chosen
replies is averaged per pair here, over all tokens of a step there.
"""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from interalign.conversations.tree import Tree
from interalign.llm.libraries import quiet
from interalign.messages import Chat, Message, as_dicts
from interalign.training.loop import WatchedTrainer, fit, shared_arguments
from interalign.training.train import Job, Progress

__all__ = ["make_trainer", "rows", "run"]

_METRICS = {"loss": "loss", "accuracy": "rewards/accuracies", "reward_margin": "rewards/margins"}
"""Our name of each metric, and TRL's."""


class _WatchedSft(WatchedTrainer, SFTTrainer):
    pass


class _WatchedDpo(WatchedTrainer, DPOTrainer):
    pass


def run(job: Job, model: Any, tokenizer: Any, progress: Progress | None) -> tuple[int, dict[str, float]]:
    """Train `model` in place; returns the optimizer steps made and the last metrics.

    Raises:
        TrainingError: the loss is no longer finite.
        StorageError: a state cannot be saved.
    """
    trainer = make_trainer(job, model, tokenizer, progress)
    steps, metrics = fit(trainer, job)
    return steps, {ours: metrics[theirs] for ours, theirs in _METRICS.items() if theirs in metrics}


def make_trainer(job: Job, model: Any, tokenizer: Any, progress: Progress | None = None) -> WatchedTrainer:
    """TRL's trainer for a job, ready to train."""
    with quiet():
        if job.method == "sft":
            return _WatchedSft(
                progress=progress,
                model=model,
                args=SFTConfig(**_arguments(job), completion_only_loss=True),
                train_dataset=Dataset.from_list(rows(job)),
                processing_class=tokenizer,
            )
        trainer = _WatchedDpo(
            progress=progress,
            model=model,
            args=_dpo_config(job),
            train_dataset=Dataset.from_list(rows(job)),
            processing_class=tokenizer,
        )
        # Beside an adapter that is trained on, TRL keeps a copy of it as the reference. The reference's
        # log-probabilities are known by now, and the copy would be saved with every state and with the checkpoint.
        if "ref" in getattr(model, "peft_config", {}):
            model.delete_adapter("ref")
        return trainer


def _dpo_config(job: Job) -> DPOConfig:
    dpo = job.config.dpo
    return DPOConfig(
        **_arguments(job),
        beta=dpo.beta,
        loss_type=["sigmoid", "sft"] if dpo.sft_weight else ["sigmoid"],
        loss_weights=[1.0, dpo.sft_weight] if dpo.sft_weight else None,
        # The reference is the model as it was when this stage started. A killed training starts from the same
        # checkpoint again before its state is loaded, so it computes the same reference.
        precompute_ref_log_probs=True,
    )


def _arguments(job: Job) -> dict[str, Any]:
    count = len(rows(job))
    trees = sum(bool(job.replies(number)) for number in range(len(job.trees)))
    return {
        **shared_arguments(job),
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": max(1, round(job.stage.trees_per_step * count / trees)),
        # By default TRL cuts at 1,024 tokens and drops pairs whose prompt alone is longer, trains in mixed precision,
        # and recomputes activations: none of it belongs in a reference.
        "max_length": None,
        "bf16": False,
        "activation_checkpointing": False,
    }


def rows(job: Job) -> list[dict[str, Any]]:
    """The job's data in TRL's conversational formats: `prompt` and `completion`, or `prompt`, `chosen`, `rejected`."""
    opening: Chat = (Message(role="system", content=job.system),)
    if job.method == "sft":
        return [
            {"prompt": _prompt(opening, tree, reply), "completion": _reply(tree, reply)}
            for number, tree in enumerate(job.trees)
            for reply in job.replies(number)
        ]
    return [
        {
            "prompt": _prompt(opening, job.trees[pair.tree], pair.chosen),
            "chosen": _reply(job.trees[pair.tree], pair.chosen),
            "rejected": _reply(job.trees[pair.tree], pair.rejected),
        }
        for pair in job.pairs
    ]


def _prompt(opening: Chat, tree: Tree, reply: int) -> list[dict[str, str]]:
    return as_dicts((*opening, *tree.chat(reply)[:-1]))


def _reply(tree: Tree, reply: int) -> list[dict[str, str]]:
    return as_dicts(tree.chat(reply)[-1:])
