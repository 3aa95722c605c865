"""The replies of a finished evaluation judged by another judge; nobody is talked to again.

Everything goes to `rescored/<name>/` of the run: a file of verdicts a model, their summary, who judged, and how far the
two judges agree. What the evaluation has written stays as it is. A model's file is written when all its replies are
judged; what stops the work before loses nothing that was paid for, and the same command goes on.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from interalign.conversations.environment import (
    EnvironmentRoles,
    JudgeConfig,
    environment_of,
    open_environment,
    prompts_of,
)
from interalign.errors import InputError, StopWork
from interalign.evaluation.benchmark import BenchmarkConfig
from interalign.evaluation.rescoring import JudgeAgreement, judge_agreement, rescored
from interalign.evaluation.rows import Counterfactual, TurnRow
from interalign.evaluation.summary import Summary, summarise
from interalign.llm.account import Account, Budget, RoleUsage
from interalign.llm.backends import check_limits, label
from interalign.llm.prices import Prices, load_prices
from interalign.messages import Value
from interalign.personas.persona import Persona
from interalign.pipeline.cautions import of_the_judge
from interalign.pipeline.evaluate import people_of, refuse_unjudged, verdicts_at
from interalign.pipeline.record import world_of
from interalign.pipeline.rehearsal import REHEARSED, Heard, estimated, overheard
from interalign.pipeline.results import RULES, JudgedAnew, judge_in_words, rescored_at
from interalign.pipeline.setting import Setting
from interalign.pipeline.stopping import Gate, stop_told, stopping, wrapping
from interalign.pipeline.work import Work
from interalign.recipe import Recipe
from interalign.report.growth import counted
from interalign.roles.judge import Judge
from interalign.roles.llm.player import Player, instructions, prompt_hashes
from interalign.roles.llm.script import scripts
from interalign.roles.user import refuse_unplayable
from interalign.run import RunFolder, read_json, read_jsonl, write_json, write_jsonl

__all__ = ["Rescoring", "estimate_rescoring", "judge_folder", "rescore"]

_UNFIT = re.compile(r"[^\w.+-]+")
_UNANSWERED = ("judge", "no answer")


class Rescoring(Value):
    """What came of it; it stands in `agreement.json` as well."""

    judge: str
    folder: str
    """Its name in `rescored/`."""
    agreement: JudgeAgreement
    usage: tuple[RoleUsage, ...] = ()
    """What the last command used, answers from the journal included."""


def judge_folder(judge: JudgeConfig | None) -> str:
    """The name of the folder of a judge in `rescored/`, where none is given: `rules`, or the names of its models."""
    if judge is None:
        return RULES
    named = "+".join(_UNFIT.sub("-", label(one.model)).strip("-.") or "model" for one in judge.models)
    return named + ("+weighted" if judge.weighted else "")


def rescore(
    work: Work,
    judge: JudgeConfig | None,
    *,
    name: str | None = None,
    budget: Budget | None = None,
    prices: Path | None = None,
) -> tuple[Summary, Rescoring]:
    """Judge all replies of the run's evaluation, those of controls among them, and say how far the judges agree.

    Args:
        work: The run.
        judge: Which models judge; None for the rules.
        name: The folder's name in `rescored/`; left out, the judge's (`judge_folder`).
        budget: What the calls of this run may cost, earlier commands included.
        prices: A table of prices in place of the package's.

    Raises:
        InputError: the run has no finished evaluation, rules cannot judge it, the folder is another judge's, or a
            budget cannot be kept for want of a price.
        ModelError: the judge cannot be loaded, or has no verdict on any reply of a model.
        StopWork: the budget is spent, a server will answer nothing, or the user stopped it.
    """
    config = work.recipe.benchmark
    before, rows, people = _evaluated(work.run)
    _check_rules(judge, config, people)
    folder = _claimed(work, judge, name)
    account = Account(budget, load_prices(prices), journal=work.run.journal)
    after = asyncio.run(_all_rows(work, judge, folder, rows, people, account))
    summary = summarise(
        after,
        baseline=before.baseline,
        world=_world(config, judge),
        controls=[model.name for model in before.of_kind("control")],
        resamples=before.resamples,
        seed=before.seed,
        people={persona.id: persona for persona in people},
    ).model_copy(update={"notes": _cautions(work, judge, rows)})
    told = Rescoring(
        judge=_words(judge),
        folder=folder.name,
        agreement=judge_agreement(
            rows,
            after,
            {one.id: one for one in people},
            ranked=[model.name for model in before.of_kind("model")],
            seed=work.recipe.seed,
        ),
        usage=account.rows(),
    )
    write_json(folder / "agreement.json", told)
    write_json(folder / "summary.json", summary)
    return summary, told


def estimate_rescoring(
    run: RunFolder, recipe: Recipe, judge: JudgeConfig | None, prices: Prices
) -> tuple[RoleUsage, ...]:
    """Calls, tokens and money for judging all replies of a run once more; nothing for the rules.

    Some conversations are judged by a script; a token is taken as four characters.

    Raises:
        InputError: as `rescore`, or a model is limited in two ways.
    """
    _, rows, people = _evaluated(run)
    _check_rules(judge, recipe.benchmark, people)
    if judge is None:
        return ()
    check_limits(one.model for one in judge.models)
    heard = Heard()
    some = {name: _first_cases(of_model) for name, of_model in rows.items()}
    share = sum(map(len, rows.values())) / max(1, sum(map(len, some.values())))
    told = prompts_of({"judge": judge})["judge"]
    player = Player([(overheard(scripts()[told], heard), 1.0)], judge.sampling, instructions(told, judge.prompt))
    rater = environment_of({"judge": player}, EnvironmentRoles(judge=judge), recipe.benchmark.checks).judge

    async def all_of_them() -> None:
        for of_model in some.values():
            await rescored(of_model, people, rater, recipe.benchmark, recipe.seed)

    asyncio.run(all_of_them())
    whole = sum(one.weight for one in judge.models)
    return tuple(estimated("judge", one.model, heard, share * one.weight / whole, prices) for one in judge.models)


def _cautions(work: Work, judge: JudgeConfig | None, names: Iterable[str]) -> tuple[str, ...]:
    marks = (verdicts_at(work.run, name).with_name("setting.json") for name in names)
    settings = [read_json(mark, Setting) for mark in marks if mark.exists()]
    return of_the_judge(_roles(work.recipe.benchmark, judge), settings)


def _first_cases(rows: Sequence[TurnRow]) -> list[TurnRow]:
    first = set(list(dict.fromkeys(row.case for row in rows))[:REHEARSED])
    return [row for row in rows if row.case in first]


def _evaluated(run: RunFolder) -> tuple[Summary, dict[str, list[TurnRow]], list[Persona]]:
    path = run.eval / "summary.json"
    if not path.exists():
        raise InputError(f"{run.root} holds no finished evaluation.", mend="finish `interalign eval` there first.")
    summary = read_json(path, Summary)
    rows = {model.name: read_jsonl(verdicts_at(run, model.name), TurnRow) for model in summary.models}
    return summary, rows, people_of(run)


def _check_rules(judge: JudgeConfig | None, config: BenchmarkConfig, people: Sequence[Persona]) -> None:
    if judge is not None:
        return
    if config.roles is not None and config.roles.user is not None:
        raise InputError(
            "Rules cannot judge here: they read what rule-based users write, and a language model was the user.",
            mend="name a language model as the judge.",
        )
    for persona in people:
        refuse_unplayable(persona)


def _claimed(work: Work, judge: JudgeConfig | None, name: str | None) -> Path:
    """The judge's folder, which is no other judge's."""
    name = judge_folder(judge) if name is None else name
    if _UNFIT.search(name) or not name.strip(".-"):
        raise InputError(f"{name!r} is no name for a folder.", mend="use letters, digits, '-', '_', '+' and '.'.")
    folder = rescored_at(work.run) / name
    mark, told = folder / "judge.json", JudgedAnew(judge=_words(judge), world=_world(work.recipe.benchmark, judge))
    if mark.exists() and (other := read_json(mark, JudgedAnew).judge) != told.judge:
        raise InputError(
            f"{folder} holds the verdicts of another judge: {other}, and not {told.judge}.",
            mend="give this one a name of its own (--name).",
        )
    write_json(mark, told)
    return folder


def _words(judge: JudgeConfig | None) -> str:
    if judge is None:
        return RULES
    told = prompts_of({"judge": judge})["judge"]
    return judge_in_words(judge, prompt_hashes({"judge": instructions(told, judge.prompt)})["judge"])


def _world(config: BenchmarkConfig, judge: JudgeConfig | None) -> str:
    return world_of(config.model_copy(update={"roles": _roles(config, judge)}))


def _roles(config: BenchmarkConfig, judge: JudgeConfig | None) -> EnvironmentRoles:
    return (config.roles or EnvironmentRoles()).model_copy(update={"judge": judge})


async def _all_rows(
    work: Work,
    judge: JudgeConfig | None,
    folder: Path,
    rows: Mapping[str, Sequence[TurnRow]],
    people: Sequence[Persona],
    account: Account,
) -> dict[str, list[TurnRow]]:
    after: dict[str, list[TurnRow]] = {}
    # Rules ask nobody, so nothing is lost when Ctrl-C stops them at once.
    async with nullcontext(Gate()) if judge is None else stopping(work.console) as gate:
        roles = EnvironmentRoles(judge=judge)
        wrap = wrapping(work.journal, account, gate)
        async with open_environment(roles, work.recipe.benchmark.checks, wrap) as cast:
            for name, of_model in rows.items():
                path = folder / verdicts_at(work.run, name).relative_to(work.run.eval)
                done = _before(path, of_model)
                if done is not None:
                    work.done(f"judging {name}")
                else:
                    done = await _judged(work, name, of_model, people, cast.judge, account)
                    if any(row.verdict for row in of_model):
                        refuse_unjudged(
                            name,
                            done,
                            free_text=judge is not None and judge.free_text,
                            shown_by="`interalign eval --judge MODEL --show-prompts`",
                        )
                    write_jsonl(path, done)
                after[name] = done
    return after


def _before(path: Path, rows: Sequence[TurnRow]) -> list[TurnRow] | None:
    """These rows as an earlier command has judged them, where nothing is left to be asked for."""
    if not path.exists():
        return None
    before = read_jsonl(path, TurnRow)
    # What was not answered may be now, and a model that was evaluated anew has said something else.
    return before if not any(map(_unanswered, before)) and _said(before) == _said(rows) else None


async def _judged(
    work: Work, name: str, rows: Sequence[TurnRow], people: Sequence[Persona], judge: Judge, account: Account
) -> list[TurnRow]:
    with work.bar(f"judging {name}", len(rows)) as bar:
        try:
            return await rescored(rows, people, judge, work.recipe.benchmark, work.recipe.seed, on_row=bar.advance)
        except StopWork as stop:
            kept = f"It was judging {name}; the {counted(account.tokens, 'token')} of this command are kept."
            raise stop_told(stop, kept) from None


def _unanswered(row: TurnRow) -> bool:
    return any((fault.role, fault.check) == _UNANSWERED for fault in row.faults)


def _said(rows: Sequence[TurnRow]) -> tuple[Any, ...]:
    """What the verdicts in rows are about."""
    replies = [
        (row.case, row.repeat, row.turn, row.user, row.reply, row.disclosure, _replies(row.controls)) for row in rows
    ]
    swapped = {name for row in rows for name, one in row.controls.items() if one.swapped is not None}
    return replies, any(row.swapped is not None for row in rows), swapped


def _replies(controls: Mapping[str, Counterfactual]) -> dict[str, str]:
    return {name: one.reply for name, one in controls.items()}
