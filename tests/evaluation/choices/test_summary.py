from __future__ import annotations

import io
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from interalign.evaluation.choices import Choice, ChoiceItem, ChoiceSummary, summarise_choices, table
from interalign.evaluation.choices.asking import Shown
from interalign.evaluation.choices.summary import _t, clustered_share, paired_gain


def item(name: str, group: str = "g", person: str = "", options: tuple[str, ...] = ("xx", "y", "z")) -> ChoiceItem:
    return ChoiceItem(id=name, question="Which?", options=options, answer=0, group=group, person=person)


def choice(name: str, right: bool | None, shown: Shown = "chat", failure: str | None = None) -> Choice:
    return Choice(item=name, shown=shown, order=(0, 1, 2), right=right, failure=failure)


def test_groups_are_told_apart_and_all_comes_first() -> None:
    items = [item("1", "b"), item("2", "b"), item("3", "a")]
    choices = [choice("1", True), choice("2", False), choice("3", True)]
    choices += [choice(name, False, "nothing") for name in "123"]
    every, a, b = summarise_choices(items, choices)
    assert [one.name for one in (every, a, b)] == ["all", "a", "b"]
    assert (every.with_chat.right, every.with_chat.read, every.questions) == (2, 3, 3)
    assert every.without_chat.share.value == 0
    assert every.gain.value == pytest.approx(2 / 3)
    assert (a.with_chat.share.value, b.with_chat.share.value) == (1, 0.5)
    assert [one.name for one in summarise_choices(items[:2], choices)] == ["all"]


def test_what_is_missing_is_counted_and_neither_right_nor_wrong() -> None:
    items = [item(name) for name in "1234"]
    choices = [choice("1", True), choice("2", None), choice("3", None, failure="silent"), choice("4", False)]
    choices += [choice("1", None, "nothing"), *(choice(name, True, "nothing") for name in "234")]
    (every,) = summarise_choices(items, choices)
    chat = every.with_chat
    assert (chat.asked, chat.read, chat.right, chat.missing, chat.failed) == (4, 2, 1, 2, 1)
    assert chat.share.value == 0.5
    # Only question 4 was read both ways.
    assert every.gain.value == -1


def test_questions_without_a_chat_have_no_accuracy_with_it() -> None:
    (every,) = summarise_choices([item("1")], [choice("1", True, "nothing")])
    assert every.with_chat.asked == 0
    assert every.with_chat.share.value is None
    assert every.gain.value is None


def test_what_takes_no_model() -> None:
    items = [
        item("1", options=("long", "a", "b")),
        item("2", options=("a", "long", "b", "c")),
        item("3", options=("ab", "cd")),
    ]
    (every,) = summarise_choices(items, [])
    assert every.chance == pytest.approx((1 / 3 + 1 / 4 + 1 / 2) / 3)
    assert every.longest == pytest.approx((1 + 0 + 1 / 2) / 3)
    assert every.shortest == pytest.approx((0 + 1 / 3 + 1 / 2) / 3)


def test_people_are_counted_and_the_nameless_each_for_themselves() -> None:
    items = [item("1", person="Ola"), item("2", person="Ola"), item("3"), item("4")]
    assert summarise_choices(items, [])[0].people == 3


def test_wilson_by_hand() -> None:
    # 8 of 10 by Wilson: 0.4902 to 0.9433 (Wilson 1927; any table has it).
    found = clustered_share([True] * 8 + [False] * 2, [str(one) for one in range(10)])
    assert (found.value, found.low, found.high) == (
        0.8,
        pytest.approx(0.4902, abs=1e-4),
        pytest.approx(0.9433, abs=1e-4),
    )


def test_questions_of_one_person_tell_as_much_as_that_person() -> None:
    alone = clustered_share([True, False, True, True] * 5, [str(one) for one in range(20)])
    together = clustered_share([True, False, True, True] * 5, [str(one // 4) for one in range(20)])
    apart = clustered_share([one < 15 for one in range(20)], [str(one // 4) for one in range(20)])
    assert alone.low is not None and apart.low is not None and together.low is not None
    # People who differ widen the interval; people who are all alike do not narrow it below that of the questions.
    assert apart.low < alone.low
    assert together.low <= alone.low


@pytest.mark.parametrize("right", [True, False])
def test_all_alike_is_as_sure_as_there_are_people(right: bool) -> None:
    found = clustered_share([right] * 40, [str(one % 4) for one in range(40)])
    assert found.low is not None and found.high is not None
    assert found.high - found.low > 0.5


def test_what_cannot_be_estimated_is_undefined() -> None:
    assert clustered_share([], []).value is None
    assert clustered_share([True, False], ["Ola", "Ola"]).low is None
    assert clustered_share([True, False], ["Ola", "Ola"]).value == 0.5
    assert paired_gain([], []).value is None
    assert paired_gain([1, 1], ["a", "b"]).low is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40))
def test_an_interval_holds_its_value_and_stays_a_share(answers: list[tuple[bool, int]]) -> None:
    found = clustered_share([right for right, _ in answers], [str(person) for _, person in answers])
    assert found.value is not None
    if found.low is not None and found.high is not None:
        assert 0 <= found.low <= found.value + 1e-12
        assert found.value - 1e-12 <= found.high <= 1


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (19, 2.093), (1_000, 1.962)]
)
def test_the_t_quantile_is_that_of_the_tables(degrees: int, quantile: float) -> None:
    assert _t(degrees) == pytest.approx(quantile, rel=0.01)


@pytest.mark.parametrize("level", [0.5, 0.85])
def test_95_of_100_intervals_hold_the_truth_when_people_differ(level: float) -> None:
    generator = np.random.default_rng(11)
    spread = 1.0
    # Each person has an own chance to be answered rightly; the truth is its mean over people.
    logits = math.log(level / (1 - level)) + spread * generator.standard_normal(400_000)
    truth = float(np.mean(1 / (1 + np.exp(-logits))))
    shares, gains, runs, people, each = 0, 0, 800, 20, 25
    names = [str(one // each) for one in range(people * each)]
    for _ in range(runs):
        own = math.log(level / (1 - level)) + spread * generator.standard_normal(people)
        chance = np.repeat(1 / (1 + np.exp(-own)), each)
        right = generator.random(people * each) < chance
        share = clustered_share(right.tolist(), names)
        shares += share.low <= truth <= share.high  # type: ignore[operator]
        bare = generator.random(people * each) < 0.5
        gain = paired_gain((right.astype(float) - bare).tolist(), names)
        gains += gain.low <= truth - 0.5 <= gain.high  # type: ignore[operator]
    assert 0.93 <= shares / runs <= 0.975
    assert 0.93 <= gains / runs <= 0.975


def test_the_table_fits_a_terminal_and_shows_foreign_names_as_they_are() -> None:
    items = [item(str(one), f"[bold]a_rather_long_question_type_{one % 3}", person=str(one)) for one in range(12)]
    choices = [choice(str(one), one % 4 > 0) for one in range(12)]
    choices += [choice(str(one), one % 3 == 0, "nothing") for one in range(12)]
    overall, *groups = summarise_choices(items, choices)
    summary = ChoiceSummary(
        file="questions.csv",
        form="plain",
        model="m",
        method="plain",
        seed=0,
        left_out=0,
        overall=overall,
        groups=tuple(groups),
    )
    shown = io.StringIO()
    Console(file=shown, width=80).print(table(summary))
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    (heads,) = (line for line in lines if "chance" in line)
    columns = [head.strip() for head in re.split(r"  +", heads.strip())]
    assert columns == ["group", "n", "chance", "longest", "shortest", "chat", "chat", "gain", "missing"]
    assert "[bold]" in shown.getvalue()
    assert "75" in shown.getvalue()
    assert ChoiceSummary.model_validate_json(summary.model_dump_json()) == summary
