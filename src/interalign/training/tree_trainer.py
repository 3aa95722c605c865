"""Training on packed trees: transformers' Trainer with a packed batch and our loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.utils.data import Dataset

from interalign.errors import TrainingError
from interalign.run import writing
from interalign.training.objectives import dpo_loss, reply_logps, sft_loss, token_logps
from interalign.training.packing import needed_nodes, pack
from interalign.training.tokens import Segment, tree_segments
from interalign.training.train import DpoConfig, Job, Progress

__all__ = ["Example", "TreeTrainer", "collate", "run"]


@dataclass(frozen=True)
class Example:
    """One tree, ready to be packed.

    `replies` are the nodes to train on; `pairs` (chosen, rejected) among them; `reference` the log-probability of
    each reply under the reference model, in the order of `replies` (empty for SFT).
    """

    number: int
    segments: tuple[Segment, ...]
    replies: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...] = ()
    reference: tuple[float, ...] = ()


def collate(examples: Sequence[Example]) -> dict[str, Tensor]:
    """Pack examples into one batch of one sequence, as tensors."""
    packed = pack([(example.number, example.segments, example.replies) for example in examples])
    place = {reply: index for index, reply in enumerate(packed.replies)}
    pairs = [
        (place[example.number, chosen], place[example.number, rejected])
        for example in examples
        for chosen, rejected in example.pairs
    ]
    return {
        "input_ids": torch.from_numpy(packed.ids)[None],
        "positions": torch.from_numpy(packed.positions)[None],
        "visible": torch.from_numpy(packed.visible)[None, None],
        "targets": torch.from_numpy(packed.targets),
        "predictors": torch.from_numpy(packed.predictors),
        "reply": torch.from_numpy(packed.reply),
        "reference": torch.tensor([value for example in examples for value in example.reference]),
        "chosen": torch.tensor([chosen for chosen, _ in pairs], dtype=torch.long),
        "rejected": torch.tensor([rejected for _, rejected in pairs], dtype=torch.long),
    }


class _Examples(Dataset[Example]):
    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Example:
        return self._examples[index]


class TreeTrainer(transformers.Trainer):
    """Trainer over packed trees. `dpo` None: SFT."""

    def __init__(self, *, dpo: DpoConfig | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._dpo = dpo
        self.last: dict[str, float] = {}
        # The loss is a mean over its own targets, so Trainer must not rescale it by a count of labels.
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of one packed batch; a loss that is not finite ends the training."""
        logps = token_logps(model, inputs)
        if self._dpo is None:
            loss = sft_loss(logps)
            self.last = {"loss": loss.item()}
        else:
            loss = self._preference_loss(logps, inputs, self._dpo)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"The loss became {loss.item()} at step {self.state.global_step + 1}.",
                mend="lower the learning rate; the last saved state and earlier checkpoints are kept.",
            )
        return (loss, {}) if return_outputs else loss

    def _preference_loss(self, logps: Tensor, inputs: dict[str, Tensor], config: DpoConfig) -> Tensor:
        policy = reply_logps(logps, inputs["reply"], len(inputs["reference"]))
        loss, margins = dpo_loss(policy, inputs["reference"], inputs["chosen"], inputs["rejected"], config.beta)
        self.last = {
            "loss": loss.item(),
            "accuracy": (margins > 0).float().mean().item(),
            "reward_margin": margins.mean().item(),
        }
        if config.sft_weight:
            of_chosen = torch.isin(inputs["reply"], inputs["chosen"])
            loss = loss + config.sft_weight * sft_loss(logps[of_chosen])
        return loss


class _Reporter(transformers.TrainerCallback):
    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.trainer: TreeTrainer | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.progress and self.trainer:
            self.progress(state.global_step, state.max_steps, self.trainer.last.get("loss", float("nan")))


def run(job: Job, model: Any, tokenizer: Any, progress: Progress | None) -> tuple[int, dict[str, float]]:
    """Train `model` in place; returns the optimizer steps made and the last metrics."""
    examples = _examples(job, tokenizer)
    if job.method == "dpo":
        examples = _with_reference(job, examples, model)
    reporter = _Reporter(progress)
    trainer = TreeTrainer(
        dpo=job.config.dpo if job.method == "dpo" else None,
        model=model,
        args=training_arguments(job),
        train_dataset=_Examples(examples),
        data_collator=collate,
        callbacks=[reporter],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    reporter.trainer = trainer
    trainer.train(resume_from_checkpoint=last_state(job))
    return trainer.state.global_step, trainer.last


def training_arguments(job: Job) -> transformers.TrainingArguments:
    """Trainer's settings for a stage, as far as both backends share them."""
    return transformers.TrainingArguments(**shared_arguments(job), remove_unused_columns=False)


def shared_arguments(job: Job) -> dict[str, Any]:
    """Settings that mean the same to `TrainingArguments` and to TRL's configurations."""
    stage = job.stage
    return {
        "output_dir": str(job.work),
        "num_train_epochs": stage.epochs,
        "learning_rate": stage.learning_rate,
        "per_device_train_batch_size": stage.trees_per_step,
        "warmup_steps": 0.1,
        "lr_scheduler_type": "linear",
        "save_steps": job.config.save_every,
        "save_total_limit": 2,
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": job.seed % 2**32,
        "data_seed": job.seed % 2**32,
        "dataloader_pin_memory": False,
    }


def last_state(job: Job) -> str | None:
    """The state that a killed training of this job left behind, or None."""
    if not job.work.is_dir():
        return None
    return transformers.trainer_utils.get_last_checkpoint(str(job.work))


def _examples(job: Job, tokenizer: Any) -> list[Example]:
    examples = []
    for number, tree in enumerate(job.trees):
        replies = job.replies(number)
        if not replies:
            continue
        segments = tree_segments(tree, needed_nodes(tree, replies), job.system, tokenizer)
        pairs = tuple((pair.chosen, pair.rejected) for pair in job.pairs if pair.tree == number)
        examples.append(Example(number, tuple(segments), tuple(replies), pairs))
    return examples


def _with_reference(job: Job, examples: Sequence[Example], model: Any) -> list[Example]:
    """The examples with the log-probabilities of the model as it is now: the reference of DPO, computed once.

    They are kept beside the training state, because a resumed training has no untrained model any more to ask.
    """
    path = job.work / "reference.pt"
    if path.exists():
        reference = torch.load(path, weights_only=True)
    else:
        reference = {str(example.number): _reference(example, model) for example in examples}
        with writing(path) as beside:
            torch.save(reference, beside)
    return [
        Example(one.number, one.segments, one.replies, one.pairs, tuple(reference[str(one.number)].tolist()))
        for one in examples
    ]


def _reference(example: Example, model: Any) -> Tensor:
    batch = {name: tensor.to(model.device) for name, tensor in collate([example]).items()}
    model.eval()
    with torch.inference_mode():
        logps = reply_logps(token_logps(model, batch), batch["reply"], len(example.replies))
    return logps.cpu()
