"""Preferences: what sibling replies teach.

A preference is two siblings with the path above them as prompt. Where a judge compared siblings in both orders, the
comparisons decide; elsewhere the verdicts' scores do. What is missing or contradicts itself decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, NamedTuple

from pydantic import Field

from interalign.conversations.tree import Tree
from interalign.messages import Value
from interalign.roles.judge import Comparison
from interalign.roles.measure import words

__all__ = [
    "Preference",
    "PreferenceConfig",
    "each_preference",
    "length_matched",
    "preference_between",
    "preferences",
    "preferred",
]


class PreferenceConfig(Value):
    """Which pairs of siblings become preferences."""

    min_margin: Annotated[float, Field(ge=0)] = 0.3
    """Smallest difference of scores (in points of the 1-5 scale) that counts as a preference; replies that differ by
    less are equally good. Compared replies without scores have a margin of 0: at 0, a judge's comparisons are enough.
    """
    drop_inconsistent: bool = True
    """Leave out compared pairs whose two orders agree on no winner. Off: their scores decide."""
    length_match: Annotated[float, Field(ge=0)] | None = None
    """Keep only pairs whose longer reply has at most (1 + this) times the words of the shorter; unset: keep all."""


class Preference(Value):
    """Two siblings of one tree, by node index, with the judge's margin between them in points."""

    tree: int
    chosen: int
    rejected: int
    margin: float


class _Outcome(NamedTuple):
    """What is known of two siblings: who wins by how much, or that they are equally good (no winner)."""

    pair: tuple[int, int]
    winner: int | None
    margin: float

    @property
    def loser(self) -> int | None:
        return next((node for node in self.pair if node != self.winner), None) if self.winner is not None else None


def preferences(trees: Iterable[Tree], config: PreferenceConfig) -> tuple[Preference, ...]:
    """The preferences at each user turn.

    Where siblings were compared, these are the comparisons that both orders and the scores, if there are any, agree
    on. Elsewhere it is the best reply against each one that falls short of it by the margin or more.
    """
    return tuple(pair for _, pair in each_preference(trees, config))


def each_preference(trees: Iterable[Tree], config: PreferenceConfig) -> Iterator[tuple[Tree, Preference]]:
    """Yield what `preferences` gives one by one, with its tree: for more trees than memory holds."""
    return ((tree, pair) for index, tree in enumerate(trees) for pair in _of_tree(index, tree, config))


def preferred(tree: Tree, user_node: int, config: PreferenceConfig) -> tuple[int, ...]:
    """The replies to a user turn that none is preferred to.

    Where siblings were compared, these are the ones that won or tied and never lost, by whatever margin; elsewhere the
    best one and those within the margin of it. A reply of which nothing is known is not among them: missing is neither
    better nor worse.
    """
    comparisons = _comparisons(tree, user_node)
    if comparisons:
        outcomes = [known for one in comparisons if (known := _by_comparison(tree, one, config))]
        won_or_tied = {node for outcome in outcomes for node in outcome.pair} - {outcome.loser for outcome in outcomes}
        return tuple(node for node in tree.children(user_node) if node in won_or_tied)
    scores = _scores(tree, user_node)
    best = max(scores.values(), default=1.0)
    return tuple(node for node, score in scores.items() if not _falls_short(best - score, config))


def preference_between(
    tree: Tree, first: int, second: int, config: PreferenceConfig, index: int = 0
) -> Preference | None:
    """The preference between two siblings of a tree, or None where they are equally good or too little is known.

    `config.length_match` is not looked at. `index` is the tree's place among its trees.
    """
    parent = tree.nodes[first].parent
    assert parent is not None  # a reply always answers a user turn
    comparisons = _comparisons(tree, parent)
    if not comparisons:
        return _as_preference(index, _by_scores(tree, (first, second), config), config)
    compared = next((one for one in comparisons if {one.first, one.second} == {first, second}), None)
    return _as_preference(index, _by_comparison(tree, compared, config) if compared else None, config)


def length_matched(one: Sequence[str], other: Sequence[str], config: PreferenceConfig) -> bool:
    """Whether the longer of two sides, each one text or several, has few enough words more than the shorter."""
    if config.length_match is None:
        return True
    shorter, longer = sorted(sum(len(words(text)) for text in side) for side in (one, other))
    return longer <= (1 + config.length_match) * shorter


def _of_tree(index: int, tree: Tree, config: PreferenceConfig) -> Iterator[Preference]:
    for user_node in tree.user_turns():
        for outcome in _outcomes(tree, user_node, config):
            pair = _as_preference(index, outcome, config)
            if pair and length_matched([tree.nodes[pair.chosen].content], [tree.nodes[pair.rejected].content], config):
                yield pair


def _outcomes(tree: Tree, user_node: int, config: PreferenceConfig) -> Iterator[_Outcome | None]:
    comparisons = _comparisons(tree, user_node)
    for comparison in comparisons:
        yield _by_comparison(tree, comparison, config)
    scores = {} if comparisons else _scores(tree, user_node)
    best = max(scores, key=lambda node: scores[node], default=None)
    if best is not None:
        yield from (_by_scores(tree, (best, other), config) for other in scores if other != best)


def _by_comparison(tree: Tree, comparison: Comparison, config: PreferenceConfig) -> _Outcome | None:
    pair = (comparison.first, comparison.second)
    if not comparison.consistent:
        return None if config.drop_inconsistent else _by_scores(tree, pair, config)
    gap = _gap(tree, *pair) or 0.0
    if comparison.winner is None:
        return _Outcome(pair, None, 0.0)
    ahead = gap if comparison.winner == comparison.first else -gap
    return None if ahead < 0 else _Outcome(pair, comparison.winner, ahead)


def _by_scores(tree: Tree, pair: tuple[int, int], config: PreferenceConfig) -> _Outcome | None:
    gap = _gap(tree, *pair)
    if gap is None:
        return None
    winner = pair[0] if gap > 0 else pair[1]
    return _Outcome(pair, winner if _falls_short(abs(gap), config) else None, abs(gap))


def _falls_short(gap: float, config: PreferenceConfig) -> bool:
    # Equal scores are no preference, even where any difference would be one.
    return gap >= config.min_margin and gap > 0


def _as_preference(index: int, outcome: _Outcome | None, config: PreferenceConfig) -> Preference | None:
    if outcome is None or outcome.loser is None or outcome.winner is None or outcome.margin < config.min_margin:
        return None
    return Preference(tree=index, chosen=outcome.winner, rejected=outcome.loser, margin=round(outcome.margin, 4))


def _comparisons(tree: Tree, user_node: int) -> list[Comparison]:
    return [one for one in tree.comparisons if tree.nodes[one.first].parent == user_node]


def _gap(tree: Tree, first: int, second: int) -> float | None:
    verdicts = tree.nodes[first].verdict, tree.nodes[second].verdict
    return None if verdicts[0] is None or verdicts[1] is None else verdicts[0].score - verdicts[1].score


def _scores(tree: Tree, user_node: int) -> dict[int, float]:
    verdicts = {node: tree.nodes[node].verdict for node in tree.children(user_node)}
    return {node: verdict.score for node, verdict in verdicts.items() if verdict is not None}
