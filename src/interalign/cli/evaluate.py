"""`interalign eval`: models against the people that were held out; what it will cost, and what it found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interalign.cli.console import (
    DEMO,
    BudgetInWords,
    Out,
    PriceFile,
    RecipeFile,
    ShowPrompts,
    checked_model,
    chosen_recipe,
    err,
    escaped,
    out,
    say_call,
    work_in,
)
from interalign.cli.usage import show_usage
from interalign.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from interalign.conversations.environment import EnvironmentRoles
    from interalign.evaluation.summary import Summary
    from interalign.llm.backends import ModelConfig
    from interalign.pipeline.tested import Tested
    from interalign.pipeline.work import Work
    from interalign.recipe import Recipe
    from interalign.run import RunFolder

__all__ = ["evaluate", "model_named", "show_summary"]

_RULES = "rules"
_SCRIPTED = "scripted"
_WHAT = "MODEL@URL (an OpenAI-compatible server), inspect:PROVIDER/MODEL, a checkpoint folder or a hub name"


def evaluate(
    folder: Out = DEMO,
    recipe: RecipeFile = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help=f"Test one more model, as NAME=WHAT, where WHAT is {_WHAT}; or a model of the run by another method, "
            "as in base+reminder. May be given several times.",
        ),
    ] = None,
    roles: Annotated[
        str | None, typer.Option("--roles", help=f"Who plays all roles beside the tested models: {_WHAT}.")
    ] = None,
    user: Annotated[
        str | None,
        typer.Option("--user", help="Who plays the user, in the same words, or rules. Default: the recipe's."),
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", help="Who judges, in the same words, or rules. Default: the recipe's.")
    ] = None,
    cases: Annotated[
        str | None,
        typer.Option(
            "--cases", help="Who is talked to: aloe (comes with interalign), or a file. Default: the held-out."
        ),
    ] = None,
    turns: Annotated[int | None, typer.Option("--turns", min=2, help="Turns of a conversation.")] = None,
    no_controls: Annotated[
        bool, typer.Option("--no-controls", help="Leave out what tells how good a score is: nearly half of the calls.")
    ] = False,
    budget: BudgetInWords = None,
    prices: PriceFile = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say how many calls, tokens and dollars it would take, and do nothing.")
    ] = False,
    show_prompts: ShowPrompts = False,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Say how many cases are needed to see a difference (--detect), and do nothing."),
    ] = False,
    detect: Annotated[
        float, typer.Option("--detect", min=0.01, help="With --plan: the smallest difference of mean AL, in points.")
    ] = 0.2,
) -> None:
    """Let the models talk to held-out people and judge each reply; print the table."""
    from interalign.llm.account import Budget
    from interalign.run import RunFolder

    if plan:
        _show_plan(detect)
        return
    chosen = _with(
        chosen_recipe(recipe, folder), roles=roles, user=user, judge=judge, cases=cases, turns=turns, plain=no_controls
    )
    cap = Budget.parse(budget) if budget is not None else None
    methods, extra = _models(model or [])
    names = _of_the_run(RunFolder(folder), chosen, methods, extra)
    if estimate or show_prompts:
        _rehearse(RunFolder(folder), chosen, names, extra, prices, prompts=show_prompts)
        return
    with work_in(folder, chosen) as work:
        _evaluate(work, names, extra, cap, prices)


def show_summary(summary: Summary) -> None:
    """Print the table and what it comes to."""
    from interalign.evaluation.summary import table
    from interalign.report.finding import finding

    out.print()
    out.print(table(summary))
    found = finding(summary)
    out.print(f"[bold]{escaped(found.headline)}[/bold]", highlight=False)
    for sentence in found.support:
        out.print(escaped(sentence), highlight=False)


def model_named(what: str) -> ModelConfig:
    """The model that a command line names in one word.

    Raises:
        InputError: it cannot be.
    """
    if what == _SCRIPTED:
        return checked_model({"backend": "scripted"})
    if what.startswith("inspect:"):
        return checked_model({"backend": "inspect", "model": what.removeprefix("inspect:")})
    name, at, url = what.partition("@")
    if at and url.startswith(("http://", "https://")):
        return checked_model({"backend": "endpoint", "base_url": url, "model": name}, {"base_url": what, "model": what})
    return checked_model({"backend": "local", "checkpoint": what}, {"checkpoint": what})


def _evaluate(
    work: Work, names: Sequence[str], extra: Mapping[str, ModelConfig], budget: Any, prices: Path | None
) -> None:
    from interalign.conversations.environment import ROLES, TESTED
    from interalign.pipeline.evaluate import Evaluation
    from interalign.pipeline.evaluate import evaluate as judge
    from interalign.run import read_json

    summary = judge(work, names, extra, budget=budget, prices=prices)
    told = read_json(work.run.eval / "evaluation.json", Evaluation)
    show_summary(summary)
    if not work.recipe.benchmark.by_rules:
        out.print()
        show_usage("", told.usage, (*ROLES, TESTED))
        for name, count in told.faults.items():
            err.print(escaped(f"{name}: {count:,}; none of it counts against a model."), highlight=False)


def _models(said: Sequence[str]) -> tuple[list[str], dict[str, ModelConfig]]:
    """Models of the run that are tested by a method, and models from elsewhere by name."""
    from interalign.evaluation.baselines import BASELINES

    methods: list[str] = []
    extra: dict[str, ModelConfig] = {}
    for argument in said:
        name, equals, what = argument.partition("=")
        if not equals and name.rpartition("+")[2] in BASELINES and "+" in name:
            methods.append(name)
        elif not (equals and name and what):
            raise InputError(
                f"--model {argument!r} is neither NAME=WHAT nor NAME+METHOD.",
                mend=f"for example --model mine=models/mine or --model base+cot; methods: {', '.join(BASELINES)}.",
            )
        elif name in extra:
            raise InputError("Two --model have the same name.", mend="give each a name of its own.")
        else:
            extra[name] = model_named(what)
    return methods, extra


def _of_the_run(run: RunFolder, recipe: Recipe, methods: Sequence[str], extra: Mapping[str, ModelConfig]) -> list[str]:
    """The models of the run that are tested: the base, too, unless there is nothing to compare it with.

    Raises:
        InputError: a method is asked for of a model that is not there.
    """
    from interalign.pipeline.tested import BASE, TRAINED

    trained = [name for name in TRAINED if (run.models / name).exists()]
    elsewhere = {**recipe.benchmark.models, **extra}
    for name in methods:
        bare = name.rpartition("+")[0]
        if bare not in (BASE, *trained, *elsewhere):
            known = ", ".join((BASE, *trained, *elsewhere))
            raise InputError(f"There is no model {bare!r} to be asked as {name!r}.", mend=f"use one of: {known}.")
    base = [BASE] if trained or not elsewhere or any(name.startswith(f"{BASE}+") for name in methods) else []
    return [*base, *trained, *methods]


def _with(
    recipe: Recipe,
    *,
    roles: str | None,
    user: str | None,
    judge: str | None,
    cases: str | None,
    turns: int | None,
    plain: bool,
) -> Recipe:
    from interalign.evaluation.benchmark import PACKAGED
    from interalign.recipe import changed

    said: dict[str, Any] = {}
    if roles is not None or user is not None or judge is not None:
        said["roles"] = _roles(recipe.benchmark.roles, roles, user, judge)
    if cases is not None:
        said["cases"] = cases if cases == PACKAGED else str(Path(cases).absolute())
    if turns is not None:
        said["turns"] = turns
    if plain:
        said["controls"] = False
    return changed(recipe, {"benchmark": said}) if said else recipe


def _roles(
    before: EnvironmentRoles | None, everybody: str | None, user: str | None, judge: str | None
) -> dict[str, Any] | None:
    """The roles of the recipe with other players: prompts and sampling stay those that the recipe has."""
    table: dict[str, Any] = before.model_dump(mode="json") if before is not None else {}
    for what, parts, optional in (
        (everybody, ("user", "inducer", "judge", "grader"), ("checker",)),
        (user, ("user", "inducer"), ("checker",)),
        (judge, ("judge", "grader"), ()),
    ):
        if what == _RULES:
            table |= dict.fromkeys((*parts, *optional))
        elif what is not None:
            _put(table, what, parts, optional)
    if not any(table.values()):
        return None
    return table


def _put(table: dict[str, Any], what: str, parts: Sequence[str], optional: Sequence[str]) -> None:
    from interalign.conversations.environment import environment_played_by

    played = environment_played_by(model_named(what)).model_dump(mode="json")
    for role in (*parts, *(role for role in optional if table.get(role))):
        models = played["user"]["models"]
        table[role] = {**(table.get(role) or played[role]), "models": models}


def _rehearse(
    run: RunFolder,
    recipe: Recipe,
    names: Sequence[str],
    extra: Mapping[str, ModelConfig],
    prices: Path | None,
    *,
    prompts: bool,
) -> None:
    from interalign.conversations.environment import ROLES, TESTED, roles_of
    from interalign.llm.prices import load_prices
    from interalign.pipeline.evaluate import cases_of
    from interalign.pipeline.rehearsed_evaluation import estimate_evaluation, sample_evaluation_calls
    from interalign.pipeline.tested import tested_models

    tested, people = tested_models(run, recipe, names, extra), cases_of(run, recipe)
    config = recipe.benchmark
    if prompts:
        played = roles_of(config.roles, helpfulness=config.helpfulness)
        asked = {role: [(one.model, one.weight) for one in of_role.models] for role, of_role in played.items()}
        asked[TESTED] = [(one.model, 1.0) for one in tested]
        for role, request in sample_evaluation_calls(people, recipe).items():
            say_call(role, asked[role], request)
        return
    rows = estimate_evaluation(people, recipe, tested, load_prices(prices))
    show_usage("estimate", rows, (*ROLES, TESTED))
    out.print(
        f"{len(people):,} cases, {config.turns} turns, {_counted(tested)}; from a rehearsal with scripts, replies "
        f"taken as {min(120, config.max_tokens)} tokens and four characters as a token.",
        highlight=False,
    )


def _counted(tested: Sequence[Tested]) -> str:
    return f"{len(tested)} models" if len(tested) != 1 else "1 model"


def _show_plan(detect: float) -> None:
    from interalign.evaluation.power import plan, plan_table

    out.print(plan_table(plan(detect)))
