from __future__ import annotations

import pytest

from interalign.personas.gender import GENDERS, Gender, gender_of, with_gender

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


@pytest.mark.parametrize("gender", GENDERS)
@pytest.mark.parametrize("text", [text for text, gender in GENDER_CASES if gender is None])
def test_nothing_changes_where_no_gender_is_told(text: str, gender: Gender) -> None:
    assert with_gender(text, gender) == text
