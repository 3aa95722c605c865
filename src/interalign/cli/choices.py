"""`interalign choices`: multiple-choice benchmarks of other projects, with what takes no model beside them."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated

import typer

from interalign.cli.console import BudgetInWords, PriceFile, ShowPrompts, err, note, out, say, say_call, server_model
from interalign.errors import InputError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from interalign.evaluation.choices import Choice, ChoiceConfig, ChoiceItem, ChoiceSummary, ReadChoices
    from interalign.llm.account import Account
    from interalign.llm.backends import ModelConfig
    from interalign.llm.journal import Journal
    from interalign.llm.model import Request
    from interalign.llm.prices import Prices

__all__ = ["choices"]

_ROLE = "candidate"
_JOURNAL = "journal.sqlite"
_UNSAFE = re.compile(r"[^\w.-]+")


def choices(
    file: Annotated[
        Path,
        typer.Argument(help="Questions: a file of PersonaMem or PrefEval, or JSON lines or CSV of the plain form."),
    ],
    model: Annotated[
        str,
        typer.Option("--model", help="A model on the server of --base-url, a checkpoint folder, or a hub name."),
    ],
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="An OpenAI-compatible server, as in http://localhost:8000/v1.")
    ] = None,
    contexts: Annotated[
        Path | None,
        typer.Option(
            "--contexts",
            help="The talk before the questions: PersonaMem's shared contexts, or PrefEval's implicit conversations.",
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method", help="How the model is asked: plain, reminder, cot, self-critique, retrieval, summary-memory."
        ),
    ] = "plain",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Ask N questions only, drawn by --seed.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Draws the order of the options, and of --limit.")] = 0,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="Longest reply; a reasoning model needs room to think in it.")
    ] = 256,
    temperature: Annotated[float, typer.Option("--temperature", min=0, help="0 takes the likeliest token.")] = 0,
    in_flight: Annotated[int, typer.Option("--in-flight", min=1, help="Questions asked at the same time.")] = 32,
    drop_system: Annotated[
        bool,
        typer.Option(
            "--drop-system", help="Leave system messages out of the talk: in some files they tell the persona."
        ),
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder for journal and results. Default: runs/choices/ and the file's and model's."
        ),
    ] = None,
    budget: BudgetInWords = None,
    prices: PriceFile = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say how many calls, tokens and dollars it would take, and do nothing.")
    ] = False,
    show_prompts: ShowPrompts = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON, and nothing else.")] = False,
) -> None:
    """Ask multiple-choice questions, with the talk before them and without: accuracy by group, with intervals.

    Options are shuffled by seed. An answer that names no letter plainly is missing, and counted.
    """
    from interalign.evaluation.baselines import BASELINES
    from interalign.evaluation.choices import ChoiceConfig, read_choices, table
    from interalign.llm.account import Account, Budget
    from interalign.llm.backends import label
    from interalign.llm.model import Sampling
    from interalign.llm.prices import load_prices

    if method not in BASELINES:
        raise InputError(f"There is no method {method!r}.", mend=f"use one of: {', '.join(BASELINES)}.")
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
    config = ChoiceConfig(seed=seed, sampling=sampling, in_flight=in_flight)
    who = _Asked(server_model(model, base_url), method, config)
    cap = Budget.parse(budget) if budget is not None else None
    known = load_prices(prices)
    read = read_choices(file, contexts, drop_system=drop_system)
    items = _drawn(read, limit, seed)
    if estimate or show_prompts:
        _rehearse(items, who, known, prompts=show_prompts)
        return
    place = folder or Path("runs", "choices", _safe(file.stem), _safe(label(who.model)))
    account = Account(cap, known, journal=place / _JOURNAL)
    summary = _summary(file, read, items, who, _ask(items, who, place, account), place)
    if as_json:
        typer.echo(summary.model_dump_json(indent=2))
        return
    out.print(table(summary))
    say(_used(account))
    say(f"choices: {place / f'{method}.jsonl'}")


@dataclass(frozen=True)
class _Asked:
    """Who is asked, and how."""

    model: ModelConfig
    method: str
    config: ChoiceConfig


def _summary(
    file: Path, read: ReadChoices, items: Sequence[ChoiceItem], who: _Asked, chosen: Sequence[Choice], place: Path
) -> ChoiceSummary:
    """What the choices come to, written to `place` with the choices."""
    from interalign.evaluation.choices import ChoiceSummary, summarise_choices
    from interalign.llm.backends import label
    from interalign.run import write_json, write_jsonl

    overall, *groups = summarise_choices(items, chosen)
    summary = ChoiceSummary(
        file=file.name,
        form=read.form,
        model=label(who.model),
        method=who.method,
        seed=who.config.seed,
        left_out=read.left_out,
        overall=overall,
        groups=tuple(groups),
    )
    write_jsonl(place / f"{who.method}.jsonl", chosen)
    write_json(place / f"{who.method}.json", summary)
    return summary


def _safe(name: str) -> str:
    return _UNSAFE.sub("-", name).strip("-.") or "unnamed"


def _drawn(read: ReadChoices, limit: int | None, seed: int) -> Sequence[ChoiceItem]:
    """All items, or as many as are wanted, in the order of the file; what was left out is told."""
    from interalign.run import derive_seed

    for line in read.notes:
        note(line)
    if limit is None or limit >= len(read.items):
        return read.items
    places = Random(derive_seed(seed, "limit")).sample(range(len(read.items)), limit)
    return [read.items[place] for place in sorted(places)]


def _ask(items: Sequence[ChoiceItem], who: _Asked, place: Path, account: Account) -> list[Choice]:
    """The choices of a model, with a bar meanwhile; raises ModelError where every call failed."""
    from rich.progress import Progress

    from interalign.evaluation.choices.asking import ways_of
    from interalign.llm.journal import Journal

    with Journal.open(place / _JOURNAL) as journal, Progress(console=err) as progress:
        bar = progress.add_task("choices", total=sum(len(ways_of(item)) for item in items))
        chosen = asyncio.run(_answers(items, who, journal, account, lambda: progress.advance(bar)))
    failures = Counter(choice.failure for choice in chosen if choice.failure is not None)
    if failures.total() == len(chosen):
        (why, count), *_ = failures.most_common()
        raise ModelError(
            f"No question was answered; most frequent: {why} ({count:,} times).",
            mend="name another model, or see what it is asked (--show-prompts); no results were written.",
        )
    return chosen


async def _answers(
    items: Sequence[ChoiceItem], who: _Asked, journal: Journal, account: Account, advance: Callable[[], None]
) -> list[Choice]:
    from interalign.evaluation.baselines import baseline
    from interalign.evaluation.choices import ask_all
    from interalign.llm.backends import costs_nothing, open_model
    from interalign.llm.endpoint import EndpointModel
    from interalign.llm.journal import journalled
    from interalign.pipeline.stopping import stopping

    async with stopping(err) as gate, open_model(who.model, {}, _ROLE) as model:
        if isinstance(model, EndpointModel):
            # Those that wait for a slot are not in flight yet.
            model.before_sending = gate.check
        kept = gate.guarded(journalled(gate.watched(model), journal))
        metered = account.metered(kept, _ROLE, free=costs_nothing(who.model))
        ask = baseline(who.method, metered, who.config.sampling).reply
        return await ask_all(items, ask, who.config, on_answer=advance)


def _rehearse(items: Sequence[ChoiceItem], who: _Asked, prices: Prices, *, prompts: bool) -> None:
    """Say what would be sent for the first question (`prompts`), or what all would take; no model is asked."""
    from interalign.evaluation.baselines import baseline
    from interalign.evaluation.choices import ask_all
    from interalign.llm.scripted import ScriptedModel

    heard: list[Request] = []

    def hear(request: Request) -> str:
        heard.append(request)
        return "REPLY: Answer: A"

    some = items[:1] if prompts else items
    ask = baseline(who.method, ScriptedModel("rehearsal", hear), who.config.sampling).reply
    asyncio.run(ask_all(some, ask, who.config))
    if not prompts:
        say(f"estimate: {len(items):,} questions, {_expected(heard, who.model, prices)}")
        return
    for number, request in enumerate(heard, 1):
        say_call(f"call {number}", [(who.model, 1.0)], request)


def _expected(heard: Sequence[Request], model: ModelConfig, prices: Prices) -> str:
    from interalign.llm.backends import costs_nothing, label
    from interalign.llm.limits import prompt_estimate
    from interalign.llm.prices import FREE

    prompt = sum(map(prompt_estimate, heard))
    written = sum(request.sampling.max_tokens for request in heard)
    price = FREE if costs_nothing(model) else prices.of(label(model))
    usd = None if price is None else price.usd(prompt, 0, written)
    return (
        f"{len(heard):,} calls, {prompt:,} prompt tokens, at most {written:,} written tokens, US$ {_money(usd)} (four "
        "characters taken as a token, every reply as long as it may be)"
    )


def _used(account: Account) -> str:
    calls = sum(row.calls for row in account.rows())
    return f"{calls:,} calls, {account.tokens:,} tokens, US$ {_money(account.usd)}"


def _money(usd: float | None) -> str:
    return "unknown" if usd is None else f"{usd:,.4f}" if 0 < usd < 0.01 else f"{usd:,.2f}"
