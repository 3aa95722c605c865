from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from interalign.conversations.tree import Tree
from interalign.errors import InputError, LeakError, ModelError, StorageError, TrainingError
from interalign.personas.persona import Persona
from interalign.run import write_jsonl
from interalign.training.checkpoint import read_manifest
from interalign.training.train import SftConfig, TrainConfig, train
from interalign.training.weights import load_trainable
from tests.training.tiny import SYSTEM, make_model


class Stopped(Exception):
    pass


def stop_at(step: int) -> Any:
    def progress(done: int, total: int, loss: float) -> None:
        if done == step:
            raise Stopped

    return progress


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def test_a_checkpoint_says_where_it_comes_from(tuned: Path, config: TrainConfig) -> None:
    manifest = read_manifest(tuned)
    assert (manifest.name, manifest.method, manifest.base, manifest.parent) == ("sft", "sft", config.base, config.base)
    assert (manifest.steps, manifest.seed) == (8, 1)
    assert manifest.settings["learning_rate"] == config.sft.learning_rate
    assert manifest.metrics["loss"] > 0
    assert [path.name for path in tuned.parent.iterdir()] == ["sft"]


def test_progress_is_told_and_the_loss_falls(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tmp_path: Path
) -> None:
    told: list[tuple[int, int, float]] = []
    longer = config.model_copy(update={"sft": SftConfig(epochs=5, learning_rate=1e-2)})
    train("sft", trees, people, longer, tmp_path / "a", system=SYSTEM, seed=1, progress=lambda *at: told.append(at))
    assert [(done, total) for done, total, _ in told] == [(step, 20) for step in range(1, 21)]
    losses = [loss for _, _, loss in told]
    assert sum(losses[-4:]) < sum(losses[:4]) - 0.4


@pytest.mark.parametrize("whose", ["held-out", "unknown"])
def test_trees_that_must_not_be_learnt_from_are_refused(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tmp_path: Path, whose: str
) -> None:
    persona = people[-1].id if whose == "held-out" else "nobody"
    leak = trees[1].model_copy(update={"persona_id": persona})
    with pytest.raises(LeakError, match=rf"Tree 1 .*{persona}"):
        train("sft", [trees[0], leak], people, config, tmp_path / "a", system=SYSTEM, seed=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_nothing_to_train_on(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tmp_path: Path, method: Any
) -> None:
    nodes = tuple(node.model_copy(update={"verdict": None}) for node in trees[0].nodes)
    for unjudged in ([], [trees[0].model_copy(update={"nodes": nodes})]):
        with pytest.raises(InputError, match="nothing to train"):
            train(method, unjudged, people, config, tmp_path / "a", system=SYSTEM, seed=1)


def test_what_stands_at_out_is_left_alone(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="exists already"):
        train("sft", trees, people, config, tmp_path, system=SYSTEM, seed=1)


def test_a_start_without_weights_is_refused(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="holds no model weights"):
        train("sft", trees, people, config, tmp_path / "a", start=str(tmp_path), system=SYSTEM, seed=1)


def test_a_hub_name_that_cannot_be_reached(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tmp_path: Path
) -> None:
    elsewhere = config.model_copy(update={"base": "nobody/no-such-model"})
    with pytest.raises(ModelError, match="nobody/no-such-model"):
        train("sft", trees, people, elsewhere, tmp_path / "a", system=SYSTEM, seed=1)


@pytest.mark.parametrize("packing", ["tree", "trl"])
def test_a_loss_that_is_no_number_ends_the_training(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tmp_path: Path, packing: Any
) -> None:
    wild = config.model_copy(update={"packing": packing, "sft": SftConfig(learning_rate=1e38)})
    with pytest.raises(TrainingError, match="The loss became"):
        train("sft", trees, people, wild, tmp_path / "a", system=SYSTEM, seed=1)
    assert list(tmp_path.iterdir()) == []


def test_weights_spoilt_by_the_last_step_are_found(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tmp_path: Path
) -> None:
    # Two steps: the first has learning rate 0, so the second is the first to move a weight and no loss follows.
    wild = config.model_copy(update={"sft": SftConfig(learning_rate=3e38)})
    with pytest.raises(TrainingError, match="no longer finite"):
        train("sft", trees[:2], people, wild, tmp_path / "a", system=SYSTEM, seed=1)
    assert list(tmp_path.iterdir()) == []


# One pair after the other takes longer, so there are fewer of them.
@pytest.mark.parametrize(
    ("method", "packing", "count"),
    [("sft", "tree", 4), ("dpo", "tree", 4), pytest.param("dpo", "trl", 2, marks=pytest.mark.slow)],
)
def test_a_stopped_training_goes_on_as_if_nothing_had_happened(
    trees: list[Tree],
    people: tuple[Persona, ...],
    config: TrainConfig,
    tuned: Path,
    tmp_path: Path,
    method: Any,
    packing: Any,
    count: int,
) -> None:
    settings = config.model_copy(update={"packing": packing})

    def go(out: Path, progress: Any = None) -> None:
        train(method, trees[:count], people, settings, out, start=str(tuned), system=SYSTEM, seed=1, progress=progress)

    go(tmp_path / "whole")
    # In the second of two epochs, and a step after the newest state.
    with pytest.raises(Stopped):
        go(tmp_path / "parts", stop_at(count + 1))
    assert not (tmp_path / "parts").exists()
    done: list[int] = []
    go(tmp_path / "parts", lambda step, *_: done.append(step))
    assert done == list(range(count + 1, 2 * count + 1))
    whole, parts = adapter(tmp_path / "whole"), adapter(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, atol=1e-5, rtol=0)
    assert any(not torch.allclose(weight, adapter(tuned)[name], atol=1e-3) for name, weight in whole.items())
    manifests = [read_manifest(tmp_path / name) for name in ("whole", "parts")]
    assert manifests[0].metrics == pytest.approx(manifests[1].metrics, rel=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "whole"]


def test_a_checkpoint_that_could_not_be_written_is_written_the_next_time(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tuned: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a"

    def stand_in_the_way(done: int, total: int, loss: float) -> None:
        if done == total:
            (out / "something").mkdir(parents=True)

    with pytest.raises(StorageError, match="exists"):
        train("sft", trees, people, config, out, system=SYSTEM, seed=1, progress=stand_in_the_way)
    shutil.rmtree(out)
    done: list[int] = []
    train("sft", trees, people, config, out, system=SYSTEM, seed=1, progress=lambda step, *_: done.append(step))
    assert done == []
    assert read_manifest(out).metrics == pytest.approx(read_manifest(tuned).metrics)
    for name, weight in adapter(tuned).items():
        torch.testing.assert_close(adapter(out)[name], weight, atol=1e-5, rtol=0)


def test_a_full_disk_ends_the_training_and_leaves_no_checkpoint(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, small_disk: Path
) -> None:
    with pytest.raises(StorageError, match="No space left"):
        train("sft", trees, people, config, small_disk / "a", system=SYSTEM, seed=1)
    assert [path.name for path in small_disk.iterdir()] == ["a.unfinished"]


def test_states_of_another_training_are_not_gone_on_from(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        train("sft", trees, people, config, tmp_path / "a", system=SYSTEM, seed=1, progress=stop_at(3))
    slower = config.model_copy(update={"sft": SftConfig(epochs=2, learning_rate=1e-3)})
    with pytest.raises(InputError, match=r"other values of: data, learning_rate, seed"):
        train("sft", trees[:2], people, slower, tmp_path / "a", system=SYSTEM, seed=2)


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_states_from_another_start_are_not_gone_on_from(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tuned: Path, tmp_path: Path, method: Any
) -> None:
    with pytest.raises(Stopped):
        train(method, trees, people, config, tmp_path / "a", system=SYSTEM, seed=1, progress=stop_at(3))
    with pytest.raises(InputError, match=r"other values of: start\."):
        train(method, trees, people, config, tmp_path / "a", system=SYSTEM, seed=1, start=str(tuned))


KILLED = """
import os, signal, sys
from pathlib import Path
from interalign.conversations.tree import Tree
from interalign.personas.persona import Persona
from interalign.run import read_jsonl
from interalign.training.train import TrainConfig, train
folder = Path(sys.argv[1])
def progress(step, total, loss):
    if step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
train("sft", read_jsonl(folder / "trees.jsonl", Tree), read_jsonl(folder / "people.jsonl", Persona),
      TrainConfig.model_validate_json((folder / "config.json").read_text()), folder / "sft",
      system=sys.argv[2], seed=1, progress=progress)
"""


@pytest.mark.slow
def test_a_killed_process_loses_no_saved_state(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tuned: Path, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "trees.jsonl", trees)
    write_jsonl(tmp_path / "people.jsonl", people)
    (tmp_path / "config.json").write_text(config.model_dump_json())
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), SYSTEM], check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    done: list[int] = []
    train(
        "sft",
        trees,
        people,
        config,
        tmp_path / "sft",
        system=SYSTEM,
        seed=1,
        progress=lambda step, *_: done.append(step),
    )
    assert done == [5, 6, 7, 8]
    for name, weight in adapter(tuned).items():
        torch.testing.assert_close(adapter(tmp_path / "sft")[name], weight, atol=1e-5, rtol=0)


def test_a_new_adapter_goes_on_top_of_the_weights_it_starts_from(
    trees: list[Tree], config: TrainConfig, tokenizer: Any, tmp_path: Path
) -> None:
    other = make_model(tmp_path / "other", tokenizer, seed=9)
    model, _ = load_trainable(str(other), config)
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(other, dtype=torch.float32)(ids).logits
        torch.testing.assert_close(model(ids).logits, expected)


@pytest.mark.parametrize(("full", "dtype", "expected"), [
    (True, "auto", torch.float32),
    (True, "bfloat16", torch.bfloat16),
    (False, "bfloat16", torch.float32),
])  # fmt: skip
def test_weights_that_are_trained_are_float32_unless_asked(
    trees: list[Tree], config: TrainConfig, tmp_path: Path, full: bool, dtype: Any, expected: torch.dtype
) -> None:
    settings = config.model_copy(update={"dtype": dtype, **({"full_weights": True} if full else {})})
    model, _ = load_trainable(config.base, settings)
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {expected}


def test_what_was_paid_for_outlives_a_wrong_option(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Stopped):
        train("sft", trees, people, config, tmp_path / "m" / "a", system=SYSTEM, seed=1, progress=stop_at(5))
    reporting = config.model_copy(update={"report_to": ("nowhere",)})
    with pytest.raises(InputError, match="transformers knows no 'nowhere'"):
        train("sft", trees, people, reporting, tmp_path / "m" / "a", system=SYSTEM, seed=1)
    assert sorted(path.name for path in (tmp_path / "m" / "a.unfinished").glob("checkpoint-*"))
    train("sft", trees, people, config, tmp_path / "m" / "a", system=SYSTEM, seed=1)


def test_a_refused_training_leaves_no_folder_of_models(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tmp_path: Path
) -> None:
    short = config.model_copy(update={"max_length": 5})
    with pytest.raises(TrainingError, match="longer than the model reads"):
        train("sft", trees, people, short, tmp_path / "models" / "sft", system=SYSTEM, seed=1)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_begins_alike_is_not_tidied_away(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tmp_path: Path
) -> None:
    mine, other = tmp_path / ".sft-abcd_123", tmp_path / ".sft-rejected-abcd_123"
    mine.mkdir()
    other.mkdir()
    short = config.model_copy(update={"max_length": 5})
    with pytest.raises(TrainingError):
        train("sft", trees, people, short, tmp_path / "sft", system=SYSTEM, seed=1)
    assert not mine.exists()
    assert other.exists()
