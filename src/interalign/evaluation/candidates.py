"""What the benchmark tests: anything that answers a chat.

A candidate under test sees the chat and nothing else. Controls are candidates that know more, or less, and tell what a
score means.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol, runtime_checkable

from interalign.evaluation.baselines import baseline, cut_of, spoken
from interalign.llm.model import Answer, ChatModel, Request, Sampling
from interalign.messages import Chat, Message
from interalign.personas.persona import Persona
from interalign.roles.ledger import Ledger
from interalign.roles.responder import ModelResponder, Responder, RuleResponder, Source, policy_prompt, views

__all__ = ["CONTROLS", "Candidate", "ControlCandidate", "Instructable", "MethodCandidate", "ModelCandidate", "TellsCut"]

CONTROLS: dict[str, Source] = {
    "constant": "constant",
    "mirror": "mirror",
    "disclosed-only oracle": "tailored",
    "full oracle": "oracle",
}
"""Scripted responders that bound what a model can reach with rule-based users, by the names that the report gives
them."""


class Candidate(Protocol):
    """Anything that can be tested: it answers a chat, and may know what the benchmark lets it know."""

    async def answer(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> str:
        """Return the reply to the last message of the chat. Models under test look at the chat only.

        With language models as users the entries of `ledger` are empty: the inducer, who writes them, is not waited
        for.
        """
        ...


@runtime_checkable
class Instructable(Protocol):
    """A candidate whose model can be asked beside the conversation, and under other instructions.

    The controls of language models and their induction need one.
    """

    async def instructed(self, chat: Chat, instructions: str, seed: int, *, least_tokens: int = 0) -> str | None:
        """Return the model's answer to `chat` with `instructions` behind its own system message.

        `least_tokens` is what the answer may at least take, where replies are shorter. None: there is no language model
        to be instructed.
        """
        ...


@runtime_checkable
class TellsCut(Protocol):
    """A candidate that knows whether its replies came to their end."""

    @property
    def cut_at(self) -> int | None:
        """At how many tokens the reply was cut that this asyncio task was given last; as in `TurnRow.cut_at`."""
        ...


class _Overheard:
    """A chat model, and how the answer ended that a task was given last: many conversations share the model."""

    def __init__(self, model: ChatModel) -> None:
        self._model = model
        self._cut_at: ContextVar[int | None] = ContextVar("cut_at", default=None)

    def __repr__(self) -> str:
        return repr(self._model)

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def cut_at(self) -> int | None:
        return self._cut_at.get()

    async def complete(self, request: Request) -> Answer:
        self._cut_at.set(None)
        answer = await self._model.complete(request)
        self._cut_at.set(cut_of(answer, request.sampling.max_tokens))
        return answer


class ModelCandidate:
    """A responder that sees the chat and nothing else: what is measured."""

    def __init__(self, responder: Responder) -> None:
        self._heard: _Overheard | None = None
        # Of other responders it is not known whom they ask.
        if type(responder) is ModelResponder:
            self._heard = _Overheard(responder.model)
            responder = ModelResponder(self._heard, responder.sampling)
        self._responder = responder

    @property
    def cut_at(self) -> int | None:
        """How the reply ended that this asyncio task was given last; None where the responder is no chat model."""
        return self._heard.cut_at if self._heard is not None else None

    async def answer(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> str:
        """Return the responder's reply without thinking; persona and ledger stay out of its sight.

        Raises:
            ModelError: there is no usable answer: nothing, or nothing but thinking.
        """
        return spoken(await self._responder.respond(chat, "", None, seed), self._name)

    async def instructed(self, chat: Chat, instructions: str, seed: int, *, least_tokens: int = 0) -> str | None:
        """Return the model's answer under further instructions; None where the responder is no chat model.

        Raises:
            ModelError: there is no usable answer: nothing, or nothing but thinking.
        """
        if not isinstance(self._responder, ModelResponder):
            return None
        sampling = self._responder.sampling
        sampling = sampling.model_copy(update={"max_tokens": max(sampling.max_tokens, least_tokens)})
        system = f"{policy_prompt()}\n\n{instructions}" if instructions else policy_prompt()
        messages = (Message(role="system", content=system), *self._responder.with_notes(chat))
        answer = await self._responder.model.complete(Request(messages=messages, sampling=sampling, seed=seed))
        return spoken(answer.text, answer.model)

    @property
    def _name(self) -> str:
        return self._responder.model.name if isinstance(self._responder, ModelResponder) else "The responder"


class MethodCandidate(ModelCandidate):
    """A chat model that replies by one of the `evaluation.baselines`; beside the conversation it is asked plainly.

    Notes that a policy takes are kept for it where it is asked plainly, and by no other method.

    Raises:
        InputError: there is no such method.
    """

    def __init__(self, method: str, model: ChatModel, sampling: Sampling) -> None:
        super().__init__(ModelResponder(model, sampling))
        self._by_method = baseline(method, model, sampling)
        self._plainly = method == "plain"

    @property
    def cut_at(self) -> int | None:
        """How the answer ended that the reply stands in which this asyncio task was given last."""
        return super().cut_at if self._plainly else self._by_method.cut_at

    async def answer(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> str:
        """Return the reply by the method, without thinking; persona and ledger stay out of its sight."""
        if self._plainly:
            return await super().answer(persona, chat, ledger, seed)
        return await self._by_method.answer(persona, chat, ledger, seed)


class ControlCandidate:
    """A scripted responder that knows what its source is allowed to know."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def answer(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> str:
        """Return the reply composed from the source's view of the user."""
        view = views(persona, ledger, seed)[self._source]
        return await RuleResponder().respond(chat, ledger[-1].topic, view, seed)
