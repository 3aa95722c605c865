"""What a reader must know of how an evaluation was made before its numbers are believed: sentences of its summary.

They stand where the numbers stand, on the terminal, in exports and on the page, and are empty where there is nothing to
warn of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from interalign.conversations.environment import EnvironmentRoles
from interalign.llm.backends import ModelConfig, ScriptedConfig, label
from interalign.pipeline.setting import Setting, identified
from interalign.report.growth import counted
from interalign.roles.llm.player import RoleConfig

__all__ = ["of_the_judge", "of_the_noise"]

_ANOTHER = "let another model judge (--judge; `interalign rescore` for the replies that are there)."


def of_the_judge(roles: EnvironmentRoles | None, settings: Iterable[Setting]) -> tuple[str, ...]:
    """That the judge is one of the models that it judges, or plays the user as well; nothing where rules judge.

    Args:
        roles: Who plays beside the tested models.
        settings: Of the models that are judged.
    """
    if roles is None or roles.judge is None:
        return ()
    settings = tuple(settings)
    warned = []
    for judge in _models_of(roles.judge):
        # Once for each judge: of a model in this process all weights are read for it.
        known = identified(judge)
        tested = [one.name for one in settings if _is(judge, known, one.tested["model"])]
        if tested:
            warned.append(
                f"The judge {label(judge)} is itself among the tested models ({', '.join(tested)}), and models tend to "
                f"rate their own words higher than those of others: {_ANOTHER}"
            )
        if any(_is(judge, known, identified(user)) for user in _models_of(roles.user)):
            warned.append(
                f"The judge {label(judge)} plays the user as well, so the taste of one model is on both sides of the "
                f"conversation: {_ANOTHER}"
            )
    return tuple(warned)


def of_the_noise(lacking: Sequence[tuple[str, int, int]]) -> tuple[str, ...]:
    """That repeats are lacking: for each model its name, how many were had, and of how many."""
    sentences = []
    for name, had, of in lacking:
        what = (
            f"rests on {had:,} of {counted(of, 'repeat')}"
            if had
            else f"was not measured: none of its {counted(of, 'repeat')} could be played"
        )
        sentences.append(
            f"The noise floor of {name} {what}, because its evaluation ended before them (a budget was spent, or it "
            "was stopped). The command that tests it goes on from there, with a larger budget if that was the reason."
        )
    return tuple(sentences)


def _models_of(role: RoleConfig | None) -> list[ModelConfig]:
    """Without scripts, of which it is told that they are none."""
    return [one.model for one in role.models if not isinstance(one.model, ScriptedConfig)] if role else []


def _is(judge: ModelConfig, known: str, other: str) -> bool:
    """Whether `other` names this model, which is identified as `known`, on whichever server it runs."""
    return other == known or other.startswith(f"{label(judge)} at ")
