"""The page of a pool in a real browser with the network off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interalign.report.pool import write
from tests.report.made_up_pool import pool

pytestmark = pytest.mark.slow

HOSTILE = "</script><a href='http://example.org'>&lt;b&gt;</a><img src=x onerror=\"document.title='taken'\">"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "pool.html"
    write(path, replace(pool(), facts={"Recipe": "made up"}))
    return path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "pool.html"
    write(path, replace(pool(30, 9, 12, HOSTILE + "x" * 300), title=HOSTILE, facts={HOSTILE: HOSTILE}))
    return path


def middle(point: Any) -> tuple[float, float]:
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def legend(place: Any) -> list[str]:
    return [" ".join(words.split()) for words in place.locator(".legend button").all_inner_texts()]


def shown(page: Any) -> tuple[str, int]:
    return page.locator("#rejected .where").inner_text(), page.locator("#rejected .twins").count()


def test_curves_and_maps_are_drawn(open_page: Any, report: Path) -> None:
    page = open_page(report)
    for kind, size in (("profile", 60), ("personality", 24)):
        assert page.locator(f"#growth-{kind} .scatterlayer .trace").count() == 2
        assert page.locator(f"#map-{kind} .points path").count() == size


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("rejected", [0, 40, 2_000])
def test_the_names_in_a_curve_keep_clear_of_each_other(
    open_page: Any, tmp_path: Path, width: int, rejected: int
) -> None:
    path = tmp_path / "pool.html"
    write(path, pool(60, 24, rejected))
    page = open_page(path, width=width)
    for kind in ("profile", "personality"):
        figure = page.locator(f"#growth-{kind}")
        names = figure.locator(".annotation-text-g")
        assert names.all_text_contents()[0] == "everything accepted"
        line, size = (names.nth(index).bounding_box() for index in range(2))
        axis = figure.locator(".yaxislayer-above").bounding_box()
        assert line["x"] > axis["x"] + axis["width"]
        assert line["x"] + line["width"] < size["x"] or line["y"] > size["y"] + size["height"]


def test_colours_follow_the_chosen_dimension_and_a_group_stands_alone(open_page: Any, report: Path) -> None:
    place = open_page(report).locator("#map-profile")
    assert legend(place) == ["to train on 52", "refused 2", "held out 6"]
    place.locator("select").select_option(label="age")
    ages = legend(place)
    assert [words.rsplit(" ", 1)[0] for words in ages] == [
        "18-24", "25-34", "35-49", "50-64", "65-79", "80 and over", "not stated",
    ]  # fmt: skip
    assert sum(int(words.rsplit(" ", 1)[1]) for words in ages) == place.locator(".points path").count() == 60
    alone = place.get_by_role("button", name="35-49")
    alone.click()
    assert alone.get_attribute("aria-pressed") == "true"
    faint = place.locator(".points path").evaluate_all(
        "paths => paths.filter((path) => path.style.opacity < 0.1).length"
    )
    assert faint == 60 - int(ages[2].rsplit(" ", 1)[1])


def test_a_description_is_read_by_pointing_and_kept_by_a_click(open_page: Any, report: Path) -> None:
    page = open_page(report)
    place = page.locator("#map-personality")
    page.mouse.move(*middle(place.locator(".points path").first))
    label = place.locator(".hovertext")
    label.wait_for()
    lines = label.locator("tspan.line").all_text_contents()
    assert max(map(len, lines)) <= 60 and "nearest" in lines[-1]
    page.mouse.click(*middle(place.locator(".points path").first))
    kept = place.locator(".reader p").first.inner_text()
    assert kept.split() == " ".join(lines[:-1]).split()


def test_descriptions_are_read_by_keyboard_alone(open_page: Any, report: Path) -> None:
    page = open_page(report)
    reader = page.locator("#map-profile .reader")
    page.locator("#map-profile .legend button").last.focus()
    for key in ("Tab", "Tab", "Enter", "Enter"):
        page.keyboard.press(key)
    assert reader.locator(".where").inner_text() == "2 of 60"
    assert "The case number is" in reader.inner_text()


def test_on_a_phone_a_tap_shows_the_text_under_the_map(open_page: Any, report: Path) -> None:
    page = open_page(report, width=390, has_touch=True, is_mobile=True)
    place = page.locator("#map-profile")
    page.touchscreen.tap(*middle(place.locator(".points path").nth(30)))
    place.locator(".reader .where", has_text="of 60").wait_for()
    assert "The case number is" in place.locator(".reader").inner_text()
    assert place.locator(".hovertext").count() == 0


def test_the_list_is_filtered_by_kind_reason_and_words_and_paged(open_page: Any, report: Path) -> None:
    page = open_page(report)
    area = page.locator("#rejected")
    assert shown(page) == ("1\N{EN DASH}20 of 175", 20)
    area.get_by_role("button", name="Next page").click()
    assert shown(page) == ("21\N{EN DASH}40 of 175", 20)
    area.get_by_label("Kind").select_option("personality")
    assert shown(page) == ("1\N{EN DASH}20 of 89", 20)
    option = area.get_by_label("Reason").locator("option", has_text="too short").inner_text()
    count = int(option.removeprefix("too short (").removesuffix(")"))
    area.get_by_label("Reason").select_option("too short")
    assert shown(page) == (f"1\N{EN DASH}{count} of {count}", count)
    assert set(area.locator(".tag").all_inner_texts()) == {"too short"}
    assert area.locator(".twins .note").first.inner_text() == "It was not compared: \N{EN DASH}"
    area.get_by_label("Reason").select_option("")
    first = area.locator(".twins p").first.inner_text()
    area.get_by_label("Search the texts").fill(first.upper())
    assert area.locator(".twins p").first.inner_text() == first
    area.get_by_label("Search the texts").fill("no such words")
    assert shown(page) == ("none", 0)
    assert area.get_by_role("button", name="Next page").is_disabled()


def test_the_list_may_begin_at_the_threshold(open_page: Any, report: Path) -> None:
    area = open_page(report).locator("#rejected")
    area.get_by_label("Kind").select_option("profile")
    area.get_by_label("Order").select_option("near")
    scores = [float(score) for score in area.locator(".twins-head strong").all_inner_texts()]
    assert len(scores) == 20
    assert [abs(score - 0.71) for score in scores] == sorted(abs(score - 0.71) for score in scores)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways(open_page: Any, report: Path, scheme: str) -> None:
    page = open_page(report, width=390, color_scheme=scheme)
    for dimension in ("region", "occupation"):
        page.locator("#map-profile select").select_option(label=dimension)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("width", [390, 1280])
def test_long_unbroken_and_hostile_text_is_shown_as_text_and_breaks(open_page: Any, hostile: Path, width: int) -> None:
    page = open_page(hostile, width=width)
    assert page.title() == HOSTILE
    assert HOSTILE in page.locator("#rejected .twins p").first.inner_text()
    page.locator("#map-profile").get_by_role("button", name="Next of the profiles").click()
    assert HOSTILE in page.locator("#map-profile .reader").inner_text()
    assert page.locator("img").count() == 0
    assert page.locator("main a").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_markup_is_text_in_what_pointing_shows(open_page: Any, hostile: Path) -> None:
    page = open_page(hostile)
    page.mouse.move(*middle(page.locator("#map-personality .points path").first))
    label = page.locator("#map-personality .hovertext")
    label.wait_for()
    words = "".join(label.locator("tspan.line").all_text_contents()).replace(" ", "")
    assert "<ahref='http://example.org'>&lt;b&gt;</a>" in words
    assert label.locator("a").count() == 0


def test_without_script_the_counts_and_pairs_are_there(open_page: Any, report: Path) -> None:
    page = open_page(report, java_script_enabled=False)
    assert page.locator("h1").inner_text().startswith("60 profiles and 24 personalities;")
    assert page.locator("#coverage .bars").count() == 12
    assert page.locator("#candidates .bars").first.locator("dt").first.inner_text() == "accepted"
    assert page.locator("#heldout .twins").first.is_visible()
    assert page.locator("noscript").is_visible()
    assert page.locator("#provenance dd").inner_text() == "made up"
