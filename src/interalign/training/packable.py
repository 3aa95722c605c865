"""Which models can be trained on packed trees.

A packed tree needs a model that lets each token look where the mask says and nowhere else, and that takes positions
from outside. Layers with a window, recurrent layers and the like do not: such a model would be trained on something
else than its conversations, silently. What can be read from its configuration is read; the rest is measured.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from interalign.errors import TrainingError
from interalign.training.objectives import score_targets
from interalign.training.packing import Example
from interalign.training.tokens import Segment

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Unpackable", "reason_against"]

_ROUNDING = {torch.float32: 0.01}
_COARSE_ROUNDING = 0.3
"""Mean difference of a token's log-probability, in nats, that rounding may make. In float32 a leak shows. In bfloat16
rounding alone makes 0.06 with SmolLM2, so there only what is grossly wrong is found."""

_FULL = frozenset({"full_attention", "attention"})


class Unpackable(TrainingError):
    """A model cannot be trained on packed trees; pair by pair it can."""


def reason_against(model: Any, example: Example, batch: dict[str, Tensor], longest: int) -> str | None:
    """Why a model cannot be trained on packed trees; None when it can.

    Args:
        model: the model.
        example: a tree of few replies to try it on.
        batch: its last reply, packed alone.
        longest: tokens of the longest conversation that will be trained on.
    """
    read = _reason_in_configuration(model, longest)
    return read or _measured(model, example, batch)


def _reason_in_configuration(model: Any, longest: int) -> str | None:
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - _FULL
    window = getattr(config, "sliding_window", None)
    if kinds - {"sliding_attention"}:
        return f"some of its layers are not plain attention ({', '.join(sorted(kinds))})"
    windowed = "sliding_attention" in kinds or not getattr(config, "layer_types", None)
    if windowed and window is not None and window < longest and getattr(config, "use_sliding_window", True):
        return f"it sees {window:,} tokens back, and the longest conversation has {longest:,}"
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if "position_ids" not in inspect.signature(base.forward).parameters:
        return "it takes no positions from outside"
    return None


def _measured(model: Any, example: Example, batch: dict[str, Tensor]) -> str | None:
    """Compare a packed reply with the same reply alone."""
    ids = torch.tensor([_path_ids(example.segments, example.replies[-1])], device=model.device)
    count = len(batch["targets"])
    training = model.training
    model.eval()
    with torch.inference_mode():
        packed = score_targets(model, batch).logps
        logits = model(input_ids=ids, use_cache=False).logits[0, -count - 1 : -1]
        alone = logits.float().log_softmax(dim=-1).gather(1, ids[0, -count:, None])[:, 0]
    model.train(training)
    difference = (packed - alone).abs().mean().item()
    if difference > _ROUNDING.get(logits.dtype, _COARSE_ROUNDING):
        return f"its layers do not keep to the mask: log-probabilities are off by {difference:.2g} per token"
    return None


def _path_ids(segments: Sequence[Segment], node: int) -> list[int]:
    """The tokens of a node's whole conversation, its own included."""
    backwards: list[Segment] = []
    place = next((index for index, segment in enumerate(segments) if segment.node == node), None)
    while place is not None:
        backwards.append(segments[place])
        place = segments[place].parent
    return [token for segment in reversed(backwards) for token in segment.ids]
