"""Which models an evaluation tests: those of the run, those that the recipe names, and those of the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from interalign.errors import InputError
from interalign.evaluation.baselines import BASELINES
from interalign.evaluation.benchmark import CONTROLS
from interalign.llm.backends import LocalConfig, ModelConfig
from interalign.llm.offline import resolve_model
from interalign.recipe import Recipe
from interalign.run import RunFolder

__all__ = ["BASE", "TRAINED", "Tested", "What", "folder_of", "tested_models"]

BASE = "base"
"""The name of the untrained model in results; the baseline of every difference."""

TRAINED = ("sft", "sft-rejected", "dpo", "iterated-dpo", "inpo", "comal", "grpo")
"""The models that stages of a run make, in the order in which they are shown."""

_NAME = re.compile(r"\w[\w.+-]*")
_PLAIN = "plain"

What: TypeAlias = str | ModelConfig
"""A model: its configuration, or a checkpoint folder or hub name."""


@dataclass(frozen=True)
class Tested:
    """A model under test, and the method by which it is asked (see `evaluation.baselines`)."""

    name: str
    model: ModelConfig
    method: str = _PLAIN
    elsewhere: bool = False
    """Whether it is no model of the run: the same name may be another model now."""


def tested_models(
    run: RunFolder, recipe: Recipe, models: Sequence[str], extra: Mapping[str, What]
) -> tuple[Tested, ...]:
    """The models under test, by the names of the run, of the recipe and of the command line.

    Raises:
        InputError: a name is taken or unfit for a folder, a model is not known, or its folder holds no weights.
    """
    elsewhere = {**recipe.benchmark.models, **extra}
    _check_names(elsewhere)
    names = dict.fromkeys([*models, *elsewhere])
    return tuple(_tested(run, recipe, name, elsewhere) for name in names)


def folder_of(name: str) -> str:
    """The folder of a model's, or a control's, results."""
    return name.replace(" ", "-")


def _check_names(elsewhere: Mapping[str, What]) -> None:
    taken = {BASE, *TRAINED, *map(folder_of, CONTROLS)}
    for name in elsewhere:
        if name in taken or not _NAME.fullmatch(name):
            raise InputError(
                f"A model cannot be called {name!r}: it is taken, or no name for a folder.",
                mend="use letters, digits, '-', '_', '+' and '.', and none of the names in the table.",
            )


def _tested(run: RunFolder, recipe: Recipe, name: str, elsewhere: Mapping[str, What]) -> Tested:
    bare, plus, method = name.rpartition("+")
    if not plus or method not in BASELINES:
        bare, method = name, _PLAIN
    what = elsewhere.get(name, elsewhere.get(bare))
    if what is None:
        known = {BASE: recipe.train.base, **{one: str(run.models / one) for one in TRAINED}}
        what = known.get(bare) or str(run.models / bare)
    model = LocalConfig(checkpoint=what) if isinstance(what, str) else what
    if isinstance(model, LocalConfig) and (name in elsewhere or bare in elsewhere):
        resolve_model(model.checkpoint)
    return Tested(name, model, method, elsewhere=name in elsewhere or bare in elsewhere)
