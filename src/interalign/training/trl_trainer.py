"""Training row by row with TRL's trainers: the reference that tree packing is measured against.

Every row is one reply after its own conversation, or one pair of replies. An optimizer step sees rows one at a time and
adds up their gradients: as many as `trees_per_step` trees hold on average, drawn from all trees instead of from whole
ones. That is the one difference to packed trees, and for losses that look at several pairs at once a second: they see
one here, and those of a sequence there; the likelihood of the chosen replies (`sft_weight`) is a mean over pairs here
and over tokens there.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset, load_from_disk
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_trainer import SFTTrainer

from interalign.llm.hardware import pick_device, pick_dtype
from interalign.llm.libraries import quiet, saving
from interalign.messages import Chat, Message, as_dicts
from interalign.training import processes
from interalign.training.job import Job, Progress, context_length, fitting, refuse_too_long
from interalign.training.loop import WatchedTrainer, has_own_precision, shared_arguments
from interalign.training.options import trainer_config, trl_refusals
from interalign.training.tokens import refuse_unopened, rendered_length

__all__ = ["make_trainer", "rows"]


class _WatchedSft(WatchedTrainer, SFTTrainer):
    pass


class _WatchedDpo(WatchedTrainer, DPOTrainer):
    pass


def make_trainer(job: Job, model: Any, tokenizer: Any, progress: Progress | None = None) -> WatchedTrainer:
    """TRL's trainer for a job, ready to train.

    Raises:
        InputError: an option that the recipe passes through is wrong.
        TrainingError: nothing is left to train on.
    """
    with quiet():
        data, too_long = rows(job, tokenizer, context_length(job, model))
        refuse_too_long(job, too_long, nothing_left=not data)
        per_step = max(1, round(job.stage.trees_per_step * len(data) / (len(job.lessons) + len(job.chats))))
        arguments = {
            **shared_arguments(job),
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": per_step,
            **_precision(job),
            **(_likelihood_beside(job) if job.method == "dpo" else {"completion_only_loss": True}),
        }
        config = trainer_config(job, arguments, packed=False)
        shared = {
            "progress": progress,
            "model": model,
            "args": config,
            "train_dataset": _dataset(data, job),
            "processing_class": tokenizer,
        }
        with trl_refusals(job.method, job.config):
            if job.method != "dpo":
                return _WatchedSft(**shared)
            trainer = _WatchedDpo(**shared)
        # Beside an adapter that is trained on, TRL keeps a copy of it as the reference. The reference's
        # log-probabilities are known by now, and the copy would be saved with every state and with the checkpoint.
        if "ref" in getattr(model, "peft_config", {}):
            model.delete_adapter("ref")
        return trainer


def _precision(job: Job) -> dict[str, Any]:
    """The options that compute with float32 weights as packed trees do; adapters stand on frozen weights as it is."""
    device = pick_device()
    if has_own_precision(job) or not job.config.full_weights or pick_dtype(device, job.config.dtype) != torch.bfloat16:
        return {}
    return {"bf16": True, "use_cpu": device == "cpu"}


def _likelihood_beside(job: Job) -> dict[str, Any]:
    weight = job.config.dpo.sft_weight
    return {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, weight]} if weight else {"loss_type": ["sigmoid"]}


def _dataset(data: list[dict[str, Any]], job: Job) -> Dataset:
    """The rows, where all processes find what TRL computes from them: that lies beside the file that they are in."""
    if processes.count() == 1:
        return Dataset.from_list(data)
    folder = job.work / "rows"
    if processes.is_first() and not folder.exists():
        with saving(folder), TemporaryDirectory(dir=job.work) as beside:
            Dataset.from_list(data).save_to_disk(Path(beside) / "rows")
            os.replace(Path(beside) / "rows", folder)
    processes.meet()
    return load_from_disk(folder)


def rows(job: Job, tokenizer: Any, limit: int) -> tuple[list[dict[str, Any]], int]:
    """The job's data in TRL's conversational formats, and how many rows are left out as longer than `limit`.

    A row is `prompt` and `completion`, or `prompt`, `chosen` and `rejected`.

    Raises:
        TrainingError: the chat template refuses a conversation, or would have the opening of a reply trained on.
    """
    opening: Chat = (Message(role="system", content=job.system),)
    found: list[dict[str, Any]] = []
    too_long = 0
    for lesson in job.lessons:
        tree = job.trees[lesson.tree]
        chats = {reply: (*opening, *tree.chat(reply)) for reply in lesson.replies}
        refuse_unopened(chats[lesson.replies[0]], tokenizer)
        lengths = {reply: rendered_length(chat, tokenizer) for reply, chat in chats.items()}
        kept, left_out = fitting(lesson, lengths.__getitem__, limit)
        too_long += left_out
        for chosen, rejected in kept.pairs:
            before, better = _apart(chats[chosen])
            found.append({"prompt": before, "chosen": better, "rejected": _apart(chats[rejected])[1]})
        if not lesson.pairs:
            found += [_completed(chats[reply]) for reply in kept.replies]
    for chat in job.chats:
        if rendered_length(chat, tokenizer) > limit:
            too_long += 1
            continue
        ends = [place for place, message in enumerate(chat, 1) if message.role == "assistant"]
        found += [_completed(chat[:end]) for end in ends]
    return found, too_long


def _completed(chat: Chat) -> dict[str, Any]:
    prompt, completion = _apart(chat)
    return {"prompt": prompt, "completion": completion}


def _apart(chat: Chat) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """A chat without its last message, and that one."""
    return as_dicts(chat[:-1]), as_dicts(chat[-1:])
