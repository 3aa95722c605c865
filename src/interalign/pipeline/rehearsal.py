"""A simulation rehearsed with scripts: what each role will be sent, and about how much it will take."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from interalign.conversations.cast import cast_of, roles_of
from interalign.conversations.simulate import RolesConfig, grow_trees
from interalign.errors import InputError
from interalign.llm.account import RoleUsage
from interalign.llm.backends import check_limits, costs_nothing, label
from interalign.llm.model import Answer, ChatModel, Request
from interalign.llm.prices import FREE, Prices
from interalign.personas.persona import Persona
from interalign.recipe import Recipe
from interalign.roles.llm.player import Player, instructions
from interalign.roles.llm.script import scripts

__all__ = ["estimate", "sample_calls"]

_REHEARSED = 5
"""Personas of a rehearsal; more would change the estimate less than models differ."""
_CHARACTERS_A_TOKEN = 4
_REPLY_TOKENS = 120
_FILLER = " and so on"


def estimate(personas: Sequence[Persona], recipe: Recipe, prices: Prices) -> tuple[RoleUsage, ...]:
    """Calls, tokens and money by role and model for conversations with all `personas`.

    A few conversations are rehearsed with scripts in all roles and with replies of 120 tokens; a token is taken as four
    characters. Retries of faulty turns are not in it. Where a price is unknown, so is the money.

    Raises:
        InputError: there is nobody to talk to, or a model of the roles is limited in two ways.
    """
    heard = _rehearse(personas[:_REHEARSED], recipe, _REPLY_TOKENS)
    scale = len(personas) / min(len(personas), _REHEARSED)
    rows = []
    for role, config in roles_of(_roles(recipe)).items():
        whole = sum(one.weight for one in config.models)
        for one in config.models:
            share = scale * one.weight / whole
            prompt, completion = (round(share * tokens) for tokens in heard[role].tokens)
            name = label(one.model)
            price = FREE if costs_nothing(one.model) else prices.of(name)
            rows.append(
                RoleUsage(
                    role=role,
                    model=name,
                    calls=round(share * heard[role].calls),
                    prompt_tokens=prompt,
                    completion_tokens=completion,
                    cached_tokens=0,
                    usd=None if price is None else price.usd(prompt, 0, completion),
                )
            )
    return tuple(rows)


def sample_calls(personas: Sequence[Persona], recipe: Recipe) -> dict[str, Request]:
    """For each role one call, from the last turn of a rehearsal.

    Raises:
        InputError: as `estimate`.
    """
    heard = _rehearse(personas[:1], recipe, 0)
    said = {role: heard[role].last for role in roles_of(_roles(recipe))}
    return {role: request for role, request in said.items() if request is not None}


@dataclass
class _Heard:
    """What a rehearsal heard of one role."""

    calls: int = 0
    characters: list[int] = field(default_factory=lambda: [0, 0])
    last: Request | None = None

    @property
    def tokens(self) -> tuple[float, float]:
        """Of prompts and of answers."""
        return self.characters[0] / _CHARACTERS_A_TOKEN, self.characters[1] / _CHARACTERS_A_TOKEN


class _Overheard:
    """A scripted model that is listened to, and that pads replies to the length of a model's."""

    def __init__(self, model: ChatModel, role: str, heard: _Heard, reply_tokens: int) -> None:
        self._model = model
        self._role = role
        self._heard = heard
        self._reply_tokens = reply_tokens

    @property
    def name(self) -> str:
        return self._model.name

    async def complete(self, request: Request) -> Answer:
        answer = await self._model.complete(request)
        if self._role in ("tailored", "generic"):
            missing = self._reply_tokens * _CHARACTERS_A_TOKEN - len(answer.text)
            answer = answer.model_copy(update={"text": answer.text + _FILLER * max(0, missing // len(_FILLER))})
        self._heard.calls += 1
        self._heard.characters[0] += sum(len(message.content) for message in request.messages)
        self._heard.characters[1] += len(answer.text)
        self._heard.last = request
        return answer


def _roles(recipe: Recipe) -> RolesConfig:
    if recipe.simulate.roles is None:
        raise InputError("Rules play all roles of this recipe, so there are no calls.", mend="name models for them.")
    played = recipe.simulate.roles
    check_limits(one.model for role in roles_of(played).values() for one in role.models)
    return played


def _rehearse(personas: Sequence[Persona], recipe: Recipe, reply_tokens: int) -> Mapping[str, _Heard]:
    if not personas:
        raise InputError("There is no persona to talk to.", mend="make some with `interalign personas`.")
    heard: defaultdict[str, _Heard] = defaultdict(_Heard)
    players = {
        role: Player(
            [(_Overheard(scripts()[role], role, heard[role], reply_tokens), 1.0)],
            config.sampling,
            instructions(role, config.prompt),
        )
        for role, config in roles_of(_roles(recipe)).items()
    }
    config = recipe.simulate
    # What a script repeats is no fault of the models to come.
    cast = replace(cast_of(players, config), checks=None)

    async def all_of_them() -> None:
        async for _ in grow_trees(personas, config, recipe.seed, cast):
            pass

    asyncio.run(all_of_them())
    return heard
