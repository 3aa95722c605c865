from __future__ import annotations

import sys
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.conversations.hygiene import Cue, pair_hygiene
from interalign.conversations.preferences import PreferenceConfig, preferences
from interalign.conversations.simulate import SimulateConfig, grow
from interalign.conversations.tree import Tree
from interalign.errors import MissingExtra
from tests.conversations.hand_made import compared, one_turn
from tests.roles.talks import PERSONAS

CONFIG = PreferenceConfig()


def pair(chosen: str, rejected: str, who: str = "p") -> Tree:
    return one_turn([2.0, 4.0], texts=[rejected, chosen], who=who)


def test_no_pairs_have_no_figures() -> None:
    for trees in ([], [one_turn([3.0, 3.0])]):
        found = pair_hygiene(trees, CONFIG)
        assert (found.pairs, found.compared, found.unreadable_votes) == (0, 0, 0)
        assert found.longer == found.emoji == found.questions == found.exclamations == Cue(wins=None, ties=0)
        assert found.disagreements is found.surface_guess is None


def test_each_mark_is_counted_by_itself() -> None:
    trees = [
        pair("Bake bread today", "Rest"),
        pair("Rest", "Bake bread today"),
        pair("Bake bread, it is good", "Rest"),
        pair("Rest 🙂", "Rest"),
        pair("Rest?", "Rest 🙂"),
        pair("Rest", "Rest!"),
        pair("Rest", "Rest now!!"),
    ]
    found = pair_hygiene(trees, CONFIG)
    assert found.pairs == 7
    assert found.longer == Cue(wins=2 / 4, ties=3)
    assert found.emoji == Cue(wins=1 / 2, ties=5)
    assert found.questions == Cue(wins=1.0, ties=6)
    assert found.exclamations == Cue(wins=0.0, ties=5)
    assert found.surface_guess is None


def test_disagreement_is_of_all_that_was_compared() -> None:
    trees = [
        one_turn([4.0, 2.0], [compared(1, 2, "first", "first")]),
        one_turn([4.0, 2.0], [compared(1, 2, "first", "second")]),
        one_turn([4.0, 2.0], [compared(1, 2, "tie", "second")]),
        one_turn([4.0, 2.0], [compared(1, 2, "tie", "tie")]),
        one_turn([4.0, 2.0], [compared(1, 2, None, "second")]),
        one_turn([4.0, 2.0], [compared(1, 2, None, None)]),
    ]
    found = pair_hygiene(trees, CONFIG)
    assert (found.pairs, found.compared, found.disagreements, found.unreadable_votes) == (1, 6, 2 / 4, 3)
    assert pair_hygiene(trees[-1:], CONFIG).disagreements is None


def worded(random: Random, marks: str = "") -> str:
    return " ".join(random.choices(["bread", "rain", "a", "walk"], k=random.randint(3, 40))) + marks


def test_what_surface_gives_away_is_guessed() -> None:
    pytest.importorskip("sklearn")
    random = Random(1)
    cheerful = [pair(worded(random, " 🎉!"), worded(random), who=str(index % 7)) for index in range(70)]
    assert pair_hygiene(cheerful, CONFIG).surface_guess == 1.0
    listed = [
        pair(f"{worded(random)}\n- one\n- two", f"{worded(random)} one two", who=str(index % 7)) for index in range(70)
    ]
    assert (pair_hygiene(listed, CONFIG).surface_guess or 0) > 0.95
    assert pair_hygiene([pair("bread", "rain", who=str(index % 7)) for index in range(70)], CONFIG).surface_guess == 0.5
    by_chance = [pair(worded(random), worded(random), who=str(index % 40)) for index in range(400)]
    assert 0.4 < (pair_hygiene(by_chance, CONFIG).surface_guess or 0) < 0.6


def test_a_guess_is_made_on_people_it_was_not_fitted_on() -> None:
    pytest.importorskip("sklearn")
    # One likes long replies and the other short ones: whoever is hidden, the guess goes by the other one.
    long, short = "bread and rain and a walk", "bread"
    trees = [pair(long, short, who="a") for _ in range(30)] + [pair(short, long, who="b") for _ in range(30)]
    assert pair_hygiene(trees, CONFIG).surface_guess == 0.0
    assert pair_hygiene(trees[:30], CONFIG).surface_guess is None
    few = [pair(long, short, who=str(index)) for index in range(29)]
    assert pair_hygiene(few, CONFIG).surface_guess is None
    assert pair_hygiene([*few, trees[0]], CONFIG).surface_guess == 1.0


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = [pair("bread and rain", "bread", who=str(index)) for index in range(30)]
    monkeypatch.setitem(sys.modules, "sklearn.model_selection", None)
    with pytest.raises(MissingExtra, match="scikit-learn"):
        pair_hygiene(trees, CONFIG)


def test_grown_trees() -> None:
    pytest.importorskip("sklearn")
    trees = grow(PERSONAS[:12], SimulateConfig(turns=3), 1)
    found = pair_hygiene(trees, CONFIG)
    assert found.pairs == len(preferences(trees, CONFIG))
    assert found.surface_guess is not None and 0 <= found.surface_guess <= 1
    assert pair_hygiene(trees, CONFIG) == found
    assert pair_hygiene((tree for tree in trees), CONFIG) == found
    matched = pair_hygiene(trees, PreferenceConfig(length_match=0))
    assert 0 < matched.pairs == matched.longer.ties < found.pairs


@given(st.lists(st.tuples(st.text("ab ?!🙂"), st.text("ab ?!🙂")), max_size=6))
def test_swapped_labels_give_the_complement(texts: list[tuple[str, str]]) -> None:
    one = pair_hygiene([pair(chosen, rejected) for chosen, rejected in texts], CONFIG)
    other = pair_hygiene([pair(rejected, chosen) for chosen, rejected in texts], CONFIG)
    for cue, swapped in ((one.longer, other.longer), (one.emoji, other.emoji), (one.exclamations, other.exclamations)):
        assert cue.ties == swapped.ties
        assert (cue.wins is None) == (swapped.wins is None) == (cue.ties == len(texts))
        assert cue.wins is None or cue.wins + (swapped.wins or 0) == pytest.approx(1)
