"""Drawing replies from the policy in training: one batch, each row with a seed of its own.

What is drawn for a row depends on its prompt, its seed and the weights; in float32 the other rows of the batch change
nothing. The log-probability that goes with a token is the one that training computes for it: of the whole
distribution at the sampling temperature.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import transformers

from interalign.errors import TrainingError
from interalign.llm.model import Sampling
from interalign.llm.prefixes import Prefixes
from interalign.training.online.rollout import Drawn

__all__ = ["PolicySampler", "end_tokens"]


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends a reply: those the model was published with, and the tokenizer's end of turn."""
    named = model.generation_config.eos_token_id
    several = named if isinstance(named, list) else [named]
    return frozenset(token for token in (*several, tokenizer.eos_token_id) if token is not None)


class PolicySampler:
    """Draws replies while the weights stay as they are; a step of training needs a new one.

    Args:
        model: a causal language model, with or without an adapter. Its mode and generation settings are put back.
        sampling: temperature above 0, top_p, max_tokens.
        ends: the tokens that end a reply.
        pad: the padding token.
    """

    def __init__(self, model: Any, sampling: Sampling, ends: frozenset[int], pad: int) -> None:
        self._model = model
        self._sampling = sampling
        self._ends = ends
        self._pad = pad
        self._prefixes = Prefixes()

    def __call__(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int]) -> list[Drawn]:
        """One reply for each prompt.

        Raises:
            TrainingError: the policy gives no finite probabilities, or a prompt leaves no room for a reply.
        """
        self._refuse_too_long(prompts)
        batch = self._prefixes.batch(prompts, self._pad)
        draw = _Draw(self._sampling, seeds, self._model.device)
        with torch.no_grad(), _plain_generation(self._model):
            output = self._model.generate(
                input_ids=batch.ids.to(self._model.device),
                attention_mask=batch.mask.to(self._model.device),
                past_key_values=batch.cache,
                generation_config=self._settings(),
                logits_processor=transformers.LogitsProcessorList([draw]),
            )
        rows = output.sequences[:, batch.ids.shape[1] :].tolist()
        lengths = [self._length(row) for row in rows]
        self._prefixes.keep(batch, output.sequences.cpu(), lengths, output.past_key_values)
        logprobs = torch.stack(draw.logprobs, dim=1).tolist()
        return [self._drawn(*one) for one in zip(rows, logprobs, lengths, strict=True)]

    def _drawn(self, row: list[int], logprobs: list[float], length: int) -> Drawn:
        if not all(map(math.isfinite, logprobs[:length])):
            raise TrainingError(
                "The policy's probabilities are no longer numbers.",
                mend="lower the learning rate; earlier checkpoints are kept.",
            )
        return Drawn(tuple(row[:length]), tuple(logprobs[:length]), ended=row[length - 1] in self._ends)

    def _length(self, row: list[int]) -> int:
        """How many of the tokens are the reply, its end mark included; what follows is padding."""
        return next((index + 1 for index, token in enumerate(row) if token in self._ends), len(row))

    def _settings(self) -> transformers.GenerationConfig:
        return transformers.GenerationConfig(
            max_new_tokens=self._sampling.max_tokens,
            do_sample=False,
            eos_token_id=sorted(self._ends),
            pad_token_id=self._pad,
            disable_compile=True,
            return_dict_in_generate=True,
        )  # type: ignore[no-untyped-call]

    def _refuse_too_long(self, prompts: Sequence[Sequence[int]]) -> None:
        room = getattr(self._model.config, "max_position_embeddings", None)
        longest = max(map(len, prompts)) + self._sampling.max_tokens
        if room is not None and longest > room:
            raise TrainingError(
                f"A conversation has grown to {longest} tokens, more than the model's {room}.",
                mend="train with fewer turns or a smaller max_tokens.",
            )


@contextmanager
def _plain_generation(model: Any) -> Iterator[None]:
    """The model in evaluation mode, and without sampling habits that its checkpoint may have brought along."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    habits, training = base.generation_config, model.training
    base.generation_config = transformers.GenerationConfig()  # type: ignore[no-untyped-call]
    model.eval()
    hook = base.get_output_embeddings().register_forward_pre_hook(_contiguous)
    try:
        yield
    finally:
        hook.remove()
        base.generation_config = habits
        model.train(training)


def _contiguous(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    # The last position of each prompt is a view with gaps, for which torch copies the output layer once per row.
    return (inputs[0].contiguous(), *inputs[1:])


class _Draw(transformers.LogitsProcessor):
    """Under this logits processor greedy decoding samples, and each drawn token's log-probability is noted down."""

    def __init__(self, sampling: Sampling, seeds: Sequence[int], device: torch.device) -> None:
        self._sampling = sampling
        # One chance for each token, drawn on the CPU: the same on every device.
        self._chances = torch.stack(
            [torch.rand(sampling.max_tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        ).to(device)
        self.logprobs: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        logprobs = (scores.float() / self._sampling.temperature).log_softmax(-1)
        # In double precision, so that the sum over a large vocabulary loses no unlikely token.
        reach = _nucleus(logprobs.exp(), self._sampling.top_p).double().cumsum(-1)
        chance = self._chances[:, len(self.logprobs), None] * reach[:, -1:]
        token = torch.searchsorted(reach, chance, right=True).clamp(max=reach.shape[-1] - 1)
        self.logprobs.append(logprobs.gather(-1, token)[:, 0])
        return torch.full_like(scores, -torch.inf).scatter(-1, token, 0.0)  # type: ignore[return-value]


def _nucleus(chances: torch.Tensor, top_p: float) -> torch.Tensor:
    """Probabilities (rows, vocabulary) with 0 for those outside the likeliest that together reach `top_p`."""
    if top_p >= 1:
        return chances
    ordered, indices = chances.sort(dim=-1, descending=True)
    # A token stays when those before it do not reach the share yet, so the likeliest one always does.
    before = ordered.cumsum(-1) - ordered
    return torch.zeros_like(chances).scatter(-1, indices, ordered.masked_fill(before >= top_p, 0.0))
