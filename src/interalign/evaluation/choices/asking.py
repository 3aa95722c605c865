"""Asking the questions: each with the chat before it and again without, the options in an order drawn by seed.

The order of an item's options depends on the seed and its id alone, and is the same with and without the chat, so that
the two are paired. What cannot be read is missing; a call that fails is a row with its reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from importlib.resources import files
from random import Random
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from interalign.errors import InteralignError, StopWork, StorageError
from interalign.evaluation.choices.item import ChoiceItem
from interalign.evaluation.choices.letters import LETTERS, read_letter
from interalign.llm.model import Sampling
from interalign.messages import Chat, Message, Value
from interalign.roles.llm.player import all_or_first_error
from interalign.run import derive_seed

__all__ = ["Ask", "Choice", "ChoiceConfig", "Shown", "ask_all", "order_of", "question_with_options", "ways_of"]

Shown: TypeAlias = Literal["chat", "nothing"]
"""What stands before the question: the chat, or nothing."""

Ask: TypeAlias = Callable[[Chat, int], Awaitable[str]]
"""What answers a chat by a seed, such as `Baseline.reply`."""


class ChoiceConfig(Value):
    """How the questions are asked."""

    seed: int = 0
    """Draws the order of the options and the answers' randomness."""
    sampling: Sampling = Sampling(max_tokens=256, temperature=0)
    in_flight: Annotated[int, Field(ge=1)] = 64
    """Questions that are asked at the same time."""


class Choice(Value):
    """What was chosen for one question."""

    item: str
    """Id of the question."""
    shown: Shown
    order: tuple[int, ...]
    """The options' places in the file, in the order in which they were shown."""
    reply: str = ""
    chosen: int | None = None
    """The place in the file of the chosen option; None when the reply cannot be read."""
    right: bool | None = None
    failure: str | None = None
    """Why there is no reply."""


async def ask_all(
    items: Sequence[ChoiceItem], ask: Ask, config: ChoiceConfig, *, on_answer: Callable[[], None] | None = None
) -> list[Choice]:
    """Ask every question, with the chat where it has one and without; returns the choices, question by question.

    Raises:
        StopWork: no further call is to be made.
        StorageError: nothing more can be kept.
    """
    room = asyncio.Semaphore(config.in_flight)

    async def one(item: ChoiceItem, shown: Shown) -> Choice:
        async with room:
            choice = await _ask(item, shown, ask, config.seed)
        if on_answer is not None:
            on_answer()
        return choice

    return await all_or_first_error(one(item, shown) for item in items for shown in ways_of(item))


def ways_of(item: ChoiceItem) -> tuple[Shown, ...]:
    """How a question is asked; one without a chat only once."""
    return ("chat", "nothing") if item.chat else ("nothing",)


async def _ask(item: ChoiceItem, shown: Shown, ask: Ask, seed: int) -> Choice:
    order = order_of(item, seed)
    choice = Choice(item=item.id, shown=shown, order=order)
    chat = item.chat if shown == "chat" else ()
    try:
        reply = await ask(_behind(chat, question_with_options(item, order)), derive_seed(seed, item.id, shown))
    except (StopWork, StorageError):
        raise
    except InteralignError as error:
        return choice.model_copy(update={"failure": str(error)})
    place = read_letter(reply, len(order))
    if place is None:
        return choice.model_copy(update={"reply": reply})
    return choice.model_copy(update={"reply": reply, "chosen": order[place], "right": order[place] == item.answer})


def order_of(item: ChoiceItem, seed: int) -> tuple[int, ...]:
    """The options' places in the order in which they are shown, drawn by seed and the question's id."""
    places = list(range(len(item.options)))
    Random(derive_seed(seed, item.id, "options")).shuffle(places)
    return tuple(places)


def question_with_options(item: ChoiceItem, order: Sequence[int]) -> str:
    """The last message: the question, the options under letters, and how to answer."""
    lines = [f"{letter}. {item.options[place]}" for letter, place in zip(LETTERS, order, strict=False)]
    return _prompt().format(question=item.question, options="\n".join(lines))


def _behind(chat: Chat, content: str) -> Chat:
    """The chat with one more message of the user; where it ends with one of theirs, the two become one."""
    if chat and chat[-1].role == "user":
        return (*chat[:-1], Message(role="user", content=f"{chat[-1].content}\n\n{content}"))
    return (*chat, Message(role="user", content=content))


@cache
def _prompt() -> str:
    return (files("interalign.evaluation") / "prompts" / "choice.txt").read_text(encoding="utf-8").strip()
