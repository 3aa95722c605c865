from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest

from interalign.personas.persona import Fact
from interalign.personas.vocabulary import SLOTS, Slot, for_split, names, slot, traits
from interalign.roles.measure import mentions
from interalign.roles.phrases import responder_phrases, user_phrases

PLACES = {
    "profile": {"name", "their", "term"},
    "disclose": {"term"},
    "request": set(),
    "suggestion": {"noun"},
    "suggestion_plain": set(),
    "detail": set(),
    "follow_up": set(),
    "elaboration": set(),
}
GENDERS = ("female", "male", "neutral")


def templates(of: Slot) -> list[str]:
    return [text for field in PLACES for text in getattr(of, field)]


def facts_of(name: str) -> list[Fact]:
    return [*slot(name).facts("train"), *slot(name).facts("heldout")]


def said(phrases: Any) -> Iterable[str]:
    if isinstance(phrases, str):
        yield phrases
    else:
        for part in phrases.values() if isinstance(phrases, dict) else phrases:
            yield from said(part)


def around_facts() -> list[str]:
    """All that users and responders say, and all that describes a persona, apart from the facts themselves."""
    rendering = {"casual", "contractions", "emoji"}
    of_slots = [text for name in SLOTS for text in templates(slot(name))]
    of_traits = [text for trait in traits() for text in (*trait.personality, *trait.asides)]
    spoken = [
        text
        for phrases in (user_phrases(), responder_phrases())
        for text in said(phrases.model_dump(exclude=rendering))
    ]
    return of_slots + of_traits + spoken


EVERY_FACT = [fact for name in SLOTS for fact in facts_of(name)]


def test_fourteen_slots_of_at_least_forty_entries() -> None:
    assert len(SLOTS) == len(set(SLOTS)) == 14
    assert {name: len(slot(name).entries) for name in SLOTS} == dict.fromkeys(SLOTS, 44)
    assert all(slot(name).slot == name for name in SLOTS)


@pytest.mark.parametrize("name", SLOTS)
def test_splits_share_no_fact(name: str) -> None:
    train, heldout = slot(name).facts("train"), slot(name).facts("heldout")
    assert not {fact.key for fact in train} & {fact.key for fact in heldout}
    assert not {fact.term for fact in train} & {fact.term for fact in heldout}
    assert len(train) + len(heldout) == len(slot(name).entries)
    assert len(heldout) == len(slot(name).entries) // 4


def test_every_fourth_is_held_out() -> None:
    entries = tuple("abcdefgh")
    assert for_split(entries, "heldout") == ("d", "h")
    assert for_split(entries, "train") == ("a", "b", "c", "e", "f", "g")


def test_an_entry_without_a_key_is_refused() -> None:
    broken = slot("dish").model_copy(update={"entries": ("plain bread",)})
    with pytest.raises(ValueError, match=r"dish.*plain bread.*\*key\*"):
        broken.facts("train")


def test_keys_stand_for_one_fact_only() -> None:
    keys = [fact.key for fact in EVERY_FACT]
    assert len(set(keys)) == len(keys)
    for fact in EVERY_FACT:
        assert fact.key and fact.key == fact.key.lower()
        assert [other.key for other in EVERY_FACT if mentions(fact.term, other)] == [fact.key]


def test_no_key_occurs_in_what_stands_around_facts() -> None:
    everything = "\n".join(around_facts())
    assert [fact.key for fact in EVERY_FACT if mentions(everything, fact)] == []


@pytest.mark.parametrize("name", SLOTS)
def test_templates_render_with_every_entry(name: str) -> None:
    for field, places in PLACES.items():
        for text in getattr(slot(name), field):
            used = set(re.findall(r"{(\w*)}", text))
            assert used <= places
            # A disclosure that does not name the fact would put a falsehood into the ledger.
            assert used or not places
            for fact in facts_of(name):
                values = {"name": "Ada", "their": "her", "term": fact.term, "noun": fact.term}
                rendered = text.format(**values)
                assert "{" not in rendered and "}" not in rendered
                assert mentions(rendered, fact) == bool({"term", "noun"} & used)


@pytest.mark.parametrize("name", SLOTS)
def test_a_slot_has_enough_to_say(name: str) -> None:
    for field in PLACES:
        texts = getattr(slot(name), field)
        assert len(texts) >= 5
        assert len(set(texts)) == len(texts)
    assert len(set(slot(name).keywords)) == len(slot(name).keywords) >= 10


def test_texts_are_neutral() -> None:
    terms = [fact.term for fact in EVERY_FACT]
    assert [text for text in around_facts() + terms if re.search(r"[!'’]", text)] == []


def test_opposite_traits_exist_and_know_each_other() -> None:
    by_name = {trait.name: trait for trait in traits()}
    assert len(by_name) == len(traits())
    for trait in traits():
        assert trait.name not in trait.opposites
        for opposite in trait.opposites:
            assert trait.name in by_name[opposite].opposites


def test_traits_can_be_difficult_and_have_words() -> None:
    difficult = sum(trait.difficult for trait in traits())
    assert 20 <= difficult <= len(traits()) - 20
    for trait in traits():
        assert trait.personality and trait.asides
        for text in trait.personality:
            assert set(re.findall(r"{(\w*)}", text)) <= {"name", "their"}
        assert not any("{" in text for text in trait.asides)


def test_names_are_nobody_elses() -> None:
    everybody = [name for gender in GENDERS for name in names(gender)]
    assert len(set(everybody)) == len(everybody)
    assert all(name.isalpha() and name[0].isupper() for name in everybody)
