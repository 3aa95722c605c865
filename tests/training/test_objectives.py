from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interalign.training.objectives import dpo_loss, reply_logps, sft_loss

LOGPS = st.lists(st.floats(-50, 0, width=32), min_size=4, max_size=4)


@given(LOGPS, LOGPS, st.floats(0.01, 1))
def test_dpo_is_the_formula_of_the_paper(policy: list[float], reference: list[float], beta: float) -> None:
    pairs = [(0, 1), (0, 2), (3, 2)]
    chosen, rejected = (torch.tensor(side) for side in zip(*pairs, strict=True))
    loss, margins = dpo_loss(torch.tensor(policy), torch.tensor(reference), chosen, rejected, beta)
    expected = [beta * ((policy[c] - reference[c]) - (policy[r] - reference[r])) for c, r in pairs]
    # -log sigmoid(x), written so that it does not overflow
    by_hand = [max(-x, 0.0) + math.log1p(math.exp(-abs(x))) for x in expected]
    assert margins.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert loss.item() == pytest.approx(sum(by_hand) / len(pairs), rel=1e-4, abs=1e-4)


def test_dpo_raises_the_chosen_and_lowers_the_rejected() -> None:
    policy = torch.tensor([-3.0, -3.0], requires_grad=True)
    loss, _ = dpo_loss(policy, policy.detach(), torch.tensor([0]), torch.tensor([1]), beta=0.5)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert policy.grad is not None
    assert policy.grad.tolist() == pytest.approx([-0.25, 0.25])


def test_reply_logps_sums_by_reply() -> None:
    logps = torch.tensor([-1.0, -2.0, -4.0, -8.0])
    assert reply_logps(logps, torch.tensor([0, 2, 2, 0]), 3).tolist() == [-9.0, 0.0, -6.0]


def test_sft_is_the_mean_over_tokens() -> None:
    assert sft_loss(torch.tensor([-1.0, -2.0, -6.0])).item() == 3.0
