"""Tree packing: all branches of a tree in one sequence, the shared path computed once.

Each token attends to its ancestors only (the tokens of its own message before it, and those of the messages on the
path above), and its position is its distance from the root. So the model computes for every reply exactly what it
would compute for that reply alone after its own conversation; only the work on shared prefixes is saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from interalign.conversations.tree import Tree
from interalign.training.tokens import Segment

__all__ = ["Packed", "needed_nodes", "pack"]

Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Packed:
    """Trees as one sequence of n tokens.

    Attributes:
        ids: (n,) token ids.
        positions: (n,) distance of each token from its root.
        visible: (n, n) bool; row i is True where token i may look.
        targets: (m,) indices of the tokens that replies are made of, header excluded.
        predictors: (m,) index of the token on the same path just before each target: its logits predict the target.
        reply: (m,) which reply each target belongs to, numbered from 0 in the order of `replies`.
        replies: (tree, node) of each reply, in the order asked for.
    """

    ids: Ints
    positions: Ints
    visible: npt.NDArray[np.bool_]
    targets: Ints
    predictors: Ints
    reply: Ints
    replies: tuple[tuple[int, int], ...]


def needed_nodes(tree: Tree, replies: Sequence[int]) -> list[int]:
    """The nodes on the paths to the given replies, in ascending order: what has to be computed to train on them."""
    return sorted({node for reply in replies for node in tree.path(reply)})


def pack(trees: Sequence[tuple[int, Sequence[Segment], Sequence[int]]]) -> Packed:
    """Pack trees into one sequence; tokens of different trees do not see each other.

    Args:
        trees: for each tree its number, its segments (parents first) and the nodes of the replies to train on.
    """
    layout = _Layout()
    for number, segments, replies in trees:
        layout.add(number, segments, replies)
    return layout.packed()


class _Layout:
    """Tokens laid out one after the other, with what is needed to know who sees whom."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.segment_of: list[int] = []
        self.ancestors: list[frozenset[int]] = []
        self.targets: list[int] = []
        self.predictors: list[int] = []
        self.reply: list[int] = []
        self.replies: list[tuple[int, int]] = []

    def add(self, number: int, segments: Sequence[Segment], replies: Sequence[int]) -> None:
        """Lay out one tree."""
        first = len(self.ancestors)
        last_token: list[int] = []
        starts: dict[int, tuple[int, Segment]] = {}
        for segment in segments:
            index = len(self.ancestors)
            above = frozenset() if segment.parent is None else self.ancestors[first + segment.parent]
            self.ancestors.append(above | {index})
            # A template may have nothing to say before the first user turn, so even a root can be empty.
            last = -1 if segment.parent is None else last_token[segment.parent]
            before = -1 if last < 0 else self.positions[last]
            start = len(self.ids)
            if segment.node is not None:
                starts[segment.node] = (start, segment)
            self.ids += segment.ids
            self.positions += range(before + 1, before + 1 + len(segment.ids))
            self.segment_of += [index] * len(segment.ids)
            last_token.append(len(self.ids) - 1 if segment.ids else last)
        for node in replies:
            start, segment = starts[node]
            self._target(number, node, start, segment, last_token)

    def _target(self, number: int, node: int, start: int, segment: Segment, last_token: list[int]) -> None:
        which = len(self.replies)
        self.replies.append((number, node))
        for offset in range(segment.header, len(segment.ids)):
            self.targets.append(start + offset)
            # Without a header the first token of a reply is predicted by the last one of the message above, which
            # does not stand beside it in the sequence.
            at_edge = offset == 0 and segment.parent is not None
            self.predictors.append(
                last_token[segment.parent] if at_edge and segment.parent is not None else start + offset - 1
            )
            self.reply.append(which)

    def packed(self) -> Packed:
        """What has been laid out so far."""
        count = len(self.ancestors)
        sees = np.zeros((count, count), dtype=bool)
        for index, above in enumerate(self.ancestors):
            sees[index, list(above)] = True
        of = np.asarray(self.segment_of, dtype=np.int64)
        visible = sees[np.ix_(of, of)] & np.tri(len(of), dtype=bool)
        return Packed(
            ids=_ints(self.ids),
            positions=_ints(self.positions),
            visible=visible,
            targets=_ints(self.targets),
            predictors=_ints(self.predictors),
            reply=_ints(self.reply),
            replies=tuple(self.replies),
        )


def _ints(values: Sequence[int]) -> Ints:
    return np.asarray(values, dtype=np.int64)
