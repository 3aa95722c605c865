from __future__ import annotations

import pytest

from interalign.evaluation.statistics import Estimate
from interalign.evaluation.summary import Kind, ModelSummary, Summary
from interalign.report.finding import finding

NONE = Estimate()


def model(name: str, level: float | None, difference: Estimate | None = None, **more: object) -> ModelSummary:
    around = NONE if level is None else Estimate(value=level, low=level - 0.1, high=level + 0.1)
    kind: Kind = "model"
    known = {"kind": kind, "cases": 50, "missing": 0, "al": (around,), "mean_al": around, "r2": NONE, "n_ir": NONE}
    rest = {"ir": NONE, "gap": NONE, "uptake": NONE, "difference": difference}
    return ModelSummary.model_validate({"name": name, **known, **rest, **more})


def summary(*models: ModelSummary) -> Summary:
    return Summary(world="Rules", turns=4, baseline="base", resamples=100, seed=0, models=models)


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("difference", "headline"),
    [
        (
            Estimate(value=0.8, low=0.6, high=1.0),
            "tuned answers people 0.80 points better than base (95 % interval 0.60 to 1.00).",
        ),
        (
            Estimate(value=-0.8, low=-1.0, high=-0.6),
            "tuned answers people 0.80 points worse than base (95 % interval 0.60 to 1.00).",
        ),
        (
            Estimate(value=0.1, low=-0.1, high=0.3),
            "No difference is shown between tuned and base: +0.10 points (95 % interval -0.10 to +0.30).",
        ),
        (Estimate(value=0.8), "No difference is shown between tuned and base: +0.80 points (no interval)."),
    ],
)
def test_the_headline_claims_what_the_interval_shows(difference: Estimate, headline: str) -> None:
    found = finding(summary(model("base", 2.4), model("tuned", 3.2, difference)))
    assert plain(found.headline) == headline


def test_the_best_model_is_the_subject_and_the_choice_is_admitted() -> None:
    gain = Estimate(value=0.5, low=0.4, high=0.6)
    models = (model("base", 4.9), model("sft", 3.0, gain), model("dpo", 3.4, gain), model("late", None))
    found = finding(summary(*models))
    assert found.headline.startswith("dpo ")
    assert any("best of 3 compared models" in sentence for sentence in found.support)


def test_the_baseline_alone_and_nothing_judged() -> None:
    assert plain(finding(summary(model("base", 2.4))).headline) == (
        "base answers people at 2.40 of 5 points (95 % interval 2.30 to 2.50)."
    )
    assert "No reply could be judged" in finding(summary(model("base", None))).headline


def test_the_listener_stands_for_the_ceiling_before_the_oracle() -> None:
    oracle = model("oracle", 4.9, kind="control")
    listener = model("oracle-disclosed", 3.9, kind="control")
    assert "reach 4.90 of 5" in finding(summary(model("base", 2), oracle)).support[0]
    assert "reach 3.90 of 5" in finding(summary(model("base", 2), oracle, listener)).support[0]


def test_a_control_that_does_as_well_is_named() -> None:
    constant = model("constant", 2.4, kind="control")
    assert any("constant (2.40)" in sentence for sentence in finding(summary(model("base", 2.4), constant)).support)
    assert not finding(summary(model("base", 2.5), constant)).support


@pytest.mark.parametrize(
    ("estimate", "improvement", "personal"),
    [
        (Estimate(value=0.2, low=0.1, high=0.3), "gets better as it gets to know", "fit the person they were written"),
        (Estimate(value=-0.2, low=-0.3, high=-0.1), "gets worse as it gets to know", "It is not shown that its"),
        (Estimate(value=0.0, low=-0.1, high=0.1), "It is not shown that base gets", "It is not shown that its"),
    ],
)
def test_improvement_and_gap_are_claimed_only_when_shown(estimate: Estimate, improvement: str, personal: str) -> None:
    first, second = finding(summary(model("base", 2.4, ir=estimate, gap=estimate))).support
    assert improvement in first
    assert personal in second


def test_missing_verdicts_are_owned_up_to() -> None:
    (sentence,) = finding(summary(model("base", 2.4, missing=3), model("tuned", None, missing=200))).support
    assert sentence.startswith("203 of 400 turns have no verdict, most often with tuned (200 of 200)")
