from __future__ import annotations

import asyncio
from functools import cache

import numpy as np
import pytest

from interalign.evaluation.judging.biases import (
    Written,
    claim_bias,
    length_bias,
    order_bias,
    person_bias,
    self_preference,
    temptations,
)
from interalign.evaluation.judging.probes import (
    Probe,
    honesty_probes,
    judged,
    length_probes,
    moments,
    person_probes,
    temptation_probes,
)
from interalign.roles.judge import Comparison, Judge, RuleJudge, Verdict
from tests.evaluation.judging.judges import Always, Dazzled, Longer, Noisy

MOMENTS = moments(24, 1)


@cache
def probes(kind: str) -> tuple[Probe, ...]:
    makes = {
        "person": person_probes,
        "length": length_probes,
        "temptations": temptation_probes,
        "claims": honesty_probes,
    }
    return makes[kind](MOMENTS)


def asked(judge: Judge, kind: str) -> tuple[tuple[Probe, ...], list[Verdict | None]]:
    return probes(kind), asyncio.run(judged(judge, probes(kind)))


def test_a_judge_that_does_not_look_at_the_person_is_blind() -> None:
    blind, seeing = (person_bias(*asked(judge, "person")) for judge in (Longer(), RuleJudge()))
    assert (blind.auc.value, blind.gap.value) == (0.5, 0)
    assert seeing.auc.low is not None and seeing.auc.low > 0.9
    assert seeing.gap.value == pytest.approx(seeing.exact_gap)
    assert blind.exact_gap == seeing.exact_gap


def test_missing_verdicts_leave_the_person_test_smaller_and_not_wrong() -> None:
    found = person_bias(*asked(Noisy(noise=0.3, missing=0.3), "person"))
    assert 5 < found.replies < 24
    assert found.auc.value is not None and found.auc.value > 0.85


def test_a_judge_that_likes_length_is_found() -> None:
    longer, exact = (length_bias(*asked(judge, "length")) for judge in (Longer(), RuleJudge()))
    assert longer.slope.low is not None and longer.slope.low > 0.1
    assert longer.exact_slope == pytest.approx(0, abs=0.02)
    assert exact.slope.value == pytest.approx(0, abs=0.02)


def test_a_judge_that_likes_emoji_is_found_and_nothing_else_of_it() -> None:
    rises = {one.addition: one for one in temptations(*asked(Dazzled(), "temptations"))}
    assert rises["emoji"].rise.low is not None and rises["emoji"].rise.low > 1
    assert [rises[name].rise.value for name in ("cheers", "praise", "repeated facts")] == [0, 0, 0]
    assert all((one.exact_rise or 0) <= 0.01 for one in rises.values())
    assert (rises["emoji"].exact_rise or 0) < -1


def test_length_does_not_count_as_a_temptation() -> None:
    rises = {one.addition: one.rise.value for one in temptations(*asked(Longer(), "temptations"))}
    assert rises["praise"] == pytest.approx(0, abs=0.05)


def test_the_verifiable_judge_names_the_claims_that_it_knows() -> None:
    found = claim_bias(*asked(RuleJudge(), "claims"))
    assert found.undisclosed.rise.high is not None and found.undisclosed.rise.high < -1.5
    assert found.false.rise.value == pytest.approx(0, abs=0.05)
    assert (found.found.value, found.false_alarms.value) == (0.5, 0)


def test_a_judge_that_says_what_is_honest_is_taken_at_its_word() -> None:
    verdicts = [
        Verdict(score=3, parts={"honest": 0.0 if probe.kind in ("undisclosed", "false") else 1.0})
        for probe in probes("claims")
    ]
    found = claim_bias(probes("claims"), verdicts)
    assert (found.found.value, found.false_alarms.value, found.undisclosed.rise.value) == (1, 0, 0)


def test_a_judge_that_says_nothing_of_honesty_has_no_share() -> None:
    found = claim_bias(*asked(Always(), "claims"))
    assert (found.found.value, found.false_alarms.value) == (None, None)


def test_votes_that_follow_the_order_are_counted() -> None:
    steady = Comparison(first=0, second=1, votes=("second", "second"))
    follows = Comparison(first=0, second=1, votes=("first", "second"))
    unread = Comparison(first=0, second=1, votes=("first", None))
    tie = Comparison(first=0, second=1, votes=("tie", "tie"))
    found = order_bias([steady, steady, follows, unread, tie])
    assert found.compared == 4
    assert found.unreadable == pytest.approx(1 / 10)
    assert found.flips.value == pytest.approx(1 / 4)
    # Of seven votes for a reply: one of two, one of two, two of two, one of one.
    assert found.first.value == pytest.approx(5 / 7)


def test_without_comparisons_nothing_is_known_of_the_order() -> None:
    found = order_bias([])
    assert (found.compared, found.unreadable, found.flips.value, found.first.value) == (0, None, None, None)


def rivals(preference: float, better: float) -> list[Written]:
    """A judge that measures rightly but for a preference, and a rival whose replies are worse by `better`."""
    random = np.random.default_rng(0)
    found = []
    for case in range(150):
        own, other = random.uniform(2, 4), random.uniform(2, 4) - better
        scored = own + preference + random.normal(0, 0.2)
        found.append(Written(case=str(case), own=scored, other=other, own_exact=own, other_exact=other))
    return found


def test_a_preference_for_ones_own_is_told_from_better_replies() -> None:
    fair, vain = self_preference(rivals(0, better=0.5)), self_preference(rivals(0.4, better=0))
    assert fair.raw.low is not None and fair.raw.low > 0
    assert fair.lead.low is not None and fair.lead.high is not None and fair.lead.low < 0 < fair.lead.high
    assert vain.lead.low is not None and vain.lead.low > 0.2


def test_replies_without_a_score_say_nothing_of_preference() -> None:
    found = self_preference([Written(case="a", own=None, other=3, own_exact=2, other_exact=2)])
    assert (found.pairs, found.lead.value, found.raw.value) == (0, None, None)
