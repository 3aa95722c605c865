"""What is optimised: the log-probabilities of replies in packed trees, and the losses on them.

Preference losses are TRL's own: `as_rows` lays the log-probabilities out as TRL's trainer has them, pair by pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from interalign.training.attention import attention_of, seen

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Rows", "Scores", "as_rows", "row_mask", "score_logits", "score_targets", "sft_loss"]

_NUMBERS_AT_ONCE = {True: 1 << 22, False: 1 << 26}
"""Logits in float32 that are worked on at once, on a CPU or not: 16 MiB stay in memory that is used again and again."""


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


def score_targets(
    model: Any, sequence: dict[str, Tensor], *, moments: bool = False, computed_in: torch.dtype | None = None
) -> Scores:
    """Run a model over a packed sequence and score its targets.

    Logits are computed for the predicting tokens only; for a vocabulary of 49k that is a fifth of SmolLM2's work.

    Args:
        model: the model.
        sequence: as `tree_trainer.collate` makes it.
        moments: also compute what is without gradient.
        computed_in: the number format that products are computed in, whatever the weights'; None: theirs, or that of
            an autocast around this.
    """
    ids = sequence["input_ids"]
    # A disabled autocast would switch off one that is around this.
    with nullcontext() if computed_in is None else torch.autocast(ids.device.type, computed_in):
        logits = model(
            input_ids=ids,
            **seen(sequence["segment"], sequence["sees"], attention_of(model)),
            position_ids=sequence["positions"],
            # A cache would keep keys in sequence order, which is not the order of any path.
            use_cache=False,
            logits_to_keep=sequence["predictors"],
        ).logits
    # Not [0], whose gradient would be written into zeros as large as all logits.
    return score_logits(logits.flatten(0, 1), ids[0, sequence["targets"]], moments=moments)


def score_logits(logits: Tensor, targets: Tensor, *, moments: bool = False) -> Scores:
    """The scores of targets (m,) under logits (m, vocabulary)."""
    logps, *found = _TargetScores.apply(logits, targets, moments)  # type: ignore[no-untyped-call]
    return Scores(logps, *found)


class _TargetScores(torch.autograd.Function):
    """Log-probabilities of targets, and what is asked for beside them, from logits (m, vocabulary).

    A few rows at a time, forward and backward: the usual way holds the whole vocabulary for every target in float32
    three times over, and touching that much fresh memory takes longer than computing with it.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, moments: bool) -> tuple[Tensor, ...]:
        parts = [
            _of_rows(_as_own_floats(rows), of_rows, moments=moments)
            for rows, of_rows in zip(_in_chunks(logits), _in_chunks(targets, like=logits), strict=True)
        ]
        logps, totals, *found = (torch.cat(field) for field in zip(*parts, strict=True))
        ctx.save_for_backward(logits, targets, totals)
        ctx.mark_non_differentiable(*found)
        return logps, *found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        logits, targets, totals = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        each = (_in_chunks(one, like=logits) for one in (logits, targets, totals, gradients[0], gradient))
        for rows, of_rows, total, weight, place in zip(*each, strict=True):
            # d logp(target) / d logits = 1 at the target, less the probabilities.
            by_logit = _as_own_floats(rows).sub_(total[:, None]).exp_().mul_(-weight[:, None])
            place.copy_(by_logit.scatter_add_(1, of_rows[:, None], weight[:, None]))
        return gradient, None, None


def _in_chunks(values: Tensor, like: Tensor | None = None) -> Sequence[Tensor]:
    """Parts of as many rows as the chunk of logits holds, with which the values go row by row."""
    logits = values if like is None else like
    return torch.split(values, max(1, _NUMBERS_AT_ONCE[logits.device.type == "cpu"] // logits.shape[-1]))


def _as_own_floats(rows: Tensor) -> Tensor:
    """In float32, in memory that may be written to."""
    return rows.to(torch.float32, copy=True)


def _of_rows(logits: Tensor, targets: Tensor, *, moments: bool) -> tuple[Tensor, ...]:
    """Log-probability of the target and logarithm of the sum; then, if asked for, the fields of `Scores`.

    The logits are used up.
    """
    total = logits.logsumexp(dim=-1)
    logps = logits.gather(1, targets[:, None])[:, 0] - total
    if not moments:
        return logps, total
    likeliest, mean = logits.argmax(dim=-1) == targets, logits.mean(dim=-1)
    logps_of_all = logits.sub_(total[:, None])
    probabilities = logps_of_all.exp()
    entropy = -torch.linalg.vecdot(logps_of_all, probabilities)
    return logps, total, entropy, mean, likeliest, torch.linalg.vecdot(probabilities, probabilities).log()


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
