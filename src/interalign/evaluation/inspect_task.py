"""The benchmark as a task of Inspect AI: `inspect eval interalign/aloe --model ...`.

A sample is one person. `play_case` has the conversation, as it does for `interalign eval`, so both write the same rows
for the same answers. The models are Inspect's: the one under test, and those of the roles `user`, `judge`, `inducer`
and `grader`. Rules play the user and the judge where no model is named for them, with people whom rules can play.
Inspect's log keeps the conversation, the verdicts and every call.
"""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import ValidationError

from interalign.conversations.environment import (
    Environment,
    EnvironmentRoles,
    environment_of,
    environment_played_by,
    prompts_of,
    roles_of,
)
from interalign.errors import InputError, MissingExtra, ModelError
from interalign.evaluation.benchmark import BenchmarkConfig, Case, ModelCandidate, line_up, play_case
from interalign.evaluation.cases import read_cases
from interalign.evaluation.groups import groups_of
from interalign.evaluation.inspect_scores import ROWS, alignment, shown_parts
from interalign.evaluation.rows import TurnRow
from interalign.llm.inspect import EvalModel, InspectConfig, inspect_messages
from interalign.messages import Chat, Message, Value
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.persona import Persona
from interalign.roles.ledger import Ledger
from interalign.roles.llm.player import Player, instructions, prompt_hashes
from interalign.roles.responder import ModelResponder, policy_prompt

try:
    from inspect_ai import Task, task
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import ChatMessageSystem, Model, ModelOutput, get_model, model_roles
    from inspect_ai.solver import Generate, Solver, TaskState, solver
except ImportError:
    raise MissingExtra("inspect-ai", "inspect") from None

__all__ = ["aloe", "conversation"]

JudgedBy: TypeAlias = Literal["role", "rules"]

_WORLD = "world"
_SHOWN_CHARACTERS = 160


class _Wishes(Value):
    """What is wished of a conversation, before it is known which roles have models."""

    turns: int
    judge: JudgedBy
    controls: bool
    helpfulness: bool
    weighted: bool


@task
def aloe(
    cases: str = "aloe",
    turns: int = 10,
    judge: JudgedBy = "role",
    controls: bool = True,
    helpfulness: bool = False,
    weighted: bool = False,
    people: int = 20,
    seed: int = 0,
) -> Task:
    """How well a model comes to know the person it talks to, turn by turn.

    Args:
        cases: With whom it talks: `aloe` for the people that come with interalign, a file of personas, or `world` for
            people whom rules can play, which needs no model beside the one under test.
        turns: Turns of a conversation.
        judge: `role` for the model of the role `judge`, and rules where there is none; `rules` for rules in any case.
        controls: Judge each reply under another person's persona as well and, where a model judges, ask the model
            under test for the other replies that tell what a score means.
        helpfulness: Have the judge also rate how well each reply would help anybody.
        weighted: Weigh the judge's scores by the probabilities that its provider gives for them, where it does.
        people: How many people the `world` has.
        seed: Of the people of the `world`, of who is swapped with whom, and of every call.

    Raises:
        InputError: an argument, or the file of personas, cannot be used.
    """
    lined_up = _lined_up(cases, people, seed)
    talk = conversation(cases, turns, judge, controls, helpfulness, weighted, people, seed)
    told = prompts_of(roles_of(environment_played_by(InspectConfig(model="any/model")), helpfulness=helpfulness))
    return Task(
        dataset=MemoryDataset([_sample(case.persona, turns) for case in lined_up.values()], name=cases),
        solver=talk,
        scorer=alignment(turns),
        metadata={"prompts": prompt_hashes({role: instructions(name) for role, name in told.items()})},
    )


@solver
def conversation(
    cases: str = "aloe",
    turns: int = 10,
    judge: JudgedBy = "role",
    controls: bool = True,
    helpfulness: bool = False,
    weighted: bool = False,
    people: int = 20,
    seed: int = 0,
) -> Solver:
    """Has the whole conversation of a sample; arguments as of `aloe`.

    It leaves the conversation in the state's messages, each reply with its verdict as metadata, and the rows in the
    store.

    Raises:
        InputError: an argument, or the file of personas, cannot be used.
    """
    wishes = _checked(turns=turns, judge=judge, controls=controls, helpfulness=helpfulness, weighted=weighted)
    lined_up = _lined_up(cases, people, seed)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        case = lined_up[str(state.sample_id)]
        cast, config = _table(case.persona, wishes)
        candidate = _OnStage(state)
        rows = await play_case(
            case.persona, case.stranger, candidate, cast, config, seed, repeat=max(0, state.epoch - 1)
        )
        if rows[0].failure is not None:
            # Nothing to score: an error of the sample, which Inspect counts and tries again as it was told.
            raise ModelError(f"No turn could be played: {rows[0].failure}")
        candidate.review(rows)
        return state

    return solve


class _OnStage(ModelCandidate):
    """The model under test, whose conversation is put into the state as it goes, for whoever looks on or stops it."""

    def __init__(self, state: TaskState) -> None:
        # How it draws tokens is told to Inspect; the sampling here would be another word on it.
        self._model = get_model()
        self._state = state
        super().__init__(ModelResponder(EvalModel(self._model, sampling=False), BenchmarkConfig().sampling))
        state.messages = [ChatMessageSystem(content=policy_prompt())]

    async def answer(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> str:
        """Return the model's reply, after both messages of the turn have been put into the state."""
        reply = await super().answer(persona, chat, ledger, seed)
        said = (chat[-1], Message(role="assistant", content=reply))
        self._state.messages.extend(inspect_messages(said))
        self._state.output = ModelOutput.from_content(str(self._model), reply)
        return reply

    def review(self, rows: list[TurnRow]) -> None:
        """Put the verdicts beside the replies, and the rows into the store."""
        replies = [message for message in self._state.messages if message.role == "assistant"]
        for message, row in zip(replies, rows, strict=False):
            message.metadata = shown_parts(row)
        self._state.store.set(ROWS, [row.model_dump(mode="json") for row in rows])


def _checked(**wished: Any) -> _Wishes:
    try:
        wishes = _Wishes.model_validate(wished)
        BenchmarkConfig(turns=wishes.turns)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise InputError(f"-T {name}={wished.get(name)}: {first['msg']}.", mend="see docs/inspect.md.") from None
    return wishes


def _lined_up(cases: str, people: int, seed: int) -> dict[str, Case]:
    """Every person with whom the model talks, and under whose persona the replies are judged as well."""
    if cases != _WORLD:
        persons = read_cases(cases)
    elif people < 2:
        raise InputError(f"-T people={people}: a world has at least 2.", mend="give a larger number.")
    else:
        persons = compose_personas(WorldConfig(train=1, heldout=people), seed)[1:]
    # Inspect has epochs in the place of repeats.
    return {case.persona.id: case for case in line_up(persons, BenchmarkConfig(repeats=0), seed)}


def _sample(persona: Persona, turns: int) -> Sample:
    short = textwrap.shorten(persona.profile, _SHOWN_CHARACTERS, placeholder=" ...")
    return Sample(
        id=persona.id,
        input=f"A conversation of {turns} turns with this person: {short}",
        metadata={
            "profile": persona.profile,
            "personality": persona.personality,
            "groups": _groups(persona),
        },
    )


def _groups(persona: Persona) -> dict[str, list[str]]:
    """The groups of a person by kind, in words that the viewer can show and a log reader can group by."""
    groups: dict[str, list[str]] = {}
    for group in groups_of(persona):
        groups.setdefault(group.kind, []).append(group.name)
    return groups


def _table(persona: Persona, wishes: _Wishes) -> tuple[Environment, BenchmarkConfig]:
    """Who sits at the table, and how the conversation goes, with the roles that Inspect was given."""
    _check_event_loop()
    given = {role: get_model(role=role) for role in model_roles()}
    if wishes.judge == "rules":
        given.pop("judge", None)
    _check_roles(persona, given, wishes)
    roles = _roles(given, wishes)
    played = roles_of(roles, helpfulness=wishes.helpfulness)
    told = prompts_of(played)
    players = {
        role: Player([(EvalModel(_player_of(role, given)), 1)], config.sampling, instructions(told[role]))
        for role, config in played.items()
    }
    config = BenchmarkConfig(
        turns=wishes.turns, roles=roles, controls=wishes.controls, helpfulness="helpfulness" in played, repeats=0
    )
    return environment_of(players, roles, config.checks), config


def _roles(given: Mapping[str, Model], wishes: _Wishes) -> EnvironmentRoles:
    """The roles that models play, with the sampling that `interalign eval` gives them."""
    of_user = ["user", "inducer"] if "user" in given else []
    of_judge = ["judge", *(["grader"] if wishes.controls else [])] if "judge" in given else []
    named = {role: InspectConfig(model=str(_player_of(role, given))) for role in (*of_user, *of_judge)}
    played = {role: getattr(environment_played_by(model), role) for role, model in named.items()}
    if "judge" in played:
        played["judge"] = played["judge"].model_copy(update={"weighted": wishes.weighted})
    return EnvironmentRoles(**played)


def _player_of(role: str, given: Mapping[str, Model]) -> Model:
    """The model of a role; whoever notes or grades is the judge's where it has none of its own."""
    return given[role] if role in given else given["judge"]


def _check_roles(persona: Persona, given: Mapping[str, Model], wishes: _Wishes) -> None:
    if "user" not in given and not persona.is_rule_based:
        raise InputError(
            "These people are texts, which a language model must play, and the role 'user' has no model.",
            mend="add --model-role user=PROVIDER/MODEL, or talk to people whom rules play: -T cases=world.",
        )
    if "judge" in given:
        return
    if "user" in given:
        raise InputError(
            "Rules cannot judge what a language model says as the user, and the role 'judge' has no model.",
            mend="add --model-role judge=PROVIDER/MODEL, without -T judge=rules.",
        )
    if wishes.helpfulness:
        raise InputError(
            "How well a reply would help anybody is rated by a language model, and the role 'judge' has none.",
            mend="add --model-role judge=PROVIDER/MODEL, or leave out -T helpfulness.",
        )


def _check_event_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise InputError(
            "Conversations need asyncio, and Inspect runs on another event loop.",
            mend="unset INSPECT_ASYNC_BACKEND.",
        ) from None
