"""Train chat models that get to know the person they talk to, and measure whether they really do.

One way carries a persona from the pool, through branching conversations, into a trained model, to a verdict per turn.
Each stage reads the file of the stage before it and writes its own, so any stage runs alone; `interalign --help` lists
them. The names below are the library's front door. They load on first use, so `import interalign` is immediate and
brings in no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interalign.conversations.preferences import PreferenceConfig, preferences
    from interalign.conversations.simulate import SimulateConfig, grow
    from interalign.conversations.tree import Tree
    from interalign.errors import (
        InputError,
        InteralignError,
        LeakError,
        MissingExtra,
        ModelError,
        RunBusy,
        RunMismatch,
        StorageError,
        TrainingError,
    )
    from interalign.evaluation.baselines import baseline
    from interalign.evaluation.benchmark import BenchmarkConfig, benchmark
    from interalign.evaluation.cases import aloe_cases, read_cases
    from interalign.evaluation.summary import Summary, summarise
    from interalign.evaluation.tables import markdown, table
    from interalign.llm.journal import Journal, journalled
    from interalign.messages import Message
    from interalign.personas.compose import WorldConfig, compose_personas
    from interalign.personas.description import Description
    from interalign.personas.exchange import read_pool, write_dataset
    from interalign.personas.filter import SemanticFilter
    from interalign.personas.grow import grow_pool
    from interalign.personas.persona import Persona
    from interalign.personas.pool import PoolConfig
    from interalign.pipeline import run_recipe
    from interalign.recipe import Recipe, demo_recipe, load_recipe
    from interalign.training.train import TrainConfig, train

__all__ = [
    "BenchmarkConfig",
    "Description",
    "InputError",
    "InteralignError",
    "Journal",
    "LeakError",
    "Message",
    "MissingExtra",
    "ModelError",
    "Persona",
    "PoolConfig",
    "PreferenceConfig",
    "Recipe",
    "RunBusy",
    "RunMismatch",
    "SemanticFilter",
    "SimulateConfig",
    "StorageError",
    "Summary",
    "TrainConfig",
    "TrainingError",
    "Tree",
    "WorldConfig",
    "__version__",
    "aloe_cases",
    "baseline",
    "benchmark",
    "compose_personas",
    "demo_recipe",
    "grow",
    "grow_pool",
    "journalled",
    "load_recipe",
    "markdown",
    "preferences",
    "read_cases",
    "read_pool",
    "run_recipe",
    "summarise",
    "table",
    "train",
    "write_dataset",
]

__version__ = "0.1.0"

_HOMES = {
    "PreferenceConfig": "interalign.conversations.preferences",
    "preferences": "interalign.conversations.preferences",
    "SimulateConfig": "interalign.conversations.simulate",
    "grow": "interalign.conversations.simulate",
    "Tree": "interalign.conversations.tree",
    "InputError": "interalign.errors",
    "InteralignError": "interalign.errors",
    "LeakError": "interalign.errors",
    "MissingExtra": "interalign.errors",
    "ModelError": "interalign.errors",
    "RunBusy": "interalign.errors",
    "RunMismatch": "interalign.errors",
    "StorageError": "interalign.errors",
    "TrainingError": "interalign.errors",
    "baseline": "interalign.evaluation.baselines",
    "BenchmarkConfig": "interalign.evaluation.benchmark",
    "benchmark": "interalign.evaluation.benchmark",
    "aloe_cases": "interalign.evaluation.cases",
    "read_cases": "interalign.evaluation.cases",
    "Summary": "interalign.evaluation.summary",
    "markdown": "interalign.evaluation.tables",
    "summarise": "interalign.evaluation.summary",
    "table": "interalign.evaluation.tables",
    "Journal": "interalign.llm.journal",
    "journalled": "interalign.llm.journal",
    "Message": "interalign.messages",
    "WorldConfig": "interalign.personas.compose",
    "compose_personas": "interalign.personas.compose",
    "Description": "interalign.personas.description",
    "read_pool": "interalign.personas.exchange",
    "write_dataset": "interalign.personas.exchange",
    "SemanticFilter": "interalign.personas.filter",
    "grow_pool": "interalign.personas.grow",
    "Persona": "interalign.personas.persona",
    "PoolConfig": "interalign.personas.pool",
    "run_recipe": "interalign.pipeline",
    "Recipe": "interalign.recipe",
    "demo_recipe": "interalign.recipe",
    "load_recipe": "interalign.recipe",
    "TrainConfig": "interalign.training.train",
    "train": "interalign.training.train",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    # Kept, so that this function runs once per name.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
