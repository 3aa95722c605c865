"""Who sees whom, as a model's attention computes it.

Three ways, with the same result: `tree` computes what is seen and nothing else, chain by chain; FlexAttention skips the
blocks that nobody sees, on a GPU; a dense mask works everywhere and computes everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Attention", "attention_of", "chains", "pick_attention", "seen", "use_attention"]

Attention: TypeAlias = Literal["tree", "sdpa", "flex_attention"]

_TREE = "interalign_tree"


@dataclass(frozen=True)
class _Branches:
    """A packed sequence as chains of segments, for attention that computes each chain after what stands above it.

    Attributes:
        lengths: tokens of each segment.
        paths: per chain the segments that it sees, from the root down, and how many of them stand above it.
        masks: per chain (c, p + c) bool; None for a chain with nothing above, which is plainly causal.
    """

    lengths: list[int]
    paths: list[tuple[list[int], int]]
    masks: list[Tensor | None]


def pick_attention(device: str) -> Attention:
    """FlexAttention on a GPU, chains elsewhere: on a CPU FlexAttention has no gradient."""
    return "flex_attention" if device.startswith("cuda") else "tree"


def use_attention(model: Any, attention: Attention) -> None:
    """Make a model compute attention so; raises ValueError when it cannot."""
    if attention == "tree":
        _register()
    model.set_attn_implementation(_TREE if attention == "tree" else attention)


def attention_of(model: Any) -> Attention:
    """What a model, wrapped for several processes or not, computes attention with."""
    from accelerate.utils import extract_model_from_parallel

    implementation = extract_model_from_parallel(model).config._attn_implementation
    if implementation == _TREE:
        return "tree"
    return "flex_attention" if implementation == "flex_attention" else "sdpa"


def seen(segment: Tensor, sees: Tensor, attention: Attention) -> dict[str, Any]:
    """The arguments of a model that let the tokens of a packed sequence see what they may.

    Args:
        segment: (n,) which segment each token belongs to.
        sees: (s, s) bool, which segments the tokens of each may look at.
        attention: what the model computes attention with.
    """
    import torch

    count = len(segment)
    if attention == "tree":
        # A mask of four dimensions is taken as it is; what counts are the branches.
        nothing = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=segment.device)
        return {"attention_mask": nothing, "branches": _branches(segment, sees)}
    if attention == "sdpa":
        causal = torch.ones(count, count, dtype=torch.bool, device=segment.device).tril_()
        return {"attention_mask": (sees[segment][:, segment] & causal)[None, None]}
    from torch.nn.attention.flex_attention import create_block_mask

    def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return sees[segment[query], segment[key]] & (key <= query)

    return {"attention_mask": create_block_mask(visible, None, None, count, count, device=segment.device.type)}


def chains(parents: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Segments in chains, each of which goes down a path without a gap; every segment is in one.

    Where a path branches, the chain goes on with the child that has the most tokens below it.

    Args:
        parents: of each segment, which stand before it; -1 for a root.
        lengths: tokens of each segment.
    """
    below = list(lengths)
    for place in reversed(range(len(parents))):
        if parents[place] >= 0:
            below[parents[place]] += below[place]
    heir: dict[int, int] = {}
    for place, parent in enumerate(parents):
        if parent >= 0 and (parent not in heir or below[place] > below[heir[parent]]):
            heir[parent] = place
    found = []
    for place, parent in enumerate(parents):
        if parent < 0 or heir[parent] != place:
            chain = [place]
            while chain[-1] in heir:
                chain.append(heir[chain[-1]])
            found.append(chain)
    return found


def _branches(segment: Tensor, sees: Tensor) -> _Branches:
    import torch

    lengths = torch.bincount(segment, minlength=len(sees)).tolist()
    ancestors = [[place for place, one in enumerate(row) if one] for row in sees.tolist()]
    parents = [above[-2] if len(above) > 1 else -1 for above in ancestors]
    paths, masks = [], []
    for chain in chains(parents, lengths):
        above = ancestors[chain[0]][:-1]
        before = sum(lengths[place] for place in above)
        own = sum(lengths[place] for place in chain)
        if own:
            paths.append(([*above, *chain], len(above)))
            whole = torch.ones(own, before + own, dtype=torch.bool, device=segment.device)
            masks.append(whole.tril_(before) if before else None)
    return _Branches(lengths, paths, masks)


@cache
def _register() -> None:
    """Tell transformers of attention by chains. Without branches it is SDPA, mask and all."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_TREE, _attend)
    AttentionMaskInterface.register(_TREE, sdpa_mask)


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    branches: _Branches | None = options.pop("branches", None)
    if branches is None:
        plain: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return plain
    import torch
    import torch.nn.functional as F

    groups = getattr(module, "num_key_value_groups", 1)
    if groups > 1:
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    queries, keys, values = (torch.split(one, branches.lengths, dim=2) for one in (query, key, value))
    found: list[Tensor] = [query[:, :, :0]] * len(branches.lengths)
    for (path, above), mask in zip(branches.paths, branches.masks, strict=True):
        chain = path[above:]
        answer = F.scaled_dot_product_attention(
            torch.cat([queries[place] for place in chain], dim=2),
            torch.cat([keys[place] for place in path], dim=2),
            torch.cat([values[place] for place in path], dim=2),
            attn_mask=mask,
            dropout_p=options.get("dropout", 0.0),
            scale=options.get("scaling"),
            is_causal=mask is None,
        )
        for place, part in zip(
            chain, torch.split(answer, [branches.lengths[one] for one in chain], dim=2), strict=True
        ):
            found[place] = part
    return torch.cat(found, dim=2).transpose(1, 2).contiguous(), None
