from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from interalign.conversations.tree import Fault
from interalign.evaluation.measures import CounterfactualLevels
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.statistics import Estimate
from interalign.evaluation.summary import Summary, summarise
from interalign.report.judging import Judging, Players, faults_of, judging
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Disclosure

LLM = Players(user="a-model", judge="a-model")


def row(case: str, turn: int, score: float | None, swapped: float | None = None, **more: object) -> TurnRow:
    known = {
        "case": case,
        "turn": turn,
        "user": "u",
        "reply": "r",
        "disclosure": Disclosure(turn=turn),
        "verdict": None if score is None else Verdict(score=score),
        "swapped": None if swapped is None else Verdict(score=swapped),
    }
    return TurnRow.model_validate({**known, **more})


def rows_of(scores: Sequence[float | None], swapped: float | None = None) -> dict[str, list[TurnRow]]:
    """One model, two turns a person."""
    return {"base": [row(f"c{place // 2}", place % 2 + 1, score, swapped) for place, score in enumerate(scores)]}


def summed(rows: Mapping[str, Sequence[TurnRow]]) -> Summary:
    return summarise(rows, baseline="base", world="Models", resamples=200)


def found(rows: Mapping[str, Sequence[TurnRow]]) -> Judging:
    told = judging(summed(rows), rows, LLM)
    assert told is not None
    return told


def test_rules_are_not_suspected() -> None:
    rows = rows_of([4.0] * 40)
    assert judging(summed(rows), rows, Players()) is None
    assert Players().roles == {}
    assert Players(judge="a-model").roles == {"user": "rules", "judge": "a-model"}


def test_replies_without_a_verdict_are_counted_but_not_turns_that_were_never_played() -> None:
    rows = rows_of([4.0, None, 3.0, 2.0, 5.0, 1.0])
    rows["base"][3] = row("c1", 2, None, failure="the server is gone")
    rows["base"].append(row("c0", 1, None, repeat=1))
    told = found(rows)
    assert (told.replies, told.unjudged, told.share) == (5, 1, 0.2)
    assert told.signs == ()


@pytest.mark.parametrize(("others", "named"), [(4, True), (10, False)])
def test_a_judge_who_gives_one_score_to_nearly_all_is_named(others: int, named: bool) -> None:
    told = found(rows_of([4.0] * (40 - others) + [2.0] * others))
    assert any(sign.startswith("It gave 4 to 90") for sign in told.signs) is named
    assert not any("to somebody" in sign for sign in told.signs)


def test_a_few_equal_scores_say_nothing() -> None:
    assert found(rows_of([4.0] * 10)).signs == ()


def test_a_judge_who_rates_alike_for_anybody_is_named() -> None:
    scores = [1.0, 3.0, 5.0, 2.0, 4.0, 3.0, 2.0, 5.0]
    assert any("does not look at the person" in sign for sign in found(rows_of(scores, 3.0)).signs)
    assert found(rows_of([5.0, 4.0, 4.0, 5.0, 3.0, 4.0], 1.0)).signs == ()


@pytest.mark.parametrize(("low", "named"), [(0.1, False), (-0.1, True)])
def test_a_judge_who_rates_any_reply_lower_for_a_stranger_is_named(low: float, named: bool) -> None:
    rows = rows_of([5.0, 4.0, 4.0, 5.0, 3.0, 4.0], 1.0)
    summary = summed(rows)
    model = summary.models[0].model_copy(update={"gap_above": Estimate(value=0.5, low=low, high=1)})
    told = judging(summary.model_copy(update={"models": (model,)}), rows, LLM)
    assert told is not None
    assert any("replies that look at nobody as well" in sign for sign in told.signs) is named


@pytest.mark.parametrize(("high", "named"), [(-0.1, False), (0.1, True)])
def test_a_judge_who_does_not_see_a_persona_is_named(high: float, named: bool) -> None:
    rows = rows_of([1.0, 3.0, 5.0, 2.0])
    difference = Estimate(value=-0.5, low=-0.9, high=high)
    level = Estimate(value=3.5, low=3, high=4)
    control = CounterfactualLevels(name="oracle persona", al=(level, level), mean_al=level, difference=difference)
    summary = summed(rows)
    model = summary.models[0].model_copy(update={"counterfactuals": (control,)})
    told = judging(summary.model_copy(update={"models": (model,)}), rows, LLM)
    assert told is not None
    assert any("the whole persona" in sign for sign in told.signs) is named


def test_faults_are_counted_by_role_and_check() -> None:
    faults = [Fault(role=role, turn=1, check="unreadable", attempt=0, text="?") for role in ("judge", "user", "judge")]
    assert faults_of({"base": [row("c", 1, None, faults=tuple(faults))], "other": []}) == {
        "judge: unreadable": 2,
        "user: unreadable": 1,
    }
