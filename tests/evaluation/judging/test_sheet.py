from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from interalign.errors import InputError
from interalign.evaluation.judging.sheet import read_sheet, sheet_agreement

TABLE = """item,case,anna,ben,judge
r1,p1,4,5,4
r2,p1,2,,3
r3,p2,1,1,1.5
r4,p2,,,2
r5,p3,5,4,
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "ratings.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_table_is_read_cell_by_cell(tmp_path: Path) -> None:
    sheet = read_sheet(written(tmp_path, TABLE))
    assert sheet.items == ("r1", "r2", "r3", "r4", "r5")
    assert sheet.judge == (4, 3, 1.5, 2, None)
    assert sheet.raters == {"anna": (4, 2, 1, None, 5), "ben": (5, None, 1, None, 4)}
    assert sheet.human == (4.5, 2, 1, None, 4.5)
    assert sheet.shared == (("p1", "p1", "p2", "p2", "p3"),)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_marks_and_other_names_are_read_too(tmp_path: Path, mark: str) -> None:
    text = "\ufeff" + TABLE.replace(",", mark).replace("judge", "gpt").replace("\n", "\r\n")
    assert read_sheet(written(tmp_path, text), "gpt").judge == (4, 3, 1.5, 2, None)


def test_profiles_and_personalities_are_crossed_where_no_case_is_named(tmp_path: Path) -> None:
    text = "item,profile,personality,human,judge\na,1,x,2,2\nb,1,y,3,3\nc,2,x,4,5\n"
    assert read_sheet(written(tmp_path, text)).shared == (("1", "1", "2"), ("x", "y", "x"))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no column item"),
        ("item,judge\n1,2\n", "no column of a person's scores"),
        ("item,human\n1,2\n", "no column judge"),
        ("item,human,judge\n", "no column item, or no row"),
        ("item,human,judge\na,1,2\na,1,2\n", "'a' twice"),
        ("item,human,judge\na,good,2\n", "human is 'good', which is no number"),
        ("item,human,judge\na,nan,2\n", "no number"),
        ("item,human,judge\na,1\n", "a row of 2 cells under 3 names"),
        ("item,human,human,judge\na,1,2,2\n", "two columns of one name"),
        ('item,human,judge\n"a,1,2\n', "is not CSV"),
        (b"item,human,judge\n\xff,1,2\n", "not UTF-8"),
    ],
)
def test_a_table_that_cannot_be_read_is_told_of(tmp_path: Path, text: str | bytes, what: str) -> None:
    with pytest.raises(InputError, match=what):
        read_sheet(written(tmp_path, text))


def test_a_table_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_sheet(tmp_path / "none.csv")


def rated(folder: Path, noise: float, people: int = 3) -> Path:
    random = np.random.default_rng(0)
    truth = random.uniform(1, 5, 80)
    columns = [np.clip(np.round(truth + random.normal(0, 0.7, 80)), 1, 5) for _ in range(people)]
    judge = np.clip(np.round(truth + random.normal(0, noise, 80)), 1, 5)
    rows = [
        ",".join(map(str, [place, place // 4, *(column[place] for column in columns), judge[place]]))
        for place in range(80)
    ]
    header = ",".join(["item", "case", *(f"person {one}" for one in range(people)), "judge"])
    return written(folder, "\n".join([header, *rows]))


def test_a_good_judge_agrees_as_people_do_and_a_bad_one_less(tmp_path: Path) -> None:
    good, bad = (sheet_agreement(read_sheet(rated(tmp_path, noise)), resamples=200) for noise in (0.5, 3))
    assert good.people is not None and good.people == bad.people
    assert good.everybody is not None and bad.everybody is not None
    judge, *people = good.everybody.members
    assert (judge.judge, [one.judge for one in people]) == ("judge", [f"person {one} (person)" for one in range(3)])
    assert (judge.with_others.value or 0) > min(one.with_others.value or 0 for one in people) - 0.05
    assert (bad.everybody.members[0].with_others.high or 1) < (judge.with_others.low or 0)
    assert (bad.calibration_error or 0) > (good.calibration_error or 0)


def test_one_person_alone_has_nobody_to_agree_with(tmp_path: Path) -> None:
    found = sheet_agreement(read_sheet(rated(tmp_path, 0.5, people=1)), resamples=100)
    assert found.people is None and found.everybody is None
    assert found.judge.items == 80
