from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from interalign.conversations.tree import Tree
from interalign.errors import TrainingError
from interalign.llm.hardware import pick_device, pick_dtype
from interalign.personas.persona import Persona
from interalign.training import tree_trainer, trl_trainer
from interalign.training.job import Job
from interalign.training.loop import WatchedTrainer
from interalign.training.packing import Example
from interalign.training.tokens import tree_segments
from interalign.training.train import DpoConfig, SftConfig, TrainConfig, train
from interalign.training.tree_trainer import collate
from interalign.training.weights import load_trainable
from tests.training.conftest import away_from_the_reference, make_job
from tests.training.test_tokens import INST, THINKING, UNOPENED
from tests.training.tiny import SYSTEM


def both(job: Job) -> tuple[WatchedTrainer, WatchedTrainer]:
    """The trainers of both backends, each with a model of its own."""
    job = dataclasses.replace(job, config=job.config.model_copy(update={"max_tokens": 100_000}))
    trainers: list[WatchedTrainer] = []
    for module in (tree_trainer, trl_trainer):
        # New adapters begin alike.
        transformers.set_seed(1)
        trainers.append(module.make_trainer(job, *load_trainable(job.start, job.config)))
    return trainers[0], trainers[1]


def whole_batch(trainer: WatchedTrainer) -> dict[str, torch.Tensor]:
    """All that a trainer learns from, as one sequence or one batch of rows."""
    data: Any = trainer.train_dataset
    batch: Any = trainer.data_collator([data[index] for index in range(len(data))])
    if "sequences" not in batch:
        return dict(batch)
    (sequence,) = batch["sequences"]
    return dict(sequence)


def references(trainer: WatchedTrainer) -> torch.Tensor:
    """The reference's log-probabilities of all pairs, tree by tree: (pairs, 2)."""
    data: Any = trainer.train_dataset
    batches: Any = [trainer.data_collator([row]) for row in data]
    return torch.cat([sequence["reference"].T for batch in batches for sequence in batch["sequences"]])


def loss_and_gradient(trainer: WatchedTrainer) -> tuple[float, torch.Tensor]:
    model: Any = trainer.model
    model.train()
    model.zero_grad()
    loss = trainer.compute_loss(model, whole_batch(trainer))
    loss.backward()
    named = sorted((name, weight.grad) for name, weight in model.named_parameters() if weight.requires_grad)
    return loss.item(), torch.cat([grad.flatten() for _, grad in named])


def assert_same(one: torch.Tensor, other: torch.Tensor) -> None:
    assert other.norm() > 0
    assert (one - other).norm() <= 1e-3 * other.norm()


def test_dpo_starts_at_ln_2_with_the_same_gradient(
    trees: list[Tree], config: TrainConfig, tuned: Path, tmp_path: Path
) -> None:
    tree, trl = (loss_and_gradient(one) for one in both(make_job("dpo", trees[:1], config, tmp_path / "a", tuned)))
    assert (tree[0], trl[0]) == pytest.approx((math.log(2), math.log(2)), rel=1e-5)
    assert_same(tree[1], trl[1])


def test_the_reference_is_the_checkpoint_dpo_starts_from(
    trees: list[Tree], config: TrainConfig, tuned: Path, tmp_path: Path
) -> None:
    job = make_job("dpo", trees, config, tmp_path / "a", tuned)
    tree, trl = both(job)
    ours = references(tree)
    rows: Any = trl.train_dataset
    theirs = list(zip(rows["ref_chosen_logps"], rows["ref_rejected_logps"], strict=True))
    torch.testing.assert_close(torch.tensor(theirs), ours, atol=1e-2, rtol=1e-5)
    fresh, _ = both(make_job("dpo", trees, config, tmp_path / "b"))
    assert (references(fresh) - ours).abs().min() > 0.1
    assert all(set(one.model.peft_config) == {"default"} for one in (tree, trl))  # type: ignore[union-attr]


LOSSES: list[dict[str, Any]] = [
    {},
    {"loss_type": ["ipo"]},
    {"loss_type": ["aot"]},
    {"loss_type": ["robust"], "label_smoothing": 0.1},
    {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0]},
    {"f_divergence_type": "js_divergence"},
    {"ld_alpha": 0.5},
    {"use_weighting": True},
]
FURTHER_LOSSES: list[dict[str, Any]] = [
    *({"loss_type": [one]} for one in ("hinge", "nca_pair", "bco_pair", "sppo_hard", "aot_unpaired", "apo_zero")),
    *({"loss_type": [one]} for one in ("apo_down", "discopop", "sft", "sigmoid_norm")),
    {"loss_type": ["exo_pair"], "label_smoothing": 0.1},
]


@pytest.mark.parametrize(
    "options", [*LOSSES, *(pytest.param(one, marks=pytest.mark.slow) for one in FURTHER_LOSSES)], ids=str
)
def test_every_preference_loss_of_trl_is_the_same_on_packed_trees(
    trees: list[Tree], config: TrainConfig, tuned: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    weighted = config.model_copy(update={"dpo": DpoConfig(beta=0.05, trl=options)})
    job = make_job("dpo", trees[1:2], weighted, tmp_path / "a", tuned)
    tree, trl = (loss_and_gradient(away_from_the_reference(trainer)) for trainer in both(job))
    assert tree[0] == pytest.approx(trl[0], rel=1e-3)
    assert abs(tree[0] - math.log(2)) > 1e-3
    assert_same(tree[1], trl[1])


def test_the_metrics_are_those_of_trl(trees: list[Tree], config: TrainConfig, tuned: Path, tmp_path: Path) -> None:
    logged = []
    for trainer in both(make_job("dpo", trees[:1], config, tmp_path / "a", tuned)):
        loss_and_gradient(away_from_the_reference(trainer))
        metrics: Any = trainer
        logged.append({name: sum(one) / len(one) for name, one in metrics._metrics["train"].items()})
    tree, trl = logged
    assert tree.keys() == trl.keys() >= {"entropy", "rewards/margins", "mean_token_accuracy", "logits/chosen"}
    # Packing is about this number.
    assert tree.pop("num_tokens") < trl.pop("num_tokens") / 2
    assert tree == pytest.approx(trl, rel=1e-3, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_the_loss_curves_of_both_coincide(trees: list[Tree], config: TrainConfig, tmp_path: Path, method: Any) -> None:
    # A step holds all trees, so that both see the same in the same order.
    stage = {"epochs": 50, "learning_rate": 2e-3, "trees_per_step": 2}
    settings = config.model_copy(update={"sft": SftConfig(**stage), "dpo": DpoConfig(**stage), "save_every": 1000})
    curves = []
    for trainer in both(make_job(method, trees[:2], settings, tmp_path / "a")):
        trainer.train()
        curves.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    tree, trl = curves
    assert len(tree) == len(trl) == 50
    assert tree[-1] < 0.8 * tree[0]
    assert tree == pytest.approx(trl, rel=0.01)


def test_sft_is_the_same(trees: list[Tree], config: TrainConfig, tuned: Path, tmp_path: Path) -> None:
    tree, trl = (loss_and_gradient(one) for one in both(make_job("sft", trees[:1], config, tmp_path / "a", tuned)))
    assert tree[0] == pytest.approx(trl[0], rel=1e-4)
    assert_same(tree[1], trl[1])


def test_sft_of_one_row_is_its_mean_over_tokens(
    trees: list[Tree], config: TrainConfig, tuned: Path, tmp_path: Path
) -> None:
    job = make_job("sft", trees[:1], config, tmp_path / "a", tuned)
    tree, trl = both(job)
    segments = tuple(tree_segments(trees[0], range(len(trees[0].nodes)), SYSTEM, trl.processing_class))
    rows: Any = trl.train_dataset
    for index, reply in enumerate(job.lessons[0].replies):
        with torch.no_grad():
            packed = tree.compute_loss(tree.model, collate([Example(0, segments, (reply,))]))
            row = trl.compute_loss(trl.model, trl.data_collator([rows[index]]))
        assert packed.item() == pytest.approx(row.item(), rel=1e-4)


def test_rows_are_the_replies_after_the_branch_that_was_taken(
    trees: list[Tree], config: TrainConfig, tokenizer: Any, tmp_path: Path
) -> None:
    job = make_job("sft", trees, config, tmp_path / "a")
    places = [(job.trees[lesson.tree], reply) for lesson in job.lessons for reply in lesson.replies]
    found, too_long = trl_trainer.rows(job, tokenizer, 10_000)
    assert too_long == 0
    for row, (tree, reply) in zip(found, places, strict=True):
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
    job = make_job("dpo", [first_turn], config, tmp_path / "a")
    trainer = trl_trainer.make_trainer(job, *load_trainable(job.start, job.config))
    rows: Any = trainer.train_dataset
    assert len(rows) == len(job.lessons[0].pairs) > 0
    assert min(len(ids) for ids in rows["prompt_ids"]) > 1024
    longest = max(len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in rows)
    assert whole_batch(trainer)["input_ids"].shape[1] >= longest


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_what_is_too_long_is_left_out_of_both_alike(
    trees: list[Tree], config: TrainConfig, tmp_path: Path, method: Any
) -> None:
    whole = make_job(method, trees, config, tmp_path / "a")
    told: list[str] = []
    short = dataclasses.replace(whole, config=config.model_copy(update={"max_length": 400}), notice=told.append)
    tree, trl = both(short)
    sequence, rows = whole_batch(tree), trl.train_dataset
    learnt = len(sequence["chosen"]) if method == "dpo" else int(sequence["replies"])
    possible = sum(len(lesson.pairs if method == "dpo" else lesson.replies) for lesson in whole.lessons)
    assert 0 < learnt == len(rows) < possible  # type: ignore[arg-type]
    what = "pairs" if method == "dpo" else "replies"
    assert told == [f"{what} left out: {possible - learnt} longer than the model reads"] * 2
    assert int(sequence["positions"].max()) < 400


def test_nothing_is_short_enough(trees: list[Tree], config: TrainConfig, tmp_path: Path) -> None:
    job = make_job("dpo", trees, config.model_copy(update={"max_length": 40}), tmp_path / "a")
    for module in (tree_trainer, trl_trainer):
        with pytest.raises(TrainingError, match=r"every conversation is longer.*max_length"):
            module.make_trainer(job, *load_trainable(job.start, job.config))


@pytest.mark.parametrize(("template", "says"), [(UNOPENED, "no generation prompt"), (THINKING, None), (INST, None)])
def test_openings_are_not_trained_on(
    trees: list[Tree], config: TrainConfig, tokenizer: Any, tmp_path: Path, template: str, says: str | None
) -> None:
    other = copy.deepcopy(tokenizer)
    other.chat_template = template
    job = make_job("sft", trees[:1], config, tmp_path / "a")
    with pytest.raises(TrainingError, match=says) if says else contextlib.nullcontext():
        trl_trainer.rows(job, other, 10_000)


def test_a_step_sees_about_as_many_rows_as_its_trees_hold(
    trees: list[Tree], config: TrainConfig, tmp_path: Path
) -> None:
    two = config.model_copy(update={"sft": SftConfig(trees_per_step=2)})
    job = make_job("sft", trees, two, tmp_path / "a")
    trainer = trl_trainer.make_trainer(job, *load_trainable(job.start, job.config))
    rows = sum(len(lesson.replies) for lesson in job.lessons)
    assert trainer.args.per_device_train_batch_size == 1
    assert trainer.args.gradient_accumulation_steps == round(2 * rows / len(trees))


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_full_weights_train_as_well(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tmp_path: Path, method: Any
) -> None:
    settings = config.model_copy(
        update={"packing": "trl", "full_weights": True, "dpo": DpoConfig(sft_weight=0.5), "sft": SftConfig()}
    )
    manifest = train(method, trees[:2], people, settings, tmp_path / "a", system=SYSTEM, seed=1)
    assert set(manifest.metrics) == ({"loss"} if method == "sft" else {"loss", "accuracy", "reward_margin"})
    assert (tmp_path / "a/model.safetensors").exists()


@pytest.mark.parametrize("full", [True, False])
def test_weights_in_float32_are_multiplied_in_bfloat16_where_hardware_is_fast_at_it(
    trees: list[Tree], config: TrainConfig, tmp_path: Path, full: bool
) -> None:
    settings = config.model_copy(update={"packing": "trl", "full_weights": full, "dtype": "auto"})
    job = make_job("sft", trees[:1], settings, tmp_path)
    trainer = trl_trainer.make_trainer(job, *load_trainable(job.start, settings))
    assert trainer.args.bf16 is (full and pick_dtype(pick_device()) == torch.bfloat16)
    # What says so itself is not contradicted.
    spread = settings.model_copy(update={"sft": SftConfig(trl={"fp16": True, "use_cpu": True})})
    job = make_job("sft", trees[:1], spread, tmp_path)
    assert trl_trainer.make_trainer(job, *load_trainable(job.start, settings)).args.bf16 is False
