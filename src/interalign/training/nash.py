"""Nash policy optimisation: preferences that no score stands behind, learnt by playing against oneself.

DPO takes preferences to come from a score for each reply; a judge that only compares need not have one. INPO (Zhang et
al. 2024, arXiv 2407.00617) looks for the policy that no other is preferred to, regularised towards an anchor: each
round the policy answers against itself and takes a step that stays near both the anchor and itself. COMAL (Liu et al.
2024, arXiv 2410.23223) moves the anchor to the policy every few rounds, which leads to the solution of the game without
the regularisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from interalign.training.objectives import as_rows, score_targets
from interalign.training.tree_trainer import TreeDpoTrainer
from interalign.training.weights import load_trainable

if TYPE_CHECKING:
    from torch import Tensor

    from interalign.training.job import Job

__all__ = ["TreeNashTrainer", "inpo_loss", "mixed_reference"]


def mixed_reference(policy: Tensor, anchor: Tensor, eta: float, tau: float) -> Tensor:
    """The reference of INPO's step: log-probabilities of the policy before it and of the anchor, tau / eta of that."""
    return (1 - tau / eta) * policy + tau / eta * anchor


def inpo_loss(chosen: Tensor, rejected: Tensor, reference: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """INPO's squared loss (Zhang et al. 2024, equation 7, with sampled preferences), mean over pairs.

    Args:
        chosen: (p,) log-probability of each chosen reply under the policy.
        rejected: (p,) of each rejected one.
        reference: (2, p) both under `mixed_reference`.
        eta: size of the step; margins are drawn to 1 / (2 eta) nats.

    Returns:
        The loss, and per pair the margin over the reference, in nats: (p,).
    """
    margins = (chosen - rejected) - (reference[0] - reference[1])
    return (margins - 1 / (2 * eta)).square().mean(), margins.detach()


class TreeNashTrainer(TreeDpoTrainer):
    """INPO on packed trees. The reference mixes the model as it is now with the anchor."""

    def __init__(self, *, job: Job, **kwargs: Any) -> None:
        assert job.nash is not None  # whoever makes this trainer has looked
        self._job = job
        self._nash = job.nash
        super().__init__(**kwargs)

    def _computed_reference(self) -> dict[str, Tensor]:
        policy, nash = super()._computed_reference(), self._nash
        if nash.anchor == self._job.start:
            return policy
        anchor, _ = load_trainable(nash.anchor, self._job.config)
        anchor.eval()
        with torch.no_grad():
            found = {index: self._of_reference(anchor, self._examples[int(index)]) for index in policy}
        return {index: mixed_reference(policy[index], found[index], nash.eta, nash.tau) for index in policy}

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
        log_probs = as_rows(score_targets(model, inputs, computed_in=self._computed_in), inputs).log_probs
        chosen, rejected = log_probs.sum(dim=1).chunk(2)
        loss, margins = inpo_loss(chosen, rejected, inputs["reference"], self._nash.eta)
        if not self._for_nothing:
            logged = self._metrics["train"]
            logged["rewards/accuracies"].append((margins > 0).float().mean().item())
            logged["rewards/margins"].append(margins.mean().item())
        return loss * self._shares[0] + self._likelihood_of_chosen(log_probs, inputs)
