from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from interalign.conversations.tree import Tree
from interalign.errors import InputError
from interalign.messages import Message
from interalign.personas.persona import Persona
from interalign.training import tree_trainer
from interalign.training.attention import attention_of
from interalign.training.checkpoint import read_manifest
from interalign.training.packable import Unpackable
from interalign.training.packing import Example
from interalign.training.tokens import tree_segments
from interalign.training.train import DpoConfig, SftConfig, TrainConfig, train
from interalign.training.tree_trainer import collate, refuse_unpackable
from interalign.training.weights import load_trainable
from tests.training.conftest import away_from_the_reference, make_job
from tests.training.tiny import SYSTEM


@pytest.fixture
def example(trees: list[Tree], tokenizer: Any) -> Example:
    tree = trees[0]
    segments = tree_segments(tree, range(len(tree.nodes)), SYSTEM, tokenizer)
    replies = tuple(index for index, node in enumerate(tree.nodes) if node.role == "assistant")
    return Example(7, tuple(segments), replies, pairs=((replies[0], replies[1]),), reference=((0.5, 0.25),))


def test_a_batch_points_at_its_replies(example: Example) -> None:
    pair = (example.replies[1], example.replies[0])
    other = Example(9, example.segments, example.replies[:2], (pair,), ((1.0, 2.0),))
    batch = collate([example, other])
    count = len(example.replies)
    assert batch["chosen"].tolist() == [0, count + 1]
    assert batch["rejected"].tolist() == [1, count]
    assert batch["reference"].tolist() == [[0.5, 1.0], [0.25, 2.0]]
    assert batch["weights"].tolist() == [2, sum((batch["reply"] == one).sum().item() for one in (0, count + 1))]
    assert batch["replies"].item() == count + 2
    length = batch["input_ids"].shape[1]
    assert batch["segment"].shape == (length,)
    assert batch["positions"].shape == (1, length)
    assert batch["sees"].shape == (len(example.segments) * 2,) * 2
    for which in range(count + 2):
        offsets = batch["offset"][batch["reply"] == which].tolist()
        assert offsets == list(range(len(offsets)))


def test_without_pairs_tokens_are_counted(example: Example) -> None:
    batch = collate([dataclasses.replace(example, pairs=(), reference=())])
    assert batch["weights"].tolist() == [len(batch["targets"]), 0]
    assert batch["chosen"].shape == batch["rejected"].shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_keeps_to_the_mask_is_taken(base: Any, example: Example, dtype: torch.dtype) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    assert isinstance(model, LlamaForCausalLM)
    # As far from certain as a trained model, so that rounding is what it is there.
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=0.05)
    refuse_unpackable(model, example, 1000)


def windowed(tokenizer: Any, window: int) -> MistralForCausalLM:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=window,
        initializer_range=0.3,
    )
    return MistralForCausalLM(config)


def test_a_model_with_a_window_is_taken_where_all_fits_into_it(example: Example, tokenizer: Any) -> None:
    with pytest.raises(Unpackable, match=r"\(mistral\).*sees 600 tokens back.*has 601.*packing = "):
        refuse_unpackable(windowed(tokenizer, 600), example, 601)
    refuse_unpackable(windowed(tokenizer, 600), example, 600)


def test_what_the_configuration_hides_is_measured(example: Example, tokenizer: Any) -> None:
    model = windowed(tokenizer, 8)
    # As if the window were the model's own business.
    model.config.sliding_window = None
    for layer in model.model.layers:
        layer.self_attn.sliding_window = 8
    attention = model.model.layers[0].self_attn

    def ignoring_the_mask(hidden_states: Any, *args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        return type(attention).forward(attention, hidden_states, *args, attention_mask=None, **kwargs)

    attention.forward = ignoring_the_mask  # type: ignore[method-assign]
    with pytest.raises(Unpackable, match="do not keep to the mask"):
        refuse_unpackable(model, example, 600)


def test_layers_that_are_not_attention_are_refused(base: Any, example: Example) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    model.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(Unpackable, match=r"not plain attention \(linear_attention\)"):
        refuse_unpackable(model, example, 600)


def test_a_model_that_cannot_be_packed_is_trained_pair_by_pair_and_it_is_said(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tokenizer: Any, tmp_path: Path
) -> None:
    windowed(tokenizer, 64).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    told: list[str] = []
    settings = config.model_copy(update={"base": str(tmp_path / "base"), "dpo": DpoConfig(trees=1)})
    train("dpo", trees, people, settings, tmp_path / "dpo", system=SYSTEM, seed=1, notice=told.append)
    assert len(told) == 1
    assert "cannot be trained on packed trees" in told[0]
    assert "pair by pair" in told[0]
    assert read_manifest(tmp_path / "dpo").settings["packing"] == "trl"


@pytest.mark.parametrize("method", ["sft", "dpo"])
@pytest.mark.parametrize("max_tokens", [150, 700])
def test_a_step_is_the_same_in_however_many_sequences(
    trees: list[Tree], config: TrainConfig, tuned: Path, tmp_path: Path, method: Any, max_tokens: int
) -> None:
    steps = []
    for size in (100_000, max_tokens):
        stage = {"trees_per_step": 3, "beta": 0.5} if method == "dpo" else {"trees_per_step": 3}
        changes = {"max_tokens": size, method: (DpoConfig if method == "dpo" else SftConfig)(**stage)}
        job = make_job(method, trees[:3], config.model_copy(update=changes), tmp_path / str(size), tuned)
        trainer = tree_trainer.make_trainer(job, *load_trainable(job.start, job.config))
        away_from_the_reference(trainer)
        data: Any = trainer.train_dataset
        batch: Any = trainer.data_collator([data[index] for index in range(3)])
        trainer.create_optimizer()
        trainer.current_gradient_accumulation_steps = 1
        loss = trainer.training_step(trainer.model, batch)
        named = trainer.model.named_parameters()  # type: ignore[union-attr]
        gradient = torch.cat([weight.grad.flatten() for _, weight in named if weight.grad is not None])
        steps.append((len(batch["sequences"]), loss.item(), gradient))
    one, several = steps
    assert one[0] == 1 < several[0]
    assert several[1] == pytest.approx(one[1], rel=1e-4)
    assert (several[2] - one[2]).norm() <= 1e-3 * one[2].norm() > 0


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_sees_what_the_dense_mask_shows(base: Any, example: Example) -> None:
    from torch.nn.attention.flex_attention import flex_attention

    from interalign.training.attention import seen

    batch = collate([example, example])
    dense = seen(batch["segment"], batch["sees"], "sdpa")["attention_mask"]
    blocks = seen(batch["segment"], batch["sees"], "flex_attention")["attention_mask"]
    length = batch["input_ids"].shape[1]
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, length, 16) for _ in range(3))
    with torch.no_grad():
        flex = flex_attention(query, key, value, block_mask=blocks)
        plain = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=dense)
    torch.testing.assert_close(flex, plain, atol=1e-5, rtol=1e-5)


def test_chats_of_another_dataset_are_learnt_beside_the_trees(
    trees: list[Tree], config: TrainConfig, tokenizer: Any, tmp_path: Path
) -> None:
    said = (("user", "Hello"), ("assistant", "Hi there"), ("user", "Bye"), ("assistant", "So long"))
    chat = tuple(Message.model_validate({"role": role, "content": content}) for role, content in said)
    job = dataclasses.replace(make_job("sft", trees[:1], config, tmp_path / "a"), chats=(chat,))
    examples, too_long = tree_trainer.examples_of(job, tokenizer, 10_000)
    assert too_long == 0
    packed = collate(examples[-1:])
    words = [tokenizer.decode(packed["input_ids"][0, packed["targets"][packed["reply"] == one]]) for one in (0, 1)]
    assert words == ["Hi there<|im_end|>\n", "So long<|im_end|>\n"]
    assert packed["positions"][0].tolist() == list(range(packed["input_ids"].shape[1]))


@pytest.mark.parametrize(("method", "options", "says"), [
    ("dpo", {"lable_smoothing": 0.1}, r"\[train.dpo.trl\].*no option 'lable_smoothing'.*mean 'label_smoothing'"),
    ("dpo", {"learning_rate": 0.1}, r"'learning_rate' is settled by interalign.*set learning_rate"),
    ("dpo", {"padding_free": True}, r"'padding_free' means nothing for packed trees.*packing = \"trl\""),
    ("dpo", {"loss_type": ["exo_pair"]}, r"\[train.dpo.trl\].*TRL refuses this.*[Ll]abel smoothing"),
    ("sft", {"loss_type": "dft"}, r"\[train.sft.trl\]: 'loss_type' means nothing"),
])  # fmt: skip
def test_wrong_options_are_refused_before_anything_is_written(
    trees: list[Tree],
    people: tuple[Persona, ...],
    config: TrainConfig,
    tmp_path: Path,
    method: Any,
    options: dict[str, Any],
    says: str,
) -> None:
    stage = DpoConfig(trl=options) if method == "dpo" else SftConfig(trl=options)
    with pytest.raises(InputError, match=says):
        train(method, trees, people, config.model_copy(update={method: stage}), tmp_path / "a", system=SYSTEM, seed=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("max_tokens", [150, 700])
def test_the_likelihood_of_the_chosen_is_a_mean_over_the_step(
    trees: list[Tree], config: TrainConfig, tuned: Path, tmp_path: Path, max_tokens: int
) -> None:
    losses, metrics = [], []
    for size in (100_000, max_tokens):
        changes = {"max_tokens": size, "dpo": DpoConfig(trees_per_step=3, sft_weight=1.0)}
        job = make_job("dpo", trees[:3], config.model_copy(update=changes), tmp_path / str(size), tuned)
        trainer = tree_trainer.make_trainer(job, *load_trainable(job.start, job.config))
        away_from_the_reference(trainer)
        trainer.create_optimizer()
        trainer.current_gradient_accumulation_steps = 1
        data: Any = trainer.train_dataset
        batch: Any = trainer.data_collator([data[index] for index in range(3)])
        losses.append(trainer.training_step(trainer.model, batch).item())
        found: Any = trainer
        metrics.append({name: values for name, values in found._metrics["train"].items() if name != "num_tokens"})
    # A preference loss is about ln 2; what is above it is the likelihood of the chosen.
    assert losses[0] > 2
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for name, values in metrics[0].items():
        assert len(values) == len(metrics[1][name]) == 1
    for name in ("rewards/margins", "rewards/accuracies", "logps/chosen"):
        assert metrics[1][name] == pytest.approx(metrics[0][name], rel=1e-3, abs=1e-4)


def test_chats_beside_do_not_hide_a_model_that_ignores_the_mask(
    trees: list[Tree], config: TrainConfig, tokenizer: Any, tmp_path: Path
) -> None:
    said = (("user", "Hello"), ("assistant", "Hi"))
    chat = tuple(Message.model_validate({"role": role, "content": content}) for role, content in said)
    masked = config.model_copy(update={"attention": "sdpa"})
    job = dataclasses.replace(make_job("sft", trees[:1], masked, tmp_path / "a"), chats=(chat,))
    model, _ = load_trainable(job.start, job.config)
    for layer in model.get_base_model().model.layers:
        attention = layer.self_attn

        def ignoring(
            hidden_states: Any, *args: Any, attention_mask: Any = None, own: Any = attention, **kw: Any
        ) -> Any:
            return type(own).forward(own, hidden_states, *args, attention_mask=None, **kw)

        attention.forward = ignoring
    with pytest.raises(Unpackable, match="do not keep to the mask"):
        tree_trainer.make_trainer(job, model, tokenizer)


def test_flex_attention_is_refused_where_it_cannot_be_trained_through(config: TrainConfig) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match=r"FlexAttention.*CPU.*sdpa"):
        load_trainable(config.base, config.model_copy(update={"attention": "flex_attention"}))


def test_a_model_that_does_not_tell_its_layers_of_branches_gets_a_mask(
    trees: list[Tree], config: TrainConfig, tmp_path: Path
) -> None:
    job = make_job("sft", trees[:1], config, tmp_path / "a")
    model, tokenizer = load_trainable(job.start, job.config)
    assert attention_of(model) == "tree"
    for layer in model.get_base_model().model.layers:
        attention = layer.self_attn

        def deaf(*args: Any, branches: Any = None, own: Any = attention, **options: Any) -> Any:
            return type(own).forward(own, *args, **options)

        attention.forward = deaf
    trainer = tree_trainer.make_trainer(job, model, tokenizer)
    assert attention_of(trainer.model) == "sdpa"
