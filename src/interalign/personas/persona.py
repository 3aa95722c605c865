"""A persona: a profile (facts) and a personality (traits), known by a content id.

The text fields are what language models read. `facts`, `manner`, `preferences` and `voice` are the structured form
that rule-based users have; a persona that comes from text alone leaves them empty.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from interalign.messages import Value
from interalign.personas.style import DIMENSIONS, Dimension, StyleValue

__all__ = ["Fact", "Persona", "Preference", "Split", "Trait"]

Split: TypeAlias = Literal["train", "heldout"]


class Fact(Value):
    """One fact of a profile: the slot it fills, the entry it fills it with, and the key that a reply must name.

    `key` is the lower-case word or words that stand for this fact and for nothing else ("greyhound", "sourdough").
    """

    slot: str
    term: str
    key: str


class Trait(Value):
    """One trait of a personality, by its adjective ("impatient")."""

    name: str
    difficult: bool = False


class Preference(Value):
    """How this person wants to be answered on one dimension, and how much it matters to them."""

    value: StyleValue
    weight: Annotated[float, Field(gt=0)] = 1.0


class Persona(Value):
    """One person. `id` is derived from the content and checked against it.

    Raises:
        pydantic.ValidationError: a text is empty, a style value does not exist, or the id is not the content's.
    """

    id: str = ""
    split: Split = "train"
    profile: Annotated[str, Field(min_length=1)]
    personality: Annotated[str, Field(min_length=1)]
    facts: tuple[Fact, ...] = ()
    traits: tuple[Trait, ...] = ()
    manner: dict[Dimension, StyleValue] = Field(default_factory=dict)
    preferences: dict[Dimension, Preference] = Field(default_factory=dict)
    voice: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Persona:
        for dimension, value in self.manner.items():
            _check_style_value(dimension, value)
        for dimension, preference in self.preferences.items():
            _check_style_value(dimension, preference.value)
        content_id = _content_id(self)
        if self.id and self.id != content_id:
            raise ValueError(f"id {self.id!r} does not belong to this content (expected {content_id!r})")
        object.__setattr__(self, "id", content_id)
        return self

    @property
    def is_rule_based(self) -> bool:
        """True when this persona has the structure that rule-based roles need."""
        return bool(self.facts and self.manner and self.preferences)


def _check_style_value(dimension: Dimension, value: StyleValue) -> None:
    if value not in DIMENSIONS[dimension]:
        raise ValueError(f"{dimension} cannot be {value!r}: it is one of {', '.join(DIMENSIONS[dimension])}")


def _content_id(persona: Persona) -> str:
    # The split is where a persona is used, not what it is: the same person has the same id in both.
    content = persona.model_dump(mode="json", exclude={"id", "split"})
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
