"""The page in a real browser with the network off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interalign.report.page import write
from tests.report.made_up import Evaluation, evaluation, llm_evaluation

pytestmark = pytest.mark.slow

HOSTILE = "</script><img src=x onerror=\"document.title='taken'\">"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    made = evaluation(cases=5, turns=4)
    return written(path, made)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page on which all is measured, and one model is not to be trusted."""
    return written(tmp_path_factory.mktemp("llm") / "report.html", llm_evaluation(lost={"base": 0.0, "sft": 0.2}))


def written(path: Path, made: Evaluation, title: str = "A run") -> Path:
    facts = {"Recipe": "made up"}
    write(path, made.summary, made.rows, made.trees, made.personas, players=made.players, title=title, facts=facts)
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
    page = open_page(written(tmp_path / "report.html", made, HOSTILE), width=390)
    assert page.title() == HOSTILE
    assert HOSTILE in page.locator("#case-browser .message.user").first.inner_text()
    assert page.locator("img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_without_script_the_finding_and_the_table_are_there(open_page: Any, report: Path) -> None:
    page = open_page(report, java_script_enabled=False)
    assert "answers people" in page.locator("h1").inner_text()
    assert page.locator("table.numbers tbody tr").count() == 7


def test_figures_of_everything_measured_are_drawn(open_page: Any, everything: Path) -> None:
    page = open_page(everything)
    assert page.locator("#help-figure .scatterlayer .trace").count() == 4
    assert page.locator("#place-figures figcaption").all_inner_texts() == [
        "Minus oracle persona",
        "Minus disclosed-only oracle",
        "Minus generic-nice",
    ]
    assert page.locator("#place-figure-2 .errorbars path").count() == 4
    assert page.locator("#precision-figure .scatterlayer .trace").count() == 8  # a line and a band for each of 4
    assert page.locator("#recall-figure .scatterlayer .trace").count() == 8


def test_a_turn_shows_what_was_measured_of_it(open_page: Any, everything: Path) -> None:
    cases = open_page(everything).locator("#case-browser")
    first = cases.locator(".cell").first
    assert "helpful" in first.locator(".reply-head .measure").first.inner_text()
    others = first.locator("details", has_text="other replies in its place")
    assert not others.locator(".other-reply").first.is_visible()
    others.locator("summary").click()
    assert others.locator(".other-reply .who").all_inner_texts() == [
        "oracle persona",
        "disclosed-only oracle",
        "generic-nice",
    ]
    learnt = first.locator("details", has_text="says it has learnt")
    learnt.locator("summary").click()
    assert learnt.locator("li").count() == 4
    assert cases.get_by_text("claims what nobody said").count() > 0
    assert cases.locator(".cell").count() == 30  # three models, ten turns: repeats are not shown


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_red_result_cannot_be_overlooked(open_page: Any, everything: Path, width: int, scheme: str) -> None:
    page = open_page(everything, width=width, color_scheme=scheme)
    banner = page.get_by_role("alert")
    assert "Do not trust these numbers" in banner.inner_text() and "verdicts on sft" in banner.inner_text()
    box = banner.bounding_box()
    assert box["y"] == 0 and box["width"] == width
    page.evaluate("document.documentElement.style.scrollBehavior = 'auto'; window.scrollTo(0, 3000)")
    strip = page.locator(".red-strip")
    assert strip.bounding_box()["y"] == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_phone_breaks_hostile_names_where_everything_is_measured(open_page: Any, tmp_path: Path) -> None:
    made = llm_evaluation(profiles=5, personalities=2, turns=6, hostile=HOSTILE + "x" * 300)
    page = open_page(written(tmp_path / "report.html", made), width=390)
    assert page.locator("img").count() == 0 and page.title() == "A run"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
