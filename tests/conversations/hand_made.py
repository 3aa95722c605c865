"""Trees by hand, with scores and comparisons."""

from __future__ import annotations

from collections.abc import Sequence

from interalign.conversations.tree import Node, Tree
from interalign.roles.judge import Comparison, Verdict, Vote


def asked(parent: int | None = None, content: str = "What now?") -> Node:
    return Node(parent=parent, role="user", content=content, source="user")


def replied(parent: int, content: str, score: float | None = None, *, continued: bool = False) -> Node:
    verdict = None if score is None else Verdict(score=score)
    return Node(
        parent=parent, role="assistant", content=content, source="generic", verdict=verdict, continued=continued
    )


def compared(first: int, second: int, one: Vote | None, other: Vote | None) -> Comparison:
    return Comparison(first=first, second=second, votes=(one, other), model="referee-1")


def one_turn(
    scores: Sequence[float | None], comparisons: Sequence[Comparison] = (), texts: Sequence[str] = (), who: str = "p"
) -> Tree:
    """One user message and a reply for each score."""
    texts = texts or [f"reply {index}" for index in range(len(scores))]
    replies = [replied(0, text, score) for text, score in zip(texts, scores, strict=True)]
    return Tree(persona_id=who, seed=1, nodes=(asked(), *replies), comparisons=tuple(comparisons))
