"""Every error that interalign raises on purpose.

An error message says what is wrong, where, and how to mend it; the command line prints it on one line and exits
with the class's code. Anything else that escapes is a bug in interalign.

    InteralignError (1)
    +-- InputError (2)        a file, a recipe or an argument that cannot be used as it is
    +-- MissingExtra (3)      an optional package is not installed
    +-- RunBusy (4)           another process works in this run folder
    +-- RunMismatch (5)       the run folder belongs to another recipe
    +-- LeakError (6)         held-out personas where only training personas may be
    +-- StorageError (7)      the disk is full or cannot be written
    +-- ModelError (8)        a model or its server gave no usable answer
    +-- TrainingError (9)     training cannot go on (NaN loss, a template without a stable prefix, ...)
    +-- StopWork (10)         no further call is to be made; what was paid for is kept
        +-- BudgetSpent (10)  the money or the tokens that a run may use are used up
        +-- Outage (8)        a model's server will answer nothing, as things are
        +-- Interrupted (130) the user asked to stop
"""

from __future__ import annotations

__all__ = [
    "BudgetSpent",
    "InputError",
    "InteralignError",
    "Interrupted",
    "LeakError",
    "MissingExtra",
    "ModelError",
    "Outage",
    "RunBusy",
    "RunMismatch",
    "StopWork",
    "StorageError",
    "TrainingError",
]


class InteralignError(Exception):
    """Base of all errors raised on purpose. `exit_code` is what the command line exits with."""

    exit_code = 1

    def __init__(self, what: str, *, mend: str | None = None) -> None:
        self.what = what
        self.mend = mend
        super().__init__(what if mend is None else f"{what} To mend it: {mend}")


class StopWork(InteralignError):
    """No further call is to be made, though nothing is wrong with the work. What was paid for is kept."""

    exit_code = 10


class BudgetSpent(StopWork):
    """The money or the tokens that a run may use are used up."""


class Outage(StopWork):
    """A model's server will answer nothing, as things are: asking on would change nothing."""

    exit_code = 8


class Interrupted(StopWork):
    """The user asked to stop."""

    exit_code = 130


class InputError(InteralignError):
    """A file, a recipe or an argument cannot be used as it is."""

    exit_code = 2


class MissingExtra(InteralignError):
    """An optional package is not installed."""

    exit_code = 3

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f"This needs the package '{package}'.", mend=f"pip install 'interalign[{extra}]'")


class RunBusy(InteralignError):
    """Another process works in this run folder."""

    exit_code = 4


class RunMismatch(InteralignError):
    """The run folder was made by another recipe."""

    exit_code = 5


class LeakError(InteralignError):
    """Held-out personas stand where only training personas may."""

    exit_code = 6


class StorageError(InteralignError):
    """The disk is full or cannot be written; what was there before is untouched."""

    exit_code = 7


class ModelError(InteralignError):
    """A model, or the server it runs on, gave no usable answer.

    `refused` is True when this very request was turned down, so that asking again changes nothing; `lasting` when every
    other would be as well: the key is not taken, the model is not known, or there is no server; `unusable` when the
    server has answered, in a form that is no answer. `cause` says why in a few words, the same ones for all that fail
    alike, so that failures can be counted by it.
    """

    exit_code = 8

    def __init__(
        self,
        what: str,
        *,
        mend: str | None = None,
        refused: bool = False,
        lasting: bool = False,
        unusable: bool = False,
        cause: str = "call failed",
    ) -> None:
        self.refused = refused
        self.lasting = lasting
        self.unusable = unusable
        self.cause = cause
        super().__init__(what, mend=mend)


class TrainingError(InteralignError):
    """Training cannot start or go on."""

    exit_code = 9
