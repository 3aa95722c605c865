"""Stage 2: conversation trees and preference tables, by rules or by language models in every role.

Trees are in memory while they grow, and no longer: what is done goes to a file beside `trees.jsonl`, and what is told
of the trees is counted from files, one tree after the other. Personas are read as their turn comes. So memory is
decided by how many conversations are open at once; of each further one some hundred bytes are kept, and about 90 a
call.

What stops the work (a spent budget, Ctrl-C, a server that is gone) loses nothing: the conversations that are done are
written, and a note beside them says whose they are. The same command plays those again, from the journal, and goes on
with the others, so that in the end all is as if nothing had stopped it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import Field

from interalign.conversations.cast import open_cast, roles_of
from interalign.conversations.export import write_preference_tables
from interalign.conversations.hygiene import PairHygiene, pair_hygiene
from interalign.conversations.policy import PolicyConfig
from interalign.conversations.preferences import preferences
from interalign.conversations.simulate import RolesConfig, grow_as_done
from interalign.conversations.tree import Tree
from interalign.conversations.turn import Cast
from interalign.errors import InputError, LeakError, ModelError, StopWork
from interalign.llm.account import Account, Budget, RoleUsage, merged
from interalign.llm.backends import ScriptedConfig
from interalign.llm.journal import journalled
from interalign.llm.model import ChatModel
from interalign.llm.prices import Prices, load_prices
from interalign.messages import Value
from interalign.personas.persona import Persona
from interalign.pipeline.ray_engine import Order, gather_journals, grow_on_ray
from interalign.pipeline.rehearsal import estimate
from interalign.pipeline.stopping import Gate, stop_told, stopping, wrapping
from interalign.pipeline.work import Work
from interalign.report.growth import counted
from interalign.report.simulation import SimulationPage
from interalign.report.simulation import write as write_simulation_report
from interalign.report.simulation_summary import summarise_simulation
from interalign.roles.llm.player import instructions, prompt_hashes
from interalign.roles.responder import ModelResponder, policy_prompt
from interalign.roles.user import refuse_unplayable
from interalign.run import Shelf, Stored, beside, read_json, storage_errors, write_json, writing
from interalign.training.checkpoint import installed_versions

__all__ = ["Simulation", "is_unfinished", "simulate", "training_personas"]

_SCRIPTED = "scripted "
"""How the names of the models begin that are scripts."""

_REHEARSED = 5
"""Personas of the rehearsal from which a conversation's cost is estimated."""
_MOST_REASONS = 3


class Growth(Value):
    """One command that grew trees."""

    policy: PolicyConfig
    turns: int
    personas: int
    """Of the trees that it grew."""
    usage: tuple[RoleUsage, ...] = ()
    trees: str = ""
    """Digest of all trees after it. A command that was killed before it had written them is done again, and counts
    once."""


class Stopped(Value):
    """What a command that was stopped has left; it stands beside the trees until that command has come to its end."""

    grown: tuple[Growth, ...]
    """The commands before it."""
    now: Growth
    """What it has done itself."""
    personas: tuple[str, ...]
    """Ids of those whose trees are not of the commands before."""


class Simulation(Value):
    """What `simulation.json` tells of the stage."""

    trees: int
    ended_early: int
    pairs: int
    unfinished: int = 0
    """Conversations that are still to come, since the command was stopped; what they have used is in `usage`."""
    hygiene: PairHygiene | None = None
    """What surface tells of the pairs; None with rule-based roles, whose judge measures, and without scikit-learn."""
    turns: int
    """User turns in all trees."""
    faults: dict[str, int]
    """What was refused or could not be read, by role and check."""
    missing_verdicts: int
    grown: tuple[Growth, ...] = ()
    """How, command by command."""
    usage: tuple[RoleUsage, ...] = ()
    prompts: dict[str, str] = Field(default_factory=dict)
    """Hashes of the instructions of each role; empty with rule-based roles."""


def simulate(
    work: Work,
    *,
    grow_on: Path | None = None,
    budget: Budget | None = None,
    prices: Path | None = None,
    limit: int | None = None,
    engine: Literal["process", "ray"] = "process",
    workers: int | None = None,
) -> Simulation:
    """Write `trees.jsonl`, the preference tables, `simulation.json` and, with language models, `simulation.html`.

    Args:
        work: The run.
        grow_on: Trees to grow on, as the recipe's policy and turns have it; left out, trees are grown from nothing.
        budget: What the calls of this run may cost, earlier commands included.
        prices: A table of prices in place of the package's.
        limit: Talk to the first so many personas only (with `grow_on`: of those that have trees).
        engine: Where conversations go on: in this process, or on Ray's workers (see `ray_engine`).
        workers: How many workers; None for one per CPU.

    Raises:
        MissingExtra: a package is not installed.
        StopWork: the budget is spent, a server will answer nothing, or the user stopped it. The trees that are done are
            written (with `grow_on` those of before stay); the same command goes on from there.
        ModelError: every conversation failed, or none got past its first turn. Nothing is written, so the same command
            tries again.
        InputError: personas that the roles cannot play, or a budget that cannot be kept for want of a price.
    """
    _set_scripted_aside(work)
    people = training_personas(work, by_rules=work.recipe.simulate.roles is None)
    found = _found(work, people, grow_on)
    wanted = _wanted(people, found, limit, on=grow_on)
    stopped: StopWork | None = None
    if wanted:
        # A run on Ray that was killed has left these; what is in them is paid for.
        gather_journals(work.journal, work.run.root)
        order = _ordered(work, wanted, found, budget, load_prices(prices), growing_on=grow_on is not None)
        simulation, stopped = _carried_out(
            order, people, found, growing_on=grow_on is not None, on_ray=engine == "ray", workers=workers
        )
    else:
        work.done("conversation trees")
        simulation = _told(work, Stored(work.run.trees, Tree), found.grown)
        write_json(_told_at(work), simulation)
    _made_of_trees(work, people, simulation, are_new=bool(wanted))
    if stopped is not None:
        raise stopped
    return simulation


def _made_of_trees(work: Work, people: Stored[Persona], told: Simulation, *, are_new: bool) -> None:
    """Write the preference tables and the page."""
    trees = Stored(work.run.trees, Tree)
    if told.pairs and (are_new or not (work.run.preferences / "sft.parquet").exists()):
        write_preference_tables(work.run.preferences, trees, work.recipe.preferences, policy_prompt())
    make_simulation_report(work, people, trees, told)
    work.console.print(
        f"{'':<34} {counted(told.trees, 'tree')}, {told.ended_early} ended early, "
        f"{counted(told.pairs, 'preference pair')}"
    )


def _ordered(
    work: Work, wanted: Stored[Persona], found: _Found, budget: Budget | None, prices: Prices, *, growing_on: bool
) -> Order:
    """What is to be grown, on an account that knows about what a conversation will cost."""
    config, expected = work.recipe.simulate, 0.0
    # What a local policy says is not rehearsed, and costs nothing.
    if budget is not None and config.roles is not None and "policy" not in config.sources and not growing_on:
        rows = estimate(wanted[:_REHEARSED], work.recipe, prices)
        of_tokens = sum(row.prompt_tokens + row.completion_tokens for row in rows)
        whole = of_tokens if budget.tokens else sum(row.usd or 0 for row in rows)
        expected = whole / min(len(wanted), _REHEARSED)
    account = Account(budget, prices, journal=work.run.journal, expected=expected)
    # Those that are done come from the journal.
    still = len(wanted) - (0 if growing_on else len(found.again))
    if expected and account.left < still * expected:
        many = int(account.left / expected)
        work.say(
            f"The budget of {budget} (used so far: {account.told}) covers about {many:,} of "
            f"{counted(still, 'conversation')} by estimate."
        )
    return Order(growing, work, wanted, found.trees if growing_on else {}, account, prices, expected)


def _carried_out(
    order: Order,
    people: Iterable[Persona],
    found: _Found,
    *,
    growing_on: bool,
    on_ray: bool,
    workers: int | None,
) -> tuple[Simulation, StopWork | None]:
    """Grow the trees, and write all of them and what is told of them; returns also what stopped it."""
    work = order.work
    with beside(work.run.trees) as place:
        usage, stopped = asyncio.run(_grow(order, place, on_ray=on_ray, workers=workers))
        if stopped is None:
            new = _by_persona(place)
            _refuse_all_failed(new, found)
            return _written(work, people, new, found, usage), None
        # What failed may have failed for what stopped the rest: the same command tries it again.
        new = _by_persona(place, whole=True)
        # Those that an earlier command has done may not have had their turn.
        done = new.keys() | (found.again if not growing_on else set())
        usage = max(usage, found.usage, key=lambda rows: sum(row.calls for row in rows))
        error = stop_told(stopped, _how_far(order, len(done), usage, written=not growing_on))
        if growing_on or not done:
            raise error
        return _written(work, people, new, found, usage, unfinished=len(order.personas) - len(done)), error


def _how_far(order: Order, done: int, usage: tuple[RoleUsage, ...], *, written: bool) -> str:
    """How far the work has come and what it took, unfinished conversations included."""
    state = "done and written" if written else "done, and none is written before all are"
    tokens = sum(row.prompt_tokens + row.completion_tokens for row in usage)
    return (
        f"{done:,} of {counted(len(order.personas), 'conversation')} {'is' if done == 1 else 'are'} {state}; with "
        f"those under way they have used {counted(tokens, 'token')}."
    )


def _set_scripted_aside(work: Work) -> None:
    """Make room for the trees of language models where those of a trial with scripts stand; nothing is deleted."""
    roles = work.recipe.simulate.roles
    if roles is None or not work.run.trees.exists() or _all_scripted(roles) or work.run.models.exists():
        return
    names = (node.model or "" for tree in Stored(work.run.trees, Tree) for node in tree.nodes)
    if not next(names, "").startswith(_SCRIPTED) or not all(name.startswith(_SCRIPTED) for name in names):
        return
    aside = work.run.root / "scripted"
    with storage_errors(aside):
        aside.mkdir(exist_ok=True)
        # The trees go last: they tell that there is something to be moved.
        for path in (_told_at(work), work.run.simulation_report, work.run.preferences, work.run.trees):
            if path.exists():
                path.rename(aside / path.name)
    work.run.withdraw("simulate")
    _note_at(work).unlink(missing_ok=True)
    work.say(f"The trees here were played by scripts. They are in {aside} now, and the models begin anew.")


def _all_scripted(roles: RolesConfig) -> bool:
    return all(isinstance(one.model, ScriptedConfig) for role in roles_of(roles).values() for one in role.models)


def is_unfinished(work: Work) -> bool:
    """Whether the command that grew the trees was stopped before its end."""
    return _note_at(work).exists()


def _note_at(work: Work) -> Path:
    return work.run.root / ".stopped.json"


def _told_at(work: Work) -> Path:
    return work.run.root / "simulation.json"


def _in_order(people: Iterable[Persona], new: Mapping[str, Tree], before: Mapping[str, Tree]) -> Iterator[Tree]:
    """The trees that are new, or else those from before, in the order of the personas."""
    for persona in people:
        for trees in (new, before):
            if persona.id in trees:
                yield trees[persona.id]
                break


def _written(
    work: Work,
    people: Iterable[Persona],
    new: Mapping[str, Tree],
    found: _Found,
    usage: tuple[RoleUsage, ...],
    unfinished: int | None = None,
) -> Simulation:
    """Write the trees and what is told of them after one more command, whose trees are the `new` ones.

    `unfinished` is how many are still to come where the command was stopped.
    """
    config, grown, note = work.recipe.simulate, found.grown, _note_at(work)
    with writing(work.run.trees) as place:
        with _writer(place, work.run.trees) as write:
            for tree in _in_order(people, new, found.trees):
                write(tree)
        whole = Stored(place, Tree)
        done = new.keys() if unfinished is None else new.keys() | found.again
        now = Growth(policy=config.policy, turns=config.turns, personas=len(done), usage=usage, trees=_digest(whole))
        # Where growing on found nothing to grow, the command has left no mark.
        told = grown if grown and grown[-1].trees == now.trees else (*grown, now)
        simulation = _told(work, whole, told, unfinished or 0)
        if unfinished is not None:
            write_json(note, Stopped(grown=grown, now=now, personas=tuple(sorted(done))))
        # The trees come after what is told of them: they say that the stage is done, and its usage is found nowhere
        # else.
        write_json(_told_at(work), simulation)
    if unfinished is None:
        note.unlink(missing_ok=True)
    # Now, and not before the first call, after which a wrong model would be the folder's for ever.
    sampled = config.policy_samples or "policy" in config.sources
    work.run.begin("simulate", *(("train", "benchmark") if sampled else ()))
    return simulation


def _wanted(people: Stored[Persona], found: _Found, limit: int | None, *, on: Path | None) -> Stored[Persona]:
    """Whose trees are to be grown: those in the file `on`, or, without one, those that are not there yet.

    A command that was stopped is done again, and to its end.
    """
    before, again = found.trees, found.again
    if on is None:
        if not people:
            raise InputError("There is no persona to talk to.", mend="make some with `interalign personas`.")
        most = len(people) if limit is None else limit
        return people.picked(
            place
            for place, persona in enumerate(people)
            if persona.id in again or (place < most and persona.id not in before)
        )
    if not before:
        raise InputError(f"{on} holds no trees.", mend="give the trees.jsonl of a run to --grow.")
    return people.picked(place for place, persona in enumerate(people) if persona.id in before)[:limit]


def make_simulation_report(work: Work, people: Stored[Persona], trees: Sequence[Tree], told: Simulation) -> None:
    """Write `simulation.html`, where language models or scripts played the roles; rules have the run's report."""
    config = work.recipe.simulate
    if config.roles is None:
        return
    summary = summarise_simulation(trees, pairs=told.pairs, usage=told.usage, hygiene=told.hygiene)
    for what, reasons in (("ended early", summary.ended_early), ("without verdicts", summary.unjudged)):
        for reason in reasons[:_MOST_REASONS]:
            work.say(f"{counted(reason.count, 'conversation')} {what}: {reason.text}")
    page = SimulationPage(
        summary=summary,
        unfinished=told.unfinished,
        trees=trees,
        personas=Shelf(people, lambda persona: persona.id),
        roles=config.roles,
        prompts=told.prompts,
        title=work.recipe.name,
        facts={
            "Recipe": work.recipe.name,
            "Seed": str(work.recipe.seed),
            "Turns": str(config.turns),
            "Policy": ", then ".join(one.policy.in_words for one in told.grown) or config.policy.in_words,
            "interalign": installed_versions()["interalign"],
        },
    )
    write_simulation_report(work.run.simulation_report, page)


def training_personas(work: Work, *, by_rules: bool) -> Stored[Persona]:
    """The personas to train on; those whom rules are to play must be such as rules can.

    Raises:
        InputError: they cannot.
        LeakError: held-out people are among them.
    """
    personas = Stored(work.run.personas, Persona)
    apart = {one.id for one in Stored(work.run.heldout, Persona)} if work.run.heldout.exists() else set()
    leaked = [persona.id for persona in personas if persona.split != "train" or persona.id in apart]
    if leaked:
        raise LeakError(
            f"{work.run.personas} holds {len(leaked):,} held-out people; the first is {leaked[0]}.",
            mend="leave them out: what they say would be trained on.",
        )
    if by_rules:
        for persona in personas:
            refuse_unplayable(persona)
    return personas


def _before(path: Path, personas: Iterable[Persona]) -> Mapping[str, Tree]:
    trees = _by_persona(path)
    unknown = sorted(trees.keys() - {persona.id for persona in personas})
    if unknown:
        raise InputError(
            f"{path} has trees of {len(unknown)} personas that this run does not have; the first is {unknown[0]}.",
            mend="put the trees beside the personas that they were grown with.",
        )
    return trees


@dataclass(frozen=True)
class _Found:
    """What commands before have left."""

    trees: Mapping[str, Tree]
    """By persona id."""
    grown: tuple[Growth, ...]
    """The commands that grew the trees that are there."""
    again: frozenset[str] = frozenset()
    """Whose trees are of a command that was stopped, which is to be done again; it is not among `grown`."""
    usage: tuple[RoleUsage, ...] = ()
    """What that command has used."""


def _found(work: Work, people: Iterable[Persona], grow_on: Path | None) -> _Found:
    trees: Mapping[str, Tree] = {}
    if grow_on or work.run.trees.exists():
        trees = _before(grow_on or work.run.trees, people)
    digest = _digest(trees.values())
    path, note = _told_at(work), _note_at(work)
    kept = read_json(path, Simulation).grown if path.exists() else ()
    stopped = read_json(note, Stopped) if note.exists() and trees else None
    # A command may be killed between two of its last three steps: the note, what is told, the trees. The trees tell.
    if stopped is not None and (stopped.now.trees == digest or not (kept and kept[-1].trees == digest)):
        if grow_on is not None:
            return _Found(trees, (*stopped.grown, stopped.now))
        return _Found(trees, stopped.grown, frozenset(stopped.personas), stopped.now.usage)
    ends = [index for index, one in enumerate(kept, 1) if one.trees == digest]
    return _Found(trees, kept[: ends[-1]] if ends else ())


def _by_persona(path: Path, *, whole: bool = False) -> Mapping[str, Tree]:
    trees = Stored(path, Tree)
    if whole:
        trees = trees.picked(place for place, tree in enumerate(trees) if tree.failure is None)
    return Shelf(trees, lambda tree: tree.persona_id)


def _digest(trees: Iterable[Tree]) -> str:
    digest = hashlib.sha256()
    for tree in trees:
        digest.update(tree.model_dump_json().encode())
    return digest.hexdigest()


async def growing(
    work: Work, personas: Sequence[Persona], before: Mapping[str, Tree], account: Account, gate: Gate
) -> AsyncIterator[Tree]:
    """Yield the tree of each persona as it is done, with a cast of this process's own."""
    config, seed = work.recipe.simulate, work.recipe.seed
    async with _cast(work, account, gate) as cast:
        async for tree in grow_as_done(personas, config, seed, cast, before, account.whole):
            yield tree


@asynccontextmanager
async def _cast(work: Work, account: Account, gate: Gate) -> AsyncIterator[Cast]:
    config = work.recipe.simulate
    policy = _policy(work) if config.policy_samples or "policy" in config.sources else None
    if config.roles is None:
        yield Cast(policy=policy, writers={"policy": policy} if policy else {})
        return

    wrap = wrapping(work.journal, account, gate)
    async with open_cast(config, wrap) as cast:
        yield replace(cast, writers={**cast.writers, "policy": policy}) if policy else cast


async def _grow(
    order: Order, place: Path, *, on_ray: bool, workers: int | None
) -> tuple[tuple[RoleUsage, ...], StopWork | None]:
    """Write the trees to `place`, as they are done; returns what the roles have used, and what stopped the work."""
    work, config = order.work, order.work.recipe.simulate
    # Rules ask nobody, so nothing is lost when Ctrl-C stops them at once.
    async with nullcontext(Gate()) if config.roles is None else stopping(work.console) as gate:
        with work.bar("conversation trees", len(order.personas)) as bar, _writer(place, work.run.trees) as write:

            def take(tree: Tree) -> None:
                write(tree)
                bar.advance()

            if on_ray:
                return await grow_on_ray(order, workers, gate, take)
            stopped = None
            try:
                async for tree in growing(work, order.personas, order.before, order.account, gate):
                    take(tree)
            except StopWork as error:
                stopped = error
            return order.account.rows(), stopped


def _policy(work: Work) -> ModelResponder:
    from interalign.llm.local import LocalModel

    model: ChatModel = journalled(LocalModel(work.recipe.train.base), work.journal)
    return ModelResponder(model, work.recipe.benchmark.sampling)


@contextmanager
def _writer(place: Path, meant: Path) -> Iterator[Callable[[Tree], None]]:
    """What puts one tree after the other into the file at `place`; errors speak of the file that is `meant`."""
    with storage_errors(meant):
        file = place.open("w", encoding="utf-8", newline="")

    def write(tree: Tree) -> None:
        with storage_errors(meant):
            file.write(tree.model_dump_json() + "\n")

    try:
        yield write
        with storage_errors(meant):
            file.flush()
    finally:
        # What cannot be written any more was told, or is not wanted any more.
        with suppress(OSError):
            file.close()


def _refuse_all_failed(new: Mapping[str, Tree], found: _Found) -> None:
    # Written down they would count as done, and a server that was only switched off would never be asked again.
    if any(tree.nodes or (tree.faults and found.trees) for tree in new.values()):
        return
    faults = Counter(f"{fault.role}: {fault.check}" for tree in new.values() for fault in tree.faults)
    why = faults or Counter(str(tree.failure) for tree in new.values())
    shown = "; ".join(f"{name} ({count:,})" for name, count in why.most_common(_MOST_REASONS))
    raise ModelError(
        f"No conversation got past its first turn; most frequent: {shown}.",
        mend="name another model, or see what it is asked (--show-prompts); nothing was written.",
    )


def _told(work: Work, trees: Sequence[Tree], grown: tuple[Growth, ...], unfinished: int = 0) -> Simulation:
    roles, config = work.recipe.simulate.roles, work.recipe.preferences
    counts: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for tree in trees:
        faults.update(f"{fault.role}: {fault.check}" for fault in tree.faults)
        counts["ended early"] += tree.failure is not None
        counts["pairs"] += len(preferences([tree], config))
        counts["turns"] += sum(1 for _ in tree.user_turns())
        counts["unjudged"] += sum(node.verdict is None for node in tree.nodes if node.role == "assistant")
    measured = roles is not None and find_spec("sklearn") is not None
    return Simulation(
        trees=len(trees),
        ended_early=counts["ended early"],
        pairs=counts["pairs"],
        unfinished=unfinished,
        hygiene=pair_hygiene(trees, config) if measured else None,
        turns=counts["turns"],
        faults=dict(sorted(faults.items())),
        missing_verdicts=counts["unjudged"],
        grown=grown,
        usage=merged([row for one in grown for row in one.usage]),
        prompts={}
        if roles is None
        else prompt_hashes({role: instructions(role, one.prompt) for role, one in roles_of(roles).items()}),
    )
