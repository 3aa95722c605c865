"""A simulation of which no pair comes is told whole all the same, and the same command finds it done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from interalign.conversations.tree import Tree
from interalign.pipeline.simulate import Simulation
from interalign.run import read_json, read_jsonl
from tests.simulation.faulty_roles import people, playing, start_folder


def test_without_pairs_there_are_trees_and_an_account(simulate: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    with playing() as server:
        folder = start_folder(tmp_path / "run", server, people(3))
        recipe = folder.root / "recipe.toml"
        recipe.write_text(recipe.read_text().replace("min_margin = 0.3", "min_margin = 4.5"), encoding="utf-8")
        code, said = simulate(folder)
        assert code == 0, said
        assert "so there are no preference tables" in said
        told = read_json(folder.root / "simulation.json", Simulation)
        assert (told.trees, told.pairs) == (3, 0) and sum(row.calls for row in told.usage) == len(server.bodies)
        assert len(read_jsonl(folder.trees, Tree)) == 3
        assert not folder.preferences.exists()
        code, said = simulate(folder)
        assert code == 0 and "done before" in said
    assert read_json(folder.root / "simulation.json", Simulation) == told
