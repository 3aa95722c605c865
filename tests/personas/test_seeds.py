from __future__ import annotations

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from pydantic import ValidationError

from interalign.personas.description import KINDS, Description, Kind, normalised
from interalign.personas.seeds import Seed, seeds

# Written out, not read from the coverage plan: two lists that are kept apart notice each other's mistakes.
BIG_FIVE = ("openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism")
LEVELS: dict[Kind, dict[str, tuple[str, ...]]] = {
    "profile": {
        "age": ("18-24", "25-34", "35-49", "50-64", "65-79", "80 and over"),
        "region": (
            "Africa",
            "East Asia",
            "South Asia",
            "Southeast Asia and Oceania",
            "Middle East",
            "Europe",
            "Latin America",
            "North America",
        ),
        "occupation": (
            "care and health",
            "education",
            "trades and factory",
            "office and finance",
            "technology and science",
            "arts and media",
            "shop and hospitality",
            "farm and outdoors",
            "public service",
            "not in paid work",
        ),
        "household": (
            "alone",
            "with a partner",
            "with children",
            "single parent",
            "with parents or relatives",
            "shared home",
        ),
        "education": (
            "left school early",
            "school certificate",
            "vocational training",
            "bachelor's degree",
            "postgraduate degree",
        ),
    },
    "personality": {
        **{trait: ("low", "high") for trait in BIG_FIVE},
        "style": ("terse", "talkative", "formal", "joking", "blunt", "tentative"),
        "difficulty": ("easy", "demanding", "difficult"),
    },
}
EVERY_SEED = [pytest.param(kind, seed, id=f"{kind}-{n}") for kind in KINDS for n, seed in enumerate(seeds(kind))]
RELEASE = Path(__file__).parents[3] / "shared" / "aloe-release"
JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
CAPITAL = re.compile(r"[A-Z]\w*")
BEGINS = re.compile(r'(^|[.?!:]"? |")$')
PRONOUNS = {"she": "she", "her": "she", "hers": "she", "herself": "she"}
PRONOUNS |= {"he": "he", "him": "he", "his": "he", "himself": "he"}
PRONOUNS |= {"they": "they", "them": "they", "their": "they", "themselves": "they"}


def word_sequences(text: str, length: int) -> set[tuple[str, ...]]:
    words = normalised(text).split()
    return {tuple(words[start : start + length]) for start in range(len(words) - length + 1)}


def kept(seed: Seed, other: str) -> float:
    """The share of the word 4-grams of the text that stand in the other text too."""
    of_text = word_sequences(seed.text, 4)
    return len(of_text & word_sequences(other, 4)) / len(of_text)


def tellings(seed: Seed) -> tuple[str, str, str]:
    return seed.text, seed.paraphrase, seed.altered


def pronoun(text: str) -> str:
    """The pronoun family that the text uses most."""
    return Counter(PRONOUNS[word] for word in normalised(text).split() if word in PRONOUNS).most_common(1)[0][0]


@pytest.mark.parametrize("kind", KINDS)
def test_twenty_seeds_that_make_distinct_descriptions(kind: Kind) -> None:
    described = {Description(kind=kind, text=seed.text, origin="seed").id for seed in seeds(kind)}
    assert len(seeds(kind)) == len(described) == 20


def test_an_entry_with_an_unknown_field_is_refused() -> None:
    entry = seeds("profile")[0].model_dump()
    assert Seed.model_validate(entry) == seeds("profile")[0]
    with pytest.raises(ValidationError, match="notes"):
        Seed.model_validate({**entry, "notes": "a slip of the pen"})


@pytest.mark.parametrize(("kind", "seed"), EVERY_SEED)
def test_texts_have_the_promised_length_and_are_one_clean_line(kind: Kind, seed: Seed) -> None:
    for text in tellings(seed):
        assert 280 <= len(text) <= 600
        assert text == " ".join(text.split())
        assert text.endswith(".")


@pytest.mark.parametrize(("kind", "seed"), EVERY_SEED)
def test_shows_names_known_levels_only(kind: Kind, seed: Seed) -> None:
    assert len(seed.shows) >= 3
    for dimension, level in seed.shows.items():
        assert level in LEVELS[kind][dimension]


@pytest.mark.parametrize("kind", KINDS)
def test_every_level_occurs_as_often_as_promised(kind: Kind) -> None:
    shown = Counter(pair for seed in seeds(kind) for pair in seed.shows.items())
    for dimension, levels in LEVELS[kind].items():
        at_least = {"style": 2, "difficulty": 2}.get(dimension, 3) if kind == "personality" else 1
        assert {level for level in levels if shown[dimension, level] < at_least} == set(), dimension


@pytest.mark.parametrize("dimension", LEVELS["profile"])
def test_profiles_spread_evenly_over_the_levels(dimension: str) -> None:
    shown = Counter(seed.shows[dimension] for seed in seeds("profile") if dimension in seed.shows)
    assert max(shown.values()) - min(shown.values()) <= 1


def test_at_least_nine_personalities_are_difficult() -> None:
    assert sum(seed.shows["difficulty"] == "difficult" for seed in seeds("personality")) >= 9


@pytest.mark.parametrize("kind", KINDS)
def test_pronouns_are_spread_over_the_seeds(kind: Kind) -> None:
    assert Counter(pronoun(seed.text) for seed in seeds(kind)) == {"she": 8, "he": 8, "they": 4}


@pytest.mark.parametrize(("kind", "seed"), EVERY_SEED)
def test_all_tellings_use_the_same_pronoun(kind: Kind, seed: Seed) -> None:
    assert len({pronoun(text) for text in tellings(seed)}) == 1


def test_no_two_seeds_share_six_words_in_a_row() -> None:
    everyone = [seed for kind in KINDS for seed in seeds(kind)]
    sequences = [set().union(*(word_sequences(text, 6) for text in tellings(seed))) for seed in everyone]
    for one, other in combinations(sequences, 2):
        assert one & other == set()


@pytest.mark.parametrize("kind", KINDS)
def test_openings_differ(kind: Kind) -> None:
    openings = Counter(" ".join(normalised(seed.text).split()[:2]) for seed in seeds(kind))
    assert openings.most_common(1)[0][1] == 1


@pytest.mark.parametrize(("kind", "seed"), EVERY_SEED)
def test_a_paraphrase_changes_the_words(kind: Kind, seed: Seed) -> None:
    assert kept(seed, seed.paraphrase) < 0.2


@pytest.mark.parametrize(("kind", "seed"), EVERY_SEED)
def test_a_near_copy_keeps_nearly_all_words_and_is_another_text(kind: Kind, seed: Seed) -> None:
    assert 0.85 <= kept(seed, seed.altered) < 1
    assert kept(seed, seed.altered) > kept(seed, seed.paraphrase)


@pytest.mark.parametrize("seed", seeds("personality"))
def test_personalities_hold_no_digit_and_no_name(seed: Seed) -> None:
    for text in tellings(seed):
        assert not any(character.isdigit() for character in text)
        inside = [word for word in CAPITAL.finditer(text) if not BEGINS.search(text[: word.start()])]
        assert inside == []


@pytest.mark.skipif(not RELEASE.is_dir(), reason="the published files are not beside this checkout")
def test_no_text_is_taken_from_the_published_files() -> None:
    files = [path.read_text("utf-8") for path in sorted(RELEASE.glob("*.jsonl"))]
    # Some lines hold two JSON strings, so they are read string by string.
    texts = [json.loads(found) for file in files for found in JSON_STRING.findall(file)]
    assert len(texts) > 400
    published = set().union(*(word_sequences(text, 6) for text in texts))
    for kind in KINDS:
        for seed in seeds(kind):
            for text in tellings(seed):
                # One sequence may be everyday English; two are a sentence.
                assert len(word_sequences(text, 6) & published) <= 1
