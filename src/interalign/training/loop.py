"""What all trainers share: settings, the states a killed training goes on from, and an eye on the loss.

A loss that is not finite ends a training before the weights are touched; it never becomes a checkpoint.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from accelerate.utils import DistributedType, gather_object
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointWrapper

from interalign.errors import TrainingError
from interalign.llm.libraries import quiet, saving
from interalign.training import processes

if TYPE_CHECKING:
    from torch import Tensor

    from interalign.training.job import Job, Progress

__all__ = [
    "METRICS",
    "WatchedTrainer",
    "fit",
    "gathered_weights",
    "has_own_precision",
    "last_state",
    "refuse_spoilt",
    "shared_arguments",
    "step_of",
]

METRICS = {"loss": "loss", "accuracy": "rewards/accuracies", "reward_margin": "rewards/margins"}
"""The metrics that a manifest keeps: our name of each, and TRL's."""

_OWN_PRECISION = ("fp16", "fsdp", "deepspeed")
"""TRL's options that say themselves what is computed in which number format."""


class WatchedTrainer(transformers.Trainer):
    """A trainer that tells the loss of every optimizer step, and ends when it is not finite.

    Args:
        progress: called after every step.
        kwargs: of the trainer that this one is put before.
    """

    def __init__(self, *, progress: Progress | None, **kwargs: Any) -> None:
        self._step_loss = 0.0
        super().__init__(**kwargs)
        self.remove_callback(transformers.PrinterCallback)
        self.add_callback(_Teller(progress, self._take_step_loss))

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """The loss of one micro-batch in this process, as its share of the step's loss.

        Raises:
            TrainingError: the loss is not finite.
        """
        loss = super().training_step(*args, **kwargs)
        # Gradients are averaged over processes, so the loss is, too; none of them goes on where one cannot.
        everywhere = float(self.accelerator.reduce(loss.detach(), reduction="mean"))
        if not math.isfinite(everywhere):
            raise TrainingError(
                f"The loss became {everywhere} at step {self.state.global_step + 1}.",
                mend="lower the learning rate; earlier checkpoints are kept.",
            )
        self._step_loss += everywhere
        return loss

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # Each process writes its own part of a state. The file that makes it whole comes after this.
        self.accelerator.wait_for_everyone()

    def _take_step_loss(self) -> float:
        loss, self._step_loss = self._step_loss, 0.0
        return loss


class _Teller(transformers.TrainerCallback):
    def __init__(self, progress: Progress | None, take_loss: Callable[[], float]) -> None:
        self._progress = progress
        self._take_loss = take_loss

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        loss = self._take_loss()
        if self._progress:
            self._progress(state.global_step, state.max_steps, loss)


def shared_arguments(job: Job) -> dict[str, Any]:
    """Settings of a job that mean the same to every trainer, as TRL's configurations name them."""
    stage = job.stage
    preference: dict[str, Any] = {}
    if job.method == "dpo":
        dpo = job.config.dpo
        preference = {
            "beta": dpo.beta,
            # The reference is the model as it was when this stage started. A killed training starts from the same
            # checkpoint again before its state is loaded, so it computes the same reference.
            "precompute_ref_log_probs": True,
        }
        if job.config.full_weights and dpo.trl.get("fsdp"):
            # TRL then loads a reference beside, on all GPUs that it sees, as every other process does. It would warn
            # that the policy is not loaded so.
            preference["model_init_kwargs"] = {"device_map": None}
            logging.getLogger("trl.trainer.dpo_trainer").setLevel(logging.ERROR)
    return {
        "output_dir": str(job.work),
        "num_train_epochs": stage.epochs,
        "learning_rate": stage.learning_rate,
        "warmup_steps": 0.1,
        "lr_scheduler_type": "linear",
        "save_steps": job.config.save_every,
        "save_total_limit": 2,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "report_to": list(job.config.report_to) or "none",
        "run_name": job.out.name,
        "disable_tqdm": True,
        "seed": job.trl_seed,
        "data_seed": job.trl_seed,
        "dataloader_pin_memory": False,
        # By default TRL cuts at 1,024 tokens and drops pairs whose prompt alone is longer, trains in mixed precision,
        # and recomputes activations. What is too long is left out before, and counted.
        "max_length": None,
        "bf16": False,
        "activation_checkpointing": False,
        **preference,
    }


def has_own_precision(job: Job) -> bool:
    """Whether what the recipe passes through to TRL settles the number format of products; `bf16`, on or off, does."""
    given = job.stage.trl
    return "bf16" in given or any(given.get(name) for name in _OWN_PRECISION)


def last_state(work: Path) -> str | None:
    """The newest whole state that a killed training left behind in its folder, or None.

    Trainer writes the file that is looked for last, so a state without it was cut short; such states are removed.
    """
    states = [path for path in work.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    for state in sorted(states, key=step_of, reverse=True):
        if _is_whole(state):
            return str(state)
        # Another process may be removing it as well.
        shutil.rmtree(state, ignore_errors=True)
    return None


def step_of(state: Path) -> int:
    """After how many optimizer steps a state was saved."""
    return int(state.name.removeprefix("checkpoint-"))


def _is_whole(state: Path) -> bool:
    try:
        json.loads((state / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def fit(trainer: WatchedTrainer, job: Job) -> tuple[int, dict[str, float]]:
    """Train to the end, from the last saved state if there is one.

    Returns:
        The optimizer steps made in all, and the last step's metrics.

    Raises:
        TrainingError: the loss or a weight is not finite.
        StorageError: a state cannot be saved.
    """
    # Looking for it removes states that were cut short.
    state = processes.first_decides(lambda: last_state(job.work))
    with quiet(), saving(job.work):
        trainer.train(resume_from_checkpoint=state)
    refuse_spoilt(trainer.model)
    logged: list[dict[str, float]] = [entry for entry in trainer.state.log_history if "loss" in entry]
    last = logged[-1] if logged else {}
    kept = {ours: last[theirs] for ours, theirs in METRICS.items() if theirs in last}
    return trainer.state.global_step, {name: value for name, value in kept.items() if math.isfinite(value)}


def refuse_spoilt(model: Any) -> None:
    """Refuse a model of which a trained weight is no number; raises TrainingError, on every process."""
    mine = [name for name, weight in model.named_parameters() if weight.requires_grad and not _is_finite(weight)]
    # Each process may hold another part of the weights.
    spoilt = sorted(set(gather_object(mine)))
    if spoilt:
        raise TrainingError(
            f"{len(spoilt)} weights are no longer finite, {spoilt[0]} among them.",
            mend="lower the learning rate; earlier checkpoints are kept.",
        )


def _is_finite(weight: Any) -> bool:
    """Whether a weight, or this process's part of it, holds numbers only."""
    if hasattr(weight, "ds_tensor"):
        # Where DeepSpeed keeps the part; the weight itself is empty.
        weight = weight.ds_tensor
    elif hasattr(weight, "to_local"):
        weight = weight.to_local()
    return bool(torch.isfinite(weight).all())


def gathered_weights(trainer: WatchedTrainer) -> dict[str, Tensor] | None:
    """All weights of a model that is spread over processes; None where each process holds them all.

    Every process must call it, and the first one alone may get them. The model can be saved with them, and not trained.
    """
    accelerator = trainer.accelerator
    if accelerator.distributed_type not in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        return None
    with quiet():
        weights: dict[str, Tensor] = accelerator.get_state_dict(trainer.model_wrapped)
    model: Any = trainer.model
    _stop_recomputing(model)
    # Weights that are tied to others are gathered as copies of those.
    tied = dict(model.named_parameters(remove_duplicate=False)).keys() - dict(model.named_parameters()).keys()
    return {name: weight for name, weight in weights.items() if name not in tied}


def _stop_recomputing(model: torch.nn.Module) -> None:
    # Layers that recompute their activations have another name; by names peft finds what is to be saved.
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, CheckpointWrapper):
                setattr(parent, name, child._checkpoint_wrapped_module)
