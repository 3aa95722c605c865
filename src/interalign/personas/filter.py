"""Which candidates enter the pool: greedy, in order, each compared with everything that entered before it.

A candidate enters when it is neither the same text as a member (up to case, punctuation and spacing), nor the same up
to the name and gender of the person, nor as near in meaning as the threshold; names and gender are masked before
meanings are compared (`personas/masking.py`). A member is encoded once, when it enters; the
release of the paper encodes the pool anew for every candidate.

A threshold belongs to its encoder and to the kind of text: see `personas/calibrate.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from interalign.llm.encoder import Encoder
from interalign.messages import Value
from interalign.personas.description import Description, Kind, normalised
from interalign.personas.masking import MaskedEncoder, masked_key
from interalign.personas.neighbours import ExactIndex, VectorIndex, cosines

__all__ = ["Duplicate", "Screening", "SemanticFilter", "Threshold", "distinct"]

Duplicate: TypeAlias = Literal["same text", "differs in name or gender only", "too similar"]
_PART = 256

Threshold: TypeAlias = Annotated[float, Field(gt=0, le=1)]


def distinct(descriptions: Iterable[Description]) -> list[Description]:
    """Of descriptions of one kind what `SemanticFilter.keep` takes in: none twice, whatever the name and gender."""
    found: list[Description] = []
    seen: set[str] = set()
    for one in descriptions:
        keys = {key for key, _ in _keys(one.text)}
        if not keys & seen:
            found.append(one)
            seen |= keys
    return found


class Screening(Value):
    """What the filter says of one candidate. `nearest` is a member's id and `score` their cosine, where known."""

    duplicate: Duplicate | None
    entered: bool
    nearest: str | None = None
    score: float | None = None


class SemanticFilter:
    """A pool of descriptions of one kind that refuses what it holds already.

    Args:
        kind: Of all members.
        encoder: Its vectors of masked texts are compared.
        threshold: A candidate enters when its largest cosine to a member is below this.
        index: An empty index for the members' vectors; exact search where none is given.
    """

    def __init__(self, kind: Kind, encoder: Encoder, threshold: float, index: VectorIndex | None = None) -> None:
        self._kind = kind
        self._encoder = MaskedEncoder(encoder)
        self._threshold = threshold
        self._index = ExactIndex(encoder.dimension) if index is None else index
        self._members: list[Description] = []
        self._by_key: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._members)

    @property
    def kind(self) -> Kind:
        """Of all members."""
        return self._kind

    @property
    def threshold(self) -> float:
        """A candidate enters when its largest cosine to a member is below this."""
        return self._threshold

    @property
    def encoder_name(self) -> str:
        """What compares."""
        return self._encoder.name

    @property
    def members(self) -> tuple[Description, ...]:
        """The pool, in the order of entry."""
        return tuple(self._members)

    def keep(self, descriptions: Sequence[Description], *, repeats: bool = False) -> list[Screening]:
        """Take in what somebody chose by hand, such as seeds, however near; only repeated people stay out.

        Args:
            descriptions: What is taken in.
            repeats: Take in also what is the same text as a member, or differs from one in name or gender only, so that
                others are compared with all that was given.

        Returns:
            For each description its nearest among the members before it, and `duplicate` where `screen` would have kept
            it out.
        """
        return self._screen(descriptions, tolerated=get_args(Duplicate) if repeats else ("too similar",))

    def screen(self, descriptions: Sequence[Description], *, room: int | None = None) -> list[Screening]:
        """Take in each description that is new, in order, as long as there is room.

        One batch is encoded at once, and its members see each other. What found no room has no `duplicate` and did
        not enter.
        """
        return self._screen(descriptions, room=room)

    def compare(self, descriptions: Sequence[Description]) -> list[Screening]:
        """Judge each description against the members only; none enters."""
        return self._screen(descriptions, room=0)

    def _screen(
        self, descriptions: Sequence[Description], *, room: int | None = None, tolerated: tuple[Duplicate, ...] = ()
    ) -> list[Screening]:
        screenings: list[Screening] = []
        vectors = self._encoder.encode([description.text for description in descriptions])
        # In parts: what has entered is searched in the index, and only the rest of a part one by one.
        for start in range(0, len(descriptions), _PART):
            part = slice(start, start + _PART)
            left = None if room is None else room - sum(one.entered for one in screenings)
            screenings += self._screen_part(descriptions[part], vectors[part], left, tolerated)
        return screenings

    def _screen_part(
        self,
        descriptions: Sequence[Description],
        vectors: NDArray[np.float32],
        room: int | None,
        tolerated: tuple[Duplicate, ...],
    ) -> list[Screening]:
        found = self._index.nearest(vectors)
        among = cosines(vectors, vectors)
        screenings: list[Screening] = []
        entered: list[int] = []
        before = len(self._members)
        for row, description in enumerate(descriptions):
            nearest, score = int(found.rows[row]), float(found.scores[row])
            if entered:
                best = int(among[row, entered].argmax())
                if among[row, entered[best]] > score:
                    nearest, score = before + best, float(among[row, entered[best]])
            duplicate, member, cosine = self._judge(description.text, nearest, score)
            enters = (duplicate is None or duplicate in tolerated) and (room is None or len(entered) < room)
            screenings.append(Screening(duplicate=duplicate, entered=enters, nearest=member, score=cosine))
            if enters:
                self._enter(description)
                entered.append(row)
        self._index.add(vectors[entered])
        return screenings

    def _judge(self, text: str, nearest: int, score: float) -> tuple[Duplicate | None, str | None, float | None]:
        # Rounding of unit vectors may give a little more than 1.
        cosine = None if nearest < 0 else round(min(score, 1.0), 6)
        for key, duplicate in _keys(text):
            member = self._by_key.get(key)
            if member is not None:
                return duplicate, self._members[member].id, cosine if member == nearest else None
        too_near = cosine is not None and cosine >= self._threshold
        return "too similar" if too_near else None, None if nearest < 0 else self._members[nearest].id, cosine

    def _enter(self, description: Description) -> None:
        for key, _ in _keys(description.text):
            self._by_key.setdefault(key, len(self._members))
        self._members.append(description)


def _keys(text: str) -> tuple[tuple[str, Duplicate], ...]:
    # Both keys live in one dictionary, so each says which it is.
    return (f"text {normalised(text)}", "same text"), (f"person {masked_key(text)}", "differs in name or gender only")
