from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from interalign.personas.description import KINDS, PLURALS, Description, normalised


def test_the_id_is_the_content() -> None:
    one = Description(kind="profile", text="She is 40.")
    assert one.id == Description(kind="profile", text="She is 40.", origin="seed").id
    assert len(one.id) == 16
    assert len({one.id, Description(kind="personality", text="She is 40.").id}) == 2
    assert one.id != Description(kind="profile", text="She is 41.").id


def test_an_id_of_another_content_is_refused() -> None:
    own = Description(kind="profile", text="She is 40.")
    assert Description(id=own.id, kind="profile", text="She is 40.") == own.model_copy(update={"id": own.id})
    with pytest.raises(ValidationError, match="does not belong to this content"):
        Description(id=own.id, kind="profile", text="She is 41.")


@pytest.mark.parametrize("fields", [{"text": ""}, {"kind": "hobby"}, {"origin": "found"}, {"note": "x"}])
def test_what_is_no_description_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Description.model_validate({"kind": "profile", "text": "She is 40.", **fields})


def test_every_kind_has_its_own_plural() -> None:
    assert set(PLURALS) == set(KINDS)
    assert len(set(PLURALS.values())) == len(KINDS)


def test_a_description_cannot_be_changed() -> None:
    one = Description(kind="profile", text="She is 40.")
    with pytest.raises(ValidationError, match="frozen"):
        one.text = "He is 40."  # type: ignore[misc]


@given(st.sampled_from(KINDS), st.text(min_size=1))
def test_a_description_goes_through_json_unchanged(kind: str, text: str) -> None:
    one = Description.model_validate({"kind": kind, "text": text})
    assert Description.model_validate_json(one.model_dump_json()) == one


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("She is 40.", "  she IS: 40! "),
        ("Her café-bar", "HER CAFÉ BAR"),
        ("caf\u00e9", "cafe\u0301"),
        ("fine \ufb01sh", "fine fish"),
        ("\uff33\uff48\uff45", "she"),
        ("Straße", "STRASSE"),
        ("She’s late", "She's late"),
        ("a\tb\u00a0c\r\nd", "a b c d"),
    ],
)
def test_case_punctuation_spacing_and_width_do_not_count(one: str, other: str) -> None:
    assert normalised(one) == normalised(other) != ""


@pytest.mark.parametrize(("one", "other"), [("She is 40.", "She is 41."), ("the rapist", "therapist"), ("é", "e")])
def test_words_count(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


@given(st.text())
def test_the_normalised_form_is_its_own(text: str) -> None:
    once = normalised(text)
    assert normalised(once) == once
    assert once == " ".join(once.split())
    assert normalised(f" {text}!") == once
