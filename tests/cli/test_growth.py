"""`interalign personas grow`, as it is typed, with a script or a real server on this machine as the writer."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import tomli_w

from interalign.llm.model import Request
from interalign.messages import Message
from interalign.personas.exchange import read_pool
from interalign.personas.persona import Persona
from interalign.personas.writer import persona_writer
from interalign.run import write_jsonl
from tests.cli.pools import RECIPE, Run, grown, prepare, typed
from tests.llm.servers import FaultyServer, Reply, completion, error, in_a_thread, serving


class Writing(FaultyServer):
    """The scripted writer behind real HTTP. Every fifth question meets a fault that the client tries again."""

    out_of_order = False
    """Whether prose is all that it says."""

    def next_reply(self, body: bytes, key: str | None) -> Reply:
        asked = json.loads(body)
        with self._lock:
            self.bodies.append(asked)
        if len(self.bodies) % 5 == 0:
            return error(500, retry_after_ms="1")
        request = Request(messages=tuple(Message(**one) for one in asked["messages"]), seed=asked["seed"])
        usage = {"prompt_tokens": 1000, "completion_tokens": 500}
        return completion("Certainly!" if self.out_of_order else persona_writer()._text(request), usage=usage)


def writing() -> AbstractContextManager[Writing]:
    return in_a_thread(Writing([]))


def named(server: FaultyServer) -> tuple[str, ...]:
    """The options that name a model there."""
    return ("--base-url", server.base_url, "--model", "some-model")


@pytest.fixture(scope="module")
def writer() -> Iterator[Writing]:
    """A server for commands of several tests; it is in order."""
    with writing() as server:
        yield server


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cache: Path, one_encoder: None) -> Callable[..., Path]:
    """Grow the small pool once for tests who only read it; what was said lies beside its folder."""

    def once(*options: str) -> Path:
        home = tmp_path_factory.mktemp("finished")
        with pytest.MonkeyPatch.context() as patched:
            prepare(home, cache, patched)
            code, said = typed("grow", "--recipe", "small.toml", *options, "--out", "out")
        assert code == 0, said
        (home / "said.txt").write_text(said, encoding="utf-8")
        return home / "out"

    return once


@pytest.fixture(scope="module")
def small(finished: Callable[..., Path]) -> Path:
    """A run whose pool a script has written."""
    return finished()


@pytest.fixture(scope="module")
def served(finished: Callable[..., Path], writer: Writing) -> Path:
    """A run whose pool the server has written."""
    return finished(*named(writer))


def test_growing_writes_every_file_and_says_what_it_did(small: Path) -> None:
    said = (small.parent / "said.txt").read_text(encoding="utf-8")
    summary, candidates, calls, train, heldout = grown(small)
    profiles, personalities = summary.kinds
    assert (profiles.size, personalities.size) == (40, 32)
    assert profiles.accepted + sum(profiles.rejections.values()) == profiles.candidates
    assert len(calls) == sum(sum(one.outcomes.values()) for one in summary.kinds)
    assert len(candidates) == sum(one.candidates + one.seeds for one in summary.kinds)
    assert (summary.train, summary.heldout) == (len(train), len(heldout))
    for words in ("40 (20)", "32 (20)", "target of 40 was", "from a script", f"{len(train):,} personas to train on"):
        assert words in " ".join(said.split())
    assert "pool.html" in said
    assert max(len(line) for line in said.splitlines()) <= 80


def test_train_and_heldout_share_neither_profiles_nor_personalities(small: Path) -> None:
    *_, train, heldout = grown(small)
    assert {one.split for one in train} == {"train"} and {one.split for one in heldout} == {"heldout"}
    assert not {one.profile for one in train} & {one.profile for one in heldout}
    assert not {one.personality for one in train} & {one.personality for one in heldout}
    assert len({one.id for one in (*train, *heldout)}) == len(train) + len(heldout)


def test_the_dataset_loads_and_the_pool_can_be_read_again(small: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    *_, train, heldout = grown(small)
    dataset = load_dataset(str(small / "pool" / "dataset"), cache_dir=str(tmp_path / "hf"))
    assert {name: len(split) for name, split in dataset.items()} == {"train": len(train), "heldout": len(heldout)}
    assert [row["id"] for row in dataset["train"]] == [one.id for one in train]
    for suffix in ("jsonl", "parquet"):
        assert len(read_pool(small / "pool" / f"profiles.{suffix}").descriptions) == 40


def test_the_same_command_does_nothing_twice(personas: Run, small: Path, tmp_path: Path) -> None:
    shutil.copytree(small, tmp_path / "out")
    before = (tmp_path / "out" / "personas.jsonl").stat().st_mtime_ns
    code, said = personas("grow", "--out", "out")
    assert code == 0
    assert "done before" in said
    assert (tmp_path / "out" / "personas.jsonl").stat().st_mtime_ns == before


def test_two_runs_give_the_same_personas(personas: Run, small: Path, tmp_path: Path) -> None:
    personas("grow", "--recipe", "small.toml", "--out", "again")
    for file in ("personas.jsonl", "heldout.jsonl", "pool/candidates.jsonl", "pool/maps.json"):
        assert (tmp_path / "again" / file).read_bytes() == (small / file).read_bytes()


def test_a_server_grows_the_pool_that_its_answers_make(
    personas: Run, served: Path, writer: Writing, tmp_path: Path
) -> None:
    """The same answers give the same pool."""
    # Another folder with the journal of the first pays for nothing.
    asked = len(writer.bodies)
    (tmp_path / "two").mkdir()
    shutil.copy(served / "journal.sqlite", tmp_path / "two")
    code, said = personas("grow", "--recipe", "small.toml", *named(writer), "--out", "two")
    assert code == 0, said
    assert len(writer.bodies) == asked
    assert (tmp_path / "two" / "personas.jsonl").read_bytes() == (served / "personas.jsonl").read_bytes()
    assert "response_format" in writer.bodies[0]
    assert "some-model" in (served / "pool.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("options", [("--model", "other"), ("--model", "other", "--base-url"), ("--base-url",)])
def test_the_recipes_server_keeps_what_the_command_line_leaves_out(
    personas: Run, tmp_path: Path, options: tuple[str, ...]
) -> None:
    kept = {"backend": "endpoint", "api_key_env": "NO_SUCH_KEY", "json_schema": False, "concurrency": 3, "timeout_s": 7}
    # Nobody listens there, and the recipe that is kept says what was meant.
    before = kept | {"base_url": "http://127.0.0.1:9/v1", "model": "mine", "max_retries": 0}
    table = tomli_w.dumps({"pool": {"generator": before}})
    (tmp_path / "served.toml").write_text(RECIPE + table, encoding="utf-8")
    moved = "http://127.0.0.1:10/v1" if "--base-url" in options else "http://127.0.0.1:9/v1"
    given = (*options, moved) if "--base-url" in options else options
    code, said = personas("grow", "--recipe", "served.toml", *given, "--out", "out")
    assert code == 8, said
    generator = tomllib.loads((tmp_path / "out" / "recipe.toml").read_text(encoding="utf-8"))["pool"]["generator"]
    assert generator == before | {"base_url": moved, "model": "other" if "--model" in options else "mine"}


@pytest.mark.parametrize(
    ("word", "shown"),
    [("other@http://127.0.0.1:10/v1", "other at http://127.0.0.1:10/v1;"), ("scripted", "a script;")],
)
def test_a_word_that_names_a_model_is_no_name_on_the_recipes_server(
    personas: Run, tmp_path: Path, word: str, shown: str
) -> None:
    before = {"backend": "endpoint", "base_url": "http://127.0.0.1:9/v1", "model": "mine"}
    table = tomli_w.dumps({"pool": {"generator": before}})
    (tmp_path / "served.toml").write_text(RECIPE + table, encoding="utf-8")
    code, said = personas("grow", "--recipe", "served.toml", "--model", word, "--show-prompts")
    assert code == 0 and shown in said, said


def test_a_folder_is_no_name_on_the_recipes_server_either(personas: Run, tmp_path: Path) -> None:
    before = {"backend": "endpoint", "base_url": "http://127.0.0.1:9/v1", "model": "mine"}
    (tmp_path / "served.toml").write_text(RECIPE + tomli_w.dumps({"pool": {"generator": before}}), encoding="utf-8")
    (tmp_path / "checkpoint").mkdir()
    code, said = personas("grow", "--recipe", "served.toml", "--model", str(tmp_path / "checkpoint"), "--show-prompts")
    assert code == 0 and "127.0.0.1" not in said and "checkpoint in this process;" in said, said


def test_a_server_that_is_gone_ends_in_one_line_and_loses_nothing(personas: Run, tmp_path: Path) -> None:
    recipe = (
        RECIPE
        + '[pool.generator]\nbackend = "endpoint"\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "m"\nmax_retries = 0\n'
    )
    (tmp_path / "gone.toml").write_text(recipe, encoding="utf-8")
    code, said = personas("grow", "--recipe", "gone.toml", "--out", "out")
    assert code == 8
    assert "for profiles failed twice" in said and "cannot be reached" in said and "To mend it" in said
    assert "Does the server run" in said
    assert not (tmp_path / "out" / "personas.jsonl").exists()
    # Nothing was paid, so the same folder takes another address.
    code, said = personas("grow", "--base-url", "http://127.0.0.1:10/v1", "--out", "out")
    assert code == 8 and "127.0.0.1:10" in said


def test_a_name_that_no_hub_knows_may_be_that_of_a_server(personas: Run) -> None:
    code, said = personas("grow", "--recipe", "small.toml", "--model", "neither/folder/nor-hub", "--out", "out")
    assert code == 8, said
    assert "is no folder, so the Hugging Face Hub is asked for it" in said
    assert "A model on a server needs --base-url" in said


def test_answers_that_cannot_be_read_end_in_a_line_and_are_asked_for_anew(personas: Run, tmp_path: Path) -> None:
    (tmp_path / "prose.toml").write_text(RECIPE.replace("target", "window = 3\ntarget"), encoding="utf-8")
    with writing() as server:
        options = ("--recipe", "prose.toml", "--base-url", server.base_url, "--model", "m", "--out", "out")
        server.out_of_order = True
        asked = 0
        # Twice, for what is given up once may be given up again.
        for _ in range(2):
            code, said = personas("grow", *options)
            assert code == 8, said
            assert re.search(r"(\d) of \1 calls for profiles brought no answer that can be read", said)
            assert "not JSON" in said and "begins 'Certainly!'" in said and "has 20 of 40" in said
            assert not (tmp_path / "out" / "personas.jsonl").exists()
            assert len(server.bodies) >= asked + 6
            asked = len(server.bodies)
        server.out_of_order = False
        code, said = personas("grow", *options)
    assert code == 0, said
    summary, _, calls, *_ = grown(tmp_path / "out")
    assert {one.stop for one in summary.kinds} == {"target"}
    assert {call.outcome for call in calls} == {"read"}


def test_nothing_that_enters_is_said_with_its_reason(personas: Run, tmp_path: Path) -> None:
    (tmp_path / "short.toml").write_text(RECIPE.replace("target", "max_calls = 2\ntarget"), encoding="utf-8")
    with serving(completion('{"profiles": ["She is 40.", "He sails."]}')) as server:
        options = ("--base-url", server.base_url, "--model", "m", "--out", "out")
        code, said = personas("grow", "--recipe", "short.toml", *options)
    assert code == 8, said
    assert "None of the 4 profiles that 2 calls brought was taken in; 4 of them: too short." in said


def test_a_budget_stops_growth_and_a_larger_one_goes_on(
    personas: Run, served: Path, writer: Writing, tmp_path: Path
) -> None:
    options = ("--recipe", "small.toml", *named(writer))
    code, said = personas("grow", *options, "--out", "out", "--budget", "5k tokens")
    assert code == 10 and "persona generator asked for more" in said
    assert not (tmp_path / "out" / "personas.jsonl").exists()
    asked = len(writer.bodies)
    code, said = personas("grow", *options, "--out", "out", "--budget", "5k tokens")
    assert (code, len(writer.bodies)) == (10, asked)
    code, said = personas("grow", *options, "--out", "out", "--budget", "1M tokens")
    assert code == 0, said
    assert (tmp_path / "out" / "personas.jsonl").read_bytes() == (served / "personas.jsonl").read_bytes()
    code, said = personas("grow", *options, "--out", "other", "--budget", "5usd")
    assert code == 2 and "price of some-model@" in said
    (tmp_path / "prices.toml").write_text('[models."some-model"]\nprompt = 1\ncompletion = 1\n', encoding="utf-8")
    code, said = personas("grow", *options, "--out", "other", "--budget", "0.005usd", "--prices", "prices.toml")
    assert code == 10, said


def test_the_prompts_can_be_read_and_nothing_is_asked(
    personas: Run, served: Path, writer: Writing, tmp_path: Path
) -> None:
    asked = len(writer.bodies)
    options = (*named(writer), "--out", "out", "--show-prompts")
    code, said = personas("grow", "--recipe", "small.toml", *options)
    assert code == 0, said
    header = f"some-model at {writer.base_url}; max_tokens 8192, temperature 0.8; with a JSON schema"
    assert said.splitlines().count(header) == 2
    assert "Write 6 new profiles" in said and "Write 6 new personalities" in said
    assert not (tmp_path / "out").exists() and len(writer.bodies) == asked
    # Calls come side by side, so the first one may have arrived later.
    assert any(all(message["content"] in said for message in body["messages"]) for body in writer.bodies)


def test_personas_of_another_making_are_not_overwritten(personas: Run, tmp_path: Path) -> None:
    path = tmp_path / "out" / "personas.jsonl"
    write_jsonl(path, [Persona(profile="She sails.", personality="She is shy.")])
    before = path.read_bytes()
    code, said = personas("grow", "--out", "out")
    assert code == 2 and "was not made by growing a pool" in said
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--profiles", "5"), "5 profiles cannot be held out of a pool of 5"),
        (("--heldout-personalities", "32"), "32 personalities cannot be held out of a pool of 32"),
        (("--base-url", "http://localhost:1/v1"), "add --model NAME"),
        (("--base-url", "localhost:1", "--model", "m"), "--base-url: a URL that begins with http://"),
        (("--model", ""), "--model: String should have"),
        (("--budget", "3 chf"), "neither money nor tokens"),
        (("--prices", "missing.toml"), "missing.toml does not exist"),
        (("--seed-profiles", "missing.jsonl"), "does not exist"),
        (("--seed-profiles", "empty.jsonl"), "holds no records"),
        (("--encoder", "some/encoder"), "no threshold is known"),
        (("--seed-profiles", "heldout.jsonl"), "but those of held-out personas"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_paid(
    personas: Run, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    write_jsonl(tmp_path / "heldout.jsonl", [Persona(profile="She sails.", personality="She is shy.", split="heldout")])
    code, said = personas("grow", "--recipe", "small.toml", *options, "--out", "out")
    assert code == 2, said
    assert words.lower() in said.lower()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_killed_growth_goes_on_with_the_same_outcome(personas: Run, small: Path, tmp_path: Path, cache: Path) -> None:
    command = [sys.executable, "-m", "interalign", "personas", "grow", "--recipe", "small.toml", "--out", "killed"]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    journal = tmp_path / "killed" / "journal.sqlite-wal"
    deadline = time.monotonic() + 100
    while not (journal.exists() and journal.stat().st_size > 50_000) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, said = personas("grow", "--recipe", "small.toml", "--out", "killed")
    assert code == 0, said
    for file in ("personas.jsonl", "pool/candidates.jsonl", "pool/calls.jsonl"):
        assert (tmp_path / "killed" / file).read_bytes() == (small / file).read_bytes()


def test_a_pool_that_is_too_small_is_written_and_can_be_paired(personas: Run, tmp_path: Path) -> None:
    recipe = RECIPE.replace("heldout_profiles = 5", "heldout_profiles = 30")
    few = recipe.replace("target", "max_calls = 1\ntarget")
    (tmp_path / "small.toml").write_text(few, encoding="utf-8")
    code, said = personas("grow", "--recipe", "small.toml", "--out", "out")
    assert code == 2, said
    files = (str(Path("out", "pool", "profiles.jsonl")), str(Path("out", "pool", "personalities.jsonl")))
    assert f"interalign personas pair {' '.join(files)} --heldout-profiles N" in said
    code, said = personas("pair", *files, "--heldout-profiles", "4", "--heldout-personalities", "4", "--out", "other")
    assert code == 0, said
    assert (tmp_path / "other" / "personas.jsonl").exists()
    # It is not final: with other sizes the same folder goes on.
    (tmp_path / "small.toml").write_text(recipe, encoding="utf-8")
    code, said = personas("grow", "--recipe", "small.toml", "--out", "out")
    assert code == 0, said
    assert len(grown(tmp_path / "out")[0].kinds) == 2


@pytest.mark.parametrize(
    ("module", "pool", "mend"),
    [
        ("py3langid", "", "interalign[personas]"),
        ("pyarrow", "", "interalign[personas]"),
        ("sklearn", "", "interalign[personas]"),
        ("umap", 'projection = "umap"', "interalign[umap]"),
        ("usearch", 'index = "approximate"', "interalign[ann]"),
    ],
)
def test_a_missing_package_is_told_before_anything_is_paid(
    personas: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, pool: str, mend: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "small.toml").write_text(f"{RECIPE}[pool]\n{pool}\n", encoding="utf-8")
    with serving(completion("Certainly!")) as server:
        code, said = personas("grow", "--recipe", "small.toml", "--base-url", server.base_url, "--model", "m")
        assert server.bodies == []
    assert code == 3 and mend in said


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_an_early_interrupt_ends_in_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "recipe.toml")
    command = [sys.executable, "-m", "interalign", "personas", "grow", "--recipe", "recipe.toml"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # Opens when the command has begun to read its recipe.
    with (tmp_path / "recipe.toml").open("w"):
        process.send_signal(signal.SIGINT)
        output, said = process.communicate(timeout=100)
    assert (process.returncode, output) == (130, "")
    assert said == "\nStopped. Run the same command again to go on from here.\n"
