from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interalign.training.job import Job
from interalign.training.loop import has_own_precision, last_state
from interalign.training.train import SftConfig, TrainConfig


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(
        method="sft",
        trees=(),
        lessons=(),
        system="",
        start="",
        out=tmp_path / "out",
        config=TrainConfig(),
        seed=0,
    )


def state(job: Job, step: int, trainer_state: str | None) -> Path:
    folder = job.work / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "optimizer.pt").write_bytes(b"")
    if trainer_state is not None:
        (folder / "trainer_state.json").write_text(trainer_state)
    return folder


def test_no_state(job: Job) -> None:
    assert last_state(job.work) is None


def test_the_newest_whole_state_is_found_and_cut_ones_go(job: Job) -> None:
    state(job, 2, "{}")
    whole = state(job, 10, "{}")
    cut = [state(job, 12, None), state(job, 14, "")]
    assert last_state(job.work) == str(whole)
    assert not any(folder.exists() for folder in cut)
    assert (job.work / "checkpoint-2").exists()


def test_only_cut_states(job: Job) -> None:
    state(job, 2, '{"global')
    assert last_state(job.work) is None


@pytest.mark.parametrize(
    ("given", "own"),
    [
        ({}, False),
        ({"optim": "adamw_torch"}, False),
        ({"fp16": False}, False),
        ({"fp16": True}, True),
        ({"bf16": True}, True),
        # Whoever says no to bfloat16 has settled it, too.
        ({"bf16": False}, True),
        ({"fsdp": "full_shard"}, True),
        ({"deepspeed": {"zero_optimization": {"stage": 3}}}, True),
    ],
)
def test_a_recipe_that_settles_precision_itself_is_left_alone(job: Job, given: dict[str, Any], own: bool) -> None:
    assert has_own_precision(replace(job, config=TrainConfig(sft=SftConfig(trl=given)))) is own
