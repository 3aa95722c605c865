"""An evaluation rehearsed with scripts: what each role will be sent, and about how much it will take.

The tested models are played by a script as well, each by its own method; replies are taken as 120 tokens, or as long
as the recipe lets them be.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence

from interalign.conversations.environment import TESTED, EnvironmentRoles, environment_of, prompts_of, roles_of
from interalign.evaluation.benchmark import BenchmarkConfig, Case, MethodCandidate, line_up, play_cases
from interalign.llm.account import RoleUsage, merged
from interalign.llm.backends import ModelConfig, ScriptedConfig, check_limits
from interalign.llm.model import Request
from interalign.llm.prices import Prices
from interalign.personas.persona import Persona
from interalign.pipeline.rehearsal import REHEARSED, REPLY_TOKENS, Heard, estimated, overheard
from interalign.pipeline.tested import Tested
from interalign.recipe import Recipe
from interalign.roles.llm.player import Player, instructions
from interalign.roles.llm.script import scripts

__all__ = ["estimate_evaluation", "sample_evaluation_calls"]


def estimate_evaluation(
    personas: Sequence[Persona], recipe: Recipe, tested: Sequence[Tested], prices: Prices
) -> tuple[RoleUsage, ...]:
    """Calls, tokens and money by role and model for all cases with all tested models.

    A few cases are rehearsed with scripts; a token is taken as four characters. Retries of faulty turns are not in it,
    and neither is that models share openings. Where a price is unknown, so is the money.

    Raises:
        InputError: there are fewer than two held-out personas, or a model is limited in two ways.
    """
    config = recipe.benchmark
    played = roles_of(config.roles, helpfulness=config.helpfulness)
    check_limits([*(one.model for role in played.values() for one in role.models), *(one.model for one in tested)])
    cases = line_up(personas, config, recipe.seed)
    rows: list[RoleUsage] = []
    scripted = {**prompts_of(played), TESTED: "generic"}
    heard_of: dict[str, list[tuple[Mapping[str, Heard], float]]] = {}
    for one_tested in tested:
        method = one_tested.method
        if method not in heard_of:
            heard_of[method] = [_part(cases, recipe, method, repeat=repeat) for repeat in (0, 1)]
        for heard, scale in heard_of[method]:
            for role, of_role in played.items():
                whole = sum(one.weight for one in of_role.models)
                rows += [
                    _estimated(role, one.model, heard[role], scale * one.weight / whole, prices, scripted[role])
                    for one in of_role.models
                ]
            rows.append(_estimated(TESTED, one_tested.model, heard[TESTED], scale, prices, scripted[TESTED]))
    return merged(rows)


def sample_evaluation_calls(
    personas: Sequence[Persona], recipe: Recipe, tested: Sequence[Tested]
) -> tuple[dict[str, Request], dict[str, Request]]:
    """For each role, and by its name for each tested model, one call, from the last turn of a rehearsal.

    A tested model's is one for a reply, with what its method adds; the judge's is for a verdict on such a reply.

    Raises:
        InputError: as `estimate_evaluation`.
    """
    cases = line_up(personas, recipe.benchmark, recipe.seed)[:1]
    # Beside the conversation the model is asked other things, which are not what it is tested by.
    plain = recipe.benchmark.model_copy(update={"controls": False, "induction_turns": ()})
    calls = _rehearse(cases, recipe, recipe.benchmark, "plain", 0)
    ordinary = {method: _rehearse(cases, recipe, plain, method, 0) for method in {one.method: 0 for one in tested}}
    for heard in ordinary.values():
        # The last of the others is that on a control, under another person's persona.
        calls["judge"] = heard["judge"]
    roles = {role: heard.last for role, heard in calls.items() if role != TESTED and heard.last is not None}
    replies = {one.name: ordinary[one.method][TESTED].last for one in tested}
    return roles, {name: last for name, last in replies.items() if last is not None}


def _estimated(role: str, model: ModelConfig, heard: Heard, scale: float, prices: Prices, script: str) -> RoleUsage:
    """As `estimated`; a script goes by the name that it has in a run."""
    row = estimated(role, model, heard, scale, prices)
    if not isinstance(model, ScriptedConfig):
        return row
    return row.model_copy(update={"model": scripts()[script].name})


def _part(cases: Sequence[Case], recipe: Recipe, method: str, *, repeat: int) -> tuple[Mapping[str, Heard], float]:
    """What was heard in a rehearsal of some of the cases, repeats or not; and how many each of them stands for."""
    of_kind = [case for case in cases if case.repeat == repeat]
    some = of_kind[:REHEARSED]
    tokens = min(REPLY_TOKENS, recipe.benchmark.sampling.max_tokens)
    heard = _rehearse(some, recipe, recipe.benchmark, method, tokens)
    return heard, len(of_kind) / len(some) if some else 0.0


def _rehearse(
    cases: Sequence[Case], recipe: Recipe, config: BenchmarkConfig, method: str, reply_tokens: int
) -> defaultdict[str, Heard]:
    heard: defaultdict[str, Heard] = defaultdict(Heard)
    played = roles_of(config.roles, helpfulness=config.helpfulness)
    told = prompts_of(played)
    players = {
        role: Player(
            [(overheard(scripts()[told[role]], heard[role]), 1.0)],
            one.sampling,
            instructions(told[role], one.prompt),
        )
        for role, one in played.items()
    }
    model = overheard(scripts()["generic"], heard[TESTED], reply_tokens)
    candidate = MethodCandidate(method, model, config.sampling)
    # What a script repeats is no fault of the models to come.
    cast = environment_of(players, config.roles or EnvironmentRoles(), None)

    async def all_of_them() -> None:
        async for _ in play_cases(cases, candidate, cast, config, recipe.seed):
            pass

    asyncio.run(all_of_them())
    return heard
