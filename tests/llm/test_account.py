from __future__ import annotations

import asyncio
import hashlib
import random
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from interalign.errors import BudgetSpent, InputError, ModelError, StopWork
from interalign.llm.account import Account, Budget, RoleUsage
from interalign.llm.journal import Journal, journalled
from interalign.llm.model import Answer, ChatModel, Request, Sampling, Usage
from interalign.llm.prices import Price, Prices
from interalign.llm.scripted import ScriptedModel
from interalign.messages import Message

PRICES = Prices(models={"m": Price(prompt=1, cached=0.5, completion=2), "cheap": Price(prompt=0.1, completion=0.1)})
# 8 characters: two tokens.
QUESTION = Message(role="user", content="12345678")


def ask(sample: int, max_tokens: int = 100) -> Request:
    return Request(messages=(QUESTION,), sampling=Sampling(max_tokens=max_tokens), sample=sample)


class Server:
    """Answers after some turns of the event loop, with a usage that its function gives."""

    def __init__(self, usage: Callable[[Request], Usage], name: str = "m@http://x/v1", served: str = "m-2026-01-31"):
        self.asked: list[int] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.turns = random.Random(5)
        self._usage = usage
        self._name = name
        self._served = served

    @property
    def name(self) -> str:
        return self._name

    async def complete(self, request: Request) -> Answer:
        self.asked.append(request.sample)
        self.in_flight += 1
        self.most_in_flight = max(self.in_flight, self.most_in_flight)
        for _ in range(self.turns.randrange(1, 5)):
            await asyncio.sleep(0)
        self.in_flight -= 1
        return Answer(text="1234", finish="stop", usage=self._usage(request), model=self._served)


def steady(prompt: int = 2, completion: int = 100, cached: int = 0) -> Callable[[Request], Usage]:
    usage = Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached)
    return lambda request: usage


def gathered(model: ChatModel, samples: Sequence[int], max_tokens: int = 100) -> list[Answer | BaseException]:
    async def all_of_them() -> list[Answer | BaseException]:
        asked: list[Awaitable[Answer]] = [model.complete(ask(sample, max_tokens)) for sample in samples]
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(all_of_them())


def refused(results: Sequence[Answer | BaseException]) -> int:
    assert all(isinstance(result, Answer | BudgetSpent) for result in results)
    return sum(isinstance(result, BudgetSpent) for result in results)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("20usd", Budget(usd=20)),
        ("2.5 USD", Budget(usd=2.5)),
        (" 0.01 usd ", Budget(usd=0.01)),
        ("3000000 tokens", Budget(tokens=3_000_000)),
        ("3M tokens", Budget(tokens=3_000_000)),
        ("2.5k tokens", Budget(tokens=2_500)),
        ("1 token", Budget(tokens=1)),
    ],
)
def test_a_budget_is_read_from_words(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget


@pytest.mark.parametrize(
    "text",
    ["", "20", "20 eur", "usd", "-3usd", "0usd", "0 tokens", "2.5 tokens", "3M usd", "1e3 usd", "9" * 99 + "usd"],
)
def test_words_that_are_no_budget_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match=r'write "20usd" or "3M tokens"'):
        Budget.parse(text)


def test_a_budget_is_money_or_tokens_and_says_so() -> None:
    assert [str(Budget(usd=20)), str(Budget(usd=0.05)), str(Budget(tokens=3_000_000))] == [
        "20.00 USD",
        "0.05 USD",
        "3,000,000 tokens",
    ]
    for fields in ({}, {"usd": 1.0, "tokens": 1}, {"usd": -1.0}, {"tokens": 0}, {"usd": float("inf")}):
        with pytest.raises(ValidationError):
            Budget.model_validate(fields)


def test_calls_are_added_up_by_role_and_model() -> None:
    account = Account(None, PRICES)
    server = Server(steady(prompt=1000, cached=400, completion=10))
    gathered(account.metered(server, "user"), [0, 1, 1])
    gathered(account.metered(server, "judge"), [2])
    gathered(account.metered(ScriptedModel("script", ["one two"]), "inducer", free=True), [3])
    gathered(account.metered(ScriptedModel("other", ["one two"]), "inducer"), [3])
    each = (600 * 1 + 400 * 0.5 + 10 * 2) / 1e6
    rows = account.rows()
    assert [(row.role, row.model, row.calls) for row in rows] == [
        ("inducer", "other", 1),
        ("inducer", "script", 1),
        ("judge", "m-2026-01-31", 1),
        ("user", "m-2026-01-31", 2),
    ]
    assert [(row.prompt_tokens, row.cached_tokens, row.completion_tokens) for row in rows] == [
        (1, 0, 2),
        (1, 0, 2),
        (1000, 400, 10),
        (2000, 800, 20),
    ]
    assert [row.usd for row in rows] == [None, 0, pytest.approx(each), pytest.approx(2 * each)]
    assert account.tokens == 3 * 1010 + 2 * 3
    assert account.usd is None


def test_an_account_without_calls_has_used_nothing() -> None:
    account = Account(Budget(usd=1), PRICES)
    assert (account.rows(), account.tokens, account.usd) == ((), 0, 0)


def test_what_a_server_does_not_count_is_estimated_and_said_to_be() -> None:
    account = Account(Budget(tokens=1000), PRICES)
    gathered(account.metered(Server(lambda request: Usage()), "user"), [0, 1])
    (row,) = account.rows()
    assert (row.prompt_tokens, row.completion_tokens, row.estimated) == (4, 2, 2)


def test_a_model_is_priced_by_the_name_it_was_asked_under_where_the_served_one_is_unknown() -> None:
    account = Account(Budget(usd=1), PRICES)
    gathered(account.metered(Server(steady(prompt=1_000_000, completion=0), served="alias"), "user"), [0])
    assert account.usd == pytest.approx(1)


def test_a_budget_in_money_needs_every_price() -> None:
    account = Account(Budget(usd=1), PRICES)
    unknown, known = ScriptedModel("magic", ["x"]), Server(steady())
    account.check([known])
    with pytest.raises(InputError, match=r"price of magic is not known.*3M tokens"):
        account.check([known, unknown])
    with pytest.raises(InputError, match="price of magic"):
        account.metered(unknown, "judge")
    account.check([known, account.metered(unknown, "judge", free=True)])
    Account(Budget(tokens=1), PRICES).check([unknown])
    Account(None, PRICES).check([unknown])


def test_a_spent_budget_stops_new_calls_and_says_how_to_go_on() -> None:
    account = Account(Budget(tokens=200), PRICES)
    server = Server(steady(prompt=2, completion=100))
    model = account.metered(server, "judge")
    assert refused(gathered(model, [0, 1])) == 0
    (error,) = gathered(model, [2])
    assert isinstance(error, BudgetSpent) and isinstance(error, StopWork)
    assert error.what == "The budget of 200 tokens is spent (204 tokens); the role judge asked for more."
    assert "raise --budget and run the same command again" in (error.mend or "")
    assert server.asked == [0, 1]


def test_what_costs_nothing_goes_on_when_the_money_is_spent_but_not_when_the_tokens_are() -> None:
    for budget, stopped in ((Budget(usd=1e-9), 0), (Budget(tokens=1), 1)):
        account = Account(budget, PRICES)
        gathered(account.metered(Server(steady()), "judge"), [0])
        free = account.metered(ScriptedModel("script", ["x"]), "user", free=True)
        assert refused(gathered(free, [0])) == stopped


def test_calls_wait_for_room_and_no_longer() -> None:
    # Each may take 102 tokens, and takes 12: all fit in, though never more than three at once.
    account = Account(Budget(tokens=400), PRICES)
    server = Server(steady(prompt=2, completion=10))
    assert refused(gathered(account.metered(server, "user"), range(20))) == 0
    assert (account.tokens, server.most_in_flight) == (240, 3)


def test_a_failure_costs_nothing_and_gives_its_room_back() -> None:
    def failing(request: Request) -> Usage:
        if request.sample < 5:
            raise ModelError("out of order")
        return Usage(prompt_tokens=2, completion_tokens=100)

    account = Account(Budget(tokens=102), PRICES)
    results = gathered(account.metered(Server(failing), "user"), range(6))
    assert [type(result) for result in results] == [ModelError] * 5 + [Answer]
    assert account.tokens == 102


def test_a_call_in_flight_is_counted_though_its_caller_has_gone() -> None:
    async def leave() -> int:
        account = Account(Budget(tokens=1000), PRICES)
        model = account.metered(Server(steady(prompt=2, completion=100)), "user")
        task = asyncio.create_task(model.complete(ask(0)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(10):
            await asyncio.sleep(0)
        return account.tokens

    assert asyncio.run(leave()) == 102


def test_who_waits_for_room_can_be_cancelled_and_asks_nothing() -> None:
    async def leave() -> list[int]:
        server = Server(steady(prompt=2, completion=10))
        model = Account(Budget(tokens=110), PRICES).metered(server, "user")
        tasks = [asyncio.create_task(model.complete(ask(sample))) for sample in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return server.asked

    assert asyncio.run(leave()) == [0, 2]


@given(st.lists(st.integers(2, 6), min_size=8, max_size=30), st.integers(600, 8000), st.sampled_from([0, 400, 2000]))
@settings(max_examples=60, deadline=None)
def test_the_money_ends_in_whole_work(lengths: list[int], limit: int, expected: float) -> None:
    account = Account(Budget(tokens=limit), PRICES, expected=expected)
    server = Server(steady(prompt=2, completion=100))
    model = account.metered(server, "user")
    ended: list[int] = []

    async def work(number: int, length: int) -> None:
        with account.whole():
            for call in range(length):
                await model.complete(ask(number * 100 + call))
        ended.append(length)

    async def all_of_them() -> None:
        each = await asyncio.gather(*(work(*item) for item in enumerate(lengths)), return_exceptions=True)
        assert {type(one) for one in each} <= {type(None), BudgetSpent}

    asyncio.run(all_of_them())
    if limit >= 102 * sum(lengths):
        assert sorted(ended) == sorted(lengths)
    else:
        assert account.spent >= limit
    if expected:
        # However many were to be done: what went into work that was left open is less than three of the longest.
        assert account.spent - 102 * sum(ended) <= 102 * 3 * max(lengths)


def test_what_is_furthest_on_goes_first_and_the_others_wait() -> None:
    account = Account(Budget(tokens=1000), PRICES, expected=510)
    server = Server(steady(prompt=2, completion=100))
    model = account.metered(server, "user")

    async def work(number: int) -> None:
        with account.whole():
            for call in range(5):
                await model.complete(ask(number * 10 + call))

    async def both() -> None:
        await asyncio.gather(work(0), work(1), return_exceptions=True)

    asyncio.run(both())
    assert server.asked == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]


def run_once(path: Path, budget: Budget | None, samples: Sequence[int]) -> tuple[Account, Server, int]:
    """One start of a run: its account, its server, and how many calls the budget refused."""
    server = Server(steady(prompt=2, completion=48))
    account = Account(budget, PRICES, journal=path)
    with Journal.open(path) as journal:
        results = gathered(account.metered(journalled(server, journal), "user"), samples)
    return account, server, refused(results)


def test_a_resumed_run_has_the_account_of_one_that_went_through(tmp_path: Path) -> None:
    whole, _, _ = run_once(tmp_path / "whole.sqlite", None, range(10))
    run_once(tmp_path / "parts.sqlite", None, range(6))
    resumed, server, _ = run_once(tmp_path / "parts.sqlite", None, range(10))
    assert resumed.rows() == whole.rows()
    assert sorted(server.asked) == [6, 7, 8, 9]


def test_a_resume_with_the_same_budget_keeps_all_answers_and_pays_for_none(tmp_path: Path) -> None:
    path, budget = tmp_path / "journal.sqlite", Budget(tokens=275)
    account, server, stopped = run_once(path, budget, range(10))
    assert (len(server.asked), stopped, account.tokens) == (6, 4, 300)
    # In another order: what was paid for does not come first.
    again, asked_again, stopped_again = run_once(path, budget, range(9, -1, -1))
    assert (asked_again.asked, stopped_again) == ([], 4)
    assert again.rows() == account.rows()


def test_a_resume_with_a_larger_budget_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    run_once(path, Budget(tokens=300), range(10))
    account, server, stopped = run_once(path, Budget(usd=8 * 98e-6), range(10))
    assert (len(server.asked), stopped, account.tokens) == (2, 2, 400)


def test_a_journal_with_uncounted_calls_or_unpriced_models_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    Account(Budget(tokens=1), PRICES, journal=path)
    assert not path.exists()
    with Journal.open(path) as journal:
        script = ScriptedModel("script", ["1234"])
        gathered(journalled(script, journal), [0])
        gathered(journalled(Server(lambda request: Usage(), name="n", served="n"), journal), [0])
    script_again = Account(Budget(usd=1e-9), PRICES, journal=path).metered(script, "user", free=True)
    assert refused(gathered(script_again, [0, 1])) == 0
    assert refused(gathered(Account(Budget(tokens=3), PRICES, journal=path).metered(script, "user"), [0, 1])) == 1


def test_what_a_journal_holds_under_another_name_is_priced_once_that_name_is_known(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"

    def start() -> tuple[int, int]:
        server = Server(steady(prompt=2, completion=99), served="alias")
        account = Account(Budget(usd=450e-6), PRICES, journal=path)
        with Journal.open(path) as journal:
            model = account.metered(journalled(server, journal), "user")
            gathered(model, [0])
            return refused(gathered(model, range(9))), len(server.asked)

    assert start() == (6, 3)
    assert start() == (6, 0)


def test_the_journal_alone_tells_the_dollars_though_the_server_names_its_model_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    server = Server(steady(prompt=1_000_000, completion=0), served="alias")
    assert PRICES.of("alias") is None
    with Journal.open(path) as journal:
        gathered(Account(None, PRICES).metered(journalled(server, journal), "user"), range(3))
    assert Account(Budget(usd=10), PRICES, journal=path).spent == pytest.approx(3)
    spent = Account(Budget(usd=3), PRICES, journal=path)
    assert refused(gathered(spent.metered(server, "user"), [3])) == 1
    # A journal from before it told the names knows the price only once a model is asked under its name again.
    with Journal.open(path) as journal:
        journal._connection.execute("UPDATE calls SET asked = NULL")
    assert Account(Budget(usd=10), PRICES, journal=path).spent == 0


def test_what_the_journal_holds_of_a_model_that_is_free_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal.open(path) as journal:
        gathered(journalled(Server(steady(prompt=1_000_000), name="m", served="m"), journal), range(3))
    account = Account(Budget(usd=1), PRICES, journal=path)
    assert account.spent > 3
    account.metered(Server(steady(), name="m", served="m"), "user", free=True)
    assert account.spent == 0


def test_a_call_is_counted_for_each_role_that_asks_it_and_paid_for_once() -> None:
    account = Account(Budget(tokens=10_000), PRICES)
    server = Server(steady(prompt=2, completion=100))
    for role in ("user", "judge", "inducer", "user"):
        gathered(account.metered(server, role), [0, 1])
    assert {row.role: row.calls for row in account.rows()} == {"user": 2, "judge": 2, "inducer": 2}
    assert account.spent == 2 * 102


def test_a_call_leaves_about_a_hundred_bytes_behind() -> None:
    account = Account(None, PRICES)
    request, said = ask(0), Answer(text="x", finish="stop", usage=Usage(prompt_tokens=1), model="m")
    calls = 20_000
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(calls):
            account._count("m", "user", hashlib.sha256(f"{number}".encode()).hexdigest(), request, said)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A hash table is at worst a third full. Keys themselves and their places in sets took 250 to 330.
    assert (after - before) / calls < 150
    assert account.rows()[0].calls == calls


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"no journal" * 200)
    with pytest.raises(InputError, match="cannot be read"):
        Account(Budget(tokens=1), PRICES, journal=path)


CALLS = st.lists(st.tuples(st.sampled_from(["user", "judge"]), st.integers(0, 6), st.integers(1, 90)), max_size=20)


@settings(max_examples=60, deadline=None)
@given(calls=CALLS, seed=st.integers(0, 2**32))
def test_the_order_of_the_calls_changes_no_sum(calls: list[tuple[str, int, int]], seed: int) -> None:
    tokens: dict[int, int] = {}
    for _, sample, completion in calls:
        tokens.setdefault(sample, completion)

    def account_of(ordered: Sequence[tuple[str, int, int]]) -> tuple[tuple[RoleUsage, ...], float | None]:
        account = Account(None, PRICES)
        server = Server(lambda request: Usage(prompt_tokens=3, completion_tokens=tokens[request.sample]))
        models = {role: account.metered(server, role) for role in ("user", "judge")}

        async def all_of_them() -> None:
            await asyncio.gather(*(models[role].complete(ask(sample)) for role, sample, _ in ordered))

        asyncio.run(all_of_them())
        return account.rows(), account.usd

    shuffled = random.Random(seed).sample(calls, len(calls))
    assert account_of(calls) == account_of(shuffled)


@settings(max_examples=80, deadline=None)
@given(
    used=st.lists(st.integers(0, 50), min_size=1, max_size=30),
    limit=st.integers(1, 800),
    in_money=st.booleans(),
)
def test_a_budget_is_exceeded_by_less_than_one_call(used: list[int], limit: int, in_money: bool) -> None:
    budget = Budget(usd=limit * 2e-6) if in_money else Budget(tokens=limit)
    account = Account(budget, PRICES)
    server = Server(lambda request: Usage(prompt_tokens=2, completion_tokens=used[request.sample]))
    stopped = refused(gathered(account.metered(server, "user"), range(len(used)), max_tokens=50))
    spent = (account.usd or 0) * 1e6 if in_money else account.tokens
    most, one = (limit * 2, 2 + 50 * 2) if in_money else (limit, 2 + 50)
    assert spent < most + one
    assert stopped == 0 or spent >= most * (1 - 1e-12)
    assert len(server.asked) == len(used) - stopped == sum(row.calls for row in account.rows())
