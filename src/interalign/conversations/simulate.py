"""Growing conversation trees: a user, an inducer, responders and a judge, turn by turn.

Which replies are continued is the policy's choice. By default that is one, drawn by seed and not by score: users react
to good and to poor replies alike, and what they show in reacting is there to learn from. So the judge runs beside the
conversation; only the policy `best` waits for it.

A tree depends on its persona, the seed and the models only, whatever order calls and conversations finish in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from functools import partial
from random import Random
from typing import Annotated

from pydantic import Field, model_validator

from interalign.conversations.checks import ChecksConfig
from interalign.conversations.policy import PolicyConfig, chosen
from interalign.conversations.side_by_side import as_done
from interalign.conversations.tree import Fault, Node, Tree
from interalign.conversations.turn import (
    Cast,
    Place,
    Turn,
    judge_turn,
    take_turn,
)
from interalign.errors import InteralignError, StopWork, StorageError
from interalign.llm.backends import ModelConfig
from interalign.llm.model import Sampling
from interalign.messages import Value
from interalign.personas.persona import Persona
from interalign.roles.judge import Judgement, Verdict
from interalign.roles.llm.player import RoleConfig, WeightedModel, all_or_first_error
from interalign.roles.responder import Source
from interalign.roles.user import UserTurn
from interalign.run import derive_seed

__all__ = [
    "RolesConfig",
    "SimulateConfig",
    "grow",
    "grow_as_done",
    "grow_more",
    "grow_tree",
    "grow_trees",
    "roles_played_by",
]

_BY_RULES: tuple[Source, ...] = ("tailored", "tailored", "generic", "mirror")
_BY_MODELS: tuple[Source, ...] = ("tailored", "generic")


class RolesConfig(Value):
    """Which language models play which role. Each role may be played by several, mixed by weight."""

    user: RoleConfig
    """Plays the persona."""
    inducer: RoleConfig
    """Writes down what the user has disclosed."""
    tailored: RoleConfig
    """Answers with what is disclosed in view."""
    generic: RoleConfig
    """Answers with the chat in view only."""
    judge: RoleConfig
    """Compares the replies in both orders and scores them."""
    checker: RoleConfig | None = None
    """Looks again at user turns that the rules of `checks` have let pass; left out, the rules are all."""


def roles_played_by(model: ModelConfig) -> RolesConfig:
    """All roles played by one model: users and responders freely, the inducer and the judge at temperature 0."""
    models = (WeightedModel(model=model),)
    return RolesConfig(
        user=RoleConfig(models=models, sampling=Sampling(max_tokens=200, temperature=0.9)),
        inducer=RoleConfig(models=models, sampling=Sampling(max_tokens=600, temperature=0)),
        tailored=RoleConfig(models=models, sampling=Sampling(max_tokens=400)),
        generic=RoleConfig(models=models, sampling=Sampling(max_tokens=400)),
        judge=RoleConfig(models=models, sampling=Sampling(max_tokens=100, temperature=0)),
    )


class SimulateConfig(Value):
    """How trees are grown."""

    turns: Annotated[int, Field(ge=1)] = 5
    """Turns of a conversation: one user message and the replies to it."""
    siblings: Annotated[tuple[Source, ...], Field(min_length=2)] | None = None
    """Who answers each user turn, two replies or more; a source that is named twice answers twice, in other words. Left
    out: two tailored replies, a generic and a mirror by rules; a tailored and a generic one by language models."""
    policy: PolicyConfig = PolicyConfig()
    """Which replies the conversation goes on from."""
    policy_samples: Annotated[int, Field(ge=0)] = 0
    """Replies sampled from the base model per turn: all but one are candidates for the tailored reply, one stands for
    the generic reply. 0: rules write all replies."""
    roles: RolesConfig | None = None
    """Language models for all roles. Left out, rules play them, with personas that `personas compose` has made."""
    checks: ChecksConfig = ChecksConfig()
    """What is not let pass of a user whom a language model plays."""
    in_flight: Annotated[int, Field(ge=1)] = 128
    """Conversations that are open at the same time. It bounds memory and changes no tree."""

    @model_validator(mode="after")
    def _check(self) -> SimulateConfig:
        unknown = sorted(set(self.sources) - {*_BY_MODELS, "policy"}) if self.roles else []
        if unknown:
            raise ValueError(f"no language model answers as {', '.join(unknown)}: use tailored, generic and policy")
        if self.roles and self.policy_samples:
            raise ValueError("policy_samples belong to rule-based roles: name the base model among the roles' models")
        silent = sorted(set(self.policy.continue_from or ()) - set(self.sources))
        if silent:
            raise ValueError(f"policy.continue_from names {', '.join(silent)}, who is not among the siblings")
        return self

    @property
    def sources(self) -> tuple[Source, ...]:
        """Who answers each user turn."""
        return self.siblings or (_BY_MODELS if self.roles else _BY_RULES)


def grow(personas: Sequence[Persona], config: SimulateConfig, seed: int, cast: Cast | None = None) -> tuple[Tree, ...]:
    """The trees of all personas, for callers that have no event loop; see `grow_trees`."""

    async def all_of_them() -> tuple[Tree, ...]:
        return tuple([tree async for tree in grow_trees(personas, config, seed, cast)])

    return asyncio.run(all_of_them())


async def grow_trees(
    personas: Sequence[Persona],
    config: SimulateConfig,
    seed: int,
    cast: Cast | None = None,
    before: Mapping[str, Tree] | None = None,
) -> AsyncIterator[Tree]:
    """Yield the tree of each persona, in the order of `personas`; the conversations run side by side.

    A tree that is done before one ahead of it is kept until then; `grow_as_done` keeps none.

    Args:
        personas: Who talks.
        config: How trees are grown.
        seed: Of the run.
        cast: Who plays which role; rules where it is left out.
        before: Trees to grow on, by persona id.

    Raises:
        StopWork: the budget is spent, or the user asked to stop. What was in flight is finished before.
        StorageError: the journal cannot be written.
    """
    early: dict[int, Tree] = {}
    due = 0
    async for place, tree in _as_done(personas, config, seed, cast, before):
        early[place] = tree
        while due in early:
            yield early.pop(due)
            due += 1


async def grow_as_done(
    personas: Sequence[Persona],
    config: SimulateConfig,
    seed: int,
    cast: Cast | None = None,
    before: Mapping[str, Tree] | None = None,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> AsyncIterator[Tree]:
    """Yield the trees that `grow_trees` yields, with the same arguments, each as soon as it is done.

    No more than `config.in_flight` conversations are in memory, whichever of them takes long. Each runs in a block that
    `around` makes (`Account.whole`).
    """
    async for _, tree in _as_done(personas, config, seed, cast, before, around):
        yield tree


async def _as_done(
    personas: Sequence[Persona],
    config: SimulateConfig,
    seed: int,
    cast: Cast | None,
    before: Mapping[str, Tree] | None,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> AsyncIterator[tuple[int, Tree]]:
    """The trees as they are done, with the places of their personas.

    When the work is to stop, no conversation begins any more, and no call: the others come to their end, or to where
    they need one, and those that come to their end are yielded before StopWork is raised.
    """
    players = cast or Cast()

    async def one(place: int, persona: Persona) -> tuple[int, Tree]:
        known = (before or {}).get(persona.id)
        with around():
            if known is None:
                return place, await grow_tree(persona, config, seed, players)
            return place, await grow_more(known, persona, config, players)

    begun = (partial(one, place, persona) for place, persona in enumerate(personas))
    async with aclosing(as_done(begun, config.in_flight)) as done:
        async for tree in done:
            yield tree


async def grow_tree(persona: Persona, config: SimulateConfig, seed: int, cast: Cast) -> Tree:
    """Grow one tree.

    A conversation in which a role fails keeps the turns before and carries the reason in `failure`.

    Raises:
        StopWork, StorageError: as `grow_trees`; they are no fault of the conversation.
    """
    return await _Growing(Tree(persona_id=persona.id, seed=seed, nodes=()), persona, config, cast).grow([None])


async def grow_more(tree: Tree, persona: Persona, config: SimulateConfig, cast: Cast) -> Tree:
    """Grow a tree on where `config` leaves it open: further turns, and replies that were not continued before.

    Everything that is there stays, in its place. A conversation that failed goes on from its last turn: where messages
    of the user were refused, others are asked for, and a judge that failed is asked again.

    Raises:
        StopWork, StorageError: as `grow_trees`.
    """
    growing = _Growing(tree, persona, config, cast)
    if tree.failure:
        growing.judge_again()
    return await growing.grow(growing.open_ends())


class _Growing:
    """One tree while it grows, a level of turns at a time."""

    def __init__(self, tree: Tree, persona: Persona, config: SimulateConfig, cast: Cast) -> None:
        self._tree = tree
        self._persona = persona
        self._config = config
        self._cast = cast
        self._failures: list[str] = []
        self._before = tree.faults if tree.failure else ()
        """What was found when the conversation failed: answers from the journal are the same, and count once."""
        self._judging: dict[int, asyncio.Task[Judgement]] = {}
        """By the index of the first reply."""

    async def grow(self, ends: Sequence[int | None]) -> Tree:
        """Continue the replies `ends` (None: the beginning) up to the last turn, and wait for the judge."""
        try:
            while ends:
                ends = await self._level(ends)
            await self._enter_judgements()
        except StopWork:
            # What the judge was asked is paid for.
            await asyncio.gather(*self._judging.values(), return_exceptions=True)
            raise
        finally:
            for task in self._judging.values():
                task.cancel()
        self._change(failure=self._failures[0] if self._failures else None)
        return self._tree

    def open_ends(self) -> list[int | None]:
        """Replies that the policy wants to be continued and that nothing follows yet; they are marked on the way."""
        tree, policy = self._tree, self._config.policy
        if not tree.nodes:
            return [None]
        ends: list[int] = []
        for user in tree.user_turns():
            replies, turn = tree.children(user), tree.turn(user)
            if turn >= self._config.turns:
                continue
            sources = [tree.nodes[reply].source for reply in replies]
            eligible = {replies[place] for place in policy.eligible(sources)}
            # Where nothing follows yet, an earlier policy may have chosen what this one would not go on from.
            wanted = {
                reply
                for reply in replies
                if tree.nodes[reply].continued and (tree.children(reply) or reply in eligible)
            }
            # What the seed draws is continued already, except in trees from elsewhere and under another policy.
            if not wanted or policy.name == "best" or (policy.name == "full" and turn < policy.depth):
                verdicts = [tree.nodes[reply].verdict for reply in replies]
                wanted |= {replies[place] for place in self._continued(user, turn, sources, verdicts)}
            ends += [reply for reply in sorted(wanted) if not tree.children(reply)]
        self._change(
            nodes=tuple(
                node.model_copy(update={"continued": True}) if index in ends else node
                for index, node in enumerate(tree.nodes)
            )
        )
        return list(ends)

    async def _level(self, ends: Sequence[int | None]) -> list[int | None]:
        """One more turn after each of `ends`, side by side; returns the replies to be continued after these."""
        first, width = len(self._tree.nodes), 1 + len(self._config.sources)
        places = [self._place(end, first + index * width, index) for index, end in enumerate(ends)]
        turns = await all_or_first_error(self._turn(place) for place in places)
        after: list[int | None] = []
        for end, place, (turn, found) in zip(ends, places, turns, strict=True):
            self._note(found)
            if isinstance(turn, Turn):
                after += await self._add(end, place, turn)
            else:
                self._failures.append(f"turn {len(place.ledger) + 1}: {turn}")
        return after

    def _place(self, end: int | None, at: int, branch: int = 0) -> Place:
        tree, checks = self._tree, self._cast.checks
        chat = tree.chat(end) if end is not None else ()
        ledger = tree.ledger(end) if end is not None else ()
        refused = [one.attempt for one in self._before if (one.role, one.turn) == ("user", len(ledger) + 1)]
        # Branches that are asked for other words have numbers of their own, so that each try at a turn is told once.
        tried = 1 + max(refused) + branch * (1 + (checks.retries if checks else 0)) if refused else 0
        turn, sources = len(ledger) + 1, self._config.sources
        silent = [one.attempt for one in self._before if one.turn == turn and one.role in sources]
        return Place(self._persona, chat, ledger, tree.seed, at, tried, 1 + max(silent) if silent else 0)

    async def _turn(self, place: Place) -> tuple[Turn | InteralignError, list[Fault]]:
        found: list[Fault] = []
        try:
            return await take_turn(place, self._cast, self._config.sources, self._config.policy_samples, found), found
        except (StopWork, StorageError):
            raise
        except InteralignError as error:
            return error, found

    async def _add(self, end: int | None, place: Place, turn: Turn) -> list[int]:
        """Enter a turn; returns the replies to be continued, none after the last turn."""
        user = len(self._tree.nodes)
        self._judge(user + 1, place, turn.user, [reply.content for _, reply in turn.replies])
        number = len(place.ledger) + 1
        verdicts: Sequence[Verdict | None] = [None] * len(turn.replies)
        if self._config.policy.name == "best":
            judgement = await self._judgement(user + 1)
            verdicts = judgement.verdicts if judgement else verdicts
        continued = self._continued(place.at, number, [source for source, _ in turn.replies], verdicts)
        spoken = turn.user
        nodes = [
            Node(
                parent=end,
                role="user",
                content=spoken.content,
                source="user",
                disclosure=spoken.disclosure,
                model=spoken.model,
            )
        ]
        nodes += [
            Node(
                parent=user,
                role="assistant",
                content=reply.content,
                source=source,
                continued=index in continued,
                model=reply.model,
            )
            for index, (source, reply) in enumerate(turn.replies)
        ]
        self._change(nodes=(*self._tree.nodes, *nodes))
        return [user + 1 + index for index in continued] if number < self._config.turns else []

    def judge_again(self) -> None:
        """Ask the judge about replies that it failed at."""
        tree = self._tree
        compared = {index for one in tree.comparisons for index in (one.first, one.second)}
        for user in tree.user_turns():
            replies, spoken = tree.children(user), tree.nodes[user]
            unjudged = all(tree.nodes[reply].verdict is None and reply not in compared for reply in replies)
            if not (replies and unjudged and spoken.disclosure):
                continue
            said = UserTurn(content=spoken.content, disclosure=spoken.disclosure, model=spoken.model)
            texts = [tree.nodes[reply].content for reply in replies]
            self._judge(replies[0], self._place(spoken.parent, user), said, texts)

    def _judge(self, first: int, place: Place, user: UserTurn, texts: Sequence[str]) -> None:
        judging = asyncio.create_task(judge_turn(place, self._cast, user, texts))
        judging.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._judging[first] = judging

    def _continued(
        self, at: int, turn: int, sources: Sequence[str], verdicts: Sequence[Verdict | None]
    ) -> tuple[int, ...]:
        """The places of the replies to be continued, of those to the user turn that was taken at `at`."""
        eligible = self._config.policy.eligible(sources)
        judged = ((verdicts[place], place) for place in eligible)
        scores = [(verdict.score, -place) for verdict, place in judged if verdict is not None]
        return chosen(
            self._config.policy,
            turn,
            eligible,
            drawn=eligible[Random(self._seed(at, "continue")).randrange(len(eligible))],
            best=-max(scores)[1] if scores else None,
            luck=Random(self._seed(at, "greed")).random(),
        )

    def _seed(self, at: int, what: str) -> int:
        return derive_seed(self._tree.seed, self._persona.id, at, what)

    async def _enter_judgements(self) -> None:
        nodes = list(self._tree.nodes)
        comparisons = list(self._tree.comparisons)
        for first in self._judging:
            judgement = await self._judgement(first)
            if judgement is None:
                continue
            for place, verdict in enumerate(judgement.verdicts):
                nodes[first + place] = nodes[first + place].model_copy(update={"verdict": verdict})
            comparisons += [
                one.model_copy(update={"first": first + one.first, "second": first + one.second})
                for one in judgement.comparisons
            ]
        self._change(nodes=tuple(nodes), comparisons=tuple(comparisons))

    async def _judgement(self, first: int) -> Judgement | None:
        """What the judge says of the replies from `first` on; None, and a failure noted, where it cannot be had."""
        try:
            return await self._judging[first]
        except (StopWork, StorageError):
            raise
        except InteralignError as error:
            said = f"judge: {error}"
            if said not in self._failures:
                self._failures.append(said)
            return None

    def _note(self, faults: Sequence[Fault]) -> None:
        self._change(faults=(*self._tree.faults, *(one for one in faults if one not in self._before)))

    def _change(self, **changed: object) -> None:
        # Not model_copy: it would keep what the tree has derived from its nodes.
        self._tree = Tree(**{**dict(self._tree), **changed})
