from __future__ import annotations

from io import StringIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from interalign.errors import InputError
from interalign.evaluation.notation import UNDEFINED
from interalign.evaluation.ranking import Rows, kendall_tau_b, stability, stability_table
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.statistics import Estimate
from interalign.evaluation.summary import summarise
from interalign.personas.persona import Persona
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Disclosure

SERIES = st.integers(2, 9).flatmap(
    lambda length: st.tuples(*[st.lists(st.integers(0, 4).map(float), min_size=length, max_size=length)] * 2)
)


def rows_of(levels: dict[str, list[float | None]], turns: int = 2) -> dict[str, list[TurnRow]]:
    """By model, the score of each case at every turn."""
    return {
        model: [
            TurnRow(
                case=f"person{case}",
                turn=turn,
                user="Hello",
                reply="Hi",
                disclosure=Disclosure(turn=turn),
                verdict=None if score is None else Verdict(score=score),
            )
            for case, score in enumerate(scores)
            for turn in range(1, turns + 1)
        ]
        for model, scores in levels.items()
    }


def test_tau_of_a_worked_example() -> None:
    # 10 pairs: 1 tied in the first, 1 in the second, 7 in the same order, 1 in the reverse.
    assert kendall_tau_b([1, 2, 2, 4, 5], [1, 3, 2, 2, 5]) == pytest.approx((7 - 1) / 9)
    assert kendall_tau_b([1, 2, 3], [3, 2, 1]) == -1


@given(SERIES)
def test_tau_is_scipys(both: tuple[list[float], list[float]]) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    one, other = both
    varies = len(set(one)) > 1 and len(set(other)) > 1
    assert kendall_tau_b(one, other) == (pytest.approx(stats.kendalltau(one, other).statistic) if varies else None)


@given(SERIES)
def test_tau_is_symmetric_and_turns_with_the_order(both: tuple[list[float], list[float]]) -> None:
    one, other = both
    found, reverse = kendall_tau_b(one, other), kendall_tau_b(one, [-value for value in other])
    assert kendall_tau_b(other, one) == found
    assert (found is None and reverse is None) or reverse == pytest.approx(-(found or 0))


def test_a_series_that_does_not_vary_has_no_tau() -> None:
    assert kendall_tau_b([1, 1, 1], [1, 2, 3]) is None
    assert kendall_tau_b([], []) is None


def test_settings_that_agree_and_settings_that_do_not() -> None:
    clear = rows_of({"a": [1, 1.2, 1.1, 1], "b": [3, 3.1, 3, 3.2], "c": [5, 4.9, 5, 4.8]})
    reverse = {"a": clear["c"], "b": clear["b"], "c": clear["a"]}
    found = stability({"rules": clear, "a model": clear, "the odd one": reverse}, resamples=200)
    taus = {(one.first, one.second): one.tau for one in found.agreements}
    assert taus["rules", "a model"] == Estimate(value=1, low=1, high=1)
    assert taus["rules", "the odd one"].value == -1
    assert [rank.model for rank in found.rankings[0].ranks] == ["c", "b", "a"]
    assert [rank.best for rank in found.rankings[0].ranks] == [1, 0, 0]
    assert found.rankings[0].ranks[0].expected == 1


def test_ranks_that_hang_on_a_few_people_are_unsure() -> None:
    unsure = rows_of({"a": [1, 5, 1, 5, 3], "b": [5, 1, 5, 1, 3.1]})
    ranks = {rank.model: rank for rank in stability({"one": unsure}, resamples=2000).rankings[0].ranks}
    assert 0.2 < (ranks["a"].best or 0) < 0.8
    for rank in ranks.values():
        assert sum(rank.shares) == pytest.approx(1)
    assert sum(rank.expected or 0 for rank in ranks.values()) == pytest.approx(3)


def test_models_that_tie_share_their_ranks() -> None:
    ranks = stability({"one": rows_of({"a": [2, 3] * 5, "b": [2, 3] * 5})}, resamples=100).rankings[0].ranks
    assert [rank.shares for rank in ranks] == [(0.5, 0.5), (0.5, 0.5)]


def test_an_order_that_hangs_on_few_people_who_do_not_differ_has_no_shares_and_no_interval() -> None:
    rows = rows_of({"a": [2, 3], "b": [3, 4]})
    found = stability({"one": rows, "other": rows}, resamples=100)
    assert [rank.shares for rank in found.rankings[0].ranks] == [(), ()]
    assert found.agreements[0].tau == Estimate(value=1)


def test_what_one_model_lacks_moves_nobody_and_is_counted() -> None:
    # The best model has no verdict on those with whom everybody does well, so its own mean is the lowest.
    rows = rows_of({"best": [2.0, 2.2, 2.1, None, None], "other": [1, 1.1, 1.2, 5, 4.9], "third": [1, 1, 1.1, 5, 5]})
    (ranking,) = stability({"one": rows}, resamples=200).rankings
    assert [rank.model for rank in ranking.ranks] == ["best", "other", "third"]
    assert ranking.ranks[0].level.value == pytest.approx(2.1)
    assert (ranking.cases, ranking.turns, ranking.left_out) == (5, 10, 4)
    lacking = {**rows, "other": rows["other"][:-3]}
    assert stability({"one": lacking}, resamples=200).rankings[0].model_dump() == ranking.model_dump()


def test_a_ranking_does_not_hang_on_the_people_of_another_setting() -> None:
    random = np.random.default_rng(3)
    rows = rows_of({name: random.uniform(1, 5, 12).tolist() for name in "ab"})
    others = {
        name: [row.model_copy(update={"case": f"{row.case} of others"}) for row in of_model]
        for name, of_model in rows.items()
    }
    alone, among = (
        {rank.model: rank.level for rank in found.rankings[0].ranks}
        for found in (stability({"one": rows}), stability({"one": rows, "other": others}))
    )
    for name in "ab":
        widths = [(level[name].high or 0) - (level[name].low or 0) for level in (alone, among)]
        assert widths[1] == pytest.approx(widths[0], rel=0.05)


def test_how_often_two_models_change_places_is_the_p_value_of_their_difference() -> None:
    random = np.random.default_rng(11)
    base = random.normal(3, 0.5, 60)
    rows = rows_of({"a": base.tolist(), "b": (base + random.normal(0.01, 0.25, 60)).tolist()})
    people = {
        f"person{case}": Persona(split="heldout", profile=f"Profile {case // 4}.", personality=f"Trait {case % 4}.")
        for case in range(60)
    }
    ranks = {rank.model: rank for rank in stability({"one": rows}, people=people).rankings[0].ranks}
    (pair,) = summarise(rows, baseline="a", world="", people=people).pairs
    assert pair.mean_al.p is not None and 0.05 < pair.mean_al.p < 0.5
    assert 2 * (ranks["a"].best or 0) == pytest.approx(pair.mean_al.p, abs=0.001)


def test_tau_is_as_unsure_as_the_orders_are() -> None:
    random = np.random.default_rng(12)
    clear = rows_of({"a": random.normal(2, 0.2, 40).tolist(), "b": random.normal(4, 0.2, 40).tolist()})
    close = rows_of({"a": random.normal(3, 0.5, 40).tolist(), "b": random.normal(3.02, 0.5, 40).tolist()})
    taus = {
        (one.first, one.second): one.tau
        for one in stability({"clear": clear, "again": clear, "close": close}, resamples=1000).agreements
    }
    assert taus["clear", "again"] == Estimate(value=1, low=1, high=1)
    assert (taus["clear", "close"].low, taus["clear", "close"].high) == (-1, 1)


def test_a_mean_that_two_models_reach_on_other_ways_is_a_tie() -> None:
    # 0.1 and 0.2 cannot be written exactly: the two sums differ by rounding.
    rows = rows_of({"a": [1.1, 1.2, 4.3] * 5, "b": [1.2, 1.3, 4.1] * 5})
    reverse = {"a": rows["b"], "b": rows["a"]}
    assert stability({"one": rows, "other": reverse}, resamples=100).agreements[0].tau.value is None


def test_a_model_without_verdicts_has_no_rank_and_comes_last() -> None:
    rows = rows_of({"mute": [None, None, None], "a": [2, 3, 3], "b": [3, 4, 4.5]})
    (ranking,) = stability({"one": rows}, resamples=100).rankings
    first, _, last = ranking.ranks
    assert (last.model, last.level.value, last.best, last.expected) == ("mute", None, None, None)
    assert (first.model, first.best, ranking.left_out) == ("b", 1, 0)


def test_a_broken_model_takes_the_rank_of_nobody_else() -> None:
    random = np.random.default_rng(4)
    scores = {name: random.normal(mean, 0.2, 20).tolist() for name, mean in (("a", 2), ("b", 3), ("c", 4))}
    alone, among = (
        stability({"one": rows_of(levels), "again": rows_of(levels)}, resamples=200)
        for levels in (scores, {"broken": [3.0] + [None] * 19, **scores})
    )
    ranking = among.rankings[0]
    for one, other in zip(ranking.ranks[:3], alone.rankings[0].ranks, strict=True):
        assert (one.model, one.shares) == (other.model, other.shares)
        assert one.level.model_dump() == pytest.approx(other.level.model_dump())
    assert (ranking.ranks[3].model, ranking.ranks[3].level, ranking.ranks[3].shares) == ("broken", Estimate(), ())
    assert (ranking.unranked, ranking.left_out) == (("broken",), 0)
    assert among.agreements == alone.agreements and among.agreements[0].tau == Estimate(value=1, low=1, high=1)


def test_from_half_of_the_verdicts_on_a_model_is_ranked() -> None:
    rows = rows_of({"half": [2, 2.2, None, None], "less": [2.1, None, None, None], "all": [3, 3.1, 3, 3.2]})
    (ranking,) = stability({"one": rows}, resamples=100).rankings
    assert [rank.model for rank in ranking.ranks] == ["all", "half", "less"]
    assert ranking.unranked == ("less",) and ranking.left_out == 4
    assert ranking.ranks[1].level.value == pytest.approx(2.1)
    (nobody,) = stability({"one": rows_of({"a": [2, None, None], "b": [None, 3, None]})}, resamples=100).rankings
    assert nobody.unranked == ("a", "b") and all(rank.level.value is None for rank in nobody.ranks)


def test_tau_is_of_the_pairs_that_both_settings_rank() -> None:
    levels: dict[str, list[float | None]] = {"a": [1, 1.2, 1.1, 1], "b": [3, 3.1, 3, 3.2], "c": [5, 4.9, 5, 4.8]}
    mute: list[float | None] = [None] * 4
    reverse = {"a": levels["c"], "b": levels["b"], "c": levels["a"]}
    settings = {
        "all": rows_of(levels),
        "without a": rows_of({**levels, "a": mute}),
        "reverse without b": rows_of({**reverse, "b": mute}),
        "only b": rows_of({"a": mute, "b": levels["b"], "c": mute}),
    }
    taus = {(one.first, one.second): one.tau for one in stability(settings, resamples=200).agreements}
    assert taus["all", "without a"] == Estimate(value=1, low=1, high=1)
    assert taus["all", "reverse without b"] == Estimate(value=-1, low=-1, high=-1)
    assert taus["without a", "reverse without b"] == Estimate()
    assert taus["all", "only b"] == Estimate()


def test_repeats_weigh_nothing() -> None:
    once = rows_of({"a": [2, 3], "b": [3, 4]})
    again = {"repeat": 1, "verdict": Verdict(score=5)}
    twice = {name: [*rows, *(row.model_copy(update=again) for row in rows)] for name, rows in once.items()}
    assert stability({"one": once}, resamples=100) == stability({"one": twice}, resamples=100)


def test_people_who_share_a_personality_are_drawn_together() -> None:
    # Whoever is curt likes a, all others like b: five personalities are five chances, not twenty.
    people = {
        f"person{case}": Persona(split="heldout", profile=f"Profile {case // 5}.", personality=f"Trait {case % 5}.")
        for case in range(20)
    }
    scores: list[float | None] = [4.9 if case % 5 == 0 else 2.0 for case in range(20)]
    rows = rows_of({"a": scores, "b": [2.7] * 20})
    alone = stability({"one": rows}, resamples=2000).rankings[0].ranks
    together = stability({"one": rows}, people=people, resamples=2000).rankings[0].ranks
    widths = [
        next((rank.level.high or 0) - (rank.level.low or 0) for rank in ranks if rank.model == "a")
        for ranks in (alone, together)
    ]
    assert widths[1] > 1.5 * widths[0]


def test_one_common_model_is_no_ranking() -> None:
    one, other = rows_of({"a": [2, 3], "b": [3, 4]}), rows_of({"a": [2, 3], "c": [3, 4]})
    with pytest.raises(InputError, match="1 models in common"):
        stability({"one": one, "other": other})


def test_the_table_fits_a_terminal_and_shows_names_as_they_are() -> None:
    rows = rows_of({"[bold]a": [2, 3], "b": [3, 4]})
    console = Console(width=80, record=True, file=StringIO())
    console.print(stability_table(stability({"rules [red]": rows, "a model": rows}, resamples=100)))
    text = console.export_text()
    assert "[bold]a" in text and "rules [red] (2 cases)" in text and "the same" in text
    assert "tau needs three models" in text and "tau-b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "left out" not in text
    console.print(stability_table(stability({"one": rows_of({"a": [2, None], "b": [3, 4]})}, resamples=100)))
    text = console.export_text()
    assert "2 of 4 turns are left out" in text and "Not ranked" not in text


def test_three_models_have_a_tau_and_two_in_reverse_are_told_in_words() -> None:
    def shown(**settings: Rows) -> str:
        console = Console(width=80, record=True, file=StringIO())
        console.print(stability_table(stability(settings, resamples=100)))
        return console.export_text()

    rows = rows_of({"a": [2, 3], "b": [3, 4], "c": [4, 5]})
    text = shown(one=rows, other=rows)
    assert "Kendall's tau-b" in text and "needs three" not in text
    two, reverse = {"a": rows["a"], "b": rows["b"]}, {"a": rows["b"], "b": rows["a"]}
    assert (
        "the other way round" in shown(one=two, other=reverse) and "-1" not in shown(one=two, other=reverse)[-300:-100]
    )


def test_the_table_gives_no_rank_to_whom_has_none() -> None:
    rows = rows_of({"mute": [None, None, 3], "a": [2, 3, 3], "b": [3, 4, 4.5]})
    console = Console(width=80, record=True, file=StringIO())
    console.print(stability_table(stability({"one": rows}, resamples=100)))
    text = console.export_text()
    assert [line.split()[:2] for line in text.splitlines() if line.split()[1:2] in (["b"], ["a"], ["mute"])] == [
        ["1", "b"],
        ["2", "a"],
        [UNDEFINED, "mute"],
    ]
    assert "Not ranked, because of verdicts at less than half of the 6 turns: mute." in text
    assert "left out" not in text
    nobody = rows_of({"a": [2, None, None], "b": [None, 3, None]})
    console.print(stability_table(stability({"one": nobody}, resamples=100)))
    text = console.export_text()
    assert "6 turns: a, b." in text and "left out" not in text
