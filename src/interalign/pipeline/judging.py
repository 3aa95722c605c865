"""A judge on trial, and whether it has drifted: models opened, calls journalled and kept within a budget.

The folder of a trial holds the journal, so that the same command goes on where it was stopped and asks nothing twice. A
look for drift must ask anew: its journal lives only as long as it takes to finish that look, and is put aside then.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import tomli_w
from pydantic import Field
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from interalign.evaluation.judging.drift import ALPHA, Drift, Snapshot, drift, snapshot
from interalign.evaluation.judging.trial import Trial, TrialConfig, Writer, try_judge
from interalign.llm.account import Account, Budget, RoleUsage
from interalign.llm.backends import ModelConfig, check_limits, costs_nothing, label, open_model
from interalign.llm.endpoint import EndpointModel
from interalign.llm.journal import Journal, journalled
from interalign.llm.limits import prompt_estimate, text_estimate
from interalign.llm.model import Answer, ChatModel, Request, Sampling, Usage
from interalign.llm.prices import FREE, Prices
from interalign.llm.scripted import ScriptedModel
from interalign.messages import Chat, Value
from interalign.personas.persona import Persona
from interalign.pipeline.stopping import Gate, stopping
from interalign.roles.judge import Judge, RuleJudge, SiblingJudge, Verdict
from interalign.roles.ledger import Ledger
from interalign.roles.llm.judge import LLMJudge
from interalign.roles.llm.player import FREELY, Player, RoleFailure, instructions
from interalign.roles.llm.script import scripts
from interalign.roles.responder import ModelResponder
from interalign.run import RunFolder, read_json, storage_errors, write_json
from interalign.training.checkpoint import installed_versions

__all__ = ["DriftHistory", "JudgePlan", "Tried", "estimate_trial", "look_again", "put_on_trial"]

T = TypeVar("T")

_REPLY = Sampling(max_tokens=200, temperature=0.7)
_CANNED = {
    "rater": '{"score": 3, "style": 3, "content": 3, "honest": true}',
    "judge": '{"better": "tie", "score_a": 3, "score_b": 3}',
    "own writer": "so many words " * 25,
    "other writer": "so many words " * 25,
}
"""What is answered in an estimate, by role."""


class JudgePlan(Value):
    """Which judge, and how it is asked."""

    model: ModelConfig | None = None
    """A language model; None for the verifiable judge."""
    prompt: str | None = None
    """Path of a text file in place of the package's instructions for raters."""
    weighted: bool = False
    """Whether scores are weighted by the model's probabilities."""
    free_text: bool = False
    """Whether it may answer in free text."""
    sampling: Sampling = Sampling(max_tokens=300, temperature=0)
    rival: ModelConfig | None = None
    """Another model, whose replies the judge's own are held against."""
    trial: TrialConfig = TrialConfig()
    repeats: Annotated[int, Field(ge=2)] = 2
    """How often a look for drift asks each question."""

    @property
    def name(self) -> str:
        """What the judge is called: the model, and how it is asked."""
        if self.model is None:
            return "rules"
        ways = [way for way, used in {"weighted": self.weighted, "free text": self.free_text}.items() if used]
        return ", ".join([label(self.model), *ways])

    @property
    def instructions(self) -> str:
        """What a rating model is told; empty for the verifiable judge."""
        return "" if self.model is None else instructions("rater" + (FREELY if self.free_text else ""), self.prompt)


class DriftHistory(Value):
    """All that one judge has answered to the fixed questions; the first time is the one that others are held to."""

    snapshots: Annotated[tuple[Snapshot, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Tried:
    """What a trial came to, what it used, and where it stands."""

    trial: Trial
    usage: tuple[RoleUsage, ...]
    path: Path


def put_on_trial(
    plan: JudgePlan, out: Path, prices: Prices, *, budget: Budget | None = None, console: Console | None = None
) -> Tried:
    """Try a judge, and write `trial-<judge>.json` to the folder `out`.

    Raises:
        StopWork: the budget is spent, the server will answer nothing, or the user stopped it. The same command goes on.
        InputError, MissingExtra, ModelError: the model cannot be opened, or answers nothing.
    """

    async def work(bench: _Bench) -> Trial:
        return await try_judge(
            bench.judge, plan.name, plan.trial, comparing=bench.comparing, writers=bench.writers or None
        )

    with _folder(plan, out) as run:
        trial, usage = _at_bench(plan, run.journal, prices, budget, console, work)
        path = out / f"trial-{_safe(plan.name)}.json"
        write_json(path, trial)
    return Tried(trial, usage, path)


def look_again(
    plan: JudgePlan,
    out: Path,
    prices: Prices,
    *,
    alpha: float = ALPHA,
    budget: Budget | None = None,
    console: Console | None = None,
) -> tuple[Drift | None, Path]:
    """Ask a judge the fixed questions, and compare with the first time, kept in `drift-<judge>.json` in `out`.

    Returns:
        What has changed, or None at the first time; and the file.

    Raises:
        InputError: it was another prompt, other questions or other repeats the first time.
        StopWork, MissingExtra, ModelError: as `put_on_trial`.
    """
    digest = hashlib.sha256(plan.instructions.encode()).hexdigest()[:12]

    async def work(bench: _Bench) -> Snapshot:
        return await snapshot(
            bench.judge,
            plan.name,
            prompt=digest,
            taken=datetime.now(UTC),
            n=plan.trial.items,
            seed=plan.trial.seed,
            repeats=plan.repeats,
        )

    with _folder(plan, out):
        path = out / f"drift-{_safe(plan.name)}.json"
        before = read_json(path, DriftHistory).snapshots if path.exists() else ()
        journal = path.with_suffix(".sqlite")
        now, _ = _at_bench(plan, journal, prices, budget, console, work)
        found = drift(before[0], now, alpha=alpha) if before else None
        write_json(path, DriftHistory(snapshots=(*before, now)))
        if journal.exists():
            with storage_errors(journal):
                journal.replace(path.with_suffix(f".{len(before) + 1}.sqlite"))
    return found, path


def estimate_trial(plan: JudgePlan, prices: Prices) -> tuple[RoleUsage, ...]:
    """Calls, tokens and money of a trial by role: it is rehearsed with canned answers; four characters are a token.

    Answers that cannot be read, and are asked for again, are not in it.
    """
    if plan.model is None:
        return ()
    check_limits(one for one in (plan.model, plan.rival) if one is not None)
    heard = {role: _Heard(role, answer) for role, answer in _CANNED.items()}
    bench = _bench(plan, heard)
    asyncio.run(try_judge(bench.judge, plan.name, plan.trial, comparing=bench.comparing, writers=bench.writers or None))
    asked = {role: plan.rival if role == "other writer" else plan.model for role in heard}
    return tuple(_row(one, asked_of, prices) for role, one in heard.items() if one.calls and (asked_of := asked[role]))


@dataclass(frozen=True)
class _Bench:
    """A judge, ready to be asked."""

    judge: Judge
    comparing: SiblingJudge | None
    writers: Mapping[str, Writer]


class _Heard:
    """A model that gives one answer, and counts."""

    def __init__(self, role: str, answer: str) -> None:
        self.name = f"canned {role}"
        self.role = role
        self.calls = self.prompt = self.completion = 0
        self._answer = answer

    async def complete(self, request: Request) -> Answer:
        self.calls += 1
        self.prompt += prompt_estimate(request)
        self.completion += text_estimate(self._answer)
        return Answer(text=self._answer, finish="stop", usage=Usage(), model=self.name)


def _row(heard: _Heard, model: ModelConfig, prices: Prices) -> RoleUsage:
    price = FREE if costs_nothing(model) else prices.of(label(model))
    return RoleUsage(
        role=heard.role,
        model=label(model),
        calls=heard.calls,
        prompt_tokens=heard.prompt,
        cached_tokens=0,
        completion_tokens=heard.completion,
        usd=None if price is None else price.usd(heard.prompt, 0, heard.completion),
    )


def _at_bench(
    plan: JudgePlan,
    journal: Path,
    prices: Prices,
    budget: Budget | None,
    console: Console | None,
    work: Callable[[_Bench], Awaitable[T]],
) -> tuple[T, tuple[RoleUsage, ...]]:
    """Do the work with the judge that is meant; returns what it came to and what was used."""
    shown = console or Console(stderr=True)
    if plan.model is None:
        with _progress(shown) as counted:
            return asyncio.run(_awaited(work(_Bench(counted(RuleJudge()), None, {})))), ()

    async def with_models(kept: Journal) -> tuple[T, tuple[RoleUsage, ...]]:
        account = Account(budget, prices, journal=journal)
        async with stopping(shown) as gate, _models(plan, kept, account, gate) as models:
            bench = _bench(plan, models)
            with _progress(shown) as counted:
                return await work(replace(bench, judge=counted(bench.judge))), account.rows()

    empty = False
    try:
        with Journal.open(journal) as kept:
            try:
                return asyncio.run(with_models(kept))
            finally:
                empty = not len(kept)
    finally:
        if empty:
            with storage_errors(journal):
                journal.unlink(missing_ok=True)


class _Counted:
    """A judge whose verdicts are counted as they come, with those that could not be read."""

    def __init__(self, judge: Judge, advance: Callable[[], None]) -> None:
        self._judge = judge
        self._advance = advance

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        try:
            verdict = await self._judge.score(persona, chat, reply, ledger, seed)
        except RoleFailure:
            self._advance()
            raise
        self._advance()
        return verdict


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[Judge], Judge]]:
    """Shows how many verdicts have come; yields what counts a judge's."""
    with Progress(TextColumn("verdicts: {task.completed:,.0f}"), TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("", total=None)
        yield lambda judge: _Counted(judge, lambda: progress.advance(task))


async def _awaited(work: Awaitable[T]) -> T:
    return await work


def _bench(plan: JudgePlan, models: Mapping[str, ChatModel]) -> _Bench:
    # Not loaded where rules judge.
    from interalign.roles.llm.rater import LLMRater

    def player(role: str, told: str) -> Player:
        return Player([(models[role], 1.0)], plan.sampling, told)

    writers = {
        role: ModelResponder(models[role], _REPLY)
        for role in ("own writer", "other writer")
        if plan.rival is not None and "self" in plan.trial.tests
    }
    return _Bench(
        judge=LLMRater(player("rater", plan.instructions), weighted=plan.weighted, free_text=plan.free_text),
        comparing=LLMJudge(player("judge", instructions("judge"))),
        writers=writers,
    )


@asynccontextmanager
async def _models(
    plan: JudgePlan, journal: Journal, account: Account, gate: Gate
) -> AsyncIterator[dict[str, ChatModel]]:
    """The models by role; the judge's own plays several of them and is opened once."""

    def wrapped(model: ChatModel, role: str, *, free: bool) -> ChatModel:
        if isinstance(model, EndpointModel):
            model.before_sending = gate.check
        if isinstance(model, ScriptedModel):
            # It costs nothing and says the same again.
            return account.metered(gate.guarded(model), role, free=free)
        return account.metered(gate.guarded(journalled(gate.watched(model), journal)), role, free=free)

    async with AsyncExitStack() as stack:
        opened: dict[str, ChatModel] = {}
        models: dict[str, ChatModel] = {}
        for role in _CANNED:
            config = plan.rival if role == "other writer" else plan.model
            if config is None or (role == "own writer" and plan.rival is None):
                continue
            # A script plays one role; any other model may play several.
            key = config.model_dump_json() + (role if config.backend == "scripted" else "")
            if key not in opened:
                played = {"own writer": "generic", "other writer": "tailored"}.get(role, role)
                opened[key] = await stack.enter_async_context(open_model(config, scripts(), played))
            models[role] = wrapped(opened[key], role, free=costs_nothing(config))
        yield models


@contextmanager
def _folder(plan: JudgePlan, out: Path) -> Iterator[RunFolder]:
    """Hold the folder; another plan may work in it, but no run of another kind."""
    text = tomli_w.dumps({"judge": plan.model_dump(mode="json", exclude_none=True)})
    with RunFolder.open(out, text, versions=installed_versions(), free=("judge.",)) as run:
        yield run


def _safe(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name).strip("-.") or "judge"
