"""What a model meets that is tested, or trained online: a user, who notes what the user shows, and who judges.

Each part is played by rules or by language models. The rule-based judge measures what rule-based users write, so it
goes with them only; a language model may judge either.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import model_validator

from interalign.conversations.cast import Wrap, open_players
from interalign.conversations.checks import ChecksConfig
from interalign.conversations.turn import Checker
from interalign.llm.backends import ModelConfig
from interalign.llm.model import ChatModel, Sampling
from interalign.messages import Chat, Value
from interalign.personas.persona import Persona
from interalign.roles.inducer import Inducer
from interalign.roles.judge import Judge, RuleJudge
from interalign.roles.llm.checker import LLMChecker
from interalign.roles.llm.grader import Graded, LLMGrader
from interalign.roles.llm.inducer import LLMInducer
from interalign.roles.llm.player import FREELY, Player, RoleConfig, WeightedModel
from interalign.roles.llm.rater import HelpfulnessRater, LLMRater
from interalign.roles.llm.user import LLMUser
from interalign.roles.user import RuleUser, UserSimulator

__all__ = [
    "ROLES",
    "TESTED",
    "Environment",
    "EnvironmentRoles",
    "Grader",
    "HelpfulnessJudge",
    "JudgeConfig",
    "environment_of",
    "environment_played_by",
    "open_environment",
    "open_test",
    "prompts_of",
    "roles_of",
]

ROLES = ("user", "checker", "inducer", "judge", "helpfulness", "grader")
"""The roles that language models may play, in the order in which they are told of."""

TESTED = "tested"
"""The role of the model under test where calls are counted."""

_PROMPTS = {"judge": "rater"}
"""The roles whose instructions and script have another name."""


class Grader(Protocol):
    """Anything that can tell which statements about a person are true, and which disclosed things they name."""

    async def grade(
        self, persona: Persona, disclosed: Sequence[str], statements: Sequence[str], seed: int
    ) -> Graded | None:
        """Return the places of both, or None when they cannot be told; as with judges, ModelError says why."""
        ...


class HelpfulnessJudge(Protocol):
    """Anything that can tell how well a reply would help anybody."""

    async def helpfulness(self, chat: Chat, reply: str, seed: int) -> float | None:
        """Return 1 to 5, or None when there is no score to give; as with judges, ModelError says why."""
        ...


class JudgeConfig(RoleConfig):
    """Which language models judge, and how their answers become scores."""

    sampling: Sampling = Sampling(max_tokens=100, temperature=0)

    weighted: bool = False
    """Weigh the scores 1 to 5 by the probabilities that the server gives for them, where it does."""
    free_text: bool = False
    """Read scores from free text, of models that do not keep to JSON: the package's instructions ask for a reason and a
    last line "Rating: N" then, and `roles.llm.ratings` tells which forms count."""


class EnvironmentRoles(Value):
    """Which language models play which role of the benchmark; rules play what is left out."""

    user: RoleConfig | None = None
    """Plays the persona. Left out: rules, which need personas that `personas compose` has made."""
    inducer: RoleConfig | None = None
    """Writes down what the user has disclosed; needed where a language model is the user."""
    judge: JudgeConfig | None = None
    """Rates each reply for the persona. Left out: rules, which judge what rule-based users write and nothing else."""
    grader: RoleConfig | None = None
    """Checks what the tested model says it has learnt; left out, it is not asked."""
    checker: RoleConfig | None = None
    """Looks again at user turns that the rules of `checks` have let pass; left out, the rules are all."""

    @model_validator(mode="after")
    def _check(self) -> EnvironmentRoles:
        if self.user is not None and self.inducer is None:
            raise ValueError("where a language model is the user, another (inducer) must note what it discloses")
        if self.user is not None and self.judge is None:
            raise ValueError("the rule-based judge cannot read users that are language models: name models as judge")
        if self.user is None and (self.inducer or self.checker):
            raise ValueError("rule-based users need no inducer and no checker: name a user, or leave these out")
        return self


def environment_played_by(model: ModelConfig) -> EnvironmentRoles:
    """All roles played by one model: the user freely, whoever notes or judges at temperature 0."""
    models = (WeightedModel(model=model),)
    return EnvironmentRoles(
        user=RoleConfig(models=models, sampling=Sampling(max_tokens=200, temperature=0.9)),
        inducer=RoleConfig(models=models, sampling=Sampling(max_tokens=600, temperature=0)),
        judge=JudgeConfig(models=models),
        grader=RoleConfig(models=models, sampling=Sampling(max_tokens=200, temperature=0)),
    )


def roles_of(roles: EnvironmentRoles | None, *, helpfulness: bool = False) -> dict[str, RoleConfig]:
    """The configuration of each role that a language model plays, in the order of `ROLES`.

    Helpfulness is the judge's second question, under instructions of the package's own.
    """
    if roles is None:
        return {}
    played = {name: getattr(roles, name, None) for name in ROLES}
    if helpfulness and roles.judge is not None:
        played["helpfulness"] = roles.judge.model_copy(update={"prompt": None})
    return {name: config for name, config in played.items() if config is not None}


def prompts_of(played: Mapping[str, RoleConfig]) -> dict[str, str]:
    """The name of each role's instructions and script, in a judge's own way to answer."""
    return {
        role: _PROMPTS.get(role, role) + (FREELY if answers_freely(config) else "") for role, config in played.items()
    }


def answers_freely(config: RoleConfig) -> bool:
    """Whether it is a judge that answers in free text."""
    return isinstance(config, JudgeConfig) and config.free_text


@dataclass(frozen=True)
class Environment:
    """Who plays beside the model. The default is rule-based throughout."""

    user: UserSimulator = field(default_factory=RuleUser)
    judge: Judge = field(default_factory=RuleJudge)
    inducer: Inducer | None = None
    """Writes the ledger; None where the user does it itself."""
    helpfulness: HelpfulnessJudge | None = None
    grader: Grader | None = None
    """Checks induction; None: rules do, by the names of facts."""
    checks: ChecksConfig | None = None
    """What user turns are checked for; None for rule-based users, which have no such faults."""
    checker: Checker | None = None
    """Looks again at what the checks have let pass."""


@asynccontextmanager
async def open_environment(
    roles: EnvironmentRoles | None, checks: ChecksConfig | None, wrap: Wrap, *, helpfulness: bool = False
) -> AsyncIterator[Environment]:
    """The environment that a recipe names, its models closed at the end of the block.

    Raises:
        InputError, MissingExtra, ModelError: as `open_model`; InputError also for a prompt file that cannot be used.
    """
    played = roles_of(roles, helpfulness=helpfulness)
    async with open_players(played, wrap, prompts_of(played)) as players:
        yield environment_of(players, roles or EnvironmentRoles(), checks)


@asynccontextmanager
async def open_test(
    tested: ModelConfig,
    roles: EnvironmentRoles | None,
    checks: ChecksConfig | None,
    wrap: Wrap,
    *,
    helpfulness: bool = False,
) -> AsyncIterator[tuple[ChatModel, Environment]]:
    """A model under test, wrapped for the role `TESTED`, and the cast; roles that it plays too share its connections.

    Raises:
        InputError, MissingExtra, ModelError: as `open_environment`.
    """
    played = roles_of(roles, helpfulness=helpfulness)
    prompts = {**prompts_of(played), TESTED: "generic"}
    with_tested = {TESTED: RoleConfig(models=(WeightedModel(model=tested),)), **played}
    async with open_players(with_tested, wrap, prompts) as players:
        yield players[TESTED].pick(0), environment_of(players, roles or EnvironmentRoles(), checks)


def environment_of(players: Mapping[str, Player], roles: EnvironmentRoles, checks: ChecksConfig | None) -> Environment:
    """Players in their roles; rules where there is none."""
    weighted, free_text = (roles.judge.weighted, roles.judge.free_text) if roles.judge else (False, False)
    return Environment(
        user=LLMUser(players["user"]) if "user" in players else RuleUser(),
        judge=LLMRater(players["judge"], weighted, free_text) if "judge" in players else RuleJudge(),
        inducer=LLMInducer(players["inducer"]) if "inducer" in players else None,
        helpfulness=HelpfulnessRater(players["helpfulness"], weighted, free_text) if "helpfulness" in players else None,
        grader=LLMGrader(players["grader"]) if "grader" in players else None,
        checks=checks if "user" in players else None,
        checker=LLMChecker(players["checker"]) if "checker" in players else None,
    )
