"""`interalign judge`: whether a judge can be trusted, by people's ratings, by tests, and over time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from interalign.cli.console import (
    IN_A_WORD,
    BaseUrl,
    BudgetInWords,
    Estimate,
    PriceFile,
    err,
    escaped,
    note,
    out,
    say,
    server_model,
)
from interalign.cli.usage import UNKNOWN_PRICE
from interalign.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interalign.evaluation import statistics
    from interalign.evaluation.judging.drift import Drift
    from interalign.evaluation.judging.panel import PanelAgreement
    from interalign.evaluation.judging.sheet import SheetAgreement
    from interalign.evaluation.judging.trial import Test, Trial, TrialConfig
    from interalign.llm.account import RoleUsage
    from interalign.llm.backends import ModelConfig
    from interalign.pipeline.judging import JudgePlan

__all__ = ["judge"]

judge = typer.Typer(
    name="judge",
    help="Whether a judge can be trusted: its agreement with people, its biases, and whether it has changed.",
    no_args_is_help=True,
)

_Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help=f"The judge: {IN_A_WORD}; or the name of a model on the server of --base-url or OPENAI_BASE_URL.",
    ),
]
_Rules = Annotated[bool, typer.Option("--rules", help="The verifiable judge: what the tests say of one that is exact.")]
_Scripted = Annotated[bool, typer.Option("--scripted", help="As --model scripted: a script, to see how it goes.")]
_Weighted = Annotated[
    bool, typer.Option("--weighted", help="Weight scores by the model's probabilities, where its server tells them.")
]
_FreeText = Annotated[
    bool,
    typer.Option(
        "--free-text",
        help="Let it answer in free text, for servers without JSON: it is asked for a reason and a last line 'Rating: "
        "N'. What counts is one plain score, alone, first or in the last sentence: 'Rating: 3', 'I give this a 3', "
        "'3/5', '3 out of 5'. The order test of `judge test` asks for JSON all the same: leave it out with --tests.",
    ),
]
_Prompt = Annotated[
    Path | None, typer.Option("--prompt", help="Text file of instructions for raters, in place of the package's.")
]
_Folder = Annotated[Path, typer.Option("--out", help="Folder for results and journal.")]
_Seed = Annotated[int, typer.Option("--seed", min=0, help="Of people, talk and samples.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")]
_PLACE = Path("runs/judge")


@judge.command()
def agreement(
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV table: `item`, the judge's scores in `judge`, and a column of scores for each person. Optional: "
            "`case`, or `profile` and `personality`, for items that belong together. An empty cell is a missing score."
        ),
    ],
    column: Annotated[str, typer.Option("--judge", help="The column of the judge's scores.")] = "judge",
    seed: _Seed = 0,
    as_json: _Json = False,
) -> None:
    """How far a judge agrees with people who have rated the same replies, and people among themselves."""
    from interalign.evaluation.judging.sheet import read_sheet, sheet_agreement

    found = sheet_agreement(read_sheet(file, column), seed=seed)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    _show_agreement(found)


@judge.command()
def test(
    model: _Model = None,
    base_url: BaseUrl = None,
    rules: _Rules = False,
    scripted: _Scripted = False,
    tests: Annotated[
        str | None,
        typer.Option(
            "--tests", help="Some of: calibration, person, length, temptations, claims, order, self; with commas."
        ),
    ] = None,
    items: Annotated[int, typer.Option("--items", min=2, help="People it is tested with.")] = 40,
    rival: Annotated[
        str | None, typer.Option("--rival", help="For self: another model, whose replies the judge's are held against.")
    ] = None,
    rival_url: Annotated[str | None, typer.Option("--rival-url", help="The rival's server.")] = None,
    prompt: _Prompt = None,
    weighted: _Weighted = False,
    free_text: _FreeText = False,
    seed: _Seed = 0,
    folder: _Folder = _PLACE,
    budget: BudgetInWords = None,
    prices: PriceFile = None,
    estimate: Estimate = False,
    as_json: _Json = False,
) -> None:
    """Put a judge through tests whose right outcome is known: replies by rules to rule-based users."""
    from interalign.evaluation.judging.trial import TESTS, TrialConfig
    from interalign.llm.account import Budget
    from interalign.llm.prices import load_prices
    from interalign.pipeline.judging import estimate_trial, put_on_trial

    chosen = TESTS if tests is None else tuple(_test(one.strip()) for one in tests.split(","))
    plan = _plan(
        _judge(model, base_url, rules=rules, scripted=scripted),
        prompt,
        TrialConfig(items=items, tests=chosen, seed=seed),
        weighted=weighted,
        free_text=free_text,
    )
    if rival is not None or rival_url is not None:
        plan = plan.model_copy(update={"rival": _rival(rival, rival_url, plan)})
    known = load_prices(prices)
    if estimate:
        _show_usage(estimate_trial(plan, known))
        return
    tried = put_on_trial(plan, folder, known, budget=Budget.parse(budget) if budget is not None else None, console=err)
    if as_json:
        typer.echo(tried.trial.model_dump_json(indent=2))
        return
    _show_trial(tried.trial)
    if tried.usage:
        _show_usage(tried.usage)
    say(f"\nresults: {tried.path}")


@judge.command()
def drift(
    model: _Model = None,
    base_url: BaseUrl = None,
    rules: _Rules = False,
    scripted: _Scripted = False,
    items: Annotated[int, typer.Option("--items", min=2, help="People; four questions each.")] = 20,
    repeats: Annotated[int, typer.Option("--repeats", min=2, help="How often each question is asked.")] = 2,
    alpha: Annotated[float, typer.Option("--alpha", min=0, max=1, help="How often an alarm may be false.")] = 0.05,
    prompt: _Prompt = None,
    weighted: _Weighted = False,
    free_text: _FreeText = False,
    seed: _Seed = 0,
    folder: _Folder = _PLACE,
    budget: BudgetInWords = None,
    prices: PriceFile = None,
    fail: Annotated[bool, typer.Option("--fail", help="End with code 1 on an alarm.")] = False,
    as_json: _Json = False,
) -> None:
    """Ask a judge the same questions as the first time: does it answer otherwise than its own noise explains?"""
    from interalign.evaluation.judging.trial import TrialConfig
    from interalign.llm.account import Budget
    from interalign.llm.prices import load_prices
    from interalign.pipeline.judging import look_again

    plan = _plan(
        _judge(model, base_url, rules=rules, scripted=scripted),
        prompt,
        TrialConfig(items=items, tests=("calibration",), seed=seed),
        weighted=weighted,
        free_text=free_text,
    ).model_copy(update={"repeats": repeats})
    cap = Budget.parse(budget) if budget is not None else None
    found, path = look_again(plan, folder, load_prices(prices), alpha=alpha, budget=cap, console=err)
    if as_json:
        typer.echo("null" if found is None else found.model_dump_json(indent=2))
    elif found is None:
        say(f"The first look at {plan.name} is written down; the next one is compared with it: {path}")
    else:
        _show_drift(found)
    if found is not None and found.alarm and fail:
        raise typer.Exit(1)


def _judge(model: str | None, base_url: str | None, *, rules: bool, scripted: bool) -> ModelConfig | None:
    """The judge's model; None for rules."""
    from interalign.llm.backends import ScriptedConfig

    if base_url is not None and model is None:
        raise InputError("--base-url names a server and no model.", mend="add --model NAME.")
    if sum((rules, scripted, model is not None)) != 1:
        raise InputError("Which judge is meant is not clear.", mend="give one of --model, --rules and --scripted.")
    if model is not None:
        return server_model(model, base_url)
    return ScriptedConfig() if scripted else None


def _rival(rival: str | None, url: str | None, plan: JudgePlan) -> ModelConfig:
    from interalign.llm.backends import ScriptedConfig

    model = None if rival is None else server_model(rival, url)
    if model is None or plan.model is None or any(isinstance(one, ScriptedConfig) for one in (model, plan.model)):
        raise InputError("A rival is a model, beside a judge that is a model.", mend="give --model and --rival.")
    return model


def _plan(
    model: ModelConfig | None, prompt: Path | None, trial: TrialConfig, *, weighted: bool, free_text: bool
) -> JudgePlan:
    from interalign.pipeline.judging import JudgePlan

    return JudgePlan.model_validate(
        {
            "model": model,
            "prompt": None if prompt is None else str(prompt),
            "trial": trial,
            "weighted": weighted,
            "free_text": free_text,
        }
    )


def _test(name: str) -> Test:
    from interalign.evaluation.judging.trial import TESTS

    found = next((one for one in TESTS if one == name), None)
    if found is None:
        raise InputError(f"There is no test {name!r}.", mend=f"use some of: {', '.join(TESTS)}.")
    return found


def _show_trial(trial: Trial) -> None:
    from interalign.evaluation.judging.trial import findings

    found = findings(trial)
    table = Table(box=box.SIMPLE, title=escaped(f"{trial.judge}: {trial.asked:,} replies to rule-based users"))
    table.add_column("test", overflow="fold")
    for name in ("value", "95 % interval", "right"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("in a word", overflow="fold")
    for before, one in zip((None, *found), found, strict=False):
        if before is not None and before.test != one.test:
            table.add_section()
        table.add_row(one.measure, *_numbers(one.value), _number(one.exact), one.word)
    out.print(table)
    if trial.lacking:
        reasons = ", ".join(f"{reason} ({count:,})" for reason, count in trial.lacking.items())
        out.print(escaped(f"Missing verdicts by reason: {reasons}."), highlight=False, soft_wrap=True)
    for one in found:
        if one.warning is not None:
            out.print(f"[bold yellow]weak[/bold yellow] {escaped(one.warning)}", highlight=False, soft_wrap=True)
    if not any(one.warning for one in found):
        say("No test finds this judge weak.")


def _show_agreement(found: SheetAgreement) -> None:
    from interalign.report.growth import counted

    judge = found.judge
    table = Table(box=box.SIMPLE, title=f"judge and people: {counted(judge.items, 'item')}")
    table.add_column("agreement", no_wrap=True)
    for name in ("value", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, value in {
        "Cohen's kappa": judge.kappa,
        "  linear weights": judge.kappa_linear,
        "  quadratic weights": judge.kappa_quadratic,
        "Krippendorff's alpha, ordinal": judge.alpha_ordinal,
        "  interval": judge.alpha_interval,
        "Spearman's correlation": judge.spearman,
        "pairs in the same order (share)": judge.pairs,
        "judge less people (points)": judge.difference,
    }.items():
        table.add_row(name, *_numbers(value))
    if found.people is not None:
        table.add_row("people alone: alpha, ordinal", *_numbers(found.people.alpha_ordinal))
    out.print(table)
    if judge.missing:
        say(f"Rated by people and not by the judge: {counted(judge.missing, 'item')}.")
    if found.everybody is not None:
        _show_members(found.everybody)
    if found.calibration_error is not None:
        say(f"At the same score judge and people lie {found.calibration_error:.2f} points apart on average.")


def _show_members(found: PanelAgreement) -> None:
    table = Table(box=box.SIMPLE, title="each rater and the mean of the others")
    table.add_column("rater", overflow="fold")
    for name in ("correlation", "95 % interval", "points above", "missing"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found.members:
        table.add_row(escaped(one.judge), *_numbers(one.with_others), _number(one.kindness.value), f"{one.missing:.0%}")
    out.print(table)


def _show_drift(found: Drift) -> None:
    from interalign.evaluation.missing import most_often
    from interalign.evaluation.notation import p_in_words

    shift, interval = _numbers(found.shift)
    why = f" ({most_often(found.lacking_now)})" if found.lacking_now else ""
    say(
        f"Since {found.since:%Y-%m-%d %H:%M} UTC, {found.compared:,} of {found.questions:,} questions compared: "
        f"shift {shift} points {interval}, distance {_number(found.distance)} (its own noise {_number(found.noise)}), "
        f"missing {found.missing_before:.0%}, now {found.missing_now:.0%}{why}."
    )
    say(
        f"Permutation tests: scores {p_in_words(found.p_scores)}, missing {p_in_words(found.p_missing)}; alarm below "
        f"{found.alpha / 2:g}."
    )
    if found.alarm:
        out.print("[bold red]alarm[/bold red] This judge is not the one that it was.", highlight=False)
    else:
        say("No drift is shown.")


def _show_usage(rows: Sequence[RoleUsage]) -> None:
    if not rows:
        say("Rules judge, so there are no calls.")
    if any(row.usd is None for row in rows):
        note(UNKNOWN_PRICE)
    for row in rows:
        usd = "price unknown" if row.usd is None else f"{row.usd:,.4f} US$"
        say(
            f"{row.role} ({row.model}): {row.calls:,} calls, {row.prompt_tokens:,} tokens read, "
            f"{row.completion_tokens:,} written, {usd}"
        )


def _numbers(value: statistics.Estimate) -> tuple[str, str]:
    if value.low is None or value.high is None:
        return _number(value.value), "–"
    return _number(value.value), f"{_number(value.low)} to {_number(value.high)}"


def _number(value: float | None) -> str:
    # Without a zero that is less than nothing.
    return "–" if value is None else f"{value + 0.0 if abs(value) >= 0.005 else 0.0:.2f}"
