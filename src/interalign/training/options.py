"""Options of TRL's trainers that a recipe passes through, as `[train.dpo.trl]` and `[train.sft.trl]`.

They are checked before a model is loaded. What interalign settles itself is refused with the key that settles it, so
that no option is ever overruled in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from trl.trainer.dpo_config import DPOConfig
from trl.trainer.sft_config import SFTConfig

from interalign.errors import InputError
from interalign.training.job import Job

__all__ = ["trainer_config", "trl_refusals"]

_SETTLED: Mapping[str, str] = {
    "average_tokens_across_devices": "a step's loss is a mean over all processes",
    "beta": "set beta",
    "data_seed": "set the recipe's seed",
    "do_train": "leave it out",
    "dataloader_pin_memory": "leave it out",
    "disable_tqdm": "leave it out",
    "eval_strategy": "evaluate with `interalign eval`",
    "gradient_checkpointing": "set activation_checkpointing",
    "learning_rate": "set learning_rate",
    "max_length": "set train.max_length",
    "model_init_kwargs": "set train.dtype, train.quantization or train.attention",
    "num_train_epochs": "set epochs",
    "output_dir": "the run folder settles it",
    "per_device_train_batch_size": "set trees_per_step",
    "precompute_ref_log_probs": "the reference is always computed once",
    "push_to_hub": "push the finished checkpoint",
    "remove_unused_columns": "leave it out",
    "report_to": "set train.report_to",
    "resume_from_checkpoint": "the same command resumes",
    "save_only_model": "a state without its optimizer cannot be resumed",
    "save_steps": "set train.save_every",
    "seed": "set the recipe's seed",
    "sync_ref_model": "the reference is the checkpoint that the stage starts from",
    "trust_remote_code": "leave it out: code that comes with a model is not run",
}
"""Option: what to do instead."""

_ROWS_ONLY = frozenset(
    {
        "assistant_only_loss",
        "auto_find_batch_size",
        "completion_only_loss",
        "dataset_kwargs",
        "dataset_num_proc",
        "dataset_text_field",
        "packing",
        "packing_strategy",
        "pad_to_multiple_of",
        "padding_free",
        "router_aux_loss_coef",
        "shuffle_dataset",
        "torch_compile",
        "truncation_mode",
        "use_liger_kernel",
    }
)
"""What has no meaning for packed trees, or cannot be had with them."""


def trainer_config(job: Job, arguments: Mapping[str, Any], *, packed: bool) -> DPOConfig | SFTConfig:
    """TRL's configuration of a job: `arguments`, with what the recipe passes through put over them.

    Raises:
        InputError: TRL has no such option, interalign settles it, it has no meaning here, or TRL refuses its value.
    """
    kind = DPOConfig if job.method == "dpo" else SFTConfig
    table, given = _table(job), job.stage.trl
    known = {field.name for field in fields(kind)}
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            mend = f"did you mean '{near[0]}'?" if near else f"its options are those of TRL's {kind.__name__}."
            raise InputError(f"{table}: TRL has no option {name!r}.", mend=mend)
        if name in _SETTLED:
            raise InputError(f"{table}: {name!r} is settled by interalign.", mend=f"{_SETTLED[name]}.")
        if packed and (name in _ROWS_ONLY or (name == "loss_type" and kind is SFTConfig)):
            raise InputError(
                f"{table}: {name!r} means nothing for packed trees.", mend='leave it out, or set packing = "trl".'
            )
    with trl_refusals(job):
        return kind(**{**arguments, **given})


@contextmanager
def trl_refusals(job: Job) -> Iterator[None]:
    """Within this block, what TRL has against an option becomes an InputError about the recipe's table."""
    try:
        yield
    except (TypeError, ValueError, NotImplementedError) as error:
        if not job.stage.trl:
            raise
        raise InputError(f"{_table(job)}: TRL refuses this: {error}", mend="correct the option.") from error


def _table(job: Job) -> str:
    return f"[train.{'dpo' if job.method == 'dpo' else 'sft'}.trl]"
