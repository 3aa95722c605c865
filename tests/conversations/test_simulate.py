from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from pydantic import ValidationError

from interalign.conversations.simulate import SimulateConfig, grow_as_done, grow_trees
from interalign.conversations.tree import Tree
from interalign.conversations.turn import Cast
from interalign.errors import BudgetSpent, ModelError
from interalign.llm.model import Request, Sampling
from interalign.llm.scripted import ScriptedModel
from interalign.messages import Chat
from interalign.personas.persona import Persona
from interalign.roles.inducer import Impression
from interalign.roles.judge import RuleJudge, Verdict, judge_reply
from interalign.roles.ledger import Ledger
from interalign.roles.llm.player import RoleFailure
from interalign.roles.responder import ModelResponder, RuleResponder
from interalign.roles.user import RuleUser, UserTurn
from tests.roles.talks import PERSONAS

CONFIG = SimulateConfig(turns=4)


def grown(personas: Sequence[Persona], config: SimulateConfig, cast: Cast | None = None, seed: int = 1) -> list[Tree]:
    async def collect() -> list[Tree]:
        return [tree async for tree in grow_trees(personas, config, seed, cast)]

    return asyncio.run(collect())


class Dawdling:
    """Rule-based roles that let others go first, by chance."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    async def _dawdle(self) -> None:
        for _ in range(self._random.randrange(9)):
            await asyncio.sleep(0)

    async def speak(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> UserTurn:
        await self._dawdle()
        return await RuleUser().speak(persona, chat, ledger, seed)

    async def respond(self, chat: Chat, topic: str, impression: Impression | None, seed: int) -> str:
        await self._dawdle()
        return await RuleResponder().respond(chat, topic, impression, seed)

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        await self._dawdle()
        return await RuleJudge().score(persona, chat, reply, ledger, seed)


class FailsAtTurnThree:
    """A user who gets no further than two turns with one persona."""

    def __init__(self, persona: Persona) -> None:
        self._persona = persona

    async def speak(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> UserTurn:
        if persona == self._persona and len(ledger) == 2:
            raise ModelError("The server gave no answer.", mend="start it.")
        return await RuleUser().speak(persona, chat, ledger, seed)


class Mumbles:
    """A judge whose answers to every second reply cannot be read."""

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        if seed % 2:
            raise RoleFailure("Mumbled.", cause="no JSON")
        return await RuleJudge().score(persona, chat, reply, ledger, seed)


def test_a_verdict_that_cannot_be_read_is_missing_and_ends_no_conversation() -> None:
    trees = grown(PERSONAS[:4], CONFIG, Cast(judge=Mumbles()))
    verdicts = [node.verdict for tree in trees for node in tree.nodes if node.role == "assistant"]
    assert not any(tree.failure for tree in trees)
    assert 0 < sum(one is None for one in verdicts) < len(verdicts)


class SaysOneThing:
    """A responder with one reply for everybody."""

    async def respond(self, chat: Chat, topic: str, impression: Impression | None, seed: int) -> str:
        return "Do as you like."


class NoVerdict:
    """A judge that cannot decide."""

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        return None


def as_bytes(trees: Sequence[Tree]) -> list[str]:
    return [tree.model_dump_json() for tree in trees]


def test_the_order_of_events_changes_nothing() -> None:
    prompt = grown(PERSONAS[:8], CONFIG)
    for seed in range(3):
        slow = Dawdling(seed)
        policy = ModelResponder(ScriptedModel("scripted", ["You could rest.", "Do it.", "Go on."]), Sampling())
        assert as_bytes(grown(PERSONAS[:8], CONFIG, Cast(slow, slow, slow, policy))) == as_bytes(prompt)
    alone = [grown([persona], CONFIG)[0] for persona in PERSONAS[:8]]
    assert as_bytes(alone) == as_bytes(prompt)


def test_seeds_make_other_conversations() -> None:
    assert as_bytes(grown(PERSONAS[:2], CONFIG, seed=2)) != as_bytes(grown(PERSONAS[:2], CONFIG))


def test_trees_are_complete() -> None:
    trees = grown(PERSONAS[:10], CONFIG)
    assert [tree.persona_id for tree in trees] == [persona.id for persona in PERSONAS[:10]]
    for tree, persona in zip(trees, PERSONAS, strict=False):
        assert tree.failure is None
        turns = list(tree.user_turns())
        assert len(turns) == 4
        for turn in turns:
            replies = [tree.nodes[i] for i in tree.children(turn)]
            assert [reply.source for reply in replies] == list(CONFIG.sources)
            assert len({reply.content for reply in replies}) == len(replies)
            assert sum(reply.continued for reply in replies) == 1
            chat, ledger = tree.chat(turn), tree.ledger(turn)
            assert len(ledger) == tree.turn(turn)
            for reply in replies:
                assert reply.verdict == judge_reply(persona, chat, reply.content, ledger)


def test_what_is_continued_is_not_what_is_best() -> None:
    trees = grown(PERSONAS[:20], CONFIG)
    sources = Counter(node.source for tree in trees for node in tree.nodes if node.continued)
    assert set(sources) == set(CONFIG.sources)


def test_a_failure_keeps_the_turns_before_it() -> None:
    broken = PERSONAS[1]
    trees = grown(PERSONAS[:3], CONFIG, Cast(user=FailsAtTurnThree(broken)))
    whole = grown(PERSONAS[:3], CONFIG)
    assert [tree.failure is None for tree in trees] == [True, False, True]
    assert trees[1].failure == "turn 3: The server gave no answer. To mend it: start it."
    assert len(list(trees[1].user_turns())) == 2
    assert trees[1].nodes == whole[1].nodes[: len(trees[1].nodes)]
    assert (trees[0], trees[2]) == (whole[0], whole[2])


def test_equal_siblings_are_one() -> None:
    tree = grown(PERSONAS[:1], CONFIG, Cast(responder=SaysOneThing()))[0]
    assert tree.failure is None
    assert [len(tree.children(turn)) for turn in tree.user_turns()] == [1] * 4


def test_missing_verdicts_stay_missing() -> None:
    tree = grown(PERSONAS[:1], CONFIG, Cast(judge=NoVerdict()))[0]
    assert tree.failure is None
    assert all(node.verdict is None for node in tree.nodes)


def test_siblings_are_those_asked_for() -> None:
    config = SimulateConfig(turns=1, siblings=("oracle", "random", "constant", "oracle"))
    tree = grown(PERSONAS[:1], config)[0]
    assert [node.source for node in tree.nodes[1:]] == ["oracle", "random", "constant", "oracle"]


def test_the_policy_speaks_for_the_generic_and_is_a_candidate_for_the_tailored() -> None:
    told: list[bool] = []

    def answer(request: Request) -> str:
        told.append("Known about the user" in request.messages[0].content)
        return f"You said something {request.seed}."

    config = SimulateConfig(turns=2, policy_samples=3)
    policy = ModelResponder(ScriptedModel("policy", answer), Sampling())
    tree = grown(PERSONAS[:1], config, Cast(policy=policy))[0]
    generic = [node.content for node in tree.nodes if node.source == "generic"]
    assert all(text.startswith("You said something") for text in generic)
    assert sorted(told) == [False] * 2 + [True] * 4


def test_what_a_policy_thinks_never_stands_in_a_tree() -> None:
    def answer(request: Request) -> str:
        return f"<think>Notes: emoji none.</think>You said something {request.seed}."

    def silent(request: Request) -> str:
        return "<think>Notes: emoji none."

    config = SimulateConfig(turns=2, policy_samples=3, siblings=("tailored", "generic", "policy"))
    for says in (answer, silent):
        policy = ModelResponder(ScriptedModel("policy", says), Sampling())
        tree = grown(PERSONAS[:1], config, Cast(policy=policy, writers={"policy": policy}))[0]
        assert tree.turn(len(tree.nodes) - 1) == 2
        assert all(node.content and "think" not in node.content for node in tree.nodes)
        sources = {node.source for node in tree.nodes}
        assert ("policy" in sources) is (says is answer)
        assert [fault.role for fault in tree.faults] == ([] if says is answer else ["policy"] * len(tree.faults))


@pytest.mark.parametrize("wrong", [{"turns": 0}, {"siblings": ("generic",)}, {"policy_samples": -1}])
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SimulateConfig.model_validate(wrong)


class FirstWaits:
    """A user who says nothing to the first persona before all others have begun."""

    def __init__(self, first: Persona, others: int) -> None:
        self._first = first
        self._others = others
        self._begun: set[str] = set()
        self._all = asyncio.Event()

    async def speak(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> UserTurn:
        if persona == self._first:
            await self._all.wait()
        else:
            self._begun.add(persona.id)
            if len(self._begun) == self._others:
                self._all.set()
        return await RuleUser().speak(persona, chat, ledger, seed)


def test_trees_come_as_they_are_done_or_in_the_order_of_the_personas() -> None:
    people, config = PERSONAS[:6], CONFIG.model_copy(update={"in_flight": 2})

    async def as_done() -> list[Tree]:
        cast = Cast(user=FirstWaits(people[0], 5))
        return [tree async for tree in grow_as_done(people, config, 1, cast)]

    done = asyncio.run(as_done())
    assert done[0].persona_id != people[0].id
    ordered = grown(people, config, Cast(user=FirstWaits(people[0], 5)))
    assert [tree.persona_id for tree in ordered] == [persona.id for persona in people]
    assert {tree.model_dump_json() for tree in done} == set(as_bytes(ordered)) == set(as_bytes(grown(people, CONFIG)))


class Counting:
    """A user who counts the personas that he has begun with and that have not heard their last turn."""

    def __init__(self, turns: int) -> None:
        self.most = 0
        self._turns = turns
        self._open: set[str] = set()

    async def speak(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> UserTurn:
        self._open.add(persona.id)
        self.most = max(self.most, len(self._open))
        await asyncio.sleep(0)
        if len(ledger) + 1 == self._turns:
            self._open.discard(persona.id)
        return await RuleUser().speak(persona, chat, ledger, seed)


def test_no_more_conversations_are_open_than_may_be_and_none_is_kept() -> None:
    user = Counting(CONFIG.turns)
    alive = []
    # What was there before need not be gone through each time.
    gc.freeze()

    async def run() -> None:
        config = CONFIG.model_copy(update={"in_flight": 3})
        seen: list[weakref.ref[Tree]] = []
        async for tree in grow_as_done(PERSONAS[:12], config, 1, Cast(user=user)):
            seen.append(weakref.ref(tree))
            del tree
            gc.collect()
            alive.append(sum(one() is not None for one in seen))

    try:
        asyncio.run(run())
    finally:
        gc.unfreeze()
    assert user.most == 3
    assert len(alive) == 12 and max(alive) <= 1


class Broken:
    """A user with whom everything stops at the first word."""

    async def speak(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> UserTurn:
        raise BudgetSpent("Spent.")


class Spent:
    """A user who stops all at the second persona's second turn."""

    async def speak(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> UserTurn:
        if persona == PERSONAS[1] and ledger:
            raise BudgetSpent("Spent.")
        return await RuleUser().speak(persona, chat, ledger, seed)


def test_conversations_that_come_to_their_end_are_yielded_before_what_stops_the_work() -> None:
    config = CONFIG.model_copy(update={"in_flight": 3})
    done: list[str] = []

    async def run() -> None:
        async for tree in grow_as_done(PERSONAS[:12], config, 1, Cast(user=Spent())):
            done.append(tree.persona_id)

    with pytest.raises(BudgetSpent):
        asyncio.run(run())
    assert sorted(done) == sorted(one.id for one in (PERSONAS[0], PERSONAS[2]))


def test_what_stops_the_work_is_raised_once_and_nothing_begins_after_it() -> None:
    config = CONFIG.model_copy(update={"in_flight": 3})
    with pytest.raises(BudgetSpent):
        grown(PERSONAS[:12], config, Cast(user=Broken()))
    gc.collect()
