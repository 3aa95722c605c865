from __future__ import annotations

import json
from pathlib import Path

import pytest

from interalign.errors import StorageError
from interalign.evaluation.compare import Comparison, Source
from interalign.evaluation.summary import Summary
from interalign.report.comparison import comparison_finding, render_comparison, write_comparison
from tests.report.elements import Elements
from tests.report.made_up import evaluation

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>-->{{7*7}}\u2028\"'&amp;"
FACTS = {"run one": "base, sft", "interalign": "0"}


def comparison(hostile: str = "", models: tuple[str, ...] = ("base", "sft", "sft+dpo")) -> Comparison:
    sources = (Source(label="run one" + hostile, cases=8, left_out=0), Source(label="run two", cases=6, left_out=2))
    summary = evaluation(cases=6, turns=4, hostile=hostile, models=models).summary
    return Comparison(summary=summary, sources=sources, notes=("The seeds differ." + hostile,))


@pytest.fixture(scope="module")
def page() -> Elements:
    return Elements(render_comparison(comparison(), title="run one and run two", facts=FACTS))


def test_every_pair_stands_in_the_markup_and_in_the_data(page: Elements) -> None:
    words = page.words("pairs")
    for pair in ("sft \N{MINUS SIGN} base", "sft+dpo \N{MINUS SIGN} base", "sft+dpo \N{MINUS SIGN} sft"):
        assert pair in words
    data = json.loads(page.scripts[0])
    assert [(pair["first"], pair["second"]) for pair in data["pairs"]] == [
        ("base", "sft"), ("base", "sft+dpo"), ("sft", "sft+dpo"),
    ]  # fmt: skip
    assert [len(model["al"]) for model in data["models"]] == [4, 4, 4]


def test_who_is_left_out_and_what_to_know_stand_at_the_top(page: Elements) -> None:
    assert "2 of 6 persons of run two are left out." in page.words("finding")
    assert "The seeds differ." in page.words("finding")
    assert "run one" in page.words("results") and "base, sft" in page.words("results")


def test_the_headline_claims_what_the_intervals_show() -> None:
    found = comparison_finding(comparison())
    assert found.headline.startswith(("sft+dpo answers people", "sft answers people"))
    assert "better than base" in found.headline
    same = comparison().summary
    pairs = tuple(pair.model_copy(update={"mean_al": pair.mean_al.model_copy(update={"low": -1.0, "high": 1.0})})
                  for pair in same.pairs)  # fmt: skip
    none = comparison().model_copy(update={"summary": same.model_copy(update={"pairs": pairs})})
    assert comparison_finding(none).headline == "No two models are shown to differ."


def test_undefined_differences_are_a_dash_and_no_claim() -> None:
    made = comparison(models=("base", "sft"))
    empty = made.summary.pairs[0].mean_al.model_copy(update=dict.fromkeys(("value", "low", "high", "p")))
    pair = made.summary.pairs[0].model_copy(update={"mean_al": empty})
    summary: Summary = made.summary.model_copy(update={"pairs": (pair,)})
    found = made.model_copy(update={"summary": summary})
    assert comparison_finding(found).headline == "No difference is shown."
    page = Elements(render_comparison(found, title="x", facts={}))
    assert "sft \N{MINUS SIGN} base \N{EN DASH}" in page.words("pairs")


def test_hostile_text_stays_text_everywhere() -> None:
    found = comparison(hostile=HOSTILE)
    page = Elements(render_comparison(found, title=HOSTILE, facts={HOSTILE: HOSTILE}))
    assert len(page.scripts) == 3
    assert not any(tag == "img" for tag, _ in page.tags)
    assert json.loads(page.scripts[0])["pairs"][0]["second"] == "sft" + HOSTILE


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_comparison(tmp_path / "file" / "page.html", comparison(), title="x", facts={})
    write_comparison(tmp_path / "page.html", comparison(), title="x", facts={})
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
