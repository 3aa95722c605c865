"""Options of TRL's trainers that a recipe passes through, as `[train.dpo.trl]` and `[train.sft.trl]`.

They are checked before a model is loaded. What interalign settles itself is refused with the key that settles it, and
so is what would change nothing, so that no option is overruled or ignored in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields
from difflib import get_close_matches
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from trl.trainer.dpo_config import DPOConfig
from trl.trainer.sft_config import SFTConfig

from interalign.errors import InputError
from interalign.llm.libraries import quiet
from interalign.training.job import Job, Method

if TYPE_CHECKING:
    from interalign.training.train import TrainConfig

__all__ = ["check_options", "check_report_to", "trainer_config", "trl_refusals"]

_SETTLED: Mapping[str, str] = {
    "average_tokens_across_devices": "a step's loss is a mean over all processes",
    "beta": "set beta",
    "data_seed": "set the recipe's seed",
    "do_train": "leave it out",
    "dataloader_pin_memory": "leave it out",
    "gradient_accumulation_steps": "set trees_per_step",
    "label_smoothing_factor": "set label_smoothing with the losses robust, exo_pair or aot",
    "max_steps": "set epochs",
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
    "ref_model_mixup_alpha": "the reference is the checkpoint that the stage starts from",
    "ref_model_sync_steps": "the reference is the checkpoint that the stage starts from",
    "save_only_model": "a state without its optimizer cannot be resumed",
    "save_steps": "set train.save_every",
    "save_strategy": "set train.save_every",
    "seed": "set the recipe's seed",
    "sync_ref_model": "the reference is the checkpoint that the stage starts from",
    "trust_remote_code": "leave it out: code that comes with a model is not run",
}
"""Option: what to do instead."""

_ROWS_ONLY = frozenset(
    {
        "activation_offloading",
        "assistant_only_loss",
        "auto_find_batch_size",
        "chat_template_path",
        "completion_only_loss",
        "dataset_kwargs",
        "dataset_num_proc",
        "dataset_text_field",
        "eos_token",
        "eval_packing",
        "packing",
        "packing_strategy",
        "pad_to_multiple_of",
        "pad_token",
        "padding_free",
        "precompute_ref_batch_size",
        "router_aux_loss_coef",
        "shuffle_dataset",
        "torch_compile",
        "truncation_mode",
        "use_liger_kernel",
    }
)
"""What has no meaning for packed trees, or cannot be had with them."""


_LOSS = frozenset(
    {
        "discopop_tau",
        "f_alpha_divergence_coef",
        "f_divergence_type",
        "label_smoothing",
        "ld_alpha",
        "loss_type",
        "loss_weights",
        "use_weighting",
    }
)
"""Options of the preference loss."""
_SMOOTHED = frozenset({"robust", "exo_pair", "aot", "aot_unpaired"})


def trainer_config(job: Job, arguments: Mapping[str, Any], *, packed: bool) -> DPOConfig | SFTConfig:
    """TRL's configuration of a job: `arguments`, with what the recipe passes through put over them.

    Raises:
        InputError: as `check_options`.
    """
    check_options(job.method, job.config, packed=packed, by_inpo=job.nash is not None)
    kind = DPOConfig if job.method == "dpo" else SFTConfig
    with trl_refusals(job.method, job.config):
        # transformers changes tables of options in place.
        config = kind(**{**arguments, **deepcopy(job.stage.trl)})
    # Several GPUs in one process would make Trainer split each batch among threads, which a packed tree does not bear;
    # torchrun and accelerate start one process for each.
    config._n_gpu = min(config.n_gpu, 1)
    return config


def check_options(method: Method, config: TrainConfig, *, packed: bool, by_inpo: bool = False) -> None:
    """Refuse options that cannot be meant, before anything is loaded.

    Raises:
        InputError: TRL has no such option, interalign settles it, it has no meaning here, or TRL refuses its value;
            or metrics are to go where they cannot.
    """
    check_report_to(config.report_to)
    kind = DPOConfig if method == "dpo" else SFTConfig
    table, given = _table(method), config.stage(method).trl
    _refuse_unknown(kind, table, given, packed=packed)
    if method == "dpo":
        _refuse_loss(table, given, weighted=config.dpo.sft_weight > 0, by_inpo=by_inpo)
    with trl_refusals(method, config), quiet(), TemporaryDirectory() as folder:
        # Of what TRL does by default, not all can be had on every machine.
        kind(**{"output_dir": folder, "bf16": False, "activation_checkpointing": False, **deepcopy(given)})


def check_report_to(names: Sequence[str]) -> None:
    """Refuse to report to what transformers does not know, or whose package is missing; raises InputError."""
    from transformers.integrations.integration_utils import (
        INTEGRATION_TO_CALLBACK,
        get_available_reporting_integrations,
    )

    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            near = get_close_matches(name, INTEGRATION_TO_CALLBACK, n=1)
            mend = (
                f"did you mean '{near[0]}'?" if near else f"use one of: {', '.join(sorted(INTEGRATION_TO_CALLBACK))}."
            )
            raise InputError(f"train.report_to: transformers knows no {name!r}.", mend=mend)
        if name not in get_available_reporting_integrations():  # type: ignore[no-untyped-call]
            raise InputError(f"train.report_to: the package for {name!r} is not installed.", mend=f"pip install {name}")


def _refuse_loss(table: str, given: Mapping[str, Any], *, weighted: bool, by_inpo: bool) -> None:
    """Refuse options of the loss that would change nothing, or overrule one another."""
    named = sorted(_LOSS & given.keys())
    if by_inpo and named:
        raise InputError(f"{table}: {named[0]!r} means nothing to INPO and COMAL.", mend="leave it out.")
    if weighted and {"loss_type", "loss_weights"} & given.keys():
        raise InputError(
            f"{table}: loss_type and loss_weights say what train.dpo.sft_weight says, too.",
            mend='leave sft_weight out, or name "sft" among the losses.',
        )
    losses = given.get("loss_type", ["sigmoid"])
    if given.get("label_smoothing") and _SMOOTHED.isdisjoint([losses] if isinstance(losses, str) else losses):
        raise InputError(
            f"{table}: 'label_smoothing' changes nothing in the loss {losses}.",
            mend=f"set loss_type to one of: {', '.join(sorted(_SMOOTHED))}.",
        )


def _refuse_unknown(
    kind: type[DPOConfig] | type[SFTConfig], table: str, given: Mapping[str, Any], *, packed: bool
) -> None:
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


@contextmanager
def trl_refusals(method: Method, config: TrainConfig) -> Iterator[None]:
    """Within this block, what TRL has against an option becomes an InputError about the recipe's table."""
    try:
        yield
    except (TypeError, ValueError, NotImplementedError) as error:
        if not config.stage(method).trl:
            raise
        raise InputError(f"{_table(method)}: TRL refuses this: {error}", mend="correct the option.") from error


def _table(method: Method) -> str:
    return f"[train.{'sft' if method == 'sft-rejected' else method}.trl]"
