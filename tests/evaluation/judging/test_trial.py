from __future__ import annotations

import asyncio

import pytest

from interalign.errors import InputError
from interalign.evaluation.judging.trial import Finding, Trial, TrialConfig, Writer, findings, try_judge
from interalign.evaluation.statistics import Estimate
from interalign.messages import Chat
from interalign.roles.inducer import Impression
from interalign.roles.judge import Judge, RuleJudge
from interalign.roles.responder import GENERIC_STYLE, Reply, compose_reply
from tests.evaluation.judging.judges import Always, FirstShown, Longer, Noisy

FEW = TrialConfig(items=12)


class Writes:
    """A model that writes as it was told to, or as it writes to everybody."""

    def __init__(self, *, tailored: bool) -> None:
        self._tailored = tailored

    async def answer(self, chat: Chat, impression: Impression | None, seed: int) -> Reply:
        style = impression.style if impression is not None and self._tailored else GENERIC_STYLE
        return Reply(content=compose_reply(style, "hobby", None, seed))


def tried(judge: Judge, config: TrialConfig = FEW) -> Trial:
    return asyncio.run(try_judge(judge, "mine", config))


def warnings(trial: Trial) -> list[str]:
    return [one.warning for one in findings(trial) if one.warning is not None]


def word(trial: Trial, measure: str) -> Finding:
    return next(one for one in findings(trial) if one.measure.startswith(measure))


def test_the_verifiable_judge_passes_but_for_what_it_does_not_know() -> None:
    found = tried(RuleJudge())
    assert warnings(found) == ["It lets false claims about the user pass."]
    assert Trial.model_validate_json(found.model_dump_json()) == found
    assert found.order is None and found.self_preference is None


def test_a_judge_that_always_says_the_same_is_warned_of() -> None:
    found = tried(Always())
    assert "It is not shown to order replies of known worth." in warnings(found)
    assert "It is not shown to see the person (an AUC above 0.6)." in warnings(found)
    assert word(found, "own person wins").word == "blind to the person"
    assert word(found, "pairs in right order").word == "no better than chance"


def test_too_few_people_are_told_in_a_whole_sentence() -> None:
    found = tried(Always(), TrialConfig(items=5, tests=("claims",)))
    assert warnings(found) == [
        f"It is not shown to punish {kind} claims about the user: too few to say." for kind in ("undisclosed", "false")
    ]


def test_a_judge_that_likes_length_is_warned_of() -> None:
    assert "It rewards length without content." in warnings(tried(Longer(), TrialConfig(items=36, tests=("length",))))


def test_missing_verdicts_are_warned_of_above_a_twentieth() -> None:
    config = TrialConfig(items=30, tests=("person",))
    many, few = tried(Noisy(missing=0.2), config), tried(Noisy(missing=0.0), config)
    assert many.missing is not None and many.missing > 0.05
    assert warnings(many)[0] == f"{many.missing:.0%} of its verdicts are missing (no reason told)."
    assert many.lacking == {"no reason told": round(many.missing * many.asked)} and few.lacking == {}
    assert warnings(few) == []


def test_only_the_tests_that_are_wanted_are_done() -> None:
    found = tried(RuleJudge(), TrialConfig(items=3, tests=("person",)))
    done = {name for name in ("calibration", "person", "length", "temptations", "claims") if getattr(found, name)}
    assert done == {"person"}
    assert found.asked == 6


def test_a_comparing_judge_is_tested_for_order() -> None:
    config = TrialConfig(items=10, tests=("order",))
    found = asyncio.run(try_judge(RuleJudge(), "mine", config, comparing=FirstShown()))
    assert found.order is not None
    assert (found.order.compared, found.order.flips.value, found.order.first.value) == (10, 1, 1)
    assert warnings(found) == ["Its comparisons turn on which reply comes first."]
    assert word(found, "votes for the first").word == "prefers the first"
    # An exact score needs no comparison, so there is none to test.
    assert asyncio.run(try_judge(RuleJudge(), "mine", config, comparing=RuleJudge())).order is None


def test_two_writers_are_compared_at_equal_worth() -> None:
    writers: dict[str, Writer] = {"own": Writes(tailored=True), "other": Writes(tailored=False)}
    config = TrialConfig(items=20, tests=("self",))
    found = asyncio.run(try_judge(RuleJudge(), "mine", config, writers=writers)).self_preference
    assert found is not None and found.pairs == 20
    assert found.raw.low is not None and found.raw.low > 0
    assert found.lead.value == pytest.approx(0)
    with pytest.raises(InputError, match="two writers"):
        asyncio.run(try_judge(RuleJudge(), "mine", config, writers={"own": Writes(tailored=True)}))


def test_a_sure_trifle_is_not_called_a_bias() -> None:
    trial = tried(RuleJudge(), TrialConfig(items=4, tests=("length",)))
    assert trial.length is not None

    def said(value: float, low: float, high: float) -> str:
        slope = Estimate(value=value, low=low, high=high)
        length = trial.length.model_copy(update={"slope": slope}) if trial.length else None
        return word(trial.model_copy(update={"length": length}), "ten empty words").word

    assert said(0.05, 0.04, 0.06) == "is not moved"
    assert said(0.3, -0.1, 0.7) == "is not moved"
    assert said(0.3, 0.1, 0.5) == "rewards empty words"
    assert said(-0.3, -0.5, -0.1) == "punishes empty words"
