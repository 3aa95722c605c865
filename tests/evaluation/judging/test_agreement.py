from __future__ import annotations

from itertools import combinations
from math import isclose
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.errors import InputError
from interalign.evaluation.judging.agreement import (
    Weighting,
    agreement,
    cohen_kappa,
    krippendorff_alpha,
    pair_accuracy,
    spearman,
)

SCORES = st.sampled_from([1.0, 2.0, 3.0, 4.0, 5.0])
PAIRS = st.lists(st.tuples(SCORES, SCORES), min_size=2, max_size=40)

# Krippendorff (2011), section C: four observers, twelve units, missing data.
OBSERVERS: list[list[float | None]] = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]
UNITS = list(zip(*OBSERVERS, strict=True))


def columns(pairs: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [one for one, _ in pairs], [other for _, other in pairs]


def test_alpha_is_that_of_the_published_example() -> None:
    assert krippendorff_alpha(UNITS, "ordinal") == pytest.approx(0.815, abs=5e-4)
    assert krippendorff_alpha(UNITS, "interval") == pytest.approx(0.849, abs=5e-4)


def test_kappa_is_that_of_a_worked_example() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: 0.7 observed, 0.5 by chance.
    first = [1.0] * 25 + [0.0] * 25
    second = [1.0] * 20 + [0.0] * 5 + [1.0] * 10 + [0.0] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)


def test_spearman_is_that_of_a_worked_example() -> None:
    # Ten people's test score and hours of television, ranks worked by hand: 1 - 6 * 194 / (10 * 99).
    scores = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
    hours = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    assert spearman(scores, hours) == pytest.approx(-29 / 165)


@given(PAIRS, st.sampled_from(get_args(Weighting)))
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[float, float]], weighting: Weighting) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    first, second = columns(pairs)
    if len({*first, *second}) == 1:
        assert cohen_kappa(first, second, weighting) is None
        return
    weights = None if weighting == "none" else weighting
    theirs = metrics.cohen_kappa_score(first, second, labels=[1.0, 2.0, 3.0, 4.0, 5.0], weights=weights)
    assert cohen_kappa(first, second, weighting) == pytest.approx(theirs)


@given(PAIRS)
def test_pairs_are_those_that_counting_finds(pairs: list[tuple[float, float]]) -> None:
    human, judge = columns(pairs)
    credits = [
        0.5 if judge[i] == judge[j] else float((human[i] < human[j]) == (judge[i] < judge[j]))
        for i, j in combinations(range(len(human)), 2)
        if human[i] != human[j]
    ]
    found = pair_accuracy(human, judge)
    assert found is None if not credits else found == pytest.approx(sum(credits) / len(credits))


@given(PAIRS, st.floats(0.1, 10), st.floats(-5, 5))
def test_ranks_know_no_unit(pairs: list[tuple[float, float]], unit: float, zero: float) -> None:
    human, judge = columns(pairs)
    moved = [unit * one + zero for one in judge]
    before, after = spearman(human, judge), spearman(human, moved)
    assert before == after or (before is not None and after is not None and isclose(before, after))
    assert krippendorff_alpha([(one, one) for one in moved]) in (None, pytest.approx(1.0))


@given(PAIRS)
def test_who_is_named_first_changes_nothing(pairs: list[tuple[float, float]]) -> None:
    first, second = columns(pairs)
    for weighting in get_args(Weighting):
        assert cohen_kappa(first, second, weighting) == pytest.approx(cohen_kappa(second, first, weighting))
    assert krippendorff_alpha(pairs) == pytest.approx(krippendorff_alpha(list(zip(second, first, strict=True))))


def test_replies_to_different_messages_are_not_compared() -> None:
    human, judge = [1.0, 2.0, 4.0, 5.0], [3.0, 4.0, 1.0, 2.0]
    assert pair_accuracy(human, judge) == pytest.approx(2 / 6)
    assert pair_accuracy(human, judge, ["a", "a", "b", "b"]) == 1.0


def test_a_constant_judge_has_no_correlation_and_is_no_better_than_chance() -> None:
    human, judge = [1.0, 3.0, 5.0, 2.0], [4.0] * 4
    found = agreement(human, judge)
    assert found.spearman.value is None
    assert found.kappa.value == 0
    assert found.pairs.value == 0.5
    assert found.difference.value == pytest.approx(1.25)


def test_what_is_missing_is_left_out_and_counted() -> None:
    random = np.random.default_rng(0)
    human = [float(one) for one in random.integers(1, 6, 60)]
    judge: list[float | None] = [*human[:50], *[None] * 10]
    found = agreement(human, judge, [place // 3 for place in range(60)])
    assert (found.items, found.missing) == (50, 10)
    perfect = (found.kappa, found.kappa_quadratic, found.alpha_ordinal, found.alpha_interval, found.spearman)
    assert [one.value for one in perfect] == pytest.approx([1] * 5)
    assert found.alpha_ordinal.low == pytest.approx(1)


def test_nothing_agrees_with_nothing() -> None:
    found = agreement([None, 1.0], [2.0, None])
    assert (found.items, found.missing, found.kappa.value, found.alpha_ordinal.value) == (0, 1, None, None)
    assert krippendorff_alpha([]) is None
    assert krippendorff_alpha([(1.0, None), (None, 2.0)]) is None


def test_different_items_are_refused() -> None:
    with pytest.raises(InputError, match="same items"):
        agreement([1.0], [1.0, 2.0])
    with pytest.raises(InputError, match="different numbers of raters"):
        krippendorff_alpha([(1.0, 2.0), (1.0,)])
