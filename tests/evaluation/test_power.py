from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from rich.console import Console

from interalign.errors import InputError
from interalign.evaluation.measures import NoiseFloor
from interalign.evaluation.power import RULE_BASED, Spreads, plan, plan_table, power_of, smallest_shown, spreads_of
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.statistics import Estimate
from interalign.evaluation.summary import ModelSummary, PairDifference, Summary, summarise
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Disclosure

NOTHING = Estimate()
SPREADS = Spreads(between=0.5, correlation=0.5, residual=0.2, profile_share=0.3, personality_share=0.2, source="here")


def summary_with(residual: float, profile_share: float, personality_share: float) -> Summary:
    """Of two models whose cases have variance 1/2 each and whose difference has variance 1."""
    levels = dict.fromkeys(("mean_al", "ir", "r2", "n_ir", "gap", "uptake"), NOTHING)
    floor = NoiseFloor(cases=9, difference=NOTHING, sd=Estimate(value=residual))
    models = tuple(
        ModelSummary.model_validate(
            {"name": name, "kind": "model", "cases": 9, "missing": 0, "al": (), "case_sd": sqrt(0.5), "noise": floor}
            | levels
        )
        for name in ("a", "b")
    )
    pair = PairDifference(
        first="a",
        second="b",
        al=(),
        mean_al=NOTHING,
        ir=NOTHING,
        case_sd=1.0,
        profile_share=profile_share,
        personality_share=personality_share,
    )
    return Summary(world="w", turns=1, baseline="a", resamples=1, seed=0, models=models, pairs=(pair,))


def test_the_textbook_case() -> None:
    # A paired t-test, difference half a standard deviation, power 0.8 at 5 %: 34 pairs in every textbook.
    half = Spreads(between=1 / sqrt(2), correlation=0.0, source="a textbook")
    assert plan(0.5, half, repeats=[1], personalities=[]).designs[0].cases == 34


def test_power_is_what_a_simulation_finds() -> None:
    cases = 40
    deviation = sqrt(2 * SPREADS.between**2 * (1 - SPREADS.correlation))
    differences = np.random.default_rng(3).normal(0.2, deviation, (4000, cases))
    error = differences.std(axis=1, ddof=1) / sqrt(cases)
    found = (np.abs(differences.mean(1)) > 2.0227 * error).mean()
    assert power_of(0.2, SPREADS, cases) == pytest.approx(found, abs=0.03)


def test_more_of_anything_is_never_worse() -> None:
    base = power_of(0.2, SPREADS, 20, 5)
    assert power_of(0.3, SPREADS, 20, 5) > base
    assert power_of(0.2, SPREADS, 40, 5) > base
    assert power_of(0.2, SPREADS, 20, 10) > base
    assert power_of(0.2, SPREADS, 20, 5, repeats=3) > base
    assert power_of(0.2, SPREADS, 20, 5, level=0.1) > base


def test_the_plan_is_the_smallest_that_is_enough() -> None:
    for design in plan(0.3, SPREADS).designs:
        if design.profiles is not None:
            at = {"repeats": design.repeats}
            assert power_of(0.3, SPREADS, design.profiles, design.personalities, **at) >= 0.8
            assert design.profiles == 2 or power_of(0.3, SPREADS, design.profiles - 1, design.personalities, **at) < 0.8


def test_few_personalities_are_not_made_up_for_by_profiles() -> None:
    fussy = SPREADS.model_copy(update={"personality_share": 0.7})
    designs = plan(0.2, fussy, repeats=[1], personalities=[5, 40]).designs
    assert [design.cases is None for design in designs] == [False, True, False]


def test_a_table_tells_where_its_numbers_come_from() -> None:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(plan_table(plan(0.2, SPREADS.model_copy(update={"personality_share": 0.7}))))
    text = captured.get()
    told = " ".join(text.split())
    assert "Measured with: here" in told and "5 personalities are too few, however many" in told and "…" not in text
    assert "x 5 personalities" not in text and max(map(len, text.splitlines())) <= 80
    assert plan(0.2).spreads == RULE_BASED


def test_what_the_packaged_people_can_show_is_told() -> None:
    few = smallest_shown(RULE_BASED, 20, 5)
    assert few is not None and power_of(few, RULE_BASED, 20, 5) >= 0.8 > power_of(few - 0.01, RULE_BASED, 20, 5)
    assert smallest_shown(RULE_BASED.model_copy(update={"between": 9.0}), 20, 5) is None

    def told(detect: float) -> str:
        console = Console(width=80)
        with console.capture() as captured:
            console.print(plan_table(plan(detect)))
        return " ".join(captured.get().split())

    assert f"can show a difference of {few:.2f} points or more under these assumptions: for one of 0.2, take" in told(
        0.2
    )
    assert f"are enough: they can show a difference of {few:.2f}" in told(3)


@pytest.mark.parametrize("wrong", [{"detect": 0.0}, {"detect": 4.5}, {"power": 1.0}, {"level": 0.9}])
def test_what_cannot_be_planned(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        plan(**{"detect": 0.2, **wrong})  # type: ignore[arg-type]


def test_spreads_are_read_from_a_summary() -> None:
    random = np.random.default_rng(5)

    def rows(levels: list[float]) -> list[TurnRow]:
        return [
            TurnRow(
                case=f"p{case}",
                turn=1,
                user="Hi",
                reply="Ho",
                disclosure=Disclosure(turn=1),
                verdict=Verdict(score=level),
                repeat=repeat,
            )
            for case, level in enumerate(levels)
            for repeat in range(2)
        ]

    one, two = ([float(level) for level in random.uniform(2, 4, 30)] for _ in range(2))
    summary = summarise({"a": rows(one), "b": rows(two)}, baseline="a", world="w", resamples=100)
    found = spreads_of(summary, "b", "a")
    deviation = float(np.std(np.subtract(two, one), ddof=1))
    assert 2 * found.between**2 * (1 - found.correlation) == pytest.approx(deviation**2)
    assert found.residual == pytest.approx(0)  # the repeats are equal
    assert found.profile_share == found.personality_share == 0
    with pytest.raises(InputError, match="differ does not stand"):
        spreads_of(summary, "a", "c")


def test_what_one_model_lacks_is_no_spread_of_the_difference() -> None:
    def rows(late: float | None) -> list[TurnRow]:
        return [
            TurnRow(
                case=f"p{case}",
                turn=turn,
                user="Hi",
                reply="Ho",
                disclosure=Disclosure(turn=turn),
                verdict=None if score is None else Verdict(score=score),
            )
            for case, level in enumerate((1.0, 2.0, 3.0, 4.0))
            for turn, score in ((1, level), (2, late if case % 2 else 5.0))
        ]

    summary = summarise({"a": rows(5.0), "b": rows(None)}, baseline="a", world="w", resamples=100)
    (pair,) = summary.pairs
    assert (pair.mean_al.value, pair.case_sd) == (0, 0)
    assert summary.model("b").difference == pair.mean_al
    assert pair.bounds is not None and (pair.bounds.low, pair.bounds.high) == (-1, 0)


@pytest.mark.parametrize(("share", "noise", "expected"), [(0.3, 0.0, 0.3), (0.3, 0.25, 0.4), (0.9, 0.25, 1.0)])
def test_the_share_of_a_run_becomes_one_of_what_lasts(share: float, noise: float, expected: float) -> None:
    # Two models that differ with variance 1 from case to case, `noise` of which does not come again.
    found = spreads_of(summary_with(sqrt(noise / 2), 0.0, share), "a", "b")
    assert (found.once, found.noise) == pytest.approx((1, noise))
    assert (found.profile_share, found.personality_share) == pytest.approx((0, expected))
    assert found.effects(1)[1] == pytest.approx(min(share, 1 - noise))


def test_shares_of_what_lasts_are_never_more_than_all() -> None:
    found = spreads_of(summary_with(0.5, 0.3, 0.6), "a", "b")
    assert (found.profile_share, found.personality_share) == pytest.approx((1 / 3, 2 / 3))
    assert found.effects(10**9)[2] == pytest.approx(0, abs=1e-6)
    unsteady = spreads_of(summary_with(1.0, 0.3, 0.6), "a", "b")
    assert (unsteady.profile_share, unsteady.personality_share) == (0, 0)
