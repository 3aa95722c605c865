from __future__ import annotations

import pytest

from interalign.evaluation.measures import Bounds, CounterfactualLevels
from interalign.evaluation.statistics import Estimate
from interalign.evaluation.summary import Kind, ModelSummary, PairDifference, Summary
from interalign.report.finding import finding

NONE = Estimate()
NOT_MORE = (
    "Beware: at the turns where both were judged, its gap is not shown to be more than that of one plain style for "
    "everybody (constant):"
)


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


@pytest.mark.parametrize(
    ("above", "told"),
    [
        (
            Estimate(value=0.4, low=0.2, high=0.6),
            "At the turns where both were judged, its gap is 0.40 points (95 % interval 0.20 to 0.60) more than that "
            "of one plain style for everybody",
        ),
        (Estimate(value=0.1, low=-0.1, high=0.3), f"{NOT_MORE} +0.10 points"),
        (Estimate(value=-0.4, low=-0.6, high=-0.2), f"{NOT_MORE} -0.40 points"),
    ],
)
def test_a_gap_is_held_against_that_of_impersonal_replies(above: Estimate, told: str) -> None:
    gap = Estimate(value=0.5, low=0.3, high=0.7)
    first, second = finding(summary(model("base", 2.4, gap=gap, gap_above=above))).support
    assert "fit the person they were written" in first and plain(second).startswith(told)
    nice = in_place("generic-nice", Estimate())
    first, second = finding(summary(model("base", 2.4, gap=gap, gap_above=above, counterfactuals=(nice,)))).support
    assert "than that of the same model told to look at nobody (generic-nice)" in second
    # Where no gap is shown nothing can be more.
    none = Estimate(value=0.0, low=-0.1, high=0.1)
    assert len(finding(summary(model("base", 2.4, gap=none, gap_above=above))).support) == 1


def test_missing_verdicts_are_owned_up_to() -> None:
    (sentence,) = finding(summary(model("base", 2.4, missing=3), model("tuned", None, missing=200))).support
    assert sentence.startswith("203 of 400 turns have no verdict, most often with tuned (200 of 200)")


def test_of_one_model_alone_it_is_not_told_whose_verdicts_are_missing() -> None:
    *_, sentence = finding(summary(model("base", 2.4, missing=7))).support
    assert sentence == "7 of 200 turns have no verdict. They are left out, not scored low."


RED = "12.0% of the verdicts are missing."


def pair(second: str, p: float) -> PairDifference:
    difference = Estimate(value=0.3, low=0.05, high=0.5, p=p)
    return PairDifference(first="base", second=second, al=(difference,), mean_al=difference, ir=NONE)


def in_place(name: str, difference: Estimate) -> CounterfactualLevels:
    level = Estimate(value=3, low=2.9, high=3.1)
    return CounterfactualLevels(name=name, al=(level,), mean_al=level, difference=difference)


@pytest.mark.parametrize("red", ["base", "tuned"])
def test_with_too_many_missing_verdicts_nothing_is_claimed(red: str) -> None:
    gain = Estimate(value=0.8, low=0.6, high=1.0)
    bounds = Bounds(low=-0.2, high=1.4)
    tuned = model("tuned", 3.2, gain, ir=gain, gap=gain, difference_bounds=bounds, red=RED if red == "tuned" else None)
    found = finding(summary(model("base", 2.4, red=RED if red == "base" else None), tuned))
    assert found.red
    assert found.headline == "Too many verdicts are missing to say whether tuned answers people better than base."
    assert [plain(sentence) for sentence in found.support] == [
        "The verdicts that are there give a difference of +0.80 points (95 % interval +0.60 to +1.00), as if the "
        "others would have been like them.",
        "Whatever the missing ones would have been, it lies between -0.20 and +1.40 in these conversations.",
    ]


def test_a_red_baseline_alone_claims_nothing() -> None:
    found = finding(summary(model("base", 2.4, red=RED, bounds=Bounds(low=2.1, high=2.9))))
    assert found.headline == "Too many verdicts are missing to say how well base answers people."
    assert "between 2.10 and 2.90" in found.support[1]


def test_a_red_model_is_not_chosen_where_there_is_another() -> None:
    gain = Estimate(value=0.5, low=0.4, high=0.6)
    found = finding(summary(model("base", 2), model("best", 4, gain, red=RED), model("sure", 3, gain)))
    assert found.headline.startswith("sure answers people") and not found.red
    assert found.support[0] == "Not considered, because too many verdicts are missing: best."
    alone = finding(summary(model("base", 2), model("best", 4, gain, red=RED)))
    assert alone.red and "whether best answers" in alone.headline


def test_the_best_of_several_is_held_against_their_number() -> None:
    gain = Estimate(value=0.3, low=0.05, high=0.5)
    models = (model("base", 2.4), model("sft", 2.6, gain), model("dpo", 2.7, gain))
    shown = summary(*models).model_copy(update={"pairs": (pair("sft", 0.2), pair("dpo", 0.01))})
    found = finding(shown)
    assert found.headline.startswith("dpo answers people 0.30 points better than base")
    assert any("Corrected for that (Holm) the difference has p = 0.020" in sentence for sentence in found.support)
    chance = finding(summary(*models).model_copy(update={"pairs": (pair("sft", 0.2), pair("dpo", 0.03))}))
    assert chance.headline.startswith(
        "No difference is shown between dpo and base, for the best of 2 models may be so by chance: +0.30 points"
    )


@pytest.mark.parametrize(
    ("difference", "sentence"),
    [
        (Estimate(value=0.4, low=0.2, high=0.6), "tuned does better than the same model told only to be brief"),
        (Estimate(value=0.1, low=-0.1, high=0.3), "Beware: it is not shown that tuned does better than the same model"),
        (Estimate(value=-0.4, low=-0.6, high=-0.2), "Beware: tuned does worse than the same model"),
    ],
)
def test_mere_niceness_is_a_rival(difference: Estimate, sentence: str) -> None:
    tuned = model("tuned", 3.2, Estimate(value=0.1), counterfactuals=(in_place("generic-nice", difference),))
    assert any(told.startswith(sentence) for told in finding(summary(model("base", 2.4), tuned)).support)


def test_what_the_model_has_not_taken_in_is_told_where_it_is_shown() -> None:
    less = in_place("disclosed-only oracle", Estimate(value=-0.4, low=-0.6, high=-0.2))
    (told,) = finding(summary(model("base", 2.4, counterfactuals=(less,)))).support
    assert plain(told) == (
        "Told all that the user had shown by then, it would do better, by 0.40 points (95 % interval 0.20 to 0.60)."
    )
    same = in_place("disclosed-only oracle", Estimate(value=-0.1, low=-0.3, high=0.1))
    (told,) = finding(summary(model("base", 2.4, counterfactuals=(same,)))).support
    assert told.startswith("It is not shown that it would do better if it were told")


@pytest.mark.parametrize(("high", "warned"), [(3.4, True), (3.9, False)])
def test_what_is_clearly_lost_is_warned_of(high: float, warned: bool) -> None:
    base = model(
        "base",
        2.4,
        helpfulness=Estimate(value=4, low=3.8, high=4.2),
        mind_reading=Estimate(value=0.1, low=0.05, high=0.15),
    )
    tuned = model(
        "tuned",
        3,
        Estimate(value=0.1),
        helpfulness=Estimate(value=3.2, low=3, high=high),
        mind_reading=Estimate(value=0.3, low=0.25 if warned else 0.12, high=0.4),
    )
    sentences = [plain(told) for told in finding(summary(base, tuned)).support]
    assert (
        any("less than those of base: 3.20 of 5 (95 % interval 3.00 to 3.40)" in told for told in sentences) is warned
    )
    assert any("in 30 % (95 % interval 25 to 40 %) of the replies" in told for told in sentences) is warned


@pytest.mark.parametrize(("low", "told"), [(-0.05, True), (0.05, False)])
def test_a_difference_that_the_missing_verdicts_could_undo_is_told(low: float, told: bool) -> None:
    gain = Estimate(value=0.3, low=0.1, high=0.5)
    tuned = model("tuned", 2.7, gain, difference_bounds=Bounds(low=low, high=0.4))
    support = finding(summary(model("base", 2.4), tuned)).support
    assert any(sentence.startswith("If all missing verdicts went against it") for sentence in support) is told
