"""Iterated preference optimisation: simulate with the policy, judge, train, and again.

Each round's pairs are the policy's own replies, so it learns from what it says now and not from what others said once.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from interalign.conversations.simulate import SimulateConfig
from interalign.llm.model import Sampling
from interalign.messages import Value
from interalign.personas.persona import Persona
from interalign.roles.responder import Source
from interalign.run import derive_seed

__all__ = ["IteratedConfig", "IteratedMethod", "anchor_round", "met_in_round", "simulation_of"]

IteratedMethod: TypeAlias = Literal["iterated-dpo", "inpo", "comal"]


class IteratedConfig(Value):
    """Rounds of simulation and training. A round's training has the settings of DPO, learning rate and all."""

    rounds: Annotated[int, Field(ge=1)] = 3
    """How many."""
    personas: Annotated[int, Field(ge=1)] | None = None
    """Users that are met in a round, everybody in turn; unset: all of them in each."""
    turns: Annotated[int, Field(ge=1)] = 5
    """Turns of a conversation."""
    siblings: Annotated[tuple[Source, ...], Field(min_length=2)] = ("policy", "policy", "policy", "policy")
    """Who answers each user turn; at least one is the policy."""
    sampling: Sampling = Sampling(max_tokens=60, temperature=1.0)
    """How the policy draws its replies."""
    eta: Annotated[float, Field(gt=0)] = 0.0075
    """INPO and COMAL: the size of a step; the margin between two replies is drawn to 1 / (2 eta) nats."""
    tau: Annotated[float, Field(gt=0)] = 0.0025
    """INPO and COMAL: how much the anchor counts, at most eta."""
    anchor_every: Annotated[int, Field(ge=1)] = 2
    """COMAL: rounds after which the anchor moves to the policy. INPO's anchor is where the first round starts."""

    @model_validator(mode="after")
    def _check(self) -> IteratedConfig:
        if "policy" not in self.siblings:
            raise ValueError("one of the siblings is the policy")
        if self.tau > self.eta:
            raise ValueError("tau is at most eta")
        return self


def met_in_round(personas: Sequence[Persona], config: IteratedConfig, number: int, seed: int) -> list[Persona]:
    """The users of a round (1, 2, ...): everybody once in an order drawn by seed, then everybody in another one."""
    count = min(config.personas or len(personas), len(personas))
    order: list[Persona] = []
    while len(order) < number * count:
        lap = list(personas)
        Random(derive_seed(seed, "iterated", len(order))).shuffle(lap)
        order += lap
    return order[(number - 1) * count : number * count]


def anchor_round(method: IteratedMethod, config: IteratedConfig, number: int) -> int:
    """After which round the policy stood where round `number` has its anchor; 0: before the first."""
    return (number - 1) // config.anchor_every * config.anchor_every if method == "comal" else 0


def simulation_of(config: IteratedConfig, base: SimulateConfig) -> SimulateConfig:
    """How a round's trees are grown: as the run's own, with the policy among those who answer and are gone on from."""
    policy = base.policy
    if policy.continue_from is not None:
        heard = {*policy.continue_from, "policy"}
        kept = tuple(dict.fromkeys(source for source in config.siblings if source in heard))
        policy = policy.model_copy(update={"continue_from": kept})
    changes = {"turns": config.turns, "siblings": config.siblings, "policy_samples": 0, "policy": policy}
    return SimulateConfig.model_validate(base.model_dump() | changes)
