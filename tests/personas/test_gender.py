from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.personas.gender import GENDERS, Gender, gender_of, ungendered, with_gender
from interalign.personas.seeds import seeds

RELEASE = Path("../shared/aloe-release")
SEEDS = [text for kind in ("profile", "personality") for seed in seeds(kind) for text in (seed.text, seed.paraphrase)]


def released(name: str) -> list[str]:
    """The texts of a released file: JSON strings, now and then several in a line."""
    path = RELEASE / name
    if not path.is_file():
        pytest.skip(f"{path} is missing: the released personas have no licence and are not part of the project")
    decoder, rest, texts = json.JSONDecoder(), path.read_text(encoding="utf-8").strip(), []
    while rest:
        text, end = decoder.raw_decode(rest)
        texts.append(text)
        rest = rest[end:].lstrip(", \r\n")
    return texts


# Whose gender it is

GENDER_CASES: list[tuple[str, Gender | None]] = [
    ("She listens.", "female"),
    ("he listens.", "male"),
    ("They listen.", "neutral"),
    ("SHE LISTENS.", "female"),
    ("He's late, as always.", "male"),
    ("They’re late, as always.", "neutral"),
    ("Small talk bores her.", "female"),
    ("Nothing worries him, not even his debts.", "male"),
    ("Their patience is short.", "neutral"),
    ("A retired widower of eighty.", "male"),
    ("A quiet woman who collects stamps and labels them.", "female"),
    ("A mother of three in Lagos.", "female"),
    ("Male, 34, plumber.", "male"),
    ("Mr Okafor sells tyres.", "male"),
    ("Mrs. Li mends clocks.", "female"),
    ("Her husband is retired. He cooks. He cleans. He drives the van. She works.", "female"),
    ("She has a son. He is four. He runs. He laughs.", "female"),
    ("They have a son. He is four. He runs. He laughs. Their house is small.", "neutral"),
    ("She and her husband run a shop. They sell fish. They open at six. She keeps the books.", "female"),
    ("She lives with two cats. They sleep on the sofa.", "female"),
    ("Every morning she walks the dogs. They pull. Her arms ache.", "female"),
    ("His sister is a judge, and she calls daily. He never answers.", "male"),
    ("Friends say they can rely on her.", "female"),
    ("Quick to laugh. Friends know that they can ring at midnight.", "neutral"),
    ("Ana lives in Quito and keeps bees.", None),
    ("Likes tea. Hates noise.", None),
    ("Talks to the client as he/she would to a friend, in his or her words.", None),
    ('Often says "she started it".', None),
    ("Elle aime le vin rouge.", None),
    ("他很安静。", None),
    ("", None),
    ("!?", None),
]


@pytest.mark.parametrize(("text", "gender"), GENDER_CASES)
def test_gender_of(text: str, gender: Gender | None) -> None:
    assert gender_of(text) == gender


# One person in another gender

TO_MALE = [
    ("She listens.", "He listens."),
    ("SHE listens.", "HE listens."),
    ("She’s never late; she'll wait.", "He’s never late; he'll wait."),
    ("Her cat follows her.", "His cat follows him."),
    ("Noise tires her, and people bore her.", "Noise tires him, and people bore him."),
    ("The upper bunk is hers. She likes it.", "The upper bunk is his. He likes it."),
    ("She blames herself.", "He blames himself."),
    ("She knows her own mind.", "He knows his own mind."),
    ("Jokes make her laugh.", "Jokes make him laugh."),
    ("She makes her bed.", "He makes his bed."),
    ("People tell her things and pay her rent.", "People tell him things and pay his rent."),
    ("She tells people things.", "He tells people things."),
    ("Friends take her seriously.", "Friends take him seriously."),
    ("Her deeply held beliefs matter.", "His deeply held beliefs matter."),
    ("Her back hurts; nobody calls her back.", "His back hurts; nobody calls him back."),
    ("Silence leaves her unruffled.", "Silence leaves him unruffled."),
    ("A straight answer out of her takes time.", "A straight answer out of him takes time."),
    ('She likes her "lucky" mug.', 'He likes his "lucky" mug.'),
    ("She lives with her husband, who says he snores.", "He lives with his husband, who says he snores."),
    ("She is a single mother of two.", "He is a single father of two."),
    ("She is a loud, hearty woman.", "He is a loud, hearty man."),
    ("She is an actress and works as a waitress.", "He is an actor and works as a waiter."),
    ("She is a nurse with a sister and a mother.", "He is a nurse with a sister and a mother."),
    ("Ana is a grandmother. She bakes.", "Ana is a grandfather. He bakes."),
    ("Mrs Li is an old lady. Mrs Li naps.", "Mr Li is an old gentleman. Mr Li naps."),
    ('She says "she is right" and smiles.', 'He says "she is right" and smiles.'),
    ("She says ‘her loss’ a lot.", "He says ‘her loss’ a lot."),
    ("She lets people think they won.", "He lets people think they won."),
    ("A quiet woman with a sharp tongue.", "A quiet man with a sharp tongue."),
]
TO_FEMALE = [
    ("He listens.", "She listens."),
    ("His jokes amuse him.", "Her jokes amuse her."),
    ("He is sure the fault is his.", "She is sure the fault is hers."),
    ("A friend of his laughed. He frowned.", "A friend of hers laughed. She frowned."),
    ("He has no car.", "She has no car."),
    ("He is a widower with one son.", "She is a widow with one son."),
    ("He lives with his wife and her mother.", "She lives with her wife and her mother."),
    ("As a father he worries.", "As a mother she worries."),
    ("They listen.", "She listens."),
    ("They're tired and they've been ill.", "She's tired and she's been ill."),
    ("They try, and they never worry.", "She tries, and she never worries."),
    ("They were late and had no excuse.", "She was late and had no excuse."),
    ("They can sing; they would rather dance.", "She can sing; she would rather dance."),
    ("They went home and slept.", "She went home and slept."),
    ("They keep bees, water plants and forget names.", "She keeps bees, waters plants and forgets names."),
    ("They love to sing and dance.", "She loves to sing and dance."),
    ("They don't argue but walk away.", "She doesn't argue but walks away."),
    ("They help others with their work.", "She helps others with their work."),
    ("They keep old letters and reread them.", "She keeps old letters and rereads them."),
    ("They know what scares them.", "She knows what scares her."),
    ("Friends say they are loyal. They deny it.", "Friends say she is loyal. She denies it."),
    ("Rarely do they speak first.", "Rarely does she speak first."),
    ("They and their partner run a café. They cook.", "She and her partner run a café. She cooks."),
    ("They have a cat; they’ve a dog, too.", "She has a cat; she has a dog, too."),
]
TO_NEUTRAL = [
    ("She is quiet.", "They are quiet."),
    ("He was ill and has no car.", "They were ill and have no car."),
    ("She isn't shy and doesn't mind.", "They aren't shy and don't mind."),
    ("He tries, fixes, goes and watches.", "They try, fix, go and watch."),
    ("She always loves a row.", "They always love a row."),
    ("She, like her mother, loves tea.", "They, like their mother, love tea."),
    ("She no longer worries.", "They no longer worry."),
    ("She listens, nods and forgets.", "They listen, nod and forget."),
    ("He likes cats, dogs and walks.", "They like cats, dogs and walks."),
    ("He enjoys hikes and walks in fog, and walks to work.", "They enjoy hikes and walks in fog, and walk to work."),
    ("She is someone who listens and nods.", "They are someone who listens and nods."),
    ("She's tired; she's been up since four.", "They're tired; they've been up since four."),
    ("He would go and he must stay.", "They would go and they must stay."),
    ("He bakes, drives a van that has no gear, and mends it.", "They bake, drive a van that has no gear, and mend it."),
    ("She cooks and it shows.", "They cook and it shows."),
    ("Doesn't she argue? She does.", "Don't they argue? They do."),
    ("He hurts himself. The fault is his.", "They hurt themselves. The fault is theirs."),
    ("She is a single mother.", "They are a single parent."),
    ("He is a waiter and a grandad.", "They are a server and a grandparent."),
    ("She is an aunt and a policewoman.", "They are a relative and a police officer."),
    ("She organises rallies and favours colour.", "They organise rallies and favour colour."),
    ("He organizes rallies and favors color.", "They organize rallies and favor color."),
    ("Her husband is ill. He rests. He moans. She works.", "Their husband is ill. He rests. He moans. They work."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "gender", "expected"),
    [
        *((text, "male", expected) for text, expected in TO_MALE),
        *((text, "female", expected) for text, expected in TO_FEMALE),
        *((text, "neutral", expected) for text, expected in TO_NEUTRAL),
    ],
)
def test_with_gender(text: str, gender: Gender, expected: str) -> None:
    assert with_gender(text, gender) == expected
    assert gender_of(expected) == gender
    assert ungendered(expected) == ungendered(text)


def test_a_text_without_pronouns_becomes_neutral_by_losing_its_gender() -> None:
    assert with_gender("A quiet woman with a sharp tongue.", "neutral") == "A quiet person with a sharp tongue."
    assert gender_of("A quiet person with a sharp tongue.") is None


@pytest.mark.parametrize("gender", GENDERS)
@pytest.mark.parametrize("text", [text for text, gender in GENDER_CASES if gender is None])
def test_nothing_changes_where_no_gender_is_told(text: str, gender: Gender) -> None:
    assert with_gender(text, gender) == text


# The key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("They love tea.", "she loves tea"),
        ("She's kind.", "They are kind."),
        ("He’s been ill.", "They have been ill."),
        ("She doesn't mind.", "They do not mind."),
        ("He can't wait and won't try.", "They cannot wait and will not try."),
        ("She tries and goes.", "They try and go."),
        ("An aunt of mine.", "An uncle of mine."),
        ("Her book is hers.", "His book is his."),
        ("A waitress and her wife.", "A waiter and his husband."),
        ("Women like her.", "Men like him."),
        ("Mrs Li is a widow.", "Mr Li is a widower."),
        ("A self-taught nurse.", "a SELF taught nurse!"),
    ],
)
def test_one_key_for_two_genders(one: str, other: str) -> None:
    assert ungendered(one) == ungendered(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("She likes tea.", "She likes coffee."),
        ("He is quick to laugh.", "He is slow to laugh."),
        ("She never argues.", "She argues."),
        ("He has a dog.", "He had a dog."),
        ("She minds.", "She does not mind."),
        ("She is 34.", "She is 43."),
    ],
)
def test_other_words_keep_their_difference(one: str, other: str) -> None:
    assert ungendered(one) != ungendered(other)


def test_seeds_and_their_paraphrases_have_keys_of_their_own() -> None:
    assert len({ungendered(text) for text in SEEDS}) == len(SEEDS) == 80


# Properties

VERBS = ["listen", "argue", "worry", "try", "watch", "miss", "go", "reply", "apologise", "snore", "fidget", "forget"]
# "Keeps old songs and worries" may be two things that are kept: after an object only words that are no nouns.
NO_NOUNS = [verb for verb in VERBS if verb not in ("worry", "try", "watch")]
OBJECTS = [
    "old songs",
    "the news",
    "every promise",
    "a grudge",
    "small talk",
    "{dependent} own jokes",
    "{dependent} past",
]
ACTIONS = ["keep", "repeat", "ignore", "enjoy", "remember", "discuss", "fix", "carry", "tease"]
ADVERBS = ["", "always ", "never ", "rarely ", "quietly ", "often "]
STATES = [
    "shy",
    "late",
    "a good listener",
    "proud of {dependent} garden",
    "hard on {reflexive}",
    "the loudest in the room",
]
FRAMES = [
    "{Subject} {adverb}{verb}.",
    "{Subject} {adverb}{act} {thing}.",
    "{Subject} {be} {state}.",
    "{Subject}{'re} {state}.",
    "{Subject} {be}n't {state}.",
    "{Subject} {have} no patience and {adverb}{act} {thing}.",
    "{Subject} {verb}, {verb2} and {verb3}.",
    "{Subject} {act} {thing} and {adverb}{no_noun}.",
    "Noise bores {object}, but {subject} {verb}.",
    "When {subject} {be} {state}, {subject} {verb}.",
    "People trust {object} because {subject} {do} not {base}.",
    "{Dependent} temper is short.",
    "At home {subject} {act} {thing}.",
    "Whatever is broken is {independent}.",
    "{Subject} would rather {base} than ask.",
]
WORDS: dict[Gender, dict[str, str]] = {
    "female": {"subject": "she", "object": "her", "dependent": "her", "independent": "hers", "reflexive": "herself"},
    "male": {"subject": "he", "object": "him", "dependent": "his", "independent": "his", "reflexive": "himself"},
    "neutral": {
        "subject": "they",
        "object": "them",
        "dependent": "their",
        "independent": "theirs",
        "reflexive": "themselves",
    },
}


def third(verb: str) -> str:
    if verb.endswith(("ss", "x", "ch", "o")):
        return verb + "es"
    return verb[:-1] + "ies" if verb.endswith("ry") or verb.endswith("ly") else verb + "s"


Draft = Callable[[Gender], str]


@st.composite
def sentences(draw: st.DrawFn) -> Draft:
    """A sentence about one person, ready to be told in each gender."""
    frame = draw(st.sampled_from(FRAMES))
    verb, verb2, verb3, base = (draw(st.sampled_from(VERBS)) for _ in range(4))
    no_noun = draw(st.sampled_from(NO_NOUNS))
    act, thing, state = (draw(st.sampled_from(choices)) for choices in (ACTIONS, OBJECTS, STATES))
    adverb = draw(st.sampled_from(ADVERBS))

    def told(gender: Gender) -> str:
        forms = WORDS[gender]
        plural = gender == "neutral"
        finite: dict[str, Any] = {
            "verb": verb if plural else third(verb),
            "verb2": verb2 if plural else third(verb2),
            "verb3": verb3 if plural else third(verb3),
            "no_noun": no_noun if plural else third(no_noun),
            "act": act if plural else third(act),
            "be": "are" if plural else "is",
            "'re": "'re" if plural else "'s",
            "have": "have" if plural else "has",
            "do": "do" if plural else "does",
            "base": base,
            "adverb": adverb,
            "thing": thing.format(**forms),
            "state": state.format(**forms),
        }
        return frame.format(Subject=forms["subject"].title(), Dependent=forms["dependent"].title(), **forms, **finite)

    return told


@st.composite
def texts(draw: st.DrawFn) -> Draft:
    """A text about one person; its first sentence begins with the pronoun."""
    drafts = draw(st.lists(sentences(), min_size=0, max_size=6))
    first = draw(st.sampled_from(["{Subject} {be} calm.", "{Subject} {have} a plan."]))

    def told(gender: Gender) -> str:
        opening = first.format(
            Subject=WORDS[gender]["subject"].title(),
            be="are" if gender == "neutral" else "is",
            have="have" if gender == "neutral" else "has",
        )
        return " ".join([opening, *(draft(gender) for draft in drafts)])

    return told


@given(texts(), st.sampled_from(GENDERS), st.sampled_from(GENDERS))
def test_texts_about_one_person_are_told_in_each_gender(told: Draft, own: Gender, other: Gender) -> None:
    assert gender_of(told(own)) == own
    assert with_gender(told(own), other) == told(other)
    assert ungendered(told(own)) == ungendered(told(other))


@given(texts(), st.sampled_from(GENDERS), st.sampled_from(GENDERS))
def test_a_round_trip_gives_the_text_again(told: Draft, own: Gender, other: Gender) -> None:
    text = told(own)
    assert with_gender(with_gender(text, other), own) == text


WORDS_AND_SIGNS = """She she he they i her Her his HIM them their hers himself themselves 's 're ' ’ " “ ” , . ; — ( /
    or and who is are was has have does do isn't loves love walks not people friends mother widow Mr a an wife sad
    cat"""
SCRAPS = st.lists(st.sampled_from([*WORDS_AND_SIGNS.split(), "\n"])).map(" ".join)


@given(st.one_of(SCRAPS, st.text(max_size=200)), st.sampled_from(GENDERS))
def test_whatever_the_text_the_result_has_the_gender_and_stays(text: str, gender: Gender) -> None:
    result = with_gender(text, gender)
    found = gender_of(result)
    assert result == text or found == gender or (found is None and gender == "neutral")
    if gender_of(text) is None:
        assert result == text
    assert with_gender(result, gender) == result


@given(SCRAPS)
def test_a_key_is_lower_case_words(text: str) -> None:
    key = ungendered(text)
    assert key == " ".join(key.split()) and key == key.casefold()
    assert ungendered(text.upper()) == ungendered(text.lower()) == key


@pytest.mark.parametrize(
    "text",
    [
        "she " * 25_000,
        "They love them and their " * 4_000,
        "her" * 33_000,
        "she is, " * 12_500,
        '"' * 100_000,
        "“" * 100_000,
        "‘a’b" * 25_000,
        "'a" * 50_000,
        "they " + "friends and " * 8_000,
        "a-" * 50_000,
        "n't" * 33_000,
        "She\x00is\x07 " * 10_000,
        "she 🙂🏳️‍🌈 " * 10_000,
        ". " * 50_000,
        "a" * 100_000,
    ],
)
def test_long_and_hostile_texts_come_to_an_end(text: str) -> None:
    assert gender_of(with_gender(text, "neutral")) in ("neutral", gender_of(text))
    assert ungendered(text) == ungendered(text.swapcase())


# Real texts


@pytest.mark.parametrize("text", SEEDS)
def test_seeds_change_their_gender(text: str) -> None:
    own = gender_of(text)
    assert own is not None
    for gender in GENDERS:
        changed = with_gender(text, gender)
        assert gender_of(changed) == gender
        assert ungendered(changed) == ungendered(text)


FLIPPED: dict[Gender, Gender] = {"female": "male", "male": "female"}


@pytest.mark.parametrize(("name", "count", "share"), [("personality.jsonl", 71, 0.98), ("profile.jsonl", 331, 0.99)])
def test_released_texts_make_the_round_trip(name: str, count: int, share: float) -> None:
    """All but 70 of 71 and 330 of 331: the others have a misspelt "SHe" and an "actress"."""
    again = 0
    texts = released(name)
    for text in texts:
        own = gender_of(text)
        assert own in FLIPPED
        flipped = with_gender(text, FLIPPED[own])
        assert gender_of(flipped) == FLIPPED[own]
        assert ungendered(flipped) == ungendered(text)
        again += with_gender(flipped, own) == text
    assert len(texts) == count
    assert again >= share * count


@pytest.mark.parametrize("name", ["personality.jsonl", "profile.jsonl"])
def test_released_texts_are_not_the_same_but_for_gender(name: str) -> None:
    texts = released(name)
    assert len({ungendered(text) for text in texts}) == len(set(texts))
