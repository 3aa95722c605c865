"""The weights that are trained: all of a model's, or an adapter's beside frozen ones, quantised or not."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field

from interalign.errors import InputError, MissingExtra
from interalign.llm.hardware import pick_device, pick_dtype
from interalign.llm.libraries import quiet
from interalign.llm.local import adapter_base, load_tokenizer, load_weights, loading
from interalign.messages import Value
from interalign.training.attention import Attention, pick_attention, use_attention

if TYPE_CHECKING:
    import torch

    from interalign.training.train import TrainConfig

__all__ = ["LoraSettings", "Quantization", "load_trainable", "prepare_mixed_precision"]

Quantization: TypeAlias = Literal["none", "nf4", "int8"]


class LoraSettings(Value):
    """Low-rank adaptation (Hu et al. 2021)."""

    rank: Annotated[int, Field(ge=1)] = 16
    """Rank of the update matrices."""
    alpha: Annotated[int, Field(ge=1)] = 32
    """Scale: updates are multiplied by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the adapter's inputs that is dropped. DPO trains without any."""
    targets: tuple[str, ...] = ()
    """Names of the modules that get an adapter; none: all linear layers but the output layer."""


def load_trainable(start: str, config: TrainConfig, *, packed: bool = True) -> tuple[Any, Any]:
    """The model to train, with its adapter, and its tokenizer.

    Trained weights are float32 unless the settings ask for less: small updates of a bfloat16 weight would round away.
    A start that is an adapter is trained further; on top of full weights a new adapter is put, if there is to be one.
    `packed`: for packed trees, which have an attention of their own.

    Raises:
        InputError: all weights of a quantised model were to be trained, or the model cannot compute the attention that
            the settings name.
        MissingExtra: quantisation needs a package that is not installed.
        ModelError: the start cannot be loaded.
    """
    # It warns at every layer of every pass that int8 rounds activations; peft imports it where it is installed.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    device = pick_device()
    adapted = adapter_base(start)
    frozen = adapted is not None or not config.full_weights
    if config.quantization != "none" and not frozen:
        raise InputError(
            "The weights of a quantised model cannot be trained themselves.",
            mend='leave out full_weights to train an adapter on them, or set quantization = "none".',
        )
    if config.attention == "flex_attention" and not device.startswith("cuda"):
        raise InputError("FlexAttention cannot be trained through on a CPU.", mend='set train.attention = "sdpa".')
    dtype = pick_dtype(device, config.dtype if frozen or config.dtype != "auto" else "float32")
    model = load_weights(
        adapted or start,
        dtype,
        attn_implementation="sdpa",
        **_quantised(config.quantization, dtype),
    )
    if packed:
        _choose_attention(model, config.attention, device)
    model = _with_adapter(model, start if adapted is not None else None, config)
    if config.quantization != "none":
        # TRL takes these as a sign to round adapters to bfloat16, where small updates are lost.
        model.is_loaded_in_4bit = model.is_loaded_in_8bit = False
    else:
        # A quantised model is put on its device as it is loaded.
        model = model.to(device)
    return model, load_tokenizer(start)


def prepare_mixed_precision(model: Any, config: TrainConfig) -> torch.dtype | None:
    """The number format that products of float32 weights are to be computed in; None: that of the weights.

    Where that is another, the adapters of the model are made to take their inputs as they come: peft would write each
    of them again in float32, only for the multiplication to round it.
    """
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    if pick_dtype(pick_device(), config.dtype) != torch.bfloat16:
        return None
    if config.quantization == "none":
        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                module.cast_input_dtype_enabled = False  # type: ignore[attr-defined]
    return torch.bfloat16


def _choose_attention(model: Any, named: Attention | None, device: str) -> None:
    try:
        with quiet():
            use_attention(model, named or pick_attention(device))
    except ValueError as error:
        # A model that has only the dense mask keeps it, unless another one was asked for.
        if named is not None:
            raise InputError(
                f"This model cannot compute attention as {named}: {error}", mend="leave out train.attention."
            ) from error


def _with_adapter(model: Any, start: str | None, config: TrainConfig) -> Any:
    """The model with the adapter to train further, or a new one, or none where all weights are trained."""
    from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training

    with quiet():
        if config.quantization != "none":
            _keep_layout(model)
            model = prepare_model_for_kbit_training(  # type: ignore[no-untyped-call]
                model, use_gradient_checkpointing=False
            )
        if start is not None:
            with loading(start):
                return PeftModel.from_pretrained(model, start, is_trainable=True)
        if config.full_weights:
            return model
        lora = LoraConfig(
            r=config.lora.rank,
            lora_alpha=config.lora.alpha,
            lora_dropout=config.lora.dropout,
            target_modules=list(config.lora.targets) or "all-linear",
            task_type="CAUSAL_LM",
        )
        return get_peft_model(model, lora)


def _quantised(quantization: Quantization, dtype: Any) -> dict[str, Any]:
    """The options of transformers that load frozen weights in few bits."""
    if quantization == "none":
        return {}
    if find_spec("bitsandbytes") is None:
        raise MissingExtra("bitsandbytes", "qlora")
    from transformers import BitsAndBytesConfig

    if quantization == "int8":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}  # type: ignore[no-untyped-call]
    nf4 = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return {"quantization_config": nf4}


def _keep_layout(model: Any) -> None:
    """Keep bitsandbytes 0.50 from repacking 4-bit weights on a CPU.

    On CPUs with AVX-512 BF16 it repacks them, for good, at the first pass without gradients (the reference's). What
    multiplies repacked weights has no backward pass: the adapters of all layers but the last would get wrong gradients.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
