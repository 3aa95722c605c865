"""What is optimised: per-reply log-probabilities, and the SFT and DPO losses on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["dpo_loss", "reply_logps", "sft_loss", "token_logps"]


def token_logps(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Log-probability of every target token of a packed batch: (m,), float32.

    Logits are computed for the predicting tokens only; for a vocabulary of 49k that is a fifth of SmolLM2's work.
    """
    logits = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["visible"],
        position_ids=batch["positions"],
        # A cache would keep keys in sequence order, which is not the order of any path.
        use_cache=False,
        logits_to_keep=batch["predictors"],
    ).logits
    targets = batch["input_ids"][0, batch["targets"]]
    return -F.cross_entropy(logits[0].float(), targets, reduction="none")


def reply_logps(token_logps: Tensor, reply: Tensor, count: int) -> Tensor:
    """Sum of the token log-probabilities of each reply: (count,)."""
    return torch.zeros(count, dtype=token_logps.dtype, device=token_logps.device).index_add(0, reply, token_logps)


def sft_loss(token_logps: Tensor) -> Tensor:
    """Mean negative log-likelihood per target token."""
    return -token_logps.mean()


def dpo_loss(policy: Tensor, reference: Tensor, chosen: Tensor, rejected: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """DPO's sigmoid loss (Rafailov et al. 2023, equation 7), mean over pairs, and the reward margins it is made of.

    Args:
        policy: (r,) log-probability of each reply under the policy.
        reference: (r,) the same under the reference.
        chosen: (p,) indices into the replies.
        rejected: (p,) indices into the replies.
        beta: strength of the pull back to the reference.

    Returns:
        The loss, and per pair beta times (log-ratio of chosen minus log-ratio of rejected): (p,).
    """
    ratio = policy - reference
    margins = beta * (ratio[chosen] - ratio[rejected])
    return -F.logsigmoid(margins).mean(), margins.detach()
