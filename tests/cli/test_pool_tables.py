from __future__ import annotations

from typing import Any

import pytest

from interalign.cli.console import out
from interalign.cli.pool_tables import show_pool
from interalign.personas.description import Kind
from interalign.personas.grow import Stop
from interalign.personas.pool import PoolSummary
from tests.report.made_up_pool import pool

NO_CALLS: dict[str, Any] = {"candidates": 0, "accepted": 0, "rejections": {}, "outcomes": {}, "growth": ((0, 20),)}


def said(summary: PoolSummary) -> str:
    """What is printed, its lines joined."""
    with out.capture() as captured:
        show_pool(summary)
    return " ".join(captured.get().split())


def changed(summary: PoolSummary, kind: Kind, **values: Any) -> PoolSummary:
    kinds = tuple(one.model_copy(update=values) if one.kind == kind else one for one in summary.kinds)
    return summary.model_copy(update={"kinds": kinds})


@pytest.mark.parametrize(
    ("stop", "why"),
    [
        ("target", "it reached its target size."),
        ("saturated", "fewer than 20 % of the last 100 candidates were new."),
        ("budget", "the budget was spent."),
        ("unreadable", "no answer could be read any more."),
    ],
)
def test_why_growth_ended_stands_in_words(stop: Stop, why: str) -> None:
    words = said(changed(pool().summary, "profile", stop=stop))
    assert f"The profile pool stopped growing because {why}" in words


def test_a_pool_without_calls_was_complete_from_the_start() -> None:
    words = said(changed(pool().summary, "profile", **NO_CALLS))
    assert "The profile pool was complete from the start." in words
    assert "The personality pool stopped growing because" in words


def test_the_script_is_named_where_it_wrote() -> None:
    assert "come from a script, not from a language model." in said(pool(scripted=True).summary)
    assert "script" not in said(pool().summary).replace("description", "")
