"""Trees grown by scripts in every role: policies, growing on, faults and failures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from interalign.conversations.cast import cast_of, roles_of
from interalign.conversations.checks import ChecksConfig
from interalign.conversations.policy import PolicyConfig, PolicyName, chosen
from interalign.conversations.simulate import (
    RolesConfig,
    SimulateConfig,
    grow_more,
    grow_tree,
    grow_trees,
    roles_played_by,
)
from interalign.conversations.tree import Tree
from interalign.conversations.turn import Cast
from interalign.errors import Interrupted, ModelError, StorageError
from interalign.llm.backends import ScriptedConfig
from interalign.llm.model import Answer, Request
from interalign.llm.scripted import ScriptedModel
from interalign.personas.persona import Persona
from interalign.personas.seeds import seeds
from interalign.roles.ledger import stated_so_far
from interalign.roles.llm.judge import LLMJudge
from interalign.roles.llm.player import Player, instructions
from interalign.roles.llm.script import scripts

ROLE_CONFIGS = roles_played_by(ScriptedConfig())
PERSONAS = [
    Persona(profile=one.text, personality=other.text)
    for one, other in zip(seeds("profile"), seeds("personality"), strict=True)
]


def config(turns: int = 3, policy: PolicyName = "path", **policy_changes: float) -> SimulateConfig:
    policies = PolicyConfig.model_validate({"name": policy, **policy_changes})
    return SimulateConfig(turns=turns, roles=ROLE_CONFIGS, policy=policies)


def cast(
    changes: dict[str, Callable[[Request], str]] | None = None,
    checks: ChecksConfig | None = None,
    roles: RolesConfig = ROLE_CONFIGS,
) -> Cast:
    """Scripts in all roles; `changes` answer for a role in their place."""
    models = {role: ScriptedModel(role, answer) for role, answer in (changes or {}).items()}
    players = {
        role: Player([(models.get(role, scripts()[role]), 1.0)], getattr(roles, role).sampling, instructions(role))
        for role in roles_of(roles)
    }
    return replace(cast_of(players, config()), checks=checks)


def grown(tree_config: SimulateConfig, players: Cast | None = None, count: int = 1) -> list[Tree]:
    async def collect() -> list[Tree]:
        return [tree async for tree in grow_trees(PERSONAS[:count], tree_config, 1, players or cast())]

    return asyncio.run(collect())


def shape(tree: Tree) -> list[tuple[int | None, str, bool]]:
    return [(node.parent, node.source, node.continued) for node in tree.nodes]


def test_a_conversation_of_models_is_complete_and_says_who_wrote_what() -> None:
    for persona, tree in zip(PERSONAS, grown(config(4), count=6), strict=False):
        assert (tree.persona_id, tree.failure, tree.faults) == (persona.id, None, ())
        assert [node.source for node in tree.nodes] == ["user", "tailored", "generic"] * 4
        assert {node.model for node in tree.nodes if node.role == "user"} == {scripts()["user"].name}
        assert all(node.verdict is not None for node in tree.nodes if node.role == "assistant")
        assert len(tree.comparisons) == 4
        assert all({tree.nodes[i].parent for i in (one.first, one.second)} for one in tree.comparisons)
        stated = [one for entry in tree.ledger(len(tree.nodes) - 1) for one in entry.stated]
        assert stated
        for entry in tree.ledger(len(tree.nodes) - 1):
            said = next(n.content for n in tree.nodes if n.disclosure is not None and n.disclosure.turn == entry.turn)
            assert all(one.words.casefold() in said.casefold() for one in entry.stated)


@pytest.mark.parametrize(("depth", "users"), [(1, 4), (2, 1 + 2 * 3), (3, 1 + 2 + 4 * 2), (4, 1 + 2 + 4 + 8)])
def test_full_trees_branch_up_to_their_depth(depth: int, users: int) -> None:
    (tree,) = grown(config(4, "full", depth=depth))
    assert tree.failure is None
    assert len(list(tree.user_turns())) == users
    for user in tree.user_turns():
        replies = tree.children(user)
        assert sum(tree.nodes[reply].continued for reply in replies) == (2 if tree.turn(user) < depth else 1)


def test_the_judge_is_told_what_the_person_has_given_away_this_message_included() -> None:
    told: list[list[str]] = []

    def judge(request: Request) -> str:
        told.append(json.loads(request.messages[1].content.split("<disclosed>")[1].split("</disclosed>")[0]))
        return '{"better": "tie", "score_a": 3, "score_b": 3}'

    (tree,) = grown(config(3), cast({"judge": judge}))
    known = [[one.text for one in stated_so_far(tree.ledger(user))] for user in tree.user_turns()]
    assert 0 < len(known[0]) < len(known[1])
    assert sorted(told) == sorted(known * 2)


def test_the_best_policy_follows_the_judge() -> None:
    (tree,) = grown(config(5, "best", greed=1.0))
    for user in tree.user_turns():
        best = max(tree.children(user), key=lambda i: tree.nodes[i].verdict.score if tree.nodes[i].verdict else 0)
        assert tree.nodes[best].continued


@given(
    st.sampled_from(["path", "full", "best"]),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 6),
    st.floats(0, 0.999),
    st.data(),
)
def test_a_policy_continues_what_is_there(
    name: PolicyName, turn: int, replies: int, depth: int, luck: float, data: st.DataObject
) -> None:
    sources = data.draw(st.lists(st.sampled_from(["tailored", "random", "mirror"]), min_size=replies, max_size=replies))
    continue_from = data.draw(st.none() | st.just(("random",)) | st.just(("mirror", "random")))
    policy = PolicyConfig(name=name, depth=depth, greed=0.5, continue_from=continue_from)
    eligible = policy.eligible(sources)
    drawn = data.draw(st.sampled_from(eligible))
    best = data.draw(st.none() | st.sampled_from(eligible))
    found = chosen(policy, turn, eligible, drawn=drawn, best=best, luck=luck)
    assert found and set(found) <= set(range(replies)) and len(set(found)) == len(found)
    if continue_from is not None and set(sources) & set(continue_from):
        assert all(sources[place] in continue_from for place in found)
    if name == "path":
        assert found == (drawn,)


@pytest.mark.parametrize("name", ["path", "full", "best"])
def test_conversations_go_on_from_the_replies_that_were_named(name: PolicyName) -> None:
    policy = PolicyConfig(name=name, greed=1.0, continue_from=("generic",))
    for tree in grown(SimulateConfig(turns=4, roles=ROLE_CONFIGS, policy=policy), count=4):
        assert {node.source for node in tree.nodes if node.continued} == {"generic"}
        assert all(len(tree.children(user)) == 2 for user in tree.user_turns())
    anybody = grown(config(4, name, greed=1.0), count=4)
    assert "tailored" in {node.source for tree in anybody for node in tree.nodes if node.continued}


def test_growing_on_goes_on_from_the_replies_that_are_named_now() -> None:
    trees = grown(config(2), count=6)
    assert any(tree.nodes[end].continued and tree.nodes[end].source == "tailored" for tree in trees for end in (4, 5))
    named = SimulateConfig(turns=4, roles=ROLE_CONFIGS, policy=PolicyConfig(continue_from=("generic",)))

    async def more(place: int) -> Tree:
        return await grow_more(trees[place], PERSONAS[place], named, cast())

    for place in range(len(trees)):
        on = asyncio.run(more(place))
        assert len(list(on.user_turns())) == 4
        followed = [node for index, node in enumerate(on.nodes) if node.role == "assistant" and on.children(index)]
        # What the first turn went on from is done; from the second on it is a generic reply.
        assert {node.source for node in followed[1:]} == {"generic"}


def test_where_nobody_of_those_named_answers_the_conversation_goes_on_all_the_same() -> None:
    policy = PolicyConfig(continue_from=("generic",))
    (tree,) = grown(SimulateConfig(turns=3, roles=ROLE_CONFIGS, policy=policy), cast({"generic": lambda _: " "}))
    assert tree.failure is None
    assert [node.source for node in tree.nodes] == ["user", "tailored"] * 3


def test_conversations_go_on_from_somebody_who_answers() -> None:
    with pytest.raises(ValidationError, match=r"continue_from names mirror, who is not among the siblings"):
        SimulateConfig(siblings=("tailored", "random"), policy=PolicyConfig(continue_from=("mirror",)))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(0, 3), st.integers(0, 19))
def test_growing_on_gives_what_growing_at_once_gives(first: int, more: int, who: int) -> None:
    async def both() -> tuple[Tree, Tree]:
        short = await grow_tree(PERSONAS[who], config(first), 1, cast())
        return (
            await grow_more(short, PERSONAS[who], config(first + more), cast()),
            await grow_tree(PERSONAS[who], config(first + more), 1, cast()),
        )

    on, at_once = asyncio.run(both())
    assert on == at_once


def test_other_branches_can_be_grown_later_and_what_was_there_stays() -> None:
    (tree,) = grown(config(3))

    async def more() -> Tree:
        return await grow_more(tree, PERSONAS[0], config(3, "full", depth=3), cast())

    on = asyncio.run(more())
    assert len(list(on.user_turns())) == 1 + 2 + 4
    for before, after in zip(tree.nodes, on.nodes, strict=False):
        assert before == after or before.model_copy(update={"continued": True}) == after
    assert set(tree.comparisons) <= set(on.comparisons)
    assert all(node.verdict is not None for node in on.nodes if node.role == "assistant")


def flips_role(_: Request) -> str:
    return "As an AI language model, I can help you with that. How can I assist you today?"


def test_a_faulty_user_is_asked_again_and_then_ends_the_conversation() -> None:
    checks = ChecksConfig(retries=2)
    (tree,) = grown(config(3), cast({"user": flips_role}, checks))
    assert tree.nodes == ()
    assert tree.failure is not None and tree.failure.startswith(
        "turn 1: The user simulator gave no usable message in 3"
    )
    assert {fault.attempt for fault in tree.faults} == {0, 1, 2}
    assert {fault.role for fault in tree.faults} == {"user"}
    assert "role flip" in {fault.check for fault in tree.faults}


def test_a_fault_that_is_mended_leaves_a_whole_conversation() -> None:
    calls: list[Request] = []

    def at_first(request: Request) -> str:
        calls.append(request)
        return flips_role(request) if len(calls) == 1 else scripts()["user"]._text(request)

    (tree,) = grown(config(2), cast({"user": at_first}, ChecksConfig()))
    assert tree.failure is None
    assert {(fault.turn, fault.attempt) for fault in tree.faults} == {(1, 0)}
    assert len(list(tree.user_turns())) == 2


@pytest.mark.parametrize("rubbish", ["", "I think she sings.", '{"found": [', '{"found": [{"kind": "job"}]}'])
def test_what_an_inducer_or_a_judge_mumbles_is_missing_and_counted(rubbish: str) -> None:
    (tree,) = grown(config(2), cast({"inducer": lambda _: rubbish, "judge": lambda _: rubbish}))
    assert tree.failure is None
    assert len(list(tree.user_turns())) == 2
    assert {(fault.role, fault.check) for fault in tree.faults} == {("inducer", "unreadable")}
    assert all(node.verdict is None for node in tree.nodes)
    assert all(one.votes == (None, None) and one.winner is None for one in tree.comparisons)
    assert not any(entry.stated for entry in tree.ledger(len(tree.nodes) - 1))


def test_a_responder_that_says_nothing_leaves_one_reply() -> None:
    (tree,) = grown(config(2), cast({"generic": lambda _: "  "}))
    assert tree.failure is None
    assert [node.source for node in tree.nodes] == ["user", "tailored"] * 2
    assert {fault.role for fault in tree.faults} == {"generic"}
    assert tree.comparisons == ()


def fails(error: Exception, *, after: int) -> Callable[[Request], str]:
    calls: list[Request] = []

    def answer(request: Request) -> str:
        calls.append(request)
        if len(calls) > after:
            raise error
        return scripts()["user"]._text(request)

    return answer


def test_a_server_that_fails_ends_one_conversation_and_growing_on_mends_it() -> None:
    broken = cast({"user": fails(ModelError("gone."), after=1)})
    (tree,) = grown(config(3), broken)
    assert tree.failure == "turn 2: gone."
    assert len(list(tree.user_turns())) == 1
    on = asyncio.run(grow_more(tree, PERSONAS[0], config(3), cast()))
    assert shape(on) == shape(grown(config(3))[0])
    assert on.failure is None


def test_a_judge_that_fails_costs_verdicts_only() -> None:
    def gone(_: Request) -> str:
        raise ModelError("gone.")

    (tree,) = grown(config(2), cast({"judge": gone}))
    assert tree.failure == "judge: gone."
    assert len(list(tree.user_turns())) == 2
    assert all(node.verdict is None for node in tree.nodes)


@pytest.mark.parametrize("error", [Interrupted("Stopped."), StorageError("full.")])
def test_what_is_no_fault_of_a_conversation_stops_all(error: Exception) -> None:
    with pytest.raises(type(error)):
        grown(config(3), cast({"user": fails(error, after=4)}), count=4)


class Slow:
    """A model that lets others go first."""

    def __init__(self, model: ScriptedModel) -> None:
        self._model = model

    @property
    def name(self) -> str:
        return self._model.name

    async def complete(self, request: Request) -> Answer:
        await asyncio.sleep(0.02)
        return await self._model.complete(request)


class Rounds:
    """Answers all calls that wait, together, when nothing else can go on; so its rounds are the calls in a row."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Event] = []
        self.count = 0

    def paced(self, model: ScriptedModel) -> Paced:
        return Paced(model, self)

    async def until(self, task: asyncio.Task[Tree]) -> Tree:
        while not task.done():
            for _ in range(100):
                await asyncio.sleep(0)
            if self.waiting:
                self.count += 1
                waiting, self.waiting = self.waiting, []
                for one in waiting:
                    one.set()
        return task.result()


class Paced(Slow):
    """A model that answers in rounds."""

    def __init__(self, model: ScriptedModel, rounds: Rounds) -> None:
        super().__init__(model)
        self._rounds = rounds

    async def complete(self, request: Request) -> Answer:
        ready = asyncio.Event()
        self._rounds.waiting.append(ready)
        await ready.wait()
        return await self._model.complete(request)


def test_a_turn_is_three_calls_in_a_row() -> None:
    rounds = Rounds()
    players = {
        role: Player([(rounds.paced(scripts()[role]), 1.0)], getattr(ROLE_CONFIGS, role).sampling, instructions(role))
        for role in roles_of(ROLE_CONFIGS)
    }

    async def grow() -> Tree:
        one = grow_tree(PERSONAS[0], config(5), 1, replace(cast_of(players, config()), checks=None))
        return await rounds.until(asyncio.create_task(one))

    assert asyncio.run(grow()) == grown(config(5))[0]
    # User, inducer beside the generic reply, tailored reply; and at the end the judge of the last turn.
    assert rounds.count == 3 * 5 + 1


def test_the_order_in_which_calls_end_changes_nothing() -> None:
    def dawdling(seed: int) -> Cast:
        class Dawdling(Slow):
            async def complete(self, request: Request) -> Answer:
                for _ in range((hash(request.model_dump_json()) + seed) % 7):
                    await asyncio.sleep(0)
                return await self._model.complete(request)

        players = {
            role: Player([(Dawdling(scripts()[role]), 1.0)], getattr(ROLE_CONFIGS, role).sampling, instructions(role))
            for role in roles_of(ROLE_CONFIGS)
        }
        return replace(cast_of(players, config()), checks=None)

    for policy in ("path", "full", "best"):
        prompt: Sequence[Tree] = grown(config(3, policy), count=4)
        for seed in range(3):
            assert grown(config(3, policy), dawdling(seed), count=4) == prompt


CHECKED = ROLE_CONFIGS.model_copy(update={"checker": ROLE_CONFIGS.judge})


def test_a_checker_looks_at_what_the_rules_let_pass() -> None:
    asked: list[Request] = []

    def suspicious(request: Request) -> str:
        asked.append(request)
        return '{"faults": ["contradiction"]}' if len(asked) == 1 else '{"faults": []}'

    (tree,) = grown(config(2), cast({"checker": suspicious}, ChecksConfig(), CHECKED))
    assert tree.failure is None
    assert [(fault.role, fault.check, fault.turn, fault.attempt) for fault in tree.faults] == [
        ("user", "contradiction", 1, 0)
    ]
    # Once for each message that the rules let pass: two of the first turn and one of the second.
    assert len(asked) == 3


def test_a_checker_that_cannot_be_read_refuses_nothing() -> None:
    (tree,) = grown(config(2), cast({"checker": lambda _: "Looks fine."}, ChecksConfig(), CHECKED))
    assert tree.failure is None
    assert {(fault.role, fault.check) for fault in tree.faults} == {("checker", "unreadable")}


def test_a_refused_user_is_asked_for_other_words_when_growing_on() -> None:
    asked: list[Request] = []

    def stubborn(request: Request) -> str:
        asked.append(request)
        return flips_role(request)

    refused = cast({"user": stubborn}, ChecksConfig(retries=1))
    (tree,) = grown(config(2), refused)
    on = asyncio.run(grow_more(tree, PERSONAS[0], config(2), refused))
    assert [fault.attempt for fault in on.faults if fault.check == "role flip"] == [0, 1, 2, 3]
    assert len({request.seed for request in asked}) == len(asked) == 4
    whole = asyncio.run(grow_more(on, PERSONAS[0], config(2), cast(checks=ChecksConfig())))
    assert whole.failure is None and whole.faults == on.faults


def test_what_went_before_a_failure_is_counted_once() -> None:
    def gone(_: Request) -> str:
        raise ModelError("gone.")

    broken = cast({"inducer": lambda _: "", "tailored": gone})
    (tree,) = grown(config(2), broken)
    tree = asyncio.run(grow_more(tree, PERSONAS[0], config(2), broken))
    assert tree.failure == "turn 1: gone."
    assert [(fault.role, fault.check) for fault in tree.faults] == [("inducer", "unreadable")]


def test_a_judge_that_failed_is_asked_again_when_growing_on() -> None:
    def gone(_: Request) -> str:
        raise ModelError("gone.")

    (tree,) = grown(config(2), cast({"judge": gone}))
    assert asyncio.run(grow_more(tree, PERSONAS[0], config(2), cast())) == grown(config(2))[0]


def test_a_stop_waits_for_the_judge() -> None:
    ended: list[Request] = []

    class Dawdling(Slow):
        async def complete(self, request: Request) -> Answer:
            answer = await super().complete(request)
            ended.append(request)
            return answer

    judge = Player([(Dawdling(scripts()["judge"]), 1.0)], ROLE_CONFIGS.judge.sampling, instructions("judge"))
    stopped = cast({"user": fails(Interrupted("Stopped."), after=1)})
    with pytest.raises(Interrupted):
        grown(config(2), replace(stopped, judge=LLMJudge(judge)))
    assert len(ended) == 2
