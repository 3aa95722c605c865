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
from interalign.llm.libraries import saving
from interalign.run import writing
from interalign.training.loop import WatchedTrainer, fit, shared_arguments
from interalign.training.objectives import dpo_loss, reply_logps, sft_loss, token_logps
from interalign.training.packing import needed_nodes, pack
from interalign.training.tokens import Segment, tree_segments
from interalign.training.train import DpoConfig, Job, Progress

__all__ = ["Example", "TreeTrainer", "collate", "make_trainer", "refuse_unpackable", "run"]

_ROUNDING = {torch.float32: 0.01}
_COARSE_ROUNDING = 0.3
"""Mean difference of a token's log-probability, in nats, that rounding may make. In float32 a leak shows. In bfloat16
rounding alone makes 0.06 with SmolLM2, so there only what is grossly wrong is found."""

_METRICS = ("loss", "accuracy", "reward_margin")


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


class TreeTrainer(WatchedTrainer):
    """Trainer over packed trees. `dpo` None: SFT."""

    def __init__(self, *, dpo: DpoConfig | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._dpo = dpo
        self._last: dict[str, float] = {}
        # The loss is a mean over its own targets, so Trainer must not rescale it by a count of labels.
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of one packed batch."""
        logps = token_logps(model, inputs)
        loss = sft_loss(logps) if self._dpo is None else self._preference_loss(logps, inputs, self._dpo)
        return (loss, {}) if return_outputs else loss

    def _preference_loss(self, logps: Tensor, inputs: dict[str, Tensor], config: DpoConfig) -> Tensor:
        policy = reply_logps(logps, inputs["reply"], len(inputs["reference"]))
        loss, margins = dpo_loss(policy, inputs["reference"], inputs["chosen"], inputs["rejected"], config.beta)
        self._last = {"accuracy": (margins > 0).float().mean().item(), "reward_margin": margins.mean().item()}
        if config.sft_weight:
            of_chosen = torch.isin(inputs["reply"], inputs["chosen"])
            loss = loss + config.sft_weight * sft_loss(logps[of_chosen])
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log Trainer's numbers with ours."""
        super().log({**logs, **self._last} if "loss" in logs else logs, start_time)


def run(job: Job, model: Any, tokenizer: Any, progress: Progress | None) -> tuple[int, dict[str, float]]:
    """Train `model` in place; returns the optimizer steps made and the last metrics.

    Raises:
        TrainingError: the template does not fit, or the loss is no longer finite.
        StorageError: a state cannot be saved.
    """
    trainer = make_trainer(job, model, tokenizer, progress)
    steps, metrics = fit(trainer, job)
    return steps, {name: metrics[name] for name in _METRICS if name in metrics}


def make_trainer(job: Job, model: Any, tokenizer: Any, progress: Progress | None = None) -> TreeTrainer:
    """The trainer of a job, ready to train; raises TrainingError when template or model cannot be packed."""
    examples = _examples(job, tokenizer)
    refuse_unpackable(model, examples[0])
    if job.method == "dpo":
        examples = _with_reference(job, examples, model)
    return TreeTrainer(
        dpo=job.config.dpo if job.method == "dpo" else None,
        progress=progress,
        model=model,
        args=transformers.TrainingArguments(
            **shared_arguments(job),
            per_device_train_batch_size=job.stage.trees_per_step,
            remove_unused_columns=False,
        ),
        train_dataset=_Examples(examples),
        data_collator=collate,
    )


def _examples(job: Job, tokenizer: Any) -> list[Example]:
    examples = []
    for number, tree in enumerate(job.trees):
        replies = job.replies(number)
        if not replies:
            continue
        segments = tree_segments(tree, needed_nodes(tree, replies), job.system, tokenizer)
        pairs = tuple((pair.chosen, pair.rejected) for pair in job.pairs_of(number))
        examples.append(Example(number, tuple(segments), tuple(replies), pairs))
    return examples


def refuse_unpackable(model: Any, example: Example) -> None:
    """Refuse a model that does not compute for a packed reply what it computes for that reply alone.

    Recurrent layers and sliding windows do not follow the mask: siblings would leak into each other, silently.

    Raises:
        TrainingError: the two differ by more than rounding explains.
    """
    reply = example.replies[-1]
    one = Example(example.number, example.segments, (reply,))
    batch = {name: tensor.to(model.device) for name, tensor in collate([one]).items()}
    ids = torch.tensor([_path_ids(example.segments, reply)], device=model.device)
    count = len(batch["targets"])
    model.eval()
    with torch.inference_mode():
        packed = token_logps(model, batch)
        logits = model(input_ids=ids, use_cache=False).logits[0, -count - 1 : -1]
        alone = logits.float().log_softmax(dim=-1).gather(1, ids[0, -count:, None])[:, 0]
    difference = (packed - alone).abs().mean().item()
    if difference > _ROUNDING.get(logits.dtype, _COARSE_ROUNDING):
        raise TrainingError(
            f"This model ({model.config.model_type}) cannot be trained on packed trees: log-probabilities are off by "
            f"{difference:.2g} per token, because its layers do not keep to the attention mask.",
            mend='train it with backend = "trl".',
        )


def _path_ids(segments: Sequence[Segment], node: int) -> list[int]:
    """The tokens of a node's whole conversation, its own included."""
    backwards: list[Segment] = []
    place = next((index for index, segment in enumerate(segments) if segment.node == node), None)
    while place is not None:
        backwards.append(segments[place])
        place = segments[place].parent
    return [token for segment in reversed(backwards) for token in segment.ids]


def _with_reference(job: Job, examples: Sequence[Example], model: Any) -> list[Example]:
    """The examples with the log-probabilities of the model as it is now: the reference of DPO, computed once.

    They are kept beside the training state, because a resumed training has no untrained model any more to ask.
    """
    path = job.work / "reference.pt"
    if path.exists():
        reference = torch.load(path, weights_only=True)
    else:
        reference = {str(example.number): _reference(example, model) for example in examples}
        with saving(path), writing(path) as beside:
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
