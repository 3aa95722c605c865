"""Growing conversation trees: a user, an inducer, responders and a judge, turn by turn.

At every turn the user speaks, several responders answer side by side, the judge scores each answer, and one of them,
drawn by seed and not by score, is continued. So users react to good and to poor replies alike, and what they show in
reacting is there to learn from. A tree depends on its persona, the seed and the models only, whatever order
conversations finish in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Annotated

from pydantic import Field

from interalign.conversations.tree import Node, Tree
from interalign.errors import InteralignError, StorageError
from interalign.messages import Value
from interalign.personas.persona import Persona
from interalign.roles.inducer import Impression, Inducer, RuleInducer
from interalign.roles.judge import Judge, RuleJudge
from interalign.roles.responder import (
    Responder,
    RuleResponder,
    Source,
    impression_fit,
    views,
)
from interalign.roles.user import RuleUser, UserSimulator
from interalign.run import derive_seed

__all__ = ["Cast", "SimulateConfig", "grow", "grow_tree", "grow_trees"]


_ATTEMPTS = 4


class SimulateConfig(Value):
    """How trees are grown."""

    turns: Annotated[int, Field(ge=1)] = 5
    """Turns of a conversation: one user message and the replies to it."""
    siblings: Annotated[tuple[Source, ...], Field(min_length=2)] = (
        "tailored",
        "tailored",
        "generic",
        "mirror",
    )
    """Who answers each user turn, two replies or more. A source that is named twice answers twice, in other words."""
    policy_samples: Annotated[int, Field(ge=0)] = 0
    """Replies sampled from the base model per turn: all but one are candidates for the tailored reply, one stands for
    the generic reply. 0: rules write all replies."""


@dataclass(frozen=True)
class Cast:
    """Who plays which role. The default is rule-based throughout; `policy` adds replies of a chat model."""

    user: UserSimulator = field(default_factory=RuleUser)
    responder: Responder = field(default_factory=RuleResponder)
    judge: Judge = field(default_factory=RuleJudge)
    policy: Responder | None = None
    inducer: Inducer = field(default_factory=RuleInducer)


def grow(personas: Sequence[Persona], config: SimulateConfig, seed: int, cast: Cast | None = None) -> tuple[Tree, ...]:
    """The trees of all personas, for callers that have no event loop; see `grow_trees`."""

    async def all_of_them() -> tuple[Tree, ...]:
        return tuple([tree async for tree in grow_trees(personas, config, seed, cast)])

    return asyncio.run(all_of_them())


async def grow_trees(
    personas: Sequence[Persona], config: SimulateConfig, seed: int, cast: Cast | None = None
) -> AsyncIterator[Tree]:
    """Yield the tree of each persona, in the order of `personas`; the conversations run side by side."""
    cast = cast or Cast()
    tasks = [asyncio.create_task(grow_tree(persona, config, seed, cast)) for persona in personas]
    try:
        for task in tasks:
            yield await task
    finally:
        for task in tasks:
            task.cancel()


async def grow_tree(persona: Persona, config: SimulateConfig, seed: int, cast: Cast) -> Tree:
    """Grow one tree.

    A conversation in which a role fails keeps the turns before and carries the reason in `failure`.

    Raises:
        StorageError: the journal cannot be written. That is no fault of the conversation.
    """
    tree = Tree(persona_id=persona.id, seed=seed, nodes=())
    parent: int | None = None
    for turn in range(1, config.turns + 1):
        try:
            tree = await _add_turn(tree, parent, persona, config, cast)
        except StorageError:
            raise
        except InteralignError as error:
            return tree.model_copy(update={"failure": f"turn {turn}: {error}"})
        parent = next(index for index in reversed(range(len(tree.nodes))) if tree.nodes[index].continued)
    return tree


async def _add_turn(tree: Tree, parent: int | None, persona: Persona, config: SimulateConfig, cast: Cast) -> Tree:
    chat = tree.chat(parent) if parent is not None else ()
    ledger = tree.ledger(parent) if parent is not None else ()
    user = await cast.user.speak(persona, chat, ledger, tree.seed)
    asked = Node(parent=parent, role="user", content=user.content, source="user", disclosure=user.disclosure)
    tree = Tree(**{**dict(tree), "nodes": (*tree.nodes, asked)})
    at = len(tree.nodes) - 1
    replies = await _replies(tree, at, persona, config, cast)
    chat, ledger = tree.chat(at), tree.ledger(at)
    verdicts = await asyncio.gather(
        *(
            cast.judge.score(persona, chat, reply, ledger, _seed(tree, at, "judge", str(sibling)))
            for sibling, (_, reply) in enumerate(replies)
        )
    )
    chosen = Random(_seed(tree, at, "continue")).randrange(len(replies))
    nodes = [
        Node(parent=at, role="assistant", content=reply, source=source, verdict=verdict, continued=index == chosen)
        for index, ((source, reply), verdict) in enumerate(zip(replies, verdicts, strict=True))
    ]
    return Tree(**{**dict(tree), "nodes": (*tree.nodes, *nodes)})


async def _replies(
    tree: Tree, at: int, persona: Persona, config: SimulateConfig, cast: Cast
) -> list[tuple[Source, str]]:
    """One reply per sibling, all different: an equal sibling would be a preference without a difference."""
    chat, ledger = tree.chat(at), tree.ledger(at)
    topic = ledger[-1].topic
    known = views(persona, ledger, _seed(tree, at, "view"))
    known["tailored"] = await cast.inducer.induce(persona, chat, ledger, _seed(tree, at, "inducer"))
    sampled = await _policy_replies(tree, at, known["tailored"], config, cast)
    replies: list[tuple[Source, str]] = []
    for sibling, source in enumerate(config.siblings):
        candidates = sampled.pop(source, [])
        for attempt in range(_ATTEMPTS):
            seed = _seed(tree, at, source, str(sibling), str(attempt))
            composed = await cast.responder.respond(chat, topic, known[source], seed)
            best = _best([*candidates, composed], topic, known[source], source)
            if best not in (reply for _, reply in replies):
                replies.append((source, best))
                break
            candidates = []
    return replies


def _best(candidates: Sequence[str], topic: str, impression: Impression, source: Source) -> str:
    # The choice sees what the responder may know, never the persona: a tailored reply must be honest.
    if source != "tailored":
        return candidates[0]
    return max(candidates, key=lambda reply: impression_fit(reply, topic, impression))


async def _policy_replies(
    tree: Tree, at: int, impression: Impression, config: SimulateConfig, cast: Cast
) -> dict[Source, list[str]]:
    """The policy's own replies: one that sees the chat only, and candidates that are told the impression."""
    policy, count = cast.policy, config.policy_samples
    if policy is None or count == 0:
        return {}
    chat, topic = tree.chat(at), tree.ledger(at)[-1].topic
    told: list[Impression | None] = [None, *[impression] * (count - 1)]
    replies = await asyncio.gather(
        *(policy.respond(chat, topic, view, _seed(tree, at, "policy", str(sample))) for sample, view in enumerate(told))
    )
    return {"generic": [replies[0]], "tailored": list(replies[1:])}


def _seed(tree: Tree, at: int, *parts: str) -> int:
    return derive_seed(tree.seed, tree.persona_id, at, *parts)
