from __future__ import annotations

import pytest

from interalign.evaluation.groups import UNKNOWN, Group, clusters_of_people, groups_of, membership
from interalign.personas.persona import Persona, Trait


def person(profile: str = "He sells maps.", personality: str = "He is calm.", *traits: Trait) -> Persona:
    return Persona(profile=profile, personality=personality, traits=traits, split="heldout")


@pytest.mark.parametrize(
    ("profile", "age"),
    [
        ("Anna is a 34-year-old nurse.", "25-34"),
        ("Tom is 71 years old and fishes.", "65-79"),
        ("Her 5-year-old son plays chess.", UNKNOWN),
        ("She lives with her 70-year-old mother.", UNKNOWN),
        ("He sells maps.", UNKNOWN),
    ],
)
def test_an_age_is_read_where_it_is_the_persons_own(profile: str, age: str) -> None:
    assert groups_of(person(profile))[0] == Group(kind="age", name=age)


def test_difficulty_and_traits() -> None:
    vain, calm = Trait(name="vain", difficult=True), Trait(name="calm")
    assert [(one.kind, one.name) for one in groups_of(person("He runs.", "Vain.", vain, calm))][1:] == [
        ("difficulty", "difficult"),
        ("trait", "calm"),
        ("trait", "vain"),
    ]
    assert groups_of(person("He runs.", "Calm.", calm))[1].name == "not difficult"
    assert groups_of(person())[1].name == UNKNOWN


def test_a_group_has_at_least_five_members_and_ages_stand_in_order() -> None:
    ages = [70, 30, 70, 30, 70, 30, 70, 30, 70, 30, 20]
    people = [person(f"Ada is a {age}-year-old baker of {place} breads.") for place, age in enumerate(ages)]
    found = membership([one.id for one in people], {one.id: one for one in people})
    assert [group.name for group in found] == ["25-34", "65-79", UNKNOWN]
    assert found[Group(kind="age", name="65-79")] == [0, 2, 4, 6, 8]


def test_who_shares_a_text_belongs_together_and_the_unknown_to_nobody() -> None:
    people = [person(f"He owns {boats} boats.", f"He is {mood}.") for boats in range(3) for mood in ("calm", "loud")]
    clusters = clusters_of_people([one.id for one in people], {one.id: one for one in people})
    assert clusters.profiles is not None and list(clusters.profiles) == [0, 0, 1, 1, 2, 2]
    assert clusters.personalities is not None and list(clusters.personalities) == [0, 1, 0, 1, 0, 1]
    told = [
        person(f"They own {boats} boats.", text)
        for boats in range(3)
        for text in ("She is calm and trusts her friends.", "He is calm and trusts his friends.", "He is loud.")
    ]
    both = clusters_of_people([one.id for one in told], {one.id: one for one in told})
    assert both.personalities is not None and list(both.personalities) == [0, 0, 1] * 3
    assert clusters_of_people(["a", "b"], {}).dimensions == ()
    assert membership(["a"] * 9, {}) == {}
