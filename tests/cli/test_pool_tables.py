from __future__ import annotations

from typing import Any

from interalign.cli.console import out
from interalign.cli.pool_tables import show_pool
from interalign.personas.description import Kind
from interalign.personas.pool import PoolSummary
from interalign.report.growth import story
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


def test_growth_is_told_as_on_the_page() -> None:
    summary = pool().summary
    words = said(changed(summary, "profile", stop="saturated"))
    for one in summary.kinds:
        assert story(one).replace("\N{NO-BREAK SPACE}", " ") in words.replace("\N{NO-BREAK SPACE}", " ")
    assert "of the last 100 candidates were new." in words


def test_what_found_no_room_was_not_rejected() -> None:
    found = {"candidates": 10, "accepted": 6, "rejections": {"target reached": 2, "too short": 2}}
    words = said(changed(changed(pool().summary, "profile", **found), "personality", **found))
    assert "candidates 10 10 no room, target reached 2 2 accepted 6 (75%) 6 (75%) too short 2 (25%) 2 (25%)" in words


def test_a_pool_without_calls_has_no_figures_of_growth() -> None:
    one = changed(pool().summary, "profile", **NO_CALLS)
    words = said(one)
    assert "The pool of profiles was complete from the start" in words and "The personalities grew from" in words
    assert f"candidates – {one.kinds[1].candidates}" in words
    none = said(changed(one, "personality", **NO_CALLS))
    assert not any(word in none for word in ("candidates", "accepted", "calls", "tokens", "missing"))


def test_the_script_is_named_where_it_wrote() -> None:
    assert "come from a script, not from a language model." in said(pool(scripted=True).summary)
    assert "script" not in said(pool().summary).replace("description", "")
