"""One turn of a conversation: the user speaks, the inducer listens, responders answer side by side, the judge judges.

Only what needs another answer waits for it: the inducer and the replies that know nothing of the user start together
when the user has spoken, and the tailored reply follows the inducer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import starmap
from typing import Protocol

from interalign.conversations.checks import ChecksConfig, faults
from interalign.conversations.tree import Fault
from interalign.errors import InteralignError, StopWork
from interalign.llm.thinking import without_thinking
from interalign.messages import Chat, Message
from interalign.personas.persona import Persona
from interalign.roles.inducer import Impression, Inducer, RuleInducer
from interalign.roles.judge import Judge, Judgement, RuleJudge, SiblingJudge, Verdict
from interalign.roles.ledger import Disclosure, stated_so_far
from interalign.roles.llm.player import RoleFailure, all_or_first_error
from interalign.roles.responder import Reply, Responder, RuleResponder, Source, impression_fit, views
from interalign.roles.user import RuleUser, UserSimulator, UserTurn
from interalign.run import derive_seed

__all__ = [
    "Cast",
    "Checker",
    "Place",
    "Simulator",
    "SimulatorFault",
    "Turn",
    "Writer",
    "judge_turn",
    "speak",
    "take_turn",
]

_ATTEMPTS = 4


class SimulatorFault(InteralignError):
    """The user simulator gave no turn that passes the checks, however often it was asked."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        tries = len({fault.attempt for fault in faults})
        names = ", ".join(dict.fromkeys(fault.check for fault in faults))
        super().__init__(f"The user simulator gave no usable message in {tries} tries: {names}.")


class Writer(Protocol):
    """A language model in the responder's role."""

    async def answer(self, chat: Chat, impression: Impression | None, seed: int) -> Reply:
        """Answer the last message of `chat`; `impression` is what the reply may use of the user."""
        ...


class Checker(Protocol):
    """Anything that can tell what is wrong with a user turn."""

    async def faults(self, persona: Persona, chat: Chat, said: str, seed: int) -> Sequence[str]:
        """The names of the faults of `said`, the user's message after `chat`; empty for a good one."""
        ...


class Simulator(Protocol):
    """What a cast needs for the user's part."""

    @property
    def user(self) -> UserSimulator:
        """Who plays the persona."""
        ...

    @property
    def checks(self) -> ChecksConfig | None:
        """What a message is checked for; None: nothing."""
        ...

    @property
    def checker(self) -> Checker | None:
        """Who looks again at what the checks have let pass."""
        ...


@dataclass(frozen=True)
class Cast:
    """Who plays which role. The default is rule-based throughout; `policy` adds replies of a chat model."""

    user: UserSimulator = field(default_factory=RuleUser)
    responder: Responder = field(default_factory=RuleResponder)
    judge: Judge | SiblingJudge = field(default_factory=RuleJudge)
    policy: Responder | None = None
    inducer: Inducer = field(default_factory=RuleInducer)
    writers: Mapping[Source, Writer] = field(default_factory=dict)
    """Language models that write the replies of a source, in the place of `responder`."""
    checks: ChecksConfig | None = None
    """What user turns are checked for. None for rule-based users, which have no such faults."""
    checker: Checker | None = None
    """Looks again at what the checks have let pass."""


@dataclass(frozen=True)
class Place:
    """Where in a tree a turn is taken: with whom, after which chat, and under which seed."""

    persona: Persona
    chat: Chat
    ledger: tuple[Disclosure, ...]
    seed: int
    """Of the conversation."""
    at: int
    """The index that the user's message gets in the tree."""
    tried: int = 0
    """How many messages of the user were refused here before: the next one must be another."""
    unanswered: int = 0
    """How often a responder was asked here before and gave nothing: asked the same, it would give nothing again."""

    def derived(self, *parts: str) -> int:
        """A seed of this turn's own."""
        return derive_seed(self.seed, self.persona.id, self.at, *parts)

    def spoken(self, user: UserTurn) -> Place:
        """The same place after the user has spoken."""
        chat = (*self.chat, Message(role="user", content=user.content))
        return replace(self, chat=chat, ledger=(*self.ledger, user.disclosure))


@dataclass(frozen=True)
class Turn:
    """What was said in a turn, before the judge."""

    user: UserTurn
    replies: tuple[tuple[Source, Reply], ...]


async def take_turn(
    place: Place, cast: Cast, sources: Sequence[Source], policy_samples: int, found: list[Fault]
) -> Turn:
    """The user's next message and the replies to it, all different: equal siblings would teach nothing.

    Args:
        place: Where.
        cast: Who plays.
        sources: Who replies.
        policy_samples: As in the recipe.
        found: Takes up what is refused or cannot be read, also when the turn fails in the end.

    Raises:
        SimulatorFault: no try of the user's message passed the checks.
        InteralignError: a role failed.
    """
    user = await speak(place, cast, found)
    replying = _Replying(place.spoken(user), cast, sources, policy_samples, found)
    try:
        replies = await replying.replies()
        impression = await replying.impression()
    except StopWork:
        await replying.settled()
        raise
    finally:
        replying.close()
    earlier = set(stated_so_far(place.ledger))
    stated = tuple(one for one in impression.stated if one not in earlier)
    disclosure = user.disclosure.model_copy(update={"stated": stated}) if stated else user.disclosure
    return Turn(user.model_copy(update={"disclosure": disclosure}), tuple(replies))


async def judge_turn(place: Place, cast: Cast, user: UserTurn, texts: Sequence[str]) -> Judgement:
    """What the judge says of the replies to what the user said at `place`."""
    after, judge = place.spoken(user), cast.judge
    if isinstance(judge, SiblingJudge):
        return await judge.judge(place.persona, after.chat, texts, after.ledger, place.derived("judge"))

    async def verdict(sibling: int, text: str) -> Verdict | None:
        try:
            return await judge.score(
                place.persona, after.chat, text, after.ledger, place.derived("judge", str(sibling))
            )
        except RoleFailure:
            return None

    return Judgement(verdicts=tuple(await all_or_first_error(starmap(verdict, enumerate(texts)))))


async def speak(place: Place, cast: Simulator, found: list[Fault]) -> UserTurn:
    """The user's next message: the first try that the checks let pass; `found` takes up what is refused.

    Raises:
        SimulatorFault: no try passed.
        ModelError: there is no usable answer.
    """
    checks, number = cast.checks, len(place.ledger) + 1
    for attempt in range(place.tried, place.tried + 1 + (checks.retries if checks else 0)):
        # The first try has the conversation's seed, under which two models meet the same plan of a rule-based user.
        seed = place.derived("user", str(attempt)) if attempt else place.seed
        try:
            user = await cast.user.speak(place.persona, place.chat, place.ledger, seed)
        except RoleFailure as error:
            found.append(Fault(turn=number, check="unreadable", attempt=attempt, text=str(error)))
            continue
        names: Sequence[str] = faults(place.persona, place.chat, user.content, checks) if checks else ()
        if not names and cast.checker is not None:
            names = await _second_look(place, cast.checker, user, attempt, found)
        if not names:
            return user
        found += [Fault(turn=number, check=name, attempt=attempt, text=user.content) for name in names]
    raise SimulatorFault(found)


async def _second_look(
    place: Place, checker: Checker, user: UserTurn, attempt: int, found: list[Fault]
) -> Sequence[str]:
    try:
        return await checker.faults(place.persona, place.chat, user.content, place.derived("checker", str(attempt)))
    except RoleFailure as error:
        number = len(place.ledger) + 1
        found.append(Fault(role="checker", turn=number, check="unreadable", attempt=attempt, text=str(error)))
        return ()


class _Replying:
    """The replies to one user turn, and the impression that the tailored ones wait for."""

    def __init__(
        self, place: Place, cast: Cast, sources: Sequence[Source], policy_samples: int, found: list[Fault]
    ) -> None:
        self._place = place
        self._cast = cast
        self._sources = sources
        self._samples = policy_samples
        self._found = found
        self._impression = asyncio.create_task(self._induce())
        self._sampled = asyncio.create_task(self._policy_replies())
        for task in (self._impression, self._sampled):
            # A failure may come when nobody waits any more; asyncio would then complain that nobody looked.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def close(self) -> None:
        """Stop what nobody waits for any more."""
        self._impression.cancel()
        self._sampled.cancel()

    async def settled(self) -> None:
        """Wait for what has begun, since it is paid for."""
        await asyncio.gather(self._impression, self._sampled, return_exceptions=True)

    async def impression(self) -> Impression:
        """What has been concluded of the user."""
        return await self._impression

    async def replies(self) -> list[tuple[Source, Reply]]:
        """One reply for each source, those left out that stayed equal to another or could not be had."""
        first = await all_or_first_error(self._reply(sibling, 0) for sibling in range(len(self._sources)))
        replies: list[tuple[Source, Reply]] = []
        for sibling, source in enumerate(self._sources):
            reply, attempt = first[sibling], 1
            said = {other.content for _, other in replies}
            while reply is not None and reply.content in said and attempt < _ATTEMPTS:
                reply, attempt = await self._reply(sibling, attempt), attempt + 1
            if reply is not None and reply.content not in said:
                replies.append((source, reply))
        if not replies:
            raise RoleFailure("No responder gave a reply.")
        return replies

    async def _reply(self, sibling: int, attempt: int) -> Reply | None:
        source = self._sources[sibling]
        asked = self._place.unanswered + attempt
        seed = self._place.derived(source, str(sibling), str(asked))
        writer = self._cast.writers.get(source)
        if writer is None:
            return Reply(content=await self._by_rules(source, seed, sampled=self._is_first(sibling) and not attempt))
        impression = await self._impression if source == "tailored" else None
        try:
            reply = await writer.answer(self._place.chat, impression, seed)
            if not reply.content:
                raise RoleFailure(f"{reply.model} gave an empty reply, or nothing but thinking.")
        except RoleFailure as error:
            self._note(source, error, asked)
            return None
        return reply

    def _is_first(self, sibling: int) -> bool:
        return self._sources.index(self._sources[sibling]) == sibling

    async def _by_rules(self, source: Source, seed: int, *, sampled: bool) -> str:
        place = self._place
        topic = place.ledger[-1].topic
        known = views(place.persona, place.ledger, place.derived("view"))
        known["tailored"] = await self._impression
        composed = await self._cast.responder.respond(place.chat, topic, known[source], seed)
        candidates = [*((await self._sampled).get(source, []) if sampled else []), composed]
        if source != "tailored":
            return candidates[0]
        # The choice sees what the responder may know, never the persona: a tailored reply must be honest.
        return max(candidates, key=lambda reply: impression_fit(reply, topic, known[source]))

    async def _induce(self) -> Impression:
        place = self._place
        try:
            return await self._cast.inducer.induce(place.persona, place.chat, place.ledger, place.derived("inducer"))
        except RoleFailure as error:
            self._note("inducer", error, 0)
            return Impression(stated=stated_so_far(place.ledger))

    async def _policy_replies(self) -> dict[Source, list[str]]:
        """The policy's own replies: one that sees the chat only, and candidates that are told the impression."""
        policy, count, place = self._cast.policy, self._samples, self._place
        if policy is None or count == 0:
            return {}
        chat, topic = place.chat, place.ledger[-1].topic
        told: list[Impression | None] = [None, *[await self._impression] * (count - 1)]
        replies = await all_or_first_error(
            policy.respond(chat, topic, view, place.derived("policy", str(sample))) for sample, view in enumerate(told)
        )
        first, *others = map(without_thinking, replies)
        return {"generic": [first] if first else [], "tailored": [other for other in others if other]}

    def _note(self, role: str, error: RoleFailure, attempt: int) -> None:
        fault = Fault(role=role, turn=len(self._place.ledger), check="unreadable", attempt=attempt, text=str(error))
        self._found.append(fault)
