"""The curated vocabularies that rule-based personas are made of: one TOML file per slot, traits and names.

Every fourth entry of a list is kept for held-out personas, so that a model is never tested on words that it was
trained on. The texts are neutral in style (no contractions, exclamation marks, emoji or hedges) and carry no final
punctuation; `roles/rendering.py` gives them a person's manner.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from interalign.messages import Value
from interalign.personas.persona import Fact, Split, Trait

__all__ = ["SLOTS", "Slot", "TraitEntry", "for_split", "names", "slot", "traits"]

SLOTS: tuple[str, ...] = (
    "occupation",
    "hobby",
    "pet",
    "family",
    "dish",
    "home",
    "music",
    "sport",
    "reading",
    "drink",
    "travel",
    "study",
    "collection",
    "goal",
)

_KEY = re.compile(r"\*([^*]+)\*")
_HELDOUT_EVERY = 4


class Slot(Value):
    """One kind of fact, with all that users and responders can say about it.

    `{name}`, `{their}`, `{term}` and `{noun}` (the term without its article) are filled in by the renderer.
    """

    slot: str
    label: str
    profile: tuple[str, ...]
    disclose: tuple[str, ...]
    request: tuple[str, ...]
    suggestion: tuple[str, ...]
    suggestion_plain: tuple[str, ...]
    detail: tuple[str, ...]
    follow_up: tuple[str, ...]
    elaboration: tuple[str, ...]
    keywords: tuple[str, ...]
    entries: tuple[str, ...]

    def facts(self, split: Split) -> tuple[Fact, ...]:
        """The facts that personas of this split may have; the two splits share none."""
        return tuple(self._fact(entry) for entry in for_split(self.entries, split))

    def _fact(self, entry: str) -> Fact:
        key = _KEY.search(entry)
        if key is None:
            raise ValueError(f"vocabulary {self.slot}: the entry {entry!r} marks no *key*")
        return Fact(slot=self.slot, term=entry.replace("*", ""), key=key.group(1).lower())


class TraitEntry(Value):
    """One trait with the sentences that describe it and the asides in which it shows."""

    name: str
    difficult: bool
    opposites: tuple[str, ...]
    personality: tuple[str, ...]
    asides: tuple[str, ...]

    @property
    def trait(self) -> Trait:
        """The trait as a persona carries it."""
        return Trait(name=self.name, difficult=self.difficult)


@cache
def slot(name: str) -> Slot:
    """The vocabulary of one slot."""
    return Slot.model_validate(_load(f"{name}.toml"))


@cache
def traits() -> tuple[TraitEntry, ...]:
    """All traits, in the order of the file."""
    return tuple(TraitEntry.model_validate(entry) for entry in _load("traits.toml")["trait"])


@cache
def names(gender: str) -> tuple[str, ...]:
    """First names for `female`, `male` or `neutral`."""
    return tuple(_load("people.toml")[gender]["names"])


def for_split(entries: tuple[str, ...], split: Split) -> tuple[str, ...]:
    """Every fourth entry for held-out personas, the others for training."""
    reserved = split == "heldout"
    return tuple(
        entry for index, entry in enumerate(entries) if (index % _HELDOUT_EVERY == _HELDOUT_EVERY - 1) == reserved
    )


@cache
def _load(name: str) -> dict[str, Any]:
    return tomllib.loads((files(__package__) / name).read_text(encoding="utf-8"))
