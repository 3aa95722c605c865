from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.llm.scripted import ScriptedModel
from interalign.messages import Chat
from interalign.personas.persona import Persona
from interalign.roles.ledger import Disclosure
from interalign.roles.llm.player import Player, RoleFailure
from interalign.roles.llm.user import LLMUser
from interalign.roles.user import UserTurn
from tests.roles.llm.stage import CHAT, INJECTION, LEDGER, PERSONA, SAMPLING, Heard, inside, lines, seeded

AFTER_REPLY = CHAT[:2]


def speak(heard: Heard, chat: Chat = AFTER_REPLY, seed: int = 4, persona: Persona = PERSONA) -> UserTurn:
    return asyncio.run(LLMUser(heard.player).speak(persona, chat, LEDGER[:1], seed))


def test_the_user_sees_who_it_is_and_the_chat() -> None:
    heard = Heard(["Ten years now."])
    turn = speak(heard)
    assert turn == UserTurn(content="Ten years now.", disclosure=Disclosure(turn=2), model="heard")
    assert PERSONA.profile in inside(heard.data[0], "persona") and PERSONA.personality in inside(
        heard.data[0], "persona"
    )
    assert [next(iter(line)) for line in lines(heard.data[0])] == ["user", "assistant"]
    assert heard.data[0].endswith("<turn>2</turn>")


def test_the_first_message_opens_an_empty_chat() -> None:
    heard = Heard(["Hello."])
    assert speak(heard, ()).disclosure == Disclosure(turn=1)
    assert lines(heard.data[0]) == [] and inside(heard.data[0], "turn") == "1"


def test_every_place_has_a_seed_of_its_own() -> None:
    heard = Heard(["Hello."])
    for chat, seed, persona in [
        ((), 4, PERSONA),
        (AFTER_REPLY, 4, PERSONA),
        (AFTER_REPLY, 5, PERSONA),
        (AFTER_REPLY, 4, seeded(0)),
    ]:
        speak(heard, chat, seed, persona)
    assert len({request.seed for request in heard.requests}) == 4
    speak(heard)
    assert heard.requests[-1] == heard.requests[1]


def test_one_model_plays_a_persona_and_another_the_next() -> None:
    models = [(ScriptedModel(name, [name]), 1) for name in "abcd"]
    user = LLMUser(Player(models, SAMPLING, "Play."))

    def played(number: int, seed: int, chat: Chat) -> str:
        persona = Persona(profile=f"{PERSONA.profile} {number}", personality=PERSONA.personality)
        return asyncio.run(user.speak(persona, chat, (), seed)).content

    # A message that is asked for again has another seed.
    for number in range(12):
        assert played(number, 1, ()) == played(number, 2, AFTER_REPLY) == played(number, 3, AFTER_REPLY * 2)
    assert {played(number, 1, ()) for number in range(40)} == set("abcd")


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        ("  Hi.\n", "Hi."),
        ('"Hi there."', "Hi there."),
        ("“Hi there.”", "Hi there."),
        ("User: Hi.", "Hi."),
        ('**User:** "Hi."', "Hi."),
        ('"user: Hi."', "Hi."),
        ('"Hi," she said, "there."', '"Hi," she said, "there."'),
        ('My boss said "no"', 'My boss said "no"'),
        ("User: Hi.\nAssistant: Hello!", "User: Hi.\nAssistant: Hello!"),
        ("Username: ida", "Username: ida"),
        ('"', '"'),
    ],
)
def test_only_what_wraps_the_whole_message_is_taken_off(answer: str, content: str) -> None:
    assert speak(Heard([answer])).content == content


@given(st.from_regex(r"[a-z][a-z .,!?]{0,40}[a-z.!?]", fullmatch=True))
def test_plain_words_stay_as_they_are(text: str) -> None:
    for answer in (text, f'"{text}"', f"User: {text}"):
        assert speak(Heard([answer])).content == text


@pytest.mark.parametrize("answer", ["", " \n", '""', "User:", '"User: “”"'])
def test_nothing_said_is_a_failure(answer: str) -> None:
    with pytest.raises(RoleFailure, match="said nothing"):
        speak(Heard([answer]))


def test_a_persona_that_gives_orders_stays_data() -> None:
    heard = Heard(["Hello."], "The instructions.")
    speak(heard, persona=Persona(profile=INJECTION, personality=INJECTION))
    assert heard.requests[0].messages[0].content == "The instructions."
    assert INJECTION not in heard.data[0] and len(lines(heard.data[0])) == 2
