"""A server that spoils a third of its answers: every conversation is whole, or says why it is not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from interalign.cli import main
from interalign.conversations.tree import Tree
from interalign.pipeline.simulate import Simulation
from interalign.roles.llm.player import instructions
from interalign.run import RunFolder, read_json, read_jsonl
from tests.simulation.faulty_roles import REFUSAL, RoleServer, journalled_calls, people, playing, start_folder

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `interalign simulate` in this process; gives its exit code and all it printed."""

    def once(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["interalign", "simulate", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        code = end.value.code
        return (code if isinstance(code, int) else int(code is not None)), captured.out + captured.err

    return once


@pytest.mark.parametrize("count", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_every_conversation_is_whole_or_says_why_it_is_not(run: Run, tmp_path: Path, count: int) -> None:
    personas = people(count)
    with playing(spoilt=0.3) as server:
        folder = start_folder(tmp_path / "run", server, personas, timeout_s=1, concurrency=32)
        code, said = run("--out", str(folder.root))
        assert code == 0, said
        assert sum(server.faults.values()) > 0.2 * len(server.bodies)
        assert len(server.faults) == 2 * 7 + 2 * 8
        trees = read_jsonl(folder.trees, Tree)
        assert [tree.persona_id for tree in trees] == [persona.id for persona in personas]
        for tree in trees:
            assert_whole_or_told(tree, server)
        assert_counted(folder, trees)
        kept = folder.trees.rename(tmp_path / "before.jsonl")
        # What failed is asked for again, and in the end every conversation is whole.
        for _ in range(10):
            code, said = run("--out", str(folder.root), "--grow", str(kept))
            assert code == 0, said
            kept.write_bytes(folder.trees.read_bytes())
        grown = read_jsonl(folder.trees, Tree)
    assert [tree.persona_id for tree in grown] == [persona.id for persona in personas]
    assert all(len(list(tree.user_turns())) == 3 for tree in grown)


def assert_whole_or_told(tree: Tree, server: RoleServer) -> None:
    turns = list(tree.user_turns())
    assert {node.content for node in tree.nodes} <= server.given
    assert all(tree.children(user) for user in turns)
    assert REFUSAL not in [tree.nodes[user].content for user in turns]
    if tree.failure is None:
        assert len(turns) == 3
    elif tree.failure.startswith("judge: "):
        assert any(node.verdict is None for node in tree.nodes if node.role == "assistant")
    else:
        assert tree.failure.startswith(f"turn {len(turns) + 1}: ")


def assert_counted(folder: RunFolder, trees: list[Tree]) -> None:
    """Whatever was paid for and could not be used stands among the faults, and simulation.json adds them up."""
    told = read_json(folder.root / "simulation.json", Simulation)
    faults = [fault for tree in trees for fault in tree.faults]
    calls = journalled_calls(folder)
    as_user = [
        answer.text
        for call, answer in calls.items()
        if json.loads(call)[0][0]["content"] == instructions("user")
    ]
    refused = {(fault.turn, fault.attempt, id(tree)) for tree in trees for fault in tree.faults if fault.text == REFUSAL}
    assert len(refused) == as_user.count(REFUSAL) > 0
    unreadable = [fault for fault in faults if (fault.role, fault.check) == ("user", "unreadable")]
    assert len(unreadable) == as_user.count("") > 0
    assert sum(told.faults.values()) == len(faults)
    assert told.ended_early == sum(tree.failure is not None for tree in trees)
    assert sum(row.calls for row in told.usage) == len(calls)
    assert all(fault.turn >= 1 and fault.text is not None for fault in faults)
