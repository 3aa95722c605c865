from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from interalign.errors import InputError, LeakError
from interalign.evaluation.cases import (
    ALOE,
    AloePersonality,
    AloeProfile,
    aloe_cases,
    aloe_personalities,
    aloe_profiles,
    card,
    leaks,
    read_cases,
    refuse_leaks,
)
from interalign.llm.encoder import SentenceEncoder, remembered
from interalign.llm.offline import OFFLINE_ENCODER
from interalign.personas.calibrate import calibrated
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.coverage import contradiction, dimensions, shown
from interalign.personas.description import KINDS, Description, Kind, normalised
from interalign.personas.exchange import write_dataset
from interalign.personas.gender import gender_of, with_gender
from interalign.personas.gender.reading import read
from interalign.personas.gender.tell import pronouns_in
from interalign.personas.masking import name_of
from interalign.personas.persona import Persona
from interalign.personas.seeds import seeds
from interalign.personas.speech import addresses_a_model
from interalign.personas.split import audit, halves
from interalign.run import write_jsonl

RELEASE = Path(__file__).parents[3] / "shared" / "aloe-release"
JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
PROFILES = [pytest.param(one, id=name_of(one.text)) for one in aloe_profiles()]
PERSONALITIES = [pytest.param(one, id=one.traits[0].name) for one in aloe_personalities()]
EVERY_TEXT = [one.text for one in (*aloe_profiles(), *aloe_personalities())]
WORLD = compose_personas(WorldConfig(train=6, heldout=4), 3)
BAKER = "She bakes bread in a town by the sea."
GUARD = "He guards a museum at night and reads on shift."
MOODY = "She is quick to take offence, and the first to apologise."
DRY = "Short of words, fond of figures."


def word_sequences(text: str, length: int) -> set[tuple[str, ...]]:
    words = normalised(text).split()
    return {tuple(words[start : start + length]) for start in range(len(words) - length + 1)}


def spread(labels: Sequence[str], size: int) -> int:
    """The most uses less the fewest, of `size` labels that could have been used."""
    uses = Counter(labels)
    return max(uses.values()) - (min(uses.values()) if len(uses) == size else 0)


# The packaged people.


def test_twenty_profiles_cross_five_personalities() -> None:
    cases = aloe_cases()
    assert len(cases) == len({one.id for one in cases}) == 100
    assert Counter(one.profile for one in cases) == {one.text: 5 for one in aloe_profiles()}
    assert Counter(one.personality for one in cases) == {one.text: 20 for one in aloe_personalities()}
    assert {one.split for one in cases} == {"heldout"}


def test_a_change_of_the_packaged_people_is_a_new_version() -> None:
    # Results are compared by this number: whoever changes a text changes it on purpose, and says so in the changelog.
    assert card().version == "48b9794218efd98b"


@given(st.integers(1, 100))
def test_any_beginning_is_even(length: int) -> None:
    beginning = aloe_cases()[:length]
    assert spread([one.profile for one in beginning], 20) <= 1
    assert spread([one.personality for one in beginning], 5) <= 1


def test_they_are_people_in_words_with_named_traits() -> None:
    traits = {one.text: [(trait.name, trait.difficult) for trait in one.traits] for one in aloe_personalities()}
    for one in aloe_cases():
        assert not one.is_rule_based and not one.facts
        assert [(trait.name, trait.difficult) for trait in one.traits] == traits[one.personality]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_has_the_promised_length_and_facts(profile: AloeProfile) -> None:
    assert 90 <= len(profile.text.split()) <= 140
    assert profile.text == " ".join(profile.text.split()) and profile.text.endswith(".")
    assert 8 <= len(profile.facts) <= 10
    assert {"age", "job", "home", "family", "education"} <= profile.facts.keys()
    assert 19 <= int(profile.facts["age"]) <= 81
    assert len(set(profile.facts.values())) == len(profile.facts)
    assert addresses_a_model(profile.text) is None


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_says_where_in_life_somebody_stands(profile: AloeProfile) -> None:
    found = shown("profile", profile.text)
    assert found.keys() == {one.name for one in dimensions("profile")}
    age = next(level for one in dimensions("profile") for level in one.levels if level.name == found["age"])
    assert age.range is not None and age.range[0] <= int(profile.facts["age"]) <= age.range[1]


@pytest.mark.parametrize("dimension", [one.name for one in dimensions("profile")])
def test_profiles_reach_every_level(dimension: str) -> None:
    levels = {level.name for one in dimensions("profile") if one.name == dimension for level in one.levels}
    assert {shown("profile", one.text)[dimension] for one in aloe_profiles()} == levels


def test_both_genders_and_some_who_do_not_say() -> None:
    told = Counter(gender_of(one.text) for one in aloe_profiles())
    assert told["female"] == told["male"] == 8
    assert told["neutral"] + told[None] == 4


def test_nobody_has_the_name_of_another_or_of_a_seed() -> None:
    names = [name_of(one.text) for one in aloe_profiles()]
    assert None not in names and len(set(names)) == 20
    assert not set(names) & {name_of(text) for one in seeds("profile") for text in (one.text, one.paraphrase)}


@pytest.mark.parametrize("personality", PERSONALITIES)
def test_a_personality_has_the_promised_length_and_traits(personality: AloePersonality) -> None:
    assert 60 <= len(personality.text.split()) <= 110
    assert personality.text == " ".join(personality.text.split()) and personality.text.endswith(".")
    assert len({trait.name for trait in personality.traits}) == len(personality.traits)
    assert 8 <= len(personality.traits) <= 10
    assert any(trait.difficult for trait in personality.traits)
    assert addresses_a_model(personality.text) is None


@pytest.mark.parametrize("personality", PERSONALITIES)
def test_a_personality_fits_everybody(personality: AloePersonality) -> None:
    assert gender_of(personality.text) is None
    assert list(pronouns_in(read(personality.text, quotes=False))) == []
    assert name_of(personality.text) is None
    assert not any(sign.isdigit() for sign in personality.text)
    assert with_gender(personality.text, "female") == with_gender(personality.text, "male") == personality.text


def test_about_half_of_the_traits_are_difficult() -> None:
    assert 0.4 <= card().difficult / card().traits <= 0.6


def test_no_case_is_at_odds_with_itself() -> None:
    assert [found for one in aloe_cases() if (found := contradiction(one.profile, one.personality))] == []


def test_no_sentence_is_shared_with_a_seed_or_among_them() -> None:
    of_seeds = {
        sequence
        for kind in KINDS
        for one in seeds(kind)
        for text in (one.text, one.paraphrase, one.altered)
        for sequence in word_sequences(text, 6)
    }
    sequences = [word_sequences(text, 6) for text in EVERY_TEXT]
    assert not set().union(*sequences) & of_seeds
    for one, other in combinations(sequences, 2):
        assert not one & other


@pytest.mark.skipif(not RELEASE.is_dir(), reason="the published files are not beside this checkout")
def test_no_text_is_taken_from_the_published_files() -> None:
    texts = [
        json.loads(found)
        for path in sorted(RELEASE.glob("*.jsonl"))
        for found in JSON_STRING.findall(path.read_text(encoding="utf-8"))
    ]
    assert len(texts) > 400
    published = set().union(*(word_sequences(text, 6) for text in texts))
    for text in EVERY_TEXT:
        assert not word_sequences(text, 6) & published


@pytest.mark.slow
def test_everybody_is_below_the_gate() -> None:
    ours = halves(aloe_cases())
    of_seeds = [
        Description(kind=kind, text=text)
        for kind in KINDS
        for one in seeds(kind)
        for text in (one.text, one.paraphrase)
    ]
    gates: dict[Kind, float] = {kind: calibrated(OFFLINE_ENCODER, kind)[1] for kind in KINDS}
    with remembered(SentenceEncoder(OFFLINE_ENCODER, device="cpu"), Path(":memory:")) as encoder:
        for others in (of_seeds, None):
            found = audit(ours, others, encoder, gates)
            assert [(one.kind, one.ours) for one in found.kinds] == [("profile", 20), ("personality", 5)]
            assert found.leaks == 0


def test_what_a_text_does_not_say_is_no_fact_of_it() -> None:
    profile, personality = aloe_profiles()[0], aloe_personalities()[0]
    slot = next(iter(profile.facts))
    with pytest.raises(ValidationError, match='"in her nineties" does not stand in the text'):
        AloeProfile(text=profile.text, facts=profile.facts | {slot: "in her nineties"})
    with pytest.raises(ValidationError, match="at least 8"):
        AloeProfile(text=profile.text, facts=dict(list(profile.facts.items())[:7]))
    absent = personality.traits[0].model_copy(update={"words": "sings in the bath"})
    with pytest.raises(ValidationError, match="does not stand in the text"):
        AloePersonality(text=personality.text, traits=(absent, *personality.traits[1:]))


# Files.


def stored(path: Path, *records: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    return path


def person(profile: str, personality: str, **fields: object) -> dict[str, object]:
    return {"profile": profile, "personality": personality, **fields}


def test_the_packaged_cases_have_a_name() -> None:
    assert read_cases(ALOE) == aloe_cases()


def test_cases_that_were_written_come_back(tmp_path: Path) -> None:
    for name, cases in (("text.jsonl", aloe_cases()[:25]), ("rules.jsonl", WORLD[6:])):
        write_jsonl(tmp_path / name, cases)
        assert read_cases(str(tmp_path / name)) == cases


def test_records_without_a_split_are_held_out(tmp_path: Path) -> None:
    cases = read_cases(stored(tmp_path / "people.jsonl", person(BAKER, MOODY, number=7), person(GUARD, MOODY)))
    assert [(one.profile, one.personality, one.split) for one in cases] == [
        (BAKER, MOODY, "heldout"),
        (GUARD, MOODY, "heldout"),
    ]


def test_tables_are_read(tmp_path: Path) -> None:
    with (tmp_path / "people.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["Profile", "personality"], [BAKER, MOODY], [GUARD, DRY]])
    assert [one.profile for one in read_cases(tmp_path / "people.csv")] == [BAKER, GUARD]


def test_the_people_of_published_conversations_come_once_each(tmp_path: Path) -> None:
    turn = {"user": "Hello.", "assistant": {"preferred": "Hi!", "rejected": "Yes?"}, "chosen": "preferred"}
    talks = [person(who, MOODY, conversations=[turn]) for who in (BAKER, GUARD, BAKER)]
    assert [one.profile for one in read_cases(stored(tmp_path / "talks.jsonl", *talks))] == [BAKER, GUARD]


def test_profiles_and_personalities_are_crossed_as_in_the_paper(tmp_path: Path) -> None:
    profiles = [one.text for one in aloe_profiles()]
    personalities = [one.text for one in aloe_personalities()]
    stored(tmp_path / "profile.jsonl", *profiles)
    stored(tmp_path / "personality.jsonl", *personalities)
    cases = read_cases(tmp_path)
    assert {(one.profile, one.personality) for one in cases} == {(p, q) for p in profiles for q in personalities}
    assert len(cases) == 100 and {one.split for one in cases} == {"heldout"}
    assert read_cases(tmp_path) == cases
    assert card(cases).crossed and card(cases).traits == 0


def test_two_files_are_profiles_and_personalities(tmp_path: Path) -> None:
    # Plain lines under names that tell no kind: the order does.
    (tmp_path / "who.txt").write_text(f"{BAKER}\n{GUARD}\n", encoding="utf-8")
    (tmp_path / "how.txt").write_text(f"{MOODY}\n", encoding="utf-8")
    cases = read_cases(f"{tmp_path / 'who.txt'}, {tmp_path / 'how.txt'}")
    assert {one.profile: one.personality for one in cases} == {
        BAKER: MOODY,
        GUARD: "He is quick to take offence, and the first to apologise.",
    }
    assert card(cases).personalities == 1 and card(cases).crossed


@pytest.mark.parametrize(
    ("records", "what"),
    [
        ([person(BAKER, MOODY)], "holds one person"),
        ([person(BAKER, MOODY), person(GUARD, MOODY), person(BAKER.upper(), f" {MOODY}")], "2 of the 3 people"),
        ([person(BAKER, MOODY), person(GUARD, MOODY), {"name": "Bo"}], "1 record .* line 3: has none of the fields"),
        ([person(BAKER, MOODY), person(GUARD, MOODY), "only a text"], "1 record .* text without a kind"),
        ([person(BAKER, MOODY), {"profile": GUARD}], "whole personas and bare descriptions"),
        ([{"profile": BAKER}, {"profile": GUARD}], "holds profiles and no personalities"),
        ([{"personality": MOODY}], "holds personalities and no profiles"),
        ([{"profile": BAKER}, {"profile": f"{BAKER} "}, {"personality": MOODY}], "2 of the 2 profiles"),
    ],
)
def test_files_that_make_no_benchmark(tmp_path: Path, records: list[object], what: str) -> None:
    with pytest.raises(InputError, match=what):
        read_cases(stored(tmp_path / "people.jsonl", *records))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_cases(tmp_path / "aloe.jsonl")
    with pytest.raises(InputError, match="does not exist"):
        read_cases(Path(ALOE))


# What a model was trained on.


def test_training_personas_are_no_cases(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "personas.jsonl", WORLD[:6])
    write_jsonl(tmp_path / "all.jsonl", WORLD)
    with pytest.raises(LeakError, match=r"6 of the 6 personas of .*personas\.jsonl are training personas"):
        read_cases(tmp_path / "personas.jsonl")
    with pytest.raises(LeakError, match="6 of the 10 personas"):
        read_cases(tmp_path / "all.jsonl")


def test_what_is_not_held_out_beside_what_is_counts_as_training(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", WORLD, {})
    with pytest.raises(LeakError, match="6 of the 10 personas"):
        read_cases(tmp_path / "set")
    write_dataset(tmp_path / "test", WORLD[6:], {})
    assert read_cases(tmp_path / "test") == WORLD[6:]


def trained(profile: str = GUARD, personality: str = DRY) -> Persona:
    return Persona(profile=profile, personality=personality)


@pytest.mark.parametrize(
    ("retold", "why"),
    [
        (lambda text: text, "same text"),
        (lambda text: f"  {text.upper()}\n", "same text"),
        (lambda text: text.replace(" ", "  ").replace(".", " !"), "same text"),
        (lambda text: with_gender(text, "male"), "differs in name or gender only"),
        (lambda text: with_gender(text, "neutral"), "differs in name or gender only"),
    ],
    ids=["same", "case", "signs", "male", "neutral"],
)
def test_a_leak_is_found_however_it_is_written(retold: Callable[[str], str], why: str) -> None:
    cases = (trained(BAKER, MOODY), trained(BAKER, DRY), trained(aloe_profiles()[0].text, MOODY))
    both = leaks(cases, [trained(retold(BAKER), retold(MOODY))])
    assert [(one.kind, one.text, one.why) for one in both] == [
        ("profile", BAKER, why),
        ("personality", MOODY, why),
    ]
    assert both[0].cases == (cases[0].id, cases[1].id)
    assert both[1].cases == (cases[0].id, cases[2].id)
    with pytest.raises(LeakError, match=rf"3 of the 3 cases share .* of case {cases[0].id} \({why}\)"):
        refuse_leaks(cases, [trained(retold(BAKER), retold(MOODY))])


def test_a_leak_under_another_name_is_found() -> None:
    renamed = aloe_profiles()[0].text.replace("Adjoa", "Efua")
    assert renamed != aloe_profiles()[0].text
    found = leaks(aloe_cases(), [trained(renamed)])
    assert [(one.kind, one.why, len(one.cases)) for one in found] == [("profile", "differs in name or gender only", 5)]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 9), max_size=6), st.lists(st.integers(0, 9), max_size=6))
def test_what_leaks_is_what_both_have(ours: list[int], theirs: list[int]) -> None:
    cases = [WORLD[at] for at in dict.fromkeys(ours)]
    training = [WORLD[at] for at in theirs]
    shared = {WORLD[at].id for at in ours} & {WORLD[at].id for at in theirs}
    found = leaks(cases, training)
    assert {case for one in found for case in one.cases} == shared
    assert len(found) == 2 * len(shared)


def test_a_profile_is_no_personality_and_words_make_nobody_the_same() -> None:
    refuse_leaks([trained(BAKER, MOODY)], [trained(MOODY, BAKER), trained(GUARD, DRY)])
    refuse_leaks([trained("🙂", "🙁")], [trained("🙃", "😐")])
    assert len(leaks([trained("🙂", "🙁")], [trained("🙂", "😐")])) == 1


def test_the_packaged_people_are_none_of_the_seeds_and_none_of_the_world() -> None:
    grown = [trained(one.text, other.text) for one, other in zip(seeds("profile"), seeds("personality"), strict=True)]
    refuse_leaks(aloe_cases(), [*grown, *WORLD])


def test_a_long_list_of_leaks_is_cut() -> None:
    with pytest.raises(LeakError, match=r"100 of the 100 cases .*; and 20 more\."):
        refuse_leaks(aloe_cases(), aloe_cases())


def test_a_card_tells_sets_apart_by_people_not_by_order() -> None:
    cases = aloe_cases()
    assert card(cases[::-1]) == card(cases) == card()
    assert card(cases[1:]).version != card().version and not card(cases[1:]).crossed
    assert (card().cases, card().profiles, card().personalities, card().rule_based) == (100, 20, 5, 0)
    assert card(WORLD[6:]).rule_based == card(WORLD[6:]).cases == 4


@pytest.mark.skipif(not RELEASE.is_dir(), reason="the published files are not beside this checkout")
def test_the_published_files_are_cases() -> None:
    cases = read_cases(RELEASE)
    told = card(cases)
    assert (told.cases, told.profiles, told.personalities) == (1655, 331, 71)
    assert set(Counter(one.profile for one in cases).values()) == {5}
    assert {one.split for one in cases} == {"heldout"}
    assert leaks(aloe_cases(), cases) == ()
