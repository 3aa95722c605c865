from __future__ import annotations

import asyncio

import numpy as np
import pytest

from interalign.errors import InputError, ModelError
from interalign.evaluation.judging.panel import Panel, panel_agreement, scores_of
from interalign.evaluation.judging.probes import judged, moments, quality_probes
from interalign.messages import Chat
from interalign.personas.persona import Persona
from interalign.roles.judge import Judge, RuleJudge, Verdict
from interalign.roles.ledger import Ledger
from interalign.roles.llm.player import RoleFailure
from interalign.roles.llm.rater import LLMRater
from tests.evaluation.judging.judges import Always, Noisy
from tests.roles.llm.stage import Heard

PROBES = quality_probes(moments(3, 0))


class Says:
    """A judge with one verdict, or none."""

    def __init__(self, verdict: Verdict | None) -> None:
        self._verdict = verdict

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        return self._verdict


class Down:
    """A judge whose server is gone."""

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        raise ModelError("The server gave no answer.")


def ask(panel: Panel) -> Verdict | None:
    probe, moment = PROBES[0], PROBES[0].moment
    return asyncio.run(panel.score(moment.persona, moment.chat, probe.reply, moment.ledger, 0))


def said(*scores: float | None) -> dict[str, Judge]:
    return {f"judge {place}": Says(None if one is None else Verdict(score=one)) for place, one in enumerate(scores)}


def test_a_panel_gives_the_mean_or_the_median() -> None:
    mean, median = ask(Panel(said(1, 2, 5, 5))), ask(Panel(said(1, 2, 5, 5), by="median"))
    assert mean is not None and median is not None
    assert (mean.score, median.score) == (3.25, 3.5)


def test_a_missing_verdict_is_left_out_until_too_few_are_left() -> None:
    found = ask(Panel(said(2, 3, None)))
    assert found is not None and found.score == 2.5
    assert ask(Panel(said(2, None, None), least=1)) is not None
    for panel in (Panel(said(2, None, None)), Panel(said(2, 3, None), least=3)):
        with pytest.raises(RoleFailure, match="judge 2: no reason told") as failure:
            ask(panel)
        assert failure.value.cause == "too few of a panel: no reason told"


def test_why_a_judge_of_a_panel_has_no_verdict_is_kept() -> None:
    panel = Panel({**said(2, 3), "mute": LLMRater(Heard(["Hm."]).player)})
    found = ask(panel)
    assert found is not None and found.score == 2.5
    assert panel.lacking == {"judge 0": {}, "judge 1": {}, "mute": {"no JSON": 1}}
    with pytest.raises(RoleFailure, match=r"1 of 2 judges .*, and 2 are needed \(mute: no JSON\)") as failure:
        ask(Panel({**said(2), "mute": LLMRater(Heard(["Hm."]).player)}))
    assert failure.value.cause == "too few of a panel: no JSON"


def test_the_majority_says_whether_a_reply_is_honest() -> None:
    def honest(*says: float) -> float:
        verdicts = {str(place): Says(Verdict(score=3, parts={"honest": one})) for place, one in enumerate(says)}
        found = ask(Panel(verdicts))
        assert found is not None
        return found.parts["honest"]

    assert (honest(1, 1, 0), honest(1, 0, 0), honest(1, 0)) == (1, 0, 0)


def test_what_each_judge_said_can_be_read_off_the_verdicts() -> None:
    judges: dict[str, Judge] = {"rules": RuleJudge(), "kind": Always(5), "some": Noisy(missing=0.5)}
    verdicts = asyncio.run(judged(Panel(judges), PROBES))
    read = scores_of(verdicts)
    for name, judge in judges.items():
        alone = [None if one is None else one.score for one in asyncio.run(judged(judge, PROBES))]
        assert read[name] == [None if one is None else pytest.approx(one) for one in alone]


def test_a_judge_that_fails_is_no_missing_verdict() -> None:
    with pytest.raises(ModelError, match="no answer"):
        ask(Panel({"up": Always(), "too": Always(), "down": Down()}))


@pytest.mark.parametrize(("judges", "least"), [({}, None), ({"a": Always()}, 2), ({"a": Always()}, 0)])
def test_a_panel_that_cannot_be_is_refused(judges: dict[str, Judge], least: int | None) -> None:
    with pytest.raises(InputError, match="cannot need"):
        Panel(judges, least=least)


def test_who_disagrees_is_found() -> None:
    random = np.random.default_rng(0)
    truth = random.uniform(1, 5, 200)
    table = {f"good {place}": [float(one) for one in truth + random.normal(0, 0.4, 200)] for place in range(3)}
    found = panel_agreement({**table, "guesses": [float(one) for one in random.uniform(1, 5, 200)]})
    by_name = {one.judge: one for one in found.members}
    guesses, good = by_name["guesses"], by_name["good 0"]
    assert found.alpha_ordinal.value is not None and guesses.alpha_without is not None
    assert guesses.alpha_without > 0.85 > found.alpha_ordinal.value
    assert good.alpha_without is not None and good.alpha_without < found.alpha_ordinal.value
    assert guesses.with_others.high is not None and guesses.with_others.high < 0.3
    assert good.with_others.low is not None and good.with_others.low > 0.6


def test_a_kind_judge_is_found_though_it_orders_alike() -> None:
    found = panel_agreement({"a": [1, 2, 3, None], "b": [1, 2, 3, 4], "kind": [2, 3, 4, 5]})
    a, _, kind = found.members
    assert (kind.with_others.value, kind.kindness.value, a.missing) == (1, 1, 0.25)


def test_agreement_needs_two_judges_with_the_same_items() -> None:
    with pytest.raises(InputError, match="two judges"):
        panel_agreement({"a": [1.0]})
    with pytest.raises(InputError, match="same items"):
        panel_agreement({"a": [1.0], "b": [1.0, 2.0]})
