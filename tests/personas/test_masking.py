from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.personas.calibrate import different_people
from interalign.personas.masking import MaskedEncoder, masked, masked_key, name_of, without_name
from interalign.personas.seeds import seeds
from interalign.personas.vocabulary import names
from tests.personas.encoders import WordEncoder

RELEASE = Path(__file__).resolve().parents[3] / "shared" / "aloe-release"
NAMES = st.sampled_from(sorted({name for gender in ("female", "male", "neutral") for name in names(gender)}))
SHAPES = (
    "{name} is a 34-year-old nurse in Lima. She sings.",
    "{name}, 34, works as a nurse in Lima, Peru. {name} sings.",
    "At 41, {name} drives a van through Rome. {name}'s sister is a judge.",
    "In a flat in Bonn, where {name} lives with two cats, nobody cooks.",
    "Meet {name}, a baker from Bonn.",
    "Ask {name} about chess. Every Friday {name} fasts. Friends call {name} early.",
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Marisol Vega is a nurse. On Sundays Marisol rests, and Paco, her brother, sings.", "Marisol Vega"),
        ("In Palermo, Italy, Lamin scrubs pots.", "Lamin"),
        ("At 41, Tom O'Neill drives a van.", "Tom O'Neill"),
        ("Jean-Luc is odd.", "Jean-Luc"),
        ("Ñusta is a weaver.", "Ñusta"),
        ("He lives in Paris. Breakfast is bread. Rome is far.", None),
        ("She cooks Thai and Italian dishes, and owns a Golden Retriever named Sol.", None),
        ("He was born in Leipzig, Germany, a city of trams.", None),
        ("The BBC is on all day. Home is a flat. Mondays are long.", None),
        ("", None),
        ("…", None),
    ],
)
def test_a_name_acts_or_is_described_and_is_no_place(text: str, name: str | None) -> None:
    assert name_of(text) == name


@given(st.sampled_from(SHAPES), NAMES, NAMES)
def test_whoever_it_is_the_words_compared_are_the_same(shape: str, one: str, other: str) -> None:
    first, second = shape.format(name=one), shape.format(name=other)
    assert name_of(first) == one
    assert masked(first) == masked(second)
    assert masked_key(first) == masked_key(second)
    assert one not in masked(first).split()


def test_the_people_of_the_package_are_found() -> None:
    world = different_people("profile", 60)
    known = {name for gender in ("female", "male", "neutral") for name in names(gender)}
    assert all(name_of(text) in known for text in world)
    told = [name_of(one.text) for one in seeds("profile")]
    assert {"Nomsa", "Ren", "Yadira", "Anas", "Lamin", "Edvaldo", "Clarisse"} < set(told)
    assert not {"Gazipur", "Suva", "Palermo", "Leipzig", "Beirut", "Hokkaido"} & set(told)
    # "Courtesy comes first with him" reads like a name, which does no harm.
    assert sum(name_of(one.text) is not None for one in seeds("personality")) <= 2


@given(st.text(max_size=300))
def test_any_text_can_be_masked(text: str) -> None:
    name = name_of(text)
    assert (without_name(text) == text) == (name is None)


def test_a_masked_encoder_encodes_what_is_said() -> None:
    encoder = MaskedEncoder(WordEncoder())
    nomsa, thabo = encoder.encode(["Nomsa is a nurse. She sings.", "Thabo is a nurse. He sings."])
    np.testing.assert_array_equal(nomsa, thabo)
    assert (encoder.name, encoder.dimension) == ("words-512", 512)


def test_nobody_is_named_in_the_published_pool() -> None:
    # It says "he" and "she" throughout, so whatever is found there is a mistake.
    if not RELEASE.exists():
        pytest.skip("the published personas have no licence and are not part of the project")
    decoder = json.JSONDecoder()
    for path in RELEASE.glob("pro*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip():
                assert name_of(decoder.raw_decode(line.strip())[0]) is None
