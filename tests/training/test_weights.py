from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from interalign.conversations.tree import Tree
from interalign.errors import InputError, MissingExtra, ModelError
from interalign.llm.local import load_checkpoint
from interalign.personas.persona import Persona
from interalign.training.checkpoint import read_manifest
from interalign.training.objectives import score_targets
from interalign.training.packing import Example
from interalign.training.tokens import tree_segments
from interalign.training.train import DpoConfig, SftConfig, TrainConfig, train
from interalign.training.tree_trainer import collate
from interalign.training.weights import LoraSettings, Quantization, load_trainable, prepare_mixed_precision
from tests.training.tiny import SYSTEM

IDS = torch.arange(3, 40)[None]


def trained(model: Any) -> dict[str, Any]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def test_an_adapter_is_float32_on_frozen_weights_of_any_format(config: TrainConfig) -> None:
    model, _ = load_trainable(config.base, config.model_copy(update={"dtype": "bfloat16"}))
    assert all("lora_" in name and weight.dtype == torch.float32 for name, weight in trained(model).items())
    frozen = {weight.dtype for weight in model.parameters() if not weight.requires_grad}
    assert frozen == {torch.bfloat16}


@pytest.mark.parametrize(
    ("dtype", "expected"), [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_weights_that_are_trained_are_float32_unless_less_is_asked_for(
    config: TrainConfig, dtype: str, expected: torch.dtype
) -> None:
    model, _ = load_trainable(config.base, config.model_copy(update={"full_weights": True, "dtype": dtype}))
    assert {weight.dtype for weight in model.parameters()} == {expected}
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("full", [True, False])
def test_float32_weights_learn_alike_from_products_in_bfloat16(
    config: TrainConfig, trees: list[Tree], full: bool
) -> None:
    gradients = {}
    for dtype in ("float32", "bfloat16"):
        settings = config.model_copy(update={"full_weights": full, "dtype": dtype})
        torch.manual_seed(5)
        model, tokenizer = load_trainable(config.base, settings.model_copy(update={"dtype": "float32"}))
        for name, weight in trained(model).items():
            # The second matrix of an adapter is zero at first, and nothing reaches the one before it.
            weight.data += 0.01 * torch.randn(weight.shape) * ("lora_B" in name)
        computed_in = prepare_mixed_precision(model, settings)
        assert computed_in is (torch.bfloat16 if dtype == "bfloat16" else None)
        sequence = collate([Example(0, tuple(tree_segments(trees[0], [0, 1], SYSTEM, tokenizer)), (1,))])
        score_targets(model, sequence, computed_in=computed_in).logps.sum().backward()
        gradients[dtype] = torch.cat([weight.grad.flatten() for weight in trained(model).values()])
        assert gradients[dtype].dtype == torch.float32
    exact, rounded = gradients.values()
    assert not torch.equal(exact, rounded)
    assert torch.cosine_similarity(exact, rounded, dim=0) > 0.99


def test_the_adapter_is_the_one_that_is_asked_for(config: TrainConfig) -> None:
    lora = LoraSettings(rank=4, alpha=12, dropout=0.5, targets=("q_proj", "v_proj"))
    model, _ = load_trainable(config.base, config.model_copy(update={"lora": lora}))
    put = model.peft_config["default"]
    assert (put.r, put.lora_alpha, put.lora_dropout) == (4, 12, 0.5)
    assert {name.split(".")[-4] for name in trained(model)} == {"q_proj", "v_proj"}


def test_without_names_all_linear_layers_get_one_but_the_output(config: TrainConfig) -> None:
    model, _ = load_trainable(config.base, config)
    layers = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {name.split(".")[-4] for name in trained(model)} == layers


def test_an_adapter_to_start_from_is_trained_further(tuned: Path, config: TrainConfig) -> None:
    model, _ = load_trainable(str(tuned), config)
    saved = load_file(tuned / "adapter_model.safetensors")
    now = {name.replace(".default", ""): weight for name, weight in trained(model).items()}
    assert now.keys() == saved.keys()
    assert all(torch.equal(now[name], saved[name]) for name in saved)


def test_a_damaged_adapter_is_refused_by_name(tuned: Path, config: TrainConfig, tmp_path: Path) -> None:
    damaged = shutil.copytree(tuned, tmp_path / "damaged")
    weights = damaged / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match="damaged"):
        load_trainable(str(damaged), config)


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_quantised_weights_are_not_trained_themselves(config: TrainConfig, quantization: str) -> None:
    asked = config.model_copy(update={"full_weights": True, "quantization": quantization})
    with pytest.raises(InputError, match="leave out full_weights"):
        load_trainable(config.base, asked)


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_quantisation_without_its_package(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, quantization: str
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtra, match=r"bitsandbytes.*interalign\[qlora\]"):
        load_trainable(config.base, config.model_copy(update={"quantization": quantization}))


class TestQuantised:
    """What only a machine with bitsandbytes can tell."""

    @pytest.fixture(autouse=True)
    def package(self) -> None:
        pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: pip install 'interalign[qlora]'")

    @pytest.fixture
    def quick(self, config: TrainConfig) -> TrainConfig:
        stages = {
            "sft": SftConfig(epochs=4, learning_rate=1e-2),
            "dpo": DpoConfig(epochs=4, learning_rate=1e-2),
        }
        return config.model_copy(update=stages)

    def plain_twin(self, model: Any, config: TrainConfig) -> Any:
        """The same model with the rounded weights in float32."""
        from bitsandbytes.functional import dequantize_4bit

        twin, _ = load_trainable(config.base, config.model_copy(update={"quantization": "none"}))
        layers = dict(model.named_modules())
        for name, layer in twin.named_modules():
            if name.endswith("base_layer"):
                weight = layers[name].weight
                layer.weight.data = dequantize_4bit(weight.data, weight.quant_state).to(layer.weight.dtype)
        twin.load_state_dict({name: weight.data for name, weight in trained(model).items()}, strict=False)
        return twin

    def test_nf4_computes_and_learns_with_the_rounded_weights(self, config: TrainConfig) -> None:
        torch.manual_seed(1)
        asked = config.model_copy(update={"quantization": "nf4"})
        model, _ = load_trainable(config.base, asked)
        for name, weight in trained(model).items():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
        twin = self.plain_twin(model, asked)
        with torch.no_grad():
            expected = twin(IDS).logits
            assert not torch.allclose(expected, load_trainable(config.base, config)[0](IDS).logits, atol=0.1)
            torch.testing.assert_close(model.eval()(IDS).logits, expected, atol=1e-4, rtol=1e-4)
        # Again after a pass without gradients, which is what a reference takes.
        for one in (model.train(), twin.train()):
            one(IDS).logits.log_softmax(-1)[..., 7].sum().backward()
        gradients = {name: weight.grad for name, weight in trained(twin).items()}
        for name, weight in trained(model).items():
            torch.testing.assert_close(weight.grad, gradients[name], atol=1e-3, rtol=1e-3)

    @pytest.mark.parametrize("quantization", ["nf4", "int8"])
    def test_both_stages_learn_and_their_adapters_load_over_the_unquantised_base(
        self,
        trees: list[Tree],
        people: tuple[Persona, ...],
        quick: TrainConfig,
        tmp_path: Path,
        quantization: Quantization,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        asked = quick.model_copy(update={"quantization": quantization})
        losses: dict[str, list[float]] = {"sft": [], "dpo": []}
        for method, start in (("sft", None), ("dpo", str(tmp_path / "sft"))):
            train(
                method,  # type: ignore[arg-type]
                trees,
                people,
                asked,
                tmp_path / method,
                start=start,
                system=SYSTEM,
                seed=1,
                progress=lambda done, total, loss, into=losses[method]: into.append(loss),
            )
        assert sum(losses["sft"][-4:]) < sum(losses["sft"][:4]) - 4
        # Before the first step, policy and reference are the same. On a CPU, bitsandbytes rounds what goes through int8
        # layers without gradients, as the reference does, and leaves it as it is in training.
        assert losses["dpo"][0] == pytest.approx(math.log(2), abs=1e-6 if quantization == "nf4" else 0.05)
        assert sum(losses["dpo"][-4:]) < 0.5 * sum(losses["dpo"][:4])
        assert capfd.readouterr().err == ""
        manifest = read_manifest(tmp_path / "dpo")
        assert manifest.settings["quantization"] == quantization
        # What int8 computes for a token depends on the others of its pass, so its packing may be refused.
        assert manifest.settings["packing"] == "tree" or quantization == "int8"
        saved = load_file(tmp_path / "dpo" / "adapter_model.safetensors")
        assert {weight.dtype for weight in saved.values()} == {torch.float32}
        model, _ = load_checkpoint(str(tmp_path / "dpo"), device="cpu", dtype=torch.float32)
        base, _ = load_checkpoint(quick.base, device="cpu", dtype=torch.float32)
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}
        with torch.no_grad():
            assert (model(IDS).logits - base(IDS).logits).abs().max() > 0.1
