"""Pair hygiene: what besides the person could tell the chosen reply from the rejected one.

A judge that likes long, cheerful replies makes pairs that teach length and cheer, and a model that has learnt them
looks personalised to the same judge. So every set of pairs is told how often plain surface wins, and how far a guess
from surface alone would come: where it comes far, the pairs say little about persons. Half is chance.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from interalign.conversations.preferences import PreferenceConfig, preferences
from interalign.conversations.tree import Tree
from interalign.errors import MissingExtra
from interalign.messages import Value
from interalign.roles.measure import count_emoji, count_exclamations, count_questions, words

__all__ = ["Cue", "PairHygiene", "pair_hygiene"]

_LIST_LINE = re.compile(r"^[ \t]*(?:[-*•]|\d+[.)])[ \t]+\S", re.MULTILINE)
_FEATURES: dict[str, Callable[[str], int]] = {
    "words": lambda text: len(words(text)),
    "emoji": count_emoji,
    "questions": count_questions,
    "exclamations": count_exclamations,
    "list_lines": lambda text: len(_LIST_LINE.findall(text)),
}
_LEAST_PAIRS = 30
_FOLDS = 5


class Cue(Value):
    """How often the reply with more of something is the chosen one."""

    wins: float | None
    """In [0, 1], of the pairs that differ; None where none does."""
    ties: int
    """Pairs that do not differ, left out of `wins`."""


class PairHygiene(Value):
    """What surface tells of the pairs of one data set."""

    pairs: int
    longer: Cue
    """By words."""
    emoji: Cue
    questions: Cue
    exclamations: Cue
    compared: int
    """Pairs of siblings that a judge compared in both orders, whether or not they became preferences."""
    disagreements: float | None
    """The share of compared pairs with readable votes whose two orders disagree; None where there is none."""
    unreadable_votes: int
    """Of two for each compared pair."""
    surface_guess: float | None
    """How often a logistic regression on the differences in words, emoji, questions, exclamations and list lines finds
    the chosen reply of personas that it was not fitted on; None with fewer than 30 pairs or with one persona."""


def pair_hygiene(trees: Iterable[Tree], config: PreferenceConfig) -> PairHygiene:
    """Measure the pairs that `preferences` makes of `trees`. The same trees give the same figures.

    Trees are gone through once, and kept of each pair are numbers only.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    leads = {name: array("q") for name in _FEATURES}
    """By how much the chosen reply of each pair has more of each feature."""
    whose = array("q")
    personas: dict[str, int] = {}
    votes: Counter[str] = Counter()
    for tree in trees:
        for pair in preferences([tree], config):
            chosen, rejected = tree.nodes[pair.chosen].content, tree.nodes[pair.rejected].content
            for name, count in _FEATURES.items():
                leads[name].append(count(chosen) - count(rejected))
            whose.append(personas.setdefault(tree.persona_id, len(personas)))
        for one in tree.comparisons:
            votes["compared"] += 1
            votes["readable"] += one.readable
            votes["disagreeing"] += one.readable and not one.consistent
            votes["unreadable"] += sum(vote is None for vote in one.votes)
    return PairHygiene(
        pairs=len(whose),
        longer=_cue(leads["words"]),
        emoji=_cue(leads["emoji"]),
        questions=_cue(leads["questions"]),
        exclamations=_cue(leads["exclamations"]),
        compared=votes["compared"],
        disagreements=votes["disagreeing"] / votes["readable"] if votes["readable"] else None,
        unreadable_votes=votes["unreadable"],
        surface_guess=_surface_guess(leads, whose, list(personas)),
    )


def _cue(leads: Sequence[int]) -> Cue:
    differing = sum(lead != 0 for lead in leads)
    wins = sum(lead > 0 for lead in leads) / differing if differing else None
    return Cue(wins=wins, ties=len(leads) - differing)


def _surface_guess(leads: Mapping[str, Sequence[int]], whose: Sequence[int], personas: Sequence[str]) -> float | None:
    """As `PairHygiene` has it, of leads by feature; `whose` tells each pair's persona by its place in `personas`."""
    folds = min(_FOLDS, len(personas))
    if len(whose) < _LEAST_PAIRS or folds < 2:
        return None
    try:
        import numpy as np
        from sklearn.model_selection import GroupKFold
    except ModuleNotFoundError as error:
        raise MissingExtra("scikit-learn", "personas") from error

    table = np.array(list(leads.values()), dtype=float).T.copy()
    # Groups are dealt to the folds in the order of their names, not of their coming.
    ranks = np.argsort(np.argsort(personas))[np.array(whose)]
    right = 0.0
    for known, hidden in GroupKFold(folds).split(table, groups=ranks):
        leaning = _fitted(table[known]).decision_function(table[hidden])
        # No difference gives no leaning, and then a guess is right every other time.
        right += float(np.sum(leaning > 0) + np.sum(leaning == 0) / 2)
    return right / len(whose)


def _fitted(table: Any) -> Any:
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # Each pair both ways round and no intercept: which of two replies is named first must not help.
    both = np.vstack([table, -table])
    label = np.repeat([1, 0], len(table))
    return make_pipeline(StandardScaler(with_mean=False), LogisticRegression(fit_intercept=False)).fit(both, label)
