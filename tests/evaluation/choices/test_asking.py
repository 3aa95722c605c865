from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.errors import BudgetSpent, ModelError
from interalign.evaluation.baselines import baseline
from interalign.evaluation.choices import ChoiceConfig, ChoiceItem, ask_all
from interalign.evaluation.choices.asking import order_of, question_with_options, ways_of
from interalign.llm.model import Request
from interalign.llm.scripted import ScriptedModel
from interalign.messages import Chat, Message

CHAT = (Message(role="user", content="I like tea."), Message(role="assistant", content="Noted."))
ITEM = ChoiceItem(
    id="one", question="What shall I {drink}?", options=("Tea", "Coffee", "Milk", "{0}"), answer=0, chat=CHAT
)
BARE = ITEM.model_copy(update={"id": "bare", "chat": ()})
CONFIG = ChoiceConfig(seed=3)


async def by_text(chat: Chat, seed: int) -> str:
    """Chooses tea where it was told of it, and the first letter elsewhere."""
    if chat[0].content != "I like tea.":
        return "Answer: A"
    line = next(line for line in chat[-1].content.splitlines() if line.endswith(". Tea"))
    return f"Answer: {line[0]}"


def test_each_question_is_asked_with_the_chat_and_without_in_one_order() -> None:
    chat, nothing, bare = asyncio.run(ask_all([ITEM, BARE], by_text, CONFIG))
    assert [(one.item, one.shown) for one in (chat, nothing, bare)] == [
        ("one", "chat"), ("one", "nothing"), ("bare", "nothing"),
    ]  # fmt: skip
    assert (chat.chosen, chat.right) == (0, True)
    assert chat.order == nothing.order == order_of(ITEM, 3)
    assert nothing.chosen == nothing.order[0]
    assert nothing.right == (nothing.order[0] == 0)


def test_what_is_sent_is_the_chat_and_the_question_with_its_options() -> None:
    heard: list[Request] = []
    model = ScriptedModel("heard", lambda request: heard.append(request) or "A")
    asyncio.run(ask_all([ITEM], baseline("plain", model, CONFIG.sampling).reply, CONFIG))
    with_chat, without = sorted((request.messages for request in heard), key=len, reverse=True)
    assert with_chat[1:-1] == CHAT
    assert without[1:] == with_chat[-1:]
    content = without[-1].content
    assert content.startswith("What shall I {drink}?\n")
    assert [line for line in content.splitlines() if line[1:2] == "."] == [
        f"{letter}. {ITEM.options[place]}" for letter, place in zip("ABCD", order_of(ITEM, 3), strict=True)
    ]


def test_a_chat_that_ends_with_the_user_goes_on_in_one_message() -> None:
    sent: list[Chat] = []

    async def hear(chat: Chat, seed: int) -> str:
        sent.append(chat)
        return "A"

    asyncio.run(ask_all([ITEM.model_copy(update={"chat": CHAT[:1]})], hear, CONFIG))
    longest = max(sent, key=lambda chat: len(chat[-1].content))
    assert [message.role for message in longest] == ["user"]
    assert longest[0].content.startswith("I like tea.\n\nWhat shall I {drink}?")


@given(st.integers(0, 2**40), st.text(min_size=1))
def test_an_order_is_a_permutation_that_seed_and_id_decide(seed: int, name: str) -> None:
    item = ITEM.model_copy(update={"id": name})
    assert sorted(order_of(item, seed)) == [0, 1, 2, 3]
    assert order_of(item, seed) == order_of(item.model_copy(update={"chat": ()}), seed)


def test_orders_put_the_right_option_everywhere_alike() -> None:
    places = Counter(order_of(ITEM.model_copy(update={"id": str(one)}), 0).index(0) for one in range(2_000))
    assert all(400 < places[place] < 600 for place in range(4))


def test_what_cannot_be_read_is_missing_and_what_fails_is_told() -> None:
    async def odd(chat: Chat, seed: int) -> str:
        if len(chat) == 1:
            raise ModelError("The server is silent.")
        return "Tea or coffee"

    chat, nothing = asyncio.run(ask_all([ITEM], odd, CONFIG))
    assert (chat.reply, chat.chosen, chat.right, chat.failure) == ("Tea or coffee", None, None, None)
    assert (nothing.reply, nothing.right, nothing.failure) == ("", None, "The server is silent.")


def test_what_stops_the_work_passes() -> None:
    async def broke(chat: Chat, seed: int) -> str:
        raise BudgetSpent("Nothing left.")

    with pytest.raises(BudgetSpent):
        asyncio.run(ask_all([ITEM, BARE], broke, CONFIG))


def test_no_more_are_in_flight_than_may_be_and_each_answer_is_told() -> None:
    running, most, told = 0, 0, 0

    async def slow(chat: Chat, seed: int) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return "A"

    def tell() -> None:
        nonlocal told
        told += 1

    items = [ITEM.model_copy(update={"id": str(one)}) for one in range(9)]
    config = CONFIG.model_copy(update={"in_flight": 4})
    asyncio.run(ask_all(items, slow, config, on_answer=tell))
    assert (most, told) == (4, sum(len(ways_of(item)) for item in items))


def test_the_options_of_the_longest_question_have_letters() -> None:
    item = ChoiceItem(id="long", question="Which?", options=tuple(f"option {one}" for one in range(26)), answer=25)
    assert "\nZ. " in question_with_options(item, order_of(item, 0))
