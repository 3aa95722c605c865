"""Training on packed trees: the trainers of transformers and TRL, with packed sequences in place of rows.

An optimizer step takes `trees_per_step` trees (per process), packs them into sequences of at most `max_tokens`, and
goes through these one by one; the step's loss is the mean over all its pairs (SFT: target tokens), however they came
to lie in sequences and on processes. The preference losses, their options and their metrics are TRL's. Those of its
losses that look at a whole batch (`aot`, `aot_unpaired` and `sft` by name) look at a sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType, gather_object
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor
from trl.models.utils import prepare_deepspeed
from trl.trainer.dpo_trainer import DPOTrainer

from interalign.llm.libraries import quiet, saving
from interalign.run import writing
from interalign.training import processes
from interalign.training.attention import attention_of, use_attention
from interalign.training.job import Job, Progress, context_length, fitting, refuse_too_long
from interalign.training.loop import WatchedTrainer, has_own_precision, shared_arguments
from interalign.training.objectives import Rows, as_rows, row_mask, score_targets, sft_loss
from interalign.training.options import trainer_config, trl_refusals
from interalign.training.packable import Unpackable, reason_against
from interalign.training.packing import Example, arranged, needed_nodes, pack, split
from interalign.training.tokens import chat_segments, tree_segments
from interalign.training.weights import prepare_mixed_precision

__all__ = [
    "MAX_TOKENS",
    "TreeDpoTrainer",
    "TreeSftTrainer",
    "collate",
    "examples_of",
    "make_trainer",
    "refuse_unpackable",
]

MAX_TOKENS = {"tree": 8192, "sdpa": 4096, "flex_attention": 8192}
"""The longest sequence where the recipe names none. A dense mask costs the square of it."""


def collate(examples: Sequence[Example]) -> dict[str, Tensor]:
    """Pack examples into one sequence of n tokens, as tensors.

    Returns:
        `input_ids` and `positions` (1, n), `segment` (n,), `sees` (s, s), `targets`, `predictors`, `reply` and
        `offset` (m,): see `Packed`, offset counts within the reply. `replies`: how many. For p pairs `chosen` and
        `rejected` (p,), numbers of replies, and `reference` (2, p), their log-probabilities, if they are known.
        `weights` (2,): what means are taken over, p or, without pairs, m; and the tokens of the chosen replies, pair by
        pair.
    """
    packed = pack(examples)
    place = {reply: index for index, reply in enumerate(packed.replies)}
    pairs = [
        (place[index, chosen], place[index, rejected])
        for index, example in enumerate(examples)
        for chosen, rejected in example.pairs
    ]
    reply = torch.from_numpy(packed.reply)
    starts = torch.searchsorted(reply, torch.arange(len(packed.replies)))
    lengths = torch.bincount(reply, minlength=len(packed.replies))
    sides = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
    reference = torch.tensor([of_pair for example in examples for of_pair in example.reference]).reshape(-1, 2)
    return {
        "input_ids": torch.from_numpy(packed.ids)[None],
        "positions": torch.from_numpy(packed.positions)[None],
        "segment": torch.from_numpy(packed.segment),
        "sees": torch.from_numpy(packed.sees),
        "targets": torch.from_numpy(packed.targets),
        "predictors": torch.from_numpy(packed.predictors),
        "reply": reply,
        "offset": torch.arange(len(reply)) - starts[reply],
        "replies": torch.tensor(len(packed.replies)),
        "chosen": sides[:, 0],
        "rejected": sides[:, 1],
        "reference": reference.T,
        "weights": torch.stack([torch.tensor(len(pairs) or len(reply)), lengths[sides[:, 0]].sum()]).float(),
    }


def examples_of(job: Job, tokenizer: Any, limit: int) -> tuple[list[Example], int]:
    """The trees and chats of a job as tokens, and how many replies or pairs are left out as longer than `limit`.

    Raises:
        TrainingError: the chat template does not fit.
    """
    examples, too_long = [], 0
    for lesson in job.lessons:
        tree = job.trees[lesson.tree]
        segments = tree_segments(tree, needed_nodes(tree, lesson.replies), job.system, tokenizer)
        tokens: dict[int | None, int] = {}
        for segment in segments:
            above = 0 if segment.parent is None else tokens[segments[segment.parent].node]
            tokens[segment.node] = above + len(segment.ids)
        kept, left_out = fitting(lesson, tokens.__getitem__, limit)
        too_long += left_out
        if left_out and kept.replies:
            segments = tree_segments(tree, needed_nodes(tree, kept.replies), job.system, tokenizer)
        if kept.replies:
            examples.append(Example(lesson.tree, tuple(segments), kept.replies, kept.pairs))
    for number, chat in enumerate(job.chats, len(job.trees)):
        segments = chat_segments(chat, tokenizer)
        if sum(len(segment.ids) for segment in segments) > limit:
            too_long += 1
            continue
        replies = tuple(place for place, message in enumerate(chat) if message.role == "assistant")
        examples.append(Example(number, tuple(segments), replies))
    return examples, too_long


def refuse_unpackable(model: Any, example: Example, longest: int) -> None:
    """Refuse a model that does not compute for a packed reply what it computes for that reply alone.

    Args:
        model: the model.
        example: a tree to try it on.
        longest: tokens of the longest conversation that will be trained on.

    Raises:
        Unpackable: it is such a model.
    """
    one = replace(example, replies=example.replies[-1:], pairs=(), reference=())
    batch = {name: tensor.to(model.device) for name, tensor in collate([one]).items()}
    # Rounding may differ between machines, and all must train in the same way.
    reason = processes.first_decides(lambda: reason_against(model, one, batch, longest))
    if reason is not None:
        raise Unpackable(
            f"This model ({model.config.model_type}) cannot be trained on packed trees: {reason}.",
            mend='train it with packing = "trl".',
        )


class _Packer:
    """Examples by index to the sequences of a step."""

    def __init__(self, examples: Sequence[Example], max_tokens: int) -> None:
        self._examples = examples
        self._max_tokens = max_tokens

    def __call__(self, rows: Sequence[dict[str, int]]) -> dict[str, list[dict[str, Tensor]]]:
        step = [self._examples[row["example"]] for row in rows]
        return {"sequences": [collate(one) for one in arranged(step, self._max_tokens)]}


def _dataset(examples: Sequence[Example]) -> Dataset:
    return Dataset.from_dict({"example": list(range(len(examples)))})


class _PackedSteps(WatchedTrainer):
    """A trainer whose batches are lists of packed sequences.

    Args:
        computed_in: the number format that products are computed in; None: the weights', or what the options say.
        kwargs: of the trainers that this one is put before.
    """

    _shares: Tensor = torch.ones(2)
    """What means over the sequence at hand count in the step's: of pairs (SFT: tokens), and of tokens of the chosen."""
    _for_nothing = False

    def __init__(self, *, computed_in: torch.dtype | None, **kwargs: Any) -> None:
        self._computed_in = computed_in
        super().__init__(**kwargs)

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """The loss of one step, its gradients added up sequence by sequence."""
        sequences = inputs["sequences"]
        shares = self._shares_of(sequences)
        loss = torch.zeros((), device=self.accelerator.device)
        for index in range(len(shares)):
            # Where another process has more sequences, this one goes through its last again for nothing, since models
            # that are spread over processes compute together.
            self._shares = shares[index]
            self._for_nothing = index >= len(sequences)
            with self._not_yet_reduced(model, index < len(shares) - 1):
                loss = loss + super().training_step(model, sequences[min(index, len(sequences) - 1)], *args, **kwargs)
        self._shares = torch.ones(2)
        return loss

    def _shares_of(self, sequences: Sequence[dict[str, Tensor]]) -> Tensor:
        """`_shares` of each sequence; as many as the process with the most sequences has: (sequences, 2)."""
        weights = torch.stack([sequence["weights"] for sequence in sequences]).to(self.accelerator.device)
        processes = self.accelerator.num_processes
        if processes == 1:
            return weights / weights.sum(dim=0).clamp(min=1)
        counts = torch.cat([weights.sum(dim=0), weights.new_tensor([len(weights)])])
        everybody = self.accelerator.gather(counts[None]).reshape(-1, 3)
        total, most = everybody[:, :2].sum(dim=0).clamp(min=1), int(everybody[:, 2].max())
        # Gradients are averaged over processes, so each adds its part times their number.
        return torch.cat([weights * processes / total, weights.new_zeros(most - len(weights), 2)])

    @contextmanager
    def _not_yet_reduced(self, model: Any, more_to_come: bool) -> Iterator[None]:
        """Within this block gradients add up in this process, and DeepSpeed does not step."""
        if not more_to_come:
            yield
            return
        state = self.accelerator.gradient_state
        synced = state.sync_gradients
        deepspeed = self.accelerator.distributed_type == DistributedType.DEEPSPEED
        with self.accelerator.no_sync(model):
            if deepspeed:
                state._set_sync_gradients(False)
            try:
                yield
            finally:
                if deepspeed:
                    state._set_sync_gradients(synced)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Of one step, by the usual rule of six operations per weight and token."""
        tokens = sum(int(sequence["input_ids"].numel()) for sequence in inputs["sequences"])
        model: Any = self.model
        return 6 * tokens * int(model.num_parameters())


class TreeSftTrainer(_PackedSteps):
    """SFT on packed trees."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # The loss is a mean over its own targets, so Trainer must not rescale it by a count of labels.
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of one packed sequence, as its share of the step's."""
        logps = score_targets(model, inputs, computed_in=self._computed_in).logps
        loss = sft_loss(logps) * self._shares[0]
        return (loss, {}) if return_outputs else loss


class TreeDpoTrainer(_PackedSteps, DPOTrainer):
    """TRL's DPO on packed trees: every loss, option and metric of TRL, on log-probabilities from packed sequences.

    `reference`: file where the log-probabilities of the model as it is now are kept; they are read from there when a
    resumed training has no untrained model any more to ask. `sft_weight`: of the likelihood of the chosen replies.
    """

    def __init__(
        self, *, examples: list[Example], max_tokens: int, reference: Path, sft_weight: float = 0.0, **kwargs: Any
    ) -> None:
        self._sft_weight = sft_weight
        self._examples = examples
        self._max_tokens = max_tokens
        self._reference = reference
        super().__init__(train_dataset=_dataset(examples), **kwargs)
        # Beside an adapter that is trained on, TRL keeps a copy of it as the reference. The reference's
        # log-probabilities are known by now, and the copy would be saved with every state and with the checkpoint.
        if "ref" in getattr(self.model, "peft_config", {}):
            self.model.delete_adapter("ref")  # type: ignore[union-attr,operator]

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        # Tokens are made before, node by node.
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        known = load_file(self._reference) if self._reference.exists() else self._kept(self._computed_reference())
        # In place: the collator holds the same list.
        for index, example in enumerate(self._examples):
            pairs = [(chosen, rejected) for chosen, rejected in known[str(index)].tolist()]
            self._examples[index] = replace(example, reference=tuple(pairs))
        return dataset

    def _computed_reference(self) -> dict[str, Tensor]:
        """The reference of all trees, by their place, on every process."""
        accelerator = self.accelerator
        model: Any = self.model
        mine = range(accelerator.process_index, len(self._examples), accelerator.num_processes)
        if self.is_deepspeed_enabled:
            # Its weights may be spread over the processes, which then have to go through the same trees.
            model, mine = prepare_deepspeed(model, accelerator), range(len(self._examples))
        model.eval()
        found = {str(index): self._of_reference(model, self._examples[index]) for index in mine}
        if accelerator.num_processes > 1:
            found = dict(gather_object(list(found.items())))
        return found

    def _kept(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same, written to its file."""
        if self.accelerator.is_main_process:
            with saving(self._reference), writing(self._reference) as beside:
                save_file(found, beside)
        self.accelerator.wait_for_everyone()
        return found

    def _of_reference(self, model: Any, example: Example) -> Tensor:
        """Log-probabilities of a tree's pairs under the reference, in the order of its pairs: (p, 2)."""
        found: dict[tuple[int, int], Tensor] = {}
        for part in split(example, self._max_tokens):
            sequence = {name: tensor.to(self.accelerator.device) for name, tensor in collate([part]).items()}
            sides = self.compute_ref_log_probs(  # type: ignore[no-untyped-call]
                _PackedModel(model, sequence, self._computed_in), _rows_to_come(sequence)
            )
            found |= dict(zip(part.pairs, torch.stack(sides, dim=1).float().cpu(), strict=True))
        return torch.stack([found[pair] for pair in example.pairs])

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
        chosen, rejected = inputs["reference"]
        rows = {**_rows_to_come(inputs), "ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
        packed = _PackedModel(model, inputs, self._computed_in)
        with self._gathering_any_size():
            loss = super()._compute_loss(packed, rows, return_outputs)  # type: ignore[no-untyped-call]
        return loss * self._shares[0] + self._likelihood_of_chosen(packed.log_probs, inputs)

    def _likelihood_of_chosen(self, log_probs: Tensor, inputs: dict[str, Tensor]) -> Tensor | float:
        """The weighted loss of SFT on the chosen replies, as its share of the step's."""
        if not self._sft_weight:
            return 0.0
        chosen, _ = log_probs.chunk(2)
        return -self._sft_weight * self._shares[1] * chosen.sum() / inputs["weights"][1]

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """The loss of one step; what TRL measured of its sequences becomes one measure of the step."""
        before = {name: len(values) for name, values in self._metrics["train"].items()}
        weights: list[float] = [float(sequence["weights"][0]) for sequence in args[1]["sequences"]]
        loss = super().training_step(*args, **kwargs)
        for name, values in self._metrics["train"].items():
            measured = values[before.get(name, 0) :]
            if len(measured) == len(weights):
                mean = sum(value * weight for value, weight in zip(measured, weights, strict=True)) / sum(weights)
                values[before.get(name, 0) :] = [mean]
        return loss

    @contextmanager
    def _gathering_any_size(self) -> Iterator[None]:
        """Within this block TRL gathers its metrics from sequences that have other numbers of pairs elsewhere."""
        accelerator = self.accelerator
        if accelerator.num_processes == 1:
            yield
            return
        self.accelerator = _AnySize(accelerator, empty=self._for_nothing)
        try:
            yield
        finally:
            self.accelerator = accelerator


class _AnySize:
    """An accelerator that gathers vectors whose lengths differ between processes.

    `empty`: this process has nothing to add; numbers count as 0 and vectors as without an element.
    """

    def __init__(self, accelerator: Any, *, empty: bool) -> None:
        self._accelerator = accelerator
        self._empty = empty

    def __getattr__(self, name: str) -> Any:
        return getattr(self._accelerator, name)

    def gather(self, values: Tensor) -> Tensor:
        """The values of all processes behind each other."""
        if not values.dim():
            return self._of_all(torch.zeros_like(values) if self._empty else values)
        mine = values[:0] if self._empty else values
        lengths = self._of_all(torch.tensor(len(mine), device=values.device)).tolist()
        padded = values.new_zeros(max(lengths))
        padded[: len(mine)] = mine
        parts = zip(torch.split(self._of_all(padded), max(lengths)), lengths, strict=True)
        return torch.cat([part[:length] for part, length in parts])

    gather_for_metrics = gather

    def _of_all(self, values: Tensor) -> Tensor:
        gathered: Tensor = self._accelerator.gather(values)
        return gathered


class _PackedModel:
    """What TRL's trainer asks for the log-probabilities of rows, answering from one pass over a packed sequence."""

    log_probs: Tensor
    """Of the last answer."""

    def __init__(self, model: Any, sequence: dict[str, Tensor], computed_in: torch.dtype | None) -> None:
        self._model = model
        self._sequence = sequence
        self._computed_in = computed_in

    def __call__(self, **rows: Any) -> Rows:
        moments = torch.is_grad_enabled()
        scores = score_targets(self._model, self._sequence, moments=moments, computed_in=self._computed_in)
        found = as_rows(scores, self._sequence)
        self.log_probs = found.log_probs
        return found


def _rows_to_come(sequence: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch that TRL's trainer sees: where rows have tokens, with one token before each as in its own batches."""
    written = torch.nn.functional.pad(row_mask(sequence).long(), (1, 0))
    return {
        "input_ids": torch.zeros_like(written),
        "completion_mask": written,
        # Only counted: these are the tokens that go through the model.
        "attention_mask": torch.ones_like(sequence["input_ids"]),
    }


def make_trainer(job: Job, model: Any, tokenizer: Any, progress: Progress | None = None) -> _PackedSteps:
    """The trainer of a job on packed trees, ready to train.

    Raises:
        Unpackable: the model cannot be trained on packed trees.
        TrainingError: the chat template does not fit, or nothing is left to train on.
        InputError: an option that the recipe passes through is wrong.
    """
    arguments = {
        **shared_arguments(job),
        "per_device_train_batch_size": job.stage.trees_per_step,
        "remove_unused_columns": False,
        # Balancing experts wants whole rows; TRL's own trainers do it.
        "router_aux_loss_coef": 0.0,
    }
    with quiet():
        config = trainer_config(job, arguments, packed=True)
        examples, too_long = examples_of(job, tokenizer, context_length(job, model))
        refuse_too_long(job, too_long, nothing_left=not examples)
        # Only where there are branches does a model that ignores the mask show itself.
        telling = [one for one in examples if _branches(one)] or examples
        trial, longest = min(telling, key=lambda one: one.tokens), max(map(_longest, examples))
        try:
            refuse_unpackable(model, trial, longest)
        except Unpackable:
            if attention_of(model) != "tree":
                raise
            # Some models do not tell their layers of branches, and heed a mask.
            use_attention(model, "sdpa")
            refuse_unpackable(model, trial, longest)
        max_tokens = job.config.max_tokens or MAX_TOKENS[attention_of(model)]
        computed_in = None if has_own_precision(job) else prepare_mixed_precision(model, job.config)
        shared: dict[str, Any] = {
            "progress": progress,
            "model": model,
            "args": config,
            "data_collator": _Packer(examples, max_tokens),
            "processing_class": tokenizer,
            "computed_in": computed_in,
        }
        if job.method != "dpo":
            return TreeSftTrainer(train_dataset=_dataset(examples), **shared)
        shared |= {"examples": examples, "max_tokens": max_tokens, "sft_weight": job.config.dpo.sft_weight}
        shared |= {"reference": job.work / "reference.safetensors"}
        with trl_refusals(job.method, job.config):
            if job.nash is None:
                return TreeDpoTrainer(**shared)
            from interalign.training.nash import TreeNashTrainer

            return TreeNashTrainer(job=job, **shared)


def _branches(example: Example) -> bool:
    """Whether there is anything beside the path to the last reply that it could see and must not."""
    last = next(place for place, one in enumerate(example.segments) if one.node == example.replies[-1])
    on_path, place = 0, example.segments[last].parent
    while place is not None:
        on_path, place = on_path + 1, example.segments[place].parent
    return on_path < last


def _longest(example: Example) -> int:
    """Tokens of the longest conversation in an example."""
    down_to: list[int] = []
    for segment in example.segments:
        down_to.append(len(segment.ids) + (0 if segment.parent is None else down_to[segment.parent]))
    return max(down_to)
