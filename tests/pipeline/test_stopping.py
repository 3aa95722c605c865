from __future__ import annotations

import asyncio

import pytest

from interalign.errors import BudgetSpent, Interrupted, ModelError, Outage
from interalign.llm.endpoint import EndpointConfig, EndpointModel
from interalign.llm.model import Request
from interalign.messages import Message
from interalign.pipeline.stopping import GO_ON, Gate, stop_told
from tests.llm.servers import Reply, completion, error, raw, serving

ASKED = Request(messages=(Message(role="user", content="Hello."),))


def failed(reply: Reply, calls: int) -> list[ModelError | Outage]:
    """What so many calls of a server come to that always says the same."""

    async def ask() -> list[ModelError | Outage]:
        met: list[ModelError | Outage] = []
        async with EndpointModel(EndpointConfig(base_url=server.base_url, model="m", max_retries=0)) as model:
            watched = Gate().watched(model)
            for _ in range(calls):
                try:
                    await watched.complete(ASKED)
                except (ModelError, Outage) as problem:
                    met.append(problem)
        return met

    with serving(reply) as server:
        return asyncio.run(ask())


@pytest.mark.parametrize(
    "reply",
    [
        error(400, "the context is too long"),
        error(403, "flagged by moderation"),
        completion(None),
        raw("no JSON"),
    ],
    ids=["too long", "content", "no text", "no JSON"],
)
def test_a_server_that_turns_down_single_requests_is_there(reply: Reply) -> None:
    met = failed(reply, 12)
    assert len(met) == 12 and not any(isinstance(one, Outage) for one in met)


def test_a_server_that_is_out_of_order_is_an_outage() -> None:
    met = failed(error(500), 12)
    assert [isinstance(one, Outage) for one in met] == [False] * 9 + [True] * 3


def test_a_refusal_between_shows_that_the_server_is_there() -> None:
    gate = Gate()
    for _ in range(9):
        gate.failed("m", ModelError("It is silent."))
    gate.failed("m", ModelError("Too long.", refused=True))
    gate.failed("m", ModelError("It is silent."))
    assert not gate.shut


def test_a_stop_is_told_with_how_far_the_work_has_come_and_with_its_mend() -> None:
    spent = stop_told(BudgetSpent("The budget is spent.", mend="raise it."), "Two are done.")
    assert isinstance(spent, BudgetSpent) and (spent.what, spent.mend) == (
        "The budget is spent. Two are done.",
        "raise it.",
    )
    wanted = stop_told(Interrupted("Stopped.", mend=GO_ON), "Two are done.")
    assert isinstance(wanted, Interrupted) and wanted.mend is None
    assert wanted.what == "Stopped. Two are done. Run the same command again to go on from here."
