from __future__ import annotations

import re

import pytest
from rich.console import Console

from interalign.errors import InputError
from interalign.evaluation.notation import UNDEFINED, number, shown_turns
from interalign.evaluation.rows import Counterfactual, Induction, TurnRow
from interalign.evaluation.statistics import Estimate
from interalign.evaluation.summary import Summary, summarise
from interalign.evaluation.tables import markdown, table
from interalign.personas.persona import Persona
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Disclosure

WORLD = "Rule-based users, rule-based judge"
CONTROLS = ("mirror",)


def row(case: str, turn: int, score: float | None, **more: object) -> TurnRow:
    verdict = None if score is None else Verdict(score=score, penalties={"stuffing": 0.5} if score < 2 else {})
    known = {"user": "Hello", "reply": "one two three", "disclosure": Disclosure(turn=turn), "verdict": verdict}
    return TurnRow.model_validate({"case": case, "turn": turn, **known, **more})


def chats(lift: float, turns: int = 3, cases: int = 12) -> list[TurnRow]:
    return [
        row(
            f"person{case}",
            turn,
            1.5 + lift + 0.2 * turn + 0.01 * case,
            swapped=Verdict(score=1.5),
            uptake=None if turn == 1 else case % 2 == 0,
        )
        for case in range(cases)
        for turn in range(1, turns + 1)
    ]


def summary_of(rows: dict[str, list[TurnRow]]) -> Summary:
    return summarise(rows, controls=CONTROLS, baseline="base", world=WORLD, resamples=200)


def example(turns: int = 3) -> Summary:
    return summary_of({"base": chats(0, turns), "tuned": chats(1, turns), "mirror": chats(0.3, turns)})


def test_a_summary_holds_levels_differences_and_counts() -> None:
    summary = example()
    base, tuned = summary.model("base"), summary.model("tuned")
    assert (summary.turns, tuned.cases, tuned.missing) == (3, 12, 0)
    assert tuned.ir.value == pytest.approx(0.2)
    assert tuned.difference is not None and tuned.difference.low == pytest.approx(1)
    assert tuned.relative is not None and tuned.relative.low is not None
    assert tuned.relative.value == pytest.approx(1 / base.mean_al.value if base.mean_al.value else None)
    assert (base.difference, base.ir_difference, base.relative) == (None, None, None)
    assert tuned.uptake.value == pytest.approx(0.5)
    assert tuned.gap.value == pytest.approx(tuned.mean_al.value - 1.5 if tuned.mean_al.value else None)
    assert tuned.length_words == 3
    assert [model.name for model in summary.of_kind("control")] == ["mirror"]


def test_the_relative_difference_is_of_the_replies_that_both_have_a_verdict_on() -> None:
    easy = [one.model_copy(update={"verdict": Verdict(score=5)}) for one in chats(0) if one.turn == 3]
    base = [*(one for one in chats(0) if one.turn < 3), *easy]
    tuned = [one if one.turn < 3 else one.model_copy(update={"verdict": None}) for one in chats(1)]
    summary = summary_of({"base": base, "tuned": tuned})
    both = [one.verdict.score for one in base if one.turn < 3 and one.verdict]
    relative, difference = summary.model("tuned").relative, summary.model("tuned").difference
    assert relative is not None and relative.value == pytest.approx(1 / (sum(both) / len(both)))
    assert difference is not None and difference.value == pytest.approx(1)


def test_penalties_are_means_over_judged_replies() -> None:
    base = chats(0)
    judged = [one.verdict for one in base if one.verdict is not None]
    low = sum(verdict.score < 2 for verdict in judged)
    assert summary_of({"base": base}).model("base").penalties == {"stuffing": pytest.approx(0.5 * low / len(judged))}


def test_missing_verdicts_and_absent_turns_are_counted_and_weigh_nothing() -> None:
    rows = [row("a", 1, 4), row("a", 2, None), row("b", 1, 2), row("b", 2, 3), row("b", 3, None, failure="timeout")]
    base = summary_of({"base": rows}).model("base")
    assert base.missing == 3  # an unreadable verdict, a failure, and the turn that 'a' never reached
    assert [level.value for level in base.al] == [3, 3, None]
    assert base.length_words == 3


def test_the_order_of_rows_changes_nothing() -> None:
    rows = {"base": chats(0), "tuned": chats(1)}
    backwards = {name: of_model[::-1] for name, of_model in rows.items()}
    assert summary_of(rows) == summary_of(backwards)


def test_a_summary_survives_its_file() -> None:
    summary = example()
    assert Summary.model_validate_json(summary.model_dump_json()) == summary


def test_models_that_met_other_people_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"'tuned' has no rows of 2 of 12 persons \(person10, person11\)"):
        summary_of({"base": chats(0), "tuned": chats(1, cases=10)})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"tuned": chats(0)}, "no rows of the baseline 'base', only of tuned"),
        ({"base": chats(0), "tuned": []}, "no rows of 'tuned'"),
        ({"base": [row("a", 1, 3), row("a", 1, 4)]}, "'base' has two rows of turn 1 with 'a'"),
    ],
)
def test_rows_that_cannot_be_summarised(rows: dict[str, list[TurnRow]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        summary_of(rows)


def test_an_unknown_model_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        example().model("nobody")


@pytest.mark.parametrize(
    ("value", "text"), [(None, UNDEFINED), (1.005, "+1.00"), (0.0, "0.00"), (-0.001, "0.00"), (-0.2, "-0.20")]
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value, signed=True) == text


@pytest.mark.parametrize(("turns", "shown"), [(1, (1,)), (5, (1, 2, 3, 4, 5)), (6, (1, 3, 6)), (10, (1, 5, 10))])
def test_shown_turns(turns: int, shown: tuple[int, ...]) -> None:
    assert shown_turns(turns) == shown


@pytest.mark.parametrize("turns", [1, 5, 10])
def test_the_terminal_table_fits_and_hides_nothing(turns: int) -> None:
    console = Console(width=80, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(table(example(turns)))
    text = captured.get()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    for shown in ("base", "tuned", "mirror", f"AL({turns})", "mean AL", "N-IR", "+1.00 to +1.00", WORLD):
        assert shown in text


def test_controls_stand_below_models_whatever_their_order() -> None:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table(summary_of({"mirror": chats(0), "base": chats(0)})))
    text = captured.get()
    assert text.index("base") < text.index("mirror")


def test_a_name_is_text_and_not_markup() -> None:
    rows = {"base": chats(0), "[red]x|y": chats(1)}
    summary = summarise(rows, baseline="base", world=WORLD, resamples=50)
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table(summary))
    assert "[red]x|y" in captured.get()
    lines = markdown(summary).splitlines()
    assert r"\[red\]x\|y" in lines[3]


def test_markdown_has_a_cell_for_every_column() -> None:
    lines = markdown(example(1)).splitlines()
    assert {line.count("|") for line in lines[:5]} == {lines[0].count("|")}
    assert "*mirror*" in lines[4]
    assert UNDEFINED in lines[2]  # one turn has no slope
    assert WORLD in lines[-1]


def everything() -> Summary:
    """Three models of forty crossed people, with all that can be measured and a tenth of the verdicts missing."""
    people = [
        Persona(profile=f"Ada is a {age}-year-old baker.", personality=f"She is {mood}.", split="heldout")
        for age in (19, 28, 33, 40, 52, 58, 66, 71, 82, 90)
        for mood in ("calm", "loud", "shy", "vain")
    ]

    def rows(lift: float) -> list[TurnRow]:
        return [
            row(
                person.id,
                turn,
                None if (place + turn) % 10 == 0 and not repeat else 2 + lift + 0.2 * turn + 0.03 * (place % 7),
                mind_reading=place % 5 == 0,
                helpfulness=3.5,
                induction=Induction(statements=("a", "b"), true=1, disclosed=4, found=min(turn, 4)),
                controls={"constant": Counterfactual(reply="x", verdict=Verdict(score=2))},
                repeat=repeat,
            )
            for place, person in enumerate(people)
            for repeat in range(2 if place < 8 else 1)
            for turn in range(1, 6)
        ]

    return summarise(
        {"base": rows(0), "sft": rows(0.5), "dpo": rows(1.2)},
        baseline="base",
        world=WORLD,
        resamples=200,
        people={person.id: person for person in people},
    )


def test_all_that_was_measured_is_told() -> None:
    summary = everything()
    assert (summary.profiles, summary.personalities, summary.turns) == (10, 4, 5)
    dpo = summary.model("dpo")
    assert dpo.missing_share == pytest.approx(0.1)
    assert dpo.bounds is not None and dpo.mean_al.value is not None
    assert dpo.bounds.low < dpo.mean_al.value < dpo.bounds.high
    assert dpo.red is not None and "10.0% of the verdicts on dpo are missing" in dpo.red
    assert dpo.reached is not None and dpo.reached.turn.value == 4
    assert dpo.mind_reading is not None and dpo.mind_reading.value == pytest.approx(0.2)
    assert dpo.helpfulness is not None and dpo.helpfulness.value == pytest.approx(3.5)
    assert dpo.induction is not None
    assert [level.value for level in dpo.induction.recall] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert dpo.induction.mean_precision.value == pytest.approx(0.5)
    (constant,) = dpo.counterfactuals
    assert constant.mean_al.value == 2 and constant.difference.value == pytest.approx(dpo.mean_al.value - 2)
    assert dpo.noise is not None and dpo.noise.cases == 8
    assert {(group.kind, group.name, group.cases) for group in dpo.groups} >= {("age", "25-34", 8)}


def test_every_pair_of_models_is_compared_once() -> None:
    summary = everything()
    assert [(pair.first, pair.second) for pair in summary.pairs] == [("base", "sft"), ("base", "dpo"), ("sft", "dpo")]
    to_base = summary.pairs[1]
    assert to_base.mean_al.value == summary.model("dpo").difference.value  # type: ignore[union-attr]
    assert to_base.mean_al.p is not None and to_base.mean_al.p < 0.05
    assert to_base.bounds == summary.model("dpo").difference_bounds
    assert len(to_base.al) == 5


def test_repeats_count_for_the_noise_only() -> None:
    again = [one.model_copy(update={"repeat": 1, "verdict": Verdict(score=5)}) for one in chats(0)]
    with_repeats, without = summary_of({"base": chats(0) + again}), summary_of({"base": chats(0)})
    assert with_repeats.model("base").noise is not None
    assert with_repeats.model("base").model_copy(update={"noise": None}) == without.model("base")


def test_a_model_that_has_only_repeats_was_not_evaluated() -> None:
    with pytest.raises(InputError, match="no rows of 'base'"):
        summary_of({"base": [one.model_copy(update={"repeat": 1}) for one in chats(0)]})


def test_five_percent_missing_is_no_alarm() -> None:
    rows = [row(f"p{case}", 1, None if case == 0 else 3) for case in range(20)]
    base = summary_of({"base": rows}).model("base")
    assert base.red is None and base.missing_share == pytest.approx(0.05)
    assert base.bounds is not None and [base.bounds.low, base.bounds.high] == pytest.approx([2.9, 3.1])


def test_why_verdicts_are_missing_is_told_with_what_mends_the_commonest_reason() -> None:
    lost = {"no JSON": 3, "refused": 1}
    rows = [row(f"p{case}", 1, 3) for case in range(16)]
    rows += [row(f"q{why}{case}", 1, None, missing={"verdict": why}) for why, n in lost.items() for case in range(n)]
    summary = summary_of({"base": rows, "tuned": [row(one.case, 1, 3) for one in rows]})
    base, tuned = summary.model("base"), summary.model("tuned")
    assert (base.lacking, tuned.lacking) == (lost, {}) and sum(base.lacking.values()) == base.missing
    assert base.red is not None and "Most often: no JSON, 3 of 4; to mend it, let the judge" in base.red
    text = " ".join(printed(summary).split())
    assert "why verdicts are missing" in text and "base: no JSON 3" in text and "base: refused 1" in text
    assert "| base: no JSON | 3 |" in markdown(summary)
    assert "why verdicts are missing" not in printed(example()) + markdown(example())


def test_replies_that_were_cut_have_a_column_and_a_warning_above_a_twentieth() -> None:
    def cut(share: int) -> list[TurnRow]:
        return [row(f"p{case}", 1, 3, cut_at=400 if case < share else 0) for case in range(20)]

    summary = summary_of({"base": cut(1), "tuned": cut(3)})
    assert [model.cut and model.cut.share for model in summary.models] == [0.05, 0.15]
    assert summary.model("base").warning is None
    for text in (" ".join(printed(summary).split()), markdown(summary)):
        assert "15% of the replies of tuned were cut at 400 tokens" in text and "of the replies of base" not in text
    assert "share of replies that were cut" in " ".join(printed(summary).split())
    whole = summary_of({"base": cut(0), "tuned": cut(0)})
    assert "cut" not in printed(whole).split() and whole.model("base").cut is not None
    assert example().model("base").cut is None


def test_what_was_not_measured_is_none() -> None:
    base = example().model("base")
    assert (base.mind_reading, base.helpfulness, base.induction, base.noise, base.bounds) == (None,) * 5
    assert (base.counterfactuals, base.groups) == ((), ())
    assert base.reached is not None and base.reached.never.value == 1


def test_summaries_of_older_versions_still_load() -> None:
    new = {"missing_share", "red", "bounds", "difference_bounds", "case_sd", "reached", "mind_reading", "helpfulness"}
    new |= {"induction", "counterfactuals", "noise", "groups", "lacking", "cut", "warning"}
    dumped = example().model_dump(mode="json", exclude={"pairs": True, "profiles": True, "personalities": True})
    for model in dumped["models"]:
        for field in new:
            del model[field]
        if model["relative"] is not None:
            model["relative"] = model["relative"]["value"]
        for estimate in (model["mean_al"], *model["al"]):
            del estimate["p"]
    old = Summary.model_validate(dumped)
    assert old.model("tuned").mean_al == example().model("tuned").mean_al
    relative = example().model("tuned").relative
    assert relative is not None and old.model("tuned").relative == Estimate(value=relative.value)
    assert "| baseline |" in markdown(old) and old.pairs == ()
    assert table(old).row_count > 0


def test_a_full_table_fits_into_a_terminal() -> None:
    summary = everything()
    console = Console(width=80)
    with console.capture() as captured:
        console.print(table(summary))
    text = captured.get()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    for shown in (
        "mind-reading",
        "dpo − sft",
        "0.010",
        "missing verdicts",
        "10.0%",
        "10 profiles and 4 personalities",
    ):
        assert shown in " ".join(text.split())
    assert "Noise: " in text
    assert "| dpo − sft |" in markdown(summary) and "**10.0%" in markdown(summary)


def printed(summary: Summary, width: int = 80) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(table(summary, width))
    return captured.get()


def rules_of(text: str) -> list[int]:
    return [place for place, line in enumerate(text.splitlines()) if re.fullmatch(r"\s*─+\s*", line)]


def flat(score: float = 3) -> list[TurnRow]:
    return [row(f"person{case}", turn, score, swapped=Verdict(score=2)) for case in range(12) for turn in (1, 2, 3)]


@pytest.mark.parametrize("summary", [example(10), everything()])
def test_a_wide_terminal_has_fewer_tables_and_each_stands_for_itself(summary: Summary) -> None:
    narrow, wide = printed(summary, 80), printed(summary, 120)
    assert max(map(len, narrow.splitlines())) <= 80 < max(map(len, wide.splitlines())) <= 120
    shown = [len(re.findall(r"AL\(\d+\)", text)) / len(rules_of(text)) for text in (narrow, wide)]
    assert shown[0] < shown[1]
    for text in (narrow, wide):
        lines = text.splitlines()
        # A header stands above each rule, and a space above the header; controls have a rule of their own.
        heads = [place for place in rules_of(text) if lines[place - 1].strip().startswith(("model", "pair", "missing"))]
        assert all(place == 1 or not lines[place - 2].strip() for place in heads)
        assert all(later - earlier > 1 for earlier, later in zip(rules_of(text), rules_of(text)[1:], strict=False))


def test_ranges_have_one_form() -> None:
    for text in (printed(everything()), markdown(everything()), printed(example())):
        assert re.search(r"\d to \+?\d", text) and not re.search(r"\d\N{EN DASH}", text)


def test_one_model_has_no_baseline() -> None:
    for text in (printed(summary_of({"base": flat()})), markdown(summary_of({"base": flat()}))):
        assert "aseline" not in text
    alone = printed(summary_of({"base": chats(0), "mirror": chats(0.3)}))
    assert "aseline" not in alone and "mirror" in alone


def test_the_baseline_is_named_with_the_reason() -> None:
    told = " ".join(printed(example()).split())
    assert "Baseline: base, the model before training." in told
    rows = {"one": chats(0), "two": chats(1)}
    told = " ".join(printed(summarise(rows, baseline="one", world=WORLD, resamples=50)).split())
    assert "Baseline: one, the first of the models." in told and "one 1.7" in told


def test_only_columns_that_are_shown_are_explained() -> None:
    text = printed(example())
    assert "share of the complaints" in text and "claim what the user" not in text and "chance alone" not in text
    assert "claim what the user" in printed(everything()) and "chance alone" in printed(everything())


def test_why_a_value_is_not_there_is_told_once() -> None:
    text = printed(summary_of({"base": flat()}))
    assert UNDEFINED not in text
    (why,) = [line for line in text.splitlines() if "flat curve" in line]
    assert "N-IR, R2 (a flat curve has none)" in why and "not shown" in why
    some = printed(summary_of({"base": chats(0), "tuned": flat(4)}))
    (why,) = [line for line in some.splitlines() if "flat curve" in line]
    assert why.startswith(UNDEFINED)
    once = " ".join(printed(summary_of({"base": chats(0, 1)})).split())
    assert "IR, N-IR, R2 (a line needs two judged turns)" in once
