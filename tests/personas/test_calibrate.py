from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from interalign.errors import InputError
from interalign.llm.encoder import SentenceEncoder, remembered
from interalign.llm.offline import OFFLINE_ENCODER
from interalign.personas.calibrate import CALIBRATED, _best_border, calibrate, calibrated, different_people
from interalign.personas.description import KINDS, Kind, normalised
from interalign.personas.masking import masked
from interalign.personas.seeds import seeds
from interalign.personas.split import SplitConfig
from tests.personas.encoders import WordEncoder

SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


class Planted:
    """Knows a person by the sentences: every copy is as near to its original as it is told, every two people too.

    Texts with a sentence that no reference holds, as gender flips have them, are halfway to everybody.
    """

    name = "planted"

    def __init__(self, people: Sequence[Sequence[str]], *, copy: float, stranger: float) -> None:
        """`people`: for each person the original and other tellings."""
        self._owner = {
            sentence: number
            for number, tellings in enumerate(people)
            for telling in tellings
            for sentence in SENTENCE_END.split(masked(telling))
        }
        self._originals = {masked(tellings[0]) for tellings in people}
        self._copy, self._stranger = copy, stranger
        self.dimension = len(people) + 2

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self._vector(text) for text in texts]).astype(np.float32)

    def _vector(self, text: str) -> NDArray[np.float64]:
        axes = np.eye(self.dimension)
        sentences = SENTENCE_END.split(text)
        if not all(sentence in self._owner for sentence in sentences):
            return axes[-2]
        ((owner, _),) = Counter(self._owner[sentence] for sentence in sentences).most_common(1)
        person = np.sqrt(self._stranger) * axes[-2] + np.sqrt(1 - self._stranger) * axes[owner]
        if text in self._originals:
            return person
        return self._copy * person + np.sqrt(1 - self._copy**2) * axes[-1]


def reference(kind: Kind, *, copy: float, stranger: float, count: int = 30) -> tuple[list[str], Planted]:
    texts = different_people(kind, count)
    people = [(one.text, one.paraphrase, one.altered) for one in seeds(kind)]
    return texts, Planted([*people, *((text,) for text in texts)], copy=copy, stranger=stranger)


@pytest.mark.parametrize("kind", KINDS)
def test_the_border_lies_between_the_copies_and_the_strangers(kind: Kind) -> None:
    # Any border from 0.60 to 0.80 parts them; the middle is taken.
    texts, encoder = reference(kind, copy=0.805, stranger=0.595)
    found = calibrate(kind, texts, encoder, heldout=5)
    assert (found.encoder, found.kind, found.people) == ("planted", kind, 50)
    # Some names are masked in the original and not in a copy, or the other way about.
    assert (found.threshold, found.gate) == pytest.approx((0.7, 0.65), abs=0.011)
    for spread in found.copies:
        if spread.label in ("other gender", "other name"):
            # They have no say in where the border is; the filter knows them by their words.
            assert spread.quantiles[2] == pytest.approx(1, abs=1e-3)
            assert found.words_caught > 0.95
            continue
        assert spread.quantiles[2] == pytest.approx(0.805, abs=1e-3)
        assert spread.at_threshold > 0.9
    assert found.different.quantiles[2] == pytest.approx(0.595, abs=1e-3)
    assert found.different.count == 50
    assert found.different.at_threshold <= found.different.at_gate < 0.1
    assert found.against_few.label == "nearest of 5"


def test_every_kind_of_copy_is_made() -> None:
    texts, encoder = reference("profile", copy=0.8, stranger=0.2)
    found = calibrate("profile", texts, encoder, heldout=5)
    counts = {spread.label: spread.count for spread in found.copies}
    assert list(counts) == ["paraphrase", "swapped detail", "other order", "other gender", "other name"]
    assert counts["paraphrase"] == 20
    # The seeds' own near-copies come on top of one for each person; a text of one sentence has no other order.
    assert 60 <= counts["swapped detail"] <= 70
    assert 45 <= counts["other order"] <= 50
    assert 40 <= counts["other gender"] <= 50


def test_when_copies_are_no_nearer_than_strangers_a_gate_is_still_a_cosine() -> None:
    texts, encoder = reference("profile", copy=0.045, stranger=0.0)
    found = calibrate("profile", texts, encoder, heldout=5)
    assert (found.threshold, found.gate) == (0.03, 0.01)


def test_among_few_others_the_nearest_is_farther() -> None:
    texts = different_people("profile", 24)
    few, more, everybody, too_many = (
        calibrate("profile", texts, WordEncoder(), heldout=count) for count in (3, 15, 43, 500)
    )
    assert few.different == more.different == everybody.different
    for nearer, farther in ((few.against_few, more.against_few), (more.against_few, more.different)):
        assert all(one <= other for one, other in zip(nearer.quantiles, farther.quantiles, strict=True))
        assert nearer.quantiles[2] < farther.quantiles[2]
    assert everybody.against_few.quantiles == too_many.against_few.quantiles == few.different.quantiles


def test_the_seed_decides_what_is_swapped_and_nothing_else_does() -> None:
    texts = different_people("personality", 20)
    one, again, other = (calibrate("personality", texts, WordEncoder(), heldout=4, seed=seed) for seed in (1, 1, 2))
    assert one == again
    by_label = [{spread.label: spread for spread in found.copies} for found in (one, other)]
    assert by_label[0]["paraphrase"].quantiles == by_label[1]["paraphrase"].quantiles
    assert by_label[0]["swapped detail"].quantiles != by_label[1]["swapped detail"].quantiles


def scores(*numbers: float) -> NDArray[np.float32]:
    return np.array(numbers, np.float32)


@pytest.mark.parametrize(
    ("copies", "different", "border"),
    [
        # Apart: the middle of 0.41 ... 0.60.
        ([scores(0.605, 0.9)], scores(0.105, 0.405), 0.51),
        # One copy below a stranger: 0.71 ... 0.80 gives 2/3 of the copies and none of the strangers.
        ([scores(0.3, 0.805, 0.9)], scores(0.1, 0.2, 0.6, 0.705), 0.76),
        # Rather one stranger of four than two copies of three.
        ([scores(0.505, 0.525, 0.9)], scores(0.1, 0.2, 0.3, 0.705), 0.41),
        # The kinds of copies count alike, however many of each there are: 0.51 ... 0.60 finds half of the copies.
        ([scores(*[0.305] * 98), scores(0.605, 0.9)], scores(0.1, 0.505, 0.505), 0.56),
    ],
)
def test_the_border_is_youdens(
    copies: list[NDArray[np.float32]], different: NDArray[np.float32], border: float
) -> None:
    assert _best_border(copies, different) == pytest.approx(border)


@pytest.mark.parametrize("kind", KINDS)
def test_the_people_of_the_reference_are_different(kind: Kind) -> None:
    people = different_people(kind)
    assert len(people) == len({normalised(text) for text in people}) == 331
    assert different_people(kind, 10) == people[:10]
    assert different_people(kind, 10, seed=8) != people[:10]


@pytest.mark.parametrize("texts", [[], different_people("profile", 19), different_people("profile", 1) * 40])
def test_too_few_people_are_refused(texts: list[str]) -> None:
    with pytest.raises(InputError, match=rf"{len(set(texts))} different descriptions are too few.*give 20 or more"):
        calibrate("profile", texts, WordEncoder(), heldout=5)


def test_the_same_person_counts_once() -> None:
    texts = different_people("profile", 20)
    given = [*texts, texts[0].upper(), *(one.text for one in seeds("profile"))]
    assert calibrate("profile", given, WordEncoder(), heldout=5).people == 40


@pytest.mark.parametrize("kind", KINDS)
def test_calibrated_numbers_are_known_by_name_and_the_gate_is_stricter(kind: Kind) -> None:
    for name, of_kind in CALIBRATED.items():
        threshold, gate = calibrated(name, kind)
        assert of_kind[kind] == (threshold, gate)
        assert 0 < gate < threshold < 1


def test_an_encoder_that_was_never_calibrated_is_refused_with_the_command() -> None:
    with pytest.raises(InputError, match=r"'acme/encoder'.*interalign personas calibrate --encoder acme/encoder"):
        calibrated("acme/encoder", "profile")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_of_the_offline_encoder_are_what_calibration_proposes(kind: Kind, tmp_path: Path) -> None:
    sizes = SplitConfig()
    heldout = sizes.heldout_profiles if kind == "profile" else sizes.heldout_personalities
    # Originals stand beside each of their copies; remembered, they are encoded once.
    with remembered(SentenceEncoder(OFFLINE_ENCODER, device="cpu"), tmp_path / "vectors.sqlite") as encoder:
        found = calibrate(kind, different_people(kind), encoder, heldout=heldout)
    assert (found.threshold, found.gate) == calibrated(OFFLINE_ENCODER, kind)
    # A few who are different pass for copies all the same, and are lost.
    assert found.different.at_threshold < 0.1
    assert found.against_few.at_gate < 0.1
    assert found.words_caught > 0.95
