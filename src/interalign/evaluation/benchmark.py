"""The benchmark: every model talks to the same held-out people, and each reply is judged as it is given.

Users are drawn from the persona and the seed alone, so cases are paired across models: with rules the plan of the whole
conversation is the same, with language models the opening. A reply is judged a second time under another person's
persona: the difference is the personalization gap.

A conversation waits for the user and the tested model only. What is noted and judged of a turn goes on meanwhile and is
waited for at the end of the case.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Annotated, Any, TypeVar

from pydantic import Field, model_validator

from interalign.conversations.checks import ChecksConfig
from interalign.conversations.environment import Environment, EnvironmentRoles, roles_of
from interalign.conversations.side_by_side import as_done
from interalign.conversations.tree import Fault
from interalign.conversations.turn import Place, speak
from interalign.errors import InputError, InteralignError, ModelError, StopWork, StorageError
from interalign.evaluation.candidates import (
    CONTROLS,
    Candidate,
    ControlCandidate,
    Instructable,
    MethodCandidate,
    ModelCandidate,
    TellsCut,
)
from interalign.evaluation.controls import COUNTERFACTUALS, counterfactual, default_turns
from interalign.evaluation.induction import induction
from interalign.evaluation.rows import Counterfactual, Induction, TurnRow
from interalign.llm.backends import ModelConfig
from interalign.llm.model import Sampling
from interalign.messages import Chat, Message, Value
from interalign.personas.gender import ungendered
from interalign.personas.persona import Persona
from interalign.roles.judge import Judge, Verdict
from interalign.roles.ledger import Disclosure, Ledger, stated_so_far
from interalign.roles.llm.player import RoleFailure, all_or_first_error
from interalign.roles.responder import ModelResponder
from interalign.roles.user import UserSimulator, UserTurn
from interalign.run import derive_seed

__all__ = [
    "CONTROLS",
    "PACKAGED",
    "BenchmarkConfig",
    "Candidate",
    "Case",
    "ControlCandidate",
    "Environment",
    "EnvironmentRoles",
    "MethodCandidate",
    "ModelCandidate",
    "benchmark",
    "claims_undisclosed",
    "line_up",
    "play_case",
    "play_cases",
    "run_benchmark",
    "uptake",
]

T = TypeVar("T")
PACKAGED = "aloe"
"""The name of the cases that come with interalign."""
_REPEATED = 0.1
_REPLY_BY_RULES, _REPLY = 60, 400
"""Tokens of the longest reply."""


class BenchmarkConfig(Value):
    """How long the benchmark talks, with whom, and how sure it wants to be."""

    turns: Annotated[int, Field(ge=2)] = 5
    """Turns of a conversation."""
    max_tokens: Annotated[int, Field(ge=8)] | None = None
    """Longest reply, in tokens of the tested model. Left out: 60 with rule-based users, whose world is one of short
    replies, and 400 where language models play."""
    temperature: Annotated[float, Field(ge=0)] = 0.7
    """Sampling temperature of the tested model; 0 takes the likeliest token, which makes small models loop."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Nucleus sampling: tokens outside the likeliest ones that make up this share are never drawn."""
    resamples: Annotated[int, Field(ge=100)] = 10_000
    """Bootstrap resamples behind each interval."""
    cases: str | None = None
    """Who is talked to: "aloe" for the cases that come with interalign, or a file of personas. Left out: the held-out
    personas of the run."""
    roles: EnvironmentRoles | None = None
    """Language models as user and judge. Left out, rules play both."""
    checks: ChecksConfig = ChecksConfig()
    """What is not let pass of a user whom a language model plays."""
    models: dict[str, ModelConfig] = Field(default_factory=dict)
    """More models to test, by name, beside those of the run."""
    controls: bool = True
    """Judge each reply under another person's persona as well, and play the controls: scripted conversations with
    rule-based users, other replies of the tested model with language models."""
    control_turns: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """At which turns language models give those other replies. Left out: first, middle and last from twelve turns on,
    first and last from eight on, the last from five on, which keeps the controls within the calls of the rest."""
    induction_turns: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """After which turns the model is asked what it has learnt. Left out: after the last one where the roles have a
    grader, never by rules."""
    helpfulness: bool = False
    """Have a language model as the judge also rate how well each reply would help anybody: one more call a turn."""
    repeats: Annotated[float, Field(ge=0, le=1)] | None = None
    """The share of the cases that are played twice, which tells the noise. Left out: a tenth where language models
    play, none by rules."""
    in_flight: Annotated[int, Field(ge=1)] = 128
    """Conversations that are open at the same time. It bounds memory and changes no result."""

    @model_validator(mode="after")
    def _check(self) -> BenchmarkConfig:
        for name in ("control_turns", "induction_turns"):
            beyond = [turn for turn in getattr(self, name) or () if turn > self.turns]
            if beyond:
                raise ValueError(f"{name} names turn {beyond[0]} of a conversation of {self.turns}")
        if self.helpfulness and (self.roles is None or self.roles.judge is None):
            raise ValueError("helpfulness is rated by a language model: name one as roles.judge")
        roles = self.roles
        if self.induction_turns and roles is not None and roles.user is not None and roles.grader is None:
            raise ValueError(
                "induction_turns: rules cannot check what is learnt of a user whom a language model plays: name one as "
                "roles.grader"
            )
        return self

    @property
    def sampling(self) -> Sampling:
        """How the tested models draw their tokens."""
        longest = self.max_tokens or (_REPLY_BY_RULES if self.by_rules else _REPLY)
        return Sampling(max_tokens=longest, temperature=self.temperature, top_p=self.top_p)

    @property
    def by_rules(self) -> bool:
        """Whether rules are both user and judge."""
        return self.roles is None or (self.roles.user is None and self.roles.judge is None)

    @property
    def controlled_turns(self) -> tuple[int, ...]:
        """The turns at which other replies are asked for."""
        if self.by_rules or not self.controls:
            return ()
        return default_turns(self.turns) if self.control_turns is None else self.control_turns

    @property
    def induced_turns(self) -> tuple[int, ...]:
        """The turns after which the model is asked what it has learnt."""
        if self.induction_turns is not None:
            return self.induction_turns
        return (self.turns,) if self.controls and self.roles is not None and self.roles.grader is not None else ()

    @property
    def repeated(self) -> float:
        """The share of the cases that are played twice."""
        return (0.0 if self.by_rules else _REPEATED) if self.repeats is None else self.repeats


def benchmark(checkpoint: str, personas: Sequence[Persona], config: BenchmarkConfig, seed: int) -> list[TurnRow]:
    """Test one checkpoint (a folder, a hub name or the offline model) on held-out personas with rule-based users.

    For callers that have no event loop; see `run_benchmark` for everything else.

    Raises:
        InputError: the configuration names language models for roles; or as `run_benchmark`.
    """
    if roles_of(config.roles):
        raise InputError(
            "benchmark() talks by rules, and its configuration names language models as roles, which it would not ask.",
            mend="leave roles out, or use `interalign eval`; from Python: open_environment(config.roles, ...) and "
            "play_cases.",
        )
    from interalign.llm.local import LocalModel

    async def play() -> list[TurnRow]:
        responder = ModelResponder(LocalModel(checkpoint), config.sampling)
        return await run_benchmark(ModelCandidate(responder), personas, config, seed)

    return asyncio.run(play())


async def run_benchmark(
    candidate: Candidate,
    personas: Sequence[Persona],
    config: BenchmarkConfig,
    seed: int,
    *,
    user: UserSimulator | None = None,
    judge: Judge | None = None,
    on_turn: Callable[[], None] | None = None,
) -> list[TurnRow]:
    """Play and judge all cases side by side; returns their rows, case by case.

    A case in which a role fails keeps the turns before; the turns after carry the reason and no verdict.

    Args:
        candidate: Who is tested.
        personas: With whom it talks.
        config: How; its roles are not opened here.
        seed: Of the run.
        user: Who plays the personas; rules where it is left out.
        judge: Who judges; rules where it is left out.
        on_turn: Called once for each turn of `config.turns`, whether it was played or not.

    Raises:
        InputError: fewer than two held-out personas, or training personas among them.
    """
    rules = Environment()
    cast = Environment(user=user or rules.user, judge=judge or rules.judge)
    cases = line_up(personas, config, seed)
    rows: dict[int, list[TurnRow]] = {}
    async for place, of_case in play_cases(cases, candidate, cast, config, seed, on_turn=on_turn):
        rows[place] = of_case
    return [row for place in sorted(rows) for row in rows[place]]


@dataclass(frozen=True)
class Case:
    """One conversation to be had."""

    persona: Persona
    stranger: Persona
    """Under whose persona the replies are judged as well."""
    repeat: int = 0


def line_up(personas: Sequence[Persona], config: BenchmarkConfig, seed: int) -> tuple[Case, ...]:
    """All conversations, one with each persona, and after them those that are had again; the same for every model.

    Raises:
        InputError: fewer than two held-out personas, or training personas among them.
    """
    _check_heldout(personas)
    stranger = _strangers(personas, seed)
    cases = [Case(persona, stranger[persona.id]) for persona in personas]
    people = list({persona.id: persona for persona in personas}.values())
    again = Random(derive_seed(seed, "repeats")).sample(people, round(config.repeated * len(people)))
    return (*cases, *(Case(persona, stranger[persona.id], 1) for persona in again))


async def play_cases(
    cases: Iterable[Case],
    candidate: Candidate,
    cast: Environment,
    config: BenchmarkConfig,
    seed: int,
    *,
    on_turn: Callable[[], None] | None = None,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> AsyncGenerator[tuple[int, list[TurnRow]], None]:
    """Yield the place and the rows of each case as soon as it is done; no more than `config.in_flight` are open.

    Each runs in a block that `around` makes (`Account.whole`).

    Raises:
        StopWork: the budget is spent, a server will answer nothing, or the user asked to stop. What was in flight is
            finished before, and cases that came to their end are yielded.
        StorageError: the journal cannot be written.
    """

    async def one(place: int, case: Case) -> tuple[int, list[TurnRow]]:
        with around():
            return place, await _Case(case, candidate, cast, config, seed, on_turn).play()

    begun = (partial(one, place, case) for place, case in enumerate(cases))
    async with aclosing(as_done(begun, config.in_flight)) as done:
        async for rows in done:
            yield rows


async def play_case(
    persona: Persona,
    stranger: Persona,
    candidate: Candidate,
    cast: Environment,
    config: BenchmarkConfig,
    seed: int,
    *,
    repeat: int = 0,
) -> list[TurnRow]:
    """Have one conversation of `config.turns` turns and judge it; returns a row for each turn.

    A user turn is taken with the cast's checks and retries; what they refuse stands in the row's faults and never
    counts against the model. Where the user or the tested model fails, the turns before are kept and the others carry
    the reason. Where whoever notes or judges fails, a fault under its role says so, and what it was asked for is
    missing.

    Args:
        persona: Whom the user plays.
        stranger: Under whose persona each reply is judged as well, where `config.controls` is set.
        candidate: Who is tested.
        cast: Everybody else.
        config: How; its roles are not opened here.
        seed: Of the run.
        repeat: Above 0 the same conversation is had anew, under seeds of its own.

    Raises:
        StopWork: no further call may be made. What was in flight is finished before.
        StorageError: the journal cannot be written.
    """
    return await _Case(Case(persona, stranger, repeat), candidate, cast, config, seed).play()


def claims_undisclosed(verdict: Verdict | None) -> bool | None:
    """Whether a verdict finds that the reply claims what was never disclosed; None where it does not say."""
    if verdict is None:
        return None
    if "honest" in verdict.parts:
        return verdict.parts["honest"] == 0
    # A penalty of nothing is left out by the rule-based judge, whose verdicts are known by what they measure.
    return "mind_reading" in verdict.penalties if "on_topic" in verdict.parts else None


def _check_heldout(personas: Sequence[Persona]) -> None:
    if len({persona.id for persona in personas}) < 2:
        raise InputError("The benchmark needs at least two held-out personas.", mend="add some to the recipe.")
    trained = next((persona for persona in personas if persona.split != "heldout"), None)
    if trained is not None:
        raise InputError(
            f"Persona {trained.id} is a training persona: what a model was trained on tests nothing.",
            mend='test on personas whose split is "heldout".',
        )


def _strangers(personas: Sequence[Persona], seed: int) -> dict[str, Persona]:
    """For each persona another one, drawn by seed, who shares neither profile nor personality where that can be.

    It is a shuffled circle, so nobody meets themselves; where profiles and personalities are crossed, those who would
    meet half of themselves change partners with others. A personality told in another gender is the same one.
    """
    circle = list({persona.id: persona for persona in personas}.values())
    Random(derive_seed(seed, "strangers")).shuffle(circle)
    partner = [*circle[1:], *circle[:1]]
    ways = {text: ungendered(text) for text in {persona.personality for persona in circle}}
    for place, persona in enumerate(circle):
        if not _alike(persona, partner[place], ways):
            continue
        for other in range(len(circle)):
            if not (_alike(persona, partner[other], ways) or _alike(circle[other], partner[place], ways)):
                partner[place], partner[other] = partner[other], partner[place]
                break
    return {persona.id: other for persona, other in zip(circle, partner, strict=True)}


def _alike(one: Persona, other: Persona, ways: Mapping[str, str]) -> bool:
    """Whether two share half of themselves; `ways` is what each personality is compared by."""
    return one.profile == other.profile or ways[one.personality] == ways[other.personality]


@dataclass(frozen=True)
class _Turn:
    """A turn that was played."""

    number: int
    user: UserTurn
    chat: Chat
    """Up to the user's message."""
    reply: str
    cut_at: int | None
    seed: int
    found: list[Fault]
    missing: dict[str, str] = field(default_factory=dict)
    """As in the row."""

    @property
    def after(self) -> Chat:
        """The chat with the reply."""
        return (*self.chat, Message(role="assistant", content=self.reply))

    async def tried(
        self, role: str, what: str, asking: Coroutine[Any, Any, T], missing: dict[str, str] | None = None
    ) -> T | None:
        """What a role answers; None where it cannot be had, with a fault noted and under `what` the reason."""
        try:
            return await asking
        except (StopWork, StorageError):
            raise
        except InteralignError as error:
            self.found.append(_fault(role, self.number, error))
            reasons = self.missing if missing is None else missing
            reasons[what] = error.cause if isinstance(error, ModelError) else "call failed"
            return None


@dataclass
class _Case:
    """One conversation while it is had."""

    case: Case
    candidate: Candidate
    cast: Environment
    config: BenchmarkConfig
    run_seed: int
    on_turn: Callable[[], None] | None = None
    _noted: list[asyncio.Task[tuple[Disclosure, ...]]] = field(default_factory=list)
    """The ledger after each user turn."""
    _rows: list[asyncio.Task[TurnRow]] = field(default_factory=list)

    @property
    def persona(self) -> Persona:
        return self.case.persona

    async def play(self) -> list[TurnRow]:
        try:
            failed = await self._converse()
            played = [await row for row in self._rows]
            # Of a turn that failed, too, what was noted is paid for.
            await asyncio.gather(*self._noted)
            return [*played, *failed]
        except StopWork:
            # What was asked is paid for.
            await asyncio.gather(*self._rows, *self._noted, return_exceptions=True)
            raise
        finally:
            for task in (*self._rows, *self._noted):
                task.cancel()

    async def _converse(self) -> list[TurnRow]:
        """Play turn by turn; returns a row for each turn that could not be played."""
        seed = derive_seed(self.run_seed, "repeat", self.case.repeat) if self.case.repeat else self.run_seed
        chat: Chat = ()
        said: tuple[Disclosure, ...] = ()
        for number in range(1, self.config.turns + 1):
            found: list[Fault] = []
            try:
                user = await speak(Place(self.persona, chat, said, seed, 2 * (number - 1)), self.cast, found)
                asked = (*chat, Message(role="user", content=user.content))
                said = (*said, user.disclosure)
                turn_seed = derive_seed(seed, self.persona.id, number)
                self._note(number, user, asked, turn_seed, found)
                reply = await self.candidate.answer(self.persona, asked, said, turn_seed)
                cut_at = self.candidate.cut_at if isinstance(self.candidate, TellsCut) else None
            except (StopWork, StorageError):
                raise
            except InteralignError as error:
                return self._failed(number, str(error), found)
            turn = _Turn(number, user, asked, reply, cut_at, turn_seed, found)
            self._rows.append(_begun(self._row(turn)))
            chat = turn.after
            self._advance()
        return []

    def _note(self, number: int, user: UserTurn, chat: Chat, seed: int, found: list[Fault]) -> None:
        """Begin to write the ledger on, as soon as the user has spoken."""
        before = self._noted[-1] if self._noted else None
        self._noted.append(_begun(self._ledger(before, number, user, chat, seed, found)))

    async def _ledger(
        self,
        before: asyncio.Task[tuple[Disclosure, ...]] | None,
        number: int,
        user: UserTurn,
        chat: Chat,
        seed: int,
        found: list[Fault],
    ) -> tuple[Disclosure, ...]:
        known = () if before is None else await before
        ledger = (*known, user.disclosure)
        if self.cast.inducer is None:
            return ledger
        inducing = self.cast.inducer.induce(self.persona, chat, ledger, derive_seed(seed, "inducer"))
        try:
            impression = await inducing
        except (StopWork, StorageError):
            raise
        except InteralignError as error:
            found.append(_fault("inducer", number, error))
            return ledger
        earlier = set(stated_so_far(ledger))
        stated = tuple(one for one in impression.stated if one not in earlier)
        return (*known, user.disclosure.model_copy(update={"stated": stated}))

    async def _row(self, turn: _Turn) -> TurnRow:
        """Everything that is asked about a turn, side by side."""
        ledger = await self._noted[turn.number - 1]
        asked: list[Coroutine[Any, Any, Any]] = [self._verdict(turn, ledger, self.persona, "verdict")]
        if not self.case.repeat:
            # A repeat tells the noise of the score, and nothing else is asked of it.
            asked += [
                self._swapped(turn, ledger),
                self._helpfulness(turn),
                self._counterfactuals(turn, ledger),
                self._induction(turn, ledger),
            ]
        found = await all_or_first_error(asked)
        verdict, swapped, helpful, others, learnt = (*found, None, None, None, None)[:5]
        return TurnRow(
            case=self.persona.id,
            turn=turn.number,
            user=turn.user.content,
            reply=turn.reply,
            disclosure=ledger[-1],
            verdict=verdict,
            swapped=swapped,
            uptake=uptake(ledger[-1], verdict),
            mind_reading=claims_undisclosed(verdict),
            helpfulness=helpful,
            induction=learnt,
            controls=others or {},
            repeat=self.case.repeat,
            faults=tuple(turn.found),
            # In whatever order the answers came.
            missing=dict(sorted(turn.missing.items())),
            cut_at=turn.cut_at,
        )

    async def _verdict(self, turn: _Turn, ledger: Ledger, persona: Persona, what: str) -> Verdict | None:
        judging = self.cast.judge.score(persona, turn.chat, turn.reply, ledger, turn.seed)
        return await turn.tried("judge", what, judging)

    async def _swapped(self, turn: _Turn, ledger: Ledger) -> Verdict | None:
        return await self._verdict(turn, ledger, self.case.stranger, "swapped") if self.config.controls else None

    async def _helpfulness(self, turn: _Turn) -> float | None:
        if self.cast.helpfulness is None:
            return None
        rating = self.cast.helpfulness.helpfulness(turn.chat, turn.reply, turn.seed)
        return await turn.tried("helpfulness", "helpfulness", rating)

    async def _counterfactuals(self, turn: _Turn, ledger: Ledger) -> dict[str, Counterfactual] | None:
        if turn.number not in self.config.controlled_turns or not isinstance(self.candidate, Instructable):
            return None
        about = (self.candidate, self.cast.judge, self.persona, turn.chat, ledger, turn.seed)
        # What one of them is refused takes nothing from the others, which are paid for.
        asked = [turn.tried("controls", f"controls.{name}", counterfactual(name, *about)) for name in COUNTERFACTUALS]
        found = dict(zip(COUNTERFACTUALS, await all_or_first_error(asked), strict=True))
        return {name: await self._elsewhere(name, one, turn, ledger) for name, one in found.items() if one is not None}

    async def _elsewhere(self, name: str, one: Counterfactual, turn: _Turn, ledger: Ledger) -> Counterfactual:
        """A control's reply under the stranger's persona as well, where that tells anything."""
        if not COUNTERFACTUALS[name].swapped:
            return one
        judging = self.cast.judge.score(self.case.stranger, turn.chat, one.reply, ledger, turn.seed)
        missing = dict(one.missing)
        swapped = await turn.tried("controls", "swapped", judging, missing)
        return one.model_copy(update={"swapped": swapped, "missing": dict(sorted(missing.items()))})

    async def _induction(self, turn: _Turn, ledger: Ledger) -> Induction | None:
        if turn.number not in self.config.induced_turns or not isinstance(self.candidate, Instructable):
            return None
        asking = induction(self.candidate, self.cast.grader, self.persona, turn.after, ledger, turn.seed)
        return await turn.tried("induction", "induction", asking)

    def _failed(self, first: int, reason: str, found: Sequence[Fault]) -> list[TurnRow]:
        rows = []
        for number in range(first, self.config.turns + 1):
            self._advance()
            rows.append(
                TurnRow(
                    case=self.persona.id,
                    turn=number,
                    user="",
                    reply="",
                    disclosure=Disclosure(turn=number),
                    repeat=self.case.repeat,
                    faults=tuple(found) if number == first else (),
                    failure=reason,
                )
            )
        return rows

    def _advance(self) -> None:
        if self.on_turn is not None:
            self.on_turn()


def _begun(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    task = asyncio.create_task(work)
    # A failure may come when nobody waits any more; asyncio would then complain that nobody looked.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


def _fault(role: str, turn: int, error: InteralignError) -> Fault:
    check = "unreadable" if isinstance(error, RoleFailure) else "no answer"
    return Fault(role=role, turn=turn, check=check, attempt=0, text=str(error))


def uptake(disclosure: Disclosure, verdict: Verdict | None) -> bool | None:
    """Whether the reply meets what the user has just complained of; None without a complaint or a verdict."""
    parts = [verdict.parts.get(reaction.dimension) for reaction in disclosure.missed] if verdict else []
    fits = [part for part in parts if part is not None]
    return sum(fits) >= 0.5 * len(fits) if fits else None
