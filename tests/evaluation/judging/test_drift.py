from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pydantic import ValidationError

from interalign.errors import InputError
from interalign.evaluation.judging.drift import ALPHA, Snapshot, drift, snapshot
from interalign.roles.judge import Judge, RuleJudge
from interalign.roles.llm.rater import LLMRater
from tests.evaluation.judging.judges import Always, Noisy
from tests.roles.llm.stage import Heard

THEN = datetime(2026, 3, 1, tzinfo=UTC)


def look(judge: Judge, n: int = 6, repeats: int = 2) -> Snapshot:
    return asyncio.run(snapshot(judge, "mine", taken=THEN, n=n, repeats=repeats))


def answered(scores: np.ndarray[tuple[int, ...], np.dtype[np.float64]], days: int = 0) -> Snapshot:
    """A snapshot with these scores: questions x repeats, NaN for missing."""
    return Snapshot(
        judge="mine",
        taken=THEN + timedelta(days=days),
        n=len(scores),
        seed=0,
        questions="same",
        cases=tuple(map(str, range(len(scores)))),
        scores=tuple(tuple(None if np.isnan(one) else float(one) for one in row) for row in scores),
    )


def test_a_judge_that_is_the_same_raises_no_alarm() -> None:
    before = look(RuleJudge())
    assert Snapshot.model_validate_json(before.model_dump_json()) == before
    found = drift(before, look(RuleJudge()))
    assert (found.shift.value, found.changed, found.noise, found.distance) == (0, 0, 0, 0)
    assert (found.p_scores, found.p_missing, found.alarm) == (1, 1, False)
    assert (found.questions, found.compared) == (24, 24)


def test_a_judge_that_has_become_kinder_raises_an_alarm() -> None:
    found = drift(look(Noisy(noise=0.3)), look(Noisy(noise=0.3, kind=0.5)))
    assert found.alarm
    assert found.p_scores is not None and found.p_scores < 0.01
    assert found.shift.low is not None and found.shift.low > 0.2
    assert found.distance is not None and found.noise is not None


def test_a_judge_that_has_changed_without_a_shift_raises_an_alarm_too() -> None:
    random = np.random.default_rng(0)
    truth = random.uniform(2, 4, (40, 1))
    sides = np.repeat([[1.0], [-1.0]], 20, axis=0)
    before, now = (truth + random.normal(0, 0.1, (40, 2)) for _ in range(2))
    found = drift(answered(before), answered(now + 0.5 * sides))
    assert found.shift.value == pytest.approx(0, abs=0.1)
    assert found.alarm


def test_alarms_are_rarer_than_stated_when_only_noise_differs() -> None:
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(60):
        truth = random.uniform(1, 5, (12, 1))
        before, now = (truth + random.normal(0, 0.5, (12, 2)) for _ in range(2))
        alarms += drift(answered(before), answered(now)).alarm
    # At 5 % three of sixty are expected, and more than eight come once in two hundred times.
    assert alarms <= 8


def test_answers_that_go_missing_raise_an_alarm() -> None:
    scores = np.full((40, 2), 3.0)
    gone = scores.copy()
    gone[:15] = np.nan
    found = drift(answered(scores), answered(gone))
    assert found.alarm
    assert found.p_scores == 1 and found.p_missing < ALPHA / 2
    assert (found.missing_before, found.missing_now, found.compared) == (0, 15 / 40, 25)


def test_why_answers_are_missing_is_kept() -> None:
    mute, before = look(LLMRater(Heard(["Hm."]).player), n=2), look(Always(), n=2)
    assert set(mute.lacking) == {"no JSON"} and before.lacking == {}
    assert drift(before, mute).lacking_now == mute.lacking
    # A snapshot of an earlier version does not tell.
    assert Snapshot.model_validate(before.model_dump(exclude={"lacking"})) == before


def test_without_a_score_both_times_nothing_is_known_of_a_shift() -> None:
    found = drift(answered(np.full((3, 2), np.nan)), answered(np.full((3, 2), 2.0)))
    assert (found.shift.value, found.changed, found.distance, found.p_scores) == (None, None, None, None)


def test_one_more_answer_to_the_same_question_is_another_answer() -> None:
    first, second = zip(*look(Noisy(noise=1.0)).scores, strict=True)
    assert first != second


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"judge": "other"}, "another judge"),
        ({"prompt": "abc"}, "another prompt"),
        ({"questions": "abc"}, "another set of questions"),
        ({"scores": ((1.0,),) * 3}, "another number of repeats"),
    ],
)
def test_another_judge_or_other_questions_are_no_drift(changes: dict[str, object], what: str) -> None:
    before = answered(np.full((3, 2), 2.0))
    with pytest.raises(InputError, match=what):
        drift(before, before.model_copy(update=changes))


def test_a_snapshot_whose_answers_do_not_fit_its_questions_is_refused() -> None:
    good = answered(np.full((3, 2), 2.0)).model_dump()
    for scores in (((1.0, 2.0),) * 2, ((1.0, 2.0), (1.0, 2.0), (1.0,))):
        with pytest.raises(ValidationError):
            Snapshot.model_validate(good | {"scores": scores})
