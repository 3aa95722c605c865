"""`interalign simulate`: conversation trees by rules or by language models; what it will cost, and what it did."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich import box
from rich.table import Table

from interalign.cli.console import (
    DEMO,
    IN_A_WORD,
    BaseUrl,
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
    note,
    out,
    say,
    say_call,
    server_model,
    work_in,
)
from interalign.cli.usage import show_usage
from interalign.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from interalign.conversations.hygiene import PairHygiene
    from interalign.llm.account import RoleUsage
    from interalign.llm.backends import ModelConfig
    from interalign.pipeline.simulate import Simulation
    from interalign.recipe import Recipe

__all__ = ["MEANINGS", "simulate"]

MEANINGS: Mapping[str, str] = {
    "role flip": "it answers as the assistant, gives advice, echoes a reply or writes both sides",
    "leaked reasoning": "it thinks aloud about what to say, or gives stage directions",
    "leaked instructions": "it repeats words of the prompt, its tags or the persona's text",
    "assistant-speak": "it has the polite phrases of a service",
    "restart": "it greets or introduces itself once more, or says an earlier message again",
    "repeated opener": "its first three words are those of two earlier messages",
    "contradiction": "it says of itself what the profile states otherwise",
    "over-disclosure": "it gives away too much of the persona at once",
    "no disclosure": "it and those before it give away nothing of the persona",
    "unreadable": "the answer is not of the form that was asked for",
}
"""What is wrong with a message that a check refuses, by the check's name."""

AllRoles = Annotated[
    str | None,
    typer.Option(
        "--model",
        help=f"Plays all roles: {IN_A_WORD}; or the name of a model on the server of --base-url or OPENAI_BASE_URL. "
        "Default: the recipe's roles, or rules.",
    ),
]
Grow = Annotated[
    Path | None, typer.Option("--grow", help="Trees to grow on: more turns, or other branches, as --policy has it.")
]
Engine = Annotated[
    str, typer.Option("--engine", help="Where conversations go on: process (this one), or ray (many, see --workers).")
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="With --engine ray: how many processes. Default: the CPUs.")
]


def simulate(
    folder: Out = DEMO,
    recipe: RecipeFile = None,
    model: AllRoles = None,
    base_url: BaseUrl = None,
    scripted: Annotated[
        bool, typer.Option("--scripted", help="Scripts play all roles: to try the way with personas of any making.")
    ] = False,
    turns: Annotated[int | None, typer.Option("--turns", min=1, help="Turns of a conversation.")] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", help="Which replies are continued: path, full or best.")
    ] = None,
    depth: Annotated[int | None, typer.Option("--depth", min=1, help="With --policy full: up to which turn.")] = None,
    personas: Annotated[
        int | None, typer.Option("--personas", min=1, help="Talk to the first N personas only.")
    ] = None,
    grow: Grow = None,
    budget: BudgetInWords = None,
    prices: PriceFile = None,
    engine: Engine = "process",
    workers: Workers = None,
    estimate: Estimate = False,
    show_prompts: ShowPrompts = False,
) -> None:
    """Grow conversation trees with the training personas: trees.jsonl and preferences/."""
    from interalign.llm.account import Budget
    from interalign.pipeline.simulate import simulate as run
    from interalign.run import RunFolder

    chosen = _with(
        chosen_recipe(recipe, folder),
        _roles(model, base_url, scripted=scripted),
        turns=turns,
        policy={key: value for key, value in {"name": policy, "depth": depth}.items() if value is not None},
    )
    _refuse_unused_depth(depth, chosen)
    cap = Budget.parse(budget) if budget is not None else None
    where = _engine(engine, workers)
    rehearsed = estimate or show_prompts
    _refuse_unready(folder, grow, rehearsed=rehearsed)
    if rehearsed:
        _rehearse(folder, chosen, personas, prices, prompts=show_prompts)
        return
    _tell_of_trees(folder, grow, personas)
    # Growing on is growing in another way.
    free = ("simulate.policy.", "simulate.turns") if grow is not None else ()
    with work_in(folder, chosen, free) as work:
        told = run(work, grow_on=grow, budget=cap, prices=prices, limit=personas, engine=where, workers=workers)
    _show(told)
    if chosen.simulate.roles is not None:
        say(f"\nreport: {RunFolder(folder).simulation_report}")


def _refuse_unready(folder: Path, grow: Path | None, *, rehearsed: bool) -> None:
    """Refuse trees to grow on that are not there, or cannot be rehearsed, and a folder without personas."""
    from interalign.run import RunFolder

    if grow is not None and not grow.is_file():
        raise InputError(f"{grow} does not exist.", mend="give the trees.jsonl of a run to --grow.")
    if not RunFolder(folder).personas.exists():
        raise InputError(
            f"{folder} holds no personas.jsonl, so there is nobody to talk to.",
            mend="make some there first: interalign personas compose, grow or pair, with the same --out.",
        )
    if rehearsed and grow is not None:
        raise InputError("--grow cannot be estimated.", mend="leave --grow out for a run from the beginning.")


def _engine(name: str, workers: int | None) -> Literal["process", "ray"]:
    if name == "ray":
        return "ray"
    if name != "process":
        raise InputError(f"There is no engine {name!r}.", mend="use --engine process or --engine ray.")
    if workers is not None:
        raise InputError("--workers belongs to --engine ray.", mend="add --engine ray, or leave --workers out.")
    return "process"


def _refuse_unused_depth(depth: int | None, recipe: Recipe) -> None:
    policy = recipe.simulate.policy.name
    if depth is not None and policy != "full":
        raise InputError(
            f"--depth belongs to the policy full, and this is the policy {policy}.",
            mend="add --policy full, or leave --depth out.",
        )


def _tell_of_trees(folder: Path, grow: Path | None, limit: int | None) -> None:
    """Say where --personas does not decide how many trees there will be."""
    from interalign.conversations.tree import Tree
    from interalign.run import RunFolder, Stored

    there = grow or RunFolder(folder).trees
    if limit is None or not there.exists():
        return
    count = len(Stored(there, Tree))
    if grow is None and count > limit:
        note(f"{count:,} trees are there already, more than --personas {limit:,}: they stay, and all are told of.")
    if grow is not None and count < limit:
        note(f"{count:,} trees are there to grow on, fewer than --personas {limit:,}; --grow begins no others.")


def _roles(model: str | None, base_url: str | None, *, scripted: bool) -> ModelConfig | None:
    from interalign.llm.backends import ScriptedConfig

    if scripted and (model or base_url):
        raise InputError("--scripted takes no --model and no --base-url.", mend="leave one of them out.")
    if scripted:
        return ScriptedConfig()
    if base_url is not None and model is None:
        raise InputError("--base-url names a server and no model.", mend="add --model NAME.")
    return None if model is None else server_model(model, base_url)


def _with(recipe: Recipe, model: ModelConfig | None, *, turns: int | None, policy: dict[str, Any]) -> Recipe:
    from interalign.conversations.cast import roles_of
    from interalign.conversations.simulate import roles_played_by
    from interalign.recipe import changed

    said: dict[str, Any] = {}
    if model is not None:
        before, roles = recipe.simulate.roles, roles_played_by(model).model_dump(mode="json")
        if before is None:
            # The siblings of a rule-based recipe are no language models'.
            said |= {"roles": roles, "siblings": None, "policy_samples": 0}
            policy = {"continue_from": None, **policy}
        else:
            # Another model gets all else that the recipe has for its roles.
            asked = {role: [one.model for one in of_role.models] for role, of_role in roles_of(before).items()}
            players = {role: in_place_of(models, model) for role, models in asked.items() if role in roles}
            others = [*players.values(), *chain.from_iterable(asked.values())]
            said["roles"] = {
                role: {"models": [{"model": limited_like(one, others).model_dump(mode="json")}]}
                for role, one in players.items()
            }
    if turns is not None:
        said["turns"] = turns
    if policy:
        said["policy"] = policy
    return changed(recipe, {"simulate": said}) if said else recipe


def _rehearse(folder: Path, recipe: Recipe, limit: int | None, prices: Path | None, *, prompts: bool) -> None:
    from interalign.conversations.cast import roles_of
    from interalign.llm.prices import load_prices
    from interalign.personas.persona import Persona
    from interalign.pipeline.rehearsal import estimate, sample_calls
    from interalign.report.growth import counted
    from interalign.run import RunFolder, read_jsonl

    if recipe.simulate.roles is None:
        raise InputError(
            "Rules play all roles of this recipe, so there are no calls.",
            mend="name a model (--model, --base-url, or simulate.roles in the recipe).",
        )
    people = read_jsonl(RunFolder(folder).personas, Persona)[:limit]
    if prompts:
        played = roles_of(recipe.simulate.roles)
        for role, request in sample_calls(people, recipe).items():
            say_call(role, [(one.model, one.weight) for one in played[role].models], request)
        return
    rows = estimate(people, recipe, load_prices(prices))
    _show_usage("estimate", rows)
    out.print(
        f"{counted(len(people), 'persona')}, {counted(recipe.simulate.turns, 'turn')}, policy "
        f"{recipe.simulate.policy.in_words}; from a rehearsal with scripts, replies taken as 120 tokens and four "
        "characters as a token.",
        highlight=False,
    )


def _show(told: Simulation) -> None:
    from interalign.report.growth import counted

    if told.usage:
        out.print()
        _show_usage("", told.usage)
    for name, count in told.faults.items():
        meaning = MEANINGS.get(name.partition(": ")[2])
        said = f"{name}: {count:,} in {told.turns:,} user turns" + (f" ({meaning})" if meaning else "")
        err.print(escaped(said), highlight=False, soft_wrap=True)
    if told.hygiene is not None:
        _show_hygiene(told.hygiene)
    if not told.pairs:
        err.print(
            "No two sibling replies differ by preferences.min_margin, so there are no preference tables.",
            soft_wrap=True,
        )
    if told.missing_verdicts:
        err.print(f"{counted(told.missing_verdicts, 'reply', 'replies')} without a verdict.", highlight=False)
    if told.ended_early:
        err.print(
            f"{counted(told.ended_early, 'conversation')} ended early; --grow with the trees goes on.",
            highlight=False,
        )


def _show_hygiene(found: PairHygiene) -> None:
    """What surface tells of the pairs; half is chance, and None where nothing can be said."""
    out.print("How often the chosen reply is the one with more of these:", highlight=False)
    table = Table(box=box.SIMPLE)
    for name in ("words", "emoji", "questions", "exclamations"):
        table.add_column(name, justify="right")
    cues = (found.longer, found.emoji, found.questions, found.exclamations)
    table.add_row(*("–" if cue.wins is None else f"{cue.wins:.0%}" for cue in cues))
    out.print(table)
    if found.surface_guess is not None:
        out.print(
            f"A guess from these surfaces alone finds {found.surface_guess:.0%} of the chosen replies.", highlight=False
        )
    if found.disagreements is not None:
        out.print(
            f"The judge's two orders disagree on {found.disagreements:.0%} of {found.compared:,} compared pairs; "
            f"{found.unreadable_votes:,} votes could not be read.",
            highlight=False,
        )


def _show_usage(title: str, rows: Sequence[RoleUsage]) -> None:
    from interalign.conversations.cast import ROLES

    show_usage(title, rows, ROLES)
