from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from interalign.personas.style import DIMENSIONS, SHOWN_IN_WRITING, Dimension
from interalign.roles.inducer import (
    DEFAULT_STYLE,
    Impression,
    RuleInducer,
    as_text,
    impression_from,
    manner_so_far,
)
from interalign.roles.ledger import Disclosure, Reaction, disclosed_facts
from tests.roles.talks import PERSONAS, talks

LOUD: dict[Dimension, str] = {"length": "long", "emoji": "some", "exclamation": "some", "warmth": "warm"}


def heard(*reactions: Reaction, manner: dict[Dimension, str] | None = None) -> tuple[Disclosure, ...]:
    return tuple(
        Disclosure(turn=turn, reactions=(reaction,), manner=manner or {}) for turn, reaction in enumerate(reactions, 1)
    )


def on(dimension: Dimension, got: str, wanted: str, *, met: bool = False) -> Reaction:
    return Reaction(dimension=dimension, got=got, wanted=wanted, met=met)


def test_nothing_said_nothing_concluded() -> None:
    assert impression_from(()) == Impression()
    assert Impression().style_or_default() == DEFAULT_STYLE
    assert as_text(Impression()).count("nothing yet") == 2


def test_manner_is_the_first_guess() -> None:
    impression = impression_from((Disclosure(turn=1, manner=LOUD),))
    assert {dimension: impression.style[dimension] for dimension in LOUD} == LOUD
    assert impression.heard == ()
    assert not {"question", "layout"} & set(impression.style)


def test_one_slip_among_many_messages_is_not_manner() -> None:
    silent: dict[Dimension, str] = {"length": "brief", "emoji": "none"}
    ledger = [Disclosure(turn=turn, manner=silent) for turn in range(1, 8)]
    ledger.append(Disclosure(turn=8, manner={**silent, "emoji": "some"}))
    assert manner_so_far(ledger)["emoji"] == "none"
    assert manner_so_far(ledger)["length"] == "brief"


def test_reactions_overrule_manner() -> None:
    impression = impression_from(heard(on("emoji", "some", "none"), on("question", "none", "some"), manner=LOUD))
    assert impression.style["emoji"] == "none"
    assert impression.style["question"] == "some"
    assert impression.style["exclamation"] == "some"
    assert set(impression.heard) == {"emoji", "question"}


def test_the_last_reaction_counts() -> None:
    ledger = heard(on("warmth", "warm", "plain"), on("warmth", "warm", "warm", met=True))
    assert impression_from(ledger).style["warmth"] == "warm"


@pytest.mark.parametrize(
    ("reactions", "expected"),
    [
        ([on("length", "long", "shorter")], {"brief", "medium"}),
        ([on("length", "brief", "longer")], {"medium", "long"}),
        ([on("length", "medium", "shorter")], {"brief"}),
        ([on("length", "long", "shorter"), on("length", "brief", "longer")], {"medium"}),
        ([on("length", "long", "shorter"), on("length", "medium", "shorter")], {"brief"}),
        ([on("length", "brief", "longer"), on("length", "long", "long", met=True)], {"long"}),
        # Far too long, although already of the longest band: contradictions leave what was possible before.
        ([on("length", "medium", "longer"), on("length", "medium", "shorter")], {"long"}),
    ],
)
@pytest.mark.parametrize("guess", DIMENSIONS["length"])
def test_remarks_on_length_narrow_it_down(reactions: Sequence[Reaction], expected: set[str], guess: str) -> None:
    concluded = impression_from(heard(*reactions, manner={"length": guess})).style["length"]
    assert concluded in expected
    if guess in expected:
        assert concluded == guess


def test_manner_is_recovered_after_enough_messages() -> None:
    right = [
        manner_so_far(talks(persona, 10, 2)[-1].ledger)[dimension] == persona.manner[dimension]
        for persona in PERSONAS
        for dimension in SHOWN_IN_WRITING
    ]
    assert sum(right) > 0.9 * len(right)


def test_reactions_of_users_are_true() -> None:
    for persona in PERSONAS[::3]:
        impression = impression_from(talks(persona, 8, 3)[-1].ledger)
        for dimension in impression.heard:
            if dimension != "length":
                assert impression.style[dimension] == persona.preferences[dimension].value


def test_the_role_reads_the_ledger_only() -> None:
    last = talks(PERSONAS[0], 4, 1)[-1]
    expected = impression_from(last.ledger)
    assert asyncio.run(RuleInducer().induce(PERSONAS[0], last.chat, last.ledger, 0)) == expected
    assert asyncio.run(RuleInducer().induce(PERSONAS[0], (), last.ledger, 9)) == expected
    assert expected.facts == disclosed_facts(last.ledger)


def test_the_impression_in_words_names_what_it_holds() -> None:
    impression = impression_from(talks(PERSONAS[0], 4, 1)[-1].ledger)
    text = as_text(impression)
    assert all(fact.term in text for fact in impression.facts)
    assert all(f"{dimension}: {value}" in text for dimension, value in impression.style.items())
