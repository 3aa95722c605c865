"""A checkpoint in this process, as a chat model: requests that wait together are answered in one batch.

Each request brings its own seed: sampling adds Gumbel noise from that seed to the logits and takes the largest, which
is sampling from the softmax (the Gumbel-max trick) and does not depend on what else is in the batch.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interalign.errors import MissingExtra, ModelError
from interalign.llm.hardware import pick_device, pick_dtype
from interalign.llm.model import Answer, Request, Sampling, Usage
from interalign.llm.offline import resolve_model
from interalign.messages import as_dicts

if TYPE_CHECKING:
    import torch

__all__ = ["LocalModel", "fingerprint", "load_checkpoint"]

_QUIET_S = 0.03
"""How long no further request must come in before a batch starts: conversations in step ask at the same moment."""


def load_checkpoint(name: str, *, device: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """The model, in evaluation mode and with any LoRA adapter merged into it, and its tokenizer.

    Args:
        name: a folder (full weights or a PEFT adapter), a hub name, or the offline model's name.
        device: `cpu`, `cuda`, ...
        dtype: number format of the weights.

    Raises:
        InputError: the folder holds no weights.
        ModelError: the checkpoint cannot be loaded.
    """
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ModuleNotFoundError as error:
        raise MissingExtra("transformers", "train") from error
    source = resolve_model(name)
    try:
        if (Path(source) / "adapter_config.json").exists():
            from peft import AutoPeftModelForCausalLM

            model = AutoPeftModelForCausalLM.from_pretrained(source, dtype=dtype).merge_and_unload()
        else:
            model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"The model {name!r} cannot be loaded: {first_line}",
            mend="check the folder or the name; without a hub only folders and the offline model load.",
        ) from error
    if tokenizer.chat_template is None:
        raise ModelError(f"The model {name!r} has no chat template.", mend="use a chat (instruct) model.")
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(device).eval(), tokenizer


def fingerprint(name: str) -> str:
    """Twelve hexadecimal digits that change with the weights of a checkpoint folder; a hub name is its own."""
    source = Path(resolve_model(name))
    digest = hashlib.sha256(str(name).encode() if not source.is_dir() else b"")
    for file in sorted(source.glob("*.safetensors")):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:12]


class LocalModel:
    """A checkpoint as a chat model. Belongs to one event loop.

    Args:
        checkpoint: a folder, a hub name, or the offline model's name.
        max_batch: how many requests are generated for side by side.
        on_batch: called with the number of requests after each batch, for progress bars.
    """

    def __init__(self, checkpoint: str, *, max_batch: int = 32, on_batch: Callable[[int], None] | None = None) -> None:
        self._device = pick_device()
        self._model, self._tokenizer = load_checkpoint(
            checkpoint, device=self._device, dtype=pick_dtype(self._device)
        )
        self._name = f"local:{fingerprint(checkpoint)}"
        self._max_batch = max_batch
        self._on_batch = on_batch
        self._waiting: list[tuple[Request, asyncio.Future[Answer]]] = []
        self._worker: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The fingerprint of the weights, whatever folder they lie in."""
        return self._name

    async def complete(self, request: Request) -> Answer:
        """The answer to `request`, generated together with the other requests that wait."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        while self._waiting:
            await self._until_quiet()
            # Alike requests together: one batch has one sampling, and little padding when its prompts are of one length.
            self._waiting.sort(key=lambda waiting: (repr(waiting[0].sampling), _length(waiting[0])))
            _, same = next(groupby(self._waiting, key=lambda waiting: waiting[0].sampling))
            batch = list(same)[: self._max_batch]
            self._waiting = self._waiting[len(batch) :]
            try:
                answers = await asyncio.to_thread(self.generate, [request for request, _ in batch])
            except Exception as error:
                failure = ModelError(f"{self._name} failed to generate: {error}")
                failure.__cause__ = error
                for _, future in batch:
                    if not future.done():
                        future.set_exception(failure)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
            if self._on_batch:
                self._on_batch(len(batch))

    async def _until_quiet(self) -> None:
        before = -1
        while before != len(self._waiting) and len(self._waiting) < self._max_batch:
            before = len(self._waiting)
            await asyncio.sleep(_QUIET_S)

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Answers to requests that share one sampling, generated as one batch."""
        import torch
        from transformers import LogitsProcessorList

        sampling = requests[0].sampling
        prompts = [
            self._tokenizer.apply_chat_template(as_dicts(request.messages), tokenize=False, add_generation_prompt=True)
            for request in requests
        ]
        inputs = self._tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False).to(self._device)
        noise = [_gumbel_sampler(sampling, requests, self._device)] if sampling.temperature > 0 else []
        with torch.inference_mode():
            output = self._model.generate(
                **inputs,
                max_new_tokens=sampling.max_tokens,
                do_sample=False,
                logits_processor=LogitsProcessorList(noise),
                pad_token_id=self._tokenizer.pad_token_id,
            )
        start = inputs["input_ids"].shape[1]
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        return [
            self._answer(tokens.tolist(), length, sampling)
            for tokens, length in zip(output[:, start:], lengths, strict=True)
        ]

    def _answer(self, tokens: list[int], prompt_tokens: int, sampling: Sampling) -> Answer:
        ends = self._model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        length = next((index for index, token in enumerate(tokens) if token in ends), None)
        text = self._tokenizer.decode(tokens[:length], skip_special_tokens=True)
        stops = [text.index(stop) for stop in sampling.stop if stop in text]
        finished = length is not None or bool(stops)
        return Answer(
            text=text[: min(stops)] if stops else text,
            finish="stop" if finished else "length",
            usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=len(tokens) if length is None else length + 1),
            model=self._name,
        )


def _length(request: Request) -> int:
    return sum(len(message.content) for message in request.messages)


def _gumbel_sampler(sampling: Sampling, requests: Sequence[Request], device: str) -> Any:
    """A logits processor under which greedy decoding samples: temperature, top-p, then noise from each row's seed."""
    import torch
    from transformers import LogitsProcessor, TopPLogitsWarper

    class GumbelNoise(LogitsProcessor):
        def __init__(self) -> None:
            self.generators = [torch.Generator(device).manual_seed(_row_seed(request)) for request in requests]
            self.top_p = TopPLogitsWarper(sampling.top_p) if sampling.top_p < 1 else None

        def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
            scaled = scores.float() / sampling.temperature
            if self.top_p is not None:
                scaled = self.top_p(input_ids, scaled)
            width = scaled.shape[-1]
            uniform = torch.stack([torch.rand(width, generator=one, device=device) for one in self.generators])
            return scaled - torch.log(-torch.log(uniform.clamp_min(1e-20)))  # type: ignore[return-value]

    return GumbelNoise()


def _row_seed(request: Request) -> int:
    digest = hashlib.sha256(f"{request.seed}:{request.sample}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
