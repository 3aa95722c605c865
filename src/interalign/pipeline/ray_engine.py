"""Growing trees on all cores of a machine, or on many machines: Ray workers, each with its share of the personas.

What always holds:

* the trees are those that one process grows; they come as they are done, and none is kept here;
* a worker writes every answer to a journal of its own in the run folder, `journal-<k>.sqlite`, which begins as a copy
  of the run's. A worker that dies is started again and goes on from there. At the end, or when the next command
  begins, these journals become part of the run's;
* the models' limits (requests and tokens per minute, concurrency), `in_flight` and what is left of the budget are
  divided evenly, so that the workers together keep to them, as long as there are no more workers than requests to
  divide: each may have one. The work stops when the first worker has spent its share; the same command divides anew
  what the others left. The budget is exceeded by less than one call of each worker.

Without a RAY_ADDRESS, Ray is started on this machine for the length of the work, on the loopback interface only. A
cluster at RAY_ADDRESS must see the run folder, the prompts and checkpoints that the recipe names, and the trees to
grow on, at the same paths, and have the models' keys in the environment of its nodes. A local checkpoint is loaded once
by each worker.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console

from interalign.conversations.cast import roles_of
from interalign.conversations.tree import Tree
from interalign.errors import BudgetSpent, InputError, InteralignError, Interrupted, MissingExtra, StopWork
from interalign.llm.account import Account, Budget, RoleUsage, merged
from interalign.llm.backends import ModelConfig
from interalign.llm.journal import Journal
from interalign.llm.prices import Prices
from interalign.llm.sqlite import Wording, connect, translated
from interalign.personas.persona import Persona
from interalign.pipeline.stopping import GO_ON, Gate
from interalign.pipeline.work import Work
from interalign.recipe import Recipe
from interalign.roles.llm.player import RoleConfig
from interalign.run import RunFolder, Stored, derive_seed, storage_errors

__all__ = ["Grow", "Order", "gather_journals", "grow_on_ray"]

Grow: TypeAlias = Callable[[Work, Sequence[Persona], Mapping[str, Tree], Account, Gate], AsyncIterator[Tree]]
"""What each worker does with its personas; a function that can be imported by name."""

_LOCAL = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's own way to loopback, on any system: with 127.0.0.1 as the node's address it would look for another.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # A local model sees the GPUs that it would see in this process.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# Trees are sent as they are done, and few are under way at once; Ray takes no less than 75 MiB.
_OBJECTS_BYTES = 200_000_000
_CONNECT_S = 10.0
_DEATHS = 3
_WATCH_S = 0.2
_LIMITS = ("concurrency", "requests_per_minute", "tokens_per_minute")
_WORDING = Wording(
    name="The journal of a worker",
    unreadable="move it away and run the same command again; what it holds is asked for, and paid, again.",
    kept="paid answers are kept",
)


@dataclass(frozen=True)
class Order:
    """What is to be grown, by whom, and on whose account."""

    grow: Grow
    work: Work
    personas: Stored[Persona]
    before: Mapping[str, Tree]
    """By persona id; it is sent to each worker, so let it name a file rather than hold what is in it."""
    account: Account
    """It counts nothing here: what the workers have used is returned."""
    prices: Prices
    expected: float = 0
    """As `Account` takes it."""


async def grow_on_ray(
    order: Order, workers: int | None, gate: Gate, take: Callable[[Tree], None]
) -> tuple[tuple[RoleUsage, ...], StopWork | None]:
    """Grow the tree of each persona; returns what the roles have used, and what stopped the work before its end.

    That is a StopWork where a worker's share of the budget is spent, its server will answer nothing, or the gate was
    shut.

    Args:
        order: What is to be grown.
        workers: How many processes; None for as many as there are CPUs.
        gate: Once it is shut, the workers end their calls in flight and stop.
        take: Called with each tree as it is done, once for each persona.

    Raises:
        MissingExtra: ray is not installed.
        InputError: there is no cluster at RAY_ADDRESS; or as `order.grow` raises it.
        InteralignError: a worker died again and again; or as `order.grow` raises it.
    """
    work = order.work
    with _ray(workers) as count:
        shards = _shards(order.personas, count)
        crew = _Crew([_job(order, number, shards) for number in shards], gate, take)
        await crew.work()
    gather_journals(work.journal, work.run.root)
    error = _worst(crew.errors, order.account.budget, len(shards)) if crew.errors else None
    if error is not None and not isinstance(error, StopWork):
        raise error
    return merged(crew.usage), error


def gather_journals(journal: Journal, folder: Path) -> None:
    """Make the workers' journals in `folder` part of `journal`, and remove them.

    Raises:
        InputError: one of them is damaged, or is no journal.
        StorageError: the disk is full or cannot be written.
    """
    for path in sorted(folder.glob("journal-[0-9]*.sqlite")):
        # Opened, it also takes in what a killed worker left beside it.
        with Journal.open(path) as shard:
            journal.take_in(shard)
        with storage_errors(path):
            for name in (f"{path.name}-wal", f"{path.name}-shm", path.name):
                path.with_name(name).unlink(missing_ok=True)


@contextmanager
def _ray(workers: int | None) -> Iterator[int]:
    """Ray, for the length of the block; yields how many workers there are to be."""
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        # Some of these are read when ray is imported.
        os.environ.update(_LOCAL)
    ray = _imported()
    count = workers or os.cpu_count() or 1
    try:
        if address:
            _join(ray, address)
            count = workers or int(ray.cluster_resources().get("CPU", 1))
        else:
            ray.init(
                "local",
                num_cpus=count,
                include_dashboard=False,
                object_store_memory=_OBJECTS_BYTES,
                log_to_driver=False,
                logging_level="error",
            )
        yield count
    finally:
        ray.shutdown()


def _join(ray: Any, address: str) -> None:
    if "://" in address:
        raise InputError(
            f"RAY_ADDRESS is {address}: trees cannot be sent through Ray's client.",
            mend="work on a machine of the cluster, with its own address there (host:port, or auto).",
        )
    host, _, port = address.rpartition(":")
    try:
        if port.isdigit():
            # Ray itself would try for minutes.
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
        ray.init(address=address, logging_level="error")
    except OSError as error:
        raise InputError(
            f"There is no Ray cluster at {address}: {error}.",
            mend="start it, or unset RAY_ADDRESS to use this machine.",
        ) from error


def _imported() -> Any:
    # Not by its types, which are there only where it is installed, and say nothing of actors' methods.
    try:
        return import_module("ray")
    except ImportError:
        raise MissingExtra("ray", "ray") from None


def _shards(personas: Stored[Persona], count: int) -> dict[int, Stored[Persona]]:
    """Who belongs to which worker; workers for whom nobody is left are none."""
    shards: defaultdict[int, list[int]] = defaultdict(list)
    for place, persona in enumerate(personas):
        shards[derive_seed(0, "worker", persona.id) % count].append(place)
    return {number: personas.picked(places) for number, places in sorted(shards.items())}


@dataclass(frozen=True)
class _Job:
    """What one worker is told."""

    grow: Grow
    recipe: Recipe
    run: RunFolder
    journal: Path
    here: Path
    """The recipe's paths are meant from here."""
    personas: Stored[Persona]
    before: Mapping[str, Tree]
    budget: Budget | None
    prices: Prices
    expected: float


def _job(order: Order, number: int, shards: Mapping[int, Stored[Persona]]) -> _Job:
    run = RunFolder(order.work.run.root.resolve())
    journal = run.root / f"journal-{number}.sqlite"
    if len(order.work.journal):
        with (
            translated(journal, _WORDING),
            closing(connect(run.journal, _WORDING)) as source,
            closing(connect(journal, _WORDING)) as copy,
        ):
            source.backup(copy)
    return _Job(
        grow=order.grow,
        recipe=_divided(order.work.recipe, len(shards)),
        run=run,
        journal=journal,
        here=Path.cwd(),
        personas=shards[number],
        before=order.before,
        budget=_share(order.account, len(shards)),
        prices=order.prices,
        expected=order.expected,
    )


def _divided(recipe: Recipe, count: int) -> Recipe:
    config = recipe.simulate
    changes: dict[str, Any] = {"in_flight": max(1, config.in_flight // count)}
    if config.roles is not None:
        roles = {role: _divided_role(of_role, count) for role, of_role in roles_of(config.roles).items()}
        changes["roles"] = config.roles.model_copy(update=roles)
    return recipe.model_copy(update={"simulate": config.model_copy(update=changes)})


def _divided_role(role: RoleConfig, count: int) -> RoleConfig:
    def divided(model: ModelConfig) -> ModelConfig:
        limits = {name: getattr(model, name, None) for name in _LIMITS}
        return model.model_copy(update={name: max(1, limit // count) for name, limit in limits.items() if limit})

    models = (one.model_copy(update={"model": divided(one.model)}) for one in role.models)
    return role.model_copy(update={"models": tuple(models)})


def _share(account: Account, count: int) -> Budget | None:
    """A worker's budget: what the journal holds, which each worker's own begins with, and its part of the rest."""
    budget, spent = account.budget, account.spent
    if budget is None:
        return None
    if budget.usd is not None:
        return Budget(usd=spent + max(0.0, budget.usd - spent) / count)
    held = int(spent)
    return Budget(tokens=max(1, held + max(0, (budget.tokens or 0) - held) // count))


@dataclass(frozen=True)
class _Told:
    """What a worker says at its end."""

    usage: tuple[RoleUsage, ...] = ()
    error: tuple[type[InteralignError], tuple[object, ...], dict[str, object]] | None = None
    """Its parts, since an exception that is not made from one text cannot be sent."""


class _Worker:
    """A process of its own, in which the trees of a shard are grown."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._gate = Gate()
        self._told = _Told()

    async def trees(self) -> AsyncIterator[str]:
        """The trees as JSON, as they are done."""
        job = self._job
        os.chdir(job.here)
        try:
            with Journal.open(job.journal) as journal:
                work = Work(job.recipe, job.run, journal, Console(quiet=True))
                account = Account(job.budget, job.prices, journal=job.journal, expected=job.expected)
                try:
                    async for tree in job.grow(work, job.personas, job.before, account, self._gate):
                        yield tree.model_dump_json()
                finally:
                    self._told = _Told(account.rows())
        except InteralignError as error:
            self._told = _Told(self._told.usage, (type(error), error.args, vars(error)))

    async def told(self) -> _Told:
        """How it ended."""
        return self._told

    async def stop(self) -> None:
        """Let no further call begin."""
        self._gate.shut = True


class _Crew:
    """The workers, as this process sees them."""

    def __init__(self, jobs: Sequence[_Job], gate: Gate, take: Callable[[Tree], None]) -> None:
        self.usage: list[RoleUsage] = []
        self.errors: list[InteralignError] = []
        self._ray = _imported()
        self._jobs = jobs
        self._gate = gate
        self._take = take
        self._taken: set[str] = set()
        """By persona id."""
        self._workers: dict[Path, Any] = {}
        self._stopping = False

    async def work(self) -> None:
        """Wait for all workers; what they bring stands in the attributes, errors as well."""
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.gather(*(self._follow(job) for job in self._jobs))
        finally:
            watching.cancel()

    async def _follow(self, job: _Job) -> None:
        """Start a worker, and again where it dies, until it has told how it ended."""
        deaths = 0
        while not self._stopping:
            worker = self._workers[job.journal] = self._ray.remote(num_cpus=1)(_Worker).remote(job)
            done = self._done(job)
            try:
                async for tree in worker.trees.remote():
                    self._bring(Tree.model_validate_json(await tree))
                return self._hear(await worker.told.remote())
            except self._ray.exceptions.RayActorError as error:
                # Where it is only out of reach, there must not be two.
                self._ray.kill(worker)
                deaths = 1 if self._done(job) > done else deaths + 1
                if deaths >= _DEATHS:
                    return self._fail(_given_up(error))
        return self._fail(Interrupted("Stopped.", mend=GO_ON))

    def _done(self, job: _Job) -> int:
        return sum(persona.id in self._taken for persona in job.personas)

    async def _watch(self) -> None:
        """Pass on that the gate is shut."""
        while not self._gate.shut:
            await asyncio.sleep(_WATCH_S)
        self._stop()

    def _bring(self, tree: Tree) -> None:
        # A worker that was started again brings those once more that it had brought before; they are the same.
        if tree.persona_id not in self._taken:
            self._taken.add(tree.persona_id)
            self._take(tree)

    def _hear(self, told: _Told) -> None:
        self.usage += told.usage
        if told.error is not None:
            kind, args, attributes = told.error
            error = kind.__new__(kind, *args)
            vars(error).update(attributes)
            self._fail(error)

    def _fail(self, error: InteralignError) -> None:
        self.errors.append(error)
        self._stop()

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            for worker in self._workers.values():
                worker.stop.remote()


def _given_up(error: Exception) -> InteralignError:
    why = str(error).strip().splitlines() or [type(error).__name__]
    return InteralignError(
        f"A Ray worker died {_DEATHS} times and grew no tree: {why[0]}",
        mend="give the machine more memory or take fewer --workers, and run the same command again: paid answers are "
        "kept.",
    )


def _worst(errors: Sequence[InteralignError], budget: Budget | None, count: int) -> InteralignError:
    """The error to raise: what stopped the work, not what stopped because of it."""
    error = min(errors, key=lambda one: (isinstance(one, StopWork), isinstance(one, Interrupted)))
    if not isinstance(error, BudgetSpent):
        return error
    return BudgetSpent(
        f"One of {count} workers has spent its share of the budget of {budget}.",
        mend="run the same command again, which divides what is left, or raise --budget: paid answers are kept.",
    )
