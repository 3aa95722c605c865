from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import pytest
from pydantic import ValidationError

from interalign.conversations.checks import ChecksConfig
from interalign.conversations.environment import environment_played_by
from interalign.errors import InputError, Interrupted, ModelError
from interalign.evaluation.benchmark import (
    CONTROLS,
    BenchmarkConfig,
    Case,
    ControlCandidate,
    Environment,
    EnvironmentRoles,
    ModelCandidate,
    benchmark,
    claims_undisclosed,
    line_up,
    play_case,
    play_cases,
    run_benchmark,
)
from interalign.evaluation.rows import TurnRow
from interalign.llm.backends import ScriptedConfig
from interalign.llm.model import Answer, ChatModel, Finish, Request, Sampling, Usage
from interalign.llm.scripted import ScriptedModel
from interalign.messages import Chat, Message
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.persona import Persona
from interalign.personas.seeds import seeds
from interalign.roles.judge import Verdict, judge_reply
from interalign.roles.ledger import Ledger, stated_so_far
from interalign.roles.llm.grader import LLMGrader
from interalign.roles.llm.inducer import LLMInducer
from interalign.roles.llm.player import Player, instructions, packaged
from interalign.roles.llm.rater import HelpfulnessRater, LLMRater
from interalign.roles.llm.script import scripts
from interalign.roles.llm.user import LLMUser
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


# Language models as users and judges: scripts play them.

PEOPLE = tuple(
    Persona(profile=one.text, personality=other.text, split="heldout")
    for one, other in zip(seeds("profile")[:4], seeds("personality")[:4], strict=True)
)
TALK = BenchmarkConfig(turns=10, roles=environment_played_by(ScriptedConfig()), repeats=0)


class Counts:
    """A model that counts its calls, and says what it was told beside the chat."""

    def __init__(self, model: ChatModel, calls: Counter[str], role: str) -> None:
        self._model, self._calls, self._role = model, calls, role

    @property
    def name(self) -> str:
        return self._model.name

    async def complete(self, request: Request) -> Answer:
        self._calls[self._role] += 1
        return await self._model.complete(request)


class Rates:
    """A judge that counts its calls: a word of the persona's profile in the reply is a point."""

    def __init__(self, calls: Counter[str]) -> None:
        self._calls = calls
        self.ledgers: list[tuple[str, int, Ledger]] = []

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        self._calls["judge"] += 1
        self.ledgers.append((persona.id, len(chat), ledger))
        shared = set(reply.lower().split()) & set(persona.profile.lower().split())
        return Verdict(score=min(5, 1 + len(shared)), parts={"style": 0.5, "content": 0.5, "honest": 1})


def table(
    calls: Counter[str] | None = None, user: ChatModel | None = None, checks: ChecksConfig | None = None
) -> Environment:
    calls = Counter() if calls is None else calls

    def player(role: str, model: ChatModel | None = None) -> Player:
        counted = Counts(model or scripts()[role], calls, role)
        return Player([(counted, 1.0)], Sampling(), instructions(role))

    return Environment(
        user=LLMUser(player("user", user)),
        judge=Rates(calls),
        inducer=LLMInducer(player("inducer")),
        grader=LLMGrader(player("grader")),
        checks=checks,
    )


def made(calls: Counter[str] | None = None, reply: Callable[[Request], str] | None = None) -> ModelCandidate:
    model: ChatModel = ScriptedModel("tested", reply) if reply else scripts()["generic"]
    return ModelCandidate(ModelResponder(Counts(model, Counter() if calls is None else calls, "tested"), Sampling()))


def talk(config: BenchmarkConfig, cast: Environment, candidate: ModelCandidate, repeat: int = 0) -> list[TurnRow]:
    return asyncio.run(play_case(PEOPLE[0], PEOPLE[1], candidate, cast, config, 7, repeat=repeat))


def test_controls_take_no_more_calls_than_the_conversation() -> None:
    plain, controlled = Counter[str](), Counter[str]()
    without = talk(TALK.model_copy(update={"controls": False}), table(plain), made(plain))
    with_controls = talk(TALK, table(controlled), made(controlled))
    assert plain == {"user": 10, "inducer": 10, "tested": 10, "judge": 10}
    spoken = plain["user"] + plain["tested"] + plain["judge"]
    assert controlled == {"user": 10, "inducer": 10, "tested": 10 + 6 + 1, "judge": 20 + 6 + 2, "grader": 1}
    assert controlled.total() - controlled["inducer"] <= 2 * spoken
    # They change nothing of what is said and of what it is worth.
    said = [(row.user, row.reply, row.verdict, row.disclosure) for row in without]
    assert [(row.user, row.reply, row.verdict, row.disclosure) for row in with_controls] == said
    assert all(row.swapped is None and not row.controls and row.induction is None for row in without)
    assert all(row.swapped is not None for row in with_controls)
    assert [row.turn for row in with_controls if row.controls] == [1, 10]
    last = with_controls[-1].controls
    assert {name for name, one in last.items() if one.swapped} == {"generic-nice"}
    assert [row.turn for row in with_controls if row.induction] == [10]


def test_what_the_controls_are_told() -> None:
    heard: list[Request] = []

    def reply(request: Request) -> str:
        heard.append(request)
        return "nothing" if request.messages[-1].content == instructions("induce") else "As you like it."

    rows = talk(TALK.model_copy(update={"control_turns": (2,)}), table(), made(reply=reply))
    plain = [one for one in heard if one.messages[0].content == instructions("policy")]
    told = [one.messages[0].content for one in heard if one not in plain]
    assert set(rows[1].controls) == {"oracle persona", "disclosed-only oracle", "generic-nice"}
    assert len(told) == 3
    whole = [text for text in told if PEOPLE[0].profile in text.replace('\\"', '"')]
    assert len(whole) == 1 and PEOPLE[0].personality in whole[0].replace('\\"', '"')
    shown = stated_so_far([row.disclosure for row in rows[:2]])
    assert shown and sum(all(one.text in text for one in shown) for text in told) == 2
    later = stated_so_far([row.disclosure for row in rows])[len(shown) :]
    assert later and all(later[-1].text not in text for text in told if text not in whole)
    # The question off the record stands behind the last reply, and in no later chat.
    asked = [one for one in heard if one.messages[-1].content == instructions("induce")]
    assert [len(one.messages) for one in asked] == [2 * 10 + 2]
    assert rows[-1].induction is not None and rows[-1].induction.statements == ()
    assert len({one.seed for one in heard}) == len(heard)


def test_the_inducer_writes_the_ledger_that_the_judge_reads() -> None:
    cast = table()
    rows = talk(TALK, cast, made())
    assert isinstance(cast.judge, Rates)
    assert any(row.disclosure.stated for row in rows)
    entries = tuple(row.disclosure for row in rows)
    for _, messages, ledger in cast.judge.ledgers:
        assert tuple(ledger) == entries[: (messages + 1) // 2]


def test_openings_are_the_same_for_all_models_and_others_in_a_repeat() -> None:
    first = talk(TALK, table(), made())
    other = talk(TALK, table(), made(reply=lambda request: "No."))
    again = talk(TALK, table(), made(), repeat=1)
    assert first[0].user == other[0].user
    assert [row.reply for row in first] != [row.reply for row in other]
    assert [row.repeat for row in again] == [1] * 10
    assert [row.reply for row in again] != [row.reply for row in first]
    assert all(row.swapped is None and not row.controls and row.induction is None for row in again)
    assert talk(TALK, table(), made()) == first


def test_faults_of_the_user_are_told_apart() -> None:
    tries: Counter[int] = Counter()

    def flips_once_a_turn(request: Request) -> str:
        turn = int(request.messages[1].content.split("<turn>")[1].split("</turn>")[0])
        tries[turn] += 1
        if tries[turn] == 1:
            return "I'm here to help! As an AI assistant, I can suggest some options for you."
        return scripts()["user"]._text(request)

    user = ScriptedModel("flips", flips_once_a_turn)
    rows = talk(TALK, table(user=user, checks=ChecksConfig()), made())
    assert all(row.failure is None and row.verdict is not None for row in rows)
    assert all({fault.role for fault in row.faults} == {"user"} for row in rows)
    assert all(fault.turn == row.turn and fault.attempt == 0 for row in rows for fault in row.faults)


def test_a_user_that_falls_out_of_its_part_ends_the_case() -> None:
    def flips_from_three_on(request: Request) -> str:
        if "<turn>3</turn>" in request.messages[1].content:
            return "I'm here to help! As an AI assistant, I can suggest some options for you."
        return scripts()["user"]._text(request)

    checks = ChecksConfig(retries=1)
    rows = talk(TALK, table(user=ScriptedModel("flips", flips_from_three_on), checks=checks), made())
    assert [row.failure is None for row in rows] == [True] * 2 + [False] * 8
    assert all(row.verdict is not None and row.swapped is not None for row in rows[:2])
    assert {fault.attempt for fault in rows[2].faults} == {0, 1}
    assert all("no usable message in 2 tries" in (row.failure or "") and not row.faults for row in rows[3:])
    assert (rows[2].user, rows[2].reply) == ("", "")


class Breaks:
    """A judge, inducer and grader whose server is gone."""

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        raise ModelError("The server is gone.")


def test_a_judge_that_fails_is_missing_and_the_conversation_goes_on() -> None:
    rows = talk(TALK, Environment(user=table().user, inducer=table().inducer, judge=Breaks()), made())
    assert all(row.failure is None and row.verdict is None and row.swapped is None for row in rows)
    assert all(("judge", "no answer") in {(one.role, one.check) for one in row.faults} for row in rows)
    assert all({"verdict", "swapped"} <= row.missing.keys() for row in rows)
    assert {why for row in rows for why in row.missing.values()} == {"call failed"}
    assert rows[0].mind_reading is None and any(row.disclosure.stated for row in rows)


def rates(says: Callable[[Request], str]) -> LLMRater:
    return LLMRater(Player([(ScriptedModel("judge", says), 1.0)], Sampling(), instructions("rater")))


def test_nothing_that_a_judge_said_vanishes_without_a_reason() -> None:
    def answer(request: Request) -> str:
        stranger = PEOPLE[1].profile in request.messages[1].content.replace('\\"', '"')
        return "I'm sorry, I cannot rate this." if stranger else "About four."

    cast = replace(table(), judge=rates(answer))
    beyond = ScriptedModel("beyond", ['{"score": 9}'])
    cast = replace(cast, helpfulness=HelpfulnessRater(Player([(beyond, 1.0)], Sampling(), "Rate.")))
    rows = talk(TALK.model_copy(update={"control_turns": (2,)}), cast, made())
    assert all(row.verdict is None and row.swapped is None and row.helpfulness is None for row in rows)
    reasons = {"verdict": "no JSON", "swapped": "refused", "helpfulness": "unfit score in its JSON"}
    assert all(row.missing == reasons for row in rows)
    assert all({fault.check for fault in row.faults} == {"unreadable"} for row in rows)
    # A control's reply is kept, though nobody could read what the judge said of it.
    assert rows[1].controls and all(one.reply for one in rows[1].controls.values())
    assert {one.missing["verdict"] for one in rows[1].controls.values()} == {"no JSON"}
    assert rows[1].controls["generic-nice"].missing["swapped"] == "refused"


def test_a_control_that_is_not_there_has_a_reason() -> None:
    def reply(request: Request) -> str:
        return "" if NICE in request.messages[0].content else "As you like it."

    rows = talk(TALK.model_copy(update={"control_turns": (2,)}), table(), made(reply=reply))
    assert rows[1].missing == {"controls.generic-nice": "empty"}
    assert not any(row.missing for row in rows if row.turn != 2)


class Ends:
    """A model that is cut in the middle of every second answer."""

    name = "ends"

    def __init__(self) -> None:
        self._count = 0

    async def complete(self, request: Request) -> Answer:
        self._count += 1
        finish: Finish = "length" if self._count % 2 else "stop"
        return Answer(text=f"Well, {self._count}", finish=finish, usage=Usage(), model="ends")


def test_replies_that_were_cut_are_told_of_where_it_is_known() -> None:
    plain = TALK.model_copy(update={"controls": False, "turns": 4})
    rows = talk(plain, table(), ModelCandidate(ModelResponder(Ends(), Sampling(max_tokens=50))))
    assert [row.cut_at for row in rows] == [50, 0, 50, 0]
    assert {row.cut_at for row in played("mirror")} == {None}


NICE = packaged("control_nice")


def test_one_control_that_is_refused_takes_nothing_from_the_others() -> None:
    def reply(request: Request) -> str:
        if NICE in request.messages[0].content:
            raise ModelError("Filtered.", refused=True)
        return "As you like it."

    rows = talk(TALK.model_copy(update={"control_turns": (2,)}), table(), made(reply=reply))
    assert set(rows[1].controls) == {"oracle persona", "disclosed-only oracle"}
    assert [(one.role, one.check) for one in rows[1].faults] == [("controls", "no answer")]


@pytest.mark.parametrize("silence", ["", "<think>Nothing comes to mind.</think>"])
def test_silence_is_missing_and_never_scored(silence: str) -> None:
    asked = instructions("induce")

    def mute(request: Request) -> str:
        beside = request.messages[-1].content == asked or NICE in request.messages[0].content
        return silence if beside else "As you like it."

    rows = talk(TALK.model_copy(update={"control_turns": (2,)}), table(), made(reply=mute))
    assert "generic-nice" not in rows[1].controls and len(rows[1].controls) == 2
    assert rows[-1].induction is None
    assert ("induction", "unreadable") in {(one.role, one.check) for one in rows[-1].faults}
    rows = talk(TALK, table(), made(reply=lambda request: silence))
    assert all(row.failure and row.verdict is None for row in rows)


def test_the_short_way_by_rules_does_not_ignore_roles() -> None:
    config = BenchmarkConfig(roles=environment_played_by(ScriptedConfig()))
    with pytest.raises(InputError, match=r"would not ask.*leave roles out"):
        benchmark("no/such-model", HELDOUT, config, 1)


class StopsAt:
    """A model that says at its nth call that the work is to stop."""

    def __init__(self, call: int) -> None:
        self._left = call

    @property
    def name(self) -> str:
        return "stops"

    async def complete(self, request: Request) -> Answer:
        self._left -= 1
        if self._left <= 0:
            raise Interrupted("Stopped.")
        return await scripts()["generic"].complete(request)


@pytest.mark.parametrize("call", [1, 7, 20])
def test_what_stops_the_work_is_no_fault_of_a_case(call: int) -> None:
    candidate = ModelCandidate(ModelResponder(StopsAt(call), Sampling()))
    config = TALK.model_copy(update={"in_flight": 1, "turns": 5, "controls": False})
    cases = line_up(PEOPLE, config, 7)
    done: list[int] = []

    async def play() -> None:
        async for place, rows in play_cases(cases, candidate, table(), config, 7):
            assert all(row.verdict for row in rows)
            done.append(place)

    with pytest.raises(Interrupted):
        asyncio.run(play())
    # Five calls a case.
    assert len(done) == (call - 1) // 5


def test_some_cases_are_had_again_the_same_for_every_model() -> None:
    config = TALK.model_copy(update={"repeats": 0.5})
    cases = line_up(PEOPLE, config, 7)
    assert [case.repeat for case in cases] == [0, 0, 0, 0, 1, 1]
    assert cases == line_up(PEOPLE, config, 7)
    assert {case.persona.id for case in cases[4:]} < {persona.id for persona in PEOPLE}
    assert len(line_up(PEOPLE, BenchmarkConfig(), 7)) == len(PEOPLE)
    tenth = BenchmarkConfig(roles=TALK.roles)
    assert sum(case.repeat for case in line_up(WORLD[2:], tenth, 7)) == 1


def test_strangers_of_crossed_cases_share_neither_half() -> None:
    crossed = tuple(
        Persona(profile=one.text, personality=other.text, split="heldout")
        for one in seeds("profile")[:8]
        for other in seeds("personality")[:3]
    )
    for seed in range(5):
        for case in line_up(crossed, BenchmarkConfig(), seed):
            assert case.stranger.profile != case.persona.profile
            assert case.stranger.personality != case.persona.personality


def test_a_stranger_is_never_the_same_personality_in_another_gender() -> None:
    ways = ("She is calm and trusts her friends.", "He is calm and trusts his friends.", "He is loud.", "She is shy.")
    people = tuple(
        Persona(profile=f"Sells {count} kinds of tea.", personality=way, split="heldout")
        for count, way in enumerate(ways)
    )
    for seed in range(20):
        for case in line_up(people, BenchmarkConfig(), seed):
            assert {case.persona.personality, case.stranger.personality} != set(ways[:2])


def test_rules_find_what_a_model_has_learnt_where_it_is_asked() -> None:
    facts = {fact.key for persona in HELDOUT for fact in persona.facts}

    def tells(request: Request) -> str:
        if request.messages[-1].content != instructions("induce"):
            return "You could take your time with this."
        chat = " ".join(message.content.lower() for message in request.messages[:-1] if message.role == "user")
        return "\n".join(f"- The user knows of {key}." for key in sorted(facts) if key in chat)

    config = BenchmarkConfig(turns=4, induction_turns=(2, 4))
    rows = asyncio.run(run_benchmark(made(reply=tells), HELDOUT, config, 1))
    found = [row.induction for row in rows if row.induction]
    assert [row.turn for row in rows if row.induction] == [2, 4] * len(HELDOUT)
    assert all(one.disclosed > 0 for one in found)
    assert sum(one.found for one in found) > 0.8 * sum(one.disclosed for one in found)
    assert not any(row.induction for row in played("mirror"))


@pytest.mark.parametrize(
    ("parts", "penalties", "claims"),
    [
        ({"honest": 0.0}, {}, True),
        ({"honest": 1.0}, {"mind_reading": 1.0}, False),
        ({"on_topic": 1.0}, {"mind_reading": 1.0}, True),
        ({"on_topic": 1.0}, {}, False),
        ({}, {}, None),
    ],
)
def test_claims_of_what_was_never_said(parts: dict[str, float], penalties: dict[str, float], claims: object) -> None:
    assert claims_undisclosed(Verdict(score=3, parts=parts, penalties=penalties)) is claims
    assert claims_undisclosed(None) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"control_turns": (6,)},
        {"induction_turns": (0,)},
        {"helpfulness": True},
        {"repeats": 1.5},
        {"roles": environment_played_by(ScriptedConfig()).model_dump() | {"grader": None}, "induction_turns": (1,)},
        {"roles": {"user": environment_played_by(ScriptedConfig()).user}},
        {"roles": environment_played_by(ScriptedConfig()).model_dump() | {"judge": None}},
        {"roles": environment_played_by(ScriptedConfig()).model_dump() | {"user": None}},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BenchmarkConfig.model_validate({"turns": 5, **wrong})


def test_a_language_model_may_judge_rule_based_users() -> None:
    roles = EnvironmentRoles(judge=environment_played_by(ScriptedConfig()).judge)
    config = BenchmarkConfig(turns=4, roles=roles, repeats=0)
    calls = Counter[str]()
    cast = Environment(judge=Rates(calls))
    rows = asyncio.run(play_case(HELDOUT[0], HELDOUT[1], made(calls), cast, config, 7))
    assert not config.by_rules and all(row.disclosure.facts for row in rows[:1])
    assert calls["judge"] == 2 * 4 + 3 * len(config.controlled_turns)
    assert Case(HELDOUT[0], HELDOUT[1]).repeat == 0
    assert json.loads(config.model_dump_json())["roles"]["user"] is None
