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
from interalign.llm.backends import ModelConfig, check_limits, costs_nothing, label
from interalign.llm.model import Answer, ChatModel, Request
from interalign.llm.prices import FREE, Prices
from interalign.personas.persona import Persona
from interalign.recipe import Recipe
from interalign.roles.llm.player import Player, instructions
from interalign.roles.llm.script import scripts

__all__ = ["REHEARSED", "REPLY_TOKENS", "Heard", "estimate", "estimated", "overheard", "sample_calls"]

REHEARSED = 5
"""Personas of a rehearsal; more would change the estimate less than models differ."""
_CHARACTERS_A_TOKEN = 4
REPLY_TOKENS = 120
_FILLER = " and so on"
_REPLIES = ("tailored", "generic")


def estimate(personas: Sequence[Persona], recipe: Recipe, prices: Prices) -> tuple[RoleUsage, ...]:
    """Calls, tokens and money by role and model for conversations with all `personas`.

    A few conversations are rehearsed with scripts in all roles and with replies of 120 tokens; a token is taken as four
    characters. Retries of faulty turns are not in it. Where a price is unknown, so is the money.

    Raises:
        InputError: there is nobody to talk to, or a model of the roles is limited in two ways.
    """
    heard = _rehearse(personas[:REHEARSED], recipe, REPLY_TOKENS)
    scale = len(personas) / min(len(personas), REHEARSED)
    rows = []
    for role, config in roles_of(_roles(recipe)).items():
        whole = sum(one.weight for one in config.models)
        rows += [estimated(role, one.model, heard[role], scale * one.weight / whole, prices) for one in config.models]
    return tuple(rows)


def estimated(role: str, model: ModelConfig, heard: Heard, scale: float, prices: Prices) -> RoleUsage:
    """What `scale` times of what was heard of a role would take of a model."""
    prompt, completion = (round(scale * tokens) for tokens in heard.tokens)
    name = label(model)
    price = FREE if costs_nothing(model) else prices.of(name)
    return RoleUsage(
        role=role,
        model=name,
        calls=round(scale * heard.calls),
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=0,
        usd=None if price is None else price.usd(prompt, 0, completion),
    )


def sample_calls(personas: Sequence[Persona], recipe: Recipe) -> dict[str, Request]:
    """For each role one call, from the last turn of a rehearsal.

    Raises:
        InputError: as `estimate`.
    """
    heard = _rehearse(personas[:1], recipe, 0)
    said = {role: heard[role].last for role in roles_of(_roles(recipe))}
    return {role: request for role, request in said.items() if request is not None}


@dataclass
class Heard:
    """What a rehearsal heard of one role."""

    calls: int = 0
    characters: list[int] = field(default_factory=lambda: [0, 0])
    last: Request | None = None

    @property
    def tokens(self) -> tuple[float, float]:
        """Of prompts and of answers."""
        return self.characters[0] / _CHARACTERS_A_TOKEN, self.characters[1] / _CHARACTERS_A_TOKEN


def overheard(model: ChatModel, heard: Heard, reply_tokens: int = 0) -> ChatModel:
    """A scripted model that is listened to; its answers are padded to so many tokens, the length of a model's."""
    return _Overheard(model, heard, reply_tokens)


class _Overheard:
    def __init__(self, model: ChatModel, heard: Heard, reply_tokens: int) -> None:
        self._model = model
        self._heard = heard
        self._reply_tokens = reply_tokens

    @property
    def name(self) -> str:
        return self._model.name

    async def complete(self, request: Request) -> Answer:
        answer = await self._model.complete(request)
        missing = self._reply_tokens * _CHARACTERS_A_TOKEN - len(answer.text)
        if missing > 0:
            answer = answer.model_copy(update={"text": answer.text + _FILLER * (missing // len(_FILLER))})
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


def _rehearse(personas: Sequence[Persona], recipe: Recipe, reply_tokens: int) -> Mapping[str, Heard]:
    if not personas:
        raise InputError("There is no persona to talk to.", mend="make some with `interalign personas`.")
    heard: defaultdict[str, Heard] = defaultdict(Heard)
    players = {
        role: Player(
            [(overheard(scripts()[role], heard[role], reply_tokens if role in _REPLIES else 0), 1.0)],
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
