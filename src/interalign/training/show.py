"""What a training batch looks like to the model: every token, with those marked that are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from interalign.conversations.preferences import PreferenceConfig
from interalign.conversations.tree import Tree
from interalign.training.job import Method
from interalign.training.train import TrainConfig

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["first_batch"]


def first_batch(
    method: Method, trees: Sequence[Tree], config: TrainConfig, *, preference: PreferenceConfig
) -> RenderableType:
    raise NotImplementedError
