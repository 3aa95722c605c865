"""`interalign choices`: multiple-choice benchmarks of other projects, with what takes no model beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interalign.cli.console import (
    IN_A_WORD,
    BaseUrl,
    BudgetInWords,
    Estimate,
    PriceFile,
    ShowPrompts,
    err,
    note,
    out,
    say,
    say_call,
    server_model,
)
from interalign.cli.usage import UNKNOWN_PRICE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interalign.evaluation.choices import ChoiceItem
    from interalign.llm.prices import Prices
    from interalign.pipeline.choices import Asked

__all__ = ["choices"]

Questions = Annotated[
    Path,
    typer.Argument(
        help="Questions: a file of PersonaMem or PrefEval, or JSON lines or CSV of the plain form: `question`, "
        "`options` (a list of texts) and `answer`, which is the place of the right option, counted from 0 (no letter, "
        "no text); where wanted `id`, `group`, `person` and `chat`, a list of {role, content}."
    ),
]
Served = Annotated[
    str, typer.Option("--model", help=f"{IN_A_WORD}; or the name of a model on the server of --base-url.")
]
Contexts = Annotated[
    Path | None,
    typer.Option(
        "--contexts",
        help="The talk before the questions: PersonaMem's shared contexts, or PrefEval's implicit conversations.",
    ),
]
Asking = Annotated[
    str,
    typer.Option(
        "--method", help="How the model is asked: plain, reminder, cot, self-critique, retrieval, summary-memory."
    ),
]
DropSystem = Annotated[
    bool,
    typer.Option("--drop-system", help="Leave system messages out of the talk: in some files they tell the persona."),
]
Folder = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for journal and results. Default: runs/choices/ and the file's and model's."),
]


def choices(
    file: Questions,
    model: Served,
    base_url: BaseUrl = None,
    contexts: Contexts = None,
    method: Asking = "plain",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Ask N questions only, drawn by --seed.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Draws the order of the options, and of --limit.")] = 0,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="Longest reply; a reasoning model needs room to think in it.")
    ] = 256,
    temperature: Annotated[float, typer.Option("--temperature", min=0, help="0 takes the likeliest token.")] = 0,
    in_flight: Annotated[int, typer.Option("--in-flight", min=1, help="Questions asked at the same time.")] = 32,
    drop_system: DropSystem = False,
    folder: Folder = None,
    budget: BudgetInWords = None,
    prices: PriceFile = None,
    estimate: Estimate = False,
    show_prompts: ShowPrompts = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON, and nothing else.")] = False,
) -> None:
    """Ask multiple-choice questions, with the talk before them and without: accuracy by group, with intervals.

    Options are shuffled by seed. An answer that names no letter plainly is missing, and counted; where none does, there
    is no result.
    """
    from interalign.evaluation.choices import ChoiceConfig, read_choices, table
    from interalign.llm.account import Budget
    from interalign.llm.model import Sampling
    from interalign.llm.prices import load_prices
    from interalign.pipeline.choices import Asked, choices_at, drawn, make_choices

    sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
    config = ChoiceConfig(seed=seed, sampling=sampling, in_flight=in_flight)
    who = Asked(server_model(model, base_url), method, config)
    cap = Budget.parse(budget) if budget is not None else None
    known = load_prices(prices)
    read = read_choices(file, contexts, drop_system=drop_system)
    for line in read.notes:
        note(line)
    items = drawn(read, limit, seed)
    if estimate or show_prompts:
        _rehearse(items, who, known, prompts=show_prompts)
        return
    place = folder or choices_at(file, who.model)
    summary, account = make_choices(items, who, place, file=file, read=read, budget=cap, prices=known, console=err)
    if as_json:
        typer.echo(summary.model_dump_json(indent=2))
        return
    out.print(table(summary))
    calls = sum(row.calls for row in account.rows())
    say(f"{calls:,} calls, {account.tokens:,} tokens, US$ {_money(account.usd)}")
    if account.usd is None:
        note(UNKNOWN_PRICE)
    say(f"choices: {place / f'{method}.jsonl'}")


def _rehearse(items: Sequence[ChoiceItem], who: Asked, prices: Prices, *, prompts: bool) -> None:
    """Say what would be sent for the first question (`prompts`), or what all would take."""
    from interalign.pipeline.choices import estimate_choices, sample_choice_calls

    if prompts:
        for number, request in enumerate(sample_choice_calls(items[:1], who), 1):
            say_call(f"call {number}", [(who.model, 1.0)], request)
        return
    expected = estimate_choices(items, who, prices)
    say(
        f"estimate: {len(items):,} questions, {expected.calls:,} calls, {expected.prompt_tokens:,} prompt tokens, at "
        f"most {expected.written_tokens:,} written tokens, US$ {_money(expected.usd)} (four characters taken as a "
        "token, every reply as long as it may be)"
    )
    if expected.usd is None:
        note(UNKNOWN_PRICE)


def _money(usd: float | None) -> str:
    return "unknown" if usd is None else f"{usd:,.4f}" if 0 < usd < 0.01 else f"{usd:,.2f}"
