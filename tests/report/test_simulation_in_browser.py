"""The page of a simulation in a real browser with the network off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interalign.report.simulation import write
from tests.report.made_up_simulation import simulation

pytestmark = pytest.mark.slow

HOSTILE = "</script><a href='http://example.org'>&lt;b&gt;</a><img src=x onerror=\"document.title='taken'\">"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "simulation.html"
    write(path, simulation())
    return path


@pytest.fixture(scope="module")
def branching(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "simulation.html"
    write(path, simulation(3, 3, branches=True, faults=False))
    return path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "simulation.html"
    write(path, simulation(7, 3, HOSTILE + "x" * 300))
    return path


def test_curves_are_drawn(open_page: Any, report: Path) -> None:
    page = open_page(report)
    for figure, traces in (("scores", 2), ("duels", 2), ("known", 3)):
        assert page.locator(f"#{figure}-figure .scatterlayer .trace").count() == traces
    assert page.locator("#scores-figure .legendtext").all_text_contents() == ["tailored", "generic"]


def test_a_conversation_that_ended_early_shows_what_was_refused_and_why(open_page: Any, report: Path) -> None:
    conversation = open_page(report).locator("#tree-browser")
    assert conversation.locator(".where").inner_text() == "1 of 24"
    assert conversation.locator(".tree-turn").count() == 2
    assert "turn 3: The user simulator gave no usable message" in conversation.locator(".failure").inner_text()
    refused = conversation.locator(".faults").last
    refused.locator("summary").click()
    assert refused.locator("summary").inner_text() == "6 faults in the turn after"
    assert refused.locator("li").first.inner_text().split("\n")[-1] == "As an AI, I cannot."


def test_votes_stand_under_the_replies_and_words_beside_what_they_show(open_page: Any, report: Path) -> None:
    made = simulation()
    conversation = open_page(report).locator("#tree-browser")
    conversation.get_by_role("button", name="Next conversation").click()
    shown = conversation.locator(".comparison")
    names = {"first": "tailored", "second": "generic", "tie": "equally good", None: "not readable"}
    assert shown.count() == len(made.trees[1].comparisons) == 5
    for place, one in enumerate(made.trees[1].comparisons):
        orders = shown.nth(place).locator(".order").all_inner_texts()
        assert orders == [
            f"tailored shown first: {names[one.votes[0]]}",
            f"generic shown first: {names[one.votes[1]]}",
        ]
        assert ("both orders" in shown.nth(place).inner_text()) is bool(one.consistent)
    assert conversation.locator(".ledger .said").nth(1).inner_text().strip() == "“get to the point”"


def test_a_branch_is_chosen_by_keyboard_and_keeps_the_focus(open_page: Any, branching: Path) -> None:
    page = open_page(branching)
    conversation = page.locator("#tree-browser")
    made = simulation(3, 3, branches=True, faults=False).trees[0]
    assert conversation.locator(".tree-turn").count() == 3
    assert conversation.locator(".follow").all_inner_texts() == ["read on below", "read on here"]
    replies = conversation.locator(".tree-turn").nth(1).locator(".message.reply p")
    before = replies.all_inner_texts()
    conversation.locator(".follow").nth(1).focus()
    page.keyboard.press("Enter")
    assert conversation.locator(".follow").all_inner_texts() == ["read on here", "read on below"]
    assert page.evaluate("document.activeElement.textContent") == "read on below"
    second = made.children(made.children(2)[0])
    assert replies.all_inner_texts() == [made.nodes[node].content for node in second] != before


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_never_scrolls_sideways(open_page: Any, report: Path, scheme: str, width: int) -> None:
    page = open_page(report, width=width, color_scheme=scheme)
    page.locator("#judge summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [390, 1280])
def test_long_unbroken_and_hostile_text_is_shown_as_text_and_breaks(open_page: Any, hostile: Path, width: int) -> None:
    page = open_page(hostile, width=width)
    assert HOSTILE in page.title()
    assert HOSTILE in page.locator("#tree-browser .message.user").first.inner_text()
    for summary in page.locator("#tree-browser .faults summary").all():
        summary.click()
    assert page.locator("img").count() == 0
    assert page.locator("main a").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_script_the_counts_are_there(open_page: Any, report: Path) -> None:
    page = open_page(report, java_script_enabled=False)
    assert page.locator("h1").inner_text().startswith("24 conversations")
    assert page.locator(".usage tbody tr").count() == 6
    assert page.locator(".leans dt").count() == 5
    assert page.locator("noscript").is_visible()
