from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from interalign.conversations.preferences import PreferenceConfig
from interalign.conversations.simulate import SimulateConfig, grow_trees
from interalign.conversations.tree import Tree
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.persona import Persona
from interalign.training.job import Job, lessons_of
from interalign.training.train import DpoConfig, SftConfig, TrainConfig, train
from tests.small_disk import small_disk_at
from tests.training.tiny import SYSTEM, make_model, make_tokenizer

T = TypeVar("T")


@pytest.fixture(scope="session")
def people() -> tuple[Persona, ...]:
    """Four training personas, then two held-out ones."""
    return compose_personas(WorldConfig(train=4, heldout=2), seed=3)


@pytest.fixture(scope="session")
def trees(people: tuple[Persona, ...]) -> list[Tree]:
    """A tree of three turns for each training persona."""

    async def grown() -> list[Tree]:
        config = SimulateConfig(turns=3, siblings=("tailored", "generic", "mirror"))
        return [tree async for tree in grow_trees(people[:4], config, seed=3)]

    return asyncio.run(grown())


@pytest.fixture(scope="session")
def tokenizer(trees: list[Tree]) -> Any:
    return make_tokenizer("\n".join(node.content for tree in trees for node in tree.nodes))


@pytest.fixture(scope="session")
def base(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny chat model."""
    return make_model(tmp_path_factory.mktemp("models") / "tiny", tokenizer)


@pytest.fixture(scope="session")
def config(base: Path) -> TrainConfig:
    """Settings for trainings that take a second."""
    return TrainConfig(
        base=str(base),
        dtype="float32",
        save_every=2,
        sft=SftConfig(epochs=2, learning_rate=1e-2),
        dpo=DpoConfig(epochs=2, learning_rate=1e-2),
    )


@pytest.fixture(scope="session")
def tuned(
    trees: list[Tree], people: tuple[Persona, ...], config: TrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An SFT checkpoint of the tiny model, trained with packed trees."""
    out = tmp_path_factory.mktemp("tuned") / "sft"
    train("sft", trees, people, config, out, system=SYSTEM, seed=1)
    return out


def make_job(method: Any, trees: list[Tree], config: TrainConfig, out: Path, start: Path | None = None) -> Job:
    """A job of all that a method learns from the trees."""
    return Job(
        method=method,
        trees=tuple(trees),
        lessons=lessons_of(method, trees, PreferenceConfig())[0],
        system=SYSTEM,
        start=str(start or config.base),
        out=out,
        config=config,
        seed=1,
    )


def away_from_the_reference(trainer: T) -> T:
    """A trainer whose adapter, loaded as the reference, is changed: margins are no longer 0."""
    model: Any = trainer.model  # type: ignore[attr-defined]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.mul_(1.5)
    return trainer


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk_at(tmp_path / "small", "64k") as folder:
        yield folder
