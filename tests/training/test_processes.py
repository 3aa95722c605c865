from __future__ import annotations

import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from interalign.conversations.tree import Tree
from interalign.errors import InputError
from interalign.personas.persona import Persona
from interalign.pipeline.work import Work
from interalign.recipe import Recipe
from interalign.run import RunFolder, write_json, write_jsonl, write_text
from interalign.training import processes
from interalign.training.checkpoint import read_manifest
from interalign.training.packing import arranged
from interalign.training.train import TrainConfig, train
from interalign.training.tree_trainer import examples_of
from tests.training.conftest import make_job
from tests.training.tiny import SYSTEM

PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
WAIT_S = 150


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PLACE:
        monkeypatch.delenv(name, raising=False)


def place(monkeypatch: pytest.MonkeyPatch, **of: str) -> None:
    for name, value in of.items():
        monkeypatch.setenv(name, value)


def test_a_process_alone_is_the_first_of_one() -> None:
    assert (processes.rank(), processes.count(), processes.is_first()) == (0, 1, True)
    processes.connect()
    assert not torch.distributed.is_initialized()
    assert processes.first_decides(lambda: 7) == 7


def test_launchers_tell_each_process_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, RANK="3", LOCAL_RANK="1", WORLD_SIZE="4")
    assert (processes.rank(), processes.count(), processes.is_first()) == (3, 4, False)


def test_what_a_job_manager_sets_for_a_machine_is_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, RANK="1", WORLD_SIZE="2")
    assert (processes.rank(), processes.count()) == (0, 1)


def test_one_of_several_launches_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, RANK="0", LOCAL_RANK="0", WORLD_SIZE="2")
    with pytest.raises(InputError, match="torchrun"):
        processes.launch(2, ["train"])


@pytest.mark.parametrize(
    "said", ["[gloo/transport/tcp/pair.cc:525] Connection closed by peer [127.0.0.1]:1", "NCCL error: remote process"]
)
def test_what_backends_say_of_a_lost_process(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    with pytest.raises(RuntimeError, match=re.escape(said)), processes.losing_others():
        raise RuntimeError(said)
    place(monkeypatch, RANK="0", LOCAL_RANK="0", WORLD_SIZE="2")
    with pytest.raises(processes.LostProcess, match="go on from the last saved state"), processes.losing_others():
        raise RuntimeError(said)
    with pytest.raises(RuntimeError, match="mat1"), processes.losing_others():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_states_of_another_number_of_processes_are_not_gone_on_from(
    trees: list[Tree],
    people: tuple[Persona, ...],
    config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, total: int, loss: float) -> None:
        if done > config.save_every:
            raise Stop

    with pytest.raises(Stop):
        train("sft", trees, people, config, tmp_path / "sft", system=SYSTEM, seed=1, progress=stop)
    place(monkeypatch, RANK="0", LOCAL_RANK="0", WORLD_SIZE="2")
    with pytest.raises(InputError, match="other values of: processes"):
        train("sft", trees, people, config, tmp_path / "sft", system=SYSTEM, seed=1)


TOGETHER = """
import json, shutil, sys
from pathlib import Path

from interalign.conversations.tree import Tree
from interalign.errors import InputError
from interalign.personas.persona import Persona
from interalign.run import read_json, read_jsonl
from interalign.training import processes
from interalign.training.train import TrainConfig, train

folder, system = Path(sys.argv[1]), sys.argv[2]
trees, people = read_jsonl(folder / "trees.jsonl", Tree), read_jsonl(folder / "people.jsonl", Persona)
processes.connect()
found = {}
for number in range(int(sys.argv[3])):
    config = read_json(folder / f"{number}.json", TrainConfig)
    for method in ("sft", "dpo"):
        losses, out = [], folder / f"{number}" / method
        reference = out.with_name("dpo.unfinished") / "reference.safetensors"

        def progress(done, total, loss):
            losses.append(loss)
            if processes.is_first() and reference.exists():
                shutil.copy(reference, folder / f"{number}")

        try:
            train(method, trees, people, config, out, system=system, seed=1, progress=progress)
        except InputError as error:
            losses.append(str(error))
        found[f"{number} {method}"] = losses
(folder / f"found-{processes.rank()}.json").write_text(json.dumps(found))
processes.leave()
"""
"""Trains by each of the configurations in a folder, in one process or several."""

SPREAD_ON_CPUS = """
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

made = AcceleratorState.__init__

def spread(self, *positional, fsdp_plugin=None, **named):
    # accelerate 1.15 spreads models over GPUs only, though torch also does it on CPUs.
    made(self, *positional, fsdp_plugin=fsdp_plugin, **named)
    if fsdp_plugin is not None:
        self.fsdp_plugin = fsdp_plugin
    if getattr(self, "fsdp_plugin", None) is not None:
        self.distributed_type = DistributedType.FSDP

AcceleratorState.__init__ = spread
"""


def run_together(
    folder: Path, script: str, configs: Sequence[TrainConfig], trees: Sequence[Tree], people: Sequence[Persona]
) -> list[dict[str, list[Any]]]:
    """What each of two processes was told of its trainings."""
    write_jsonl(folder / "trees.jsonl", trees)
    write_jsonl(folder / "people.jsonl", people)
    for number, config in enumerate(configs):
        write_json(folder / f"{number}.json", config)
        (folder / f"{number}").mkdir()
    write_text(folder / "together.py", script)
    command = [*torchrun(), str(folder / "together.py"), str(folder), SYSTEM, str(len(configs))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False, env=environment())
    assert ended.returncode == 0, ended.stderr
    return [json.loads((folder / f"found-{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]


def torchrun() -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def environment() -> dict[str, str]:
    source = str(Path(processes.__file__).parents[2])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([source, *sys.path])}


def all_in_a_step(config: TrainConfig, of_each: int, **more: Any) -> TrainConfig:
    """Trainings of three steps, each of which sees all four trees."""
    stages = {
        name: getattr(config, name).model_copy(update={"epochs": 3.0, "trees_per_step": of_each, **more})
        for name in ("sft", "dpo")
    }
    return config.model_copy(update=stages)


def uneven(trees: list[Tree], config: TrainConfig, tokenizer: Any) -> int:
    """Tokens of a sequence so that two processes with two trees each always have different numbers of sequences."""
    examples, _ = examples_of(make_job("dpo", trees, config, Path("out")), tokenizer, 4096)
    halves = [((0, one), tuple({1, 2, 3} - {one})) for one in (1, 2, 3)]

    def count(half: tuple[int, ...], limit: int) -> int:
        return len(list(arranged([examples[place] for place in half], limit)))

    return next(
        limit
        for limit in itertools.count(100, 10)
        if all(count(one, limit) != count(two, limit) for one, two in halves)
    )


def trained_alone(
    config: TrainConfig, trees: list[Tree], people: tuple[Persona, ...], folder: Path
) -> dict[str, list[float]]:
    folder.mkdir()
    found: dict[str, list[float]] = {"sft": [], "dpo": []}
    reference = folder / "dpo.unfinished" / "reference.safetensors"

    def progress(done: int, total: int, loss: float) -> None:
        found["dpo" if reference.exists() else "sft"].append(loss)
        if reference.exists():
            shutil.copy(reference, folder)

    for method in ("sft", "dpo"):
        train(method, trees, people, config, folder / method, system=SYSTEM, seed=1, progress=progress)  # type: ignore[arg-type]
    return found


def assert_same_weights(one: Path, other: Path, within: float) -> None:
    name = next(path.name for path in one.glob("*.safetensors"))
    assert_same(one / name, other / name, within)


def assert_same(one: Path, other: Path, within: float) -> None:
    expected, found = load_file(one), load_file(other)
    assert expected.keys() == found.keys()
    for weight in expected:
        torch.testing.assert_close(found[weight], expected[weight], rtol=0, atol=within)


@pytest.mark.slow
def test_two_processes_train_what_one_does(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tokenizer: Any, tmp_path: Path
) -> None:
    config = config.model_copy(update={"max_tokens": uneven(trees, config, tokenizer), "save_every": 1})
    row_by_row = config.model_copy(update={"packing": "trl"})
    spread = all_in_a_step(config, 2, trl={"fsdp": True})
    together = tmp_path / "together"
    configs = [all_in_a_step(config, 2), all_in_a_step(row_by_row, 2), spread]
    first, second = run_together(together, TOGETHER, configs, trees, people)
    alone = trained_alone(all_in_a_step(config, 4), trees, people, tmp_path / "alone")
    for method in ("sft", "dpo"):
        assert len(alone[method]) == 3
        assert first[f"0 {method}"] == pytest.approx(alone[method], abs=1e-4)
        assert second[f"0 {method}"] == first[f"0 {method}"]
        assert_same_weights(tmp_path / "alone" / method, together / "0" / method, 1e-4)
        assert first[f"1 {method}"][0] == pytest.approx(alone[method][0], rel=0.1)
        assert math.isfinite(first[f"1 {method}"][-1])
        # Without GPUs accelerate would leave it out, and each process hold the whole model.
        assert "asks for fsdp" in first[f"2 {method}"][0]
        assert read_manifest(together / "0" / method).settings["processes"] == 2
    assert_same(tmp_path / "alone" / "reference.safetensors", together / "0" / "reference.safetensors", 1e-4)


@pytest.mark.slow
def test_a_model_that_is_spread_is_saved_whole(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tmp_path: Path
) -> None:
    small_steps = {"learning_rate": 1e-3}
    options = {"fsdp": True, "fsdp_config": {"activation_checkpointing": True}}
    adapter = all_in_a_step(config, 2, trl=options, **small_steps)
    whole = adapter.model_copy(update={"full_weights": True})
    together = tmp_path / "together"
    run_together(together, SPREAD_ON_CPUS + TOGETHER, [adapter, whole], trees, people)
    for number, spread in enumerate((adapter, whole)):
        alone = tmp_path / f"alone-{number}"
        trained_alone(all_in_a_step(spread, 4, trl={}), trees, people, alone)
        for method in ("sft", "dpo"):
            assert_same_weights(alone / method, together / f"{number}" / method, 1e-3)


@pytest.fixture
def folder(
    trees: list[Tree],
    people: tuple[Persona, ...],
    config: TrainConfig,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Path:
    """A run folder that waits to be trained on: 12 steps, or what a test asks for, with a state after each."""
    steps = float(getattr(request, "param", 12))
    settings = all_in_a_step(config, 2).model_copy(update={"save_every": 1})
    settings = settings.model_copy(update={"sft": settings.sft.model_copy(update={"epochs": steps})})
    run = RunFolder(tmp_path / "run")
    with Work.open(Recipe(name="small", train=settings), run.root):
        write_jsonl(run.personas, people[:4])
        write_jsonl(run.heldout, people[4:])
        write_jsonl(run.trees, trees)
    return run.root


def start(folder: Path, *launcher: str, method: str = "sft", launch: Sequence[str] = ()) -> subprocess.Popen[str]:
    command = [*(launcher or (sys.executable,)), "-m", "interalign", "train", "--out", str(folder), "--method", method]
    return subprocess.Popen(
        [*command, *launch], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """The exit code, and what stands on the error stream besides bars."""
    try:
        said = process.communicate(timeout=WAIT_S)[1]
    finally:
        process.kill()
    return process.returncode, [line for line in said.splitlines() if line and not line.startswith("training ")]


def newest_state(folder: Path) -> int:
    states = (folder / "models" / "sft.unfinished").glob("checkpoint-*/trainer_state.json")
    return max((int(state.parent.name.removeprefix("checkpoint-")) for state in states), default=0)


def children_at_work(launcher: subprocess.Popen[str], folder: Path) -> list[Any]:
    """The processes that a launcher has started, once they have saved a state of their training."""
    import psutil

    before = newest_state(folder)
    deadline = time.monotonic() + WAIT_S
    while newest_state(folder) <= before:
        assert launcher.poll() is None, launcher.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return [child for child in psutil.Process(launcher.pid).children() if "interalign" in child.cmdline()]


@pytest.mark.slow
def test_a_launched_training_that_is_stopped_leaves_nobody_and_goes_on(folder: Path) -> None:
    psutil = pytest.importorskip("psutil")
    launcher = start(folder, launch=["--launch", "2"])
    children = children_at_work(launcher, folder)
    assert len(children) == 2
    launcher.send_signal(signal.SIGTERM)
    assert ended(launcher) == (128 + signal.SIGTERM, [])
    assert not any(child.is_running() for child in children)

    launcher = start(folder, launch=["--launch", "2"])
    children = children_at_work(launcher, folder)
    children[1].kill()
    code, lines = ended(launcher)
    assert code == 9
    assert len(lines) == 1
    assert "was killed (SIGKILL)" in lines[0]
    assert "run the same command again" in lines[0]
    assert not any(child.is_running() for child in children)

    launcher = start(folder, launch=["--launch", "2"])
    children = children_at_work(launcher, folder)
    launcher.kill()
    assert ended(launcher) == (-signal.SIGKILL, [])
    psutil.wait_procs(children, timeout=WAIT_S)
    assert not any(child.is_running() for child in children)

    assert ended(start(folder, launch=["--launch", "2"])) == (0, [])
    manifest = read_manifest(folder / "models" / "sft")
    assert (manifest.steps, manifest.settings["processes"]) == (12, 2)
    assert {path.name for path in (folder / "models").iterdir()} == {"sft"}


@pytest.mark.slow
def test_an_error_of_all_processes_is_one_line_with_its_exit_code(folder: Path) -> None:
    code, lines = ended(start(folder, method="dpo", launch=["--launch", "2"]))
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("error ")
    assert "models/sft, which does not exist" in lines[0]


def accelerate() -> list[str]:
    # `--cpu` would start one process; `--multi_gpu` starts as many as are asked for, with or without GPUs.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    return [*launch, "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]


@pytest.mark.slow
@pytest.mark.parametrize("folder", [2], indirect=True)
@pytest.mark.parametrize("launcher", [torchrun, accelerate])
def test_other_launchers_start_it_as_well(folder: Path, launcher: Callable[[], list[str]]) -> None:
    code, lines = ended(start(folder, *launcher()))
    assert (code, lines) == (0, [])
    assert read_manifest(folder / "models" / "sft").settings["processes"] == 2
