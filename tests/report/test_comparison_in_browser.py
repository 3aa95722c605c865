"""The page of a comparison in a real browser with the network off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interalign.evaluation.compare import Comparison, Source
from interalign.report.comparison import write_comparison
from tests.report.made_up import evaluation

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def comparison_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("comparison") / "comparison.html"
    summary = evaluation(cases=5, turns=4, models=("base", "sft", "sft+dpo", "mirror")).summary
    found = Comparison(summary=summary, sources=(Source(label="one", cases=5, left_out=0),))
    write_comparison(path, found, title="one and two", facts={"one": "base"})
    return path


def test_curves_and_pairs_are_drawn(open_page: Any, comparison_page: Path) -> None:
    page = open_page(comparison_page)
    assert page.locator("#curves-figure .scatterlayer .trace").count() == 8  # a line and a band for each of 4
    assert page.locator("#al-figure .errorbars path").count() == 6
    assert page.locator("#ir-figure .errorbars path").count() == 6


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways(open_page: Any, comparison_page: Path, scheme: str) -> None:
    page = open_page(comparison_page, width=390, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_without_script_the_tables_are_there(open_page: Any, comparison_page: Path) -> None:
    page = open_page(comparison_page, java_script_enabled=False)
    assert page.locator("table.pairs tbody tr").count() == 6
