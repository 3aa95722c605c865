from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interalign.personas.description import KINDS, Description, Kind, normalised
from interalign.personas.filter import Duplicate, Screening, SemanticFilter, distinct
from interalign.personas.gender import GENDERS, gender_of, ungendered, with_gender
from interalign.personas.masking import masked, masked_key
from interalign.personas.neighbours import ApproximateIndex
from interalign.personas.seeds import seeds
from tests.personas.encoders import WordEncoder

# So few words that texts repeat each other, in other case, order and gender too.
WORDS = ("she", "he", "they", "She", "her", "his", "likes", "like", "tea", "Tea", "rain,", "rain", "cats.", "chess")
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join)
CANDIDATES = st.lists(TEXTS, max_size=14)
THRESHOLDS = st.sampled_from([0.3, 0.5, 0.65, 0.8, 0.95, 1.0])
ENCODER = WordEncoder(64)


def described(texts: Sequence[str], kind: Kind = "profile") -> list[Description]:
    return [Description(kind=kind, text=text) for text in texts]


def empty(threshold: float, encoder: WordEncoder = ENCODER) -> SemanticFilter:
    return SemanticFilter("profile", encoder, threshold)


@cache
def cosine(one: str, other: str) -> float:
    """From both masked texts anew, in double precision; rounded as the filter does it, since equal is too near."""
    first, second = (np.asarray(ENCODER.encode([masked(text)])[0], float) for text in (one, other))
    return round(float(first @ second), 6)


@cache
def offence(candidate: str, member: str, threshold: float) -> Duplicate | None:
    if normalised(candidate) == normalised(member):
        return "same text"
    if masked_key(candidate) == masked_key(member):
        return "differs in name or gender only"
    return "too similar" if cosine(candidate, member) >= threshold else None


def worst(candidate: str, pool: Sequence[str], threshold: float) -> Duplicate | None:
    found = {offence(candidate, member, threshold) for member in pool}
    ranks: tuple[Duplicate, ...] = ("same text", "differs in name or gender only", "too similar")
    return next((one for one in ranks if one in found), None)


def plainly(texts: Sequence[str], threshold: float) -> tuple[list[str], list[Duplicate | None]]:
    """The filter once more, slowly: every candidate against every member, each encoded again."""
    pool: list[str] = []
    verdicts: list[Duplicate | None] = []
    for text in texts:
        verdicts.append(worst(text, pool, threshold))
        if verdicts[-1] is None:
            pool.append(text)
    return pool, verdicts


def texts_of(pool: SemanticFilter) -> list[str]:
    return [one.text for one in pool.members]


@given(CANDIDATES, THRESHOLDS)
def test_the_outcome_is_that_of_the_plain_rule(texts: list[str], threshold: float) -> None:
    pool, verdicts = plainly(texts, threshold)
    filter_ = empty(threshold)
    screenings = filter_.screen(described(texts))
    assert texts_of(filter_) == pool
    assert len(filter_) == len(pool)
    assert [one.duplicate for one in screenings] == verdicts
    assert [one.entered for one in screenings] == [verdict is None for verdict in verdicts]


@given(CANDIDATES, THRESHOLDS, st.lists(st.integers(0, 5), min_size=14, max_size=14))
def test_batches_of_any_size_give_the_same_pool(texts: list[str], threshold: float, sizes: list[int]) -> None:
    at_once, one_by_one, in_parts = empty(threshold), empty(threshold), empty(threshold)
    candidates = described(texts)
    together = at_once.screen(candidates)
    alone = [screening for one in candidates for screening in one_by_one.screen([one])]
    parted: list[Screening] = []
    for size in (*sizes, len(candidates)):
        parted += in_parts.screen(candidates[len(parted) : len(parted) + size])
    assert at_once.members == one_by_one.members == in_parts.members
    verdicts = [(one.duplicate, one.entered) for one in together]
    assert verdicts == [(one.duplicate, one.entered) for one in alone]
    assert verdicts == [(one.duplicate, one.entered) for one in parted]


@given(st.data(), CANDIDATES, THRESHOLDS)
def test_in_any_order_no_two_members_offend_and_whoever_stayed_out_offends(
    data: st.DataObject, texts: list[str], threshold: float
) -> None:
    filter_ = empty(threshold)
    shuffled = data.draw(st.permutations(texts))
    filter_.screen(described(shuffled))
    pool = texts_of(filter_)
    for place, member in enumerate(pool):
        assert worst(member, pool[:place], threshold) is None
    for text in shuffled:
        assert text in pool or worst(text, pool, threshold) is not None


@given(CANDIDATES, CANDIDATES, THRESHOLDS)
def test_nearest_and_score_are_those_of_the_members_before(kept: list[str], texts: list[str], threshold: float) -> None:
    filter_ = empty(threshold)
    screenings = filter_.keep(described(kept), repeats=True)
    screenings += filter_.screen(described(texts))
    pool: list[str] = []
    for text, screening in zip((*kept, *texts), screenings, strict=True):
        _check_nearest(text, screening, pool)
        if screening.entered:
            pool.append(text)


def _check_nearest(text: str, screening: Screening, pool: Sequence[str]) -> None:
    if not pool:
        assert screening == Screening(duplicate=None, entered=True)
        return
    named = {one.id: one.text for one in described(pool)}[screening.nearest or ""]
    highest = max(cosine(text, member) for member in pool)
    if screening.duplicate in (None, "too similar"):
        assert screening.score == pytest.approx(highest, abs=3e-6)
    else:
        # It is named for its words; somebody else may be nearer.
        assert screening.duplicate == worst(text, [named], 1.0)
    if screening.score is not None:
        assert screening.score == pytest.approx(cosine(text, named), abs=3e-6)
        assert screening.score <= 1


@given(CANDIDATES, THRESHOLDS, st.integers(0, 6))
def test_room_ends_the_entry_and_nothing_else(texts: list[str], threshold: float, room: int) -> None:
    whole, bounded = empty(threshold), empty(threshold)
    whole.screen(described(texts))
    screenings = bounded.screen(described(texts), room=room)
    assert bounded.members == whole.members[:room]
    for text, screening in zip(texts, screenings, strict=True):
        if not screening.entered:
            outside = text not in texts_of(bounded) and worst(text, texts_of(bounded), threshold) is None
            assert outside == (screening.duplicate is None)


@given(CANDIDATES, CANDIDATES, THRESHOLDS)
def test_a_comparison_sees_the_members_only_and_changes_nothing(
    members: list[str], others: list[str], threshold: float
) -> None:
    filter_ = empty(threshold)
    filter_.screen(described(members))
    before = filter_.members
    compared = filter_.compare(described(others))
    assert filter_.members == before
    assert not any(one.entered for one in compared)
    pool = texts_of(filter_)
    assert [one.duplicate for one in compared] == [worst(text, pool, threshold) for text in others]
    # Nothing was left in the index or among the keys either.
    untouched = empty(threshold)
    untouched.screen(described(members))
    assert filter_.screen(described(others)) == untouched.screen(described(others))


@given(CANDIDATES, THRESHOLDS, st.booleans())
def test_what_was_chosen_by_hand_stays_and_is_marked(texts: list[str], threshold: float, repeats: bool) -> None:
    filter_ = empty(threshold)
    screenings = filter_.keep(described(texts), repeats=True) if repeats else filter_.keep(described(texts))
    pool: list[str] = []
    for text, screening in zip(texts, screenings, strict=True):
        assert screening.duplicate == worst(text, pool, threshold)
        assert screening.entered == (repeats or screening.duplicate in (None, "too similar"))
        if screening.entered:
            pool.append(text)
    assert texts_of(filter_) == pool


@given(st.lists(CANDIDATES, max_size=4))
def test_every_text_is_encoded_once(batches: list[list[str]]) -> None:
    encoder = WordEncoder(64)
    filter_ = empty(0.8, encoder)
    filter_.keep(described(["She likes tea.", "She likes tea and rain."]))
    for batch in batches:
        filter_.screen(described(batch))
    assert encoder.encoded == 2 + sum(map(len, batches))


def test_nothing_is_encoded_for_nothing() -> None:
    encoder = WordEncoder()
    filter_ = empty(0.8, encoder)
    assert filter_.keep([]) == filter_.screen([]) == filter_.compare([]) == []
    assert encoder.encoded == 0


@pytest.mark.parametrize("change", [str.upper, str.lower, lambda text: text.replace(".", " –"), "  {}\n".format])
def test_the_same_text_in_other_dress_is_known(change: Callable[[str], str]) -> None:
    texts = [one.text for one in seeds("profile")]
    filter_ = empty(1.0, WordEncoder())
    filter_.screen(described(texts))
    for first, screening in zip(texts, filter_.screen(described([change(text) for text in texts])), strict=True):
        assert (screening.duplicate, screening.entered) == ("same text", False)
        assert screening.nearest == described([first])[0].id
        # Without capitals no name can be told.
        assert screening.score is not None and screening.score > 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_in_another_gender_is_known_by_its_words(kind: Kind) -> None:
    filter_ = SemanticFilter(kind, WordEncoder(), 1.0)
    texts = [one.text for one in seeds(kind)]
    assert all(one.duplicate is None for one in filter_.keep(described(texts, kind)))
    flips = [(text, with_gender(text, gender)) for text in texts for gender in GENDERS if gender_of(text) != gender]
    assert len(flips) == 2 * len(texts)
    for (text, _), screening in zip(flips, filter_.screen(described([flip for _, flip in flips], kind)), strict=True):
        assert screening.duplicate == "differs in name or gender only"
        assert screening.nearest == described([text], kind)[0].id
    assert texts_of(filter_) == texts


def test_a_batch_knows_its_own_duplicates() -> None:
    filter_ = empty(0.9, WordEncoder())
    batch = ["She likes tea and rain.", "SHE LIKES TEA AND RAIN", "He likes tea and rain.", "She likes rain and tea."]
    screenings = filter_.screen(described(batch))
    assert [one.duplicate for one in screenings] == [
        None,
        "same text",
        "differs in name or gender only",
        "too similar",
    ]
    first = described(batch)[0].id
    assert [one.nearest for one in screenings] == [None, first, first, first]


def test_at_the_threshold_is_too_near() -> None:
    # Cosine 1/2: two words each, one in common.
    for threshold, verdict in ((0.5, "too similar"), (0.500002, None)):
        filter_ = empty(threshold)
        filter_.screen(described(["chess rain"]))
        (screening,) = filter_.screen(described(["rain cats"]))
        assert (screening.duplicate, screening.score) == (verdict, 0.5)


@settings(max_examples=20)
@given(CANDIDATES)
def test_an_approximate_index_can_take_the_place_of_the_exact_one(texts: list[str]) -> None:
    pytest.importorskip("usearch", reason="needs the extra 'ann'")
    exact = empty(0.8)
    approximate = SemanticFilter("profile", ENCODER, 0.8, ApproximateIndex(ENCODER.dimension))
    for batch in (texts, texts, ["Something else entirely"]):
        exact.screen(described(batch))
        approximate.screen(described(batch))
    assert approximate.members == exact.members


@given(CANDIDATES)
def test_what_is_distinct_is_what_would_be_kept(texts: list[str]) -> None:
    pool = empty(0.5)
    pool.keep(described(texts))
    assert distinct(described(texts)) == list(pool.members)


def test_both_keys_of_the_filter_tell_what_is_distinct() -> None:
    texts = ["Anna's cat is old and she feeds it.", "Anna s cat is old and she feeds it.", "He sings.", "She sings."]
    assert len({ungendered(text) for text in texts[:2]}) == 2
    assert [one.text for one in distinct(described(texts))] == [texts[0], texts[2]]
