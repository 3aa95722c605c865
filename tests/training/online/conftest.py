from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from interalign.conversations.environment import Environment
from interalign.llm.libraries import quiet
from interalign.llm.model import Sampling
from interalign.roles.judge import Judge, RuleJudge
from interalign.roles.user import RuleUser, UserSimulator
from interalign.training.online.rollout import Rollout
from interalign.training.online.sampling import PolicySampler, end_tokens
from interalign.training.online.transcript import ChatTemplate
from tests.training.tiny import SYSTEM

SAMPLING = Sampling(max_tokens=12, temperature=1.3)


@pytest.fixture
def model(base: Path) -> Any:
    """The tiny model with its first weights, in training mode as a trainer has it."""
    with quiet():
        return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).train()


@pytest.fixture
def ends(model: Any, tokenizer: Any) -> frozenset[int]:
    return end_tokens(model, tokenizer)


@pytest.fixture
def sampler(model: Any, tokenizer: Any, ends: frozenset[int]) -> PolicySampler:
    return PolicySampler(model, SAMPLING, ends, tokenizer.pad_token_id)


@pytest.fixture
def make_rollout(tokenizer: Any, ends: frozenset[int]) -> Iterator[Callable[..., Rollout]]:
    """Makes rollouts of three turns, which are closed in the end."""
    made: list[Rollout] = []

    def make(user: UserSimulator | None = None, judge: Judge | None = None, **settings: Any) -> Rollout:
        template = ChatTemplate(tokenizer, SYSTEM, ends)
        environment = Environment(user=user or RuleUser(), judge=judge or RuleJudge())
        made.append(Rollout(template, lambda: nullcontext(environment), **{"turns": 3, "seed": 5, **settings}))
        return made[-1]

    yield make
    for rollout in made:
        rollout.close()
