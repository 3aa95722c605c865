from __future__ import annotations

import json
import re
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interalign.errors import InputError
from interalign.personas.coverage import (
    CoverageDimension,
    Level,
    Outline,
    asked,
    contradiction,
    dimensions,
    draw_outlines,
    measure_coverage,
    outline_of,
    shown,
    signs,
)
from interalign.personas.description import KINDS, Kind
from interalign.personas.gender import with_gender
from interalign.personas.seeds import Seed, seeds
from interalign.personas.vocabulary import names, traits

RELEASE = Path(__file__).parents[3] / "shared" / "aloe-release"
PRONOUNS = {"Amara": ("she", "her", "her"), "He": ("he", "his", "him"), "They": ("they", "their", "them")}
CLASHES = {
    frozenset({("age", "18-24"), ("education", "postgraduate degree")}),
    frozenset({("age", "80 and over"), ("household", "single parent")}),
    frozenset({("age", "80 and over"), ("household", "with children")}),
    frozenset({("agreeableness", "high"), ("difficulty", "difficult")}),
    frozenset({("agreeableness", "low"), ("difficulty", "easy")}),
    frozenset({("neuroticism", "high"), ("difficulty", "easy")}),
}
SENTENCES = [
    pytest.param(kind, dimension, level, sentence, id=sentence)
    for kind in KINDS
    for dimension in dimensions(kind)
    for level in dimension.levels
    for sentence in level.sentences
]


def level_names(kind: Kind) -> dict[str, list[str]]:
    return {one.name: [level.name for level in one.levels] for one in dimensions(kind)}


def filled(sentence: str, name: str) -> str:
    they, their, them = PRONOUNS[name]
    return sentence.format(name=name, they=they, their=their, them=them) + "."


def told(kind: Kind, outline: Outline, random: Random) -> str:
    """A text in which a scripted writer says what the outline asks for, in random order."""
    parts = []
    for dimension in dimensions(kind):
        for level in dimension.levels:
            if outline.get(dimension.name) == level.name and level.range:
                parts.append(f"They are {random.randint(*level.range)} years old.")
            elif outline.get(dimension.name) == level.name:
                parts.append(filled(random.choice(level.sentences), random.choice(list(PRONOUNS))))
    random.shuffle(parts)
    return " ".join(parts)


# The plan


def test_the_plan_has_the_dimensions_that_other_parts_count_on() -> None:
    assert {name: len(levels) for name, levels in level_names("profile").items()} == {
        "age": 6,
        "region": 8,
        "occupation": 10,
        "household": 6,
        "education": 5,
    }
    assert {name: len(levels) for name, levels in level_names("personality").items()} == {
        **dict.fromkeys(("openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism"), 2),
        "style": 6,
        "difficulty": 3,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_names_within_the_plan_exist(kind: Kind) -> None:
    for dimension in dimensions(kind):
        known = {level.name for level in dimension.levels}
        assert len(known) == len(dimension.levels)
        for level in dimension.levels:
            assert set(level.over) <= known - {level.name}
            assert set(level.framed) <= set(dimension.frames)
            assert bool(level.range) != bool(level.cues)


def test_ages_leave_no_gap() -> None:
    ranges = [level.range for level in dimensions("profile")[0].levels]
    assert all(one and other and one[1] + 1 == other[0] for one, other in pairwise(ranges))
    assert ranges[0] and ranges[0][0] == 18


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_sentences_enough_and_none_twice(kind: Kind) -> None:
    sentences: list[str] = []
    for dimension in dimensions(kind):
        least = {"age": 0, "region": 10, "occupation": 10}.get(dimension.name, 6)
        for level in dimension.levels:
            assert len(level.sentences) >= least, level.name
            sentences += level.sentences
    assert len(sentences) == len(set(sentences))
    assert all(sentence.startswith("{name} ") and sentence[-1].isalnum() for sentence in sentences)


@pytest.mark.parametrize(("kind", "dimension", "level", "sentence"), SENTENCES)
@pytest.mark.parametrize("name", PRONOUNS)
def test_a_sentence_shows_its_level_and_nothing_else(
    kind: Kind, dimension: CoverageDimension, level: Level, sentence: str, name: str
) -> None:
    text = filled(sentence, name)
    assert shown(kind, text) == {dimension.name: level.name}
    assert {sign.level for sign in signs(kind, text)} <= {level.name, *level.over}


@pytest.mark.parametrize(
    "sentence",
    [
        sentence
        for sentence in (*(one.values[3] for one in SENTENCES), *(each for one in traits() for each in one.personality))
        if sentence.startswith("{name} ")
    ],
)
def test_a_sentence_can_be_told_of_them(sentence: str) -> None:
    text = with_gender(sentence.format(name="She", they="she", their="her", them="her"), "neutral")
    left = re.findall(r"(?:^They|\b(?:and|but)) (\w*[^s\W]s)\b", text)
    assert set(left) <= {"always", "numbers", "sources"}


@pytest.mark.parametrize("gender", ["female", "male", "neutral"])
def test_a_name_shows_nothing(gender: str) -> None:
    for name in names(gender):
        assert shown("profile", f"{name} mends clocks, and {name} owns a kite.") == {}
        assert shown("personality", f"{name} mends clocks, and {name} owns a kite.") == {}


# What a text shows


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("She is a 34-year-old who mends clocks.", "25-34"),
        ("He is 34 years old.", "25-34"),
        ("They are forty-one and collect maps.", "35-49"),
        ("Aged 52, he mends clocks.", "50-64"),
        ("At sixty-eight, she still swims.", "65-79"),
        ("In her late sixties, she swims.", "65-79"),
        ("He is in his mid-40s.", "35-49"),
        ("He is in his fifties, nobody knows more.", "50-64"),
        ("Rosa, 24, keeps bees.", "18-24"),
        ("Rosa (83) keeps bees.", "80 and over"),
        ("She turned eighty-one in June.", "80 and over"),
        ("An octogenarian who keeps bees.", "80 and over"),
        ("A 47\N{NON-BREAKING HYPHEN}year\N{NON-BREAKING HYPHEN}old school bus driver.", "35-49"),
        ("A 30-year-old dog trainer with a van.", "25-34"),
        # Other people, animals and things
        ("She has a 5-year-old daughter and is 41.", "35-49"),
        ("Her son, 19, plays chess. She is 52.", "50-64"),
        ("His 80-year-old mother shares the room; he is 47.", "35-49"),
        ("He has a son who is 22. He is 55.", "50-64"),
        ("She is married to a 60-year-old, and is 33.", "25-34"),
        ("A 19-year-old dog sleeps at her feet. She is 64.", "50-64"),
        ("He drives a 20-year-old van and is 70.", "65-79"),
        ("When he was 25 he left home. He is 70.", "65-79"),
        ("They work with people aged 65 and over and are 26 years old.", "25-34"),
        # Not to be told
        ("She is in her sixties.", None),
        ("He is in his thirties.", None),
        ("The boy is 12 years old.", None),
        ("He owns 34 clocks and a 60-year-old tractor.", None),
        ("His daughter is 19 years old.", None),
        ("She swims 41 lengths a day.", None),
    ],
)
def test_age_is_the_persons_own(text: str, level: str | None) -> None:
    assert shown("profile", text).get("age") == level


@given(st.integers(18, 104), st.sampled_from(["{}-year-old", "{} years old", "{} year old", "aged {}"]))
def test_every_age_of_an_adult_has_its_level(years: int, form: str) -> None:
    level = next(
        level.name
        for level in dimensions("profile")[0].levels
        if level.range and level.range[0] <= years <= level.range[1]
    )
    assert shown("profile", f"This person, {form.format(years)}, keeps bees.").get("age") == level


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("A 30-year-old Kenyan nurse who runs.", "Africa"),
        ("He has a room in Ho Chi Minh City.", "Southeast Asia and Oceania"),
        ("Born in Lagos, she lives in Toronto.", "North America"),
        ("He moved to Berlin from Hanoi.", "Europe"),
        ("She was born in Quito.", "Latin America"),
        ("She dreams of a trip to Japan and Peru.", None),
        ("His sister in Toronto calls on Sundays.", None),
        ("He cooks Italian food and is fluent in Spanish.", None),
        ("She keeps a German shepherd and loves turkey with chile.", None),
        ("He collects stamps from Mongolia.", None),
    ],
)
def test_region_is_where_the_person_lives(text: str, level: str | None) -> None:
    assert shown("profile", text).get("region") == level


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("Her husband is a plumber. She is a dentist.", "care and health"),
        ("He is married to a nurse and works as a welder.", "trades and factory"),
        ("She works as a cook in a hospital.", "shop and hospitality"),
        ("He is a retired welder.", "not in paid work"),
        ("He worked as a welder for years before he retired.", "not in paid work"),
        ("She is a 22-year-old college student with a part-time job at a cafe.", "not in paid work"),
        ("A former judge, she now runs a kiosk.", "shop and hospitality"),
        ("She was a nurse.", None),
        ("He never worked as a teacher.", None),
        ("She dreams of becoming a pilot.", None),
        ("He volunteers as a firefighter.", None),
        ("She has a younger brother who is a pilot.", None),
        ("He is the son of a baker.", None),
        ("She is an amateur photographer.", None),
        ("She visits her doctor on Mondays.", None),
    ],
)
def test_occupation_is_the_present_and_own_one(text: str, level: str | None) -> None:
    assert shown("profile", text).get("occupation") == level


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("He is married with two sons.", "with children"),
        ("He is married with two grown sons.", "with a partner"),
        ("She is a single mother of three children.", "single parent"),
        ("She lives alone since her husband died.", "alone"),
        ("He lives with his girlfriend and their hamster.", "with a partner"),
        ("She is single and lives with her two cats.", "alone"),
        ("He has three grandchildren.", None),
        ("She has two grown children.", None),
        ("She is single.", None),
        ("His sister is a single mother.", None),
    ],
)
def test_household_is_who_lives_there(text: str, level: str | None) -> None:
    assert shown("profile", text).get("household") == level


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("She has a master's degree in law.", "postgraduate degree"),
        ("She has a degree in law.", "bachelor's degree"),
        ("He never finished high school.", "left school early"),
        ("He has a high school diploma.", "school certificate"),
        ("He has a high school diploma and completed an apprenticeship.", "vocational training"),
        ("She has no degree.", None),
        ("His daughter has a PhD.", None),
        ("He is working on a degree in art.", None),
    ],
)
def test_education_is_the_highest_that_is_reached(text: str, level: str | None) -> None:
    assert shown("profile", text).get("education") == level


@pytest.mark.parametrize(
    "text",
    [
        "He is not shy.",
        "She isn't at all anxious.",
        "She isn’t outgoing.",
        "He is neither calm nor blunt.",
        "They were never a talkative person.",
        "He is anything but organised.",
        "She keeps no promises.",
        "She does not argue with anyone.",
        "He is far from curious.",
        "He puts shy people at ease.",
    ],
)
def test_what_is_denied_or_said_of_others_does_not_count(text: str) -> None:
    assert not {"low", "high", "blunt", "talkative", "difficult"} & set(shown("personality", text).values())


@pytest.mark.parametrize(
    ("text", "dimension", "level"),
    [
        ("They are never late.", "conscientiousness", "high"),
        ("She is not only shy but also loyal.", "extraversion", "low"),
        ("He does not mind silence and is shy.", "extraversion", "low"),
        ("She does not sugarcoat anything.", "style", "blunt"),
        ("He isn't loud, but he is anxious.", "neuroticism", "high"),
        ("She is shy at first, and outgoing later.", "extraversion", "low"),
    ],
)
def test_a_negation_reaches_no_further_than_it_should(text: str, dimension: str, level: str) -> None:
    assert shown("personality", text).get(dimension) == level


@pytest.mark.parametrize("kind", KINDS)
def test_white_space_and_case_change_nothing(kind: Kind) -> None:
    for seed in seeds(kind):
        assert shown(kind, seed.text.replace(" ", "\n  ")) == shown(kind, seed.text)
    assert shown("personality", "SHE IS SHY.") == shown("personality", "She is shy.") == {"extraversion": "low"}


def test_signs_are_the_words_of_the_text() -> None:
    text = "He is a 37-year-old  plumber who is married with two sons."
    for sign in signs("profile", text):
        assert " ".join(text.split())[sign.start :].startswith(sign.words)


def test_the_caller_may_change_what_it_was_given() -> None:
    shown("personality", "She is shy.").clear()
    assert shown("personality", "She is shy.") == {"extraversion": "low"}


# Against careful readers: the labels of the seeds were given by hand, the cues were fitted to the seeds' own texts.
# Their paraphrases were not looked at, so these tell what the cues are worth on other texts.


def agreement(kind: Kind, texts: dict[str, Seed]) -> tuple[float, float]:
    """Of the labels given where a hand gave one too, the share that agrees; of the hand's labels, the share given."""
    pairs = [(shown(kind, text).get(name), level) for text, seed in texts.items() for name, level in seed.shows.items()]
    given_labels = [pair for pair in pairs if pair[0] is not None]
    return sum(one == other for one, other in given_labels) / len(given_labels), len(given_labels) / len(pairs)


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_are_read_as_a_careful_reader_does(kind: Kind) -> None:
    right, labelled = agreement(kind, {seed.text: seed for seed in seeds(kind)})
    assert right >= 0.9
    assert labelled >= 0.75


@pytest.mark.parametrize(("kind", "least"), [("profile", 0.75), ("personality", 0.5)])
def test_texts_that_the_cues_were_not_fitted_to_are_rarely_misread(kind: Kind, least: float) -> None:
    right, labelled = agreement(kind, {seed.paraphrase: seed for seed in seeds(kind)})
    assert right >= 0.9
    assert labelled >= least


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_writer_tells_of_an_outline_is_read_back(kind: Kind) -> None:
    random = Random(7)
    for outline in draw_outlines(kind, 300, {}, 5):
        text = told(kind, outline, random)
        assert shown(kind, text) == outline, text


def released(name: str) -> list[str]:
    path = RELEASE / name
    if not path.exists():
        pytest.skip(f"{path} is missing: the released personas are not part of this project")
    decoder, found = json.JSONDecoder(), []
    for line in path.read_text(encoding="utf-8").splitlines():
        place = 0
        while place < len(line.rstrip()):
            text, place = decoder.raw_decode(line, place)
            found.append(text)
    return found


def test_released_profiles_are_mostly_readable() -> None:
    coverage = measure_coverage("profile", released("profile.jsonl"))
    assert coverage.size == 331
    assert coverage.unstated["age"] <= 0.02 * 331
    assert coverage.unstated["occupation"] <= 0.1 * 331
    assert coverage.unstated["household"] <= 0.35 * 331
    assert coverage.unstated["education"] <= 0.35 * 331
    # They name no homes, and nearly everybody is young.
    assert coverage.unstated["region"] >= 0.98 * 331
    assert coverage.counts["age"]["65-79"] + coverage.counts["age"]["80 and over"] <= 5


def test_released_personalities_are_agreeable_without_exception() -> None:
    coverage = measure_coverage("personality", released("personality.jsonl"))
    assert coverage.size == 71
    assert coverage.counts["agreeableness"]["low"] == 0
    assert coverage.counts["agreeableness"]["high"] >= 60
    assert coverage.counts["difficulty"]["difficult"] == 0


HOSTILE = {
    "one word": "a" * 100_000,
    "spaces": " " * 100_000,
    "newlines": "34-year-old" + "\r\n" * 50_000,
    "digits": "1" * 100_000,
    "hyphens": "a-" * 50_000,
    "ages": "34-year-old " * 8_000,
    "cues": "nurse, " * 14_000,
    "half a cue": "works in a " * 9_000,
    "relatives": "her son who " * 8_000,
    "negations": "not never " * 10_000,
    "emoji": "\N{GRINNING FACE}\u200d" * 50_000,
    "accents": "a\u0301\u0302" * 33_000,
    "surrogates": "\ud800" * 100_000,
    "controls": "".join(map(chr, range(32))) * 3_000,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_is_read_to_the_end(kind: Kind, text: str) -> None:
    assert set(shown(kind, text)) <= set(level_names(kind))


@given(st.sampled_from(KINDS), st.text(max_size=300))
def test_any_text_shows_known_levels_only(kind: Kind, text: str) -> None:
    known = level_names(kind)
    assert all(level in known[name] for name, level in shown(kind, text).items())


# Outlines in words


@given(st.sampled_from(KINDS), st.integers(0, 2**32))
def test_what_is_asked_can_be_read_back(kind: Kind, seed: int) -> None:
    (outline,) = draw_outlines(kind, 1, {}, seed)
    words = asked(kind, outline)
    assert outline_of(kind, words) == outline
    assert len(words.split("; ")) == len(outline)


def test_an_outline_in_words() -> None:
    assert asked("profile", {"household": "single parent", "age": "65-79"}) == (
        "aged 65 to 79; raises children without a partner"
    )
    assert asked("personality", {}) == ""
    assert outline_of("personality", "") == {}


@pytest.mark.parametrize("outline", [{"age": "17"}, {"shoe size": "42"}, {"openness": "high"}])
def test_an_unknown_level_is_refused(outline: Outline) -> None:
    with pytest.raises(InputError, match=re.escape(next(iter(outline.values())))):
        asked("profile", outline)


def test_words_that_ask_for_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="aged 17"):
        outline_of("profile", "aged 65 to 79; aged 17")


# Drawing what a pool lacks


@st.composite
def counts_of(draw: st.DrawFn, kind: Kind) -> dict[str, dict[str, int]]:
    return {
        name: {level: draw(st.integers(0, 40)) for level in levels if draw(st.booleans())}
        for name, levels in level_names(kind).items()
        if draw(st.booleans())
    }


@settings(max_examples=60)
@given(st.data(), st.sampled_from(KINDS), st.integers(0, 30), st.integers(0, 2**63 - 1))
def test_outlines_are_sound(data: st.DataObject, kind: Kind, count: int, seed: int) -> None:
    counts = data.draw(counts_of(kind))
    outlines = draw_outlines(kind, count, counts, seed)
    assert outlines == draw_outlines(kind, count, counts, seed)
    assert len(outlines) == count
    known = level_names(kind)
    for outline in outlines:
        assert all(level in known[name] for name, level in outline.items())
        assert not {frozenset(pair) for pair in combinations(outline.items(), 2)} & CLASHES
        assert len(known) - len(outline) in ({1, 2} if kind == "personality" else {0})


@settings(max_examples=40)
@given(st.data(), st.sampled_from(KINDS), st.integers(0, 2**32))
def test_a_level_that_the_pool_is_full_of_is_hardly_drawn(data: st.DataObject, kind: Kind, seed: int) -> None:
    name, levels = data.draw(st.sampled_from(list(level_names(kind).items())))
    full = data.draw(st.sampled_from(levels))
    outlines = draw_outlines(kind, 40, {name: {full: 300}}, seed)
    assert sum(outline.get(name) == full for outline in outlines) <= 2


@pytest.mark.parametrize("kind", KINDS)
def test_one_call_spreads_out(kind: Kind) -> None:
    drawn: Counter[tuple[str, str]] = Counter()
    for outline in draw_outlines(kind, 120, {}, 3):
        drawn.update(outline.items())
    for name, levels in level_names(kind).items():
        counts = [drawn[name, level] for level in levels]
        # Independent draws would spread by several times the root of the mean.
        assert max(counts) - min(counts) <= 8, name


def test_other_seeds_give_other_outlines() -> None:
    assert draw_outlines("profile", 5, {}, 1) != draw_outlines("profile", 5, {}, 2)


# Measuring


@given(st.sampled_from(KINDS), st.integers(0, 2**32), st.integers(0, 12))
def test_counts_add_up(kind: Kind, seed: int, size: int) -> None:
    random = Random(seed)
    texts = [told(kind, outline, random) for outline in draw_outlines(kind, size, {}, seed)] + ["A person."]
    coverage = measure_coverage(kind, texts)
    assert coverage.size == size + 1
    for name, levels in level_names(kind).items():
        assert list(coverage.counts[name]) == levels
        assert sum(coverage.counts[name].values()) + coverage.unstated[name] == coverage.size
        evenness = coverage.evenness[name]
        assert (evenness is None) == (coverage.unstated[name] == coverage.size)
        assert evenness is None or 0 <= evenness <= 1
    assert coverage.pairs is not None
    assert 0 <= coverage.pairs <= 1


def test_evenness_at_its_ends() -> None:
    even = measure_coverage("personality", ["She is shy.", "She is outgoing."])
    lopsided = measure_coverage("personality", ["She is shy.", "He is shy.", "He sings."])
    assert even.evenness["extraversion"] == 1
    assert lopsided.evenness["extraversion"] == 0
    assert lopsided.unstated["extraversion"] == 1
    assert lopsided.evenness["openness"] is None


def test_pairs_are_counted_once_and_without_clashes() -> None:
    possible = sum(len(one) * len(other) for one, other in combinations(level_names("personality").values(), 2)) - sum(
        "difficulty" in dict(clash) for clash in CLASHES
    )
    coverage = measure_coverage("personality", ["She is shy and blunt.", "He is shy and blunt.", "She is shy."])
    assert coverage.pairs == 1 / possible
    at_odds = measure_coverage("personality", ["He is kind-hearted but argumentative."])
    assert at_odds.counts["agreeableness"]["high"] == at_odds.counts["difficulty"]["difficult"] == 1
    assert at_odds.pairs == 0


def test_nothing_measured() -> None:
    coverage = measure_coverage("profile", [])
    assert coverage.size == 0
    assert coverage.pairs is None
    assert set(coverage.evenness.values()) == {None}


# Contradictions


@pytest.mark.parametrize(
    ("profile", "personality", "words"),
    [
        ("A shy baker of 30.", "She is outgoing.", ("shy", "outgoing")),
        ("An outgoing baker of 30.", "She is shy.", ("outgoing", "shy")),
        ("He is a chatty barber.", "He is a man of few words.", ("chatty", "man of few words")),
        ("She is known as anxious.", "She stays calm.", ("anxious", "stays calm")),
        ("A gentle dog trainer of 50.", "She is ruthless.", ("gentle", "ruthless")),
        ("He is competitive and loud.", "He is kind-hearted.", ("competitive", "kind-hearted")),
    ],
)
def test_opposite_poles_contradict(profile: str, personality: str, words: tuple[str, str]) -> None:
    sentence = contradiction(profile, personality)
    assert sentence is not None
    assert all(f"'{word}'" in sentence for word in words)


@pytest.mark.parametrize(
    ("profile", "personality"),
    [
        ("A shy baker of 30.", "She is introverted."),
        ("A baker of 30.", "She is outgoing."),
        ("A shy baker of 30.", "She sings."),
        ("A shy baker who loves company.", "She is outgoing."),
        ("A shy baker of 30.", "She is outgoing at work and withdrawn at home."),
        ("A baker who is not shy.", "She is outgoing."),
        ("A blunt baker.", "She is talkative."),
        # Of pets, relatives, music and pastimes
        ("She looks after a bossy corgi.", "She is kind-hearted."),
        ("He keeps a talkative Siamese cat.", "He is terse."),
        ("She has a stepfather who never finishes repairs.", "She is punctual."),
        ("He comes from a lively family and listens to loud reggaeton.", "He is shy."),
        ("She owns recordings of melancholy fado.", "She stays calm."),
        ("He took up netball late and has never missed a season since.", "He is disorganised."),
        ("She can tell a story about each of her thimbles.", "She is terse."),
        ("He tells his best stories about an aunt, and can talk at length about tea.", "He is terse."),
        ("She spends her evenings on competitive lockpicking.", "She is kind-hearted."),
        ("There is a room where he keeps his vinyl records.", "He is disorganised."),
    ],
)
def test_what_is_the_same_absent_or_mixed_contradicts_nothing(profile: str, personality: str) -> None:
    assert contradiction(profile, personality) is None


def test_writers_never_contradict_themselves() -> None:
    random = Random(2)
    profiles = [told("profile", outline, random) for outline in draw_outlines("profile", 20, {}, 2)]
    personalities = [told("personality", outline, random) for outline in draw_outlines("personality", 20, {}, 2)]
    assert {contradiction(one, other) for one in profiles for other in personalities} == {None}
