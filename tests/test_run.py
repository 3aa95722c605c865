from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interalign.errors import InputError, RunBusy, RunMismatch, StorageError
from interalign.messages import Message, Value
from interalign.run import (
    RunFolder,
    Shelf,
    Stored,
    beside,
    derive_seed,
    read_json,
    read_jsonl,
    storage_errors,
    write_json,
    write_jsonl,
    write_text,
    writing,
)

RECIPE = 'seed = 1\n[personas]\ncount = 40\nkind = "rule"\n'
PARTS = st.lists(st.one_of(st.text(), st.integers(-(2**70), 2**70)))


class Row(Value):
    number: int
    texts: tuple[str, ...] = ()
    said: Message | None = None


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def holding(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the run folder until it is killed."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom interalign.run import RunFolder\n"
        f"with RunFolder.open(Path(sys.argv[1]), {RECIPE!r}, versions={{}}):\n"
        "    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_writing_shows_nothing_before_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.parquet"
    with writing(path) as beside:
        beside.write_bytes(b"whole")
        assert beside.parent == path.parent
        assert beside.name.startswith(".")
        assert beside.suffix == ".parquet"
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert names(path.parent) == ["table.parquet"]


def test_writing_leaves_the_old_file_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), writing(path) as beside:
        beside.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["rows.jsonl"]


def test_writing_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "trees.jsonl"
    link.symlink_to(tmp_path / "disk" / "trees.jsonl")
    write_text(link, "rows")
    assert link.is_symlink()
    assert (tmp_path / "disk" / "trees.jsonl").read_text() == "rows"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the full device of Linux")
def test_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with (
        pytest.raises(StorageError, match="finished work is kept") as caught,
        writing(path),
        open("/dev/full", "w") as full,
    ):
        full.write("x")
    assert str(path) in caught.value.what
    assert names(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_errors_of_the_disk_say_how_to_mend_them(tmp_path: Path, code: int) -> None:
    with pytest.raises(StorageError) as caught, storage_errors(tmp_path / "rows.jsonl"):
        raise OSError(code, os.strerror(code))
    assert os.strerror(code) in caught.value.what
    assert str(tmp_path) in (caught.value.mend or "")


def test_an_error_at_another_place_names_it(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"\(/elsewhere/rows\)"), storage_errors(tmp_path / "rows.jsonl"):
        raise PermissionError(errno.EACCES, "denied", "/elsewhere/rows")
    with pytest.raises(StorageError, match=r"denied\."), storage_errors(tmp_path / "rows.jsonl"):
        raise PermissionError(errno.EACCES, "denied", 3)


def test_a_place_where_nothing_can_be_made_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="choose another place with --out"), storage_errors(tmp_path / "rows.jsonl"):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(tmp_path / "rows.jsonl"))


def test_errors_that_are_not_of_the_disk_pass_through(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError), writing(tmp_path / "rows.jsonl"):
        raise ConnectionResetError(errno.ECONNRESET, "reset")


def test_a_file_in_the_way_of_a_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "eval").write_text("")
    with pytest.raises(StorageError, match="move away"):
        write_text(tmp_path / "eval" / "base" / "summary.json", "{}")
    (tmp_path / "report.html").mkdir()
    with pytest.raises(StorageError, match="move away"):
        write_text(tmp_path / "report.html", "")


def test_write_json_takes_values_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_json(path, {"rows": [Row(number=1, texts=("\N{ELECTRIC LIGHT BULB}",))], "at": path})
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "rows": [{"number": 1, "texts": ["\N{ELECTRIC LIGHT BULB}"], "said": None}],
        "at": str(path),
    }
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"gap": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8"))["at"] == str(path)


@settings(deadline=None)
@given(st.lists(st.builds(Row, number=st.integers(), texts=st.lists(st.text()).map(tuple))))
def test_jsonl_round_trip(rows: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write_jsonl(path, rows)
        assert read_jsonl(path, Row) == rows


@given(
    st.lists(st.builds(Row, number=st.integers(), texts=st.tuples(st.text())), max_size=8),
    st.lists(st.sampled_from([b"\n", b"  \n", b"\r\n"]), max_size=3),
    st.slices(8),
)
def test_stored_values_are_those_of_the_file(rows: list[Row], blank: list[bytes], part: slice) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write_jsonl(path, rows)
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[:1], *blank, *lines[1:]]))
        stored = Stored(path, Row)
        assert list(stored) == [stored[place] for place in range(len(stored))] == rows
        assert list(stored[part]) == rows[part]
        backwards = stored.picked(range(len(rows) - 1, -1, -1))
        assert list(backwards) == rows[::-1] and list(backwards[part]) == rows[::-1][part]
        assert list(pickle.loads(pickle.dumps(stored))) == rows
        by_number = Shelf(stored, lambda row: str(row.number))
        assert dict(by_number) == {str(row.number): row for row in rows}
        assert all(name in by_number for name in by_number) and "none" not in by_number


def test_a_stored_line_that_is_no_value_is_found_when_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"number": 1}\n\n{"number": "x"}\n{"number": 3}')
    stored = Stored(path, Row)
    assert (stored[0].number, stored[-1].number, len(stored)) == (1, 3, 3)
    for find in (lambda: stored[1], lambda: list(stored), lambda: Shelf(stored, str)):
        with pytest.raises(InputError, match=r"line 3: number: "):
            find()
    with pytest.raises(IndexError):
        stored[3]


def test_a_stored_file_that_changes_or_goes_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with pytest.raises(InputError, match="does not exist"):
        Stored(path, Row)
    write_jsonl(path, [Row(number=1), Row(number=2)])
    stored = Stored(path, Row)
    write_jsonl(path, [Row(number=1), Row(number=2), Row(number=3)])
    for find in (lambda: stored[0], lambda: list(stored)):
        with pytest.raises(InputError, match="has changed while it was read"):
            find()
    path.unlink()
    with pytest.raises(InputError, match="does not exist"):
        stored[0]


def test_what_is_written_beside_is_gone_after_the_block(tmp_path: Path) -> None:
    with pytest.raises(KeyError), beside(tmp_path / "new" / "rows.jsonl") as place:
        place.write_text("half")
        assert place.parent == tmp_path / "new" and place.suffix == ".jsonl"
        raise KeyError
    assert names(tmp_path / "new") == []


def test_write_jsonl_leaves_nothing_when_the_values_fail(tmp_path: Path) -> None:
    def values() -> Iterator[Row]:
        yield Row(number=1)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_jsonl(tmp_path / "rows.jsonl", values())
    assert names(tmp_path) == []


def test_read_jsonl_skips_blank_lines_and_needs_no_last_line_end(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"number": 1}\r\n\n   \n{"number": 2}')
    assert read_jsonl(path, Row) == [Row(number=1), Row(number=2)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"number": 2, "tex', "line 3: Invalid JSON: EOF while parsing a string at column 18. "),
        (b'{"number": "two"}', "line 3: number: Input should be a valid integer"),
        (b'{"number": 2, "said": {"role": "user"}}', "line 3: said.content: Field required. "),
        (b'{"numbers": 2, "x": 1}', "line 3: number: Field required (and 2 more). "),
        (b'{"number": 2, "texts": ["\xe9"]}', "line 3: byte 26 is not UTF-8 text. "),
        (b"\x00\x01", "line 3: Invalid JSON"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: bytes, said: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"number": 1}\n\n' + line + b"\n")
    with pytest.raises(InputError) as caught:
        read_jsonl(path, Row)
    assert f"{path}, {said}" in str(caught.value)
    assert "delete the file and run the stage" in str(caught.value)


def test_a_file_that_is_missing_or_a_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_jsonl(tmp_path / "rows.jsonl", Row)
    with pytest.raises(InputError, match="run `interalign simulate` first"):
        read_jsonl(tmp_path / "trees.jsonl", Row)
    with pytest.raises(InputError, match="run `interalign eval` first"):
        read_json(tmp_path / "summary.json", Row)
    with pytest.raises(InputError, match="cannot be read"):
        read_jsonl(tmp_path, Row)


def test_seeds_are_fixed_for_ever() -> None:
    # A change of these numbers would make every run of before another run.
    assert derive_seed(0) == 7520536977032167579
    assert derive_seed(7, "a1b2", 3, "judge", 0) == 9089342815089580700


@settings(deadline=None)
@given(st.integers(), PARTS)
def test_seeds_have_63_bits_and_depend_on_the_arguments_alone(run_seed: int, parts: list[str | int]) -> None:
    seed = derive_seed(run_seed, *parts)
    assert 0 <= seed < 2**63
    assert derive_seed(run_seed, *parts) == seed


@settings(deadline=None)
@given(st.integers(), PARTS, st.integers(), PARTS)
def test_other_arguments_give_another_seed(a: int, left: list[str | int], b: int, right: list[str | int]) -> None:
    assert (derive_seed(a, *left) == derive_seed(b, *right)) == ((a, left) == (b, right))


def test_seeds_keep_borders_and_types_of_parts() -> None:
    parts: list[tuple[str | int, ...]] = [
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        ('ab","c',),
        (1,),
        ("1",),
        (1, ""),
        ("", 1),
    ]
    assert len({derive_seed(0, *some) for some in parts}) == len(parts)


def test_run_folder_is_made_on_first_use(tmp_path: Path) -> None:
    root = tmp_path / "runs" / "one"
    with RunFolder.open(root, RECIPE, versions={"torch": "2.13"}) as run:
        assert run.root == root
        assert (root / "recipe.toml").read_text() == RECIPE
        assert json.loads((root / "versions.json").read_text()) == {"torch": "2.13"}
    assert ".holder.json" not in names(root)


def test_run_folder_names_its_files() -> None:
    run = RunFolder(Path("run"))
    paths = [run.personas, run.heldout, run.trees, run.preferences, run.models, run.eval, run.report, run.journal]
    assert [str(path.relative_to("run")) for path in paths] == [
        "personas.jsonl",
        "heldout.jsonl",
        "trees.jsonl",
        "preferences",
        "models",
        "eval",
        "report.html",
        "journal.sqlite",
    ]


def test_the_same_recipe_in_another_writing_continues_the_run(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, RECIPE, versions={}):
        pass
    with RunFolder.open(tmp_path, "# again\n" + RECIPE.replace('"', "'"), versions={"torch": "2.14"}):
        assert (tmp_path / "recipe.toml").read_text() == RECIPE
        assert json.loads((tmp_path / "versions.json").read_text()) == {"torch": "2.14"}


def test_another_recipe_is_refused_by_the_keys_that_differ(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, RECIPE, versions={"torch": "1"}) as run:
        write_jsonl(run.personas, [])
    other = 'seed = 1\n[personas]\ncount = true\n[judge]\nmodel = "x"\n'
    with pytest.raises(RunMismatch) as caught, RunFolder.open(tmp_path, other, versions={"torch": "2"}):
        pass
    assert caught.value.what == (
        f"{tmp_path} was made by a recipe with other values: "
        'judge.model: (absent) -> "x"; personas.count: 40 -> true; personas.kind: "rule" -> (absent).'
    )
    assert "--out" in (caught.value.mend or "")
    # A refused run has changed nothing and holds nothing.
    assert json.loads((tmp_path / "versions.json").read_text()) == {"torch": "1"}
    with RunFolder.open(tmp_path, RECIPE, versions={}):
        pass


def test_another_recipe_takes_the_place_of_one_by_which_nothing_was_made(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, RECIPE, versions={}) as run:
        write_jsonl(run.pool / "import_problems.jsonl", [])
    other = RECIPE.replace("40", "41")
    with RunFolder.open(tmp_path, other, versions={}) as run:
        assert (tmp_path / "recipe.toml").read_text() == other
        write_jsonl(run.models / "sft" / "log.jsonl", [])
    with pytest.raises(RunMismatch), RunFolder.open(tmp_path, RECIPE, versions={}):
        pass
    assert (tmp_path / "recipe.toml").read_text() == other


def test_a_linked_folder_counts_as_made(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    with RunFolder.open(tmp_path / "run", RECIPE, versions={}) as run:
        run.models.symlink_to(tmp_path / "disk")
    with pytest.raises(RunMismatch), RunFolder.open(tmp_path / "run", "", versions={}):
        pass


def test_many_differences_are_counted(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, "\n".join(f"k{i} = 1" for i in range(20)), versions={}) as run:
        write_jsonl(run.personas, [])
    with pytest.raises(RunMismatch, match="and 12 more"), RunFolder.open(tmp_path, "", versions={}):
        pass


def test_a_run_folder_in_use_is_refused(tmp_path: Path) -> None:
    process = holding(tmp_path)
    try:
        in_use = pytest.raises(RunBusy, match=f"process {process.pid} on ")
        with in_use as caught, RunFolder.open(tmp_path, RECIPE, versions={}):
            pass
        assert "--out" in (caught.value.mend or "")
    finally:
        process.communicate()
    with RunFolder.open(tmp_path, RECIPE, versions={}):
        pass


def test_a_run_folder_is_held_once_within_a_process_too(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, RECIPE, versions={}):
        with pytest.raises(RunBusy, match=f"process {os.getpid()} on "), RunFolder.open(tmp_path, RECIPE, versions={}):
            pass
        (tmp_path / ".holder.json").unlink()
        with pytest.raises(RunBusy, match="another process"), RunFolder.open(tmp_path, RECIPE, versions={}):
            pass


def test_a_killed_process_blocks_nothing_and_its_remains_are_removed(tmp_path: Path) -> None:
    process = holding(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / ".holder.json").exists()
    half = tmp_path / "models" / ".interalign-0123456789abcdef-model.safetensors"
    half.parent.mkdir()
    half.write_bytes(b"half")
    mine = tmp_path / ".interalign-notes.txt"
    mine.write_text("kept")
    with RunFolder.open(tmp_path, RECIPE, versions={}):
        assert not half.exists()
        assert mine.exists()


def test_a_path_or_a_recipe_that_cannot_be_used_is_an_input_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match="is a file"), RunFolder.open(file, RECIPE, versions={}):
        pass
    with pytest.raises(InputError, match="not TOML"), RunFolder.open(tmp_path / "a", "seed = ", versions={}):
        pass
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "recipe.toml").write_bytes(b"\xff")
    unreadable = pytest.raises(InputError, match=r"recipe\.toml cannot be read")
    with unreadable, RunFolder.open(tmp_path / "b", RECIPE, versions={}):
        pass
    with pytest.raises(StorageError), RunFolder.open(file / "run", RECIPE, versions={}):
        pass


def test_a_trial_with_scripts_settles_nothing_of_the_simulation(tmp_path: Path) -> None:
    scripted = "seed = 1\n[simulate.roles.user]\nmodels = [{model = {backend = 'scripted'}}]\n"
    real = scripted.replace("'scripted'", "'endpoint'")
    for folder in ("trial", "grown", "trained", "real"):
        with RunFolder.open(tmp_path / folder, real if folder == "real" else scripted, versions={}) as run:
            run.trees.write_text("{}\n")
    (tmp_path / "trained" / "models").mkdir()
    (tmp_path / "trained" / "models" / "sft").write_text("")
    with RunFolder.open(tmp_path / "trial", real, versions={}):
        assert "endpoint" in (tmp_path / "trial" / "recipe.toml").read_text()
    for folder, recipe, free in (
        ("trial", scripted, ()),
        ("grown", real, ("simulate.turns",)),
        ("trained", real, ()),
        ("real", scripted, ()),
        ("grown", real.replace("seed = 1", "seed = 2"), ()),
    ):
        with pytest.raises(RunMismatch), RunFolder.open(tmp_path / folder, recipe, versions={}, free=free):
            pass


def test_a_table_may_change_until_a_stage_that_it_decides_has_begun(tmp_path: Path) -> None:
    first = "seed = 1\n[simulate]\nturns = 5\n[train]\nbase = 'a'\n"
    with RunFolder.open(tmp_path, first, versions={}) as run:
        run.personas.write_text("{}\n")
        run.begin("simulate")
    with RunFolder.open(tmp_path, first.replace("'a'", "'b'"), versions={}):
        assert "'b'" in (tmp_path / "recipe.toml").read_text()
    for changed in (first.replace("turns = 5", "turns = 6"), first.replace("seed = 1", "seed = 2")):
        with pytest.raises(RunMismatch), RunFolder.open(tmp_path, changed, versions={}):
            pass
    (tmp_path / "models").mkdir()
    with pytest.raises(RunMismatch, match=r"train\.base"), RunFolder.open(tmp_path, first, versions={}):
        pass


def test_further_models_join_those_that_were_tested(tmp_path: Path) -> None:
    before, more = "[benchmark]\nturns = 5\n[benchmark.models]\n", '[benchmark.models.mine]\nbackend = "scripted"\n'
    with RunFolder.open(tmp_path, before, versions={}) as run:
        write_jsonl(run.eval / "base" / "verdicts.jsonl", [])
    with RunFolder.open(tmp_path, before.replace("5", "5\nin_flight = 3"), versions={}):
        pass
    with RunFolder.open(tmp_path, before + more, versions={}):
        assert "mine" in (tmp_path / "recipe.toml").read_text()
    with pytest.raises(RunMismatch), RunFolder.open(tmp_path, before.replace("5", "6") + more, versions={}):
        pass
