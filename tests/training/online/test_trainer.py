from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from interalign.conversations.environment import Environment
from interalign.errors import InputError, ModelError, TrainingError
from interalign.llm.libraries import quiet
from interalign.messages import Chat
from interalign.personas.persona import Persona
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Ledger
from interalign.run import read_jsonl
from interalign.training.online.grpo import GrpoConfig, Trained, train_grpo
from interalign.training.online.monitors import SuspicionConfig
from interalign.training.online.rewards import RewardConfig
from interalign.training.online.rows import RolloutRow
from tests.training.tiny import SYSTEM

SHORT = GrpoConfig(
    steps=4,
    personas_per_step=2,
    generations=3,
    turns=2,
    max_tokens=8,
    learning_rate=5e-3,
    save_every=2,
)

Train = Callable[..., Trained]


class LetterJudge:
    """Likes the letter e, and says nothing about some of the replies."""

    def __init__(self, speaks: Callable[[Persona, Ledger, str], bool] = lambda *_: True) -> None:
        self._speaks = speaks

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        if not self._speaks(persona, ledger, reply):
            return None
        return Verdict(score=1 + 4 * min(1.0, 3 * reply.count("e") / max(1, len(reply))))


@pytest.fixture(scope="module")
def load(base: Path) -> Callable[[], Any]:
    def load() -> Any:
        with quiet():
            return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)

    return load


def trainer_in(folder: Path, load: Callable[[], Any], tokenizer: Any, people: tuple[Persona, ...]) -> Train:
    """What trains the tiny model for a moment."""

    def train(
        config: GrpoConfig = SHORT, *, model: Any = None, work: str = "work", judge: Any = None, **settings: Any
    ) -> Trained:
        environment = Environment(judge=judge or LetterJudge())
        return train_grpo(
            model or load(),
            tokenizer,
            people[:3],
            config,
            **{"system": SYSTEM, "work_folder": folder / work, "seed": 4, **settings},
            environment=lambda: nullcontext(environment),
        )

    return train


@pytest.fixture
def train(load: Callable[[], Any], tokenizer: Any, people: tuple[Persona, ...], tmp_path: Path) -> Train:
    return trainer_in(tmp_path, load, tokenizer, people)


def adapted(model: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))


def weights(model: Any) -> torch.Tensor:
    return torch.cat([one.detach().flatten() for one in model.parameters() if one.requires_grad])


def curve(work: Path) -> list[dict[str, Any]]:
    """The logged steps of the newest state, without the time they took."""
    newest = max(work.glob("checkpoint-*"), key=lambda state: int(state.name.split("-")[1]))
    history = json.loads((newest / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    return [{k: v for k, v in entry.items() if "time" not in k and "seconds" not in k} for entry in history]


def test_a_reward_that_is_easy_to_hack_is_hacked_and_seen_through(train: Train, tmp_path: Path) -> None:
    told: list[tuple[int, int, float]] = []
    update = {"steps": 12, "generations": 12, "turns": 1, "max_tokens": 24, "beta": 0.0, "learning_rate": 5e-2}
    config = SHORT.model_copy(update={**update, "suspicion": SuspicionConfig(window=2, factor=1.5)})
    trained = train(config, progress=lambda *one: told.append(one))
    steps = [entry for entry in curve(tmp_path / "work") if "reward" in entry]
    rewards = [entry["reward"] for entry in steps]
    assert len(rewards) == trained.steps == 12
    assert sum(rewards[-2:]) / 2 > sum(rewards[:2]) / 2 + 0.4
    assert [(done, steps) for done, steps, _ in told] == [(step, 12) for step in range(1, 13)]
    for name in ("online/alignment", "rewards/alignment/mean"):
        assert trained.metrics[name] == pytest.approx(trained.metrics["reward"], abs=1e-5)
    # The reward is met, and the replies are no longer language.
    assert trained.warning is not None
    assert "the length of replies went from" in trained.warning
    assert steps[-1]["online/warning"] == trained.warning
    assert "online/warning" not in steps[2]


def test_metrics_and_rows_tell_what_was_trained_on(train: Train, tmp_path: Path) -> None:
    trained = train(SHORT.model_copy(update={"rewards": RewardConfig(improvement=0.1, induction=0.5)}))
    rows = read_jsonl(tmp_path / "work" / "rollouts.jsonl", RolloutRow)
    assert [(row.round, row.case, row.sample) for row in rows] == [
        (1 + case // 2, case, sample) for case in range(8) for sample in range(3)
    ]
    for row in rows:
        assert row.stated is not None
        rewards = RewardConfig(improvement=0.1, induction=0.5)
        earned = {name: row.terms[name] for name in rewards.weights}
        assert row.reward == pytest.approx(sum(rewards.weights[name] * term for name, term in earned.items() if term))
        assert len({other.turns[0].user for other in rows if other.case == row.case}) == 1
    last = [row.reward for row in rows if row.round == 4 and row.reward is not None]
    assert trained.metrics["reward"] == pytest.approx(sum(last) / len(last), abs=1e-5)
    assert {"kl", "entropy", "loss", "online/words", "online/turn_2", "online/seconds/user"} <= trained.metrics.keys()


def test_the_same_seed_trains_the_same(train: Train, load: Callable[[], Any], tmp_path: Path) -> None:
    models = [load() for _ in range(3)]
    short = SHORT.model_copy(update={"steps": 2})
    for number, (model, seed) in enumerate(zip(models, (4, 4, 5), strict=True)):
        train(short, model=model, work=f"work{number}", seed=seed)
    rows = [read_jsonl(tmp_path / f"work{number}" / "rollouts.jsonl", RolloutRow) for number in range(3)]
    assert rows[0] == rows[1] != rows[2]
    assert torch.equal(weights(models[0]), weights(models[1]))


@pytest.mark.parametrize("kind", ["adapter", pytest.param("full", marks=pytest.mark.slow)])
def test_a_killed_training_goes_on_as_it_would_have(
    train: Train, load: Callable[[], Any], tmp_path: Path, kind: str
) -> None:
    def fresh() -> Any:
        return load() if kind == "full" else adapted(load())

    class Killed(Exception):
        pass

    def kill(done: int, steps: int, loss: float) -> None:
        if done == 3:
            raise Killed

    whole, resumed = fresh(), fresh()
    train(model=whole, work="whole")
    with pytest.raises(Killed):
        train(model=fresh(), work="killed", progress=kill)
    shutil.copytree(tmp_path / "killed" / "checkpoint-2", tmp_path / "killed" / "checkpoint-3")
    (tmp_path / "killed" / "checkpoint-3" / "trainer_state.json").unlink()
    trained = train(model=resumed, work="killed")
    assert trained.steps == 4
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")
    rows = [read_jsonl(tmp_path / work / "rollouts.jsonl", RolloutRow) for work in ("killed", "whole")]
    assert rows[0] == rows[1]
    assert torch.equal(weights(resumed), weights(whole))


def test_an_adapter_is_trained_and_the_model_left_as_it_was(train: Train, load: Callable[[], Any]) -> None:
    model = adapted(load())
    before, forward = weights(model).clone(), model.get_base_model().forward.__func__
    train(model=model)
    assert not torch.equal(weights(model), before)
    assert list(model.peft_config) == ["default"]
    assert model.get_base_model().forward.__func__ is forward


def test_conversations_per_pass_change_nothing(train: Train, load: Callable[[], Any]) -> None:
    models = [load(), load()]
    for number, (model, size) in enumerate(zip(models, (6, 2), strict=True)):
        config = SHORT.model_copy(update={"conversations_per_pass": size, "steps": 1, "learning_rate": 1e-4})
        train(config, model=model, work=f"work{number}")
    change = [weights(model) - weights(load()) for model in models]
    assert torch.nn.functional.cosine_similarity(change[0], change[1], dim=0) > 0.99


def test_what_has_no_verdict_moves_nothing(
    train: Train, load: Callable[[], Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # In each group only one conversation is ever scored: there is nobody to compare it with.
    scored: set[str] = set()

    def first_only(persona: Persona, ledger: Ledger, reply: str) -> bool:
        known = persona.id in scored and len(ledger) == 1
        scored.add(persona.id)
        return not known and len(ledger) == 1

    model = load()
    config = SHORT.model_copy(update={"steps": 1, "beta": 0.0})
    trained = train(config, model=model, judge=LetterJudge(first_only))
    assert torch.equal(weights(model), weights(load()))
    rows = read_jsonl(tmp_path / "work" / "rollouts.jsonl", RolloutRow)
    assert [row.reward is None for row in rows] == [False, True, True] * 2
    assert trained.metrics["online/unscored"] == pytest.approx(2 / 3)
    assert capfd.readouterr().err == ""


def test_a_step_without_any_verdict_ends_the_training(train: Train) -> None:
    with pytest.raises(ModelError, match="the judge gave no verdict"):
        train(judge=LetterJudge(lambda *_: False))


def test_a_loss_that_is_not_finite_ends_the_training(train: Train, load: Callable[[], Any]) -> None:
    with pytest.raises(TrainingError, match="no longer"):
        train(SHORT.model_copy(update={"learning_rate": 1e30}))


def test_a_value_that_trl_refuses_is_told_of(train: Train) -> None:
    with pytest.raises(InputError, match="TRL refuses these settings"):
        train(SHORT.model_copy(update={"trl": {"lr_scheduler_type": "sideways"}}))


def test_conversations_can_be_used_for_several_steps(train: Train, tmp_path: Path) -> None:
    trained = train(SHORT.model_copy(update={"trl": {"num_iterations": 2}, "save_every": 1}))
    assert trained.steps == 4
    assert {row.round for row in read_jsonl(tmp_path / "work" / "rollouts.jsonl", RolloutRow)} == {1, 2}
    assert sorted(state.name for state in (tmp_path / "work").glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]


ONE_STEP = SHORT.model_copy(update={"steps": 1})


@pytest.fixture(scope="module")
def plain(
    load: Callable[[], Any], tokenizer: Any, people: tuple[Persona, ...], tmp_path_factory: pytest.TempPathFactory
) -> list[RolloutRow]:
    """The conversations of a step without any option of TRL."""
    work = tmp_path_factory.mktemp("plain")
    trained = trainer_in(work, load, tokenizer, people)(ONE_STEP, model=adapted(load()))
    assert trained.metrics["online/failed"] == 0
    return read_jsonl(work / "work" / "rollouts.jsonl", RolloutRow)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"activation_checkpointing": True}, marks=pytest.mark.slow),
        pytest.param({"off_policy_mask_threshold": 1.0}, marks=pytest.mark.slow),
        {"multi_objective_aggregation": "normalize_then_sum"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_of_trl_change_no_conversation(
    train: Train, load: Callable[[], Any], plain: list[RolloutRow], tmp_path: Path, options: dict[str, Any]
) -> None:
    trained = train(ONE_STEP.model_copy(update={"trl": options}), model=adapted(load()))
    assert trained.metrics["online/failed"] == 0
    assert read_jsonl(tmp_path / "work" / "rollouts.jsonl", RolloutRow) == plain
