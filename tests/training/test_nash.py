from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interalign.conversations.tree import Tree
from interalign.errors import InputError
from interalign.personas.persona import Persona
from interalign.training import tree_trainer
from interalign.training.checkpoint import read_manifest
from interalign.training.job import Nash
from interalign.training.nash import TreeNashTrainer, inpo_loss, mixed_reference
from interalign.training.train import DpoConfig, TrainConfig, train
from interalign.training.weights import load_trainable
from tests.training.conftest import make_job
from tests.training.tiny import SYSTEM

LOGPS = st.lists(st.floats(-50, 0, width=32), min_size=6, max_size=6)


@given(LOGPS, st.floats(0.01, 1), st.floats(0.01, 1))
def test_inpo_is_the_formula_of_the_paper(logps: list[float], eta: float, share: float) -> None:
    tau = share * eta
    policy, before, anchor = (torch.tensor(logps[at : at + 2], dtype=torch.float64)[:, None] for at in (0, 2, 4))
    loss, margins = inpo_loss(policy[0], policy[1], mixed_reference(before, anchor, eta, tau), eta)
    ratios = [(side[0] - side[1]).item() for side in (policy, before, anchor)]
    by_hand = ratios[0] - tau / eta * ratios[2] - (eta - tau) / eta * ratios[1]
    assert margins.item() == pytest.approx(by_hand, rel=1e-6, abs=1e-6)
    assert loss.item() == pytest.approx((by_hand - 1 / (2 * eta)) ** 2, rel=1e-6, abs=1e-6)


def trainer_of(trees: list[Tree], config: TrainConfig, out: Path, start: Path, anchor: Path) -> TreeNashTrainer:
    nash = Nash(anchor=str(anchor), eta=0.5, tau=0.2)
    job = dataclasses.replace(make_job("dpo", trees, config, out, start), nash=nash)
    trainer = tree_trainer.make_trainer(job, *load_trainable(job.start, config))
    assert isinstance(trainer, TreeNashTrainer)
    return trainer


def references(trainer: TreeNashTrainer) -> torch.Tensor:
    data: Any = trainer.train_dataset
    batch: Any = trainer.data_collator([data[index] for index in range(len(data))])
    return torch.cat([sequence["reference"].T for sequence in batch["sequences"]])


def test_the_reference_lies_between_the_policy_and_the_anchor(
    trees: list[Tree], config: TrainConfig, tuned: Path, tmp_path: Path
) -> None:
    base = Path(config.base)
    policy = references(trainer_of(trees[:1], config, tmp_path / "a", tuned, tuned))
    anchor = references(trainer_of(trees[:1], config, tmp_path / "b", base, base))
    mixed = references(trainer_of(trees[:1], config, tmp_path / "c", tuned, base))
    torch.testing.assert_close(mixed, 0.6 * policy + 0.4 * anchor, atol=1e-2, rtol=1e-4)
    # What is kept for a training that is resumed is the mixture.
    again = references(trainer_of(trees[:1], config, tmp_path / "c", tuned, base))
    assert torch.equal(again, mixed)


def test_a_step_towards_the_chosen(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tuned: Path, tmp_path: Path
) -> None:
    nash = Nash(anchor=config.base, eta=0.05, tau=0.02)
    losses: list[float] = []
    manifest = train(
        "dpo",
        trees,
        people,
        config.model_copy(update={"packing": "trl", "dpo": DpoConfig(epochs=4, learning_rate=3e-4)}),
        tmp_path / "a",
        start=str(tuned),
        system=SYSTEM,
        seed=1,
        nash=nash,
        progress=lambda step, total, loss: losses.append(loss),
    )
    assert manifest.method == "inpo"
    assert manifest.settings["packing"] == "tree"
    assert manifest.metrics["accuracy"] > 0.5
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    assert read_manifest(tmp_path / "a") == manifest


def test_the_anchor_counts_for_at_most_the_whole_step() -> None:
    with pytest.raises(ValueError, match="tau is at most eta"):
        Nash(anchor="base", eta=0.1, tau=0.2)


def test_a_missing_anchor_leaves_nothing_behind(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tuned: Path, tmp_path: Path
) -> None:
    anchor = tmp_path / "anchor"
    shutil.copytree(tuned, anchor)
    (anchor / "adapter_model.safetensors").unlink()
    nash = Nash(anchor=str(anchor), eta=0.05, tau=0.02)
    with pytest.raises(InputError, match=r"anchor holds no model weights"):
        train("dpo", trees, people, config, tmp_path / "a", start=str(tuned), system=SYSTEM, seed=1, nash=nash)
    assert not (tmp_path / "a").exists()
