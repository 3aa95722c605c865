from __future__ import annotations

import pytest
from pydantic import ValidationError

from interalign.personas.persona import Fact
from interalign.roles.ledger import Disclosure, Reaction, Stated, as_notes, disclosed_facts, disclosed_texts

CAT = Fact(slot="pet", term="a cat", key="cat")
TEA = Fact(slot="drink", term="tea", key="tea")


def test_facts_come_once_and_in_order() -> None:
    ledger = (Disclosure(turn=1, facts=(TEA,)), Disclosure(turn=2), Disclosure(turn=3, facts=(CAT, TEA)))
    assert disclosed_facts(ledger) == (TEA, CAT)
    assert disclosed_facts(()) == ()


def test_all_that_is_disclosed_comes_in_words_once_and_in_order() -> None:
    organs = Stated(kind="profile", text="She repairs organs.", words="w")
    ledger = (
        Disclosure(turn=1, facts=(TEA,), stated=(organs,)),
        Disclosure(turn=2, facts=(CAT, TEA), stated=(organs,)),
    )
    assert disclosed_texts(ledger) == ("drink: tea", "She repairs organs.", "pet: a cat")
    assert disclosed_texts(()) == ()


def test_praise_is_no_miss() -> None:
    miss = Reaction(dimension="emoji", got="some", wanted="none")
    praise = Reaction(dimension="length", got="brief", wanted="brief", met=True)
    assert Disclosure(turn=2, reactions=(miss, praise)).missed == (miss,)


def test_entries_are_frozen_and_come_back_from_json() -> None:
    entry = Disclosure(turn=1, facts=(CAT,), manner={"emoji": "none"}, topic="pet")
    assert Disclosure.model_validate_json(entry.model_dump_json()) == entry
    with pytest.raises(ValidationError):
        entry.turn = 2  # type: ignore[misc]


def test_notes_are_the_wishes_so_far_and_what_was_stated_last() -> None:
    assert as_notes([]) == "Notes: nothing yet."
    assert as_notes([Disclosure(turn=1, facts=(TEA,), manner={"emoji": "some"})]) == "Notes: nothing yet."
    shorter = Reaction(dimension="length", got="long", wanted="shorter")
    plain = Reaction(dimension="emoji", got="some", wanted="none")
    brief = Reaction(dimension="length", got="brief", wanted="brief", met=True)
    organs, mule = (
        Stated(kind="profile", text=text, words="w") for text in ("She repairs organs.", "She keeps a mule.")
    )
    ledger = [
        Disclosure(turn=1),
        Disclosure(turn=2, reactions=(shorter,), stated=(organs,)),
        Disclosure(turn=3, reactions=(plain, brief), stated=(mule,)),
    ]
    assert as_notes(ledger[:2]) == "Notes: length shorter; She repairs organs."
    assert as_notes(ledger) == "Notes: length brief; emoji none; She keeps a mule."
