"""A model asked the multiple-choice questions of other benchmarks: the file read, the calls made, the results written.

Everything lies in one folder: the journal, the choices of each method as they were made, and what they come to. What
stops the work before its end loses nothing that was paid for, and leaves no results: the same command goes on.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from rich.console import Console
from rich.progress import Progress

from interalign.errors import InputError, ModelError
from interalign.evaluation.baselines import BASELINES, baseline
from interalign.evaluation.choices import (
    Choice,
    ChoiceConfig,
    ChoiceItem,
    ChoiceSummary,
    ReadChoices,
    ask_all,
    summarise_choices,
)
from interalign.evaluation.choices.asking import ways_of
from interalign.llm.account import Account, Budget
from interalign.llm.backends import ModelConfig, costs_nothing, label, open_model
from interalign.llm.journal import Journal
from interalign.llm.limits import prompt_estimate
from interalign.llm.model import Request
from interalign.llm.prices import FREE, Prices
from interalign.llm.scripted import ScriptedModel
from interalign.pipeline.stopping import stopping, wrapping
from interalign.run import derive_seed, write_json, write_jsonl

__all__ = ["Asked", "ChoicesEstimate", "choices_at", "drawn", "estimate_choices", "make_choices", "sample_choice_calls"]

_ROLE = "candidate"
_JOURNAL = "journal.sqlite"
_UNSAFE = re.compile(r"[^\w.-]+")
_FIRST_OPTION = "REPLY: Answer: A"
_SCRIPT = ScriptedModel("scripted candidate", lambda request: _FIRST_OPTION)
_LONGEST_EXAMPLE = 120


@dataclass(frozen=True)
class Asked:
    """Who is asked, and how.

    Raises:
        InputError: there is no such method.
    """

    model: ModelConfig
    method: str
    config: ChoiceConfig

    def __post_init__(self) -> None:
        if self.method not in BASELINES:
            raise InputError(f"There is no method {self.method!r}.", mend=f"use one of: {', '.join(BASELINES)}.")


@dataclass(frozen=True)
class ChoicesEstimate:
    """What all questions would take: four characters are taken as a token, and every reply as long as it may be."""

    calls: int
    prompt_tokens: int
    written_tokens: int
    usd: float | None
    """None where the price is not known."""


def drawn(read: ReadChoices, limit: int | None, seed: int) -> Sequence[ChoiceItem]:
    """All questions of a file, or as many as are wanted, in the order of the file."""
    if limit is None or limit >= len(read.items):
        return read.items
    places = Random(derive_seed(seed, "limit")).sample(range(len(read.items)), limit)
    return [read.items[place] for place in sorted(places)]


def choices_at(file: Path, model: ModelConfig) -> Path:
    """The folder of a model's choices from a file, where none is named."""
    return Path("runs", "choices", _safe(file.stem), _safe(label(model)))


def make_choices(
    items: Sequence[ChoiceItem],
    who: Asked,
    place: Path,
    *,
    file: Path,
    read: ReadChoices,
    budget: Budget | None,
    prices: Prices,
    console: Console,
) -> tuple[ChoiceSummary, Account]:
    """Ask all questions and write `place`/<method>.jsonl, the choices, and `place`/<method>.json, the summary.

    Args:
        items: The questions.
        who: Who is asked, and how.
        place: The folder.
        file: Where the questions come from.
        read: What was read there.
        budget: What the calls may cost, those of earlier commands with this folder included.
        prices: What models cost.
        console: Where progress shows.

    Raises:
        InputError: a budget cannot be kept for want of a price, or as `open_model`.
        ModelError: every call failed, no answer could be read, or as `open_model`; nothing is written.
        StopWork: the budget is spent, the server will answer nothing, or the user stopped it.
    """
    account = Account(budget, prices, journal=place / _JOURNAL)
    with Journal.open(place / _JOURNAL) as journal, Progress(console=console) as progress:
        bar = progress.add_task("choices", total=sum(len(ways_of(item)) for item in items))
        chosen = asyncio.run(_answers(items, who, journal, account, console, lambda: progress.advance(bar)))
    _refuse_all_failed(chosen)
    _refuse_all_unread(chosen)
    summary = _summary(file, read, items, who, chosen)
    write_jsonl(place / f"{who.method}.jsonl", chosen)
    write_json(place / f"{who.method}.json", summary)
    return summary, account


async def _answers(
    items: Sequence[ChoiceItem],
    who: Asked,
    journal: Journal,
    account: Account,
    console: Console,
    advance: Callable[[], None],
) -> list[Choice]:
    async with stopping(console) as gate, open_model(who.model, {_ROLE: _SCRIPT}, _ROLE) as model:
        wrapped = wrapping(journal, account, gate)(model, _ROLE, costs_nothing(who.model))
        ask = baseline(who.method, wrapped, who.config.sampling).reply
        return await ask_all(items, ask, who.config, on_answer=advance)


def _refuse_all_failed(chosen: Sequence[Choice]) -> None:
    failures = Counter(choice.failure for choice in chosen if choice.failure is not None)
    if failures.total() == len(chosen):
        (why, count), *_ = failures.most_common()
        raise ModelError(
            f"No question was answered; most frequent: {why} ({count:,} times).",
            mend="name another model, or see what it is asked (--show-prompts); no results were written.",
        )


def _refuse_all_unread(chosen: Sequence[Choice]) -> None:
    if not chosen or any(choice.chosen is not None for choice in chosen):
        return
    replies = [" ".join(choice.reply.split()) for choice in chosen if choice.failure is None]
    example = next(filter(None, replies), "")
    if not example:
        raise ModelError(
            f"None of {len(replies):,} answers can be read as a choice: they are empty.",
            mend="raise --max-tokens, which a model that thinks first needs; no results were written.",
        )
    shown = example if len(example) <= _LONGEST_EXAMPLE else f"{example[:_LONGEST_EXAMPLE]}…"
    raise ModelError(
        f"None of {len(replies):,} answers names a letter plainly, as in 'Answer: B'; the first one said: {shown!r}.",
        mend="raise --max-tokens if it was cut off, ask in another way (--method), or name another model; no results "
        "were written.",
    )


def _summary(
    file: Path, read: ReadChoices, items: Sequence[ChoiceItem], who: Asked, chosen: Sequence[Choice]
) -> ChoiceSummary:
    overall, *groups = summarise_choices(items, chosen)
    return ChoiceSummary(
        file=file.name,
        form=read.form,
        model=label(who.model),
        method=who.method,
        seed=who.config.seed,
        left_out=read.left_out,
        overall=overall,
        groups=tuple(groups),
    )


def _safe(name: str) -> str:
    return _UNSAFE.sub("-", name).strip("-.") or "unnamed"


def estimate_choices(items: Sequence[ChoiceItem], who: Asked, prices: Prices) -> ChoicesEstimate:
    """What all questions would take; no model is asked."""
    heard = sample_choice_calls(items, who)
    prompt = sum(map(prompt_estimate, heard))
    written = sum(request.sampling.max_tokens for request in heard)
    price = FREE if costs_nothing(who.model) else prices.of(label(who.model))
    return ChoicesEstimate(
        calls=len(heard),
        prompt_tokens=prompt,
        written_tokens=written,
        usd=None if price is None else price.usd(prompt, 0, written),
    )


def sample_choice_calls(items: Sequence[ChoiceItem], who: Asked) -> list[Request]:
    """What would be sent for these questions; no model is asked."""
    heard: list[Request] = []

    def hear(request: Request) -> str:
        heard.append(request)
        return _FIRST_OPTION

    ask = baseline(who.method, ScriptedModel("rehearsal", hear), who.config.sampling).reply
    asyncio.run(ask_all(items, ask, who.config))
    return heard
