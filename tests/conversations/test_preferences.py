from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.conversations.preferences import (
    PreferenceConfig,
    preference_between,
    preferences,
    preferred,
)
from interalign.conversations.simulate import SimulateConfig, grow
from interalign.conversations.tree import Tree
from interalign.roles.judge import Vote
from tests.conversations.hand_made import asked, compared, one_turn, replied
from tests.roles.talks import PERSONAS

CONFIG = PreferenceConfig()
TREES = grow(PERSONAS[:4], SimulateConfig(turns=3), 1)

scores = st.lists(st.none() | st.floats(1, 5).map(lambda score: round(score, 4)), max_size=6)


@given(scores, st.floats(0.1, 2))
def test_pairs_differ_by_the_margin_and_have_verdicts(verdicts: list[float | None], min_margin: float) -> None:
    config = PreferenceConfig(min_margin=min_margin)
    tree = one_turn(verdicts)
    pairs = preferences([tree], config)
    given_scores = {index: score for index, score in enumerate(verdicts, 1) if score is not None}
    best = max(given_scores.values(), default=0)
    for pair in pairs:
        margin = given_scores[pair.chosen] - given_scores[pair.rejected]
        assert margin >= min_margin
        assert pair.margin == pytest.approx(margin, abs=1e-4)
        assert best - given_scores[pair.rejected] >= min_margin > best - given_scores[pair.chosen]
    assert {pair.rejected for pair in pairs} == {
        index for index, score in given_scores.items() if best - score >= min_margin
    }


@given(scores)
def test_the_preferred_are_the_best_and_their_equals(verdicts: list[float | None]) -> None:
    tree = one_turn(verdicts)
    chosen = preferred(tree, 0, CONFIG)
    given_scores = [score for score in verdicts if score is not None]
    assert bool(chosen) == bool(given_scores)
    for index, score in enumerate(verdicts, 1):
        assert (index in chosen) == (score is not None and max(given_scores) - score < CONFIG.min_margin)


def test_only_the_best_is_chosen_and_its_equals_are_in_no_pair() -> None:
    pairs = preferences([one_turn([4.9, 5.0, 1.0, 2.0, 3.0, None])], CONFIG)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [(2, 3), (2, 4), (2, 5)]
    assert [pair.margin for pair in pairs] == [4.0, 3.0, 2.0]


def test_pairs_of_grown_trees_are_siblings() -> None:
    pairs = preferences(TREES, CONFIG)
    assert {pair.tree for pair in pairs} == set(range(len(TREES)))
    for pair in pairs:
        tree = TREES[pair.tree]
        assert pair.rejected in tree.siblings(pair.chosen)
        better, worse = tree.nodes[pair.chosen].verdict, tree.nodes[pair.rejected].verdict
        assert better is not None and worse is not None
        assert better.score - worse.score >= CONFIG.min_margin


@pytest.mark.parametrize("verdicts", [[], [None, None], [3.0], [3.0, None], [3.0, 3.0]])
def test_any_margin_is_still_a_margin(verdicts: list[float | None]) -> None:
    config = PreferenceConfig(min_margin=0)
    tree = one_turn(verdicts)
    assert preferences([tree], config) == ()
    assert preferred(tree, 0, config) == tuple(index for index, score in enumerate(verdicts, 1) if score is not None)
    assert len(preferences([one_turn([*verdicts, 3.01])], config)) == verdicts.count(3.0)


@pytest.mark.parametrize("wrong", [{"min_margin": -0.1}, {"length_match": -0.1}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PreferenceConfig.model_validate(wrong)


def found(tree: Tree, **settings: Any) -> list[tuple[int, int, float]]:
    config = PreferenceConfig.model_validate(settings)
    return [(pair.chosen, pair.rejected, pair.margin) for pair in preferences([tree], config)]


@pytest.mark.parametrize(
    ("scores", "votes", "pairs", "without_agreement", "best"),
    [
        # Both orders agree, and the scores with them.
        ((4.0, 2.0), ("first", "first"), [(1, 2, 2.0)], [(1, 2, 2.0)], (1,)),
        ((2.0, 4.0), ("second", "second"), [(2, 1, 2.0)], [(2, 1, 2.0)], (2,)),
        # The scores contradict the winner.
        ((4.0, 2.0), ("second", "second"), [], [], ()),
        # Without scores there is a winner by no margin.
        ((None, None), ("first", "first"), [(1, 2, 0.0)], [(1, 2, 0.0)], (1,)),
        ((4.0, None), ("second", "second"), [(2, 1, 0.0)], [(2, 1, 0.0)], (2,)),
        ((3.0, 3.0), ("second", "second"), [(2, 1, 0.0)], [(2, 1, 0.0)], (2,)),
        # The orders disagree, or one cannot be read: nothing, or what the scores say.
        ((4.0, 2.0), ("first", "second"), [], [(1, 2, 2.0)], ()),
        ((4.0, 2.0), ("second", "tie"), [], [(1, 2, 2.0)], ()),
        ((4.0, 2.0), ("second", None), [], [(1, 2, 2.0)], ()),
        ((None, 2.0), ("first", "second"), [], [], ()),
        # Both orders say that neither is better.
        ((4.0, 2.0), ("tie", "tie"), [], [], (1, 2)),
    ],
)
def test_comparisons_decide(
    scores: tuple[float | None, float | None],
    votes: tuple[Vote | None, Vote | None],
    pairs: list[tuple[int, int, float]],
    without_agreement: list[tuple[int, int, float]],
    best: tuple[int, ...],
) -> None:
    tree = one_turn(scores, [compared(1, 2, *votes)])
    config = PreferenceConfig(min_margin=0)
    assert found(tree, min_margin=0) == pairs
    assert found(tree, min_margin=0, drop_inconsistent=False) == without_agreement
    assert preferred(tree, 0, config) == best
    between = next(iter(preferences([tree], config)), None)
    assert preference_between(tree, 1, 2, config) == preference_between(tree, 2, 1, config) == between
    # The smallest margin holds for compared pairs too, and does not make a loser anybody's equal.
    assert found(tree, min_margin=2.5) == []
    assert preferred(tree, 0, PreferenceConfig(min_margin=2.5)) == best


def test_only_what_was_compared_is_a_pair() -> None:
    tree = one_turn([2.0, 4.0, 5.0], [compared(2, 1, "first", "first"), compared(3, 2, "first", "second")])
    assert found(tree) == [(2, 1, 2.0)]
    assert preference_between(tree, 1, 3, CONFIG) is None
    assert preferred(tree, 0, CONFIG) == (2,)
    both = one_turn([2.0, 4.0, 5.0], [compared(2, 1, "first", "first"), compared(3, 2, "first", "first")])
    assert found(both) == [(2, 1, 2.0), (3, 2, 1.0)]
    assert preferred(both, 0, CONFIG) == (3,)


def test_turns_that_were_not_compared_go_by_scores() -> None:
    nodes = [
        asked(),
        replied(0, "a", 4.0, continued=True),
        replied(0, "b", 2.0),
        asked(1),
        replied(3, "c", 1.0),
        replied(3, "d", 2.0),
    ]
    tree = Tree(persona_id="p", seed=1, nodes=tuple(nodes), comparisons=(compared(1, 2, "first", "tie"),))
    assert found(tree) == [(5, 4, 1.0)]
    assert preferred(tree, 0, CONFIG) == ()
    assert preferred(tree, 3, CONFIG) == (5,)


@given(scores, st.lists(st.integers(0, 30), min_size=6, max_size=6), st.floats(0, 2))
def test_length_matched_pairs(verdicts: list[float | None], lengths: list[int], length_match: float) -> None:
    texts = [" ".join(["word"] * length) for length in lengths[: len(verdicts)]]
    tree = one_turn(verdicts, texts=texts)
    config = PreferenceConfig(length_match=length_match)
    kept, everything = preferences([tree], config), preferences([tree], CONFIG)
    for pair in everything:
        shorter, longer = sorted(lengths[node - 1] for node in (pair.chosen, pair.rejected))
        assert (pair in kept) == (longer <= (1 + length_match) * shorter)
    assert set(kept) <= set(everything)
