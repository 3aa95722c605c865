"""Commands of `interalign personas`, and what they leave in a run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from interalign.personas.grow import CallRow, CandidateRow
from interalign.personas.persona import Persona
from interalign.personas.pool import PoolSummary
from interalign.run import read_json, read_jsonl
from tests.cli.commands import interalign

__all__ = ["RECIPE", "Run", "grown", "prepare", "typed"]

RECIPE = """
name = "small"
seed = 3
[pool.grow]
candidates = 6
in_flight = 2
[pool.profiles]
target = 40
[pool.personalities]
target = 32
[pool.split]
heldout_profiles = 5
heldout_personalities = 4
"""

Run = Callable[..., tuple[int, str]]


def prepare(home: Path, cache: Path, patched: pytest.MonkeyPatch) -> None:
    """Make a folder the one that commands are typed in; the recipe lies there."""
    patched.chdir(home)
    patched.setenv("XDG_CACHE_HOME", str(cache))
    (home / "small.toml").write_text(RECIPE, encoding="utf-8")


def typed(*words: str) -> tuple[int, str]:
    """The exit code of `interalign personas` with these words, and all it printed in 80 columns."""
    done = interalign("personas", *words, width=80)
    return done.returncode, done.said


def grown(folder: Path) -> tuple[PoolSummary, list[CandidateRow], list[CallRow], list[Persona], list[Persona]]:
    pool = folder / "pool"
    return (
        read_json(pool / "summary.json", PoolSummary),
        read_jsonl(pool / "candidates.jsonl", CandidateRow),
        read_jsonl(pool / "calls.jsonl", CallRow),
        read_jsonl(folder / "personas.jsonl", Persona),
        read_jsonl(folder / "heldout.jsonl", Persona),
    )
