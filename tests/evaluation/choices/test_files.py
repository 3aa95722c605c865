"""The forms as their projects publish them, with questions of our own."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from interalign.errors import InputError
from interalign.evaluation.choices import ChoiceItem, read_choices
from interalign.evaluation.choices.forms import FORMS, Unusable
from interalign.messages import Message

SHARED = {
    "talk-1": [
        {"role": "system", "content": "Current user persona: Ola mends nets."},
        {"role": "user", "content": "User: I mend nets."},
        {"role": "assistant", "content": "Assistant: A fine trade."},
        {"role": "user", "content": "User: I gave it up."},
    ]
}
QUESTION = {
    "persona_id": "4",
    "question_id": "q-1",
    "question_type": "recall_user_shared_facts",
    "topic": "work",
    "context_length_in_tokens": "812",
    "user_question_or_message": "What could I do with my hands today?",
    "correct_answer": "(c)",
    "all_options": str(["(a) Knit, as you always did.", "(b) It's up to you.", '(c) "Mend" a net.', "(d) Rest."]),
    "shared_context_id": "talk-1",
    "end_index_in_shared_context": "3",
}
PREFERENCE = {
    "preference": "I never eat anything that was fried.",
    "question": "What shall I order at the quay?",
    "explanation": "Most of it is fried.",
    "classification_task_options": ["Steamed mussels.", "Fried cod.", "Fried squid.", "Fritters."],
}
PLAIN = {"id": "p1", "question": "Tea?", "options": ["Yes", "No"], "answer": 1, "group": "drinks", "person": "Ola"}


def write_csv(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_lines(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_list(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text(json.dumps(rows, indent=4), encoding="utf-8")
    return path


def of_personamem(tmp_path: Path, *changes: dict[str, str]) -> tuple[Path, Path]:
    rows = [QUESTION | change for change in changes or ({},)]
    return write_csv(tmp_path / "questions_32k.csv", rows), write_lines(tmp_path / "shared.jsonl", [SHARED])


def test_personamem_as_it_is_published(tmp_path: Path) -> None:
    read = read_choices(*of_personamem(tmp_path))
    assert (read.form, read.notes) == ("personamem", ())
    assert read.items == (
        ChoiceItem(
            id="q-1",
            question="What could I do with my hands today?",
            options=("Knit, as you always did.", "It's up to you.", '"Mend" a net.', "Rest."),
            answer=2,
            group="recall_user_shared_facts",
            person="4",
            chat=tuple(Message.model_validate(one) for one in SHARED["talk-1"][:3]),
        ),
    )


def test_system_messages_that_tell_the_persona_can_be_left_out(tmp_path: Path) -> None:
    read = read_choices(*of_personamem(tmp_path), drop_system=True)
    assert [message.role for message in read.items[0].chat] == ["user", "assistant"]


def test_options_may_be_json_and_the_question_may_have_its_older_name(tmp_path: Path) -> None:
    old = {key: value for key, value in QUESTION.items() if key != "user_question_or_message"}
    old |= {"question": "Older?", "all_options": json.dumps(["(a) x", "(b) y"]), "correct_answer": "(B)"}
    file = write_csv(tmp_path / "old.csv", [old])
    (item,) = read_choices(file, write_lines(tmp_path / "c.jsonl", [SHARED])).items
    assert (item.question, item.options, item.answer) == ("Older?", ("x", "y"), 1)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"correct_answer": "(e)"}, "correct_answer names no option"),
        ({"all_options": "__import__('os').getcwd()"}, "all_options is no list"),
        ({"all_options": "[1, 2]"}, "all_options is no list of texts"),
        ({"shared_context_id": "talk-9"}, "no chat of its id"),
        ({"end_index_in_shared_context": "9"}, "does not reach to message 9"),
        ({"end_index_in_shared_context": "-1"}, "does not reach to message -1"),
        ({"user_question_or_message": " "}, "question: String should have at least 1 character"),
        ({"all_options": "['(a) x', '(b) x', '(c) y']"}, "two options are the same"),
    ],
)
def test_a_row_that_cannot_be_used_is_left_out_and_told(tmp_path: Path, change: dict[str, str], why: str) -> None:
    read = read_choices(*of_personamem(tmp_path, {}, change, {"question_id": "q-3"}))
    assert [item.id for item in read.items] == ["q-1", "q-3"]
    assert read.left_out == 1
    assert read.notes[0].startswith("1 of 3 questions are left out: ")
    assert why in read.notes[0]
    assert "(1, first in line 3)" in read.notes[0]


def test_a_file_with_no_usable_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no question that can be used: .*--contexts \(1, first in line 2\)"):
        read_choices(of_personamem(tmp_path)[0])


def test_two_questions_of_one_id_are_told_apart(tmp_path: Path) -> None:
    read = read_choices(*of_personamem(tmp_path, {}, {}, {}))
    assert [item.id for item in read.items] == ["q-1", "q-1#2", "q-1#3"]


def test_prefeval_with_the_preference_stated(tmp_path: Path) -> None:
    (item,) = read_choices(write_list(tmp_path / "travel_food.json", [PREFERENCE])).items
    assert item.options[item.answer] == "Steamed mussels."
    assert (item.id, item.group, item.person) == ("travel_food-1", "travel_food", "")
    assert [message.role for message in item.chat] == ["user", "assistant"]
    assert item.chat[0].content == PREFERENCE["preference"]


@pytest.mark.parametrize(
    ("conversation", "said"),
    [
        (
            {
                "query": "What is there?",
                "assistant_options": "Mussels or cod.",
                "user_selection": "Mussels, the cod is fried.",
                "assistant_acknowledgment": "Right.",
            },
            ["What is there?", "Mussels or cod.", "Mussels, the cod is fried.", "Right."],
        ),
        (
            {
                "10": {"user": "Last.", "assistant": "Bye."},
                "turn2": {"user": "Nothing fried.", "assistant": "Noted."},
                "0": {"user": "Hi.", "assistant": "Hello."},
                "5": None,
            },
            ["Hi.", "Hello.", "Nothing fried.", "Noted.", "Last.", "Bye."],
        ),
    ],
    ids=["choice-based", "persona-driven"],
)
def test_prefeval_with_an_implicit_conversation(tmp_path: Path, conversation: Any, said: list[str]) -> None:
    file = write_list(tmp_path / "food.json", [PREFERENCE])
    row = {key: value for key, value in PREFERENCE.items() if "options" not in key} | {"conversation": conversation}
    other = row | {"preference": "I like it fried.", "conversation": {"0": {"user": "No.", "assistant": "No."}}}
    (item,) = read_choices(file, write_list(tmp_path / "talks.json", [other, row])).items
    assert [message.content for message in item.chat] == said
    assert PREFERENCE["preference"] not in said


def test_prefeval_with_the_fitting_option_named(tmp_path: Path) -> None:
    row = {
        "preference": "Nothing fried.",
        "question": "What shall I order?",
        "implicit_query": "Which of the dishes?",
        "options": ["Cod, fried.", "Mussels & bread."],
        "aligned_op": "mussels &  bread.",
        "conversation": {"query": "Which?", "user_selection": "Mussels & bread."},
    }
    (item,) = read_choices(write_list(tmp_path / "food.json", [row])).items
    assert (item.question, item.answer) == ("Which of the dishes?", 1)
    assert "Mussels" not in str(item.chat)


def test_a_prefeval_file_without_options_says_what_to_give(tmp_path: Path) -> None:
    row = {key: value for key, value in PREFERENCE.items() if "options" not in key}
    with pytest.raises(InputError, match=r"mcq_options/<topic>\.json, and this file as the contexts"):
        read_choices(write_list(tmp_path / "food.json", [row]))


def test_a_conversation_that_is_missing_leaves_the_question_out(tmp_path: Path) -> None:
    file = write_list(tmp_path / "food.json", [PREFERENCE])
    with pytest.raises(InputError, match="no conversation for it"):
        read_choices(file, write_list(tmp_path / "talks.json", [{"preference": "x", "question": "y"}]))


def test_the_plain_form_in_all_its_ways(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "I like coffee."}, {"role": "assistant", "content": "Ah."}]
    rows = [
        PLAIN | {"chat": chat},
        PLAIN | {"id": "p2", "chat_id": "c", "chat_end": 1, "person": None},
        {"question": "Tea?", "options": ["Yes", "No"], "answer": 0},
    ]
    contexts = write_lines(tmp_path / "contexts.jsonl", [{"id": "c", "chat": chat}])
    first, second, third = read_choices(write_lines(tmp_path / "mine.jsonl", rows), contexts).items
    assert [message.content for message in first.chat] == ["I like coffee.", "Ah."]
    assert (first.answer, first.group, first.person) == (1, "drinks", "Ola")
    assert ([message.content for message in second.chat], second.person) == (["I like coffee."], "c")
    assert (third.id, third.group, third.chat) == ("mine-3", "mine", ())
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in rows[0].items()}
    (again,) = read_choices(write_csv(tmp_path / "mine.csv", [text])).items
    assert again == first


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"answer": 2}, "answer 2 is none of 2 options"),
        ({"answer": -1}, "answer is not the place"),
        ({"answer": True}, "answer is not the place"),
        ({"answer": "B"}, "answer is not the place"),
        ({"options": ["Yes"]}, "options: Tuple should have at least 2 items"),
        ({"options": "Yes, No"}, "options is no list"),
        ({"chat": "Hello"}, "chat is no list"),
        ({"chat": [{"role": "tool", "content": "x"}]}, "no role"),
        ({"chat": [{"role": "user", "content": ["x"]}]}, "no text"),
        ({"chat": {"role": "user"}}, "no list of messages"),
        ({"chat_id": "c"}, "--contexts"),
    ],
)
def test_what_is_wrong_in_a_plain_row_is_named(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    read = read_choices(write_lines(tmp_path / "mine.jsonl", [PLAIN, PLAIN | change]))
    assert why in read.notes[0]
    assert len(read.items) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no rows"),
        ("[]", "holds no rows"),
        ("id,question\n1,Tea?\n", "of no form that is known"),
        ('{"id": 1}\n', "of no form that is known"),
        ('{"id": 1}\n{"id": \n', "line 2 is not JSON"),
        ("[1]", "row 1 is no JSON object"),
        ("[" * 100_000, "is not JSON"),
        ("question,options,answer\nTea?,[]\n", "line 2: the row has not as many cells"),
        ('question,options,answer\n"Tea?" x,[],1\n', "line 2: "),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "odd.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refused:
        read_choices(path)
    assert why in str(refused.value)
    assert refused.value.mend


def test_files_that_are_not_there_or_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_choices(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("Käse".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_choices(tmp_path / "latin.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_choices(tmp_path)


def test_contexts_of_another_kind_are_refused(tmp_path: Path) -> None:
    questions, _ = of_personamem(tmp_path)
    with pytest.raises(InputError, match=r"wrong\.jsonl: its chat is no list of messages"):
        read_choices(questions, write_lines(tmp_path / "wrong.jsonl", [PREFERENCE]))


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "mine.jsonl", [PLAIN])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_choices(path).items) == 1


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40)
@given(data=st.data())
def test_whatever_a_row_holds_it_is_an_item_or_unusable(form: Any, data: st.DataObject) -> None:
    names = sorted({*QUESTION, *PREFERENCE, *PLAIN, "chat", "chat_id", "chat_end", "aligned_op", "topic"})
    fields = data.draw(st.dictionaries(st.sampled_from(names), _VALUES | st.sampled_from(["(a)", "['x', 'y']", "1"])))
    try:
        item = FORMS[form](fields, "name", "group", {"x": ()})
    except (Unusable, ValidationError) as problem:
        assert str(problem)
    else:
        assert item.answer < len(item.options)
