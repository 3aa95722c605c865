from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from interalign.conversations.tree import Tree
from interalign.training.objectives import Scores, as_rows, row_mask, score_logits, score_targets, sft_loss
from interalign.training.packing import Example
from interalign.training.tokens import tree_segments
from interalign.training.tree_trainer import collate
from tests.training.tiny import SYSTEM


def test_sft_is_the_mean_over_tokens() -> None:
    assert sft_loss(torch.tensor([-1.0, -2.0, -6.0])).item() == 3.0


def test_rows_are_the_chosen_replies_of_all_pairs_then_the_rejected() -> None:
    sequence = {
        "reply": torch.tensor([0, 0, 1, 2, 2, 2]),
        "offset": torch.tensor([0, 1, 0, 0, 1, 2]),
        "replies": torch.tensor(3),
        "chosen": torch.tensor([2, 0]),
        "rejected": torch.tensor([1, 1]),
    }
    rows = as_rows(Scores(-torch.arange(1.0, 7.0)), sequence)
    expected = [[-4.0, -5.0, -6.0], [-1.0, -2.0, 0.0], [-3.0, 0.0, 0.0], [-3.0, 0.0, 0.0]]
    assert rows.log_probs.tolist() == expected
    assert row_mask(sequence).tolist() == [[value != 0 for value in row] for row in expected]
    assert rows.entropy is None


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_those_of_the_whole_distribution(asked: bool, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    # More than is worked on at once.
    logits = (8 * torch.randn(300, 20_000, generator=generator)).to(dtype).requires_grad_()
    targets, weights = torch.randint(20_000, (300,), generator=generator), torch.randn(300, generator=generator)
    before = logits.detach().clone()
    scores = score_logits(logits, targets, moments=asked)
    (scores.logps * weights).sum().backward()
    found, logits.grad = logits.grad, None
    plain = logits.float().log_softmax(-1).gather(1, targets[:, None])[:, 0]
    (plain * weights).sum().backward()
    assert torch.equal(logits, before)
    torch.testing.assert_close(scores.logps, plain, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(found, logits.grad, atol=1e-6, rtol=1e-2 if dtype == torch.bfloat16 else 1e-4)


@pytest.mark.parametrize("asked", [False, True])
def test_what_a_model_says_of_the_targets(base: Any, trees: list[Tree], tokenizer: Any, asked: bool) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    segments = tree_segments(trees[0], [0, 1], SYSTEM, tokenizer)
    sequence = collate([Example(0, tuple(segments), (1,))])
    with torch.no_grad():
        scores = score_targets(model, sequence, moments=asked)
        logits = model(sequence["input_ids"]).logits[0, sequence["predictors"]]
    distribution = torch.distributions.Categorical(logits=logits)
    targets = sequence["input_ids"][0, sequence["targets"]]
    torch.testing.assert_close(scores.logps, distribution.log_prob(targets), atol=1e-4, rtol=1e-4)
    if not asked:
        assert scores == Scores(scores.logps)
        return
    assert scores.entropy is not None and scores.mean_logits is not None
    assert scores.is_top1 is not None and scores.log_sum_sq_probs is not None
    torch.testing.assert_close(scores.entropy, distribution.entropy(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scores.mean_logits, logits.mean(-1), atol=1e-4, rtol=1e-4)
    assert scores.is_top1.tolist() == (logits.argmax(-1) == targets).tolist()
    torch.testing.assert_close(scores.log_sum_sq_probs, distribution.probs.square().sum(-1).log(), atol=1e-4, rtol=1e-4)


def test_products_are_in_the_format_that_was_asked_for_or_in_that_around(
    base: Any, trees: list[Tree], tokenizer: Any
) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    sequence = collate([Example(0, tuple(tree_segments(trees[0], [0, 1], SYSTEM, tokenizer)), (1,))])
    with torch.no_grad():
        exact = score_targets(model, sequence).logps
        asked = score_targets(model, sequence, computed_in=torch.bfloat16).logps
        # As Accelerate puts it around a forward pass where a recipe settles the precision itself.
        with torch.autocast("cpu", torch.bfloat16):
            around = score_targets(model, sequence).logps
    assert torch.equal(around, asked) and not torch.equal(around, exact)
