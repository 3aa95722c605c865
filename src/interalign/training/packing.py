"""Tree packing: all branches of a tree in one sequence, the shared path computed once.

Each token attends to its ancestors only (the tokens of its own message before it, and those of the messages on the
path above), and its position is its distance from the root. So the model computes for every reply exactly what it
would compute for that reply alone after its own conversation; only the work on shared prefixes is saved.

A tree that is longer than a sequence may be is split: no pair is lost or torn, the path that two parts share is
computed in both. Trees that are short lie in one sequence and do not see each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from interalign.conversations.tree import Tree
from interalign.training.tokens import Segment

__all__ = ["Example", "Packed", "arranged", "needed_nodes", "pack", "split"]

Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Example:
    """One tree, or a part of one, ready to be packed.

    Attributes:
        number: which tree it is.
        segments: its messages as tokens, parents first.
        replies: the nodes to train on.
        pairs: (chosen, rejected) among them; empty for SFT.
        reference: per pair the log-probability of both under the reference model; empty for SFT.
    """

    number: int
    segments: tuple[Segment, ...]
    replies: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...] = ()
    reference: tuple[tuple[float, float], ...] = ()

    @property
    def tokens(self) -> int:
        """How many tokens it takes when it is packed."""
        return sum(len(segment.ids) for segment in self.segments)


@dataclass(frozen=True)
class Packed:
    """Trees as one sequence of n tokens in s segments.

    Attributes:
        ids: (n,) token ids.
        positions: (n,) distance of each token from its root.
        segment: (n,) which segment each token belongs to.
        sees: (s, s) bool; row i is True where the tokens of segment i may look: at itself and its ancestors.
        targets: (m,) indices of the tokens that replies are made of, header excluded.
        predictors: (m,) index of the token on the same path just before each target: its logits predict the target.
        reply: (m,) which reply each target belongs to, numbered from 0 in the order of `replies`.
        replies: (example, node) of each reply, in the order asked for; examples are numbered from 0.
    """

    ids: Ints
    positions: Ints
    segment: Ints
    sees: npt.NDArray[np.bool_]
    targets: Ints
    predictors: Ints
    reply: Ints
    replies: tuple[tuple[int, int], ...]


def needed_nodes(tree: Tree, replies: Iterable[int]) -> list[int]:
    """The nodes on the paths to the given replies, in ascending order: what has to be computed to train on them."""
    return sorted({node for reply in replies for node in tree.path(reply)})


def split(example: Example, max_tokens: int) -> list[Example]:
    """Parts of an example of at most `max_tokens` tokens each, which hold every pair (SFT: every reply) once.

    Pairs are taken as a walk through the tree meets them, so that those of a part share as much of their path as they
    can. A pair that is too long alone stays whole: only its part exceeds the limit.
    """
    if example.tokens <= max_tokens:
        return [example]
    way = _ways(example.segments)
    units = list(range(len(example.pairs) or len(example.replies)))
    replies_of = [*example.pairs] if example.pairs else [(reply,) for reply in example.replies]
    units.sort(key=lambda unit: [way[reply] for reply in replies_of[unit]])
    parts: list[list[int]] = []
    needed: set[int] = set()
    for unit in units:
        own = {place for reply in replies_of[unit] for place in way[reply]}
        tokens = sum(len(example.segments[place].ids) for place in needed | own)
        if not parts or tokens > max_tokens:
            parts.append([])
            needed = set()
        parts[-1].append(unit)
        needed |= own
    return [_part(example, sorted(part), replies_of, way) for part in parts]


def _ways(segments: Sequence[Segment]) -> dict[int, tuple[int, ...]]:
    """By node: the places of the segments from the root down to it, itself included."""
    ways: list[tuple[int, ...]] = []
    for place, segment in enumerate(segments):
        ways.append((*(() if segment.parent is None else ways[segment.parent]), place))
    return {segment.node: way for segment, way in zip(segments, ways, strict=True) if segment.node is not None}


def _part(
    example: Example, units: Sequence[int], replies_of: Sequence[tuple[int, ...]], way: dict[int, tuple[int, ...]]
) -> Example:
    wanted = {reply for unit in units for reply in replies_of[unit]}
    places = sorted({place for reply in wanted for place in way[reply]})
    now = {place: index for index, place in enumerate(places)}
    return Example(
        number=example.number,
        segments=tuple(
            replace(segment, parent=None if segment.parent is None else now[segment.parent])
            for segment in (example.segments[place] for place in places)
        ),
        replies=tuple(reply for reply in example.replies if reply in wanted),
        pairs=tuple(example.pairs[unit] for unit in units) if example.pairs else (),
        reference=tuple(example.reference[unit] for unit in units) if example.reference else (),
    )


def arranged(examples: Sequence[Example], max_tokens: int) -> list[list[Example]]:
    """Examples, split where they are too long, in as few sequences of at most `max_tokens` as first fit finds."""
    parts = [part for example in examples for part in split(example, max_tokens)]
    sequences: list[list[Example]] = []
    room: list[int] = []
    # The longest first: the usual order, at most 11/9 of the fewest sequences.
    for part in sorted(parts, key=lambda one: -one.tokens):
        place = next((index for index, left in enumerate(room) if part.tokens <= left), None)
        if place is None:
            sequences.append([])
            room.append(max_tokens)
            place = len(room) - 1
        sequences[place].append(part)
        room[place] -= part.tokens
    return sequences


def pack(examples: Sequence[Example]) -> Packed:
    """Pack examples into one sequence; tokens of different ones do not see each other."""
    layout = _Layout()
    for index, example in enumerate(examples):
        layout.add(index, example)
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

    def add(self, index: int, example: Example) -> None:
        """Lay out one example."""
        first = len(self.ancestors)
        last_token: list[int] = []
        starts: dict[int, tuple[int, Segment]] = {}
        for segment in example.segments:
            place = len(self.ancestors)
            above = frozenset() if segment.parent is None else self.ancestors[first + segment.parent]
            self.ancestors.append(above | {place})
            # A template may have nothing to say before the first user turn, so even a root can be empty.
            last = -1 if segment.parent is None else last_token[segment.parent]
            before = -1 if last < 0 else self.positions[last]
            start = len(self.ids)
            if segment.node is not None:
                starts[segment.node] = (start, segment)
            self.ids += segment.ids
            self.positions += range(before + 1, before + 1 + len(segment.ids))
            self.segment_of += [place] * len(segment.ids)
            last_token.append(len(self.ids) - 1 if segment.ids else last)
        for node in example.replies:
            start, segment = starts[node]
            self._target((index, node), start, segment, last_token)

    def _target(self, reply: tuple[int, int], start: int, segment: Segment, last_token: list[int]) -> None:
        which = len(self.replies)
        self.replies.append(reply)
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
        return Packed(
            ids=_ints(self.ids),
            positions=_ints(self.positions),
            segment=_ints(self.segment_of),
            sees=sees,
            targets=_ints(self.targets),
            predictors=_ints(self.predictors),
            reply=_ints(self.reply),
            replies=tuple(self.replies),
        )


def _ints(values: Sequence[int]) -> Ints:
    return np.asarray(values, dtype=np.int64)
