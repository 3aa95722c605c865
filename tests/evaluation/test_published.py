from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.errors import InputError
from interalign.evaluation.metrics import curve_metrics
from interalign.evaluation.published import Curve, read_curves, record_of

TABLE = Path(__file__).parents[3] / "shared" / "published" / "alignment_levels.csv"


def read(folder: Path, text: str, name: str = "levels.csv") -> list[Curve]:
    path = folder / name
    path.write_bytes(text.encode("utf-8"))
    return read_curves(path)


@pytest.mark.skipif(not TABLE.exists(), reason="the table of published levels is not beside this checkout")
def test_the_published_table_is_reproduced_to_three_decimals() -> None:
    curves = read_curves(TABLE)
    assert curves
    for curve in curves:
        record = record_of(curve)
        for name in ("n_ir", "n_r2"):
            computed = record[name]
            assert isinstance(computed, float)
            assert f"{computed:.3f}" == record[f"given_{name}"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "model,al1,al2,al3\nours,1,2.5,\n"),
        ("a.csv", "\ufeffmodel;al1;al2;al3\r\nours;1;2,5;\r\n\r\n"),
        ("a.tsv", "model\tAL1\tAL2\tAL3\nours\t1\t2.5\t\n"),
        ("a.csv", "al3,al1,model,al2\n,1,ours,2.5\n"),
        ("a.jsonl", '{"model": "ours", "al1": 1, "al2": 2.5, "al3": null}\n\n'),
        ("a.csv", 'model, AL(1), AL(2), AL(3)\n"ours", 1, 2.5,\n'),
    ],
)
def test_all_ways_to_write_a_table(tmp_path: Path, name: str, text: str) -> None:
    (curve,) = read(tmp_path, text, name)
    assert curve.al == (1, 2.5, None)
    assert curve.labels == {"model": "ours"}


def test_an_absent_key_of_json_lines_is_a_missing_turn(tmp_path: Path) -> None:
    first, second = read(tmp_path, '{"al1": 1, "al2": 2, "n": 3}\n{"al1": 4}\n', "a.jsonl")
    assert (first.labels, second.al) == ({"n": 3}, (4, None))


def test_one_turn_has_a_level_and_no_slope(tmp_path: Path) -> None:
    (curve,) = read(tmp_path, "al1\n3\n")
    assert record_of(curve) == {"mean_al": 3, "ir": None, "r2": None, "n_ir": None, "n_r2": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no curve"),
        ("al1,al2\n", "no curve"),
        ("model,score\nours,3\n", "no column al1, al2.*'model', 'score'"),
        ("al1,al3\n1,2\n", "no column al2, but al3"),
        ("al0,al1\n1,2\n", "column for turn 0"),
        ("al1,AL1\n1,2\n", "'al1' and 'AL1' are both turn 1"),
        ("al1,al1\n1,2\n", "'al1' stands twice"),
        ("model,al1,al2\nours,1,2\ntheirs,1,high\n", r"levels.csv, line 3, column al2: 'high' is no number"),
        ("al1,al2\n1,nan\n", "column al2: 'nan'"),
        ("al1,al2\n1,1e999\n", "is no number"),
        ("al1,al2\n1,2,3\n", "line 2: 3 cells under 2 columns"),
        ('al1,al2\n1,"2\n', "line 2"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, text)
    assert caught.value.mend


@pytest.mark.parametrize(
    "text", ["[1]\n", "oops\n", '{"al1": [1]}\n', '{"al1": true}\n', '{"al1": NaN}\n', '{"al1": 1, "x": NaN}\n']
)
def test_json_lines_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="line 1"):
        read(tmp_path, text, "a.jsonl")


def test_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_curves(tmp_path / "absent.csv")
    path = tmp_path / "latin.csv"
    path.write_bytes("al1,größe\n1,2\n".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_curves(path)


@given(al=st.lists(st.none() | st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=8))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, al: list[float | None]) -> None:
    header = ",".join(["name", *(f"al{turn}" for turn in range(1, len(al) + 1))])
    cells = ",".join(["x", *("" if level is None else repr(level) for level in al)])
    (curve,) = read(tmp_path_factory.mktemp("levels"), f"{header}\n{cells}\n")
    assert list(curve.al) == al
    assert curve.metrics == curve_metrics(al)
