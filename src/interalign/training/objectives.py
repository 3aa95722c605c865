"""What is optimised: the log-probabilities of replies in packed trees, and the losses on them.

Preference losses are TRL's own: `as_rows` lays the log-probabilities out as TRL's trainer has them, pair by pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from interalign.training.attention import attention_of, seen

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Rows", "Scores", "as_rows", "row_mask", "score_targets", "sft_loss"]

_CHUNK = 512


@dataclass(frozen=True)
class Scores:
    """What a model says of each target token; everything but `logps` is without gradient, and None unless asked for.

    Attributes:
        logps: (m,) log-probability, float32.
        entropy: (m,) of the distribution over the next token, in nats.
        mean_logits: (m,) mean of the logits.
        is_top1: (m,) bool, whether the target is the likeliest token.
        log_sum_sq_probs: (m,) log of the sum of squared probabilities.
    """

    logps: Tensor
    entropy: Tensor | None = None
    mean_logits: Tensor | None = None
    is_top1: Tensor | None = None
    log_sum_sq_probs: Tensor | None = None


@dataclass(frozen=True)
class Rows:
    """`Scores` as TRL's preference trainer reads them: the chosen replies of p pairs row by row, then the rejected.

    Attributes:
        log_probs: (2p, l) by token; 0 behind a reply's end, as in the other fields.
        entropy: (2p, l).
        mean_logits: (2p, l).
        is_top1: (2p, l) bool.
        log_sum_sq_probs: (2p, l).
    """

    log_probs: Tensor
    entropy: Tensor | None = None
    mean_logits: Tensor | None = None
    is_top1: Tensor | None = None
    log_sum_sq_probs: Tensor | None = None


def score_targets(model: Any, sequence: dict[str, Tensor], *, moments: bool = False) -> Scores:
    """Run a model over a packed sequence and score its targets.

    Logits are computed for the predicting tokens only; for a vocabulary of 49k that is a fifth of SmolLM2's work.

    Args:
        model: the model.
        sequence: as `tree_trainer.collate` makes it.
        moments: also compute what is without gradient.
    """
    logits = model(
        input_ids=sequence["input_ids"],
        **seen(sequence["segment"], sequence["sees"], attention_of(model)),
        position_ids=sequence["positions"],
        # A cache would keep keys in sequence order, which is not the order of any path.
        use_cache=False,
        logits_to_keep=sequence["predictors"],
    ).logits[0]
    targets = sequence["input_ids"][0, sequence["targets"]]
    distribution = logits.float().log_softmax(dim=-1)
    logps = distribution.gather(1, targets[:, None])[:, 0]
    return Scores(logps, *_moments(logits.detach(), distribution.detach(), targets)) if moments else Scores(logps)


@torch.no_grad()
def _moments(logits: Tensor, distribution: Tensor, targets: Tensor) -> list[Tensor]:
    # In chunks, since each of these needs the whole vocabulary once more in float32.
    chunks = zip(*(torch.split(one, _CHUNK) for one in (logits, distribution, targets)), strict=True)
    parts = [_of_chunk(*chunk) for chunk in chunks]
    return [torch.cat(field) for field in zip(*parts, strict=True)]


def _of_chunk(logits: Tensor, logps: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    probabilities = logps.exp()
    return (
        -(probabilities * logps).sum(dim=-1),
        logits.mean(dim=-1, dtype=torch.float32),
        logps.argmax(dim=-1) == targets,
        probabilities.square().sum(dim=-1).log(),
    )


def as_rows(scores: Scores, sequence: dict[str, Tensor]) -> Rows:
    """The scores of the pairs of a packed sequence, pair by pair."""

    def rows(values: Tensor | None) -> Tensor | None:
        return None if values is None else _by_pair(values, sequence)

    return Rows(
        log_probs=_by_pair(scores.logps, sequence),
        entropy=rows(scores.entropy),
        mean_logits=rows(scores.mean_logits),
        is_top1=rows(scores.is_top1),
        log_sum_sq_probs=rows(scores.log_sum_sq_probs),
    )


def row_mask(sequence: dict[str, Tensor]) -> Tensor:
    """Where the rows of `as_rows` have a token: (2p, l) bool."""
    return _by_pair(torch.ones_like(sequence["reply"], dtype=torch.bool), sequence)


def _by_pair(values: Tensor, sequence: dict[str, Tensor]) -> Tensor:
    shape = (int(sequence["replies"]), int(sequence["offset"].max()) + 1)
    rows = values.new_zeros(shape).index_put((sequence["reply"], sequence["offset"]), values)
    return rows[torch.cat([sequence["chosen"], sequence["rejected"]])]


def sft_loss(logps: Tensor) -> Tensor:
    """Mean negative log-likelihood per target token."""
    return -logps.mean()
