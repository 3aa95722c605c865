"""Whether a model listens: what a complaint changes, beyond what changes by itself.

A model that varies its replies mends half of its misses sooner or later, whatever it is told. So uptake, the share of
complaints that the next reply meets, says little alone. But users complain of one or two of the things that a reply
misses, and leave the others unsaid: whether a miss is mended more often when it was complained of than when it was not
is the effect of the complaint, in the same conversations, on the same model.

Which of its misses a user complains of is drawn by chance, with the weight of its wish (`roles.user`); the next reply
cannot know of the others. Source: the reasoning is that of a randomised experiment within each turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from interalign.evaluation.crossed import Clusters
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.statistics import Drawn, Estimate, Ratio, estimates_of
from interalign.personas.style import DIMENSIONS

__all__ = ["listening_of", "mended_of"]

_COMPLAINED, _UNSAID = "mended after a complaint", "mended unasked"
_MET = 0.5
"""From this fit on a wish is met; a user may complain of what lies below."""


def mended_of(rows: Sequence[Sequence[TurnRow]], place: Mapping[str, int], turns: int) -> dict[str, Ratio]:
    """How many of the misses of a reply the next one mends: of those complained of, and of the others.

    Args:
        rows: of each model.
        place: of each case.
        turns: of a conversation.

    Returns:
        Two ratios over all turns, (models, cases, 1); nothing where nobody complained of a measured wish.
    """
    shape = (len(rows), len(place), turns)
    sums, counts = ({said: np.zeros(shape) for said in (True, False)} for _ in range(2))
    for model, of_model in enumerate(rows):
        at = {(row.case, row.turn): row for row in of_model}
        for row in of_model:
            before = at.get((row.case, row.turn - 1))
            for said, mended in _misses(before, row) if before is not None else ():
                cell = (model, place[row.case], row.turn - 1)
                sums[said][cell] += mended
                counts[said][cell] += 1
    if not counts[True].any():
        return {}
    return {
        name: Ratio(sums=sums[said], counts=counts[said]).over_all_turns
        for name, said in ((_COMPLAINED, True), (_UNSAID, False))
    }


def _misses(before: TurnRow, after: TurnRow) -> Iterator[tuple[bool, bool]]:
    """Of each wish that the reply before missed: whether it was complained of, and whether it is met now."""
    if before.verdict is None or after.verdict is None:
        return
    complained = {reaction.dimension for reaction in after.disclosure.missed}
    fits = after.verdict.parts
    for dimension in DIMENSIONS:
        if dimension in fits and before.verdict.parts.get(dimension, 1.0) < _MET:
            yield dimension in complained, fits[dimension] >= _MET


def listening_of(drawn: Mapping[str, Drawn], model: int, clusters: Clusters) -> Estimate | None:
    """By how much a complaint raises the share of misses that the next reply mends, from -1 to 1; None if not measured.

    Args:
        drawn: resamples of `mended_of` at least.
        model: its place.
        clusters: what the cases share.
    """
    if _COMPLAINED not in drawn:
        return None
    effect = drawn[_COMPLAINED].model(model) - drawn[_UNSAID].model(model)
    (estimate,) = estimates_of(effect, clusters, bounds=(-1, 1))
    return None if estimate.value is None else estimate
