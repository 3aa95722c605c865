"""The threshold of an encoder: from near-duplicates that are made on purpose, and from different people.

A cosine means nothing by itself. Under one encoder 0.6 parts copies from strangers, under another every two profiles
are above it. So copies of known kinds are made (the same person in other words, in another order, with one detail
swapped, with another name or gender), and the threshold is put between them and the *nearest* different person: the
filter compares a candidate with a whole pool, so what must stay below is the largest of many cosines, not a typical
one. As in the filter, names and gender are masked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from interalign.errors import InputError
from interalign.llm.encoder import Encoder
from interalign.llm.offline import OFFLINE_ENCODER
from interalign.messages import Value
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.description import Kind, normalised
from interalign.personas.filter import Threshold
from interalign.personas.gender import Gender, gender_of, with_gender
from interalign.personas.masking import MaskedEncoder, masked_key, name_of
from interalign.personas.seeds import seeds
from interalign.run import derive_seed

__all__ = ["CALIBRATED", "Calibration", "CopyLabel", "Spread", "calibrate", "calibrated", "different_people"]

CopyLabel: TypeAlias = Literal["paraphrase", "swapped detail", "other order", "other gender", "other name"]

CALIBRATED: dict[str, dict[Kind, tuple[float, float]]] = {
    OFFLINE_ENCODER: {"profile": (0.79, 0.74), "personality": (0.89, 0.84)}
}
"""(threshold, gate) of encoders that were calibrated with `calibrate`; the README says how, a test repeats it."""

_FEWEST = 20
_MARGIN = 0.05
_DETAILS = 4
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_MASKED: tuple[CopyLabel, ...] = ("other gender", "other name")
_OTHER: dict[Gender, Gender] = {"female": "male", "male": "female", "neutral": "female"}


class Spread(Value):
    """Quantiles of cosines: least, 5 %, median, 95 %, greatest; and how many lie at or above the threshold."""

    label: str
    count: int
    quantiles: tuple[float, float, float, float, float]
    at_threshold: float
    at_gate: float


class Calibration(Value):
    """What an encoder makes of copies and of different people, and where the border is put."""

    encoder: str
    kind: Kind
    people: int
    threshold: Threshold
    gate: Threshold
    copies: tuple[Spread, ...]
    different: Spread
    """Cosines of each description to its nearest different person."""
    against_few: Spread
    """The same among as many others as are held out."""
    words_caught: float
    """Share of copies in another gender or under another name that the filter's check of words finds, whatever their
    cosine."""


def calibrate(kind: Kind, texts: Sequence[str], encoder: Encoder, *, heldout: int, seed: int = 7) -> Calibration:
    """Propose a threshold and a gate for an encoder and a kind of description.

    The threshold is where the share of copies at or above it, averaged over the kinds of copies, exceeds the share of
    descriptions whose nearest different person is at or above it by the most (Youden's J); of equal places, the middle.
    The gate is stricter by a margin: a training description lost costs little, a leak costs the benchmark. Copies
    in another gender or under another name do not count for the threshold, since the filter masks both.

    Args:
        kind: Of all texts.
        texts: Different people, at least 20; the seeds of the package, with their hand-written copies, come on top.
        encoder: To be calibrated.
        heldout: How many descriptions of this kind are held out.
        seed: Which details are swapped.

    Raises:
        InputError: too few texts.
    """
    given = {normalised(text): text for text in texts}
    if len(given) < _FEWEST:
        raise InputError(
            f"{len(given)} different descriptions are too few to calibrate on.", mend=f"give {_FEWEST} or more."
        )
    people = list(({normalised(one.text): one.text for one in seeds(kind)} | given).values())
    encoder = MaskedEncoder(encoder)
    vectors = encoder.encode(people)
    made = _copies(kind, people, Random(derive_seed(seed, "calibrate", kind)))
    copies = {label: _cosines(encoder, *pairs) for label, pairs in made.items()}
    different = _nearest_other(vectors, len(people), seed)
    against_few = _nearest_other(vectors, heldout, seed)
    judged = [scores for label, scores in copies.items() if label not in _MASKED]
    threshold = _best_border(judged, different)
    # Whatever the encoder, a gate is above 0.
    gate = max(round(threshold - _MARGIN, 2), 0.01)
    told_again = [pair for label in _MASKED for pair in zip(*made[label], strict=True)]
    caught = [masked_key(one) == masked_key(again) for one, again in told_again]
    return Calibration(
        encoder=encoder.name,
        kind=kind,
        people=len(people),
        threshold=threshold,
        gate=gate,
        copies=tuple(_spread(label, scores, threshold, gate) for label, scores in copies.items()),
        different=_spread("nearest of all", different, threshold, gate),
        against_few=_spread(f"nearest of {heldout}", against_few, threshold, gate),
        words_caught=float(np.mean(caught)),
    )


def different_people(kind: Kind, count: int = 331, seed: int = 7) -> list[str]:
    """Descriptions of people who are different by construction: the rule-based world's, as many as the paper's pool.

    They share the turns of phrase of its vocabularies, as the people of one language model do.
    """
    world = compose_personas(WorldConfig(train=count), seed)
    return [one.profile if kind == "profile" else one.personality for one in world if one.split == "train"]


def calibrated(encoder: str, kind: Kind) -> tuple[float, float]:
    """The (threshold, gate) of an encoder by its name; raises InputError when it was never calibrated."""
    if encoder not in CALIBRATED:
        raise InputError(
            f"No threshold is known for the encoder {encoder!r}.",
            mend=f"run `interalign personas calibrate --encoder {encoder}` and give what it proposes to the recipe, "
            "or to audit (--gate-profiles, --gate-personalities).",
        )
    return CALIBRATED[encoder][kind]


def _copies(kind: Kind, people: Sequence[str], random: Random) -> dict[CopyLabel, tuple[list[str], list[str]]]:
    """For each label originals and their copies."""
    written = seeds(kind)
    made: dict[CopyLabel, tuple[list[str], list[str]]] = {
        "paraphrase": ([one.text for one in written], [one.paraphrase for one in written]),
        "swapped detail": ([one.text for one in written], [one.altered for one in written]),
        "other order": ([], []),
        "other gender": ([], []),
        "other name": ([], []),
    }
    for text in people:
        _append(made["other order"], text, " ".join(reversed(_SENTENCE.split(text))))
        gender = gender_of(text)
        if gender is not None:
            _append(made["other gender"], text, with_gender(text, _OTHER[gender]))
    for text, other in zip(people, (*people[1:], people[0]), strict=True):
        _append(made["swapped detail"], text, _swapped(text, _renamed(other, name_of(text)), random))
    names = sorted({name for text in people if (name := name_of(text)) is not None})
    for text in people if names else ():
        _append(made["other name"], text, _renamed(text, random.choice(names)))
    return made


def _append(pairs: tuple[list[str], list[str]], original: str, copy: str) -> None:
    if normalised(copy) != normalised(original):
        pairs[0].append(original)
        pairs[1].append(copy)


def _renamed(text: str, name: str | None) -> str:
    """The text under another name; unchanged where it names nobody, or there is no other name."""
    own = name_of(text)
    return text if own is None or name is None else re.sub(rf"\b{re.escape(own)}\b", name, text)


def _swapped(text: str, other: str, random: Random) -> str:
    """The text with one of its sentences from somebody else; unchanged when that would be a quarter of it or more."""
    own, theirs = _SENTENCE.split(text), _SENTENCE.split(other)
    if len(own) <= _DETAILS:
        return text
    own[random.randrange(1, len(own))] = random.choice(theirs[1:] or theirs)
    return " ".join(own)


def _cosines(encoder: Encoder, originals: Sequence[str], copies: Sequence[str]) -> NDArray[np.float32]:
    product: NDArray[np.float32] = np.einsum("nd,nd->n", encoder.encode(originals), encoder.encode(copies))
    return product


def _nearest_other(vectors: NDArray[np.float32], others: int, seed: int) -> NDArray[np.float32]:
    """For each row its largest cosine to `others` of the other rows, drawn by seed."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    if others < len(vectors) - 1:
        order = np.random.default_rng(seed).permuted(np.tile(np.arange(len(vectors)), (len(vectors), 1)), axis=1)
        # One more, should the row itself be among them.
        cosines = np.take_along_axis(cosines, order[:, : others + 1], axis=1)
    nearest: NDArray[np.float32] = cosines.max(axis=1)
    return nearest


def _best_border(copies: Sequence[NDArray[np.float32]], different: NDArray[np.float32]) -> float:
    """The cosine, in hundredths, that parts copies from different people best."""
    borders = np.arange(1, 100) / 100
    gain = [np.mean([np.mean(scores >= at) for scores in copies]) - np.mean(different >= at) for at in borders]
    best = borders[np.isclose(gain, np.max(gain))]
    return float(best[len(best) // 2])


def _spread(label: str, scores: NDArray[np.float32], threshold: float, gate: float) -> Spread:
    low, fifth, middle, ninety_fifth, high = (
        round(float(cosine), 3) for cosine in np.quantile(scores, [0, 0.05, 0.5, 0.95, 1])
    )
    return Spread(
        label=label,
        count=len(scores),
        quantiles=(low, fifth, middle, ninety_fifth, high),
        at_threshold=float(np.mean(scores >= threshold)),
        at_gate=float(np.mean(scores >= gate)),
    )
