from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from interalign.errors import InputError
from interalign.llm.encoder import Encoder, SentenceEncoder, remembered
from interalign.llm.offline import OFFLINE_ENCODER
from interalign.personas.calibrate import calibrated
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.description import KINDS, Description, Kind, normalised
from interalign.personas.gender import GENDERS, Gender, with_gender
from interalign.personas.masking import MaskedEncoder, masked, masked_key
from interalign.personas.persona import Persona
from interalign.personas.seeds import seeds
from interalign.personas.split import NearPair, SplitConfig, audit, halves, hold_out
from tests.personas.encoders import WordEncoder

WORDS = ("she", "he", "She", "her", "his", "likes", "tea", "Tea", "rain,", "rain", "cats.", "chess", "snow", "owls")
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join), min_size=2, max_size=14)
GATES = st.sampled_from([0.3, 0.5, 0.65, 0.8, 0.95])
ENCODER = WordEncoder(64)
CALIBRATED_GATES: dict[Kind, float] = {kind: calibrated(OFFLINE_ENCODER, kind)[1] for kind in KINDS}
EVERY_GATE: dict[Kind, float] = {"profile": 0.8, "personality": 0.8}


def described(texts: Sequence[str], kind: Kind = "profile") -> list[Description]:
    return [Description(kind=kind, text=text) for text in texts]


def of_seeds(kind: Kind) -> list[Description]:
    return described([one.text for one in seeds(kind)], kind)


@cache
def cosine(one: str, other: str) -> float:
    first, second = (np.asarray(ENCODER.encode([masked(text)])[0], float) for text in (one, other))
    return round(float(first @ second), 6)


@cache
def leaks(one: str, other: str, gate: float) -> bool:
    same = normalised(one) == normalised(other) or masked_key(one) == masked_key(other)
    return same or cosine(one, other) >= gate


@given(TEXTS, GATES, st.data())
def test_the_gate_lets_nobody_through_and_refuses_nobody_else(
    texts: list[str], gate: float, data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, len(texts) - 1))
    pool = described(texts)
    try:
        parted = hold_out(pool, count, ENCODER, gate, seed=3)
    except InputError:
        assume(False)
    assert len(parted.heldout) == count
    clean: list[Description] = []
    refused: list[Description] = []
    rest = list(pool)
    for one in parted.heldout:
        rest.remove(one)
    for one in rest:
        leaking = any(leaks(one.text, other.text, gate) for other in parted.heldout)
        (refused if leaking else clean).append(one)
    assert list(parted.train) == clean
    assert sorted(pair.ours for pair in parted.refused) == sorted(one.text for one in refused)


@given(TEXTS, GATES)
def test_whoever_is_refused_is_told_with_whom_and_why(texts: list[str], gate: float) -> None:
    pool = described([*texts, "nothing that the others say"])
    try:
        parted = hold_out(pool, len(texts) // 2, ENCODER, gate, seed=3)
    except InputError:
        assume(False)
    heldout = {one.text for one in parted.heldout}
    for pair in parted.refused:
        assert pair.theirs in heldout
        if pair.why == "same text":
            assert normalised(pair.ours) == normalised(pair.theirs)
        elif pair.why == "differs in name or gender only":
            assert masked_key(pair.ours) == masked_key(pair.theirs)
        else:
            assert pair.why == "too similar"
            assert pair.score is not None and pair.score >= gate
        assert pair.score is None or pair.score == pytest.approx(cosine(pair.ours, pair.theirs), abs=3e-6)


@given(TEXTS, GATES)
def test_the_nearest_that_are_left_are_told_nearest_first(texts: list[str], gate: float) -> None:
    pool = described([*texts, "nothing that the others say"])
    try:
        parted = hold_out(pool, len(texts) // 2, ENCODER, gate, seed=3)
    except InputError:
        assume(False)
    left = sorted((max(cosine(one.text, other.text) for other in parted.heldout) for one in parted.train), reverse=True)
    told = [pair.score for pair in parted.nearest]
    assert told == pytest.approx(left[:5], abs=3e-6)
    trained = {one.text for one in parted.train}
    assert all(pair.ours in trained and pair.why is None for pair in parted.nearest)


def test_held_out_is_drawn_by_seed_before_anything_is_compared() -> None:
    pool = of_seeds("profile")
    loose, strict = (hold_out(pool, 6, ENCODER, gate, seed=1) for gate in (1.0, 0.8))
    assert loose.heldout == strict.heldout == hold_out(pool, 6, WordEncoder(512), 0.9, seed=1).heldout
    assert len(strict.train) < len(loose.train) == 14
    assert {hold_out(pool, 6, ENCODER, 1.0, seed=seed).heldout[0].id for seed in range(12)} > {loose.heldout[0].id}
    # Both sides keep the order of the pool.
    for side in (loose.heldout, loose.train):
        assert [pool.index(one) for one in side] == sorted(pool.index(one) for one in side)


def test_the_two_kinds_are_drawn_apart() -> None:
    places = {
        kind: [of_seeds(kind).index(one) for one in hold_out(of_seeds(kind), 6, ENCODER, 1.0, seed=1).heldout]
        for kind in KINDS
    }
    assert places["profile"] != places["personality"]


def test_everybody_is_drawn_about_as_often_as_everybody_else() -> None:
    pool = described([f"word{number}" for number in range(8)])
    drawn = [one.text for seed in range(400) for one in hold_out(pool, 2, WordEncoder(4096), 1.0, seed).heldout]
    # 100 expected of each, standard deviation 9.
    assert all(60 < drawn.count(one.text) < 140 for one in pool)


def test_nobody_held_out_refuses_nobody() -> None:
    pool = of_seeds("profile")
    parted = hold_out(pool, 0, ENCODER, 0.01, seed=1)
    assert (parted.heldout, parted.refused, parted.nearest) == ((), (), ())
    assert list(parted.train) == pool


@pytest.mark.parametrize("count", [20, 21])
def test_more_than_there_are_cannot_be_held_out(count: int) -> None:
    with pytest.raises(InputError, match=f"{count} of 20 descriptions cannot be held out.*grow a larger pool"):
        hold_out(of_seeds("profile"), count, ENCODER, 0.8, seed=1)


def test_a_gate_that_leaves_nobody_to_train_on_is_told() -> None:
    with pytest.raises(InputError, match=r"Every personality is as near as 0\.01.*raise the gate"):
        hold_out(of_seeds("personality"), 5, ENCODER, 0.01, seed=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_held_out_person_in_another_gender_is_refused_whatever_the_cosine(kind: Kind) -> None:
    pool = of_seeds(kind)
    others: tuple[Gender, ...] = ("female", "male", "neutral")
    flips = {with_gender(one.text, gender): one for one in pool for gender in others}
    copies = [Description(kind=kind, text=text) for text, one in flips.items() if text != one.text]
    assert len(copies) == 40
    parted = hold_out([*pool, *copies], 20, WordEncoder(4096), 1.0, seed=5)
    people = [{flips.get(one.text, one).id for one in side} for side in (parted.heldout, parted.train)]
    assert not people[0] & people[1]
    assert {pair.why for pair in parted.refused} == {"differs in name or gender only"}
    assert len(parted.heldout) + len(parted.train) + len(parted.refused) == 60


def test_neither_name_nor_gender_brings_two_descriptions_nearer_or_farther() -> None:
    he = "He says he knows when he can and when he cannot."
    third = "He hopes he sings when he must and when he need not."
    scores = set()
    for gender in GENDERS:
        (found,) = audit(described([third]), described([with_gender(he, gender)]), ENCODER, EVERY_GATE).kinds
        scores.add(found.nearest[0].score)
    assert len(scores) == 1
    (within,) = audit(described([with_gender(he, "female"), he, third]), None, ENCODER, EVERY_GATE).kinds
    assert within.name_or_gender_only == 1


def test_who_is_the_same_by_words_comes_before_who_is_nearer() -> None:
    he = "He says he knows when he can and when he cannot."
    nearer, same = "He says he knows when he can and when he must.", with_gender(he, "female")
    (found,) = audit(described([nearer, same]), described([he]), ENCODER, EVERY_GATE).kinds
    assert [(pair.ours, pair.why) for pair in found.nearest] == [
        (same, "differs in name or gender only"),
        (nearer, "too similar"),
    ]
    assert cosine(nearer, he) > 0.9


@pytest.fixture(scope="module")
def minilm() -> Iterator[Encoder]:
    with remembered(SentenceEncoder(OFFLINE_ENCODER, device="cpu"), Path(":memory:")) as encoder:
        yield encoder


# A paraphrase that the offline encoder is sure of; hand-written ones lie between 0.6 and 0.95.
PARAPHRASED: dict[Kind, int] = {"profile": 0, "personality": 3}


def planted(kind: Kind) -> tuple[list[str], list[str], dict[str, NearPair]]:
    """Files with three leaks, and the pairs that they make."""
    paraphrased = seeds(kind)[PARAPHRASED[kind]]
    flipped, shouted, *others = [one.text for one in seeds(kind) if one != paraphrased]
    gender: Gender = "female" if flipped != with_gender(flipped, "female") else "male"
    theirs = [paraphrased.text, flipped, shouted, *others[:3]]
    copies = {
        "too similar": (paraphrased.paraphrase, paraphrased.text),
        "differs in name or gender only": (with_gender(flipped, gender), flipped),
        "same text": (shouted.upper(), shouted),
    }
    pairs = {
        why: NearPair(id=Description(kind=kind, text=ours).id, score=None, ours=ours, theirs=their, why=why)
        for why, (ours, their) in copies.items()
    }
    ours = [*others[3:6], *(one.ours for one in pairs.values()), *others[6:9]]
    return ours, theirs, pairs


def without_score(pairs: Sequence[NearPair]) -> list[NearPair]:
    return [pair.model_copy(update={"score": None}) for pair in pairs]


@pytest.mark.parametrize("kind", KINDS)
def test_planted_leaks_are_found_across_files(kind: Kind, minilm: Encoder) -> None:
    ours, theirs, pairs = planted(kind)
    found = audit(described(ours, kind), described(theirs, kind), minilm, CALIBRATED_GATES)
    (one,) = found.kinds
    assert (found.encoder, found.against, found.leaks) == (minilm.name, True, 3)
    assert (one.kind, one.gate, one.ours, one.theirs, one.leaks) == (kind, CALIBRATED_GATES[kind], 9, 6, 3)
    assert (one.same_text, one.name_or_gender_only, one.too_similar) == (1, 1, 1)
    # What is the same by its words comes first, then by cosine.
    assert {pair.why for pair in one.nearest[:2]} == {"same text", "differs in name or gender only"}
    assert sorted(map(repr, without_score(one.nearest[:3]))) == sorted(map(repr, pairs.values()))
    scores = [pair.score for pair in one.nearest[2:]]
    assert scores == sorted(scores, key=lambda score: -(score or 0))
    assert [pair.why for pair in one.nearest[3:]] == [None, None]


@pytest.mark.parametrize("kind", KINDS)
def test_planted_leaks_are_found_within_files(kind: Kind, minilm: Encoder) -> None:
    ours, theirs, pairs = planted(kind)
    found = audit(described([*theirs, *ours], kind), None, minilm, CALIBRATED_GATES)
    (one,) = found.kinds
    assert (found.against, one.ours, one.theirs, found.leaks) == (False, 15, None, 3)
    assert (one.same_text, one.name_or_gender_only, one.too_similar) == (1, 1, 1)
    assert sorted(map(repr, without_score(one.nearest[:3]))) == sorted(map(repr, pairs.values()))


def test_files_without_leaks_have_none(minilm: Encoder) -> None:
    pool = [one for kind in KINDS for one in of_seeds(kind)[:10]]
    found = audit(pool, None, minilm, CALIBRATED_GATES)
    assert [(one.kind, one.ours, one.leaks) for one in found.kinds] == [("profile", 10, 0), ("personality", 10, 0)]
    assert all(len(one.nearest) == 5 for one in found.kinds)


def test_a_kind_that_only_one_side_has_is_left_out() -> None:
    both = [*of_seeds("profile"), *of_seeds("personality")]
    found = audit(both, of_seeds("personality"), ENCODER, EVERY_GATE)
    assert [(one.kind, one.same_text) for one in found.kinds] == [("personality", 20)]


@pytest.mark.parametrize("ours", [[], of_seeds("profile")])
def test_sides_without_a_kind_in_common_cannot_be_compared(ours: list[Description]) -> None:
    with pytest.raises(InputError, match="no kind of description in common"):
        audit(ours, of_seeds("personality"), ENCODER, EVERY_GATE)


def test_nothing_to_audit_is_an_error_too() -> None:
    with pytest.raises(InputError):
        audit([], None, ENCODER, EVERY_GATE)


def test_the_halves_of_personas_come_once_each() -> None:
    one, other = compose_personas(WorldConfig(train=2, heldout=2), seed=1)[:2]
    crossed = Persona(profile=one.profile, personality=other.personality)
    found = halves([one, crossed, other, one])
    assert [(half.kind, half.text) for half in found] == [
        ("profile", one.profile),
        ("personality", one.personality),
        ("personality", other.personality),
        ("profile", other.profile),
    ]
    assert halves([]) == []


def test_the_same_words_as_profile_and_as_personality_are_two_halves() -> None:
    assert [one.kind for one in halves([Persona(profile="Quiet.", personality="Quiet.")])] == list(KINDS)


def test_the_defaults_are_the_sizes_of_the_paper() -> None:
    config = SplitConfig()
    assert (config.heldout_profiles, config.heldout_personalities) == (20, 8)
    for wrong in ({"heldout_profiles": -1}, {"heldout": 1}, {"gate_profiles": 0}, {"gate_profiles": 1.01}):
        with pytest.raises(ValueError, match="validation error"):
            SplitConfig.model_validate(wrong)


@pytest.mark.parametrize(("profiles", "personalities"), [(0, 8), (20, 0)])
def test_half_a_person_cannot_be_held_out(profiles: int, personalities: int) -> None:
    with pytest.raises(ValueError, match="both 0, or neither"):
        SplitConfig(heldout_profiles=profiles, heldout_personalities=personalities)
    assert SplitConfig(heldout_profiles=0, heldout_personalities=0).heldout_profiles == 0


def test_the_gate_holds_for_personalities_in_every_gender_that_they_may_be_told_in(minilm: Encoder) -> None:
    texts = [one.text for one in seeds("personality")]
    told = [with_gender(text, "male") for text in texts[:10]] + [with_gender(text, "female") for text in texts[10:]]
    pool = [Description(kind="personality", text=text) for text in told]
    for gate in (0.68, 0.72, 0.76):
        parted = hold_out(pool, 4, minilm, gate, 3)
        for gender in ("female", "male", "neutral"):
            train, heldout = (
                MaskedEncoder(minilm).encode([with_gender(one.text, gender) for one in side])
                for side in (parted.train, parted.heldout)
            )
            assert (train @ heldout.T).max() < gate
        assert {one.id for one in parted.train} | {pair.id for pair in parted.refused} | {
            one.id for one in parted.heldout
        } == {one.id for one in pool}
