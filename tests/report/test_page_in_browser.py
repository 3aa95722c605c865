"""The page in a real browser with the network off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interalign.report.page import write
from tests.report.made_up import evaluation

HOSTILE = "</script><img src=x onerror=\"document.title='taken'\">"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    made = evaluation(cases=5, turns=4)
    write(path, made.summary, made.rows, made.trees, made.personas, title="A run", facts={"Recipe": "made up"})
    return path


def test_figures_are_drawn(open_page: Any, report: Path) -> None:
    page = open_page(report)
    assert page.locator("#curves-figure .scatterlayer .trace").count() == 14  # a line and a band for each of 7
    assert page.locator("#difference-figure .errorbars path").count() == 6


def test_cases_are_paged_and_models_chosen(open_page: Any, report: Path) -> None:
    page = open_page(report)
    cases = page.locator("#case-browser")
    assert cases.locator(".column-head .name").all_inner_texts() == ["base", "sft", "sft+dpo"]
    first = cases.locator(".person").inner_text()
    cases.get_by_role("button", name="Next person").click()
    assert cases.locator(".where").inner_text() == "2 of 5"
    assert cases.locator(".person").inner_text() != first
    cases.get_by_role("button", name="mirror").click()
    assert cases.locator(".column-head .name").all_inner_texts() == ["base", "sft", "sft+dpo", "mirror"]
    assert cases.locator(".where").inner_text() == "2 of 5"


def test_pages_turn_by_keyboard_alone(open_page: Any, report: Path) -> None:
    page = open_page(report)
    page.locator("#case-browser select").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("#case-browser .where").inner_text() == "2 of 5"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("#case-browser .where").inner_text() == "3 of 5"


def test_trees_show_all_siblings_and_which_one_went_on(open_page: Any, report: Path) -> None:
    page = open_page(report)
    trees = page.locator("#tree-browser")
    trees.get_by_label("Choose a tree").select_option("4")
    assert trees.locator(".where").inner_text() == "5 of 5"
    assert trees.get_by_role("button", name="Next tree").is_disabled()
    assert trees.locator(".message.reply").count() == 8
    assert trees.locator(".is-continued").count() == 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_one_chat_at_a_time_and_never_scrolls_sideways(open_page: Any, report: Path, scheme: str) -> None:
    page = open_page(report, width=390, color_scheme=scheme)
    cases = page.locator("#case-browser")
    assert cases.locator(".column-head .name").all_inner_texts() == ["sft+dpo"]
    cases.get_by_role("button", name="base", exact=True).click()
    assert cases.locator(".column-head .name").all_inner_texts() == ["base"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_long_unbroken_and_hostile_text_is_shown_as_text_and_breaks(open_page: Any, tmp_path: Path) -> None:
    made = evaluation(cases=2, turns=2, hostile=HOSTILE + "x" * 300)
    path = tmp_path / "report.html"
    write(path, made.summary, made.rows, made.trees, made.personas, title=HOSTILE, facts={})
    page = open_page(path, width=390)
    assert page.title() == HOSTILE
    assert HOSTILE in page.locator("#case-browser .message.user").first.inner_text()
    assert page.locator("img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_without_script_the_finding_and_the_table_are_there(open_page: Any, report: Path) -> None:
    page = open_page(report, java_script_enabled=False)
    assert "answers people" in page.locator("h1").inner_text()
    assert page.locator("table.numbers tbody tr").count() == 7
