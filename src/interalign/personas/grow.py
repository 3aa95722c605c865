"""Growing one pool: a language model writes new descriptions, the filter decides, until a stop rule says enough.

What always holds:

* the pool depends on the seed and the answers only. Calls run side by side, but each is filtered in its turn, and call
  `i` sees the pool as it was after call `i - in_flight`;
* every candidate and every call is a row: what became of it and why. An answer that cannot be read is a counted call;
* growing again with the same journal pays for nothing twice, save for answers that are given up (`barren_from`). A
  call that fails is asked again in its turn and, if it fails again, ends the growth: going on without it would make a
  pool that no resumed run could repeat. A call that is refused would be refused again, so it is a row.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from interalign.errors import InputError, ModelError, StopWork
from interalign.llm.model import Answer, ChatModel, Request, Sampling
from interalign.messages import Value
from interalign.personas.coverage import Outline, draw_outlines, shown
from interalign.personas.description import PLURALS, Description, Kind
from interalign.personas.filter import Duplicate, Screening, SemanticFilter, Threshold
from interalign.personas.generate import Draft, Unreadable, ask, ask_again, instructions, read_answer
from interalign.personas.wellformed import LANGUAGES, Fault, FormConfig, fault
from interalign.run import derive_seed

__all__ = [
    "CallRow",
    "CandidateRow",
    "GrowConfig",
    "Grown",
    "Rejection",
    "Stop",
    "StopConfig",
    "barren_from",
    "first_request",
    "grow_pool",
]

Rejection: TypeAlias = Fault | Duplicate | Literal["not asked for", "target reached"]
Stop: TypeAlias = Literal["target", "saturated", "budget", "unreadable"]

_REFUSALS = 3
"""At least so many calls in a row must be refused, if there are so many, before it is no matter of single calls."""
_SHOWN_CHARACTERS = 60


class StopConfig(Value):
    """When a pool is large enough. What comes first ends the growth, and the report says which it was."""

    target: Annotated[int, Field(ge=1)]
    """Descriptions in the pool, seeds among them."""
    min_acceptance: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """The pool is saturated when less than this share of the last candidates was new."""
    window: Annotated[int, Field(ge=1)] = 10
    """Over how many calls that share is taken."""
    max_calls: Annotated[int, Field(ge=1)] = 1000
    """The budget in calls; a repair belongs to its call."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """The budget in tokens, read and written, as the model counts them; one that does not count is held by `max_calls`.
    Calls in flight are finished, so a little more may be spent."""


class GrowConfig(Value):
    """How candidates are asked for. The defaults are the paper's, save for the coverage plan."""

    examples: Annotated[int, Field(ge=0)] = 5
    """Pool members that a call shows."""
    candidates: Annotated[int, Field(ge=1, le=100)] = 20
    """New descriptions that a call asks for."""
    coverage: bool = True
    """Ask for what the pool lacks, one outline a candidate; off leaves the model free, as in the paper."""
    in_flight: Annotated[int, Field(ge=1)] = 8
    """Calls that run side by side. Part of the outcome: a call sees the pool of this many calls before it."""
    sampling: Sampling = Sampling(max_tokens=8192, temperature=0.8)
    """Of the generator."""
    form: FormConfig = FormConfig()
    """What a candidate must look like."""


class CandidateRow(Value):
    """One candidate and what became of it."""

    kind: Kind
    call: int | None
    """None for a seed."""
    position: int
    id: str
    text: str
    verdict: Literal["seed", "accepted", "rejected"]
    reason: Rejection | None = None
    """Why it was rejected; for a seed that stays, how it offends the threshold."""
    nearest: str | None = None
    score: float | None = None
    asked: Outline = Field(default_factory=dict)
    shows: Outline = Field(default_factory=dict)


class CallRow(Value):
    """One call and what it brought."""

    kind: Kind
    call: int
    outcome: Literal["read", "read after repair", "unreadable", "refused"]
    problem: str | None = None
    items: int = 0
    missing: int = 0
    accepted: int = 0
    size: int = 0
    """The pool after it."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Grown(Value):
    """A pool, how it came to be, and why it ended."""

    kind: Kind
    pool: tuple[Description, ...]
    candidates: tuple[CandidateRow, ...]
    calls: tuple[CallRow, ...]
    stop: Stop
    threshold: Threshold
    encoder: str


async def grow_pool(
    seeds: Sequence[Description],
    model: ChatModel,
    pool: SemanticFilter,
    config: GrowConfig,
    stop: StopConfig,
    *,
    seed: int,
    on_call: Callable[[int, int], None] | None = None,
    given_up: Sequence[int] = (),
) -> Grown:
    """Grow a pool.

    Args:
        seeds: At least one, of the pool's kind. They stay, however near to each other; repeated texts are dropped.
        model: The generator.
        pool: An empty filter; it says which candidates enter, and holds the pool afterwards.
        config: How candidates are asked for.
        stop: When to end.
        seed: Examples, outlines and answers derive from it.
        on_call: Told the size of the pool and the number of calls after each call.
        given_up: What `barren_from` said of earlier growths: from each of these calls on, other answers are asked for.

    Raises:
        InputError: there are no seeds, or they are of another kind.
        ModelError: the model failed a call twice, or refused several in a row. Answers that came are in the journal, if
            there is one, and growing again goes on from there.
        StopWork: no further call may be made. What is in flight is finished before.
    """
    if not seeds or any(one.kind != pool.kind for one in seeds):
        what = "There are no seeds" if not seeds else "Not all seeds are"
        raise InputError(
            f"{what} of the kind {pool.kind}.",
            mend="give a file of one kind, or the package's seeds.",
        )
    growth = _Growth(pool.kind, pool, config, stop, seed, tuple(given_up))
    await asyncio.to_thread(growth.plant, seeds)
    reason = await _run(growth, model, on_call)
    return Grown(
        kind=pool.kind,
        pool=pool.members,
        candidates=tuple(growth.candidates),
        calls=tuple(growth.calls),
        stop=reason,
        threshold=pool.threshold,
        encoder=pool.encoder_name,
    )


def barren_from(grown: Grown) -> int | None:
    """The call from which on nothing entered the pool, where that makes the growth none to keep.

    So it is when its last answers could not be read, and when none of its calls brought anything.
    """
    fruitful = [row.call for row in grown.calls if row.accepted]
    if not grown.calls or (fruitful and grown.stop != "unreadable"):
        return None
    return fruitful[-1] + 1 if fruitful else 0


def first_request(seeds: Sequence[Description], config: GrowConfig, seed: int) -> Request:
    """The first request of a growth from these seeds, for whoever wants to read it."""
    so_far: dict[str, Counter[str]] = {}
    for one in seeds:
        _count(so_far, shown(one.kind, one.text), 1)
    return _call(seeds[0].kind, seeds, so_far, config, seed, 0, 0).request


async def _run(growth: _Growth, model: ChatModel, on_call: Callable[[int, int], None] | None) -> Stop:
    flying: deque[tuple[_Call, asyncio.Task[_Heard]]] = deque()
    try:
        while True:
            while growth.wants_a_call(len(flying)):
                call = growth.next_call()
                flying.append((call, asyncio.create_task(_hear(growth.kind, call, model))))
            if not flying:
                return growth.reason
            call, task = flying.popleft()
            try:
                heard = await task
            except ModelError:
                heard = await _hear_again(growth, call, model)
            await asyncio.to_thread(growth.take, call, heard)
            if on_call is not None:
                on_call(len(growth.filter), len(growth.calls))
    except StopWork:
        # What has begun is paid for.
        await asyncio.gather(*(task for _, task in flying), return_exceptions=True)
        raise
    finally:
        for _, task in flying:
            task.cancel()
        await asyncio.gather(*(task for _, task in flying), return_exceptions=True)


@dataclass(frozen=True)
class _Call:
    """What was asked."""

    number: int
    request: Request
    outlines: tuple[Outline, ...]
    count: int


def _call(
    kind: Kind,
    members: Sequence[Description],
    so_far: Mapping[str, Mapping[str, int]],
    config: GrowConfig,
    seed: int,
    number: int,
    given_up: int,
) -> _Call:
    """What is asked when the pool has these members and its descriptions, with those asked for, show these levels.

    `given_up` is how often answers to this call were given up before.
    """
    random = Random(derive_seed(seed, "examples", kind, number))
    examples = random.sample(members, min(config.examples, len(members)))
    outlines: tuple[Outline, ...] = ()
    if config.coverage:
        levels = {name: dict(count) for name, count in so_far.items()}
        outlines = draw_outlines(kind, config.candidates, levels, derive_seed(seed, "outlines", kind, number))
    request = ask(
        kind,
        [one.text for one in examples],
        outlines,
        config.candidates,
        language=LANGUAGES[config.form.language],
        sampling=config.sampling,
        seed=derive_seed(seed, "generate", kind, number, *([given_up] if given_up else [])),
    )
    return _Call(number, request, outlines, config.candidates)


@dataclass(frozen=True)
class _Heard:
    """What came back; `drafts` is None when it could not be read."""

    drafts: list[Draft] | None
    answers: tuple[Answer, ...]
    problem: str | None = None
    refused: bool = False


async def _hear(kind: Kind, call: _Call, model: ChatModel) -> _Heard:
    """What the model says to a call; raises ModelError when asking again may help."""
    answers: list[Answer] = []
    problem: str | None = None
    request = call.request
    for _ in range(2):
        try:
            answer = await model.complete(request)
        except ModelError as error:
            if not error.refused:
                raise
            return _Heard(None, tuple(answers), problem or str(error), refused=not answers)
        answers.append(answer)
        try:
            return _Heard(read_answer(kind, answer.text, call.count), tuple(answers), problem)
        except Unreadable as error:
            problem = str(error)
        if answer.finish == "length":
            # Asked again it would be cut again.
            return _Heard(None, tuple(answers), f"{problem}; it was cut off at {request.sampling.max_tokens} tokens")
        request = ask_again(kind, call.request, answer.text, problem)
    return _Heard(None, tuple(answers), f"{problem}; it begins {answers[-1].text[:_SHOWN_CHARACTERS]!r}")


async def _hear_again(growth: _Growth, call: _Call, model: ChatModel) -> _Heard:
    # Now that it is its turn: going on without it would make another pool than a resumed run.
    try:
        return await _hear(growth.kind, call, model)
    except ModelError as error:
        where = f"Call {call.number} for {PLURALS[growth.kind]} failed twice; the pool has {len(growth.filter)}."
        raise ModelError(
            f"{where} {error.what}",
            mend="run the same command again when the model answers: what it said so far is kept.",
        ) from error


@dataclass
class _Growth:
    """The state of a growth between two calls."""

    kind: Kind
    filter: SemanticFilter
    config: GrowConfig
    stop: StopConfig
    seed: int
    given_up: tuple[int, ...]
    candidates: list[CandidateRow] = field(default_factory=list)
    calls: list[CallRow] = field(default_factory=list)
    started: int = 0
    ended: Stop | None = None
    shown: dict[str, Counter[str]] = field(default_factory=dict)
    """Levels that the pool shows."""
    pending: dict[str, Counter[str]] = field(default_factory=dict)
    """Levels that calls in flight ask for."""

    def plant(self, seeds: Sequence[Description]) -> None:
        for position, (description, screening) in enumerate(zip(seeds, self.filter.keep(seeds), strict=True)):
            shows = shown(self.kind, description.text)
            if screening.entered:
                _count(self.shown, shows, 1)
            self.candidates.append(
                CandidateRow(
                    kind=self.kind,
                    call=None,
                    position=position,
                    id=description.id,
                    text=description.text,
                    verdict="seed" if screening.entered else "rejected",
                    reason=screening.duplicate,
                    nearest=screening.nearest,
                    score=screening.score,
                    shows=shows,
                )
            )
        if len(self.filter) >= self.stop.target:
            self.ended = "target"

    @property
    def reason(self) -> Stop:
        """Why it ended; to be asked when nothing is in flight and no further call is wanted."""
        return self.ended or "budget"

    def wants_a_call(self, flying: int) -> bool:
        if self.ended or self.started >= self.stop.max_calls or flying >= self.config.in_flight:
            return False
        # What is in flight may suffice; a call that was not needed is money lost.
        expected = len(self.filter) + flying * self.config.candidates * self._acceptance(default=1.0)
        return flying == 0 or expected < self.stop.target

    def _window(self) -> list[CallRow]:
        """The last calls that were answered."""
        return [row for row in self.calls if row.outcome != "refused"][-self.stop.window :]

    def _acceptance(self, *, default: float) -> float:
        last = self._window()
        items = sum(row.items for row in last)
        return sum(row.accepted for row in last) / items if items else default

    def next_call(self) -> _Call:
        number = self.started
        self.started += 1
        so_far = dict(self.shown)
        for name, levels in self.pending.items():
            so_far[name] = so_far.get(name, Counter()) + levels
        given_up = sum(first <= number for first in self.given_up)
        call = _call(self.kind, self.filter.members, so_far, self.config, self.seed, number, given_up)
        for outline in call.outlines:
            _count(self.pending, outline, 1)
        return call

    def take(self, call: _Call, heard: _Heard) -> None:
        """Filter what a call brought, write the rows, and see whether to go on."""
        for outline in call.outlines:
            _count(self.pending, outline, -1)
        drafts = heard.drafts or []
        accepted = self._filter(call, drafts)
        outcome: Literal["read", "read after repair", "unreadable", "refused"] = (
            "refused" if heard.refused else "unreadable"
        )
        if heard.drafts is not None:
            outcome = "read" if len(heard.answers) == 1 else "read after repair"
        self.calls.append(
            CallRow(
                kind=self.kind,
                call=call.number,
                outcome=outcome,
                problem=heard.problem,
                items=len(drafts),
                missing=max(0, call.count - len(drafts)) if heard.drafts is not None else 0,
                accepted=accepted,
                size=len(self.filter),
                prompt_tokens=sum(answer.usage.prompt_tokens for answer in heard.answers),
                completion_tokens=sum(answer.usage.completion_tokens for answer in heard.answers),
            )
        )
        self._stop_where_all_is_refused()
        self.ended = self.ended or self._enough()

    def _filter(self, call: _Call, drafts: Sequence[Draft]) -> int:
        """Write a row for each draft; returns how many entered the pool."""
        told = instructions(self.kind, LANGUAGES[self.config.form.language])
        faults: list[Rejection | None] = [
            "not asked for" if position >= call.count else fault(draft.text, self.config.form, told)
            for position, draft in enumerate(drafts)
        ]
        described = [
            # A text without a word would be no description, and is a fault already.
            Description(kind=self.kind, text=draft.text or " ", origin="generated")
            for draft in drafts
        ]
        sound = [one for one, found in zip(described, faults, strict=True) if found is None]
        screened = iter(self.filter.screen(sound, room=self.stop.target - len(self.filter)))
        accepted = 0
        for position, (description, found) in enumerate(zip(described, faults, strict=True)):
            screening = next(screened) if found is None else None
            entered = screening is not None and screening.entered
            row = self._row(call, position, drafts[position], description, screening, found)
            self.candidates.append(row)
            if entered:
                accepted += 1
                _count(self.shown, row.shows, 1)
        return accepted

    def _row(
        self,
        call: _Call,
        position: int,
        draft: Draft,
        description: Description,
        screening: Screening | None,
        found: Rejection | None,
    ) -> CandidateRow:
        entered = screening is not None and screening.entered
        reason = found or (screening.duplicate if screening else None)
        known = draft.number is not None and draft.number <= len(call.outlines)
        return CandidateRow(
            kind=self.kind,
            call=call.number,
            position=position,
            id=description.id,
            text=draft.text,
            verdict="accepted" if entered else "rejected",
            reason=None if entered else reason or "target reached",
            nearest=screening.nearest if screening else None,
            score=screening.score if screening else None,
            asked=call.outlines[draft.number - 1] if known and draft.number else {},
            shows=shown(self.kind, draft.text),
        )

    def _stop_where_all_is_refused(self) -> None:
        enough = min(max(_REFUSALS, self.config.in_flight), self.stop.max_calls)
        last = self.calls[-enough:]
        if len(last) == enough and all(row.outcome == "refused" for row in last):
            raise ModelError(
                f"The last {len(last)} call(s) for {PLURALS[self.kind]} were refused; the pool has {len(self.filter)}. "
                f"The model said: {last[-1].problem}",
                mend="check the model and its sampling in the recipe.",
            )

    def _enough(self) -> Stop | None:
        if len(self.filter) >= self.stop.target:
            return "target"
        spent = sum(row.prompt_tokens + row.completion_tokens for row in self.calls)
        if self.stop.max_tokens is not None and spent >= self.stop.max_tokens:
            return "budget"
        last = self._window()
        if len(last) < self.stop.window:
            return None
        if not any(row.items for row in last):
            return "unreadable"
        return "saturated" if self._acceptance(default=0.0) < self.stop.min_acceptance else None


def _count(levels: dict[str, Counter[str]], outline: Mapping[str, str], by: int) -> None:
    for name, level in outline.items():
        levels.setdefault(name, Counter())[level] += by
