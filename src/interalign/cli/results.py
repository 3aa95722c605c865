"""`interalign results`, `compare`, `ranking` and `rescore`: finished evaluations told, compared and judged anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interalign.cli.console import (
    IN_A_WORD,
    BudgetInWords,
    Estimate,
    PriceFile,
    chosen_recipe,
    escaped,
    model_named,
    note,
    out,
    say,
    server_model,
    work_in,
)
from interalign.errors import InputError

if TYPE_CHECKING:
    from interalign.conversations.environment import JudgeConfig
    from interalign.evaluation.summary import Summary
    from interalign.pipeline.rescore import Rescoring
    from interalign.run import RunFolder

__all__ = ["compare", "ranking", "rescore", "results"]

_FINISHED = "A run with a finished evaluation, or a folder in its rescored/."

Finished = Annotated[Path, typer.Argument(help=_FINISHED)]
Compared = Annotated[
    list[Path],
    typer.Argument(help=_FINISHED + " Of one, its models are compared with each other; of several, those of all."),
]
Ranked = Annotated[
    list[Path],
    typer.Argument(help=_FINISHED + " Of one, its models are ranked; of several, the rankings are compared as well."),
]


def results(
    run: Finished,
    form: Annotated[
        str, typer.Option("--format", help="json, csv, parquet, markdown, latex, or model-index (for a model card).")
    ] = "markdown",
    file: Annotated[
        Path | None, typer.Option("--out", help="Where to write. Default: the terminal; parquet needs a file.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="With --format model-index: whose card it is for.")
    ] = None,
) -> None:
    """Print or write what an evaluation found, for tables, papers, notebooks and model cards."""
    from interalign.evaluation import formats
    from interalign.pipeline.results import read_summary
    from interalign.run import write_text

    known = next((one for one in formats.FORMATS if one == form), None)
    if known is None:
        raise InputError(f"There is no format {form!r}.", mend=f"use one of: {', '.join(formats.FORMATS)}.")
    if model is not None and form != "model-index":
        raise InputError("--model belongs to --format model-index.", mend="leave one of them out.")
    summary = read_summary(run)
    if form == "parquet":
        if file is None:
            raise InputError("Parquet is no text to print.", mend="name a file with --out.")
        formats.write_parquet(file, summary)
    else:
        text = formats.as_model_index(summary, model) if form == "model-index" else formats.TEXTS[form](summary)
        if file is None:
            typer.echo(text, nl=False)
            return
        write_text(file, text)
    say(f"{formats.FORMATS[known]}: {file}")


def compare(
    runs: Compared,
    controls: Annotated[bool, typer.Option("--controls", help="Compare the controls as well.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write one self-contained page with figures.")
    ] = None,
) -> None:
    """Compare the models of several runs, two by two, on the people whom all have met."""
    from interalign.evaluation.compare import compare as compared
    from interalign.evaluation.compare import comparison_table
    from interalign.pipeline.results import read_results
    from interalign.report.comparison import comparison_finding, write_comparison
    from interalign.training.checkpoint import installed_versions

    read = read_results(runs)
    found = compared(read, controls=controls)
    out.print()
    out.print(comparison_table(found))
    out.print(f"[bold]{escaped(comparison_finding(found).headline)}[/bold]", highlight=False)
    if html is not None:
        facts = {one.label: ", ".join(one.rows) for one in read} | {"interalign": installed_versions()["interalign"]}
        write_comparison(html, found, title=" and ".join(one.label for one in read), facts=facts)
        say(f"\npage: {html}")


def ranking(runs: Ranked) -> None:
    """Rank the models under several users and judges, and say how far the rankings agree."""
    from interalign.evaluation.ranking import stability, stability_table
    from interalign.pipeline.results import read_results

    read = read_results(runs)
    settings = {
        one.label: {name: rows for name, rows in one.rows.items() if one.summary.model(name).kind == "model"}
        for one in read
    }
    people = {case: persona for one in read for case, persona in one.people.items()}
    found = stability(settings, people=people, resamples=read[0].summary.resamples, seed=read[0].summary.seed)
    out.print()
    out.print(stability_table(found))


def rescore(
    run: Annotated[Path, typer.Argument(help="A run with a finished evaluation.")],
    judge: Annotated[str, typer.Option("--judge", help=f"Who judges: rules, {IN_A_WORD}.")],
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="The server of --judge, if not named there.")
    ] = None,
    weighted: Annotated[
        bool, typer.Option("--weighted", help="Weigh the scores by the probabilities that the server gives for them.")
    ] = False,
    free_text: Annotated[
        bool,
        typer.Option(
            "--free-text",
            help="Read scores from free text, of models that do not keep to JSON: they are asked for a reason and a "
            "last line 'Rating: N', and one plain score counts, alone, first or in the last sentence ('Rating: 3', 'I "
            "give this a 3', '3/5', '3 out of 5').",
        ),
    ] = False,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=8, help="Longest answer of the judge, in tokens.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Folder in rescored/. Default: the name of the judge.")
    ] = None,
    budget: BudgetInWords = None,
    prices: PriceFile = None,
    estimate: Estimate = False,
) -> None:
    """Judge the stored replies of an evaluation by another judge, and say how far the two agree."""
    from interalign.cli.usage import show_usage
    from interalign.llm.account import Budget
    from interalign.llm.prices import load_prices
    from interalign.pipeline.rescore import estimate_rescoring
    from interalign.pipeline.rescore import rescore as judged
    from interalign.run import RunFolder

    folder = RunFolder(run)
    if not (folder.eval / "summary.json").exists():
        raise InputError(f"{run} holds no finished evaluation.", mend="finish `interalign eval` there first.")
    chosen = _judge(judge, base_url, weighted=weighted, free_text=free_text, max_tokens=max_tokens)
    recipe = chosen_recipe(None, run)
    cap = Budget.parse(budget) if budget is not None else None
    if estimate:
        rows = estimate_rescoring(folder, recipe, chosen, load_prices(prices))
        if not rows:
            note("Rules judge for nothing.")
            return
        show_usage("estimate", rows, ("judge",))
        note("Judged by a script, with four characters as a token; answers that the journal holds cost nothing.")
        return
    with work_in(run, recipe) as work:
        summary, told = judged(work, chosen, name=name, budget=cap, prices=prices)
    _show(folder, summary, told)


def _show(run: RunFolder, summary: Summary, told: Rescoring) -> None:
    from interalign.cli.usage import show_usage
    from interalign.evaluation.rescoring import agreement_table
    from interalign.evaluation.tables import table
    from interalign.pipeline.results import rescored_at

    out.print()
    out.print(table(summary))
    out.print(f"\n[bold]The judge of the evaluation and {escaped(told.judge)}[/bold]", highlight=False)
    out.print(agreement_table(told.agreement))
    if told.usage:
        show_usage("", told.usage, ("judge",))
    say(f"\nverdicts: {rescored_at(run) / told.folder}")


def _judge(
    what: str, base_url: str | None, *, weighted: bool, free_text: bool, max_tokens: int | None
) -> JudgeConfig | None:
    """The judge that the command line names; None for rules."""
    from interalign.conversations.environment import environment_played_by
    from interalign.pipeline.setting import RULES

    if what == RULES:
        if base_url or weighted or free_text or max_tokens:
            raise InputError(
                "Rules take no --base-url, --weighted, --free-text or --max-tokens.", mend="leave these out."
            )
        return None
    model = model_named(what) if base_url is None else server_model(what, base_url)
    judge = environment_played_by(model).judge
    assert judge is not None  # one model plays all roles
    longest = {} if max_tokens is None else {"max_tokens": max_tokens}
    sampling = judge.sampling.model_copy(update=longest)
    return judge.model_copy(update={"weighted": weighted, "free_text": free_text, "sampling": sampling})
