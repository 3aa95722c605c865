"""Baselines that need no training: what any chat model reaches when it is only asked in another way.

What always holds: a baseline sees the chat and nothing else; `plain` sends what `ModelResponder` sends; all that a
baseline adds stands at the end of the messages, behind what grows from turn to turn; thinking, of reasoning models
(<think>...</think>) and of `cot`, is cut off and never shown to the user, nor to the judge.

Sources: `reminder`, `cot`, `self-critique` and `retrieval` are those that PrefEval compares (arXiv 2502.09597), with
prompts of our own; `summary-memory` is the running summary that long-term chat is usually done with.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from interalign.errors import InputError
from interalign.llm.model import Answer, ChatModel, Request, Sampling
from interalign.llm.thinking import without_thinking
from interalign.messages import Chat, Message, Value, as_dicts
from interalign.personas.persona import Persona
from interalign.roles.ledger import Ledger
from interalign.roles.llm.player import RoleFailure, tagged
from interalign.roles.responder import policy_prompt
from interalign.run import derive_seed

if TYPE_CHECKING:
    from interalign.llm.encoder import Encoder

__all__ = [
    "BASELINES",
    "Baseline",
    "BaselineConfig",
    "Method",
    "baseline",
    "bm25",
    "cut_of",
    "prompt_hashes",
    "spoken",
]

_MARKER = re.compile(r"^[ \t*_#>]*REPLY[ \t*_]*:[ \t*_]*", re.MULTILINE)
_WORD = re.compile(r"\w+")
# The notes on a chat are the same whenever they are asked for, so that the journal has them at the next turn.
_NOTES_SEED = derive_seed(0, "baseline", "notes")


class BaselineConfig(Value):
    """What the baselines can be set to."""

    k: Annotated[int, Field(ge=1)] = 3
    """`retrieval`: how many earlier messages of the user are put before the last one, at most."""
    encoder: str | None = None
    """`retrieval`: a sentence encoder (folder, hub name or the offline one) that finds them; None: BM25 over words."""
    thinking_tokens: Annotated[int, Field(ge=1)] = 400
    """How many tokens `cot` may think, and how long a critique and the notes may be, beside the reply's own."""


@dataclass
class _Asker:
    """A model, how it is asked, and what need not be asked or loaded again."""

    model: ChatModel
    sampling: Sampling
    config: BaselineConfig
    notes: dict[tuple[str, Chat], str] = field(default_factory=dict)
    encoder: Encoder | None = None
    encoding: threading.Lock = field(default_factory=threading.Lock)
    cut_at: ContextVar[int | None] = field(default_factory=lambda: ContextVar("cut_at", default=None))
    """How the answer ended that the reply of this asyncio task stands in: not always the last that was asked for."""

    async def text(self, chat: Chat, seed: int, *, holds_reply: bool = False) -> str:
        """What `chat` is answered without thinking, at the length of thinking and reply; "" where nothing is left."""
        max_tokens = self.sampling.max_tokens + self.config.thinking_tokens
        answer = await self._ask(chat, seed, max_tokens)
        if holds_reply:
            self.cut_at.set(cut_of(answer, max_tokens))
        return without_thinking(answer.text)

    async def reply(self, chat: Chat, seed: int) -> str:
        """What `chat` is answered as a reply; raises RoleFailure where there is nothing, or nothing but thinking."""
        answer = await self._ask(chat, seed, self.sampling.max_tokens)
        self.cut_at.set(cut_of(answer, self.sampling.max_tokens))
        return spoken(answer.text, answer.model)

    async def _ask(self, chat: Chat, seed: int, max_tokens: int) -> Answer:
        sampling = self.sampling.model_copy(update={"max_tokens": max_tokens})
        return await self.model.complete(Request(messages=_framed(chat), sampling=sampling, seed=seed))


@dataclass(frozen=True)
class Method:
    """One way to ask a model for a reply."""

    about: str
    """What is done, in a few words."""
    calls: int
    """Calls for one reply; `plain` takes 1. A call of `cot` that has no readable reply takes one more."""
    _reply: Callable[[_Asker, Chat, int], Awaitable[str]] = field(repr=False)
    prompts: tuple[str, ...] = ()
    """The files of what the model is told beside the chat."""


class Baseline:
    """A chat model that is asked by one method: a candidate of the benchmark."""

    def __init__(self, name: str, model: ChatModel, sampling: Sampling, config: BaselineConfig) -> None:
        self.name = name
        self.method = BASELINES[name]
        self._asker = _Asker(model, sampling, config)

    def __repr__(self) -> str:
        return f"Baseline({self.name!r}, {self._asker.model!r})"

    @property
    def cut_at(self) -> int | None:
        """At how many tokens the reply was cut that this asyncio task was given last (`cut_of`)."""
        return self._asker.cut_at.get()

    async def answer(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> str:
        """Return the reply to the last message of `chat`; persona and ledger stay out of its sight.

        Raises:
            ModelError: the model gave no usable answer: nothing, or nothing but thinking.
        """
        return await self.reply(chat, seed)

    async def reply(self, chat: Chat, seed: int) -> str:
        """The same, for callers that have a chat only."""
        return await self.method._reply(self._asker, chat, seed)


def baseline(name: str, model: ChatModel, sampling: Sampling, config: BaselineConfig | None = None) -> Baseline:
    """The baseline of that name for a model; `sampling` is that of replies.

    Raises:
        InputError: there is no such baseline.
    """
    if name not in BASELINES:
        raise InputError(f"There is no baseline {name!r}.", mend=f"use one of: {', '.join(BASELINES)}.")
    return Baseline(name, model, sampling, config or BaselineConfig())


def spoken(text: str, model: str) -> str:
    """`text` without thinking, where anything is left of it: silence is a missing reply, and never a poor one.

    Raises:
        RoleFailure: it is empty, or nothing but thinking.
    """
    said = without_thinking(text)
    if said:
        return said
    if text.strip():
        mend = "raise max_tokens, so that a reply follows it."
        raise RoleFailure(f"{model} gave nothing but thinking.", mend=mend, cause="nothing but thinking")
    raise RoleFailure(
        f"{model} gave an empty reply.", mend="see what the model is, and how it is asked.", cause="empty"
    )


def cut_of(answer: Answer, max_tokens: int) -> int | None:
    """At how many tokens an answer was cut: 0 where it came to its end, None where that is not known."""
    if answer.finish == "stop":
        return 0
    # A server that ran out of room before `max_tokens` says so by what it counts.
    return (answer.usage.completion_tokens or max_tokens) if answer.finish == "length" else None


def prompt_hashes(method: str) -> dict[str, str]:
    """Where results come from: for each prompt of a baseline 12 hexadecimal digits of its SHA-256.

    They are called by the method and the file, as in "cot: cot_again", since a role may have a prompt of that name.
    """
    return {
        f"{method}: {name}": hashlib.sha256(_prompt(name).encode()).hexdigest()[:12]
        for name in BASELINES[method].prompts
    }


@cache
def _prompt(name: str) -> str:
    return (files("interalign.evaluation") / "prompts" / f"{name}.txt").read_text(encoding="utf-8").strip()


def _framed(chat: Chat) -> Chat:
    """The chat behind the system message of every policy, unless it has one of its own."""
    return chat if chat[0].role == "system" else (Message(role="system", content=policy_prompt()), *chat)


def _said(chat: Chat, content: str) -> Chat:
    return (*chat, Message(role="user", content=content))


def _with_last(chat: Chat, content: str) -> Chat:
    return _said(chat[:-1], content)


async def _plain(asker: _Asker, chat: Chat, seed: int) -> str:
    return await asker.reply(chat, seed)


async def _reminder(asker: _Asker, chat: Chat, seed: int) -> str:
    return await asker.reply(_with_last(chat, f"{chat[-1].content}\n\n{_prompt('reminder')}"), seed)


async def _cot(asker: _Asker, chat: Chat, seed: int) -> str:
    """Thinking, then a marker, then the reply.

    Without the marker nobody can tell one from the other: the model is then asked for the reply once more, with what
    it wrote before it. So thinking is never judged as a reply, and no case is lost because a model misses the form.
    """
    asked = _with_last(chat, f"{chat[-1].content}\n\n{_prompt('cot')}")
    thought = await asker.text(asked, seed, holds_reply=True)
    reply = _behind_marker(thought)
    if reply:
        return reply
    if thought:
        asked = (*asked, Message(role="assistant", content=thought))
        return await asker.reply(_said(asked, _prompt("cot_again")), derive_seed(seed, "again"))
    return await asker.reply(chat, derive_seed(seed, "again"))


def _behind_marker(text: str) -> str:
    """What stands behind the last marker; "" without one."""
    ends = [found.end() for found in _MARKER.finditer(text)]
    return text[ends[-1] :].strip() if ends else ""


async def _self_critique(asker: _Asker, chat: Chat, seed: int) -> str:
    draft = await asker.reply(chat, seed)
    asked = _said((*chat, Message(role="assistant", content=draft)), _prompt("critique"))
    critique = await asker.text(asked, derive_seed(seed, "critique"))
    if not critique:
        return draft
    asked = _said((*asked, Message(role="assistant", content=critique)), _prompt("revise"))
    return await asker.reply(asked, derive_seed(seed, "revise"))


async def _retrieval(asker: _Asker, chat: Chat, seed: int) -> str:
    """The earlier messages of the user that are closest to the last one, in their order, before it."""
    turns = [message.content for message in chat[:-1] if message.role == "user"]
    message = chat[-1].content
    found = await _closest(asker, message, turns)
    if not found:
        return await asker.reply(chat, seed)
    shown = tagged("earlier", [turns[place] for place in found])
    return await asker.reply(_with_last(chat, _prompt("retrieval").format(turns=shown, message=message)), seed)


async def _closest(asker: _Asker, message: str, turns: Sequence[str]) -> list[int]:
    """The places of at most `k` turns that have anything to do with the message, in the order of the turns."""
    if not turns:
        return []
    scores = (
        bm25(message, turns)
        if asker.config.encoder is None
        else await asyncio.to_thread(_cosines, asker, message, turns)
    )
    best = sorted(range(len(turns)), key=lambda place: -scores[place])[: asker.config.k]
    return sorted(place for place in best if scores[place] > 0)


def bm25(query: str, texts: Sequence[str], *, k1: float = 1.5, b: float = 0.75) -> list[float]:
    """How close each text is to the query by the words they share; 0 where they share none.

    Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with the idf that
    stays positive: log(1 + (N - n + 0.5) / (n + 0.5)).
    """
    counts = [Counter(_words(text)) for text in texts]
    mean = sum(count.total() for count in counts) / len(counts) or 1.0
    held = Counter(word for count in counts for word in count)
    idf = {word: math.log(1 + (len(texts) - held[word] + 0.5) / (held[word] + 0.5)) for word in set(_words(query))}

    def score(count: Counter[str]) -> float:
        norm = k1 * (1 - b + b * count.total() / mean)
        return math.fsum(idf[word] * count[word] * (k1 + 1) / (count[word] + norm) for word in idf if count[word])

    return [score(count) for count in counts]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _cosines(asker: _Asker, message: str, turns: Sequence[str]) -> list[float]:
    # Conversations go on side by side, each in a thread of its own here; the encoder is made once and asked in turn.
    with asker.encoding:
        if asker.encoder is None:
            from interalign.llm.encoder import SentenceEncoder

            asker.encoder = SentenceEncoder(asker.config.encoder or "")
        vectors = asker.encoder.encode([message, *turns])
    return [float(score) for score in vectors[1:] @ vectors[0]]


async def _summary_memory(asker: _Asker, chat: Chat, seed: int) -> str:
    notes = await _notes(asker, chat[:-1])
    if not notes:
        return await asker.reply(chat, seed)
    told = _prompt("memory").format(message=chat[-1].content, notes=tagged("notes", notes))
    return await asker.reply(_with_last(chat, told), seed)


async def _notes(asker: _Asker, chat: Chat) -> str:
    """The notes on the exchanges of `chat`, taken one after the other; "" before the first one.

    They are a function of the chat alone. All but the newest were asked for at the turn before, so each turn costs one
    call. Notes that cannot be read leave those before as they were.
    """
    notes = ""
    for exchange in _exchanges(chat):
        if (notes, exchange) not in asker.notes:
            data = f"{tagged('notes', notes)}\n\n{tagged('exchange', as_dicts(exchange))}"
            asked = (Message(role="system", content=_prompt("notes")), Message(role="user", content=data))
            asker.notes[notes, exchange] = await asker.text(asked, _NOTES_SEED) or notes
        notes = asker.notes[notes, exchange]
    return notes


def _exchanges(chat: Chat) -> list[Chat]:
    """The chat in pieces that each begin with a message of the user; what stands before the first is left out."""
    starts = [place for place, message in enumerate(chat) if message.role == "user"]
    return [chat[start:end] for start, end in pairwise([*starts, len(chat)])]


BASELINES: dict[str, Method] = {
    "plain": Method("the chat as it is", 1, _plain),
    "reminder": Method("the last message ends with a reminder to attend to the user", 1, _reminder, ("reminder",)),
    "cot": Method("the model first thinks about the user, which nobody sees", 1, _cot, ("cot", "cot_again")),
    "self-critique": Method(
        "draft, critique by what the user has shown, revision", 3, _self_critique, ("critique", "revise")
    ),
    "retrieval": Method(
        "the most relevant earlier messages of the user stand before the last one", 1, _retrieval, ("retrieval",)
    ),
    "summary-memory": Method(
        "after each exchange the model writes notes on the user, and answers with them",
        2,
        _summary_memory,
        ("notes", "memory"),
    ),
}
"""The baselines by the names that are used everywhere."""
