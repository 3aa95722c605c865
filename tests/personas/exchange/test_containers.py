from __future__ import annotations

import csv
import errno
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interalign.errors import InputError, MissingExtra
from interalign.personas.exchange import read_pool, write_dataset
from tests.personas.exchange.pools import BAKER, GUARD, MOODY, WORLD, stored, table, texts, told

# Lines.


def test_a_line_may_hold_several_strings_and_escapes(tmp_path: Path) -> None:
    path = stored(tmp_path, "profile.jsonl", f'"{BAKER}""Zo\\u00eb swims." "{GUARD}"', "", "  ", '"Ren\\u00e9 rows."\r')
    imported = read_pool(path)
    assert texts(imported) == [BAKER, "Zoë swims.", GUARD, "René rows."]
    assert imported.notes == ("profile.jsonl, line 1 holds 3 strings",)
    assert imported.problems == ()


def test_a_line_with_a_stray_quote_is_left_out_whole(tmp_path: Path) -> None:
    imported = read_pool(stored(tmp_path, "profile.jsonl", '"Friends call her "Bo" at work."', f'"{BAKER}"'))
    assert texts(imported) == [BAKER]
    assert [problem.place for problem in imported.problems] == ["profile.jsonl, line 1"]


def test_plain_text_holds_one_description_a_line(tmp_path: Path) -> None:
    path = stored(
        tmp_path, "profiles.txt", "\ufeff" + BAKER + "\r", "", '"Quoted" is what they call him.', f'"{GUARD}"'
    )
    assert texts(read_pool(path)) == [BAKER, '"Quoted" is what they call him.', GUARD]


def test_json_under_a_plain_name_is_told_by_its_content(tmp_path: Path) -> None:
    path = stored(tmp_path, "people.txt", json.dumps({"profile": BAKER, "personality": MOODY}), '{"profile": "cut')
    imported = read_pool(path)
    assert len(imported.personas) == 1
    assert told(imported) == [("people.txt, line 2", "is not JSON: Unterminated string starting at column 13", False)]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('"cut', "is not JSON: Unterminated string starting at column 1"),
        ("She bakes.", "is not JSON: Expecting value at column 1"),
        (b'"caf\xe9"', "byte 5 is not UTF-8 text"),
        ("[" * 100_000, "is not JSON that can be read"),
        ("9" * 10_000, "is not JSON that can be read"),
        (json.dumps("a" * 10_000_000), "is longer than 1,000,000 bytes"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_read_is_a_problem_with_its_place(tmp_path: Path, line: str | bytes, what: str) -> None:
    imported = read_pool(stored(tmp_path, "profile.jsonl", f'"{BAKER}"', line, f'"{GUARD}"'))
    assert texts(imported) == [BAKER, GUARD]
    assert told(imported) == [("profile.jsonl, line 2", what, False)]


# Tables.


def test_csv_with_a_mark_quoted_newlines_and_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["n", " Profile ", "personality", "split"])
        rows.writerow([1, "She bakes.\nShe sings.", 'Says "no", often.', "test"])
        rows.writerow([])
        rows.writerow([2, GUARD, "", ""])
        rows.writerow([3, BAKER, MOODY, "train"])
    imported = read_pool(path)
    assert [persona.profile for persona in imported.personas] == ["She bakes.\nShe sings.", BAKER]
    assert [persona.split for persona in imported.personas] == ["heldout", "train"]
    assert imported.personas[0].personality == 'Says "no", often.'
    assert texts(imported) == [GUARD]
    assert imported.problems == ()


def test_csv_names_the_line_of_a_bad_row(tmp_path: Path) -> None:
    path = stored(
        tmp_path, "x.csv", "n,persona", '1,"two\nlines"', "2,She bakes, sings", b"3,caf\xe9 owner", "4", f"5,{BAKER}"
    )
    imported = read_pool(path)
    assert texts(imported) == ["two\nlines", BAKER]
    assert told(imported) == [
        ("x.csv, line 4", "has 3 cells where the header has 2", False),
        ("x.csv, line 5", "holds bytes that are not UTF-8 text", False),
        ("x.csv, line 6", "has none of the fields profile, personality, persona, text", False),
    ]


def test_csv_goes_on_after_a_huge_cell_and_stops_in_an_open_quotation(tmp_path: Path) -> None:
    huge = "a" * 200_000
    imported = read_pool(stored(tmp_path, "x.csv", "persona", huge, BAKER))
    assert texts(imported) == [BAKER]
    assert [problem.place for problem in imported.problems] == ["x.csv, line 2"]
    imported = read_pool(stored(tmp_path, "x.csv", "persona", BAKER, '"open', huge, GUARD))
    assert texts(imported) == [BAKER]
    assert "the rest is not read" in imported.problems[-1].what


def test_parquet_columns_become_records(tmp_path: Path) -> None:
    path = table(tmp_path / "x.parquet", {"persona": [BAKER, None, GUARD], "id": [1, 2, 3], "emb": [[0.1], [], []]})
    imported = read_pool(path)
    assert texts(imported) == [BAKER, GUARD]
    assert told(imported) == [("x.parquet, row 2", "is empty", False)]


def test_parquet_text_that_is_no_text_is_a_problem(tmp_path: Path) -> None:
    import pyarrow

    broken = pyarrow.array([b"\xff\xfe", BAKER.encode()]).view(pyarrow.string())
    imported = read_pool(table(tmp_path / "x.parquet", {"persona": broken}))
    assert texts(imported) == [BAKER]
    assert told(imported) == [("x.parquet, row 1", "holds bytes that are not UTF-8 text", False)]
    with pytest.raises(InputError, match="row 1: holds a number, not a text"):
        read_pool(table(tmp_path / "y.parquet", {"persona": [7]}))


def test_tables_need_an_extra_and_lines_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert texts(read_pool(stored(tmp_path, "profile.jsonl", f'"{BAKER}"'))) == [BAKER]
    with pytest.raises(MissingExtra, match=r"interalign\[personas\]"):
        read_pool(stored(tmp_path, "x.parquet", "PAR1"))


# Folders.


def test_a_saved_dataset_is_read(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    train = Dataset.from_dict({"profile": [BAKER, GUARD], "personality": [MOODY, MOODY], "n": [1, 2]})
    test = Dataset.from_dict({"profile": ["She rows."], "personality": [MOODY], "n": [3]})
    DatasetDict(train=train, test=test).save_to_disk(tmp_path / "both")
    train.save_to_disk(tmp_path / "one", num_shards=2)
    imported = read_pool(tmp_path / "both")
    assert [(persona.profile, persona.split) for persona in imported.personas] == [
        (BAKER, "train"),
        (GUARD, "train"),
        ("She rows.", "heldout"),
    ]
    assert [persona.profile for persona in read_pool(tmp_path / "one").personas] == [BAKER, GUARD]
    labels = Features(persona=Value("large_string"), split=ClassLabel(names=["a"]))
    Dataset.from_dict({"persona": [BAKER], "split": [0]}, features=labels).save_to_disk(tmp_path / "labels")
    assert read_pool(tmp_path / "labels").notes == ('records of the split "0", as train: 1',)


def test_only_the_files_that_a_saved_dataset_names_are_read(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"persona": [BAKER]}).save_to_disk(tmp_path / "set")
    (file,) = (tmp_path / "set").glob("*.arrow")
    (tmp_path / "set" / "data-00000-of-00002.arrow").write_bytes(file.read_bytes())
    assert texts(read_pool(tmp_path / "set")) == [BAKER]
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(InputError, match="cannot be read"):
        read_pool(tmp_path / "set")
    (tmp_path / "set" / "state.json").write_text("{}")
    with pytest.raises(InputError, match=r"state\.json does not name"):
        read_pool(tmp_path / "set")


def test_a_folder_as_on_the_hub_is_read(tmp_path: Path) -> None:
    table(tmp_path / "data" / "train-00000-of-00001.parquet", {"profile": [BAKER], "personality": [MOODY]})
    stored(tmp_path, "extra/held_out.jsonl", json.dumps({"profile": GUARD, "personality": MOODY}))
    stored(tmp_path, "latest.csv", "profile,personality", "She rows.,Calm.")
    stored(tmp_path, "README.md", "# Card")
    stored(tmp_path, "requirements.txt", "datasets")
    stored(tmp_path, ".cache/old.jsonl", json.dumps(GUARD))
    imported = read_pool(tmp_path)
    assert {(persona.profile, persona.split) for persona in imported.personas} == {
        (BAKER, "train"),
        ("She rows.", "train"),
        (GUARD, "heldout"),
    }
    assert imported.descriptions == imported.problems == ()
    assert imported.notes == ("extra/held_out.jsonl counts as held-out by its name",)


def test_one_broken_file_does_not_spoil_a_folder(tmp_path: Path) -> None:
    stored(tmp_path, "a.parquet", "not a table")
    table(tmp_path / "b.parquet", {"x": [1]})
    stored(tmp_path, "c.jsonl", json.dumps({"persona": BAKER}))
    imported = read_pool(tmp_path)
    assert texts(imported) == [BAKER]
    assert [problem.place for problem in imported.problems] == ["a.parquet", "b.parquet"]
    assert "none of the columns" in imported.problems[1].what


def test_a_held_out_file_alone_stays_held_out(tmp_path: Path) -> None:
    write_dataset(tmp_path, WORLD, {})
    assert {persona.split for persona in read_pool(tmp_path / "data" / "heldout.parquet").personas} == {"heldout"}
    assert {persona.split for persona in read_pool(tmp_path / "data" / "train.parquet").personas} == {"train"}


# What cannot be used at all.


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda folder: folder / "none.jsonl", "does not exist"),
        (lambda folder: stored(folder, "x.docx", "text"), r"ends in \.docx"),
        (lambda folder: stored(folder, "x", "text"), "ends in no suffix"),
        (lambda folder: stored(folder, "x.jsonl"), "holds no records"),
        (lambda folder: stored(folder, "x.csv"), "holds no records"),
        (lambda folder: stored(folder, "x.csv", "name,age", "Ada,3"), 'none of the columns .* "name", "age"'),
        (lambda folder: stored(folder, "x.parquet", "PAR1"), "cannot be read"),
        (lambda folder: table(folder / "x.parquet", {"a": [1]}), 'none of the columns .* "a"'),
        (lambda folder: folder, "holds no records"),
        (lambda folder: stored(folder, "profile.jsonl/notes.md", "text").parent, "holds no records"),
    ],
)
def test_what_holds_nothing_is_an_input_error(tmp_path: Path, make: Callable[[Path], Path], what: str) -> None:
    with pytest.raises(InputError, match=what) as caught:
        read_pool(make(tmp_path))
    assert caught.value.mend


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with a name")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jsonl")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        read_pool(tmp_path / "x.jsonl")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="rights bind everybody but root")
def test_a_file_without_rights_is_an_input_error(tmp_path: Path) -> None:
    closed = stored(tmp_path, "profile.jsonl", f'"{BAKER}"')
    closed.chmod(0)
    with pytest.raises(InputError, match=os.strerror(errno.EACCES)):
        read_pool(closed)
    room = stored(tmp_path, "room/profile.jsonl", f'"{BAKER}"')
    room.parent.chmod(0)
    with pytest.raises(InputError, match=os.strerror(errno.EACCES)):
        read_pool(room)
    room.parent.chmod(0o700)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that opens and cannot be read")
def test_a_file_that_fails_while_it_is_read_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "profile.jsonl").symlink_to("/proc/self/mem")
    with pytest.raises(InputError, match=os.strerror(errno.EIO)):
        read_pool(tmp_path / "profile.jsonl")


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text exist on Linux only")
def test_a_name_that_is_no_text_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/profile-\xff.jsonl"))
    path.write_text(f'"{BAKER}"\n5\n')
    assert read_pool(path).problems[0].place == "profile-\N{REPLACEMENT CHARACTER}.jsonl, line 2"


@settings(max_examples=200)
@given(st.binary(max_size=300), st.sampled_from(["profile.jsonl", "persona.csv", "profile.txt", "x.parquet"]))
def test_no_bytes_break_the_reader(data: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(b"persona\n" + data if name.endswith(".csv") else data)
        try:
            imported = read_pool(path)
        except InputError:
            return
        assert imported.descriptions or imported.personas
        assert all(any(map(str.isalpha, text)) for text in texts(imported))
