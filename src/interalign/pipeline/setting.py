"""What verdicts were made by: it stands beside them, so that those of two settings are never told as one.

Two models are compared by what `Setting.shared` holds: the same people, under the same users and judges, for as many
turns. Whatever else changes (where a run lies, how many conversations are open at once) changes no verdict.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from interalign.conversations.environment import roles_of
from interalign.evaluation.baselines import prompt_hashes
from interalign.evaluation.benchmark import BenchmarkConfig
from interalign.llm.backends import LocalConfig, ModelConfig, described
from interalign.llm.model import Sampling
from interalign.messages import Value
from interalign.pipeline.tested import Tested
from interalign.roles.llm.player import RoleConfig
from interalign.roles.responder import policy_prompt

__all__ = ["RULES", "Setting", "identified", "judge_in_words", "sampling_in_words", "setting_of"]

RULES = "rules"


class Setting(Value):
    """What `eval/<model>/setting.json` tells."""

    name: str
    """Of the model, in results."""
    tested: dict[str, str]
    """Which model it is, and how it is asked."""
    shared: dict[str, Any] = Field(default_factory=dict)
    """All that is the same for every model of an evaluation."""

    def differences(self, other: Setting) -> tuple[str, ...]:
        """What differs, by its names; () where verdicts of both can be told together as of one model."""
        return tuple(sorted({*_differing(self.shared, other.shared), *_differing(self.tested, other.tested)}))


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    return (name for name in {**one, **other} if one.get(name) != other.get(name))


def setting_of(
    name: str, tested: Tested | None, config: BenchmarkConfig, cases: str, prompts: Mapping[str, str], seed: int
) -> Setting:
    """The setting of one model of an evaluation.

    Args:
        name: Of the model or the control.
        tested: The model; None for a control.
        config: How it is talked to.
        cases: The version of the people (`CaseCard.version`).
        prompts: Hashes of the instructions of each role.
        seed: Of the run.
    """
    played = roles_of(config.roles, helpfulness=config.helpfulness)
    roles = {role: judge_in_words(played.get(role), prompts.get(role)) for role in {"user": 0, "judge": 0, **played}}
    shared = {
        "people": cases,
        "seed": seed,
        "turns": config.turns,
        **roles,
        "prompts": {**prompts, "policy": hashlib.sha256(policy_prompt().encode()).hexdigest()[:12]},
        "checks": config.checks.model_dump(mode="json") if "user" in played else None,
        "sampling": sampling_in_words(config.sampling),
        "controls": config.controls,
        "control turns": list(config.controlled_turns),
        "induction turns": list(config.induced_turns),
        "repeats": config.repeated,
    }
    return Setting(name=name, tested=_tested(tested), shared=shared)


def _tested(tested: Tested | None) -> dict[str, str]:
    if tested is None:
        return {"model": "a control"}
    told = {"model": identified(tested.model), "method": tested.method}
    prompts = prompt_hashes(tested.method)
    return {**told, "prompts of the method": json.dumps(prompts, sort_keys=True)} if prompts else told


def identified(model: ModelConfig) -> str:
    """A model in this process by its weights, wherever they lie; another by its name and where it runs."""
    if not isinstance(model, LocalConfig):
        return described(model)
    from interalign.llm.local import fingerprint

    return f"local:{fingerprint(model.checkpoint)}"


def judge_in_words(role: RoleConfig | None, prompt: str | None) -> str:
    """Whoever plays a role, in words that differ where scores may: models and their servers, sampling, instructions.

    Args:
        role: Its configuration; None for rules.
        prompt: Hash of its instructions, where it is known.
    """
    if role is None:
        return RULES
    models = ", ".join(described(one.model) + (f" x {one.weight:g}" if one.weight != 1 else "") for one in role.models)
    how = [sampling_in_words(role.sampling)]
    how += [name.replace("_", " ") for name in ("weighted", "free_text") if getattr(role, name, False)]
    how += [f"prompt {prompt}"] if prompt else []
    return f"{models} ({', '.join(how)})"


def sampling_in_words(sampling: Sampling) -> str:
    """All of it that decides an answer."""
    parts = [f"temperature {sampling.temperature:g}"]
    parts += [f"top_p {sampling.top_p:g}"] if sampling.top_p != 1 else []
    parts += [f"max_tokens {sampling.max_tokens}"]
    parts += [f"stop {list(sampling.stop)!r}"] if sampling.stop else []
    return ", ".join(parts)
