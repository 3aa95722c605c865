"""Which models an evaluation tests: those of the run, those that the recipe names, and those of the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeAlias

from interalign.errors import InputError
from interalign.evaluation.baselines import BASELINES
from interalign.evaluation.benchmark import CONTROLS
from interalign.llm.backends import LocalConfig, ModelConfig, described
from interalign.llm.offline import OFFLINE_MODEL, resolve_model
from interalign.recipe import Recipe
from interalign.run import RunFolder

__all__ = [
    "BASE",
    "TRAINED",
    "Tested",
    "What",
    "folder_of",
    "refuse_unknown_method",
    "tested_in_words",
    "tested_models",
]

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
        InputError: a name is taken or unfit for a folder, or ends in a method that there is not; a model is not known,
            or its folder holds no weights.
    """
    elsewhere = {**recipe.benchmark.models, **extra}
    _check_names(elsewhere)
    names = dict.fromkeys([*models, *elsewhere])
    for name in names:
        refuse_unknown_method(name)
    return tuple(_tested(run, recipe, name, elsewhere) for name in names)


def folder_of(name: str) -> str:
    """The folder of a model's, or a control's, results."""
    return name.replace(" ", "-")


def refuse_unknown_method(name: str) -> None:
    """Refuse a name with a plus and no method behind it: a plain model would be measured under the method's name.

    Raises:
        InputError: it is one.
    """
    _, plus, method = name.rpartition("+")
    if not plus or method in BASELINES:
        return
    meant = get_close_matches(method, BASELINES, n=1, cutoff=0.5)
    hint = f"write +{meant[0]}, if that is meant; " if meant else ""
    raise InputError(
        f"{name!r} ends in no method: there is no {method!r}.",
        mend=f"{hint}methods: {', '.join(BASELINES)}. A name without a method has no '+'.",
    )


def tested_in_words(tested: Sequence[Tested]) -> str:
    """Which models are tested, and what each of them is."""
    return ", ".join(f"{one.name} ({_what(one.model)})" for one in tested)


def _what(model: ModelConfig) -> str:
    if isinstance(model, LocalConfig):
        return "SmolLM2-135M-Instruct, offline" if model.checkpoint == OFFLINE_MODEL else model.checkpoint
    return described(model)


def _check_names(elsewhere: Mapping[str, What]) -> None:
    taken = {BASE, "induction", *TRAINED, *map(folder_of, CONTROLS)}
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
