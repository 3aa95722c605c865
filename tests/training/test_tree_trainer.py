from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from interalign.conversations.tree import Tree
from interalign.errors import TrainingError
from interalign.training.tokens import tree_segments
from interalign.training.tree_trainer import Example, collate, refuse_unpackable
from tests.training.tiny import SYSTEM


@pytest.fixture
def example(trees: list[Tree], tokenizer: Any) -> Example:
    tree = trees[0]
    segments = tree_segments(tree, range(len(tree.nodes)), SYSTEM, tokenizer)
    replies = tuple(index for index, node in enumerate(tree.nodes) if node.role == "assistant")
    return Example(7, tuple(segments), replies, pairs=((replies[0], replies[1]),), reference=(0.5,) * len(replies))


def test_a_batch_points_at_its_replies(example: Example) -> None:
    other = Example(9, example.segments, example.replies[:2], ((example.replies[1], example.replies[0]),), (1.0, 2.0))
    batch = collate([example, other])
    count = len(example.replies)
    assert batch["chosen"].tolist() == [0, count + 1]
    assert batch["rejected"].tolist() == [1, count]
    assert batch["reference"].tolist() == [0.5] * count + [1.0, 2.0]
    length = batch["input_ids"].shape[1]
    assert batch["visible"].shape == (1, 1, length, length)
    assert batch["positions"].shape == (1, length)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_keeps_to_the_mask_is_taken(base: Any, example: Example, dtype: torch.dtype) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    assert isinstance(model, LlamaForCausalLM)
    # As far from certain as a trained model, so that rounding is what it is there.
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=0.05)
    refuse_unpackable(model, example)


def test_a_model_with_a_window_is_refused(example: Example, tokenizer: Any) -> None:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=8,
        initializer_range=0.3,
    )
    with pytest.raises(TrainingError, match=r'\(mistral\) cannot be trained on packed trees.*backend = "trl"'):
        refuse_unpackable(MistralForCausalLM(config), example)
