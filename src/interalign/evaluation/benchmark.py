"""The benchmark: every model talks to the same held-out people, and each reply is judged as it is given.

Openings and plans come from the persona and the seed alone, so cases are paired across models. Each reply is judged a
second time under another person's persona: the difference is the personalization gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Annotated, Protocol

from pydantic import Field

from interalign.errors import InputError, InteralignError, StorageError
from interalign.evaluation.rows import TurnRow
from interalign.llm.model import Sampling
from interalign.messages import Chat, Message, Value
from interalign.personas.persona import Persona
from interalign.roles.judge import Judge, RuleJudge, Verdict
from interalign.roles.ledger import Disclosure, Ledger
from interalign.roles.responder import ModelResponder, Responder, RuleResponder, Source, views
from interalign.roles.user import RuleUser, UserSimulator
from interalign.run import derive_seed

__all__ = [
    "CONTROLS",
    "BenchmarkConfig",
    "Candidate",
    "ControlCandidate",
    "ModelCandidate",
    "benchmark",
    "run_benchmark",
]

CONTROLS: dict[str, Source] = {
    "constant": "constant",
    "mirror": "mirror",
    "disclosed-only oracle": "tailored",
    "full oracle": "oracle",
}
"""Scripted responders that bound what a model can reach, by the names that the report gives them."""


class BenchmarkConfig(Value):
    """How long the benchmark talks, and how sure it wants to be."""

    turns: Annotated[int, Field(ge=2)] = 5
    """Turns of a conversation."""
    max_tokens: Annotated[int, Field(ge=8)] = 60
    """Longest reply, in tokens of the tested model."""
    temperature: Annotated[float, Field(ge=0)] = 0.7
    """Sampling temperature of the tested model; 0 takes the likeliest token, which makes small models loop."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Nucleus sampling: tokens outside the likeliest ones that make up this share are never drawn."""
    resamples: Annotated[int, Field(ge=100)] = 10_000
    """Bootstrap resamples behind each interval."""

    @property
    def sampling(self) -> Sampling:
        """How the tested models draw their tokens."""
        return Sampling(max_tokens=self.max_tokens, temperature=self.temperature, top_p=self.top_p)


class Candidate(Protocol):
    """Anything that can be tested: it answers a chat, and may know what the benchmark lets it know."""

    async def answer(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> str:
        """Return the reply to the last message of the chat. Models under test look at the chat only."""
        ...


class ModelCandidate:
    """A responder that sees the chat and nothing else: what is measured."""

    def __init__(self, responder: Responder) -> None:
        self._responder = responder

    async def answer(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> str:
        """Return the responder's reply; persona and ledger stay out of its sight."""
        return await self._responder.respond(chat, "", None, seed)


class ControlCandidate:
    """A scripted responder that knows what its source is allowed to know."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def answer(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> str:
        """Return the reply composed from the source's view of the user."""
        view = views(persona, ledger, seed)[self._source]
        return await RuleResponder().respond(chat, ledger[-1].topic, view, seed)


def benchmark(checkpoint: str, personas: Sequence[Persona], config: BenchmarkConfig, seed: int) -> list[TurnRow]:
    """Test one checkpoint (a folder, a hub name or the offline model) on held-out personas with rule-based users.

    For callers that have no event loop; see `run_benchmark` for everything else.
    """
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

    Raises:
        InputError: fewer than two held-out personas, or training personas among them.
    """
    _check_heldout(personas)
    stranger = _strangers(personas, seed)
    bench = _Bench(candidate, user or RuleUser(), judge or RuleJudge(), config, seed, on_turn or _nothing)
    cases = await asyncio.gather(*(bench.play(persona, stranger[persona.id]) for persona in personas))
    return [row for rows in cases for row in rows]


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
    """For each persona another one, drawn by seed: a shuffled circle, so nobody meets themselves."""
    circle = list({persona.id: persona for persona in personas}.values())
    Random(derive_seed(seed, "strangers")).shuffle(circle)
    return {persona.id: circle[(index + 1) % len(circle)] for index, persona in enumerate(circle)}


class _Bench:
    """The benchmark's table: one candidate, one user simulator, one judge."""

    def __init__(
        self,
        candidate: Candidate,
        user: UserSimulator,
        judge: Judge,
        config: BenchmarkConfig,
        seed: int,
        on_turn: Callable[[], None],
    ) -> None:
        self._candidate, self._user, self._judge = candidate, user, judge
        self._config, self._seed, self._on_turn = config, seed, on_turn

    async def play(self, persona: Persona, stranger: Persona) -> list[TurnRow]:
        chat: Chat = ()
        ledger: tuple[Disclosure, ...] = ()
        rows: list[TurnRow] = []
        for turn in range(1, self._config.turns + 1):
            try:
                row = await self._turn(persona, stranger, chat, ledger, turn)
            except StorageError:
                raise  # nothing that follows could be kept either
            except InteralignError as error:
                return rows + self._failed(persona, turn, str(error))
            rows.append(row)
            ledger = (*ledger, row.disclosure)
            chat = (
                *chat,
                Message(role="user", content=row.user),
                Message(role="assistant", content=row.reply),
            )
            self._on_turn()
        return rows

    async def _turn(
        self, persona: Persona, stranger: Persona, chat: Chat, ledger: tuple[Disclosure, ...], turn: int
    ) -> TurnRow:
        said = await self._user.speak(persona, chat, ledger, self._seed)
        chat = (*chat, Message(role="user", content=said.content))
        ledger = (*ledger, said.disclosure)
        seed = derive_seed(self._seed, persona.id, turn)
        reply = await self._candidate.answer(persona, chat, ledger, seed)
        verdict, swapped = await asyncio.gather(
            self._judge.score(persona, chat, reply, ledger, seed),
            self._judge.score(stranger, chat, reply, ledger, seed),
        )
        return TurnRow(
            case=persona.id,
            turn=turn,
            user=said.content,
            reply=reply,
            disclosure=said.disclosure,
            verdict=verdict,
            swapped=swapped,
            uptake=_uptake(said.disclosure, verdict),
        )

    def _failed(self, persona: Persona, first: int, reason: str) -> list[TurnRow]:
        for _ in range(first, self._config.turns + 1):
            self._on_turn()
        return [
            TurnRow(case=persona.id, turn=turn, user="", reply="", disclosure=Disclosure(turn=turn), failure=reason)
            for turn in range(first, self._config.turns + 1)
        ]


def _uptake(disclosure: Disclosure, verdict: Verdict | None) -> bool | None:
    """Whether the reply meets what the user has just complained of; None without a complaint or a verdict."""
    parts = [verdict.parts.get(reaction.dimension) for reaction in disclosure.missed] if verdict else []
    fits = [part for part in parts if part is not None]
    return sum(fits) >= 0.5 * len(fits) if fits else None


def _nothing() -> None:
    pass
