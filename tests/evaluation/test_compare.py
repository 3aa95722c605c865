from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from interalign.errors import InputError
from interalign.evaluation.compare import Results, compare, comparison_table, differing_turns, join, turns_in_words
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.summary import summarise
from interalign.personas.persona import Persona
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Disclosure

RULES = {"user": "rules", "judge": "rules"}


def chats(lift: float, cases: Sequence[int] = range(8), turns: int = 3, growth: float = 0.0) -> list[TurnRow]:
    """Scores that differ by case, alike for all models; a lift and a growth per turn are the model's own."""
    return [
        TurnRow(
            case=f"person{case}",
            turn=turn,
            user="Hello",
            reply=f"{lift} and {growth}",
            disclosure=Disclosure(turn=turn),
            # What is the same for everybody would leave nothing to tell chance by.
            verdict=Verdict(
                score=2 + 0.05 * case + (lift + growth * (turn - 1)) * (1 + 0.05 * (-1) ** case) + 0.01 * (case % 3)
            ),
        )
        for case in cases
        for turn in range(1, turns + 1)
    ]


def results(
    label: str,
    rows: Mapping[str, list[TurnRow]],
    setting: Mapping[str, str] = RULES,
    people: Mapping[str, Persona] | None = None,
    seed: int = 0,
    world: str = "Rules",
) -> Results:
    summary = summarise(rows, baseline=next(iter(rows)), world=world, controls=["mirror"], resamples=200, seed=seed)
    return Results(label=label, summary=summary, rows=rows, people=people or {}, setting=setting)


ONE = results("one", {"base": chats(0), "sft": chats(0.5), "mirror": chats(0.2)})
TWO = results("two", {"base": chats(0), "dpo": chats(0.5, growth=0.4), "mirror": chats(0.2)})


def test_models_of_two_runs_are_compared_pair_by_pair() -> None:
    found = compare([ONE, TWO])
    pairs = {(pair.first, pair.second): pair for pair in found.summary.pairs}
    assert set(pairs) == {("base", "sft"), ("base", "dpo"), ("sft", "dpo")}
    late = pairs["sft", "dpo"]
    assert late.mean_al.value == pytest.approx(0.4) and late.ir.value == pytest.approx(0.4)
    assert differing_turns(late) == (2, 3)
    assert differing_turns(pairs["base", "sft"]) == (1, 2, 3)
    assert pairs["base", "sft"].ir.value == pytest.approx(0)


@pytest.mark.parametrize(
    ("turns", "words"), [((), "none"), ((3,), "3"), ((1, 2, 3), "1\N{EN DASH}3"), ((1, 3, 4), "1, 3\N{EN DASH}4")]
)
def test_turns_are_told_as_spans(turns: tuple[int, ...], words: str) -> None:
    assert turns_in_words(turns) == words


def test_only_the_people_whom_all_have_met_count_and_the_others_are_counted() -> None:
    other = results("other", {"dpo": chats(1, cases=range(4, 10))})
    found = compare([ONE, other])
    assert found.summary.models[0].cases == 4
    assert [(one.label, one.cases, one.left_out) for one in found.sources] == [("one", 8, 4), ("other", 6, 2)]
    assert {row.case for rows in join([ONE, other]).rows.values() for row in rows} == {
        f"person{n}" for n in range(4, 8)
    }


def test_a_model_that_both_have_alike_is_shown_once_and_another_is_called_by_its_run() -> None:
    shuffled = results("two", {"base": list(reversed(chats(0))), "sft": chats(0.7)})
    joined = join([ONE, shuffled])
    assert list(joined.rows) == ["base", "one: sft", "two: sft"]
    assert any("shown once: base" in text for text in joined.notes)


def test_controls_are_left_out_unless_they_are_asked_for() -> None:
    assert "mirror" not in join([ONE, TWO]).rows
    joined = join([ONE, TWO], controls=True)
    assert joined.kinds["mirror"] == "control" and joined.kinds["dpo"] == "model"


def test_one_run_alone_is_compared_within_itself() -> None:
    assert [(pair.first, pair.second) for pair in compare([ONE]).summary.pairs] == [("base", "sft")]


def test_other_turns_are_refused() -> None:
    with pytest.raises(InputError, match="one has 3 turns and long has 5"):
        compare([ONE, results("long", {"dpo": chats(1, turns=5)})])


@pytest.mark.parametrize(
    ("name", "told"),
    [("sampling", "sampling of the replies is not the same"), ("checks", "checks of what users say are not the same")],
)
def test_other_sampling_and_other_checks_are_refused(name: str, told: str) -> None:
    one = results("one", {"base": chats(0)}, setting=RULES | {name: "some"})
    with pytest.raises(InputError, match=rf"{told}: some in one, others in other.*benchmark\.(max_tokens|checks)"):
        compare([one, results("other", {"dpo": chats(1)}, setting=RULES | {name: "others"})])


@pytest.mark.parametrize("role", ["user", "judge"])
def test_other_users_and_other_judges_are_refused_with_who_they_are(role: str) -> None:
    other = results("other", {"dpo": chats(1)}, setting=RULES | {role: "a model"})
    with pytest.raises(InputError, match=f"The {role} is not the same: rules in one, a model in other"):
        compare([ONE, other])


def test_one_judge_that_both_need_is_named() -> None:
    anew = results("anew", dict(ONE.rows), setting=RULES | {"judge": "a model"})
    with pytest.raises(InputError, match=r"of the same replies.*compare one with a run that rules has judged.*ranking"):
        compare([ONE, anew])
    other = results("other", {"dpo": chats(1)}, setting=RULES | {"judge": "a model"})
    with pytest.raises(InputError, match=r"name other as rules has judged it, or one as a model has.*rescore"):
        compare([ONE, other])


def test_what_is_not_recorded_is_told_and_not_refused() -> None:
    unknown = results("unknown", {"dpo": chats(1)}, setting={})
    assert any("not recorded with unknown" in text for text in compare([ONE, unknown]).notes)


def test_other_seeds_and_worlds_are_told() -> None:
    notes = " ".join(compare([ONE, results("late", {"dpo": chats(1)}, seed=1, world="Rules, newer")]).notes)
    assert "other seeds" in notes and "late: Rules, newer" in notes


def test_what_a_run_says_of_itself_is_told_with_its_name() -> None:
    careful = replace(TWO, summary=TWO.summary.model_copy(update={"notes": ("The judge is the user.",)}))
    assert "two: The judge is the user." in compare([ONE, careful]).notes
    both = replace(ONE, summary=ONE.summary.model_copy(update={"notes": ("The judge is the user.",)}))
    assert "The judge is the user." in compare([both, careful]).notes


def test_too_many_missing_verdicts_stand_above_the_table() -> None:
    lacking = [row.model_copy(update={"verdict": None}) if row.turn == 2 else row for row in chats(0.5)]
    found = compare([ONE, results("two", {"dpo": lacking})])
    console = Console(width=80, record=True, file=StringIO())
    console.print(comparison_table(found))
    text = " ".join(console.export_text().split())
    assert "33.3% of the verdicts on dpo are missing" in text
    assert text.index("are missing") < text.index("mean AL")


def test_fewer_than_two_people_in_common_are_refused() -> None:
    with pytest.raises(InputError, match="one and strangers have 1 of their people in common"):
        compare([ONE, results("strangers", {"dpo": chats(1, cases=range(7, 12))})])


def test_one_model_is_no_comparison() -> None:
    alone = results("alone", {"base": chats(0)})
    with pytest.raises(InputError, match="one model together"):
        compare([alone, results("again", {"base": chats(0)})])


def test_shared_personalities_make_a_difference_less_sure() -> None:
    people = {
        f"person{n}": Persona(split="heldout", profile=f"Profile {n // 4}.", personality=f"Trait {n % 4}.")
        for n in range(16)
    }
    uneven = [
        row.model_copy(
            update={"verdict": Verdict(score=4.5 if row.case in ("person0", "person4", "person8", "person12") else 2.2)}
        )
        for row in chats(0, cases=range(16))
    ]
    rows = {"base": chats(0, cases=range(16)), "picky": uneven}
    widths = []
    for known in ({}, people):
        (pair,) = compare([results("one", rows, people=known)]).summary.pairs
        assert pair.mean_al.low is not None and pair.mean_al.high is not None
        widths.append(pair.mean_al.high - pair.mean_al.low)
    assert widths[1] > 1.3 * widths[0]


def test_the_table_fits_a_terminal_shows_names_as_they_are_and_who_is_left_out() -> None:
    other = results("other", {"[bold]dpo": chats(1, cases=range(4, 10)), "mute": _mute()})
    console = Console(width=80, record=True, file=StringIO())
    console.print(comparison_table(compare([ONE, other])))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "[bold]dpo" in text and "\N{EN DASH}" in text
    assert "Left out: 4 of 8 in one, 2 of 6 in other." in " ".join(text.split())


def _mute() -> list[TurnRow]:
    return [row.model_copy(update={"verdict": None}) for row in chats(1, cases=range(4, 10))]
