"""Training on a policy's own conversations, stage by stage, with a model of two layers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from interalign.conversations.environment import environment_played_by
from interalign.conversations.simulate import SimulateConfig, roles_played_by
from interalign.conversations.tree import Tree
from interalign.errors import InputError
from interalign.llm.backends import ScriptedConfig
from interalign.personas.compose import WorldConfig
from interalign.personas.persona import Persona
from interalign.pipeline import TRAINED, evaluate, make_model, make_personas
from interalign.pipeline.work import Work
from interalign.recipe import Recipe
from interalign.run import read_jsonl, write_jsonl
from interalign.training.checkpoint import read_manifest
from interalign.training.iterated import IteratedConfig
from interalign.training.online.grpo import GrpoConfig
from interalign.training.online.rewards import RewardConfig
from interalign.training.online.rows import RolloutRow
from interalign.training.train import DpoConfig, TrainConfig
from tests.training.tiny import make_model as make_base
from tests.training.tiny import make_tokenizer


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    text = "Tea or coffee? I like the garden, music and long walks. That sounds lovely! How about your family? 🙂"
    base = make_base(tmp_path_factory.mktemp("models") / "tiny", make_tokenizer(text))
    sampling = {"max_tokens": 6, "temperature": 1.0}
    train = TrainConfig(
        base=str(base),
        dtype="float32",
        dpo=DpoConfig(start="base", learning_rate=1e-3),
        iterated=IteratedConfig.model_validate(
            {"rounds": 3, "personas": 2, "turns": 2, "siblings": ("policy", "policy", "tailored"), "sampling": sampling}
        ),
        grpo=GrpoConfig(steps=2, personas_per_step=1, generations=2, turns=2, max_tokens=5),
    )
    whole = Recipe(world=WorldConfig(train=4, heldout=2), train=train)
    benchmark = whole.benchmark.model_copy(update={"turns": 2, "resamples": 50, "max_tokens": 6})
    return whole.model_copy(update={"benchmark": benchmark})


def work_in(recipe: Recipe, folder: Path) -> Any:
    return Work.open(recipe, folder, Console(quiet=True))


@pytest.mark.parametrize("method", ["iterated-dpo", "comal"])
def test_rounds_go_on_where_they_were_stopped(recipe: Recipe, tmp_path: Path, method: Any) -> None:
    with work_in(recipe, tmp_path / "run") as work:
        make_personas(work)
        make_model(work, method)
        rounds, out = work.run.root / "rounds", work.run.models / method
        trees = [read_jsonl(rounds / f"{method}-{number}.trees.jsonl", Tree) for number in (1, 2, 3)]
        for of_round in trees:
            assert len(of_round) == 2
            sources = {node.source for tree in of_round for node in tree.nodes if node.role == "assistant"}
            assert "policy" in sources
            assert all(node.verdict for tree in of_round for node in tree.nodes if node.role == "assistant")
        assert {tree.persona_id for tree in trees[0]}.isdisjoint({tree.persona_id for tree in trees[1]})
        first, last = read_manifest(rounds / f"{method}-1"), read_manifest(out)
        assert (first.parent, last.parent) == (recipe.train.base, f"{method}-2")
        assert last.method == ("comal" if method == "comal" else "dpo")
        assert last.settings.get("anchor") == (f"{method}-2" if method == "comal" else None)

        before = (rounds / f"{method}-3.trees.jsonl").read_bytes()
        shutil.rmtree(out)
        make_model(work, method)
        assert (rounds / f"{method}-3.trees.jsonl").read_bytes() == before
        assert read_manifest(out).metrics == pytest.approx(last.metrics, rel=1e-4)


def test_reinforcement_learning_leaves_a_checkpoint_and_its_conversations(recipe: Recipe, tmp_path: Path) -> None:
    with work_in(recipe, tmp_path / "run") as work:
        make_personas(work)
        make_model(work, "grpo")
        out = work.run.models / "grpo"
        manifest = read_manifest(out)
        assert (manifest.method, manifest.steps, manifest.parent) == ("grpo", 2, Path(recipe.train.base).name)
        rows = read_jsonl(out / "rollouts.jsonl", RolloutRow)
        assert len(rows) == 2 * 2
        assert [path.name for path in work.run.models.iterdir()] == ["grpo"]
        make_model(work, "grpo")
        assert read_manifest(out) == manifest


def test_what_was_trained_is_evaluated_under_its_name(recipe: Recipe, tmp_path: Path) -> None:
    with work_in(recipe, tmp_path / "run") as work:
        make_personas(work)
        make_model(work, "grpo")
        summary = evaluate(work, ["base", *(name for name in TRAINED if (work.run.models / name).exists())])
        assert [model.name for model in summary.models if model.kind != "control"] == ["base", "grpo"]


def test_without_the_checkpoint_to_start_from(recipe: Recipe, tmp_path: Path) -> None:
    from_sft = recipe.train.model_copy(update={"dpo": DpoConfig()})
    with work_in(recipe.model_copy(update={"train": from_sft}), tmp_path / "run") as work:
        make_personas(work)
        for method in ("inpo", "grpo"):
            with pytest.raises(InputError, match=r"starts from .*sft, which does not exist"):
                make_model(work, method)
        assert not work.run.models.exists()


def test_rounds_and_reinforcement_meet_users_whom_language_models_play(recipe: Recipe, tmp_path: Path) -> None:
    scripted = ScriptedConfig()
    grpo = recipe.train.grpo.model_copy(
        update={"roles": environment_played_by(scripted), "rewards": RewardConfig(induction=0.5)}
    )
    iterated = recipe.train.iterated.model_copy(update={"rounds": 1})
    changes = {
        "simulate": SimulateConfig(roles=roles_played_by(scripted)),
        "train": recipe.train.model_copy(update={"grpo": grpo, "iterated": iterated}),
    }
    with work_in(recipe.model_copy(update=changes), tmp_path / "run") as work:
        people = [
            Persona(profile=f"{name} is a baker and keeps bees.", personality="Is blunt. Likes short answers.")
            for name in ("Ada", "Bo", "Cem")
        ]
        write_jsonl(work.run.personas, people)
        make_model(work, "iterated-dpo")
        make_model(work, "grpo")
        (of_round,) = (work.run.root / "rounds").glob("*.trees.jsonl")
        trees = read_jsonl(of_round, Tree)
        assert {node.model for tree in trees for node in tree.nodes if node.role == "user"} == {"scripted user"}
        assert {node.source for tree in trees for node in tree.nodes} >= {"policy", "tailored"}
        assert any(node.disclosure and node.disclosure.stated for tree in trees for node in tree.nodes)
        rows = read_jsonl(work.run.models / "grpo" / "rollouts.jsonl", RolloutRow)
        assert {row.failure for row in rows} == {None}
        assert all(turn.score is not None for row in rows for turn in row.turns)
        assert all(row.terms["induction"] is not None and row.reward is not None for row in rows)


def test_reinforcement_with_a_language_model_as_user_and_what_is_learnt_wants_a_grader() -> None:
    roles = environment_played_by(ScriptedConfig()).model_copy(update={"grader": None})
    with pytest.raises(ValueError, match="a grader: name one"):
        GrpoConfig(roles=roles, rewards=RewardConfig(induction=0.5))
