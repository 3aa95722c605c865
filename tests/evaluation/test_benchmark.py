from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache

import pytest

from interalign.errors import InputError, ModelError
from interalign.evaluation.benchmark import (
    CONTROLS,
    BenchmarkConfig,
    ControlCandidate,
    ModelCandidate,
    run_benchmark,
)
from interalign.evaluation.rows import TurnRow
from interalign.llm.model import Request, Sampling
from interalign.llm.scripted import ScriptedModel
from interalign.messages import Chat, Message
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.persona import Persona
from interalign.roles.judge import Verdict, judge_reply
from interalign.roles.ledger import Ledger
from interalign.roles.responder import ModelResponder

WORLD = compose_personas(WorldConfig(train=2, heldout=12), seed=2)
TRAIN, HELDOUT = WORLD[:2], WORLD[2:]
CONFIG = BenchmarkConfig(turns=8)


class FailsAtTurnThree:
    """A candidate that breaks in the middle of one conversation."""

    async def answer(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> str:
        if persona == HELDOUT[1] and len(ledger) == 3:
            raise ModelError("The server gave no answer.")
        return "You could take your time with this."


class NotesWho:
    """A judge that writes down for whom it judges, and has no verdict."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        self.asked.append((reply, persona.id))
        return None


class SaysWho:
    """A candidate whose reply names the case."""

    async def answer(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> str:
        return persona.id


@cache
def played(control: str) -> list[TurnRow]:
    return asyncio.run(run_benchmark(ControlCandidate(CONTROLS[control]), HELDOUT, CONFIG, seed=1))


def al(control: str, turn: int | None = None) -> float:
    scores = [row.verdict.score for row in played(control) if row.verdict and turn in (None, row.turn)]
    assert len(scores) == len(HELDOUT) * (CONFIG.turns if turn is None else 1)
    return sum(scores) / len(scores)


def test_controls_come_in_the_order_of_what_they_know() -> None:
    assert al("full oracle") >= al("disclosed-only oracle") > al("mirror")
    assert al("disclosed-only oracle") > al("constant")
    assert al("full oracle") > 4.8


def test_listening_pays_over_the_turns() -> None:
    assert al("disclosed-only oracle", 8) - al("disclosed-only oracle", 1) >= 0.8
    assert al("disclosed-only oracle", 8) - al("mirror", 8) >= 0.8
    assert al("disclosed-only oracle", 8) - al("constant", 8) >= 0.8


def test_replies_fit_their_own_person_better_than_another() -> None:
    rows = played("full oracle")
    gaps = [row.verdict.score - row.swapped.score for row in rows if row.verdict and row.swapped]
    assert len(gaps) == len(rows)
    assert sum(gaps) / len(gaps) > 0.5


def test_everybody_meets_the_same_people() -> None:
    runs = [played(control) for control in CONTROLS]
    order = [(persona.id, turn) for persona in HELDOUT for turn in range(1, CONFIG.turns + 1)]
    assert all([(row.case, row.turn) for row in run] == order for run in runs)
    for first, *others in zip(*runs, strict=True):
        for other in others:
            if first.turn == 1:
                assert (other.user, other.disclosure) == (first.user, first.disclosure)


def test_the_same_seed_plays_the_same() -> None:
    candidate = ControlCandidate("mirror")
    assert asyncio.run(run_benchmark(candidate, HELDOUT, CONFIG, seed=1)) == played("mirror")
    assert asyncio.run(run_benchmark(candidate, HELDOUT, CONFIG, seed=2)) != played("mirror")


def test_rows_hold_what_the_judge_found() -> None:
    row = played("mirror")[0]
    chat = (Message(role="user", content=row.user),)
    assert row.verdict == judge_reply(HELDOUT[0], chat, row.reply, (row.disclosure,))


def test_uptake_is_about_complaints() -> None:
    values = set()
    for control in CONTROLS:
        for row in played(control):
            assert (row.uptake is None) == (not row.disclosure.missed)
            if row.uptake is not None and row.verdict:
                fits = [row.verdict.parts[reaction.dimension] for reaction in row.disclosure.missed]
                assert row.uptake == (sum(fits) >= 0.5 * len(fits))
            values.add(row.uptake)
    assert values == {True, False, None}


@pytest.mark.parametrize("personas", [TRAIN, (*HELDOUT, TRAIN[0])])
def test_training_personas_are_refused(personas: Sequence[Persona]) -> None:
    with pytest.raises(InputError, match="training persona"):
        asyncio.run(run_benchmark(SaysWho(), personas, CONFIG, seed=1))


@pytest.mark.parametrize("personas", [(), HELDOUT[:1], (HELDOUT[0], HELDOUT[0])])
def test_one_person_is_too_few(personas: Sequence[Persona]) -> None:
    with pytest.raises(InputError, match="at least two"):
        asyncio.run(run_benchmark(SaysWho(), personas, CONFIG, seed=1))


@pytest.mark.parametrize("personas", [HELDOUT, HELDOUT[:2], (HELDOUT[0], HELDOUT[0], HELDOUT[0], HELDOUT[1])])
def test_nobody_is_swapped_with_themselves(personas: Sequence[Persona]) -> None:
    for seed in range(8):
        judge = NotesWho()
        asyncio.run(run_benchmark(SaysWho(), personas, BenchmarkConfig(turns=2), seed, judge=judge))
        swaps = {(case, judged_as) for case, judged_as in judge.asked if judged_as != case}
        assert len(judge.asked) == 4 * len(personas)
        assert sum(case != judged_as for case, judged_as in judge.asked) == 2 * len(personas)
        assert len(swaps) == len({judged_as for _, judged_as in swaps}) == len({persona.id for persona in personas})


def test_missing_verdicts_stay_missing() -> None:
    rows = asyncio.run(run_benchmark(SaysWho(), HELDOUT[:2], BenchmarkConfig(turns=2), 1, judge=NotesWho()))
    assert [(row.verdict, row.swapped, row.uptake, row.failure) for row in rows] == [(None, None, None, None)] * 4


def test_a_failure_keeps_the_turns_before_it() -> None:
    turns = []
    config = BenchmarkConfig(turns=5)
    rows = asyncio.run(run_benchmark(FailsAtTurnThree(), HELDOUT[:3], config, 1, on_turn=lambda: turns.append(1)))
    assert len(rows) == len(turns) == 15
    broken = [row for row in rows if row.case == HELDOUT[1].id]
    assert [row.turn for row in broken] == [1, 2, 3, 4, 5]
    assert [row.failure for row in broken] == [None] * 2 + ["The server gave no answer."] * 3
    assert [row.verdict is None for row in broken] == [False] * 2 + [True] * 3
    assert all(row.failure is None and row.verdict for row in rows if row.case != HELDOUT[1].id)


def test_a_model_sees_the_chat_and_nothing_else() -> None:
    requests: list[Request] = []

    def answer(request: Request) -> str:
        requests.append(request)
        return "You could take your time with this."

    candidate = ModelCandidate(ModelResponder(ScriptedModel("model", answer), Sampling()))
    rows = asyncio.run(run_benchmark(candidate, HELDOUT[:2], BenchmarkConfig(turns=3), seed=1))
    assert len(requests) == 6
    systems = {request.messages[0].content for request in requests}
    assert len(systems) == 1
    users = {message.content for request in requests for message in request.messages if message.role == "user"}
    assert users == {row.user for row in rows}
    assert len({request.seed for request in requests}) == 6
