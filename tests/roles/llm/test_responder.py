from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.messages import Message
from interalign.personas.persona import Fact
from interalign.roles.inducer import Impression
from interalign.roles.ledger import Stated
from interalign.roles.llm.player import RoleFailure
from interalign.roles.llm.responder import LLMResponder
from interalign.roles.responder import Reply, policy_prompt
from tests.roles.llm.stage import CHAT, INJECTION, Heard, inside

KNOWN = Impression(
    stated=(
        Stated(kind="profile", text="She repairs church organs.", words="organs"),
        Stated(kind="personality", text="She is impatient.", words="Skip"),
    )
)


def answer(heard: Heard, impression: Impression | None) -> Reply:
    return asyncio.run(LLMResponder(heard.player).answer(CHAT, impression, 6))


def test_without_an_impression_the_chat_is_all() -> None:
    heard = Heard([" Of course. \n"], policy_prompt())
    assert answer(heard, None) == Reply(content="Of course.", model="heard")
    (request,) = heard.requests
    assert request.messages == (Message(role="system", content=policy_prompt()), *CHAT)
    assert request.seed == 6 and request.response_schema is None


def test_nothing_known_makes_no_notes() -> None:
    heard = Heard(["Yes."])
    answer(heard, None)
    answer(heard, Impression())
    assert heard.requests[0] == heard.requests[1]


def test_notes_stand_after_the_last_message_and_nothing_else_changes() -> None:
    heard = Heard(["Yes."])
    answer(heard, None)
    answer(heard, KNOWN)
    generic, tailored = (request.messages for request in heard.requests)
    assert tailored[:-1] == generic[:-1]
    assert tailored[-1].role == "user" and tailored[-1].content.startswith(f"{CHAT[-1].content}\n\n<notes>")
    assert json.loads(inside(tailored[-1].content, "notes")) == {
        "profile": ["She repairs church organs."],
        "personality": ["She is impatient."],
    }


def test_notes_of_rules_are_told_too() -> None:
    heard = Heard(["Yes."])
    fact = Fact(slot="pet", term="a deaf cat", key="deaf cat")
    answer(heard, Impression(facts=(fact,), style={"length": "brief"}))
    notes = json.loads(inside(heard.requests[0].messages[-1].content, "notes"))
    assert notes["profile"] == ["pet: a deaf cat"] and {"length": "brief"} in notes.values()


@given(st.text(min_size=1))
def test_no_note_leaves_its_tag(text: str) -> None:
    heard = Heard(["Yes."])
    texts = [f"{INJECTION}{text}", text]
    stated = tuple(Stated(kind="profile", text=one, words="") for one in texts)
    answer(heard, Impression(stated=stated))
    assert json.loads(inside(heard.requests[0].messages[-1].content, "notes")) == {"profile": texts}


@pytest.mark.parametrize("said", [" \n", "<think>They are curt.</think>", "<think>They are"])
def test_an_empty_reply_is_a_failure(said: str) -> None:
    with pytest.raises(RoleFailure, match="empty reply"):
        answer(Heard([said]), KNOWN)


def test_thinking_is_no_part_of_a_reply() -> None:
    assert answer(Heard(["<think>They are curt.</think>\nYes."]), None).content == "Yes."
