"""Tree-packed DPO in one file does what interalign's own trainer does, and says plainly what it cannot use."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig, MistralForCausalLM

from interalign.conversations.policy import PolicyConfig
from interalign.conversations.preferences import PreferenceConfig, preferences
from interalign.conversations.simulate import SimulateConfig, grow_trees
from interalign.conversations.tree import Tree
from interalign.llm.local import load_tokenizer
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.roles.responder import policy_prompt
from interalign.run import write_jsonl
from interalign.training.job import Job, lessons_of
from interalign.training.objectives import score_targets
from interalign.training.train import DpoConfig, TrainConfig
from interalign.training.tree_trainer import make_trainer
from tests.training.tiny import CHATML, make_model, make_tokenizer

SCRIPT = Path(__file__).parents[1] / "examples" / "tree_dpo_by_hand.py"
STEP = re.compile(r"step (\d+)/6  loss (\S+)  accuracy (\S+)  margin (\S+)  tokens (\S+) \(pair by pair (\S+)\)")
BETA = 0.3
PREFERENCE = PreferenceConfig()

HEADERLESS = (
    "{% for message in messages %}"
    "{{ message['content'] + ('<|im_end|>' if message['role'] == 'assistant' else '<|im_start|>') }}"
    "{% endfor %}"
)
FORGETFUL = CHATML.replace("message['content']", "(message['content'] if loop.last else '...')")


@pytest.fixture(scope="module")
def by_hand() -> Any:
    spec = importlib.util.spec_from_file_location("tree_dpo_by_hand", SCRIPT)
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.DEVICE = "cpu"
    return module


@pytest.fixture(scope="module")
def trees() -> list[Tree]:
    """A path with branches of three turns for each of three people, and a tree that branches on."""
    people = compose_personas(WorldConfig(train=4, heldout=2), seed=3)
    path = SimulateConfig(turns=3, siblings=("tailored", "generic", "mirror"))
    full = path.model_copy(update={"policy": PolicyConfig(name="full", depth=2)})

    async def grown() -> list[Tree]:
        shapes = ((people[:3], path), (people[3:4], full))
        return [tree for some, config in shapes async for tree in grow_trees(some, config, seed=3)]

    return asyncio.run(grown())


@pytest.fixture(scope="module")
def trees_file(trees: list[Tree], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "trees.jsonl"
    write_jsonl(path, trees)
    return path


def tiny(folder: Path, trees: list[Tree], template: str = CHATML, seed: int = 0) -> Path:
    tokenizer = make_tokenizer("\n".join(node.content for tree in trees for node in tree.nodes), template)
    return make_model(folder, tokenizer, seed)


@pytest.fixture(scope="module")
def base(trees: list[Tree], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("models") / "tiny", trees)


def loaded(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def packed_by_hand(by_hand: Any, trees_file: Path, model: Path) -> list[Any]:
    tokenizer = load_tokenizer(str(model))
    return [
        by_hand.pack(tree, pairs, tokenizer, policy_prompt()) for tree, pairs in by_hand.read_trees(str(trees_file))
    ]


def own_trainer(trees: list[Tree], base: Path, folder: Path) -> Any:
    """interalign's trainer of the same trees and model."""
    job = Job(
        method="dpo",
        trees=tuple(trees),
        lessons=lessons_of("dpo", trees, PREFERENCE)[0],
        system=policy_prompt(),
        start=str(base),
        out=folder / "dpo",
        config=TrainConfig(base=str(base), dtype="float32", full_weights=True, dpo=DpoConfig(beta=BETA)),
        seed=0,
    )
    job.work.mkdir()
    return make_trainer(job, loaded(base), load_tokenizer(str(base)))


def gradient(model: Any, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters()])


@pytest.mark.slow
def test_from_a_simulation_to_a_saved_model(trees_file: Path, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "trained"
    options = ["--out", str(out), "--steps", "6", "--lr", "1e-2", "--seed", "1", "--check"]
    command = [sys.executable, str(SCRIPT), str(trees_file), str(base), *options]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    first, *steps = done.stdout.splitlines()
    difference = re.fullmatch(r"check: \d+ replies, packed and alone, differ by (\S+) nats at most", first)
    assert difference and float(difference[1]) < 1e-3
    rows = [match.groups() for match in map(STEP.fullmatch, steps) if match]
    assert [row[0] for row in rows] == list("123456")
    losses = [float(row[1]) for row in rows]
    assert losses[0] == round(math.log(2), 4)
    # Step 5 is on the tree of step 1.
    assert losses[4] < losses[0] and float(rows[4][2]) > 0.5 and float(rows[4][3]) > 0
    assert all(int(row[4].replace(",", "")) < int(row[5].replace(",", "")) for row in rows)
    before, after = loaded(base).state_dict(), loaded(out).state_dict()
    assert before.keys() == after.keys()
    assert all(weight.isfinite().all() and not torch.equal(weight, before[name]) for name, weight in after.items())
    assert (out / "tokenizer.json").exists()


def test_it_computes_what_the_trainer_computes(
    by_hand: Any, trees: list[Tree], trees_file: Path, base: Path, tmp_path: Path
) -> None:
    trainer = own_trainer(trees, base, tmp_path)
    packed = packed_by_hand(by_hand, trees_file, base)
    assert len(packed) == len(trainer.train_dataset) == len(trees)
    # Another model than the reference: there the loss is not the logarithm of 2 whatever the pairs are.
    start, other = loaded(base), loaded(tiny(tmp_path / "other", trees, seed=5))
    for mine, row in zip(packed, trainer.train_dataset, strict=True):
        (theirs,) = trainer.data_collator([row])["sequences"]
        # interalign lays the system message out as a message of its own, to the same tokens.
        assert mine.ids.tolist() == theirs["input_ids"][0].tolist()
        assert mine.positions.tolist() == theirs["positions"][0].tolist()
        assert mine.pairs.T.tolist() == [theirs["chosen"].tolist(), theirs["rejected"].tolist()]
        with torch.no_grad():
            mine.reference = by_hand.reply_logps(start, mine)
            policy = by_hand.reply_logps(other, mine)
            tokens = score_targets(other, theirs).logps
        # Of sums of some hundred nats, rounding in float32 leaves this much.
        torch.testing.assert_close(mine.reference[mine.pairs].T, theirs["reference"], atol=1e-3, rtol=0)
        by_reply = torch.zeros(len(policy)).index_add(0, theirs["reply"], tokens)
        torch.testing.assert_close(policy, by_reply, atol=1e-3, rtol=0)
        assert by_hand.dpo_loss(mine.reference, mine, BETA)[0].item() == pytest.approx(math.log(2))
        assert trainer.compute_loss(start, theirs).item() == pytest.approx(math.log(2), abs=1e-4)
        by_hand_loss = by_hand.dpo_loss(by_hand.reply_logps(other, mine), mine, BETA)[0]
        loss = trainer.compute_loss(other, theirs)
        assert by_hand_loss.item() == pytest.approx(loss.item(), rel=1e-4, abs=1e-4)
        assert abs(loss.item() - math.log(2)) > 0.01
        one, two = gradient(other, by_hand_loss), gradient(other, loss)
        assert (one - two).norm() <= 1e-3 * two.norm()


def test_the_pairs_are_those_of_the_preferences(by_hand: Any, trees: list[Tree], trees_file: Path) -> None:
    found = [pairs for _, pairs in by_hand.read_trees(str(trees_file))]
    expected = preferences(trees, PREFERENCE)
    assert found == [
        [(pair.chosen, pair.rejected) for pair in expected if pair.tree == number] for number in range(len(trees))
    ]


def test_without_headers_siblings_share_the_token_that_predicts_their_first(
    by_hand: Any, trees: list[Tree], trees_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny(tmp_path / "headerless", trees, HEADERLESS)
    packed = packed_by_hand(by_hand, trees_file, folder)
    for one in packed:
        assert (one.positions[one.targets] - one.positions[one.predictors] == 1).all()
        first = [one.predictors[one.owners == reply][0].item() for reply in range(len(one.lines))]
        assert len(set(first)) < len(first)
        by_hand.check(loaded(folder), one)
    assert capsys.readouterr().out.count("packed and alone") == len(packed)


def test_a_model_that_does_not_keep_to_the_mask_fails_the_check(
    by_hand: Any, trees: list[Tree], trees_file: Path, base: Path
) -> None:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(load_tokenizer(str(base))),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=8,
        initializer_range=0.3,
    )
    packed = packed_by_hand(by_hand, trees_file, base)
    with pytest.raises(SystemExit, match=r"not what they are alone.*sliding"):
        by_hand.check(MistralForCausalLM(config).eval(), packed[0])


def refusal(by_hand: Any, trees: Path, model: Path, out: Path) -> str:
    """The line that a run ends with; a string as the code of an exit is printed, and makes its status 1."""
    with pytest.raises(SystemExit) as ended:
        by_hand.main([str(trees), str(model), "--out", str(out)])
    assert isinstance(ended.value.code, str) and "\n" not in ended.value.code
    assert not (out / "config.json").exists()
    return ended.value.code


def test_trees_without_pairs_are_refused(by_hand: Any, trees: list[Tree], base: Path, tmp_path: Path) -> None:
    silent = [
        tree.model_copy(update={"nodes": tuple(node.model_copy(update={"verdict": None}) for node in tree.nodes)})
        for tree in trees
    ]
    write_jsonl(tmp_path / "trees.jsonl", silent)
    assert "holds no pairs" in refusal(by_hand, tmp_path / "trees.jsonl", base, tmp_path / "out")


@pytest.mark.parametrize(
    "content", ["# Notes\n", '{"name": "Ann"}\n', "[1, 2]\n", '{"nodes": [3]}\n', '{"nodes": [{"role": "user"}]}\n']
)
def test_a_file_of_something_else_is_refused(by_hand: Any, base: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "trees.jsonl").write_text(content, encoding="utf-8")
    said = refusal(by_hand, tmp_path / "trees.jsonl", base, tmp_path / "out")
    assert said.startswith(f"{tmp_path / 'trees.jsonl'} does not hold conversation trees")


def test_a_missing_file_is_named(by_hand: Any, base: Path, tmp_path: Path) -> None:
    assert "nowhere.jsonl does not hold" in refusal(by_hand, tmp_path / "nowhere.jsonl", base, tmp_path / "out")


def test_a_template_that_rewrites_earlier_turns_is_refused(
    by_hand: Any, trees: list[Tree], trees_file: Path, tmp_path: Path
) -> None:
    model = tiny(tmp_path / "forgetful", trees, FORGETFUL)
    assert "changes earlier messages" in refusal(by_hand, trees_file, model, tmp_path / "out")


def test_a_folder_without_a_model_is_refused(by_hand: Any, trees_file: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "cannot be trained" in refusal(by_hand, trees_file, tmp_path / "empty", tmp_path / "out")


def test_what_stands_at_the_out_folder_is_kept(by_hand: Any, trees_file: Path, base: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    assert "exists already" in refusal(by_hand, trees_file, base, tmp_path)


def test_the_file_stands_alone_and_is_short() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or "."]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - sys.stdlib_module_names == {"torch", "transformers"}
    assert len(text.splitlines()) < 200


def test_the_system_message_is_the_one_that_policies_are_tested_with() -> None:
    assert json.dumps(policy_prompt()) in SCRIPT.read_text(encoding="utf-8")
