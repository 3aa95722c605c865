from __future__ import annotations

import pytest

from interalign.report.growth import counted, judged, no_room, rejections, span, story
from tests.report.made_up_pool import pool


def test_what_found_no_room_is_neither_judged_nor_rejected() -> None:
    found = {"candidates": 10, "accepted": 6, "rejections": {"target reached": 2, "too short": 2}}
    one = pool().summary.kinds[0].model_copy(update=found)
    assert (no_room(one), judged(one), rejections(one)) == (2, 8, {"too short": 2})


@pytest.mark.parametrize(("seeds", "words"), [(0, ""), (1, ": 1 seed."), (3, ": 3 seeds.")])
def test_seeds_that_the_threshold_would_keep_out_are_named(seeds: int, words: str) -> None:
    one = pool().summary.kinds[0].model_copy(update={"seeds_too_similar": seeds})
    for told in (story(one), story(one.model_copy(update={"outcomes": {}}))):
        assert ("Nearer to another seed than the threshold, but kept" in told) == bool(seeds)
        assert told.endswith(words or ".")


def test_numbers_in_words() -> None:
    assert (counted(1, "seed"), counted(1_204, "pair"), counted(2, "personality", "personalities")) == (
        "1 seed",
        "1,204 pairs",
        "2 personalities",
    )
    assert (span((3, 3)), span((3, 1_000))) == ("3", "3 to 1,000")
