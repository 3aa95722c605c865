from __future__ import annotations

import math
from collections import Counter
from itertools import accumulate
from typing import Any

import pytest
import torch

from interalign.errors import TrainingError
from interalign.llm.model import Sampling
from interalign.training.online.sampling import PolicySampler
from tests.training.online.conftest import SAMPLING

PROMPTS = ([5, 9, 12, 7, 30, 11], [8, 8, 21], [40, 41, 42, 43, 44])


def logprobs_of(model: Any, prompt: list[int], reply: list[int]) -> list[float]:
    """By a forward pass over one row alone."""
    model.eval()
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *reply]]), use_cache=False).logits[0]
    every = (logits / SAMPLING.temperature).log_softmax(-1)
    return [every[len(prompt) + place - 1, token].item() for place, token in enumerate(reply)]


def test_logprobs_are_those_of_a_forward_pass(model: Any, sampler: PolicySampler) -> None:
    for prompt, drawn in zip(PROMPTS, sampler(PROMPTS, [1, 2, 3]), strict=True):
        assert drawn.logprobs == pytest.approx(logprobs_of(model, prompt, list(drawn.tokens)), abs=1e-4)


def test_logprobs_hold_when_a_conversation_goes_on(model: Any, sampler: PolicySampler) -> None:
    first = sampler(PROMPTS, [1, 2, 3])
    longer = [[*prompt, *drawn.tokens, 17, 18] for prompt, drawn in zip(PROMPTS, first, strict=True)]
    for prompt, drawn in zip(longer, sampler(longer, [4, 5, 6]), strict=True):
        assert drawn.logprobs == pytest.approx(logprobs_of(model, prompt, list(drawn.tokens)), abs=1e-4)


def test_a_reply_depends_on_its_own_prompt_and_seed(sampler: PolicySampler) -> None:
    together = sampler(PROMPTS, [1, 2, 3])
    assert [sampler([prompt], [seed])[0].tokens for prompt, seed in zip(PROMPTS, (1, 2, 3), strict=True)] == [
        drawn.tokens for drawn in together
    ]
    assert sampler(PROMPTS, [7, 8, 9])[0].tokens != together[0].tokens


def test_a_reply_ends_with_its_end_mark_or_is_cut(model: Any, ends: frozenset[int], sampler: PolicySampler) -> None:
    drawn = sampler([PROMPTS[0]] * 200, list(range(200)))
    assert {one.ended for one in drawn} == {True, False}
    for one in drawn:
        assert one.ended == (one.tokens[-1] in ends)
        assert not ends & set(one.tokens[:-1])
        assert one.ended or len(one.tokens) == SAMPLING.max_tokens


@pytest.mark.parametrize("top_p", [1.0, 0.6])
def test_tokens_are_drawn_as_often_as_they_are_likely(model: Any, ends: frozenset[int], top_p: float) -> None:
    count = 4000
    one_token = PolicySampler(model, Sampling(max_tokens=1, temperature=1.3, top_p=top_p), ends, 0)
    drawn = Counter(one.tokens[0] for one in one_token([PROMPTS[1]] * count, list(range(count))))
    chances = [math.exp(logprobs_of(model, PROMPTS[1], [token])[0]) for token in range(500)]
    likeliest = sorted(range(500), key=lambda token: -chances[token])
    reached = list(accumulate(chances[token] for token in likeliest))
    inside = next((place + 1 for place, share in enumerate(reached) if share >= top_p), 500)
    assert drawn.keys() <= set(likeliest[:inside])
    # The Kolmogorov-Smirnov distance that a thousandth of all samples exceed is 1.95 / sqrt(count).
    seen = accumulate(drawn[token] / count for token in likeliest[:inside])
    assert max(abs(one - share / reached[inside - 1]) for one, share in zip(seen, reached, strict=False)) < 0.031


def test_the_model_is_left_as_it_was(model: Any, sampler: PolicySampler) -> None:
    model.generation_config.repetition_penalty = 1.7
    before = [drawn.tokens for drawn in sampler(PROMPTS, [1, 2, 3])]
    assert model.training
    assert model.generation_config.repetition_penalty == 1.7
    model.generation_config.repetition_penalty = 1.0
    assert [drawn.tokens for drawn in sampler(PROMPTS, [1, 2, 3])] == before


def test_weights_that_are_no_numbers_draw_nothing(model: Any, sampler: PolicySampler) -> None:
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(TrainingError, match="no longer numbers"):
        sampler(PROMPTS, [1, 2, 3])


def test_a_conversation_must_fit_the_model(model: Any, sampler: PolicySampler) -> None:
    with pytest.raises(TrainingError, match="grown to 4100 tokens"):
        sampler([[7] * 4088], [1])
