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
    from interalign.messages import Message
    from interalign.personas.persona import Persona

__all__ = [
    "InputError",
    "InteralignError",
    "LeakError",
    "Message",
    "MissingExtra",
    "ModelError",
    "Persona",
    "RunBusy",
    "RunMismatch",
    "StorageError",
    "TrainingError",
    "Tree",
    "__version__",
]

__version__ = "0.1.0"

_HOMES = {
    "InputError": "interalign.errors",
    "InteralignError": "interalign.errors",
    "LeakError": "interalign.errors",
    "Message": "interalign.messages",
    "MissingExtra": "interalign.errors",
    "ModelError": "interalign.errors",
    "Persona": "interalign.personas.persona",
    "RunBusy": "interalign.errors",
    "RunMismatch": "interalign.errors",
    "StorageError": "interalign.errors",
    "TrainingError": "interalign.errors",
    "Tree": "interalign.conversations.tree",
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
