"""A checkpoint in this process, as a chat model: requests that wait together are answered in one batch.

A batch that goes on from the one before, as conversations in step do, computes its new messages only (`prefixes.py`).

Each request brings its own seed: sampling adds Gumbel noise from that seed to the logits and takes the largest, which
is sampling from the softmax (the Gumbel-max trick) and does not depend on what else is in the batch.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from interalign.errors import MissingExtra, ModelError
from interalign.llm.hardware import Precision, pick_device, pick_dtype
from interalign.llm.libraries import quiet
from interalign.llm.model import Answer, Chance, Request, Sampling, Usage
from interalign.llm.offline import OFFLINE_MODEL, resolve_model
from interalign.llm.prefixes import Prefixes
from interalign.messages import as_dicts

if TYPE_CHECKING:
    import torch

__all__ = ["LocalModel", "adapter_base", "fingerprint", "load_checkpoint", "load_tokenizer", "load_weights", "loading"]

_QUIET_S = 0.03
"""How long no further request must come in before a batch starts: conversations in step ask at the same moment."""


_LIKELY = 256

_Seen: TypeAlias = tuple[list[int], list[float]]
"""Tokens at one place of an answer, and the logarithms of their probabilities."""


def load_checkpoint(name: str, *, device: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """The model, in evaluation mode and with any LoRA adapter merged into it, and its tokenizer.

    Args:
        name: a folder (full weights or a PEFT adapter), a hub name, or the offline model's name.
        device: `cpu`, `cuda`, ...
        dtype: number format of the weights.

    Raises:
        InputError: the folder holds no weights.
        ModelError: the checkpoint cannot be loaded, or has no chat template.
    """
    base = adapter_base(name)
    if base is None:
        model = load_weights(name, dtype)
    else:
        model = load_weights(base, dtype)
        with loading(name):
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, resolve_model(name)).merge_and_unload()
    tokenizer = load_tokenizer(name)
    tokenizer.padding_side = "left"
    return model.to(device).eval(), tokenizer


def adapter_base(name: str) -> str | None:
    """The model that the PEFT adapter in a checkpoint folder belongs to; None when `name` is no adapter folder."""
    config = Path(resolve_model(name)) / "adapter_config.json"
    if not config.exists():
        return None
    with loading(name):
        base = str(json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"])
    # The offline model lies in the cache of whoever trained the adapter, and elsewhere on other machines.
    return OFFLINE_MODEL if Path(base).name == OFFLINE_MODEL and not Path(base).exists() else base


def load_weights(name: str, dtype: torch.dtype, **options: Any) -> Any:
    """The model of a folder with full weights, or of a hub name; raises InputError, ModelError.

    `options` are those of transformers, such as how attention is computed.
    """
    source = resolve_model(name)
    with loading(name):
        from transformers import AutoModelForCausalLM

        loaded: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, output_loading_info=True, **options)
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"The model {name!r} lacks {len(missing)} of its weights, {missing[0]} among them.",
            mend="save or download it again.",
        )
    return model


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a model, with a chat template and a padding token; raises InputError, ModelError."""
    source = resolve_model(name)
    with loading(name):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(source)
    if tokenizer.chat_template is None:
        raise ModelError(f"The model {name!r} has no chat template.", mend="use a chat (instruct) model.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Within this block something is loaded quietly; what goes wrong becomes a ModelError about `name`."""
    try:
        from safetensors import SafetensorError

        with quiet():
            yield
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "transformers", "train") from error
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"The model {name!r} cannot be loaded: {first_line}",
            mend="check the folder or the name; without a hub only folders and the offline model load.",
        ) from error


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
        dtype: number format of the weights. Only float32 gives an answer that does not depend on its batch at all:
            in bfloat16, padding may tip the balance between two tokens that are equally likely.
    """

    def __init__(
        self,
        checkpoint: str,
        *,
        max_batch: int = 32,
        on_batch: Callable[[int], None] | None = None,
        dtype: Precision = "auto",
    ) -> None:
        self._device = pick_device()
        self._model, self._tokenizer = load_checkpoint(
            checkpoint, device=self._device, dtype=pick_dtype(self._device, dtype)
        )
        self._ends = _end_tokens(self._model, self._tokenizer)
        _settle_generation(self._model, sorted(self._ends), self._tokenizer.pad_token_id)
        self._model.get_output_embeddings().register_forward_pre_hook(_contiguous)
        self._name = f"local:{fingerprint(checkpoint)}:{str(self._model.dtype).removeprefix('torch.')}"
        self._max_batch = max_batch
        self._on_batch = on_batch
        self._prefixes = Prefixes()
        self._waiting: list[tuple[Request, asyncio.Future[Answer]]] = []
        self._worker: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The fingerprint of the weights, whatever folder they lie in, and their number format."""
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
            batch = self._next_batch()
            if not batch:
                continue
            try:
                answers = await asyncio.to_thread(self.generate, [request for request, _ in batch])
                if self._on_batch:
                    self._on_batch(len(batch))
            except Exception as error:
                # Whatever goes wrong reaches those who wait: a worker that died would leave them waiting for ever.
                for _, future in batch:
                    if not future.done():
                        future.set_exception(_failure(self._name, error))
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    def _next_batch(self) -> list[tuple[Request, asyncio.Future[Answer]]]:
        """Take out of the queue what is generated next; those who no longer wait are dropped."""
        waiting = [one for one in self._waiting if not one[1].done()]
        # Alike requests together: one batch has one sampling, and little padding when its prompts are of one length.
        waiting.sort(key=lambda one: (repr(one[0].sampling), _length(one[0])))
        same = [one for one in waiting if one[0].sampling == waiting[0][0].sampling]
        others = [one for one in waiting if one[0].sampling != waiting[0][0].sampling]
        self._waiting = same[self._max_batch :] + others
        return same[: self._max_batch]

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
        prompts = [self._prompt(request) for request in requests]
        batch = self._prefixes.batch(prompts, self._tokenizer.pad_token_id)
        processors = [_gumbel_sampler(sampling, requests, self._device)] if sampling.temperature > 0 else []
        watched = _watched(processors, max(request.top_logprobs for request in requests))
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=batch.ids.to(self._device),
                attention_mask=batch.mask.to(self._device),
                past_key_values=batch.cache,
                max_new_tokens=sampling.max_tokens,
                do_sample=False,
                logits_processor=LogitsProcessorList(processors if watched is None else [watched]),
                return_dict_in_generate=True,
            )
        written = output.sequences[:, batch.ids.shape[1] :].tolist()
        lengths = [self._length(tokens) for tokens in written]
        self._prefixes.keep(batch, output.sequences.cpu(), lengths, output.past_key_values)
        answers = [
            self._answer(tokens[:length], len(prompt), sampling)
            for prompt, tokens, length in zip(prompts, written, lengths, strict=True)
        ]
        if watched is None:
            return answers
        return [
            answer.model_copy(update={"top": self._chances(tokens[:length], watched.rows(row), request.top_logprobs)})
            for row, (request, answer, tokens, length) in enumerate(
                zip(requests, answers, written, lengths, strict=True)
            )
        ]

    def _chances(self, tokens: list[int], seen: list[_Seen], wanted: int) -> tuple[tuple[Chance, ...], ...]:
        """The chances at each place of an answer; its end mark, which is no text, has none."""
        places = len(tokens) - (tokens[-1] in self._ends) if wanted else 0
        return tuple(self._place(tokens[max(place - 1, 0) : place], seen[place], wanted + 1) for place in range(places))

    def _place(self, before: list[int], seen: _Seen, count: int) -> tuple[Chance, ...]:
        # What a token adds to a text may depend on the one before it, as where that one begins a line.
        lead = self._tokenizer.decode(before, skip_special_tokens=True)
        texts = self._tokenizer.batch_decode([[*before, one] for one in seen[0][:count]], skip_special_tokens=True)
        found: dict[str, Chance] = {}
        for text, logprob in zip(texts, seen[1][:count], strict=True):
            token = text.removeprefix(lead)
            found.setdefault(token, Chance(token, min(logprob, 0.0)))
        return tuple(found.values())

    def _prompt(self, request: Request) -> list[int]:
        text = self._tokenizer.apply_chat_template(
            as_dicts(request.messages), tokenize=False, add_generation_prompt=True
        )
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _length(self, tokens: list[int]) -> int:
        """How many of the tokens are the answer, its end mark included; what follows is padding."""
        return next((index + 1 for index, token in enumerate(tokens) if token in self._ends), len(tokens))

    def _answer(self, tokens: list[int], prompt_tokens: int, sampling: Sampling) -> Answer:
        ended = bool(tokens) and tokens[-1] in self._ends
        text = self._tokenizer.decode(tokens[:-1] if ended else tokens, skip_special_tokens=True)
        stops = [text.index(stop) for stop in sampling.stop if stop in text]
        return Answer(
            text=text[: min(stops)] if stops else text,
            finish="stop" if ended or stops else "length",
            usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=len(tokens)),
            model=self._name,
        )


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends an answer: those the model was published with, and the tokenizer's end of turn."""
    named = model.generation_config.eos_token_id
    ends = named if isinstance(named, list) else [named]
    return frozenset(token for token in (*ends, tokenizer.eos_token_id) if token is not None)


def _settle_generation(model: Any, ends: list[int], pad: int) -> None:
    # A checkpoint may bring sampling habits of its own, such as a repetition penalty. What decides an answer stands in
    # the request, so they are left out.
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=pad)  # type: ignore[no-untyped-call]


def _contiguous(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    # The last position of each prompt is a view with gaps. For that torch copies the weights of the output layer once
    # per row before it multiplies: a third of the time that a batch takes on a CPU.
    return (inputs[0].contiguous(), *inputs[1:])


def _failure(name: str, error: Exception) -> ModelError:
    # One for each request: an exception collects the traceback of everyone who raises it.
    failure = ModelError(f"{name} failed to generate: {error}")
    failure.__cause__ = error
    return failure


def _length(request: Request) -> int:
    return sum(len(message.content) for message in request.messages)


def _gumbel_sampler(sampling: Sampling, requests: Sequence[Request], device: str) -> Any:
    """A logits processor under which greedy decoding samples: temperature, nucleus, then noise from each row's seed."""
    import torch
    from transformers import LogitsProcessor

    class GumbelNoise(LogitsProcessor):
        def __init__(self) -> None:
            self.generators = [torch.Generator(device).manual_seed(_row_seed(request)) for request in requests]

        def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
            scaled = scores.float() / sampling.temperature
            kept, indices = _nucleus(scaled, sampling.top_p)
            width = kept.shape[-1]
            # -log of an exponential variate is a Gumbel variate.
            noise = [torch.empty(width, device=device).exponential_(generator=one).log() for one in self.generators]
            noisy = kept - torch.stack(noise)
            return torch.full_like(scaled, -torch.inf).scatter(-1, indices, noisy)  # type: ignore[return-value]

    return GumbelNoise()


def _nucleus(logits: torch.Tensor, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest tokens that together reach `top_p`, as logits and indices: (rows, k), padded with -inf.

    The whole vocabulary is sorted only where the likeliest 256 tokens do not reach: sorting 49k of them for 20 rows
    takes as long as the model itself on a CPU.
    """
    import torch

    likely = min(_LIKELY if top_p < 1 else logits.shape[-1], logits.shape[-1])
    total = logits.logsumexp(-1, keepdim=True)
    while True:
        top, indices = logits.topk(likely)
        reached = (top - total).exp().cumsum(-1)
        if likely == logits.shape[-1] or bool((reached[:, -1] >= top_p).all()):
            break
        likely = logits.shape[-1]
    # A token stays when those before it do not reach the share yet, so the likeliest one always does.
    before = torch.cat([torch.zeros_like(reached[:, :1]), reached[:, :-1]], dim=-1)
    return top.masked_fill(before >= top_p, -torch.inf), indices


def _watched(processors: Sequence[Any], wanted: int) -> Any:
    """A logits processor that does what `processors` do, and remembers how likely tokens were before they did.

    At each step it keeps the token that is taken and the `wanted` likeliest ones, likeliest first. None when no chances
    are wanted.
    """
    import torch
    from transformers import LogitsProcessor

    class Watched(LogitsProcessor):
        def __init__(self) -> None:
            self.steps: list[tuple[list[list[int]], list[list[float]]]] = []

        def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
            logprobs = scores.float().log_softmax(-1)
            for processor in processors:
                scores = processor(input_ids, scores)
            taken = scores.argmax(-1, keepdim=True)
            ids = torch.cat([taken, logprobs.topk(min(wanted, logprobs.shape[-1])).indices], dim=-1)
            self.steps.append((ids.tolist(), logprobs.gather(-1, ids).tolist()))
            return scores

        def rows(self, row: int) -> list[_Seen]:
            return [(ids[row], logprobs[row]) for ids, logprobs in self.steps]

    return Watched() if wanted else None


def _row_seed(request: Request) -> int:
    digest = hashlib.sha256(f"{request.seed}:{request.sample}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
