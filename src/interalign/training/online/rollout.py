"""Conversations of the policy in training with users, played side by side.

A turn is one batched draw of replies, then judge and user at once: what the judge says of a reply does not change what
the user says to it. All randomness comes from the run's seed, the persona, the case's number, the sample and the turn,
so a case that is played again with the same weights is the same conversation, whatever is played beside it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TypeAlias

from interalign.conversations.environment import Environment
from interalign.conversations.turn import Place, speak
from interalign.errors import InteralignError, StopWork, StorageError
from interalign.roles.judge import Verdict
from interalign.roles.ledger import disclosed_texts, stated_so_far
from interalign.roles.llm.grader import statements_in
from interalign.roles.llm.player import RoleFailure, all_or_first_error, packaged
from interalign.roles.user import UserTurn
from interalign.run import derive_seed
from interalign.training.online.conversation import Case, Conversation, Exchange
from interalign.training.online.rewards import graded
from interalign.training.online.transcript import ChatTemplate, Transcript

__all__ = ["Draw", "Drawn", "OpenEnvironment", "Played", "Rollout"]


@dataclass(frozen=True)
class Drawn:
    """A reply as the policy drew it: its tokens with their log-probabilities, and whether it came to its end mark."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    ended: bool


Draw: TypeAlias = Callable[[Sequence[Sequence[int]], Sequence[int]], list[Drawn]]
"""Draws one reply for each prompt (token ids), with one seed for each."""


OpenEnvironment: TypeAlias = Callable[[], AbstractAsyncContextManager[Environment]]
"""Opens what the policy meets, in the event loop of the conversations."""


@dataclass(frozen=True)
class Played:
    """A conversation, and its tokens. One that broke off before the first reply has an empty completion."""

    conversation: Conversation
    transcript: Transcript


@dataclass(frozen=True)
class _Seat:
    """A conversation under way; `said` is the user's message that waits for its reply."""

    played: Played
    said: UserTurn | None = None

    @property
    def conversation(self) -> Conversation:
        return self.played.conversation

    @property
    def is_open(self) -> bool:
        return self.conversation.failure is None

    def failed(self, error: InteralignError) -> _Seat:
        conversation = self.conversation.model_copy(update={"failure": str(error)})
        return _Seat(replace(self.played, conversation=conversation))

    def with_exchange(self, exchange: Exchange, transcript: Transcript) -> _Seat:
        """With one more exchange."""
        exchanges = (*self.conversation.exchanges, exchange)
        return _Seat(Played(self.conversation.model_copy(update={"exchanges": exchanges}), transcript))

    def judged(self, verdict: Verdict | None) -> _Seat:
        """With the verdict on the last reply."""
        *before, last = self.conversation.exchanges
        exchanges = (*before, last.model_copy(update={"verdict": verdict}))
        return replace(
            self,
            played=replace(self.played, conversation=self.conversation.model_copy(update={"exchanges": exchanges})),
        )


class Rollout:
    """Plays cases. Holds an event loop of its own, to be closed in the end; roles belong to that loop.

    Args:
        template: the policy's chat template.
        environment: opens the user and the judge, before the first conversation; they are closed with this.
        turns: exchanges of a conversation.
        seed: of the run.
        off_the_record: ask the policy at the end what it has learnt about the user; the answer is not trained on.
    """

    def __init__(
        self,
        template: ChatTemplate,
        environment: OpenEnvironment,
        *,
        turns: int,
        seed: int,
        off_the_record: bool = False,
    ) -> None:
        self._template = template
        self._open_environment = environment
        self._environment: Environment | None = None
        self._opened_with = AsyncExitStack()
        self._turns, self._seed, self._asks = turns, seed, off_the_record
        self._runner = asyncio.Runner()
        self._seconds: dict[str, float] = {}

    def close(self) -> None:
        """Close what the policy meets, and the event loop."""
        try:
            self._runner.run(self._opened_with.aclose())
        finally:
            self._runner.close()

    def play(self, cases: Sequence[Case], draw: Draw) -> list[Played]:
        """One conversation for each of `cases`, in order; a case that stands there again is its next sample.

        A conversation in which the user simulator fails breaks off there and says why; a judge that fails gives no
        verdict.

        Raises:
            StopWork: the budget is spent, or the user of interalign asked to stop.
            StorageError: the journal cannot be written.
            TrainingError: the template does not fit, or the policy draws nothing that can be used.
        """
        return self._runner.run(self._play(cases, draw))

    def take_seconds(self) -> dict[str, float]:
        """Seconds spent since the last call on `generation`, `user` and `judge`; those of calls side by side add up."""
        taken, self._seconds = self._seconds, {}
        return taken

    async def _play(self, cases: Sequence[Case], draw: Draw) -> list[Played]:
        if self._environment is None:
            self._environment = await self._opened_with.enter_async_context(self._open_environment())
        seats = await self._opened(cases)
        for turn in range(1, self._turns + 1):
            replied = self._replied(seats, turn, draw)
            seats = await all_or_first_error(self._onward(seat, last=turn == self._turns) for seat in replied)
        if self._asks:
            seats = await all_or_first_error(self._graded(seat) for seat in self._asked(seats, draw))
        return [seat.played for seat in seats]

    @property
    def _meets(self) -> Environment:
        if self._environment is None:
            raise ValueError("the environment is opened before the first conversation")
        return self._environment

    async def _opened(self, cases: Sequence[Case]) -> list[_Seat]:
        """All conversations with their first message, which those that play the same case share."""
        distinct = {case.number: case for case in cases}
        first = await all_or_first_error(self._open(case) for case in distinct.values())
        seats = dict(zip(distinct, first, strict=True))
        samples: Counter[int] = Counter()
        opened = []
        for case in cases:
            seat = seats[case.number]
            conversation = seat.conversation.model_copy(update={"sample": samples[case.number]})
            opened.append(replace(seat, played=replace(seat.played, conversation=conversation)))
            samples[case.number] += 1
        return opened

    async def _open(self, case: Case) -> _Seat:
        seat = _Seat(Played(Conversation(case=case, sample=0), self._template.opening("")))
        try:
            said = await self._speak(seat.conversation)
        except (StopWork, StorageError):
            raise
        except InteralignError as error:
            return seat.failed(error)
        return _Seat(replace(seat.played, transcript=self._template.opening(said.content)), said)

    def _replied(self, seats: Sequence[_Seat], turn: int, draw: Draw) -> list[_Seat]:
        """All conversations with the policy's reply, drawn in one batch."""
        waiting = [seat for seat in seats if seat.is_open]
        if not waiting:
            return list(seats)
        with self._timed("generation"):
            drawn = draw(
                [seat.played.transcript.context for seat in waiting],
                [self._derived(seat.conversation, turn) for seat in waiting],
            )
        replied = iter([self._with_reply(*one) for one in zip(waiting, drawn, strict=True)])
        return [next(replied) if seat.is_open else seat for seat in seats]

    def _with_reply(self, seat: _Seat, drawn: Drawn) -> _Seat:
        if seat.said is None:
            raise ValueError("a conversation that waits for a reply has a message to reply to")
        exchange = Exchange(
            user=seat.said.content,
            disclosure=seat.said.disclosure,
            reply=self._template.read(drawn.tokens),
            tokens=len(drawn.tokens),
            cut=not drawn.ended,
        )
        return seat.with_exchange(exchange, seat.played.transcript.drawn(drawn.tokens, drawn.logprobs))

    async def _onward(self, seat: _Seat, *, last: bool) -> _Seat:
        """The conversation with the verdict on its last reply and, unless it was the last turn, the next message."""
        if not seat.is_open:
            return seat
        if last:
            return seat.judged(await self._verdict(seat.conversation))
        verdict, spoken = await asyncio.gather(self._verdict(seat.conversation), self._spoken(seat))
        return spoken.judged(verdict)

    async def _spoken(self, seat: _Seat) -> _Seat:
        try:
            said = await self._speak(seat.conversation)
        except (StopWork, StorageError):
            raise
        except InteralignError as error:
            return seat.failed(error)
        transcript = self._template.answered(seat.played.transcript, seat.conversation.chat, said.content)
        return _Seat(replace(seat.played, transcript=transcript), said)

    async def _speak(self, conversation: Conversation) -> UserTurn:
        case, chat = conversation.case, conversation.chat
        # One seed for the whole group and all turns: the plan of a rule-based user is the same for all its samples.
        seed = derive_seed(self._seed, case.persona.id, case.number, "user")
        place = Place(case.persona, chat, conversation.ledger, seed, at=len(chat))
        with self._timed("user"):
            return await self._noted(place, await speak(place, self._meets, []))

    async def _noted(self, place: Place, said: UserTurn) -> UserTurn:
        """The user's message with what an inducer finds disclosed in it."""
        if self._meets.inducer is None:
            return said
        after = place.spoken(said)
        try:
            found = await self._meets.inducer.induce(place.persona, after.chat, after.ledger, place.derived("inducer"))
        except RoleFailure:
            return said
        earlier = set(stated_so_far(place.ledger))
        stated = tuple(one for one in found.stated if one not in earlier)
        return said.model_copy(update={"disclosure": said.disclosure.model_copy(update={"stated": stated})})

    async def _verdict(self, conversation: Conversation) -> Verdict | None:
        *chat, reply = conversation.chat
        seed = self._derived(conversation, len(conversation.exchanges), "judge")
        try:
            with self._timed("judge"):
                return await self._meets.judge.score(
                    conversation.case.persona, tuple(chat), reply.content, conversation.ledger, seed
                )
        except (StopWork, StorageError):
            raise
        except InteralignError:
            return None

    def _asked(self, seats: Sequence[_Seat], draw: Draw) -> list[_Seat]:
        """All conversations that came to their end, with what the policy says of the user; their tokens unchanged."""
        asked = [seat for seat in seats if seat.is_open]
        if not asked:
            return list(seats)
        prompts = [
            self._template.answered(seat.played.transcript, seat.conversation.chat, packaged("induce")).context
            for seat in asked
        ]
        with self._timed("generation"):
            drawn = draw(prompts, [self._derived(seat.conversation, "off the record") for seat in asked])
        texts = iter([self._template.read(one.tokens) for one in drawn])
        return [_with_statement(seat, next(texts)) if seat.is_open else seat for seat in seats]

    async def _graded(self, seat: _Seat) -> _Seat:
        """The conversation with what a grader makes of the policy's statement, where there are both."""
        conversation, grader = seat.conversation, self._meets.grader
        if grader is None or conversation.stated is None:
            return seat
        statements, disclosed = statements_in(conversation.stated), disclosed_texts(conversation.ledger)
        seed = self._derived(conversation, "grader")
        try:
            with self._timed("judge"):
                marks = await grader.grade(conversation.case.persona, disclosed, statements, seed)
        except (StopWork, StorageError):
            raise
        except InteralignError:
            marks = None
        induced = None if marks is None else graded(marks, len(statements), len(disclosed))
        told = conversation.model_copy(update={"induced": induced})
        return replace(seat, played=replace(seat.played, conversation=told))

    def _derived(self, conversation: Conversation, *parts: str | int) -> int:
        case = conversation.case
        return derive_seed(self._seed, case.persona.id, case.number, conversation.sample, *parts)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            self._seconds[what] = self._seconds.get(what, 0.0) + perf_counter() - start


def _with_statement(seat: _Seat, text: str) -> _Seat:
    conversation = seat.conversation.model_copy(update={"stated": text})
    return replace(seat, played=replace(seat.played, conversation=conversation))
