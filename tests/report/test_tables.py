from __future__ import annotations

import pytest

from interalign.evaluation.compare import differing_turns, turns_in_words
from interalign.evaluation.summary import summarise
from interalign.report.tables import (
    MOST_TRAITS,
    Row,
    Table,
    beside_table,
    counterfactual_table,
    group_table,
    induction_table,
    missing_table,
    pair_table,
    reason_table,
    turn_table,
)
from tests.report.made_up import Evaluation, evaluation, llm_evaluation


@pytest.fixture(scope="module")
def llm() -> Evaluation:
    return llm_evaluation(lost={"base": 0.0, "base+reminder": 0.0, "sft": 0.0, "dpo": 0.1})


@pytest.fixture(scope="module")
def rules() -> Evaluation:
    return evaluation(cases=8, turns=4)


def rows(table: Table | None) -> list[Row]:
    assert table is not None
    assert all(len(row.cells) == len(table.headers) for part in table.parts for row in part.rows)
    return [row for part in table.parts for row in part.rows]


def test_what_rules_do_not_measure_has_no_table(rules: Evaluation) -> None:
    assert turn_table(rules.summary) is None
    assert induction_table(rules.summary) is None
    assert counterfactual_table(rules.summary) is None
    assert group_table(rules.summary) is None
    beside = beside_table(rules.summary)
    assert beside is not None and "Helpfulness" not in beside.headers and "Run to run" not in beside.headers


def test_one_model_has_no_pairs_and_without_missing_verdicts_there_is_no_table() -> None:
    made = llm_evaluation(profiles=3, personalities=1, turns=2, lost={"base": 0.0})
    summary = summarise({"base": made.rows["base"]}, baseline="base", world="Models", resamples=100)
    assert pair_table(summary) is None
    assert missing_table(summary, made.rows) is None


def test_pairs_are_those_of_models_and_tell_p_and_the_turns(llm: Evaluation, rules: Evaluation) -> None:
    shown = rows(pair_table(llm.summary))
    assert len(shown) == 6 and len(rows(pair_table(rules.summary))) == 3
    last = next(row for row in shown if row.name == "dpo \N{MINUS SIGN} base")
    assert last.cells[0].value.startswith("+") and " to " in last.cells[0].interval
    assert 0.005 <= float(last.cells[1].value) < 0.05  # 0.005 is the least that 400 resamples can give
    assert last.cells[4].value == turns_in_words(differing_turns(llm.summary.pairs[2]))
    assert [row.red for row in shown] == ["dpo" in row.name for row in shown]


def test_every_turn_is_told_where_the_table_of_numbers_leaves_some_out(llm: Evaluation) -> None:
    table = turn_table(llm.summary)
    assert table is not None and len(table.headers) == 10 and len(rows(table)) == 4


def test_shares_are_percents_and_a_median_that_is_never_reached_is_beyond_the_turns(llm: Evaluation) -> None:
    table = beside_table(llm.summary)
    assert table is not None
    base = rows(table)[0]
    cells = dict(zip(table.headers, base.cells, strict=True))
    assert cells["Mind-reading"].value.endswith("\N{NO-BREAK SPACE}%") and " to " in cells["Mind-reading"].interval
    unmet = llm.summary.models[0]
    assert unmet.reached is not None
    never = unmet.reached.model_copy(update={"turn": unmet.reached.turn.model_copy(update={"value": None})})
    model = unmet.model_copy(update={"reached": never})
    table = beside_table(llm.summary.model_copy(update={"models": (model,)}))
    assert any(cell.value == "> 10" for cell in rows(table)[0].cells)


def test_controls_have_the_turns_at_which_they_were_asked_and_the_model_stands_above(llm: Evaluation) -> None:
    table = counterfactual_table(llm.summary)
    assert table is not None
    assert table.headers[:3] == ("AL(1)", "AL(5)", "AL(10)")
    assert [part.title for part in table.parts] == ["base", "base+reminder", "sft", "dpo"]
    itself, *controls = table.parts[0].rows
    assert [row.name for row in controls] == ["oracle persona", "disclosed-only oracle", "generic-nice"]
    means = [float(one.value) for one in itself.cells[:3]]
    assert float(itself.cells[3].value) == pytest.approx(sum(means) / 3, abs=0.02)


def test_induction_is_told_for_the_turns_at_which_it_was_asked(llm: Evaluation) -> None:
    table = induction_table(llm.summary)
    assert table is not None
    assert table.headers == (
        "True, turn 1", "True, turn 5", "True, turn 10", "True, in all",
        "Noticed, turn 1", "Noticed, turn 5", "Noticed, turn 10", "Noticed, in all",
    )  # fmt: skip


def test_a_group_of_everybody_is_none_and_the_rest_has_bars(llm: Evaluation) -> None:
    table = group_table(llm.summary)
    assert table is not None
    titles = {part.title: [row.name for row in part.rows] for part in table.parts}
    assert titles["Difficulty"] == ["difficult", "not difficult"]
    assert "talkative" not in titles["Traits"] and "impatient" in titles["Traits"]
    for row in rows(table):
        assert all(cell.bar is not None and 0 <= cell.bar <= 1 for cell in row.cells[1:])


def test_no_more_traits_than_can_be_read() -> None:
    made = llm_evaluation(profiles=5, personalities=2, turns=2)
    model = made.summary.models[0]
    trait = next(group for group in model.groups if group.kind == "trait" and group.cases < model.cases)
    many = tuple(trait.model_copy(update={"name": f"trait {place}"}) for place in range(MOST_TRAITS + 5))
    summary = made.summary.model_copy(update={"models": (model.model_copy(update={"groups": many}),)})
    assert len(rows(group_table(summary))) == MOST_TRAITS


def test_why_verdicts_are_missing_is_told_model_by_model(llm: Evaluation) -> None:
    table = reason_table(llm.summary)
    assert table is not None
    dpo = next(part for part in table.parts if part.title == "dpo")
    assert [(row.name, row.cells[0].value) for row in dpo.rows] == [("no JSON", str(llm.summary.model("dpo").missing))]
    assert dpo.rows[0].cells[1].value == "100\N{NO-BREAK SPACE}%"
    none = summarise({"base": llm.rows["base"]}, baseline="base", world="Models", resamples=100)
    assert reason_table(none) is None


def test_missing_verdicts_are_told_apart_by_what_went_wrong(llm: Evaluation, rules: Evaluation) -> None:
    shown = {row.name: row for row in rows(missing_table(llm.summary, llm.rows))}
    dpo = llm.summary.model("dpo")
    assert shown["dpo"].red and [cell.value for cell in shown["dpo"].cells[2:4]] == ["0", str(dpo.missing)]
    base = next(row for row in rows(missing_table(rules.summary, rules.rows)) if row.cells[0].value != "0")
    assert base.cells[2].value == base.cells[0].value and base.cells[3].value == "0"
