from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.personas.gender import GENDERS, Gender, gender_of, ungendered, with_gender
from tests.personas.gender.drafts import SCRAPS, Draft, texts
from tests.personas.gender.real_texts import SEEDS, released

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
    ("Each question of his begins softly.", "Each question of hers begins softly."),
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
    ("She has a degree in law and works for a firm.", "They have a degree in law and work for a firm."),
    ("He is shy and loves to be alone.", "They are shy and love to be alone."),
    ("- She cooks\nand bakes.\n- She naps.", "- They cook\nand bake.\n- They nap."),
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


@given(texts(), st.sampled_from(GENDERS), st.sampled_from(GENDERS))
def test_texts_about_one_person_are_told_in_each_gender(told: Draft, own: Gender, other: Gender) -> None:
    assert gender_of(told(own)) == own
    assert with_gender(told(own), other) == told(other)
    assert ungendered(told(own)) == ungendered(told(other))


@given(texts(), st.sampled_from(GENDERS), st.sampled_from(GENDERS))
def test_a_round_trip_gives_the_text_again(told: Draft, own: Gender, other: Gender) -> None:
    text = told(own)
    assert with_gender(with_gender(text, other), own) == text


@given(st.one_of(SCRAPS, st.text(max_size=200)), st.sampled_from(GENDERS))
def test_whatever_the_text_the_result_has_the_gender_and_stays(text: str, gender: Gender) -> None:
    result = with_gender(text, gender)
    found = gender_of(result)
    assert result == text or found == gender or (found is None and gender == "neutral")
    if gender_of(text) is None:
        assert result == text
    assert with_gender(result, gender) == result


@pytest.mark.parametrize(
    "text",
    [
        "she " * 10_000,
        "They love them and their " * 1_600,
        "her" * 13_200,
        "she is, " * 12_500,
        '"' * 40_000,
        "“" * 40_000,
        "‘a’b" * 10_000,
        "'a" * 20_000,
        "they " + "friends and " * 3_200,
        "a-" * 20_000,
        "n't" * 13_200,
        "She\x00is\x07 " * 4_000,
        "she 🙂🏳️‍🌈 " * 4_000,
        ". " * 20_000,
        "a" * 40_000,
    ],
)
def test_long_and_hostile_texts_come_to_an_end(text: str) -> None:
    assert gender_of(with_gender(text, "neutral")) in ("neutral", gender_of(text))
    assert ungendered(text) == ungendered(text.swapcase())


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
