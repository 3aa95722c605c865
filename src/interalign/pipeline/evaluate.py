"""Stage 4: every model talks to the held-out people; `eval/<model>/verdicts.jsonl` and `eval/summary.json`.

Users and judge are rules or language models, as the recipe has it. A model's file is written when all its cases are
done. What stops the work before (a spent budget, Ctrl-C, a server that is gone) loses nothing that was paid for: the
same command plays the cases again, from the journal, and goes on with the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from interalign.conversations.environment import TESTED, Environment, open_test
from interalign.errors import BudgetSpent, InputError, ModelError, StopWork
from interalign.evaluation.benchmark import (
    CONTROLS,
    PACKAGED,
    BenchmarkConfig,
    Candidate,
    Case,
    ControlCandidate,
    MethodCandidate,
    line_up,
    play_cases,
)
from interalign.evaluation.cases import card, read_cases, refuse_leaks
from interalign.evaluation.missing import most_often, reasons_of
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.summary import Summary, summarise
from interalign.llm.account import Account, Budget
from interalign.llm.backends import LocalConfig, ScriptedConfig, costs_nothing, open_model
from interalign.llm.offline import resolve_model
from interalign.llm.prices import Prices, load_prices
from interalign.personas.persona import Persona
from interalign.pipeline import cautions
from interalign.pipeline.record import prompts_used, recorded, world_of
from interalign.pipeline.rehearsed_evaluation import estimate_evaluation
from interalign.pipeline.setting import Setting, setting_of
from interalign.pipeline.stopping import Gate, stop_told, stopping, wrapping
from interalign.pipeline.tested import BASE, Tested, What, folder_of, tested_in_words, tested_models
from interalign.pipeline.work import Work
from interalign.recipe import Recipe
from interalign.report.growth import counted
from interalign.roles.user import refuse_unplayable
from interalign.run import RunFolder, read_json, read_jsonl, write_json, write_jsonl

__all__ = [
    "cases_of",
    "evaluate",
    "people_of",
    "refuse_unjudged",
    "verdicts_at",
]


@dataclass(frozen=True)
class _Bench:
    """What all models of one evaluation share."""

    work: Work
    people: Sequence[Persona]
    account: Account
    gate: Gate
    settings: Mapping[str, Setting]
    """What the verdicts of each model and of each control are made by now."""

    @property
    def config(self) -> BenchmarkConfig:
        return self.work.recipe.benchmark

    def cases(self) -> tuple[Case, ...]:
        """All conversations with one model, the repeats behind the others."""
        return line_up(self.people, self.config, self.work.recipe.seed)

    def repeats(self) -> tuple[Case, ...]:
        """Those of them that are repeats."""
        return tuple(case for case in self.cases() if case.repeat)


def evaluate(
    work: Work,
    models: Sequence[str],
    extra: Mapping[str, What] | None = None,
    *,
    budget: Budget | None = None,
    prices: Path | None = None,
) -> Summary:
    """Write `eval/<model>/verdicts.jsonl` for each model and control, and `eval/summary.json`.

    Args:
        work: The run.
        models: `base` and names of checkpoints in `models/`; with a method behind a plus, as in `base+reminder`.
        extra: More models by name, from anywhere, beside those that the recipe names. They are played anew each time,
            for the same name may be another model now; what it said before comes from the journal.
        budget: What the calls of this run may cost, earlier commands included.
        prices: A table of prices in place of the package's.

    Raises:
        InputError: the name of a model is taken or unfit for a folder, its folder holds no weights, the cases cannot be
            played by the roles, or a budget cannot be kept for want of a price.
        LeakError: a case is a training persona.
        ModelError: a model cannot be loaded, or gave no reply at all.
        StopWork: the budget is spent, a server will answer nothing, or the user stopped it.
    """
    config = work.recipe.benchmark
    tested = tested_models(work.run, work.recipe, models, extra or {})
    people = cases_of(work.run, work.recipe)
    _tell(work, f"testing: {tested_in_words(tested)}")
    account = _account(work, people, tested, budget, load_prices(prices))
    rows, notes = asyncio.run(_all_rows(work, people, tested, account))
    world = world_of(config)
    summary = summarise(
        rows,
        baseline=_baseline(rows),
        world=world,
        controls=tuple(CONTROLS),
        resamples=config.resamples,
        seed=work.recipe.seed,
        people={persona.id: persona for persona in people},
    ).model_copy(update={"notes": notes})
    if config.cases is not None:
        write_jsonl(_cases_at(work.run), people)
    write_json(work.run.eval / "evaluation.json", recorded(config, world, people, tested, rows, account))
    write_json(work.run.eval / "summary.json", summary)
    return summary


def _baseline(names: Iterable[str]) -> str:
    """The model before training; where it is not there, the first one that answers by no method."""
    models = [name for name in names if name not in CONTROLS]
    return BASE if BASE in models else next((name for name in models if "+" not in name), models[0])


def cases_of(run: RunFolder, recipe: Recipe) -> list[Persona]:
    """The people that the recipe's benchmark talks to.

    Raises:
        InputError: they cannot be read, or rules cannot play them.
        LeakError: training personas of this run are among them.
    """
    config = recipe.benchmark
    by_rules = config.roles is None or config.roles.user is None
    if config.cases is None:
        if not run.heldout.exists():
            raise InputError(
                f"There is nobody to talk to: {run.heldout} is not there.",
                mend="use --cases aloe, the people who come with interalign"
                + (" (language models must play them: --roles)" if by_rules else "")
                + ", name a file of personas with --cases, or make some with `interalign personas compose`.",
            )
        people = read_jsonl(run.heldout, Persona)
    elif config.cases == PACKAGED and by_rules:
        raise InputError(
            "The people of aloe are told in words only, so rules cannot play them.",
            mend="let language models play them (--roles, or --user and --judge), or leave --cases out for people whom "
            "`interalign personas compose` has made.",
        )
    else:
        people = list(read_cases(config.cases))
        if run.personas.exists():
            refuse_leaks(people, read_jsonl(run.personas, Persona))
    if by_rules:
        for persona in people:
            refuse_unplayable(persona)
    return people


def people_of(run: RunFolder) -> list[Persona]:
    """The people that the evaluation in a run folder was about."""
    path = _cases_at(run)
    return read_jsonl(path if path.exists() else run.heldout, Persona)


def verdicts_at(run: RunFolder, name: str) -> Path:
    """Where the rows of a model, or of a control, stand."""
    return run.eval / folder_of(name) / "verdicts.jsonl"


def _setting_at(run: RunFolder, name: str) -> Path:
    return verdicts_at(run, name).with_name("setting.json")


def _cases_at(run: RunFolder) -> Path:
    return run.eval / "cases.jsonl"


def _account(
    work: Work, people: Sequence[Persona], tested: Sequence[Tested], budget: Budget | None, prices: Prices
) -> Account:
    """An account that knows about what a conversation will cost."""
    expected = 0.0
    if budget is not None:
        rows = estimate_evaluation(people, work.recipe, tested, prices)
        of_tokens = sum(row.prompt_tokens + row.completion_tokens for row in rows)
        whole = of_tokens if budget.tokens else sum(row.usd or 0 for row in rows)
        expected = whole / max(1, len(people) * len(tested))
    account = Account(budget, prices, journal=work.run.journal, expected=expected)
    if budget is not None and expected and account.left < expected * len(people) * len(tested):
        work.say(
            f"The budget of {budget} (used so far: {account.told}) covers about {int(account.left / expected):,} of "
            f"{counted(len(people) * len(tested), 'conversation')} by estimate, each with its share of the repeats and "
            "those done before left out of account. Repeats come last, and are left out where it ends before."
        )
    return account


async def _all_rows(
    work: Work, people: Sequence[Persona], tested: Sequence[Tested], account: Account
) -> tuple[dict[str, list[TurnRow]], tuple[str, ...]]:
    """The rows of all models and controls, and what a reader must know of them."""
    config = work.recipe.benchmark
    # Where nobody is paid, nothing is lost when Ctrl-C stops it at once.
    free = config.by_rules and all(costs_nothing(one.model) for one in tested)
    _tell(work, _length_told(work, people, tested))
    async with nullcontext(Gate()) if free else stopping(work.console) as gate:
        bench = _Bench(work, people, account, gate, _settings(work.recipe, people, tested))
        before = {one.name: None if one.elsewhere else _before(bench, one.name) for one in tested}
        await _refuse_unfit(bench, [one for one in tested if _is_asked(bench, one.name, before[one.name])])
        rows = {one.name: before[one.name] or await _rows_of_model(bench, one, _begun_with(bench)) for one in tested}
        for one in tested:
            await _repeat(bench, one, rows)
        lacking = [left for one in tested for left in _lacking(bench, one.name, rows[one.name])]
        settings = [bench.settings[one.name] for one in tested]
        for setting, of_other in _of_other_commands(bench, tested):
            rows[setting.name] = of_other
            settings.append(setting)
            lacking += _lacking(bench, setting.name, of_other)
        if config.by_rules and config.controls:
            for name in CONTROLS:
                control = ControlCandidate(CONTROLS[name])
                rows[name] = _before(bench, name) or await _rows(bench, name, control, Environment(), bench.cases())
    return rows, (*cautions.of_the_judge(config.roles, settings), *cautions.of_the_noise(lacking))


def _settings(recipe: Recipe, people: Sequence[Persona], tested: Sequence[Tested]) -> dict[str, Setting]:
    """By name, what the verdicts of each model and of each control are made by now.

    They are made here and nowhere else: a model in this process is told by all its weights, which takes time to read.
    """
    config, version = recipe.benchmark, card(people).version
    made_by = partial(setting_of, config=config, cases=version, prompts=prompts_used(config), seed=recipe.seed)
    models: dict[str, Tested | None] = {one.name: one for one in tested}
    return {name: made_by(name, one) for name, one in (dict.fromkeys(CONTROLS) | models).items()}


def _begun_with(bench: _Bench) -> Sequence[Case]:
    """The conversations that are had before all others: with a budget, repeats wait until all models have had theirs.

    A model without its first conversations has no result, one without repeats only lacks the noise.
    """
    cases = bench.cases()
    return cases if bench.account.budget is None else [case for case in cases if not case.repeat]


async def _repeat(bench: _Bench, tested: Tested, rows: dict[str, list[TurnRow]]) -> None:
    """Have the repeats that the rows of a model lack, as far as the budget goes, and put them to its rows."""
    name, again = tested.name, _unrepeated(bench, tested.name, rows[tested.name])
    if not again:
        return
    async with _opened(bench, tested) as (candidate, cast):
        played, stop = await _played(bench, f"repeats of {name}", candidate, cast, again)
    if stop is not None and not isinstance(stop, BudgetSpent):
        raise stop_told(stop, _how_far(bench.account, f"the repeats of {name}", len(played), len(again)))
    place = {case.persona.id: place for place, case in enumerate(bench.repeats())}
    first, repeats = [row for row in rows[name] if not row.repeat], [row for row in rows[name] if row.repeat]
    repeats = sorted([*repeats, *chain.from_iterable(played)], key=lambda row: place[row.case])
    rows[name] = [*first, *repeats]
    write_jsonl(verdicts_at(bench.work.run, name), rows[name])


def _unrepeated(bench: _Bench, name: str, rows: Sequence[TurnRow]) -> list[Case]:
    """The repeats that the rows of a model lack; none where an older version made them, in an unknown setting."""
    if not _setting_at(bench.work.run, name).exists():
        return []
    there = {row.case for row in rows if row.repeat}
    return [case for case in bench.repeats() if case.persona.id not in there]


def _lacking(bench: _Bench, name: str, rows: Sequence[TurnRow]) -> list[tuple[str, int, int]]:
    """For a model that lacks repeats its name, how many there are, and how many there should be."""
    lacking, wanted = len(_unrepeated(bench, name, rows)), len(bench.repeats())
    return [(name, wanted - lacking, wanted)] if lacking else []


def _is_asked(bench: _Bench, name: str, before: Sequence[TurnRow] | None) -> bool:
    """Whether anything is left to ask a model, given its rows of an earlier command."""
    return before is None or bool(_unrepeated(bench, name, before))


async def _refuse_unfit(bench: _Bench, tested: Sequence[Tested]) -> None:
    """Find what is wrong with any of the models before the first call: what the others say costs money.

    Raises:
        InputError: a key or a price is missing, or a folder holds no weights.
        MissingExtra, ModelError: as `open_model`.
    """
    for one in tested:
        if isinstance(one.model, LocalConfig):
            resolve_model(one.model.checkpoint)
        elif not isinstance(one.model, ScriptedConfig):
            async with open_model(one.model, {}, TESTED) as model:
                bench.account.check([model])


def _of_other_commands(bench: _Bench, tested: Sequence[Tested]) -> Iterator[tuple[Setting, list[TurnRow]]]:
    """The rows of models that this command does not name, where they were made in the same setting."""
    known = {folder_of(name) for name in (*(one.name for one in tested), *CONTROLS)}
    shared = next(iter(bench.settings.values())).shared
    for path in sorted(bench.work.run.eval.glob("*/setting.json")):
        if path.parent.name in known or not (path.parent / "verdicts.jsonl").exists():
            continue
        setting = read_json(path, Setting)
        if setting.shared == shared:
            bench.work.done(f"benchmark of {setting.name}")
            yield setting, read_jsonl(path.parent / "verdicts.jsonl", TurnRow)


def _tell(work: Work, line: str) -> None:
    work.console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)


def _length_told(work: Work, people: Sequence[Persona], tested: Sequence[Tested]) -> str:
    """What the progress counts, in a sentence."""
    config = work.recipe.benchmark
    conversations = len(line_up(people, config, work.recipe.seed))
    again = conversations - len(people)
    whom = counted(len(people), "case") + (f", {again:,} of them twice" if again else "")
    replies = counted(conversations * config.turns, "turn")
    return f"{whom}; {config.turns} turns each: {replies} {'with each model' if len(tested) > 1 else 'in all'}."


async def _rows_of_model(bench: _Bench, tested: Tested, cases: Sequence[Case]) -> list[TurnRow]:
    async with _opened(bench, tested) as (candidate, cast):
        return await _rows(bench, tested.name, candidate, cast, cases)


@asynccontextmanager
async def _opened(bench: _Bench, tested: Tested) -> AsyncIterator[tuple[Candidate, Environment]]:
    """A model under test, asked by its method, and the cast."""
    config = bench.config
    wrap = wrapping(bench.work.journal, bench.account, bench.gate)
    async with open_test(tested.model, config.roles, config.checks, wrap, helpfulness=config.helpfulness) as (
        model,
        cast,
    ):
        yield MethodCandidate(tested.method, model, config.sampling), cast


def _before(bench: _Bench, name: str) -> list[TurnRow] | None:
    """The rows of an earlier command in the same setting, where all stand: what failed may do better now.

    Older versions did not write down the setting; their rows are taken as they are.
    """
    path = verdicts_at(bench.work.run, name)
    if not path.exists():
        return None
    mark = _setting_at(bench.work.run, name)
    other = read_json(mark, Setting).differences(bench.settings[name]) if mark.exists() else ()
    if other:
        bench.work.say(f"{name} was evaluated with other settings ({', '.join(other)}), and is played again.")
        return None
    rows = read_jsonl(path, TurnRow)
    whole = bench.config.by_rules or not any(row.failure or _unanswered(row) for row in rows)
    if not whole:
        return None
    bench.work.done(f"benchmark of {name}")
    return rows


def _unanswered(row: TurnRow) -> bool:
    return any(fault.check == "no answer" for fault in row.faults)


async def _rows(
    bench: _Bench, name: str, candidate: Candidate, cast: Environment, cases: Sequence[Case]
) -> list[TurnRow]:
    played, stop = await _played(bench, f"benchmark of {name}", candidate, cast, cases)
    if stop is not None:
        raise stop_told(stop, _how_far(bench.account, name, len(played), len(cases)))
    rows = list(chain.from_iterable(played))
    _refuse_all_failed(name, rows, bench.config)
    path = verdicts_at(bench.work.run, name)
    # A process that is killed in between leaves no verdicts of one setting beside the mark of another.
    path.unlink(missing_ok=True)
    write_json(_setting_at(bench.work.run, name), bench.settings[name])
    write_jsonl(path, rows)
    return rows


async def _played(
    bench: _Bench, what: str, candidate: Candidate, cast: Environment, cases: Sequence[Case]
) -> tuple[list[list[TurnRow]], StopWork | None]:
    """The rows of each case in their order; where the work was stopped, of those that were whole by then, and why."""
    config, seed = bench.config, bench.work.recipe.seed
    rows: dict[int, list[TurnRow]] = {}
    stopped: StopWork | None = None
    with bench.work.bar(what, len(cases) * config.turns) as bar:
        try:
            async for place, of_case in play_cases(
                cases, candidate, cast, config, seed, on_turn=bar.advance, around=bench.account.whole
            ):
                rows[place] = of_case
        except StopWork as stop:
            stopped = stop
    return [rows[place] for place in sorted(rows)], stopped


def _how_far(account: Account, name: str, done: int, of: int) -> str:
    """How far the work with a model has come, and what it took."""
    return (
        f"Of {name}, {done:,} of {counted(of, 'conversation')} {'is' if done == 1 else 'are'} done; with those under "
        f"way this command has used {counted(account.tokens, 'token')}, which are kept."
    )


def _refuse_all_failed(name: str, rows: Sequence[TurnRow], config: BenchmarkConfig) -> None:
    # Written down they would count as done, and a server that was only switched off would never be asked again.
    reasons = [row.failure for row in rows if row.failure is not None]
    if reasons and len(reasons) == len(rows):
        raise ModelError(f"Every turn with {name} failed; the first one said: {reasons[0]}")
    judge = config.roles.judge if config.roles else None
    refuse_unjudged(name, rows, free_text=judge is not None and judge.free_text, shown_by="--show-prompts")


def refuse_unjudged(name: str, rows: Sequence[TurnRow], *, free_text: bool, shown_by: str) -> None:
    """Refuse the rows of a model when the judge has no verdict on any of its replies: they are no result.

    Args:
        name: Of the model.
        rows: What was judged.
        free_text: Whether the judge answers in free text already, so that it is not advised.
        shown_by: What shows how the judge is asked.

    Raises:
        ModelError: there is none; it says why.
    """
    if any(row.verdict for row in rows):
        return
    failed = [
        fault.text for row in rows for fault in row.faults if fault.role == "judge" and fault.check == "no answer"
    ]
    unread = f"its answers cannot be read as scores ({most_often(reasons_of(rows, len(rows)))})."
    why = f"the first one said: {failed[0]}" if failed else unread
    freely = "" if free_text else "let it answer in free text (--free-text), "
    raise ModelError(
        f"The judge has no verdict on any reply of {name}; {why}",
        mend=f"name another judge, {freely}or see what it is asked ({shown_by}).",
    )
