from __future__ import annotations

import pytest
from pydantic import ValidationError

from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.persona import Persona
from interalign.personas.style import DIMENSIONS, SHOWN_IN_WRITING
from interalign.personas.vocabulary import traits
from interalign.roles.measure import mentions

CONFIG = WorldConfig(train=80, heldout=80)
WORLD = compose_personas(CONFIG, seed=3)


def of_split(split: str) -> list[Persona]:
    return [persona for persona in WORLD if persona.split == split]


def test_the_same_seed_gives_the_same_people() -> None:
    assert compose_personas(CONFIG, seed=3) == WORLD
    assert not {persona.id for persona in compose_personas(CONFIG, seed=4)} & {persona.id for persona in WORLD}


def test_the_first_personas_are_the_same_whatever_the_total() -> None:
    few = compose_personas(WorldConfig(train=7, heldout=5), seed=3)
    assert few == WORLD[:7] + WORLD[80:85]


def test_everybody_is_somebody_else() -> None:
    assert len({persona.id for persona in WORLD}) == len(WORLD) == 160
    assert [persona.split for persona in WORLD] == ["train"] * 80 + ["heldout"] * 80


def test_people_are_complete() -> None:
    for persona in WORLD:
        assert 8 <= len(persona.facts) <= 10
        assert len({fact.slot for fact in persona.facts}) == len(persona.facts)
        assert 8 <= len(persona.traits) <= 10
        assert set(persona.manner) == set(SHOWN_IN_WRITING)
        assert set(persona.preferences) == set(DIMENSIONS)
        assert all(mentions(persona.profile, fact) for fact in persona.facts)
        assert persona.voice["name"] in persona.profile and persona.voice["name"] in persona.personality


@pytest.mark.parametrize("contrary", range(len(SHOWN_IN_WRITING) + 1))
def test_manner_misleads_on_as_many_dimensions_as_asked(contrary: int) -> None:
    config = WorldConfig(train=10, heldout=2, contrary=contrary)
    for persona in compose_personas(config, seed=1):
        differing = [d for d in SHOWN_IN_WRITING if persona.manner[d] != persona.preferences[d].value]
        assert len(differing) == contrary


@pytest.mark.parametrize("salient", [0, 3, 8])
def test_as_many_dimensions_matter_twice_as_much_as_asked(salient: int) -> None:
    for persona in compose_personas(WorldConfig(train=10, heldout=2, salient=salient), seed=1):
        weights = sorted(preference.weight for preference in persona.preferences.values())
        assert weights == [1.0] * (8 - salient) + [2.0] * salient


def test_nobody_has_opposite_traits() -> None:
    opposites = {trait.name: set(trait.opposites) for trait in traits()}
    for persona in WORLD:
        own = {trait.name for trait in persona.traits}
        assert len(own) == len(persona.traits)
        assert not any(opposites[name] & own for name in own)


def test_only_people_of_mostly_difficult_traits_are_blunt() -> None:
    tones = set()
    for persona in WORLD:
        difficult = sum(trait.difficult for trait in persona.traits)
        assert (persona.voice["tone"] == "blunt") == (2 * difficult > len(persona.traits))
        tones.add(persona.voice["tone"])
    assert tones == {"blunt", "polite"}


def test_splits_share_neither_facts_nor_names() -> None:
    def keys(split: str) -> set[str]:
        return {fact.key for persona in of_split(split) for fact in persona.facts}

    def first_names(split: str) -> set[str]:
        return {persona.voice["name"] for persona in of_split(split)}

    assert keys("train") and not keys("train") & keys("heldout")
    assert first_names("train") and not first_names("train") & first_names("heldout")


def test_every_value_is_somebodys() -> None:
    every = {(dimension, value) for dimension, values in DIMENSIONS.items() for value in values}
    wanted = {(d, preference.value) for persona in WORLD for d, preference in persona.preferences.items()}
    assert wanted == every
    assert {item for persona in WORLD for item in persona.manner.items()} == {
        (dimension, value) for dimension, value in every if dimension in SHOWN_IN_WRITING
    }


@pytest.mark.parametrize("wrong", [{"train": 0}, {"heldout": 1}, {"contrary": 7}, {"salient": 9}, {"contrary": -1}])
def test_impossible_worlds_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        WorldConfig(**wrong)
