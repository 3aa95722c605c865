from __future__ import annotations

import asyncio

import pytest

from interalign.errors import InputError
from interalign.evaluation.candidates import Instructable, MethodCandidate, ModelCandidate
from interalign.llm.model import Request, Sampling
from interalign.llm.scripted import ScriptedModel
from interalign.messages import Message
from interalign.roles.ledger import Disclosure
from interalign.roles.llm.player import RoleFailure
from interalign.roles.responder import ModelResponder, RuleResponder, policy_prompt
from tests.roles.llm.stage import CHAT, PERSONA

LEDGER = (Disclosure(turn=1), Disclosure(turn=2))


def listening(text: str) -> tuple[list[Request], ScriptedModel]:
    heard: list[Request] = []

    def answer(request: Request) -> str:
        heard.append(request)
        return text

    return heard, ScriptedModel("model", answer)


def test_the_plain_method_asks_what_a_responder_asks() -> None:
    heard, model = listening(" Hello. ")
    for candidate in (ModelCandidate(ModelResponder(model, Sampling())), MethodCandidate("plain", model, Sampling())):
        assert asyncio.run(candidate.answer(PERSONA, CHAT, LEDGER, 5)) == "Hello."
    assert heard[0] == heard[1]


def test_a_method_changes_what_is_said_and_nothing_beside_the_conversation() -> None:
    heard, model = listening("Hello.")
    for method in ("plain", "reminder"):
        candidate = MethodCandidate(method, model, Sampling())
        asyncio.run(candidate.answer(PERSONA, CHAT, LEDGER, 5))
        asyncio.run(candidate.instructed(CHAT, "Be brief.", 5))
    plain, beside, reminded, beside_reminded = heard
    assert plain != reminded and beside == beside_reminded
    assert beside.messages == (Message(role="system", content=f"{policy_prompt()}\n\nBe brief."), *CHAT)
    assert PERSONA.profile not in str(reminded.messages)


def test_there_are_no_other_methods() -> None:
    with pytest.raises(InputError, match="wishing"):
        MethodCandidate("wishing", listening("")[1], Sampling())


def test_thinking_is_cut_off() -> None:
    _, model = listening("<think>They lie.</think>Hello.")
    candidate = MethodCandidate("plain", model, Sampling())
    assert asyncio.run(candidate.answer(PERSONA, CHAT, LEDGER, 5)) == "Hello."
    assert asyncio.run(candidate.instructed(CHAT, "", 5)) == "Hello."


def test_a_bare_model_does_not_show_its_thinking_either() -> None:
    _, model = listening("<think>They lie.</think>Hello.")
    candidate = ModelCandidate(ModelResponder(model, Sampling()))
    assert asyncio.run(candidate.answer(PERSONA, CHAT, LEDGER, 5)) == "Hello."


@pytest.mark.parametrize("said", ["", "  ", "<think>They lie.</think>", "<think>They"])
def test_silence_is_no_reply(said: str) -> None:
    _, model = listening(said)
    bare, plain = ModelCandidate(ModelResponder(model, Sampling())), MethodCandidate("plain", model, Sampling())
    for asked in (
        bare.answer(PERSONA, CHAT, LEDGER, 5),
        plain.answer(PERSONA, CHAT, LEDGER, 5),
        bare.instructed(CHAT, "Be brief.", 5),
        plain.instructed(CHAT, "", 5),
    ):
        with pytest.raises(RoleFailure):
            asyncio.run(asked)


def test_rules_cannot_be_instructed() -> None:
    candidate = ModelCandidate(RuleResponder())
    assert isinstance(candidate, Instructable)
    assert asyncio.run(candidate.instructed(CHAT, "Be brief.", 5)) is None


@pytest.mark.parametrize(("least", "tokens"), [(0, 50), (300, 300), (20, 50)])
def test_an_answer_beside_the_conversation_may_be_longer(least: int, tokens: int) -> None:
    heard, model = listening("Hello.")
    candidate = ModelCandidate(ModelResponder(model, Sampling(max_tokens=50)))
    asyncio.run(candidate.instructed(CHAT, "", 5, least_tokens=least))
    assert heard[0].sampling.max_tokens == tokens
