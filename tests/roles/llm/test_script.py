from __future__ import annotations

import asyncio
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    assert set(scripts()) == set(ROLES)
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
