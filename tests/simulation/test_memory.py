"""What a simulation keeps in memory: conversations that are open, and next to nothing of those that are done."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest
from rich.console import Console

from interalign.conversations.simulate import SimulateConfig, roles_played_by
from interalign.llm.backends import ScriptedConfig
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.pipeline.simulate import simulate
from interalign.pipeline.work import Work
from interalign.recipe import Recipe
from interalign.run import write_jsonl

FEW, MANY = 12, 42
PEOPLE = [one for one in compose_personas(WorldConfig(train=MANY, heldout=2), seed=5) if one.split == "train"]
MOST_BYTES = 8_000
"""Of each further persona; its tree of two turns alone takes more, and all that was kept of it took 50,000."""


def peak(folder: Path, count: int, config: SimulateConfig, *, traced: bool = True) -> int:
    """The most bytes that were taken at once while so many conversations were simulated."""
    write_jsonl(folder / "personas.jsonl", PEOPLE[:count])
    with Work.open(Recipe(simulate=config), folder, Console(quiet=True)) as work:
        gc.collect()
        if traced:
            tracemalloc.start()
        try:
            told = simulate(work)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (told.trees, told.ended_early) == (count, 0)
    return most


@pytest.mark.slow
@pytest.mark.parametrize("scripted", [False, True], ids=["rules", "scripts"])
def test_memory_does_not_grow_with_the_trees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, scripted: bool
) -> None:
    # What has a bound of its own is full with few personas already.
    monkeypatch.setattr("interalign.conversations.export.dataset._ROWS_AT_ONCE", 30)
    monkeypatch.setattr("interalign.report.simulation.MOST_CONVERSATIONS", 5)
    config = SimulateConfig(turns=2, in_flight=8, roles=roles_played_by(ScriptedConfig()) if scripted else None)
    # Imports, and what rules and checks remember of the persons.
    peak(tmp_path / "warm", MANY, config, traced=False)
    few, many = (peak(tmp_path / f"{count}", count, config) for count in (FEW, MANY))
    assert (many - few) / (MANY - FEW) < MOST_BYTES
