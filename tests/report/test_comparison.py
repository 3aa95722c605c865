from __future__ import annotations

import json
from pathlib import Path

import pytest

from interalign.errors import StorageError
from interalign.evaluation.compare import Comparison, Source
from interalign.evaluation.statistics import Estimate
from interalign.evaluation.summary import Summary
from interalign.report.comparison import comparison_finding, render_comparison, write_comparison
from tests.report.elements import Elements
from tests.report.made_up import evaluation

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>-->{{7*7}}\u2028\"'&amp;"
FACTS = {"run one": "base, sft", "interalign": "0"}


def comparison(hostile: str = "", models: tuple[str, ...] = ("base", "sft", "sft+dpo")) -> Comparison:
    sources = (Source(label="run one" + hostile, cases=8, left_out=0), Source(label="run two", cases=6, left_out=2))
    summary = evaluation(cases=6, turns=4, hostile=hostile, models=models).summary
    found = Comparison(summary=summary, sources=sources, notes=("The seeds differ." + hostile,))
    return with_red(found)


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


def with_red(found: Comparison, *names: str) -> Comparison:
    """These models, and no others, lack too many verdicts."""
    models = tuple(
        model.model_copy(
            update={"red": f"Half of the verdicts on {model.name} are missing." if model.name in names else None}
        )
        for model in found.summary.models
    )
    return found.model_copy(update={"summary": found.summary.model_copy(update={"models": models})})


def test_small_p_values_are_no_zeros(page: Elements) -> None:
    tiny = {"mean_al": Estimate(value=1, low=0.9, high=1.1, p=0.0002), "ir": Estimate(value=2, low=-1, high=5, p=0.5)}
    found = comparison(models=("base", "sft"))
    pair = found.summary.pairs[0].model_copy(update=tiny)
    found = found.model_copy(update={"summary": found.summary.model_copy(update={"pairs": (pair,)})})
    words = Elements(render_comparison(found, title="x", facts={})).words("pairs")
    assert "<0.001" in words and "0.500" in words and "0.000" not in words


def test_a_run_that_lacks_too_many_verdicts_stands_above_everything() -> None:
    text = render_comparison(with_red(comparison(), "sft"), title="x", facts={})
    page = Elements(text)
    assert [tag for tag, attributes in page.tags if attributes.get("role") == "alert"] == ["section"]
    banner, _, rest = text.partition('<header class="page-head">')
    assert "Half of the verdicts on sft are missing." in banner and "Half of the verdicts" not in rest
    # Two of the three pairs have it, and so has its row of numbers.
    assert page.words("pairs").count("not to be trusted") == 2
    assert page.words("numbers").count("not to be trusted") == 1


def test_a_page_without_red_has_no_banner(page: Elements) -> None:
    assert not any(attributes.get("role") == "alert" for _, attributes in page.tags)


def test_nothing_is_claimed_of_what_is_not_to_be_trusted() -> None:
    found = comparison_finding(with_red(comparison(), "sft+dpo"))
    assert not found.red and found.headline.startswith("sft answers people") and "pairs differ" not in found.headline
    assert "Not considered, because too many verdicts are missing: sft+dpo." in found.support
    none = comparison_finding(with_red(comparison(), "sft+dpo", "base"))
    assert none.red and none.headline == "Too many verdicts are missing to say which model answers people better."
    two = comparison_finding(with_red(comparison(models=("base", "sft")), "base"))
    assert two.red and two.headline.endswith("say whether sft answers people better than base.")
    assert "The seeds differ." in two.support


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
