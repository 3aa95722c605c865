from __future__ import annotations

import asyncio

import pytest
from pydantic import ValidationError

from interalign.conversations.checks import ChecksConfig
from interalign.conversations.environment import (
    Environment,
    EnvironmentRoles,
    JudgeConfig,
    environment_played_by,
    open_environment,
    prompts_of,
    roles_of,
)
from interalign.errors import InputError
from interalign.llm.backends import ScriptedConfig
from interalign.llm.model import ChatModel
from interalign.roles.judge import RuleJudge
from interalign.roles.llm.rater import HelpfulnessRater, LLMRater
from interalign.roles.user import RuleUser

SCRIPTED = environment_played_by(ScriptedConfig())


def opened(roles: EnvironmentRoles | None, *, helpfulness: bool = False) -> tuple[Environment, dict[str, str]]:
    wrapped: dict[str, str] = {}

    def wrap(model: ChatModel, role: str, free: bool) -> ChatModel:
        wrapped[role] = model.name
        assert free
        return model

    async def look() -> Environment:
        async with open_environment(roles, ChecksConfig(), wrap, helpfulness=helpfulness) as cast:
            return cast

    return asyncio.run(look()), wrapped


def test_rules_play_what_is_left_out() -> None:
    cast, wrapped = opened(None)
    assert isinstance(cast.user, RuleUser) and isinstance(cast.judge, RuleJudge)
    assert (cast.inducer, cast.grader, cast.checks, wrapped) == (None, None, None, {})
    cast, wrapped = opened(EnvironmentRoles(judge=SCRIPTED.judge), helpfulness=True)
    assert isinstance(cast.user, RuleUser) and isinstance(cast.judge, LLMRater)
    assert isinstance(cast.helpfulness, HelpfulnessRater)
    assert wrapped == {"judge": "scripted rater", "helpfulness": "scripted helpfulness"}


def test_every_role_has_its_own_script() -> None:
    _, wrapped = opened(SCRIPTED)
    assert wrapped == {
        "user": "scripted user",
        "inducer": "scripted inducer",
        "judge": "scripted rater",
        "grader": "scripted grader",
    }
    assert list(roles_of(SCRIPTED, helpfulness=True)) == ["user", "inducer", "judge", "helpfulness", "grader"]


def test_the_judges_own_prompt_is_not_that_of_helpfulness() -> None:
    assert SCRIPTED.judge is not None
    roles = SCRIPTED.model_copy(update={"judge": SCRIPTED.judge.model_copy(update={"prompt": "absent.txt"})})
    assert roles_of(roles, helpfulness=True)["helpfulness"].prompt is None
    with pytest.raises(InputError, match=r"absent\.txt"):
        opened(roles)


@pytest.mark.parametrize("left_out", [("inducer",), ("judge",), ("user",), ("user", "inducer", "judge", "grader")])
def test_only_casts_that_can_play_are_taken(left_out: tuple[str, ...]) -> None:
    table = SCRIPTED.model_dump() | dict.fromkeys(left_out)
    if len(left_out) == 4:
        assert roles_of(EnvironmentRoles.model_validate(table)) == {}
        return
    with pytest.raises(ValidationError):
        EnvironmentRoles.model_validate(table)


def test_judges_take_their_own_settings() -> None:
    assert SCRIPTED.judge is not None
    judge = JudgeConfig(models=SCRIPTED.judge.models, weighted=True, free_text=True)
    assert prompts_of({"judge": judge, "helpfulness": judge}) == {
        "judge": "rater_free",
        "helpfulness": "helpfulness_free",
    }
    assert prompts_of({"judge": SCRIPTED.judge}) == {"judge": "rater"}
    cast, _ = opened(EnvironmentRoles(judge=judge))
    assert isinstance(cast.judge, LLMRater)
