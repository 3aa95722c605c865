"""A server that spoils a third of its answers: every conversation is whole, or says why it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from interalign.conversations.tree import Tree
from interalign.pipeline.simulate import Simulation
from interalign.roles.llm.player import instructions
from interalign.run import RunFolder, read_json, read_jsonl
from tests.simulation.faulty_roles import REFUSAL, RoleServer, journalled_calls, people, playing, start_folder

Run = Callable[..., tuple[int, str]]


@pytest.mark.parametrize(("count", "timeout_s"), [(12, 0.5), pytest.param(100, 1, marks=pytest.mark.slow)])
def test_every_conversation_is_whole_or_says_why_it_is_not(
    simulate: Run, tmp_path: Path, count: int, timeout_s: float
) -> None:
    personas = [persona.id for persona in people(count)]
    with playing(spoilt=0.3) as server:
        folder = start_folder(tmp_path / "run", server, people(count), timeout_s=timeout_s, concurrency=32)
        code, said = simulate(folder)
        assert code == 0, said
        assert sum(server.faults.values()) > 0.2 * len(server.bodies)
        trees = read_jsonl(folder.trees, Tree)
        assert [tree.persona_id for tree in trees] == personas
        for tree in trees:
            assert_whole_or_told(tree, server)
        assert sum(tree.failure is None for tree in trees) > count / 2
        told = assert_counted(folder, trees)
        assert sum(row.calls for row in told.usage) == len(journalled_calls(folder))

        # What failed is asked for again, until every conversation is whole.
        before = tmp_path / "before.jsonl"
        for _ in range(5):
            before.write_bytes(folder.trees.read_bytes())
            code, said = simulate(folder, "--grow", str(before))
            assert code == 0, said
            if not read_json(folder.root / "simulation.json", Simulation).ended_early:
                break
        grown = read_jsonl(folder.trees, Tree)
        assert [tree.persona_id for tree in grown] == personas
        for tree in grown:
            assert tree.failure is None
            assert_whole_or_told(tree, server)
        assert_counted(folder, grown)


def assert_whole_or_told(tree: Tree, server: RoleServer) -> None:
    turns = list(tree.user_turns())
    assert {node.content for node in tree.nodes} <= server.given
    assert all(tree.children(user) for user in turns)
    assert REFUSAL not in [tree.nodes[user].content for user in turns]
    if tree.failure is None:
        assert len(turns) == 3
        compared = {index for one in tree.comparisons for index in (one.first, one.second)}
        assert compared == {reply for user in turns for reply in tree.children(user) if len(tree.children(user)) > 1}
    elif not tree.failure.startswith("judge: "):
        assert tree.failure.startswith(f"turn {len(turns) + 1}: ")


def assert_counted(folder: RunFolder, trees: list[Tree]) -> Simulation:
    """What was paid for and could not be used stands once among the faults, and simulation.json adds them up."""
    told = read_json(folder.root / "simulation.json", Simulation)
    calls = journalled_calls(folder)
    as_user = [text.text for call, text in calls.items() if json.loads(call)[0][0]["content"] == instructions("user")]
    faults = [fault for tree in trees for fault in tree.faults]
    refused = {(tree.persona_id, one.turn, one.attempt) for tree in trees for one in tree.faults if one.text == REFUSAL}
    assert len(refused) == as_user.count(REFUSAL) > 0
    unreadable = [fault for fault in faults if (fault.role, fault.check) == ("user", "unreadable")]
    assert len(unreadable) == as_user.count("") > 0
    assert sum(told.faults.values()) == len(faults)
    assert told.ended_early == sum(tree.failure is not None for tree in trees)
    return told
