"""`interalign eval`: models against the people that were held out; what it will cost, and what it found."""

from __future__ import annotations

from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from interalign.cli.console import (
    DEMO,
    IN_A_WORD,
    BudgetInWords,
    Estimate,
    Out,
    PriceFile,
    RecipeFile,
    ShowPrompts,
    chosen_recipe,
    err,
    escaped,
    in_place_of,
    limited_like,
    model_named,
    out,
    say,
    say_call,
    work_in,
)
from interalign.cli.usage import show_usage
from interalign.errors import BudgetSpent, InputError, Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from interalign.conversations.environment import EnvironmentRoles
    from interalign.evaluation.summary import Summary
    from interalign.llm.account import Budget
    from interalign.llm.backends import ModelConfig
    from interalign.pipeline.record import Evaluation
    from interalign.pipeline.tested import Tested
    from interalign.pipeline.work import Work
    from interalign.recipe import Recipe
    from interalign.run import RunFolder

__all__ = ["evaluate", "show_summary"]

_RECIPE = "recipe.toml"
_ASKED_FOR = {
    "user": "messages of the user",
    "checker": "second looks at messages of the user (checker)",
    "inducer": "notes on what the user has shown (inducer)",
    "judge": "verdicts",
    "helpfulness": "ratings of helpfulness",
    "controls": "replies of controls and verdicts on them",
    "induction": "accounts of what a model has learnt of the user (induction)",
}
"""What each role is asked for, in words."""
_LOST = {"unreadable": "could not be read", "no answer": "were not answered"}
_WIDEST = 120
"""Columns beyond which lines are hard to read."""


TestedToo = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help=f"Test one more model, as NAME=WHAT, where WHAT is {IN_A_WORD}; or a model of the run by another method, "
        "as in base+reminder. May be given several times.",
    ),
]
AllRoles = Annotated[
    str | None, typer.Option("--roles", help=f"Who plays all roles beside the tested models: {IN_A_WORD}.")
]
User = Annotated[
    str | None,
    typer.Option(
        "--user",
        help="Who plays the user, in the same words, or rules (who need people of a run). Default: the recipe's.",
    ),
]
JudgedBy = Annotated[
    str | None, typer.Option("--judge", help="Who judges, in the same words, or rules. Default: the recipe's.")
]
Cases = Annotated[
    str | None,
    typer.Option("--cases", help="Who is talked to: aloe (comes with interalign), or a file. Default: the held-out."),
]
Turns = Annotated[int | None, typer.Option("--turns", min=2, help="Turns of a conversation.")]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", min=8, help="Longest reply of the tested models, in tokens.")
]
FreeText = Annotated[
    bool,
    typer.Option(
        "--free-text",
        help="Let the judge answer in free text, for models that do not keep to JSON: it is asked for a reason and a "
        "last line 'Rating: N'.",
    ),
]
NoControls = Annotated[
    bool, typer.Option("--no-controls", help="Leave out what tells how good a score is: about two calls in five.")
]
Plan = Annotated[
    bool, typer.Option("--plan", help="Say how many cases are needed to see a difference (--detect), and do nothing.")
]
Detect = Annotated[
    float, typer.Option("--detect", min=0.01, help="With --plan: the smallest difference of mean AL, in points.")
]


def evaluate(
    folder: Out = DEMO,
    recipe: RecipeFile = None,
    model: TestedToo = None,
    roles: AllRoles = None,
    user: User = None,
    judge: JudgedBy = None,
    cases: Cases = None,
    turns: Turns = None,
    max_tokens: MaxTokens = None,
    free_text: FreeText = False,
    no_controls: NoControls = False,
    budget: BudgetInWords = None,
    prices: PriceFile = None,
    estimate: Estimate = False,
    show_prompts: ShowPrompts = False,
    plan: Plan = False,
    detect: Detect = 0.2,
) -> None:
    """Let the models talk to held-out people and judge each reply; print the table."""
    from interalign.llm.account import Budget
    from interalign.run import RunFolder

    if plan:
        _show_plan(detect)
        return
    before = chosen_recipe(recipe, folder)
    said = _settings(cases=cases, turns=turns, max_tokens=max_tokens, plain=no_controls)
    chosen = _with(before, said, _Players(roles, user, judge, free_text))
    cap = Budget.parse(budget) if budget is not None else None
    methods, extra = _models(model or [])
    extra = {name: limited_like(one, _role_models(chosen.benchmark.roles)) for name, one in extra.items()}
    names = _of_the_run(RunFolder(folder), chosen, methods, extra)
    if estimate or show_prompts:
        _rehearse(RunFolder(folder), chosen, names, extra, prices, prompts=show_prompts)
        return
    kept = _text_of(folder / _RECIPE)
    with work_in(folder, chosen) as work, _taken_back(work, kept):
        _evaluate(work, names, extra, cap, prices)
    _show_ways_on(folder, chosen)


def show_summary(summary: Summary) -> None:
    """Print what it comes to, and below it the tables that it comes from."""
    from interalign.evaluation.tables import table
    from interalign.report.finding import finding

    width = min(out.width, _WIDEST)
    found = finding(summary)
    out.print()
    out.print(f"[bold]{_flowing(found.headline)}[/bold]", highlight=False, width=width)
    for sentence in found.support:
        out.print(_flowing(sentence), highlight=False, width=width)
    out.print()
    out.print(table(summary, width), width=width)


def _flowing(sentence: str) -> str:
    # A terminal breaks lines at these spaces, too.
    return escaped(sentence.replace("\N{NO-BREAK SPACE}%", "%"))


def _evaluate(
    work: Work, names: Sequence[str], extra: Mapping[str, ModelConfig], budget: Budget | None, prices: Path | None
) -> None:
    from interalign.conversations.environment import ROLES, TESTED
    from interalign.pipeline.evaluate import evaluate as judge
    from interalign.pipeline.record import Evaluation
    from interalign.run import read_json

    summary = judge(work, names, extra, budget=budget, prices=prices)
    told = read_json(work.run.eval / "evaluation.json", Evaluation)
    show_summary(summary)
    if work.recipe.benchmark.by_rules:
        out.print()
    else:
        show_usage("", told.usage, (*ROLES, TESTED))
        if told.faults:
            err.print(escaped(_faults_in_words(told, work.run.eval)), highlight=False)


def _faults_in_words(told: Evaluation, folder: Path) -> str:
    """What was refused or could not be had, of how much, in a paragraph."""
    said: list[str] = []
    refused: dict[str, int] = {}
    for name, count in told.faults.items():
        role, _, check = name.partition(": ")
        if role == "user" and check not in _LOST:
            refused[check] = count
            continue
        what = _ASKED_FOR.get(role, f"answers of {role}")
        said.append(f"{count:,} of {told.asked[role]:,} {what} {_LOST.get(check, check)}")
    if refused:
        checks = ", ".join(f"{check} {count:,}" for check, count in refused.items())
        said.append(
            f"of {told.asked['user']:,} messages of the user {sum(refused.values()):,} were refused by the checks and "
            f"asked for again ({checks})"
        )
    return (
        f"What is lacking, over all models: {'; '.join(said)}. None of it counts against a model; each case stands "
        f"under `faults` in {folder / 'MODEL' / 'verdicts.jsonl'}."
    )


def _text_of(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


@contextmanager
def _taken_back(work: Work, before: str | None) -> Iterator[None]:
    """Put back the folder's recipe where the command failed and has no results.

    The next command would take what this one was told for the folder's own, silently. One that was stopped by its
    user, or by its budget, goes on by its own recipe.
    """
    from interalign.run import write_text

    results, heard = _results(work), len(work.journal)
    try:
        yield
    except BaseException as error:
        wanted = isinstance(error, (Interrupted, BudgetSpent, KeyboardInterrupt)) and len(work.journal) > heard
        if _results(work) == results and not wanted:
            path = work.run.root / _RECIPE
            if before is None:
                path.unlink(missing_ok=True)
            else:
                write_text(path, before)
        raise


def _results(work: Work) -> dict[Path, int]:
    """Whose results lie there, and since when."""
    return {path: path.stat().st_mtime_ns for path in work.run.eval.rglob("verdicts.jsonl")}


def _show_ways_on(folder: Path, recipe: Recipe) -> None:
    """Where the results lie, and what may be done with them."""
    where = "" if folder == DEMO else f" --out {folder}"
    say(f"Results: {folder / 'eval'}   A page of them: interalign report{where}")
    say(f"More: interalign results {folder}, compare {folder} OTHER_RUN, {_judge_test(recipe)}")


def _judge_test(recipe: Recipe) -> str:
    """How the judge of a recipe is tested."""
    from interalign.llm.backends import LocalConfig, ScriptedConfig
    from interalign.llm.endpoint import EndpointConfig

    roles = recipe.benchmark.roles
    if roles is None or roles.judge is None:
        return "judge test --rules"
    model = roles.judge.models[0].model
    if isinstance(model, EndpointConfig):
        return f"judge test --model {model.model} --base-url {model.base_url}"
    if isinstance(model, LocalConfig):
        return f"judge test --model {model.checkpoint}"
    return "judge test --scripted" if isinstance(model, ScriptedConfig) else "judge test --model JUDGE"


def _models(said: Sequence[str]) -> tuple[list[str], dict[str, ModelConfig]]:
    """Models of the run that are tested by a method, and models from elsewhere by name."""
    from interalign.evaluation.baselines import BASELINES
    from interalign.pipeline.tested import refuse_unknown_method

    methods: list[str] = []
    extra: dict[str, ModelConfig] = {}
    for argument in said:
        name, equals, what = argument.partition("=")
        if not equals and name.rpartition("+")[2] in BASELINES and "+" in name:
            methods.append(name)
        elif not (equals and name and what):
            if not equals:
                refuse_unknown_method(name)
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


def _settings(*, cases: str | None, turns: int | None, max_tokens: int | None, plain: bool) -> dict[str, Any]:
    """What the command line says of the benchmark, beside who plays."""
    said = {
        "cases": None if cases is None else _cases(cases),
        "turns": turns,
        "max_tokens": max_tokens,
        "controls": False if plain else None,
    }
    return {name: value for name, value in said.items() if value is not None}


class _Players(NamedTuple):
    """Who plays, as the command line says it."""

    everybody: str | None
    user: str | None
    judge: str | None
    free_text: bool


def _with(recipe: Recipe, said: dict[str, Any], players: _Players) -> Recipe:
    """The recipe with what the command line says.

    Raises:
        InputError: rules judge, and are to answer in free text.
    """
    from interalign.recipe import changed

    if players != _Players(None, None, None, free_text=False):
        said = {**said, "roles": _roles(recipe.benchmark.roles, players)}
    return changed(recipe, {"benchmark": said}) if said else recipe


def _cases(said: str) -> str:
    """Who is meant: the packaged people, or the path of a file.

    Raises:
        InputError: there is neither.
    """
    from interalign.evaluation.benchmark import PACKAGED

    if said == PACKAGED:
        return said
    paths = [Path(said)] if Path(said).exists() else [Path(part.strip()) for part in said.split(",")]
    if all(path.exists() for path in paths):
        return ",".join(str(path.absolute()) for path in paths)
    meant = get_close_matches(said.casefold(), [PACKAGED], cutoff=0.5)
    raise InputError(
        f"--cases {said!r} is neither {PACKAGED} nor a file that is there.",
        mend=f"write --cases {PACKAGED}, if that is meant."
        if meant
        else f"name a file of personas, or use --cases {PACKAGED}, the people who come with interalign.",
    )


def _roles(before: EnvironmentRoles | None, players: _Players) -> dict[str, Any] | None:
    """The roles of the recipe with other players: everything else of a role stays as the recipe has it."""
    from interalign.pipeline.setting import RULES

    table: dict[str, Any] = before.model_dump(mode="json") if before is not None else {}
    for what, parts, optional in (
        (players.everybody, ("user", "inducer", "judge", "grader"), ("checker",)),
        (players.user, ("user", "inducer"), ("checker",)),
        (players.judge, ("judge", "grader"), ()),
    ):
        if what == RULES:
            table |= dict.fromkeys((*parts, *optional))
        elif what is not None:
            _put(table, before, what, (*parts, *(role for role in optional if table.get(role))))
    if players.free_text:
        if not table.get("judge"):
            raise InputError(
                "Rules judge here, and take no --free-text.", mend="name a language model as --judge, or leave it out."
            )
        table["judge"]["free_text"] = True
    return table if any(table.values()) else None


def _put(table: dict[str, Any], before: EnvironmentRoles | None, what: str, parts: Sequence[str]) -> None:
    from interalign.conversations.environment import environment_played_by

    named = model_named(what)
    played = environment_played_by(named).model_dump(mode="json")
    players = {role: in_place_of(_role_models(before, role), named) for role in parts}
    others = [*players.values(), *_role_models(before)]
    for role, model in players.items():
        models = [{"model": limited_like(model, others).model_dump(mode="json")}]
        table[role] = {**(table.get(role) or played[role]), "models": models}


def _role_models(roles: EnvironmentRoles | None, *names: str) -> list[ModelConfig]:
    """The models of these roles, or of all."""
    from interalign.conversations.environment import roles_of

    return [
        one.model for role, played in roles_of(roles).items() if not names or role in names for one in played.models
    ]


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
    from interalign.pipeline.rehearsal import REPLY_TOKENS
    from interalign.pipeline.rehearsed_evaluation import estimate_evaluation, sample_evaluation_calls
    from interalign.pipeline.tested import tested_models
    from interalign.report.growth import counted

    tested, people = tested_models(run, recipe, names, extra), cases_of(run, recipe)
    config = recipe.benchmark
    if prompts:
        played = roles_of(config.roles, helpfulness=config.helpfulness)
        asked = {role: [(one.model, one.weight) for one in of_role.models] for role, of_role in played.items()}
        calls, replies = sample_evaluation_calls(people, recipe, tested)
        for role, request in calls.items():
            say_call(role, asked[role], request)
        for one in tested:
            say_call(f"{TESTED}: {one.name}{_by_method(one)}", [(one.model, 1.0)], replies[one.name])
        return
    rows = estimate_evaluation(people, recipe, tested, load_prices(prices))
    show_usage("estimate", rows, (*ROLES, TESTED))
    out.print(
        f"{counted(len(people), 'case')}, {config.turns} turns, {counted(len(tested), 'model')}; from a rehearsal with "
        f"scripts, replies taken as {min(REPLY_TOKENS, config.sampling.max_tokens)} tokens and four characters as a "
        "token.",
        highlight=False,
    )


def _by_method(tested: Tested) -> str:
    from interalign.evaluation.baselines import BASELINES

    return "" if tested.method == "plain" else f" ({tested.method}: {BASELINES[tested.method].about})"


def _show_plan(detect: float) -> None:
    from interalign.evaluation.power import plan, plan_table

    out.print(plan_table(plan(detect)))
