"""Commands that go on with what there is: the trees of before and the new ones come together in one order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from interalign.conversations.tree import Tree
from interalign.pipeline.simulate import Simulation
from interalign.run import RunFolder, read_json, read_jsonl, write_jsonl
from tests.simulation.faulty_roles import people

Run = Callable[..., tuple[int, str]]
PEOPLE = people(7)


def started(root: Path) -> RunFolder:
    run = RunFolder(root)
    write_jsonl(run.personas, PEOPLE)
    return run


def test_in_parts_it_comes_to_the_same_trees_and_tables(simulate: Run, tmp_path: Path) -> None:
    whole, parts = started(tmp_path / "whole"), started(tmp_path / "parts")
    assert simulate(whole, "--scripted", "--turns", "2")[0] == 0
    for options in (("--personas", "3"), ("--personas", "5"), (), ()):
        code, said = simulate(parts, "--scripted", "--turns", "2", *options)
        assert code == 0, said
        assert not list(parts.root.rglob(".interalign-*"))
    assert "done before" in said
    for name in ("trees.jsonl", "preferences/dpo.parquet", "preferences/sft.parquet"):
        assert (parts.root / name).read_bytes() == (whole.root / name).read_bytes()
    one, other = (read_json(run.root / "simulation.json", Simulation) for run in (whole, parts))
    assert [grown.personas for grown in other.grown] == [3, 2, 2]
    assert other.grown[-1].trees == one.grown[-1].trees
    assert other.model_copy(update={"grown": ()}) == one.model_copy(update={"grown": ()})


def test_trees_to_grow_on_stand_in_any_order_and_those_that_are_not_grown_stay(simulate: Run, tmp_path: Path) -> None:
    run = started(tmp_path / "run")
    assert simulate(run, "--scripted", "--turns", "1")[0] == 0
    before = {tree.persona_id: tree for tree in read_jsonl(run.trees, Tree)}
    write_jsonl(tmp_path / "before.jsonl", reversed(before.values()))
    grow = ("--turns", "2", "--personas", "4", "--grow")
    code, said = simulate(run, *grow, str(tmp_path / "before.jsonl"))
    assert code == 0, said
    first = run.trees.read_bytes()
    after = read_jsonl(run.trees, Tree)
    assert [tree.persona_id for tree in after] == [persona.id for persona in PEOPLE]
    assert [len(list(tree.user_turns())) for tree in after] == [2] * 4 + [1] * 3
    assert after[4:] == [before[persona.id] for persona in PEOPLE[4:]]
    # What is read is what is replaced at the end.
    assert simulate(run, *grow, str(run.trees))[0] == 0
    assert run.trees.read_bytes() == first


def test_what_cannot_be_told_shows_no_trees(simulate: Run, tmp_path: Path) -> None:
    run = started(tmp_path / "run")
    # A link that leads nowhere: what is told of the trees has no place.
    (run.root / "simulation.json").symlink_to(run.personas / "simulation.json")
    code, said = simulate(run, "--scripted", "--turns", "1")
    assert code == 7, said
    assert "simulation.json cannot be written" in said
    assert not run.trees.exists() and not run.preferences.exists()
    assert not list(run.root.rglob(".interalign-*"))
    (run.root / "simulation.json").unlink()
    assert simulate(run, "--scripted", "--turns", "1")[0] == 0
    assert len(read_jsonl(run.trees, Tree)) == len(PEOPLE)
