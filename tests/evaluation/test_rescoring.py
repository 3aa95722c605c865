from __future__ import annotations

import asyncio
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from interalign.errors import BudgetSpent, InputError, ModelError
from interalign.evaluation.missing import NEVER_PLAYED
from interalign.evaluation.rescoring import agreement_table, judge_agreement, rescored
from interalign.evaluation.rows import TurnRow
from interalign.messages import Chat
from interalign.personas.persona import Persona
from interalign.roles.judge import Judge, RuleJudge, Verdict
from interalign.roles.ledger import Disclosure, Ledger
from interalign.roles.llm.rater import LLMRater
from tests.evaluation.finished import CONFIG, SEED, people, played
from tests.roles.llm.stage import Heard


class LongerIsBetter:
    """A judge who counts words, and looks at nobody."""

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        return Verdict(score=min(5.0, 1 + len(reply.split()) / 20))


class Fails:
    """A judge who has no answer for some replies."""

    def __init__(self, error: Exception, turn: int) -> None:
        self.error, self.turn = error, turn

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        if len(ledger) == self.turn:
            raise self.error
        return None if len(ledger) == 1 else Verdict(score=3)


def again(rows: tuple[TurnRow, ...], judge: Judge) -> list[TurnRow]:
    return asyncio.run(rescored(rows, people(), judge, CONFIG, SEED))


def test_the_same_judge_says_the_same_to_the_letter() -> None:
    rows = played("tailored")
    assert any(row.repeat for row in rows) and any(row.swapped for row in rows) and any(row.controls for row in rows)
    assert again(rows, RuleJudge()) == list(rows)


def test_rows_come_back_in_their_order_whatever_order_they_have() -> None:
    rows = tuple(reversed(played("tailored")))
    assert again(rows, RuleJudge()) == list(rows)


def test_another_judge_changes_verdicts_and_nothing_that_was_said() -> None:
    rows = played("tailored")
    after = again(rows, LongerIsBetter())
    kept = ("case", "turn", "user", "reply", "disclosure", "repeat", "helpfulness", "induction", "failure")
    assert [[getattr(row, name) for name in kept] for row in after] == [
        [getattr(row, name) for name in kept] for row in rows
    ]
    assert all(row.verdict == row.swapped for row in after if not row.repeat)
    # A judge without parts does not say whether a wish was met, or a thing claimed.
    assert {(row.uptake, row.mind_reading) for row in after} == {(None, None)}
    assert after[0].controls["generic-nice"].verdict == Verdict(score=1.05)


def test_a_control_is_judged_for_the_stranger_where_it_was_before() -> None:
    first, *rest = played("tailored")
    elsewhere = first.controls["generic-nice"].model_copy(update={"swapped": Verdict(score=2)})
    rows = (first.model_copy(update={"controls": {**first.controls, "other": elsewhere}}), *rest)
    after = again(rows, LongerIsBetter())[0].controls
    assert (after["generic-nice"].swapped, after["other"].swapped) == (None, Verdict(score=1.05))


def test_what_was_not_judged_before_is_not_judged_now() -> None:
    rows = tuple(row.model_copy(update={"swapped": None, "controls": {}}) for row in played("tailored"))
    after = again(rows, LongerIsBetter())
    assert all(row.swapped is None and not row.controls for row in after)


def test_a_turn_that_failed_is_not_judged_and_told_as_not_played() -> None:
    failed = TurnRow(case=people()[0].id, turn=3, user="", reply="", disclosure=Disclosure(turn=3), failure="no server")
    rows = tuple(
        failed if (row.case, row.turn, row.repeat) == (failed.case, 3, 0) else row for row in played("tailored")
    )
    after = again(rows, LongerIsBetter())
    assert failed.model_copy(update={"missing": {"verdict": NEVER_PLAYED}}) in after
    assert [row.verdict is None for row in after] == [row.failure is not None for row in rows]


def test_an_answer_that_cannot_be_had_is_missing_and_told() -> None:
    after = again(played("tailored"), Fails(ModelError("no answer in 60 s"), turn=2))
    assert all(row.verdict == (Verdict(score=3) if row.turn == 3 else None) for row in after)
    assert {fault.text for row in after for fault in row.faults if row.turn == 2} == {"no answer in 60 s"}
    assert {row.missing["verdict"] for row in after if row.turn == 2} == {"call failed"}
    assert not any(row.missing for row in after if row.turn != 2)
    assert not any(row.faults for row in after if row.turn != 2)
    # Asked again by one who answers, the fault is gone.
    assert again(tuple(after), RuleJudge()) == [
        row.model_copy(update={"faults": ()}) for row in again(played("tailored"), RuleJudge())
    ]


def test_why_an_answer_cannot_be_read_is_told_of_each_verdict() -> None:
    rows = played("tailored")
    mute = LLMRater(Heard(["Hm."]).player)
    after = again(rows, mute)
    assert all(row.verdict is None and row.missing.pop("verdict") == "no JSON" for row in after)
    assert all(row.missing == ({} if row.repeat else {"swapped": "no JSON"}) for row in after)
    assert after[0].controls["generic-nice"].missing == {"verdict": "no JSON"}
    assert {(fault.role, fault.check) for row in after for fault in row.faults} == {("judge", "unreadable")}
    # Reasons of the judge before go with its verdicts; others stay. What it could not say is asked for again.
    lacking = {"verdict": "refused", "induction": "empty"}
    told = again(tuple(row.model_copy(update={"missing": lacking}) for row in rows), RuleJudge())
    assert told == [row.model_copy(update={"missing": {"induction": "empty"}}) for row in rows]
    assert again(tuple(again(rows, mute)), RuleJudge()) == list(rows)


def test_what_stops_the_work_stops_it() -> None:
    with pytest.raises(BudgetSpent):
        again(played("tailored"), Fails(BudgetSpent("spent"), turn=2))


def test_a_reply_that_the_first_judge_could_not_read_under_the_strangers_persona_is_judged_now() -> None:
    rows = played("tailored")
    lacking = (rows[0].model_copy(update={"swapped": None}), *rows[1:])
    assert again(lacking, RuleJudge()) == list(rows)


def test_people_who_are_not_of_the_run_are_refused() -> None:
    rows = (played("tailored")[0].model_copy(update={"case": "somebody"}),)
    with pytest.raises(InputError, match="somebody"):
        again(rows, RuleJudge())


def test_a_judge_agrees_with_itself() -> None:
    rows = {"base": played("constant"), "tuned": played("tailored")}
    found = judge_agreement(rows, rows, {one.id: one for one in people()})
    assert (found.spearman.value, found.tau.value, found.difference.value) == (1, 1, 0)
    assert (found.replies, found.lost, found.gained) == (2 * 8 * 3, 0, 0)


def test_another_judge_agrees_less_and_what_either_lacks_is_counted() -> None:
    before = {"base": played("constant"), "tuned": played("tailored")}
    after = {name: again(rows, LongerIsBetter()) for name, rows in before.items()}
    after["base"][0] = after["base"][0].model_copy(update={"verdict": None})
    found = judge_agreement(before, after)
    assert found.spearman.value is not None and found.spearman.value < 0.9
    assert found.spearman.low is not None and found.spearman.low < found.spearman.value
    assert (found.replies, found.lost, found.gained) == (2 * 8 * 3 - 1, 1, 0)
    assert judge_agreement(after, before).gained == 1


def test_models_are_ranked_by_what_both_judges_have_scored() -> None:
    def scored(name: str, scores: list[float | None]) -> list[TurnRow]:
        return [
            TurnRow(
                case=f"person{case}", turn=1, user="Hello", reply=name, disclosure=Disclosure(turn=1),
                verdict=None if score is None else Verdict(score=score),
            )
            for case, score in enumerate(scores)
        ]  # fmt: skip

    before = {"a": scored("a", [2, 2.5, 2.2, 5]), "b": scored("b", [3, 3.4, 3.1, 1])}
    # Without a verdict on the last person the order of the models is another; it is the same one before.
    after = {"a": scored("a", [2, 2.4, 2.2, None]), "b": scored("b", [3, 3.5, 3.1, None])}
    assert judge_agreement(before, after).tau.value == 1
    assert judge_agreement(before, before).tau.value == 1


def test_intervals_are_those_of_people_who_share_a_personality() -> None:
    random = np.random.default_rng(1)
    ways = random.normal(0, 1, 5)
    people = {
        f"person{case}": Persona(split="heldout", profile=f"Profile {case // 5}.", personality=f"Trait {case % 5}.")
        for case in range(60)
    }

    def scored(lead: float) -> list[TurnRow]:
        return [
            TurnRow(
                case=f"person{case}", turn=turn, user="Hello", reply="Hi", disclosure=Disclosure(turn=turn),
                verdict=Verdict(score=float(np.clip(2.5 + lead * ways[case % 5] + 0.1 * turn + case / 200, 1, 5))),
            )
            for case in range(60)
            for turn in (1, 2)
        ]  # fmt: skip

    before, after = {"one": scored(0)}, {"one": scored(0.5)}
    alone, together = (judge_agreement(before, after, known).difference for known in ({}, people))
    assert together.value == pytest.approx(alone.value)
    assert None not in (alone.low, alone.high, together.low, together.high)
    # Five personalities are five chances, not sixty.
    assert (together.high or 0) - (together.low or 0) > 3 * ((alone.high or 0) - (alone.low or 0))


def test_one_model_has_no_ranking_and_no_common_reply_no_correlation() -> None:
    alone = {"base": played("constant")}
    assert judge_agreement(alone, alone).tau.value is None
    both = {**alone, "tuned": played("tailored")}
    assert judge_agreement(both, both, ranked=["base"]).tau.value is None
    mute = {"base": tuple(row.model_copy(update={"verdict": None}) for row in alone["base"])}
    found = judge_agreement(alone, mute)
    assert (found.spearman.value, found.difference.value, found.replies) == (None, None, 0)
    console = Console(width=80, record=True, file=StringIO())
    console.print(agreement_table(found))
    assert "\N{EN DASH}" in console.export_text()
