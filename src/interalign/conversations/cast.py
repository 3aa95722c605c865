"""Who plays in a simulation: the models that the recipe names, opened and put into their roles."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeAlias

from interalign.conversations.simulate import RolesConfig, SimulateConfig
from interalign.conversations.turn import Cast
from interalign.llm.backends import ModelConfig, costs_nothing, open_model
from interalign.llm.model import ChatModel
from interalign.roles.llm.checker import LLMChecker
from interalign.roles.llm.inducer import LLMInducer
from interalign.roles.llm.judge import LLMJudge
from interalign.roles.llm.player import Player, RoleConfig, instructions
from interalign.roles.llm.responder import LLMResponder
from interalign.roles.llm.script import scripts
from interalign.roles.llm.user import LLMUser

__all__ = ["ROLES", "Wrap", "cast_of", "open_cast", "open_players", "roles_of"]

ROLES = ("user", "checker", "inducer", "tailored", "generic", "judge")
Wrap: TypeAlias = Callable[[ChatModel, str, bool], ChatModel]
"""What is put around a model, in a role, that is free or not: a journal, an account, a gate."""


def roles_of(config: RolesConfig) -> dict[str, RoleConfig]:
    """The configuration of each role that is played, in the order of `ROLES`."""
    return {role: getattr(config, role) for role in ROLES if getattr(config, role) is not None}


@asynccontextmanager
async def open_cast(config: SimulateConfig, wrap: Wrap) -> AsyncIterator[Cast]:
    """The cast that a recipe names, its models closed at the end of the block.

    Roles that name the same model share it, and with it its connections, its slots and its limits.

    Raises:
        InputError, MissingExtra, ModelError: as `open_model`; InputError also for a prompt file that cannot be used.
    """
    assert config.roles is not None  # without roles the cast is the rule-based one
    async with open_players(roles_of(config.roles), wrap) as players:
        yield cast_of(players, config)


@asynccontextmanager
async def open_players(
    roles: Mapping[str, RoleConfig], wrap: Wrap, prompts: Mapping[str, str] | None = None
) -> AsyncIterator[dict[str, Player]]:
    """A player for each role, the models closed at the end of the block.

    Args:
        roles: The roles by name.
        wrap: What is put around each model.
        prompts: What a role's instructions and its script are called, where not like the role.

    Raises:
        InputError, MissingExtra, ModelError: as `open_cast`.
    """
    async with AsyncExitStack() as stack:
        opened: dict[str, ChatModel] = {}
        players = {}
        for role, of_role in roles.items():
            told = (prompts or {}).get(role, role)
            models = []
            for one in of_role.models:
                key = _key(one.model, told)
                if key not in opened:
                    opened[key] = await stack.enter_async_context(open_model(one.model, scripts(), told))
                models.append((wrap(opened[key], role, costs_nothing(one.model)), one.weight))
            players[role] = Player(models, of_role.sampling, instructions(told, of_role.prompt))
        yield players


def cast_of(players: Mapping[str, Player], config: SimulateConfig) -> Cast:
    """Players in their roles."""
    return Cast(
        user=LLMUser(players["user"]),
        inducer=LLMInducer(players["inducer"]),
        writers={"tailored": LLMResponder(players["tailored"]), "generic": LLMResponder(players["generic"])},
        judge=LLMJudge(players["judge"]),
        checks=config.checks,
        checker=LLMChecker(players["checker"]) if "checker" in players else None,
    )


def _key(config: ModelConfig, role: str) -> str:
    # A script plays one role; any other model may play several.
    return config.model_dump_json() + (role if config.backend == "scripted" else "")
