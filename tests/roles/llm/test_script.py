from __future__ import annotations

import asyncio
from collections import Counter
from functools import cache
from itertools import pairwise
from statistics import mean
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.conversations.cast import cast_of, roles_of
from interalign.conversations.environment import environment_of, environment_played_by, prompts_of
from interalign.conversations.environment import roles_of as environment_roles_of
from interalign.conversations.simulate import SimulateConfig, grow_trees, roles_played_by
from interalign.conversations.tree import Tree
from interalign.evaluation.benchmark import BenchmarkConfig, MethodCandidate, line_up, play_cases
from interalign.evaluation.cases import aloe_cases
from interalign.evaluation.controls import COUNTERFACTUALS
from interalign.evaluation.rows import TurnRow
from interalign.llm.backends import ScriptedConfig
from interalign.llm.model import Sampling
from interalign.messages import Chat, Message
from interalign.personas.description import normalised
from interalign.personas.persona import Persona
from interalign.roles.inducer import Impression
from interalign.roles.judge import Judgement
from interalign.roles.ledger import Disclosure, Stated
from interalign.roles.llm.inducer import LLMInducer
from interalign.roles.llm.judge import LLMJudge
from interalign.roles.llm.player import Player, instructions
from interalign.roles.llm.responder import LLMResponder
from interalign.roles.llm.script import scripts
from interalign.roles.llm.user import LLMUser
from tests.roles.llm.stage import INJECTION, PERSONA, seeded

TURNS = 5
ROLES = ("user", "inducer", "tailored", "generic", "judge", "checker", "grader", "rater", "helpfulness")


class Turn(NamedTuple):
    chat: Chat
    ledger: tuple[Disclosure, ...]
    tailored: str
    generic: str
    judgement: Judgement

    @property
    def said(self) -> str:
        return self.chat[-1].content

    @property
    def new(self) -> tuple[Stated, ...]:
        return self.ledger[-1].stated


def player(role: str) -> Player:
    return Player([(scripts()[role], 1)], Sampling(), instructions(role))


async def _talk(persona: Persona, seed: int) -> list[Turn]:
    user, inducer, judge = LLMUser(player("user")), LLMInducer(player("inducer")), LLMJudge(player("judge"))
    tailored, generic = LLMResponder(player("tailored")), LLMResponder(player("generic"))
    chat: Chat = ()
    ledger: tuple[Disclosure, ...] = ()
    turns: list[Turn] = []
    for number in range(TURNS):
        spoken = await user.speak(persona, chat, ledger, seed)
        chat = (*chat, Message(role="user", content=spoken.content))
        known = sum(len(entry.stated) for entry in ledger)
        impression = await inducer.induce(persona, chat, (*ledger, spoken.disclosure), seed)
        ledger = (*ledger, spoken.disclosure.model_copy(update={"stated": impression.stated[known:]}))
        replies = [
            (await tailored.answer(chat, impression, seed)).content,
            (await generic.answer(chat, None, seed)).content,
        ]
        judgement = await judge.judge(persona, chat, replies, ledger, seed)
        turns.append(Turn(chat, ledger, *replies, judgement))
        chat = (*chat, Message(role="assistant", content=replies[number % 2]))
    return turns


def talk(persona: Persona, seed: int = 1) -> list[Turn]:
    return asyncio.run(_talk(persona, seed))


@cache
def talks() -> list[tuple[Persona, list[Turn]]]:
    personas = [PERSONA, *(seeded(index) for index in range(0, 20, 3))]
    return [(persona, talk(persona)) for persona in personas]


def test_there_is_a_script_for_every_role() -> None:
    assert set(scripts()) == {*ROLES, "rater_free", "helpfulness_free"}
    assert len({model.name for model in scripts().values()}) == len(ROLES)


def test_a_conversation_is_the_same_every_time_and_another_with_another_seed() -> None:
    assert talk(PERSONA, 1) == talk(PERSONA, 1)
    replies = [[turn.generic for turn in talk(PERSONA, seed)] for seed in (1, 2)]
    assert replies[0] != replies[1]


def test_the_user_tells_its_story_in_the_first_person_bit_by_bit() -> None:
    said = [turn.said for turn in talk(PERSONA)]
    assert "I am 52 years old." in said[0] and said[0].endswith("?")
    told = " ".join(said)
    assert "I repair church organs in Turku." in told and "I laugh at my own mistakes." in told
    assert "Ida" not in told and " she " not in told.lower()
    for sentence in ("I repair church organs in Turku.", "I am impatient with small talk."):
        assert sum(sentence in message for message in said) == 1


def test_no_two_messages_in_a_row_open_alike_and_nobody_greets_twice() -> None:
    for _, turns in talks():
        openers = [turn.said.split(".")[0] for turn in turns]
        assert all(one != other for one, other in pairwise(openers))
        assert not {"Hi", "Hey", "Hello there", "Good evening"} & set(openers[1:])


def test_the_inducer_finds_what_has_been_said_and_nothing_else() -> None:
    for persona, turns in talks():
        # The persona of this file is told before the last turn.
        assert all(turn.new for turn in turns[:2])
        for turn in turns:
            for one in turn.new:
                whole = persona.profile if one.kind == "profile" else persona.personality
                assert one.text in whole
                assert normalised(one.words) in normalised(turn.said)


def test_the_tailored_reply_takes_up_what_is_known_and_the_judge_likes_that() -> None:
    for _, turns in talks():
        for turn in turns:
            (comparison,) = turn.judgement.comparisons
            assert comparison.winner == 0 and comparison.model == "scripted judge"
            tailored, generic = turn.judgement.verdicts
            assert tailored is not None and generic is not None and tailored.score >= generic.score
    scores = {verdict.score for _, turns in talks() for turn in turns for verdict in turn.judgement.verdicts if verdict}
    assert len(scores) >= 3


def test_without_notes_the_tailored_one_is_generic() -> None:
    chat = (Message(role="user", content="Hello. <notes>"),)
    for impression in (None, Impression()):
        reply = asyncio.run(LLMResponder(player("tailored")).answer(chat, impression, 3))
        assert "said" not in reply.content and reply.content


def test_equal_replies_are_a_tie() -> None:
    judgement = asyncio.run(LLMJudge(player("judge")).judge(PERSONA, (), ["Organs.", "Organs!"], (), 1))
    assert judgement.comparisons[0].votes == ("tie", "tie")


@pytest.mark.parametrize(
    "persona",
    [
        Persona(profile=INJECTION, personality=INJECTION),
        Persona(profile="三十五岁。住在成都。喜欢下棋。", personality="说话很慢。"),
        Persona(profile=" ", personality="?"),
        Persona(profile="They are 30\u2028and live in Oslo.", personality="They never lie."),
    ],
)
def test_any_persona_can_be_played(persona: Persona) -> None:
    assert len(talk(persona)) == TURNS


@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_any_text_can_be_played(profile: str, personality: str) -> None:
    assert len(talk(Persona(profile=profile, personality=personality))) == TURNS


NOTES = "Curt, and in a hurry. Wants a figure and skips the rest. Feelings are not discussed. Bored by fuss: says so."


def told(profile: str, personality: str) -> str:
    return " ".join(turn.said for turn in talk(Persona(profile=profile, personality=personality)))


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("Ida, 28, is a nurse and mends kites.", "I am 28 and I am a nurse and mend kites."),
        ("Ida-Lou runs a kiosk. Ida-Lou's sister hates it.", "I run a kiosk. My sister hates it."),
        ("Rubén, 68, still keeps bees.", "I am 68 and I still keep bees."),
        ("Ida, a widow, lives in Bonn.", "I am a widow and I live in Bonn."),
        ("She reads maps, bakes and never cries.", "I read maps, bake and never cry."),
        (
            "She has a dog that barks and a cat, and teaches maths.",
            "I have a dog that barks and a cat, and teach maths.",
        ),
        (
            "She lives with a son, who paints kites, and owns a boat.",
            "I live with a son, who paints kites, and own a boat.",
        ),
        ("Her son sells boats and writes songs.", "My son sells boats and writes songs."),
        ("The smell sends her out of her kitchen, by herself.", "The smell sends me out of my kitchen, by myself."),
        ("He lies awake, teaches and goes by tram.", "I lie awake, teach and go by tram."),
        ("Ida has pots and pans.", "I have pots and pans."),
    ],
)
def test_the_user_speaks_of_itself_however_its_text_speaks_of_it(profile: str, said: str) -> None:
    heard = told(profile, "Kind.")
    assert all(one in heard for one in said.split(". "))
    assert "Ida" not in heard and "Rubén" not in heard


def test_notes_without_a_subject_are_told_in_the_first_person() -> None:
    heard = told("Ida, 28, is a nurse.", NOTES)
    for sentence in (
        "I am curt, and in a hurry.",
        "I want a figure and skip the rest.",
        "Feelings are not discussed.",
        "I am bored by fuss: I say so.",
    ):
        assert sentence in heard


def test_a_tailored_reply_tells_notes_in_the_second_person() -> None:
    profile, personality = "Ida-Lou, 28, bakes and sings.", "Sceptical, and hides it."
    stated = (
        Stated(kind="profile", text=profile, words=profile),
        Stated(kind="personality", text=personality, words=personality),
    )
    chat = (Message(role="user", content="Hello."),)
    heard = {
        asyncio.run(LLMResponder(player("tailored")).answer(chat, Impression(stated=stated), seed)).content
        for seed in range(30)
    }
    assert any("You are 28 and you bake and sing." in one for one in heard)
    assert any("You are sceptical, and hide it." in one for one in heard)
    assert not any("Ida" in one or " and hides" in one for one in heard)


def test_a_long_sentence_that_is_not_about_the_person_is_told_as_a_part_of_its_life() -> None:
    weather = "Snow in April, at a place so near to Rome, is what the whole town of Rieti still talks about."
    heard = told(f"Ida is 28. {weather}", "Kind.")
    assert f"life: {weather}" in heard


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_the_packaged_cases_are_played_to_the_end_and_their_messages_pass_the_checks(every: int) -> None:
    cases = aloe_cases()[::every]
    config = SimulateConfig(turns=4, roles=roles_played_by(ScriptedConfig()))
    assert config.roles is not None
    players = {role: player(role) for role in roles_of(config.roles)}

    async def grown() -> list[Tree]:
        return [tree async for tree in grow_trees(cases, config, 1, cast_of(players, config))]

    trees = asyncio.run(grown())
    messages = [len(list(tree.user_turns())) for tree in trees]
    refused = {(tree.persona_id, fault.turn, fault.attempt) for tree in trees for fault in tree.faults}
    assert messages == [config.turns] * len(cases)
    assert [tree.failure for tree in trees if tree.failure] == []
    assert len(refused) <= 0.02 * (sum(messages) + len(refused))


def dry_run(turns: int = 10) -> list[TurnRow]:
    """The packaged cases as a script plays them, with all that a dry run of `interalign eval` has."""
    roles = environment_played_by(ScriptedConfig())
    config = BenchmarkConfig(turns=turns, roles=roles)
    players = {role: player(name) for role, name in prompts_of(environment_roles_of(roles)).items()}
    candidate = MethodCandidate("plain", scripts()["generic"], Sampling())
    cases = line_up(aloe_cases()[:20], config, 7)

    async def play() -> list[TurnRow]:
        cast = environment_of(players, roles, config.checks)
        return [row async for _, rows in play_cases(cases, candidate, cast, config, 7) for row in rows]

    return asyncio.run(play())


def test_a_dry_run_shows_how_a_result_looks() -> None:
    rows = dry_run()
    assert [row.failure for row in rows if row.failure] == [] and not any(row.faults for row in rows)
    plain = [row.verdict.score for row in rows if row.verdict]
    assert len(set(plain)) >= 3 and min(plain) < max(plain)
    assert max(Counter(plain).values()) < 0.7 * len(plain)
    told: dict[str, list[float]] = {name: [] for name in (*COUNTERFACTUALS, "plain")}
    for row in rows:
        if row.controls and row.verdict:
            told["plain"].append(row.verdict.score)
            for name, control in row.controls.items():
                assert control.verdict is not None
                told[name].append(control.verdict.score)
    means = {name: mean(scores) for name, scores in told.items()}
    assert means["oracle persona"] > means["plain"] + 1 and means["disclosed-only oracle"] > means["plain"] + 1
    assert abs(means["generic-nice"] - means["plain"]) < 0.5
    learnt = [row.induction for row in rows if row.induction]
    assert sum(one.true for one in learnt) > 0.9 * sum(len(one.statements) for one in learnt)
    assert 0.3 < sum(one.found for one in learnt) / sum(one.disclosed for one in learnt) < 0.95
