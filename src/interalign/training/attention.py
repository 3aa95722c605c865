"""Who sees whom, as a model's attention wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn.attention.flex_attention import BlockMask

__all__ = ["Attention", "attention_of", "mask", "pick_attention"]

Attention: TypeAlias = Literal["sdpa", "flex_attention"]


def pick_attention(device: str) -> Attention:
    """FlexAttention on a GPU, where it skips what nobody sees; a dense mask elsewhere: on a CPU it has no gradient."""
    return "flex_attention" if device.startswith("cuda") else "sdpa"


def attention_of(model: Any) -> Attention:
    """What a model, wrapped for several processes or not, computes attention with."""
    from accelerate.utils import extract_model_from_parallel

    implementation = extract_model_from_parallel(model).config._attn_implementation
    return "flex_attention" if implementation == "flex_attention" else "sdpa"


def mask(segment: Tensor, sees: Tensor, attention: Attention) -> Tensor | BlockMask:
    """The attention mask of a packed sequence.

    Args:
        segment: (n,) which segment each token belongs to.
        sees: (s, s) bool, which segments the tokens of each may look at.
        attention: what the model computes attention with.

    Returns:
        (1, 1, n, n) bool, or the same as a block mask.
    """
    import torch

    count = len(segment)
    if attention == "sdpa":
        causal = torch.ones(count, count, dtype=torch.bool, device=segment.device).tril_()
        return (sees[segment][:, segment] & causal)[None, None]
    from torch.nn.attention.flex_attention import create_block_mask

    def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return sees[segment[query], segment[key]] & (key <= query)

    return create_block_mask(visible, None, None, count, count, device=segment.device.type)
