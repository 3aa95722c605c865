"""What a run has used, by role and model, and the budget that it must keep to.

What always holds:

* an answer is counted once for a role, whether it was paid for just now or comes from the journal, so that the account
  of a run that was resumed is that of a run that went through;
* counts are whole tokens and money is reckoned from their sums, so that the order of the calls changes nothing;
* money is None, never 0, where a price is not known;
* with a budget, a new call is sent only while there is room for the most that it may cost. The last one may cost more
  than is left: the budget is exceeded by less than that one call, as long as servers keep to `max_tokens`;
* with a budget, what is worth its money only when it is whole (`Account.whole`) goes on, or begins, only while what is
  left covers it and all that are further on; the one furthest on always goes.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from interalign.errors import BudgetSpent, InputError
from interalign.llm.journal import Journal
from interalign.llm.limits import prompt_estimate, text_estimate
from interalign.llm.model import Answer, ChatModel, Request, Usage, call_key
from interalign.llm.prices import FREE, Price, Prices
from interalign.messages import Value

__all__ = ["Account", "Budget", "RoleUsage", "merged"]

_BUDGET = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(k|m|b)?\s*(usd|tokens?)\s*", re.IGNORECASE)
_PAID = 1
"""The bit of a call that is paid for."""
_TIMES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}


class Budget(Value):
    """The most that a run may use: either money or tokens."""

    usd: Annotated[float, Field(gt=0)] | None = None
    tokens: Annotated[int, Field(gt=0)] | None = None
    """Read and written together, of every model whether it costs money or not."""

    @model_validator(mode="after")
    def _check_one(self) -> Budget:
        if (self.usd is None) == (self.tokens is None):
            raise ValueError("either usd or tokens is needed")
        return self

    def __str__(self) -> str:
        return _dollars(self.usd) if self.usd is not None else f"{self.tokens:,} tokens"

    @classmethod
    def parse(cls, text: str) -> Budget:
        """The budget in words: "20usd", "2.5 USD", "3000000 tokens", "3M tokens".

        Raises:
            InputError: it says neither, or nothing.
        """
        mend = 'write "20usd" or "3M tokens".'
        found = _BUDGET.fullmatch(text)
        number, times, unit = found.groups() if found else ("0", None, "")
        in_money = unit.lower() == "usd"
        if found is None or (in_money and times):
            raise InputError(f"The budget {text!r} is neither money nor tokens.", mend=mend)
        amount = Decimal(number) * _TIMES[(times or "").lower()]
        if not 0 < amount < Decimal(10) ** 15:
            raise InputError(f"The budget {text!r} is none to work with.", mend=mend)
        if in_money:
            return cls(usd=float(amount))
        if amount != int(amount):
            raise InputError(f"The budget {text!r} is no whole number of tokens.", mend=mend)
        return cls(tokens=int(amount))


class RoleUsage(Value):
    """What one role has used of one model."""

    role: str
    model: str
    """As the server names it."""
    calls: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    usd: float | None
    """None where the price is not known."""
    estimated: int = 0
    """How many of the calls the server did not count: their tokens are reckoned at four characters each."""


@dataclass
class _Sum:
    """A running sum of calls."""

    calls: int = 0
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    estimated: int = 0

    def add(self, usage: Usage, *, estimated: bool) -> None:
        self.calls += 1
        self.prompt += usage.prompt_tokens
        self.cached += usage.cached_tokens
        self.completion += usage.completion_tokens
        self.estimated += estimated

    def usd(self, price: Price) -> float:
        return price.usd(self.prompt, self.cached, self.completion)


@dataclass(frozen=True)
class _Bucket:
    """What is added up together: one price holds for all of it."""

    role: str
    asked: str
    """The name that the model was asked under; "" where the journal held it and does not tell."""
    served: str


@dataclass(eq=False)
class _Whole:
    """Work that is worth its money only when it is whole; `used` is what its answers are worth so far."""

    used: float = 0.0


_CURRENT: ContextVar[_Whole | None] = ContextVar("whole", default=None)
_LITTLE = 0.1
"""What is left to pay of work that has taken more than was expected, as a share of what was."""


class Account:
    """The account of a run. All models of the run that it meters belong to one event loop at a time.

    Args:
        budget: The most that may be used; None to count only.
        prices: What models cost.
        journal: The file of the run's journal. What it holds when the account is opened was paid for and counts against
            the budget. Without it, each start of a run has the whole budget.
        expected: What one `whole` may cost, in the budget's unit; those that end correct it. 0 where nobody knows.

    Raises:
        InputError: the journal cannot be read.
        StorageError: another process holds the journal.
    """

    def __init__(
        self, budget: Budget | None, prices: Prices, *, journal: Path | None = None, expected: float = 0
    ) -> None:
        self._budget = budget
        self._limit = math.inf if budget is None else float(budget.usd or budget.tokens or 0)
        self._prices = prices
        self._free: set[str] = set()
        self._known: dict[tuple[str, str], Price | None] = {}
        # A server may name its model otherwise than it is asked for, and old journals tell the server's name only.
        self._asked_as: dict[str, str] = {}
        self._sums: defaultdict[_Bucket, _Sum] = defaultdict(_Sum)
        self._paid: defaultdict[_Bucket, _Sum] = defaultdict(_Sum)
        self._seen: dict[int, int] = {}
        """By a call's mark, as bits: whether it is paid for, and each role that it was counted for."""
        self._roles: dict[str, int] = {}
        """The bit of each role."""
        self._reserved: dict[object, float] = {}
        self._taken = 0.0
        self._waiting: list[asyncio.Future[None]] = []
        self._wholes: list[_Whole] = []
        """Those that are open, in the order in which they were begun."""
        self._ended = (float(expected), 1 if expected else 0)
        """What those that have ended took, and how many they are; what was expected counts as one."""
        self._covered: frozenset[_Whole] | None = None
        if budget is not None and journal is not None and journal.exists():
            self._open(journal)
        self._spent = self._before = self._reckoned()

    def _open(self, journal: Path) -> None:
        with Journal.open(journal) as opened:
            for paid in opened.paid():
                self._seen[_mark(paid.key)] = _PAID
                self._paid[_Bucket("", paid.asked or "", paid.served)].add(paid.usage, estimated=paid.estimated)

    def __repr__(self) -> str:
        calls = sum(row.calls for row in self._sums.values())
        return f"Account({str(self._budget) if self._budget else None!r}, {calls} calls)"

    @property
    def budget(self) -> Budget | None:
        """The most that may be used."""
        return self._budget

    @property
    def spent(self) -> float:
        """What has been used of the budget, in its unit: dollars, or tokens."""
        return self._spent

    @property
    def left(self) -> float:
        """What is left of the budget, in its unit; infinite without one."""
        return max(0.0, self._limit - self._spent)

    @property
    def told(self) -> str:
        """What has been used of the budget, in words, and how much of that before this account was opened."""
        if self._before == self._spent:
            return f"{self._amount(self._spent)}, all before this command" if self._before else "nothing"
        before = f", {self._amount(self._before)} of it before this command" if self._before else ""
        return f"{self._amount(self._spent)}{before}"

    @contextmanager
    def whole(self) -> Iterator[None]:
        """What is asked in this block, and in tasks that it starts, is worth its money only when it is whole.

        Where the budget does not cover all that are open, those wait that are the least far on, so that the money ends
        in whole work. What comes from the journal waits for nothing.
        """
        one = _Whole()
        token = _CURRENT.set(one)
        self._wholes.append(one)
        self._covered = None
        try:
            yield
            self._ended = (self._ended[0] + one.used, self._ended[1] + 1)
        finally:
            self._wholes.remove(one)
            _CURRENT.reset(token)
            self._wake()

    def _is_covered(self) -> bool:
        """Whether what asks now is among the work that what is left covers."""
        one = _CURRENT.get()
        if self._budget is None or one is None:
            return True
        if self._covered is None:
            self._covered = frozenset(self._as_far_as_it_goes())
        return one in self._covered

    def _as_far_as_it_goes(self) -> Iterator[_Whole]:
        sum_, count = self._ended
        cost = sum_ / count if count else 0.0
        left = self.left
        for place, one in enumerate(sorted(self._wholes, key=lambda one: -one.used)):
            left -= max(cost - one.used, _LITTLE * cost)
            if place and left < 0:
                return
            yield one

    @property
    def tokens(self) -> int:
        """Tokens read and written, by all roles together."""
        return sum(row.prompt + row.completion for row in self._sums.values())

    @property
    def usd(self) -> float | None:
        """Money of all roles together; None where a price is not known."""
        parts = [row.usd for row in self.rows()]
        return None if None in parts else math.fsum(part for part in parts if part is not None)

    def rows(self) -> tuple[RoleUsage, ...]:
        """What each role has used of each model, in the order of the roles' and the models' names."""
        ordered = sorted(self._sums.items(), key=lambda item: (item[0].role, item[0].served, item[0].asked))
        return tuple(self._row(bucket, total) for bucket, total in ordered)

    def _row(self, bucket: _Bucket, total: _Sum) -> RoleUsage:
        price = self._price(bucket)
        return RoleUsage(
            role=bucket.role,
            model=bucket.served,
            calls=total.calls,
            prompt_tokens=total.prompt,
            cached_tokens=total.cached,
            completion_tokens=total.completion,
            usd=None if price is None else total.usd(price),
            estimated=total.estimated,
        )

    def check(self, models: Iterable[ChatModel]) -> None:
        """Refuse a budget in money where a model's price is not known; metered models that are free pass.

        Raises:
            InputError: the price of at least one model is not known.
        """
        names = dict.fromkeys(model.name for model in models)
        unknown = [name for name in names if self._price(_Bucket("", name, name)) is None]
        if unknown and self._in_money:
            raise InputError(
                f"The price of {', '.join(unknown)} is not known, so the budget of {self._budget} cannot be kept.",
                mend='name the price in a price file, or give the budget in tokens ("3M tokens").',
            )

    def metered(self, model: ChatModel, role: str, *, free: bool = False) -> ChatModel:
        """`model`, with its answers counted for `role` and its new calls kept within the budget.

        It goes around the journal: `account.metered(journalled(model, journal), role)`. When the budget is spent, a
        further call raises BudgetSpent; what is in flight is finished and counted even when its caller is cancelled.

        A call that the journal held when the account was opened is never refused: its answer is paid for, and refusing
        it would take finished work out of a run that is resumed. It needs no room in the budget either, since all that
        the journal held counts from the start. So a run that is resumed with the same budget goes to where it stopped
        and pays for nothing further, in whatever order it asks; with a larger one it goes on from there.

        Args:
            model: What is to answer.
            role: Which role it answers for.
            free: Whether it costs nothing (it runs in this process).

        Raises:
            InputError: the budget is in money and the model's price is not known.
        """
        if free:
            self._free.add(model.name)
            # What the journal holds of it costs nothing either.
            self._spent = self._reckoned()
            if not self._sums:
                self._before = self._spent
        self.check([model])
        return _Metered(self, model, role)

    @property
    def _in_money(self) -> bool:
        return self._budget is not None and self._budget.usd is not None

    def _price(self, bucket: _Bucket) -> Price | None:
        asked = bucket.asked or self._asked_as.get(bucket.served, "")
        if asked in self._free:
            return FREE
        if (asked, bucket.served) not in self._known:
            self._known[asked, bucket.served] = self._prices.of(bucket.served) or self._prices.of(asked)
        return self._known[asked, bucket.served]

    def _worth(self, bucket: _Bucket, total: _Sum) -> float:
        """What a sum takes of the budget, in the budget's unit."""
        if not self._in_money:
            return total.prompt + total.completion
        price = self._price(bucket)
        return 0.0 if price is None else total.usd(price)

    def _reckoned(self) -> float:
        return math.fsum(self._worth(*item) for item in self._paid.items())

    async def _room(self, model: str, role: str, request: Request) -> object | None:
        """Wait until there is room for a new call; returns what `_leave` gives the room back by, if it takes any."""
        most = _Sum(prompt=prompt_estimate(request), completion=request.sampling.max_tokens)
        need = 0.0 if self._budget is None else self._worth(_Bucket(role, model, model), most)
        if not need:
            return None
        while self._spent < self._limit and (
            (self._reserved and self._spent + self._taken + need > self._limit) or not self._is_covered()
        ):
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        if self._spent >= self._limit:
            raise BudgetSpent(
                f"The budget of {self._budget} is spent ({self.told}); the role {role} asked for more.",
                mend="raise --budget and run the same command again: answers that were paid for are kept.",
            )
        ticket = object()
        self._reserved[ticket] = need
        self._taken = math.fsum(self._reserved.values())
        return ticket

    def _leave(self, ticket: object) -> None:
        del self._reserved[ticket]
        self._taken = math.fsum(self._reserved.values())
        self._wake()

    def _wake(self) -> None:
        self._covered = None
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _amount(self, worth: float) -> str:
        return _dollars(worth) if self._in_money else f"{int(worth):,} tokens"

    def _count(self, model: str, role: str, key: str, request: Request, answer: Answer) -> None:
        usage, estimated = _usage(request, answer)
        bucket = _Bucket(role, model, answer.model)
        mark, counted = _mark(key), self._roles.setdefault(role, _PAID << 1 + len(self._roles))
        seen = self._seen.get(mark, 0)
        self._seen[mark] = seen | _PAID | counted
        if not seen & counted:
            self._sums[bucket].add(usage, estimated=estimated)
        if not seen & _PAID:
            self._paid[bucket].add(usage, estimated=estimated)
        self._asked_as.setdefault(answer.model, model)
        self._spent = self._reckoned()
        if (whole := _CURRENT.get()) is not None:
            used = _Sum()
            used.add(usage, estimated=estimated)
            whole.used += self._worth(bucket, used)
        # Even an answer from the journal changes who is the furthest on.
        self._wake()

    def _held(self, key: str) -> bool:
        return bool(self._seen.get(_mark(key), 0) & _PAID)


def merged(rows: Sequence[RoleUsage]) -> tuple[RoleUsage, ...]:
    """One row for each role and model."""
    groups: defaultdict[tuple[str, str], list[RoleUsage]] = defaultdict(list)
    for row in rows:
        groups[row.role, row.model].append(row)
    return tuple(_sum(group) for _, group in sorted(groups.items()))


def _sum(rows: Sequence[RoleUsage]) -> RoleUsage:
    known = [row.usd for row in rows if row.usd is not None]
    return RoleUsage(
        role=rows[0].role,
        model=rows[0].model,
        calls=sum(row.calls for row in rows),
        prompt_tokens=sum(row.prompt_tokens for row in rows),
        cached_tokens=sum(row.cached_tokens for row in rows),
        completion_tokens=sum(row.completion_tokens for row in rows),
        usd=math.fsum(known) if len(known) == len(rows) else None,
        estimated=sum(row.estimated for row in rows),
    )


class _Metered:
    def __init__(self, account: Account, model: ChatModel, role: str) -> None:
        self._account = account
        self._model = model
        self._role = role
        self._in_flight: set[asyncio.Task[Answer]] = set()

    def __repr__(self) -> str:
        return f"metered({self._model!r}, {self._role!r})"

    @property
    def name(self) -> str:
        return self._model.name

    async def complete(self, request: Request) -> Answer:
        account, key = self._account, call_key(self.name, request)
        ticket = None if account._held(key) else await account._room(self.name, self._role, request)
        task = asyncio.create_task(self._ask(key, request, ticket))
        self._in_flight.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Answer]) -> None:
        self._in_flight.discard(task)
        if not task.cancelled():
            # Every caller may have been cancelled meanwhile; asyncio would then complain that nobody looked.
            task.exception()

    async def _ask(self, key: str, request: Request, ticket: object | None) -> Answer:
        try:
            answer = await self._model.complete(request)
            self._account._count(self.name, self._role, key, request, answer)
            return answer
        finally:
            if ticket is not None:
                self._account._leave(ticket)


def _mark(key: str) -> int:
    """What an account keeps of a call's key: 60 bits, in a third of the room that the key and its places would take.

    Two of a million calls have the same mark with a probability of 4e-7, two of ten million with 4e-5. Then one of the
    two is not counted, and may be sent though the budget is spent.
    """
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) >> 4


def _usage(request: Request, answer: Answer) -> tuple[Usage, bool]:
    """What a call used, and whether it is an estimate since the server did not count."""
    usage = answer.usage
    if usage.prompt_tokens or usage.completion_tokens:
        return usage, False
    return Usage(prompt_tokens=prompt_estimate(request), completion_tokens=text_estimate(answer.text)), True


def _dollars(amount: float) -> str:
    return f"{amount:,.2f} USD" if amount >= 1 else f"{amount:.2g} USD"
