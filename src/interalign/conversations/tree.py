"""Conversation trees: a flat list of nodes with parent indices.

Paths, siblings and leaves are derived, never stored. Invariants, checked when a tree is made:

* a parent stands before its children, so every prefix of the node list is a tree too;
* the roots are user turns, speakers alternate along every path;
* sibling replies answer the same user turn, and only a `continued` one has children; policies that continue one
  reply of each turn make a path with branches, others a tree that branches on.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Literal

from pydantic import model_validator

from interalign.messages import Chat, Message, Value
from interalign.roles.judge import Comparison, Verdict
from interalign.roles.ledger import Disclosure

__all__ = ["Fault", "Node", "Tree"]


class Node(Value):
    """One message of a tree.

    A user node carries its ledger entry; a reply carries who made it (`source`: tailored, generic, mirror, ...), its
    verdict (None when the judge could not give one), and whether the conversation went on from it.
    """

    parent: int | None
    role: Literal["user", "assistant"]
    content: str
    source: str
    disclosure: Disclosure | None = None
    verdict: Verdict | None = None
    continued: bool = False
    model: str | None = None
    """Which language model wrote it, if one did."""


class Fault(Value):
    """Something that a role said and that is no node: it was refused, or could not be read."""

    role: str = "user"
    """Whose fault it is; that of a user simulator is never counted against an assistant."""
    turn: int
    check: str
    """What is wrong with it, by the name of the check; "unreadable" for what cannot be read."""
    attempt: int
    """The first try is 0."""
    text: str


class Tree(Value):
    """All branches of one conversation with one persona. `failure` holds the reason when it ended early."""

    persona_id: str
    seed: int
    nodes: tuple[Node, ...]
    failure: str | None = None
    comparisons: tuple[Comparison, ...] = ()
    """What a judge that compares said of siblings, by node index."""
    faults: tuple[Fault, ...] = ()
    version: Literal[1] = 1

    @model_validator(mode="after")
    def _check(self) -> Tree:
        for index, node in enumerate(self.nodes):
            if node.parent is None:
                if node.role != "user":
                    raise ValueError(f"node {index} is a root and must be a user turn")
                continue
            if not 0 <= node.parent < index:
                raise ValueError(f"node {index} has parent {node.parent}, which does not stand before it")
            parent = self.nodes[node.parent]
            if parent.role == node.role:
                raise ValueError(f"nodes {node.parent} and {index} are both {node.role} turns")
            if parent.role == "assistant" and not parent.continued:
                raise ValueError(f"node {index} follows reply {node.parent}, which was not continued")
        for comparison in self.comparisons:
            self._check_siblings(comparison)
        return self

    def _check_siblings(self, comparison: Comparison) -> None:
        pair = (comparison.first, comparison.second)
        if pair[0] == pair[1] or not all(0 <= index < len(self.nodes) for index in pair):
            raise ValueError(f"a comparison of nodes {pair[0]} and {pair[1]}, which are no two nodes")
        if (
            any(self.nodes[index].role != "assistant" for index in pair)
            or len({self.nodes[i].parent for i in pair}) > 1
        ):
            raise ValueError(f"a comparison of nodes {pair[0]} and {pair[1]}, which are no siblings")

    @cached_property
    def _children(self) -> tuple[tuple[int, ...], ...]:
        children: list[list[int]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes):
            if node.parent is not None:
                children[node.parent].append(index)
        return tuple(tuple(of_node) for of_node in children)

    def children(self, index: int) -> tuple[int, ...]:
        """Indices of the nodes that answer node `index`, in the order in which they were added."""
        return self._children[index]

    def siblings(self, index: int) -> tuple[int, ...]:
        """Indices of all nodes with the same parent as node `index`, itself included."""
        parent = self.nodes[index].parent
        if parent is None:
            return tuple(i for i, node in enumerate(self.nodes) if node.parent is None)
        return self._children[parent]

    def path(self, index: int) -> tuple[int, ...]:
        """Indices from the root down to node `index`, itself included."""
        backwards: list[int] = []
        current: int | None = index
        while current is not None:
            backwards.append(current)
            current = self.nodes[current].parent
        return tuple(reversed(backwards))

    def leaves(self) -> tuple[int, ...]:
        """Indices of the nodes that nothing follows."""
        return tuple(index for index, of_node in enumerate(self._children) if not of_node)

    def chat(self, index: int) -> Chat:
        """The conversation from the root down to node `index`, itself included."""
        return tuple(Message(role=self.nodes[i].role, content=self.nodes[i].content) for i in self.path(index))

    def ledger(self, index: int) -> tuple[Disclosure, ...]:
        """The disclosure ledger along the path to node `index`."""
        entries = (self.nodes[i].disclosure for i in self.path(index))
        return tuple(entry for entry in entries if entry is not None)

    def turn(self, index: int) -> int:
        """The turn (1, 2, ...) that node `index` belongs to: its user message and the replies to it."""
        return sum(self.nodes[i].role == "user" for i in self.path(index))

    def user_turns(self) -> Iterator[int]:
        """Indices of all user nodes, in the order in which they were added."""
        return (index for index, node in enumerate(self.nodes) if node.role == "user")
