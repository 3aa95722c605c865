from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from interalign.conversations.preferences import PreferenceConfig, preferences
from interalign.conversations.tree import Tree
from interalign.personas.persona import Persona
from interalign.training import tree_trainer, trl_trainer
from interalign.training.loop import WatchedTrainer
from interalign.training.train import DpoConfig, Job, SftConfig, TrainConfig, load_trainable, train
from interalign.training.tree_trainer import collate
from tests.training.tiny import SYSTEM


def make_job(method: Any, trees: list[Tree], config: TrainConfig, start: str, out: Path) -> Job:
    preference = PreferenceConfig()
    return Job(
        method=method,
        trees=tuple(trees),
        pairs=preferences(trees, preference) if method == "dpo" else (),
        preference=preference,
        system=SYSTEM,
        start=start,
        out=out,
        config=config,
        seed=1,
    )


def both(job: Job) -> tuple[WatchedTrainer, WatchedTrainer]:
    """The trainers of both backends, each with a model of its own."""
    tree = tree_trainer.make_trainer(job, *load_trainable(job))
    trl = trl_trainer.make_trainer(job, *load_trainable(job))
    assert isinstance(tree, WatchedTrainer)
    return tree, trl


def all_rows(trainer: WatchedTrainer) -> dict[str, torch.Tensor]:
    data: Any = trainer.train_dataset
    batch: dict[str, torch.Tensor] = trainer.data_collator([data[index] for index in range(len(data))])
    return batch


def loss_and_gradient(trainer: WatchedTrainer) -> tuple[float, torch.Tensor]:
    model: Any = trainer.model
    model.train()
    model.zero_grad()
    loss = trainer.compute_loss(model, all_rows(trainer))
    loss.backward()
    named = sorted((name, weight.grad) for name, weight in model.named_parameters() if weight.requires_grad)
    return loss.item(), torch.cat([grad.flatten() for _, grad in named])


def assert_same(one: torch.Tensor, other: torch.Tensor) -> None:
    assert other.norm() > 0
    assert (one - other).norm() <= 1e-3 * other.norm()


def test_dpo_starts_at_ln_2_with_the_same_gradient(
    trees: list[Tree], config: TrainConfig, tuned: Path, tmp_path: Path
) -> None:
    tree, trl = (loss_and_gradient(one) for one in both(make_job("dpo", trees[:1], config, str(tuned), tmp_path / "a")))
    assert (tree[0], trl[0]) == pytest.approx((math.log(2), math.log(2)), rel=1e-5)
    assert_same(tree[1], trl[1])


def test_the_reference_is_the_checkpoint_dpo_starts_from(
    trees: list[Tree], config: TrainConfig, tuned: Path, tmp_path: Path
) -> None:
    job = make_job("dpo", trees, config, str(tuned), tmp_path / "a")
    tree, trl = both(job)
    examples: Any = tree.train_dataset
    ours = [
        (one.reference[one.replies.index(chosen)], one.reference[one.replies.index(rejected)])
        for one in examples
        for chosen, rejected in one.pairs
    ]
    rows: Any = trl.train_dataset
    theirs = list(zip(rows["ref_chosen_logps"], rows["ref_rejected_logps"], strict=True))
    torch.testing.assert_close(torch.tensor(theirs), torch.tensor(ours), atol=1e-2, rtol=1e-5)
    fresh, _ = both(make_job("dpo", trees, config, config.base, tmp_path / "b"))
    of_base: Any = fresh.train_dataset
    assert abs(of_base[0].reference[0] - examples[0].reference[0]) > 1
    assert set(trl.model.peft_config) == {"default"}  # type: ignore[union-attr]


def test_dpo_is_the_same_away_from_the_reference(
    trees: list[Tree], config: TrainConfig, tuned: Path, tmp_path: Path
) -> None:
    weighted = config.model_copy(update={"dpo": DpoConfig(beta=0.05)})
    trainers = both(make_job("dpo", trees[1:2], weighted, str(tuned), tmp_path / "a"))
    results = []
    for trainer in trainers:
        with torch.no_grad():
            for name, weight in trainer.model.named_parameters():  # type: ignore[union-attr]
                if "lora_B" in name:
                    weight.mul_(1.5)
        results.append(loss_and_gradient(trainer))
    tree, trl = results
    assert tree[0] == pytest.approx(trl[0], rel=1e-3)
    assert abs(tree[0] - math.log(2)) > 1e-2
    assert_same(tree[1], trl[1])


def test_sft_is_the_same(trees: list[Tree], config: TrainConfig, tuned: Path, tmp_path: Path) -> None:
    tree, trl = (loss_and_gradient(one) for one in both(make_job("sft", trees[:1], config, str(tuned), tmp_path / "a")))
    assert tree[0] == pytest.approx(trl[0], rel=1e-4)
    assert_same(tree[1], trl[1])


def test_sft_of_one_row_is_its_mean_over_tokens(
    trees: list[Tree], config: TrainConfig, tuned: Path, tmp_path: Path
) -> None:
    job = make_job("sft", trees[:1], config, str(tuned), tmp_path / "a")
    tree, trl = both(job)
    examples: Any = tree.train_dataset
    rows: Any = trl.train_dataset
    for index, reply in enumerate(examples[0].replies):
        one = tree_trainer.Example(0, examples[0].segments, (reply,))
        with torch.no_grad():
            packed = tree.compute_loss(tree.model, collate([one]))
            row = trl.compute_loss(trl.model, trl.data_collator([rows[index]]))
        assert packed.item() == pytest.approx(row.item(), rel=1e-4)


def test_rows_are_the_replies_after_the_branch_that_was_taken(
    trees: list[Tree], config: TrainConfig, tmp_path: Path
) -> None:
    job = make_job("sft", trees, config, config.base, tmp_path / "a")
    places = [(tree, reply) for number, tree in enumerate(trees) for reply in job.replies(number)]
    for row, (tree, reply) in zip(trl_trainer.rows(job), places, strict=True):
        *before, last = [{"role": "system", "content": SYSTEM}, *(one.model_dump() for one in tree.chat(reply))]
        assert row == {"prompt": before, "completion": [last]}


def test_long_pairs_are_neither_dropped_nor_cut(trees: list[Tree], config: TrainConfig, tmp_path: Path) -> None:
    long = "Tell me more. " * 200
    nodes = tuple(
        node.model_copy(update={"content": long + node.content}) if node.role == "user" else node
        for node in trees[0].nodes
        if node.parent in (None, 0)
    )
    first_turn = Tree(persona_id=trees[0].persona_id, seed=0, nodes=nodes)
    job = make_job("dpo", [first_turn], config, config.base, tmp_path / "a")
    trainer = trl_trainer.make_trainer(job, *load_trainable(job))
    rows: Any = trainer.train_dataset
    assert len(rows) == len(job.pairs) > 0
    assert min(len(ids) for ids in rows["prompt_ids"]) > 1024
    longest = max(len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in rows)
    assert all_rows(trainer)["input_ids"].shape[1] >= longest


def test_a_step_sees_about_as_many_rows_as_its_trees_hold(
    trees: list[Tree], config: TrainConfig, tmp_path: Path
) -> None:
    two = config.model_copy(update={"sft": SftConfig(trees_per_step=2)})
    job = make_job("sft", trees, two, config.base, tmp_path / "a")
    trainer = trl_trainer.make_trainer(job, *load_trainable(job))
    rows = len(trl_trainer.rows(job))
    assert trainer.args.per_device_train_batch_size == 1
    assert trainer.args.gradient_accumulation_steps == round(2 * rows / len(trees))


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_full_weights_train_as_well(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tmp_path: Path, method: Any
) -> None:
    settings = config.model_copy(
        update={"backend": "trl", "full_weights": True, "dpo": DpoConfig(sft_weight=0.5), "sft": SftConfig()}
    )
    manifest = train(method, trees[:2], people, settings, tmp_path / "a", system=SYSTEM, seed=1)
    assert set(manifest.metrics) == ({"loss"} if method == "sft" else {"loss", "accuracy", "reward_margin"})
    assert (tmp_path / "a/model.safetensors").exists()
