from __future__ import annotations

import asyncio

import pytest

from interalign.errors import InputError
from interalign.evaluation.candidates import ControlCandidate, Instructable, MethodCandidate, ModelCandidate, TellsCut
from interalign.llm.model import Answer, Request, Sampling, Usage
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


@pytest.mark.parametrize(("method", "kept"), [("plain", True), ("reminder", False)])
def test_notes_that_a_policy_takes_are_kept_for_it_where_it_is_asked_plainly(method: str, kept: bool) -> None:
    written = "<think>Notes: emoji none.</think>\nHello."
    heard, model = listening(written)
    candidate = MethodCandidate(method, model, Sampling())
    assert asyncio.run(candidate.answer(PERSONA, CHAT, LEDGER, 5)) == "Hello."
    later = (*CHAT, Message(role="assistant", content="Hello."), Message(role="user", content="More."))
    assert asyncio.run(candidate.answer(PERSONA, later, LEDGER, 6)) == "Hello."
    asyncio.run(candidate.instructed(later, "Be brief.", 7))
    for request in heard[1:]:
        said = [message.content for message in request.messages if message.role == "assistant"]
        assert said[-1] == (written if kept else "Hello.")


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


class Ends:
    """A model whose answer ends as the last message says: how, and after how many tokens, which it may not count."""

    name = "ends"

    async def complete(self, request: Request) -> Answer:
        finish, _, tokens = request.messages[-1].content.partition(" ")
        # Others answer meanwhile.
        await asyncio.sleep(0)
        usage = Usage(completion_tokens=int(tokens))
        return Answer.model_validate({"text": "Well", "finish": finish, "usage": usage, "model": "ends"})


@pytest.mark.parametrize("method", ["bare", "plain"])
def test_whether_a_reply_was_cut_is_known_of_each_conversation(method: str) -> None:
    sampling = Sampling(max_tokens=50)
    bare = ModelCandidate(ModelResponder(Ends(), sampling))
    candidate = bare if method == "bare" else MethodCandidate("plain", Ends(), sampling)
    assert isinstance(candidate, TellsCut)

    async def one(ends: str) -> int | None:
        await candidate.answer(PERSONA, (Message(role="user", content=ends),), LEDGER, 5)
        await asyncio.sleep(0)
        return candidate.cut_at

    async def side_by_side() -> list[int | None]:
        return await asyncio.gather(*map(one, ["stop 7", "length 0", "length 21", "other 3", "stop 50"]))

    assert asyncio.run(side_by_side()) == [0, 50, 21, None, 0]


class Replies:
    """A model that gives these answers in turn: each a text, and how it ends after how many tokens."""

    name = "replies"

    def __init__(self, *answers: tuple[str, str, int]) -> None:
        self._answers = iter(answers)

    async def complete(self, request: Request) -> Answer:
        text, finish, tokens = next(self._answers)
        usage = Usage(completion_tokens=tokens)
        return Answer.model_validate({"text": text, "finish": finish, "usage": usage, "model": "replies"})


THOUGHT = ("<think>They", "length", 450)


@pytest.mark.parametrize(
    ("method", "answers", "cut"),
    [
        ("self-critique", [("Draft.", "stop", 7), THOUGHT], 0),
        ("self-critique", [("Draft", "length", 50), ("", "stop", 0)], 50),
        ("self-critique", [("Draft", "length", 50), ("Too long.", "stop", 3), ("Tram.", "stop", 2)], 0),
        ("self-critique", [("Draft.", "stop", 7), ("Too long.", "stop", 3), ("Tram", "length", 50)], 50),
        ("cot", [("They are curt.\nREPLY: Tram", "length", 450)], 450),
        ("cot", [THOUGHT, ("Tram.", "stop", 2)], 0),
        ("cot", [("They are", "length", 450), ("Tram", "other", 2)], None),
        ("summary-memory", [("Curt.", "stop", 2), ("Tram", "length", 50)], 50),
    ],
)
def test_a_reply_is_as_cut_as_the_answer_that_it_stands_in(
    method: str, answers: list[tuple[str, str, int]], cut: int | None
) -> None:
    candidate = MethodCandidate(method, Replies(*answers), Sampling(max_tokens=50))

    async def one() -> int | None:
        await candidate.answer(PERSONA, CHAT, LEDGER, 5)
        return candidate.cut_at

    assert asyncio.run(one()) == cut


def test_of_others_it_is_not_known_whether_they_were_cut() -> None:
    candidate = ModelCandidate(RuleResponder())
    assert candidate.cut_at is None
    assert not isinstance(ControlCandidate("mirror"), TellsCut)
