from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from interalign.conversations.tree import Tree
from interalign.report.island import MOST_SHOWN, as_script, island
from tests.report.made_up import evaluation, llm_evaluation

texts = st.text() | st.sampled_from(["</script>", "<!--", "-->", "\u2028\u2029", "&lt;", "{{7*7}}", "]]>"])


@given(st.recursive(texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner)))
def test_a_script_element_holds_any_data_and_gives_it_back(data: object) -> None:
    script = as_script(data)
    assert script.isascii()
    assert not set(script) & set("<>&")
    assert json.loads(script) == data


def test_the_page_stays_small_however_many_cases_and_trees_there_are() -> None:
    made = evaluation(cases=MOST_SHOWN + 5, turns=1, models=("base",))
    data = island(made.summary, made.rows, list(made.trees) * 20, made.personas)
    assert len(data["cases"]) == len(data["trees"]) == MOST_SHOWN
    assert [case["person"] for case in data["cases"]] == sorted(made.personas)[:MOST_SHOWN]


def test_long_texts_are_cut_with_a_mark_and_bound_the_number_of_cases() -> None:
    made = evaluation(cases=60, turns=8, hostile="x" * 6_000, models=("base", "sft"))
    data = island(made.summary, made.rows, [], made.personas)
    assert 0 < len(data["cases"]) < 60
    assert "more characters]" in json.dumps(data["cases"][0])


def test_only_persons_who_are_shown_are_carried() -> None:
    made = evaluation(cases=3, turns=2, models=("base",))
    stranger = made.trees[0].model_copy(update={"persona_id": "nobody"})
    data = island(made.summary, made.rows, [stranger], dict(list(made.personas.items())[:2]))
    assert set(data["persons"]) == set(list(made.personas)[:2])


def test_trees_keep_every_sibling_and_their_failure() -> None:
    made = evaluation(cases=1, turns=1, models=("base",))
    failed: Tree = made.trees[0].model_copy(update={"failure": "the user left"})
    (shown,) = island(made.summary, made.rows, [failed], made.personas)["trees"]
    assert shown["failure"] == "the user left"
    turns = json.loads(json.dumps(shown["turns"]))
    assert [turn["turn"] for turn in turns] == [1, 2, 3, 4]
    for turn in turns:
        assert [reply["source"] for reply in turn["replies"]] == ["tailored", "generic"]
        assert sum(reply["continued"] for reply in turn["replies"]) == 1


def test_the_ledger_speaks_in_words() -> None:
    made = evaluation(cases=1, turns=2, models=("base",))
    (case,) = island(made.summary, made.rows, [], made.personas)["cases"]
    first, second = json.loads(json.dumps(case["chats"]))["base"]
    assert first["ledger"] == [
        ["shows", "hobby: sourdough baking"],
        ["writes", "formality casual"],
        ["asks about", "hobby"],
    ]
    assert second["ledger"][0] == ["reacts", "length was long, wants brief"]


def test_a_turn_carries_what_was_measured_and_nothing_else() -> None:
    made = llm_evaluation(profiles=5, personalities=1, turns=3, lost={"base": 1.0})
    data = json.loads(json.dumps(island(made.summary, made.rows, [], made.personas)))
    first, second, _ = data["cases"][0]["chats"]["dpo"]
    assert [control["name"] for control in first["controls"]] == [
        "oracle persona",
        "disclosed-only oracle",
        "generic-nice",
    ]
    assert first["induction"]["disclosed"] == 5 and len(first["induction"]["statements"]) == 4
    assert 1 <= first["helpfulness"] <= 5
    person = data["cases"][0]["person"]
    rows = [row for row in made.rows["dpo"] if row.case == person and row.repeat == 0]
    assert [turn.get("mindReading", False) for turn in data["cases"][0]["chats"]["dpo"]] == [
        row.mind_reading for row in rows
    ]
    assert data["cases"][0]["chats"]["base"][0]["faults"][0]["check"] == "unreadable"
    plain = evaluation(cases=1, turns=2, models=("base",))
    (case,) = json.loads(json.dumps(island(plain.summary, plain.rows, [], plain.personas)))["cases"]
    assert not {"helpfulness", "mindReading", "controls", "induction", "faults"} & case["chats"]["base"][0].keys()
    assert second["turn"] == 2


def test_repeats_are_not_shown() -> None:
    made = llm_evaluation(profiles=5, personalities=1, turns=3)
    assert any(row.repeat for row in made.rows["base"])
    for case in island(made.summary, made.rows, [], made.personas)["cases"]:
        chats = json.loads(json.dumps(case["chats"]))
        assert all([turn["turn"] for turn in chat] == [1, 2, 3] for chat in chats.values())
