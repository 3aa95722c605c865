from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from interalign.personas.persona import Fact, Persona, Preference
from tests.roles.talks import PERSONAS


def simple(**changes: Any) -> Persona:
    return Persona(**{"profile": "Ada is a baker.", "personality": "Ada is calm.", **changes})


def test_the_id_is_the_contents() -> None:
    assert simple().id == simple().id
    assert len(simple().id) == 16
    others = [
        simple(profile="Bea is a baker."),
        simple(personality="Ada is loud."),
        simple(facts=(Fact(slot="pet", term="a cat", key="cat"),)),
        simple(manner={"emoji": "some"}),
        simple(preferences={"emoji": Preference(value="some")}),
        simple(voice={"name": "Ada"}),
    ]
    assert len({simple().id, *(other.id for other in others)}) == 7


def test_the_split_is_no_part_of_the_id() -> None:
    assert simple(split="heldout").id == simple(split="train").id


def test_a_false_id_is_refused() -> None:
    with pytest.raises(ValidationError, match="does not belong to this content"):
        simple(id="0" * 16)


@pytest.mark.parametrize(
    "changes",
    [
        {"profile": ""},
        {"personality": ""},
        {"manner": {"emoji": "many"}},
        {"preferences": {"length": {"value": "endless"}}},
        {"preferences": {"length": {"value": "brief", "weight": 0}}},
        {"manner": {"colour": "red"}},
        {"split": "test"},
        {"age": 40},
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        simple(**changes)


def test_only_structure_makes_a_persona_rule_based() -> None:
    assert not simple().is_rule_based
    assert all(persona.is_rule_based for persona in PERSONAS)


def test_personas_come_back_from_json() -> None:
    for persona in PERSONAS[::7]:
        assert Persona.model_validate_json(persona.model_dump_json()) == persona
