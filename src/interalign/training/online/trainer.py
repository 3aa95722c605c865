"""TRL's GRPO trainer, made to train on conversations.

TRL asks a `rollout_func` for the conversations of a step and takes them as token ids with a mask (`env_mask`) of what
the policy wrote. Its rows carry nothing but a prompt, so the prompt is the number of the case to be played; what that
case earns comes along as extra fields, which the reward functions hand back.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from datasets import Dataset
from trl.distributed import DistributedBackend
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from interalign.errors import InputError, ModelError
from interalign.llm.libraries import quiet, saving
from interalign.training.job import Progress
from interalign.training.loop import WatchedTrainer, last_state, refuse_spoilt, step_of
from interalign.training.online.grpo import OnlineJob, Trained
from interalign.training.online.monitors import SuspicionConfig, figures, suspicious
from interalign.training.online.rewards import Earned, earned
from interalign.training.online.rollout import Draw, Played, Rollout
from interalign.training.online.rows import append_rows, forget_rows_after, rollout_row
from interalign.training.online.sampling import PolicySampler, end_tokens
from interalign.training.online.transcript import ChatTemplate

__all__ = ["run"]

_FIGURES = "online_figures"
"""Under this name the figures of a step reach the reward functions, which may log."""


def run(job: OnlineJob, model: Any, tokenizer: Any, progress: Progress | None) -> Trained:
    """Train `model` in place; see `train_grpo`."""
    ends = end_tokens(model, tokenizer)
    rollout = Rollout(
        ChatTemplate(tokenizer, job.system, ends),
        job.environment,
        turns=job.config.turns,
        seed=job.seed,
        off_the_record=job.config.rewards.induction > 0,
    )
    state = last_state(job.work)
    if int(os.environ.get("RANK", "0")) == 0:
        forget_rows_after(job.rollouts, _rounds_before(state, job))
    with closing(rollout), quiet(), _trl_quiet(), _forward_put_back(model):
        trainer = _make_trainer(job, model, tokenizer, _Stage(job, rollout, ends), progress)
        with saving(job.work):
            trainer.train(resume_from_checkpoint=state)
        # Beside an adapter that is trained on, TRL keeps a copy of it as the reference.
        if "ref" in getattr(model, "peft_config", {}):
            model.delete_adapter("ref")
    refuse_spoilt(model)
    history = [entry for entry in trainer.state.log_history if "reward" in entry]
    metrics = {name: value for name, value in (history[-1] if history else {}).items() if _is_number(value)}
    return Trained(trainer.state.global_step, metrics, suspicious(history, job.config.suspicion))


class _WatchedGrpo(WatchedTrainer, GRPOTrainer):
    """Adds to each log entry what looks like reward hacking, in words."""

    suspicion = SuspicionConfig()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log(logs, start_time)
        warning = suspicious(self.state.log_history, self.suspicion)
        if warning is not None:
            # Trackers have been told by now; they take numbers only.
            entry: dict[str, Any] = self.state.log_history[-1]
            entry["online/warning"] = warning


class _Stage:
    """Plays the cases that TRL asks for, and hands over what came of them."""

    def __init__(self, job: OnlineJob, rollout: Rollout, ends: frozenset[int]) -> None:
        self._job, self._rollout, self._ends = job, rollout, ends

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        """TRL's `rollout_func`: `prompts` are numbers of cases, each already there once for each of its samples."""
        cases = [self._job.cases[int(prompt)] for prompt in prompts]
        with self._drawing(trainer) as draw:
            played = self._rollout.play(cases, draw)
        rewards = earned([one.conversation for one in played], self._job.config.rewards)
        _refuse_unscored(played, rewards)
        self._keep(played, rewards, trainer)
        found = figures([one.conversation for one in played], rewards)
        spent = {f"online/seconds/{what}": seconds for what, seconds in self._rollout.take_seconds().items()}
        return {
            **_fields(played, min(self._ends)),
            **{name: [one.rewards[name] for one in rewards] for name in self._job.config.rewards.weights},
            _FIGURES: {**found, **spent},
        }

    @contextmanager
    def _drawing(self, trainer: Any) -> Iterator[Draw]:
        """The policy as it is now, ready to draw replies."""
        with (
            unwrap_model_for_generation(
                trainer.model_wrapped,
                trainer.accelerator,
                gather_deepspeed3_params=trainer.args.ds3_gather_for_generation,
                gradient_checkpointing_kwargs=trainer.args.gradient_checkpointing_kwargs,
            ) as model,
            _whole(trainer),
        ):
            pad = trainer.processing_class.pad_token_id
            yield PolicySampler(model, self._job.config.sampling, self._ends, pad)

    def _keep(self, played: Sequence[Played], rewards: Sequence[Earned], trainer: Any) -> None:
        per_round = self._job.config.personas_per_step
        mine = [
            rollout_row(one.conversation.case.number // per_round + 1, one.conversation, reward).model_dump_json()
            for one, reward in zip(played, rewards, strict=True)
        ]
        rows = gather_object(mine)
        if trainer.accelerator.is_main_process:
            append_rows(self._job.rollouts, rows)


def _refuse_unscored(played: Sequence[Played], rewards: Sequence[Earned]) -> None:
    """Refuse a step in which nothing can be learnt, in any of the processes."""
    if any(gather_object([any(one.total is not None for one in rewards)])):
        return
    failures = [one.conversation.failure for one in played if one.conversation.failure]
    raise ModelError(
        "No conversation of this step could be scored, so there is nothing to learn from it: "
        f"{failures[0] if failures else 'the judge gave no verdict'}",
        mend="see that user and judge answer; the last state is kept, and the same command goes on from it.",
    )


def _whole(trainer: Any) -> AbstractContextManager[Any]:
    """The policy's weights in one piece, where FSDP has them in several."""
    backend: Any = DistributedBackend(trainer.accelerator)  # type: ignore[no-untyped-call]
    whole: AbstractContextManager[Any] = backend.summon_full_params(trainer.model_wrapped, recurse=False)
    return whole


def _fields(played: Sequence[Played], end: int) -> dict[str, list[list[Any]]]:
    """The tokens as TRL wants them. Where nothing was said there is one token that nothing is learnt from."""
    spoken = [one.transcript if one.transcript.completion else one.transcript.given((end,)) for one in played]
    return {
        "prompt_ids": [list(one.prompt) for one in spoken],
        "completion_ids": [list(one.completion) for one in spoken],
        "logprobs": [list(one.logprobs) for one in spoken],
        "env_mask": [list(one.mask) for one in spoken],
    }


def _reward(name: str, *, tells: bool) -> Callable[..., list[float | None]]:
    """TRL's reward function for one term; one of them logs the figures of the step, since only they may."""

    def reward(**fields: Any) -> list[float | None]:
        if tells:
            for figure, value in fields[_FIGURES][0].items():
                fields["log_metric"](figure, value)
        return list(fields[name])

    reward.__name__ = name
    return reward


def _make_trainer(job: OnlineJob, model: Any, tokenizer: Any, stage: _Stage, progress: Progress | None) -> _WatchedGrpo:
    weights = job.config.rewards.weights
    trainer = _WatchedGrpo(
        progress=progress,
        model=model,
        reward_funcs=[_reward(name, tells=place == 0) for place, name in enumerate(weights)],
        args=_arguments(job),
        train_dataset=Dataset.from_dict({"prompt": [str(case.number) for case in job.cases]}),
        processing_class=tokenizer,
        rollout_func=stage,
    )
    trainer.suspicion = job.config.suspicion
    return trainer


def _arguments(job: OnlineJob) -> GRPOConfig:
    config = job.config
    options: dict[str, Any] = {
        "lr_scheduler_type": "constant",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        # The likelihood of a token is to be the same when it is drawn and when it is trained on.
        "bf16": False,
        "disable_dropout": True,
        "activation_checkpointing": False,
        **config.trl,
        "output_dir": str(job.work),
        "max_steps": config.steps,
        "num_generations": config.generations,
        "learning_rate": config.learning_rate,
        "beta": config.beta,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "max_completion_length": config.turns * config.max_tokens,
        "reward_weights": list(config.rewards.weights.values()),
        # A state in the middle of a round would have it played again, with other weights.
        "save_steps": -(-config.save_every // _iterations(job)) * _iterations(job),
        "seed": job.seed % 2**32,
        "data_seed": job.seed % 2**32,
        "shuffle_dataset": False,
        "remove_unused_columns": False,
    }
    try:
        args = GRPOConfig(**options, **_passes(job))
    except (ValueError, TypeError) as error:
        raise InputError(f"TRL refuses these settings: {error}", mend="correct the table 'trl'.") from error
    if args.world_size != _processes():
        raise InputError(
            f"{_processes()} processes were started that do not find each other; each would train by itself.",
            mend="on machines without GPUs, set use_cpu = true in the table 'trl'.",
        )
    # Several GPUs in one process would have TRL refuse to start; torchrun and accelerate start one process for each.
    args._n_gpu = min(args.n_gpu, 1)
    return args


def _passes(job: OnlineJob) -> dict[str, Any]:
    """How the conversations of a process are split into forward passes: evenly, and groups stay in one process."""
    processes = _processes()
    if job.config.personas_per_step % processes:
        raise InputError(
            f"{job.config.personas_per_step} personas per step cannot be shared by {processes} processes.",
            mend=f"set personas_per_step to a multiple of {processes}.",
        )
    own = job.config.personas_per_step * job.config.generations // processes
    most = min(job.config.conversations_per_pass, own)
    size = next(size for size in range(most, 0, -1) if own % size == 0)
    return {"per_device_train_batch_size": size, "gradient_accumulation_steps": own // size}


def _processes() -> int:
    # As torchrun and accelerate tell it. Asking accelerate would settle how processes talk before TRL's settings are
    # known.
    return int(os.environ.get("WORLD_SIZE", "1"))


def _iterations(job: OnlineJob) -> int:
    return int(job.config.trl.get("num_iterations", 1))


def _rounds_before(state: str | None, job: OnlineJob) -> int:
    return 0 if state is None else step_of(Path(state)) // _iterations(job)


@contextmanager
def _trl_quiet() -> Iterator[None]:
    """Keep TRL from printing conversations that earn nothing in full: they are counted, and stand in the rows."""
    logger = logging.getLogger(GRPOTrainer.__module__)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You are using 'rollout_func'", UserWarning)
            # TRL 1.16 switches activation checkpointing off and on under names that go away in transformers 6.
            warnings.filterwarnings("ignore", ".*gradient_checkpointing.* is deprecated", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _forward_put_back(model: Any) -> Iterator[None]:
    """Undo in the end that TRL replaces the forward method of the very model that it is given."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = base.__dict__.get("forward")
    try:
        yield
    finally:
        if before is not None:
            base.forward = before
        else:
            base.__dict__.pop("forward", None)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
