"""Whether a model listens: what a complaint changes, beyond what changes by itself.

A model that varies its replies mends half of its misses sooner or later, whatever it is told. So uptake, the share of
complaints that the next reply meets, says little alone. But users complain of one or two of the things that a reply
misses, drawn by chance, and leave the others unsaid for now. Whether the next reply mends what was complained of more
often than what the same reply missed and the user has just passed over is the effect of the complaint: an experiment
within each turn. It is that of one message: what was complained of earlier may be mended now, too, and is no effect of
this one, so that even a perfect listener stays below 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from interalign.evaluation.rows import TurnRow
from interalign.evaluation.statistics import Ratio
from interalign.personas.style import DIMENSIONS
from interalign.roles.user import MISSED_BELOW

__all__ = ["listening_of"]


def listening_of(rows: Sequence[Sequence[TurnRow]], place: Mapping[str, int], turns: int) -> Ratio | None:
    """By how much a complaint raises the chance that the next reply mends a miss, over all complaints.

    A complaint is 1 where the next reply meets it and 0 where it does not, minus the share that is met of what the same
    reply missed and the user passed over this time; where there is nothing of that kind it is left out. Of rule-based
    users and judges only: others do not tell one wish from another.

    Args:
        rows: of each model.
        place: of each case.
        turns: of a conversation.

    Returns:
        Over all turns, (models, cases, 1), from -1 to 1; None where nothing can be compared.
    """
    sums, counts = (np.zeros((len(rows), len(place), turns)) for _ in range(2))
    for model, of_model in enumerate(rows):
        at = {(row.case, row.turn): row for row in of_model}
        for row in of_model:
            before = at.get((row.case, row.turn - 1))
            complained, unsaid = _mended(before, row) if before is not None else ([], [])
            if complained and unsaid:
                cell = (model, place[row.case], row.turn - 1)
                counts[cell] = len(complained)
                sums[cell] = sum(complained) - len(complained) * fmean(unsaid)
    return Ratio(sums=sums, counts=counts).over_all_turns if counts.any() else None


def _mended(before: TurnRow, after: TurnRow) -> tuple[list[bool], list[bool]]:
    """Of the wishes that the reply before missed, whether they are met now: those complained of, and the others."""
    mended: dict[bool, list[bool]] = {True: [], False: []}
    if before.verdict is not None and after.verdict is not None:
        complained = {reaction.dimension for reaction in after.disclosure.missed}
        fits = after.verdict.parts
        for dimension in DIMENSIONS:
            if dimension in fits and before.verdict.parts.get(dimension, 1.0) < MISSED_BELOW:
                mended[dimension in complained].append(fits[dimension] >= MISSED_BELOW)
    return mended[True], mended[False]
