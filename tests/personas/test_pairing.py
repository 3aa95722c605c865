from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.errors import InputError
from interalign.personas.coverage import contradiction
from interalign.personas.description import Description, Kind
from interalign.personas.gender import gender_of, ungendered
from interalign.personas.pairing import Pairing, balanced_pairs, pair

RELEASE = Path(__file__).parents[3] / "shared" / "aloe-release"

Pairs = list[tuple[int, int]]


@st.composite
def tasks(draw: st.DrawFn, profiles: int, personalities: int) -> tuple[int, int, frozenset[tuple[int, int]], int]:
    """Sizes, the allowed pairs (at least one) and how many of them to draw."""
    height = draw(st.integers(1, profiles))
    width = draw(st.integers(1, personalities))
    every = [(i, j) for i in range(height) for j in range(width)]
    allowed = draw(st.sets(st.sampled_from(every), min_size=1))
    return height, width, frozenset(allowed), draw(st.integers(1, len(allowed)))


def uses(pairs: Pairs, profiles: int, personalities: int) -> tuple[list[int], list[int]]:
    of_profile, of_personality = Counter(i for i, _ in pairs), Counter(j for _, j in pairs)
    return [of_profile[i] for i in range(profiles)], [of_personality[j] for j in range(personalities)]


def unevenness(pairs: Pairs, profiles: int, personalities: int) -> tuple[int, int]:
    of_profile, of_personality = uses(pairs, profiles, personalities)
    return sum(n * n for n in of_personality), sum(n * n for n in of_profile)


def spread(numbers: list[int]) -> int:
    return max(numbers) - min(numbers)


@given(tasks(12, 8), st.integers(0, 3))
def test_pairs_are_distinct_allowed_and_as_many_as_asked(
    task: tuple[int, int, frozenset[tuple[int, int]], int], seed: int
) -> None:
    profiles, personalities, allowed, count = task
    pairs = balanced_pairs(profiles, personalities, count, lambda i, j: (i, j) in allowed, seed)
    assert len(pairs) == len(set(pairs)) == count
    assert set(pairs) <= allowed
    assert pairs == balanced_pairs(profiles, personalities, count, lambda i, j: (i, j) in allowed, seed)


@given(tasks(4, 3), st.integers(0, 3))
def test_no_other_choice_is_more_even(task: tuple[int, int, frozenset[tuple[int, int]], int], seed: int) -> None:
    profiles, personalities, allowed, count = task
    pairs = balanced_pairs(profiles, personalities, count, lambda i, j: (i, j) in allowed, seed)
    every_choice = [list(choice) for choice in combinations(sorted(allowed), count)]
    assert unevenness(pairs, profiles, personalities) == min(
        unevenness(choice, profiles, personalities) for choice in every_choice
    )
    level = any(max(map(spread, uses(choice, profiles, personalities))) <= 1 for choice in every_choice)
    assert (max(map(spread, uses(pairs, profiles, personalities))) <= 1) == level


@given(st.integers(1, 20), st.integers(1, 20), st.data())
def test_uses_differ_by_at_most_one_when_nothing_is_forbidden(
    profiles: int, personalities: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, profiles * personalities))
    pairs = balanced_pairs(profiles, personalities, count, lambda i, j: True, seed=1)
    of_profile, of_personality = uses(pairs, profiles, personalities)
    assert spread(of_profile) <= 1 and spread(of_personality) <= 1


def test_each_pair_is_asked_for_at_most_once() -> None:
    asked: Counter[tuple[int, int]] = Counter()

    def allowed(profile: int, personality: int) -> bool:
        asked[profile, personality] += 1
        return (profile + personality) % 3 > 0

    balanced_pairs(20, 9, 100, allowed, seed=0)
    assert max(asked.values()) == 1


def test_another_seed_draws_other_pairs_in_another_order() -> None:
    one, other = (balanced_pairs(30, 20, 60, lambda i, j: True, seed) for seed in (1, 2))
    assert set(one) != set(other)
    every = [(i, j) for i in range(6) for j in range(5)]
    orders = [balanced_pairs(6, 5, 30, lambda i, j: True, seed) for seed in (1, 2)]
    assert sorted(orders[0]) == sorted(orders[1]) == every
    assert orders[0] != orders[1] and every not in orders


def test_every_pair_is_drawn_about_as_often_as_every_other() -> None:
    # Seven pairs: one profile is used twice and one personality less often than the others, and any may be it.
    drawn = Counter(found for seed in range(600) for found in balanced_pairs(6, 4, 7, lambda i, j: True, seed))
    # 175 expected of each of the 24, standard deviation 11.
    assert len(drawn) == 24
    assert min(drawn.values()) > 130 and max(drawn.values()) < 220


@pytest.mark.parametrize("seed", range(12))
def test_the_odd_use_goes_to_the_personality_with_which_the_profiles_are_even(seed: int) -> None:
    # Three personalities share two uses. The first two go with the first profile only, which would then be used twice.
    allowed = {(0, 0), (0, 1), (1, 2)}
    pairs = balanced_pairs(2, 3, 2, lambda i, j: (i, j) in allowed, seed)
    assert uses(pairs, 2, 3)[0] == [1, 1]


def test_the_size_of_the_published_pool() -> None:
    pairs = balanced_pairs(331, 71, 3310, lambda i, j: (i * 71 + j) % 20 != 7, seed=0)
    of_profile, of_personality = uses(pairs, 331, 71)
    assert len(set(pairs)) == 3310
    assert (min(of_profile), max(of_profile)) == (10, 10)
    assert (min(of_personality), max(of_personality)) == (46, 47)


def test_a_profile_that_little_fits_is_not_left_out() -> None:
    # The first profile goes with one personality only, which everybody else could have too.
    pairs = balanced_pairs(40, 4, 40, lambda i, j: i > 0 or j == 3, seed=5)
    of_profile, of_personality = uses(pairs, 40, 4)
    assert of_profile == [1] * 40
    assert of_personality == [10] * 4


def test_too_many_pairs_say_how_many_there_are() -> None:
    with pytest.raises(InputError, match=r"13 personas .* only 12 pairs .* ask for at most 12, or add descriptions"):
        balanced_pairs(5, 3, 13, lambda i, j: i != j, seed=0)
    assert len(balanced_pairs(5, 3, 12, lambda i, j: i != j, seed=0)) == 12


@pytest.mark.parametrize(("profiles", "personalities"), [(0, 3), (3, 0), (3, 3)])
def test_no_pair_at_all(profiles: int, personalities: int) -> None:
    with pytest.raises(InputError, match=r"only 0 pairs .* add descriptions") as error:
        balanced_pairs(profiles, personalities, 1, lambda i, j: False, seed=0)
    assert "at most 0" not in str(error.value)


@pytest.mark.parametrize("count", [0, -2])
def test_less_than_one_pair(count: int) -> None:
    with pytest.raises(InputError, match="at least 1"):
        balanced_pairs(3, 3, count, lambda i, j: True, seed=0)


SHE = "She is 41 and runs a bakery in Porto with her sister. She has two cats."
HE = "He is 67, a retired tram driver from Leeds. He grows dahlias with his neighbour."
THEY = "They are 29 and study law in Accra. They walk to the library every day."
NOBODY = "Born in 1980 in Lima. Night watch at the port, two grown sons, a moped."


def described(kind: Kind, *texts: str) -> list[Description]:
    return [Description(kind=kind, text=text) for text in texts]


def paired(profiles: list[str], personalities: list[str], count: int, seed: int = 0) -> Pairing:
    return pair(described("profile", *profiles), described("personality", *personalities), count, seed)


def test_a_personality_is_told_in_the_gender_of_its_profile() -> None:
    blunt = "She says what she thinks and forgets nothing that is done to her. Her jokes are dry."
    told = {p.profile: p.personality for p in paired([SHE, HE, THEY, NOBODY], [blunt], 4).personas}
    assert told == {
        SHE: blunt,
        HE: "He says what he thinks and forgets nothing that is done to him. His jokes are dry.",
        THEY: "They say what they think and forget nothing that is done to them. Their jokes are dry.",
        NOBODY: blunt,
    }


def test_descriptions_that_differ_in_gender_alone_are_one() -> None:
    hers, his, other = described(
        "personality",
        "She laughs easily and forgives her friends.",
        "he laughs easily, and forgives his friends",
        "He keeps count of every favour.",
    )
    profiles = described("profile", SHE, HE, SHE.replace("She", "He").replace("her", "his"))
    found = pair(profiles, [hers, his, other], 4, seed=0)
    assert found.merged == ((hers.id, his.id),)
    assert found.merged_profiles == ((profiles[0].id, profiles[2].id),)
    assert {p.profile for p in found.personas} == {SHE, HE}
    assert found.per_personality == found.per_profile == (2, 2)
    with pytest.raises(InputError, match="only 4 pairs"):
        pair(profiles, [hers, his, other], 5, seed=0)


def test_a_profile_meets_no_personality_that_contradicts_it() -> None:
    shy, outgoing = "She is shy and keeps to herself.", "She is outgoing and talks to everybody."
    lonely = f"{SHE} She is introverted and avoids company."
    assert contradiction(lonely, outgoing) is not None and contradiction(lonely, shy) is None
    found = paired([lonely, HE], [shy, outgoing], 3)
    assert found.contradictions == 1
    assert (lonely, outgoing) not in {(p.profile, p.personality) for p in found.personas}
    assert found.per_profile == (1, 2)
    with pytest.raises(InputError, match="only 3 pairs"):
        paired([lonely, HE], [shy, outgoing], 4)


def test_texts_without_words_are_not_one() -> None:
    assert len(paired([SHE], ["🙂", "🙁"], 2).personas) == 2


def test_the_split_decides_the_draw_and_stands_in_the_personas() -> None:
    profiles = described("profile", *(f"She is {age} and lives in Oslo." for age in range(20, 50)))
    personalities = described("personality", *(f"She tells the same {n} stories." for n in range(2, 12)))
    train = pair(profiles, personalities, 60, seed=4)
    heldout = pair(profiles, personalities, 60, seed=4, split="heldout")
    assert {p.split for p in train.personas} == {"train"}
    assert {p.split for p in heldout.personas} == {"heldout"}
    assert train == pair(profiles, personalities, 60, seed=4)
    assert {p.id for p in train.personas} != {p.id for p in heldout.personas}
    assert train.per_profile == (2, 2) and train.per_personality == (6, 6)


def test_kinds_in_the_wrong_order() -> None:
    profiles, personalities = described("profile", SHE), described("personality", "She hums.")
    with pytest.raises(InputError, match="profiles first, then personalities"):
        pair(personalities, profiles, 1, seed=0)


def released(kind: Kind) -> list[Description]:
    path = RELEASE / f"{kind}.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not here: the published pool has no licence and is no part of this project")
    decoder, found = json.JSONDecoder(), []
    for line in path.read_text(encoding="utf-8").splitlines():
        rest = line.strip()
        while rest:
            text, end = decoder.raw_decode(rest)
            found.append(Description(kind=kind, text=text))
            rest = rest[end:].strip()
    return found


def test_the_published_pool_gives_as_many_different_personas_as_pairs() -> None:
    # The release drew ten personalities for each profile with replacement; about 3,108 of its 3,310 pairs differ.
    profiles, personalities = released("profile"), released("personality")
    assert (len(profiles), len(personalities)) == (331, 71)
    found = pair(profiles, personalities, 3310, seed=0)
    assert len({(p.profile, p.personality) for p in found.personas}) == len({p.id for p in found.personas}) == 3310
    assert len({(p.profile, ungendered(p.personality)) for p in found.personas}) == 3310
    assert spread(list(found.per_profile)) <= 1 and spread(list(found.per_personality)) <= 1
    for persona in found.personas:
        assert contradiction(persona.profile, persona.personality) is None
        genders = gender_of(persona.profile), gender_of(persona.personality)
        assert genders[0] is None or genders[1] in (None, genders[0])
