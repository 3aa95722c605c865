from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.messages import Chat, Message
from interalign.personas.description import normalised
from interalign.roles.inducer import Impression
from interalign.roles.ledger import Disclosure, Ledger, Stated, stated_so_far
from interalign.roles.llm.inducer import LLMInducer
from interalign.roles.llm.player import RoleFailure
from tests.roles.llm.stage import CHAT, LEDGER, PERSONA, Heard, inside, lines

ORGANS = Stated(kind="profile", text="She repairs church organs in Turku.", words="I repair church organs")
KNOWING = (Disclosure(turn=1, stated=(ORGANS,)), Disclosure(turn=2))


def found(*items: dict[str, Any]) -> str:
    return json.dumps({"found": [{"kind": "personality", "text": "a trait", "words": "", **item} for item in items]})


def induce(heard: Heard, ledger: Ledger = LEDGER, chat: Chat = CHAT) -> Impression:
    return asyncio.run(LLMInducer(heard.player).induce(PERSONA, chat, ledger, 4))


def test_what_the_last_message_gives_away_is_added_to_what_is_known() -> None:
    heard = Heard([found({"text": " impatient with small talk ", "words": "skip the SMALL TALK"})])
    impression = induce(heard, KNOWING)
    new = Stated(kind="personality", text="impatient with small talk", words="skip the SMALL TALK")
    assert impression == Impression(stated=(ORGANS, new))
    assert json.loads(inside(heard.data[0], "known")) == [ORGANS.text]
    assert PERSONA.personality in inside(heard.data[0], "persona")


@pytest.mark.parametrize("before", [(), CHAT[:2], CHAT[:2] * 9])
def test_it_reads_the_last_exchange_however_long_the_chat_is(before: Chat) -> None:
    heard = Heard(['{"found": []}'])
    induce(heard, KNOWING, (*before, CHAT[2]))
    assert lines(heard.data[0]) == [{one.role: one.content} for one in (*before[-1:], CHAT[2])]


@pytest.mark.parametrize(
    "item",
    [
        {"words": "I repair church organs"},
        {"words": "impatient with small talk"},
        {"words": ""},
        {"words": "?!"},
        {"words": "Long enough!", "text": ""},
        {"words": "Long enough!", "text": "..."},
        {"words": "Long enough!", "text": "she repairs church organs in turku"},
    ],
)
def test_what_rests_on_other_words_or_is_known_is_dropped(item: dict[str, str]) -> None:
    assert induce(Heard([found(item)]), KNOWING).stated == (ORGANS,)


def test_a_finding_counts_once() -> None:
    twice = {"text": "She is impatient.", "words": "Skip"}
    assert len(induce(Heard([found(twice, {**twice, "text": "she is impatient"})])).stated) == 1


@given(
    st.text(max_size=40),
    st.lists(st.fixed_dictionaries({"text": st.text(max_size=12), "words": st.text(max_size=6)}), max_size=4),
)
def test_every_finding_rests_on_words_of_the_last_message(message: str, items: list[dict[str, str]]) -> None:
    chat = (*CHAT, Message(role="user", content=message))
    impression = induce(Heard([found(*items, {"text": "said", "words": message})]), KNOWING, chat)
    assert impression.stated[:1] == (ORGANS,)
    new = impression.stated[1:]
    assert all(normalised(one.words) in normalised(message) and normalised(one.words) for one in new)
    texts = [normalised(one.text) for one in new]
    assert len(set(texts)) == len(texts) and "" not in texts
    assert bool(normalised(message)) == ("said" in texts)


@pytest.mark.parametrize(
    "answer",
    ["Nothing new.", "[]", '{"found": [{"kind": "mood", "text": "a", "words": "b"}]}', '{"found": ["small talk"]}'],
)
def test_an_unreadable_answer_is_mended_once_or_fails(answer: str) -> None:
    mended = Heard([answer, found({"words": "small talk"})])
    assert len(induce(mended).stated) == 1 and len(mended.requests) == 2
    with pytest.raises(RoleFailure):
        induce(Heard([answer]))


def test_nothing_found_is_an_answer() -> None:
    assert induce(Heard(['{"found": []}']), KNOWING).stated == stated_so_far(KNOWING)
