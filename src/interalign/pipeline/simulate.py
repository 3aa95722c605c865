"""Stage 2: conversation trees and preference tables, by rules or by language models in every role.

Trees are in memory while they grow, and no longer: what is done goes to a file beside `trees.jsonl`, and what is told
of the trees is counted from files, one tree after the other. Personas are read as their turn comes. So memory is
decided by how many conversations are open at once; of each further one some hundred bytes are kept, and about 90 a
call.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import Field

from interalign.conversations.cast import open_cast, roles_of
from interalign.conversations.export import write_preference_tables
from interalign.conversations.hygiene import PairHygiene, pair_hygiene
from interalign.conversations.policy import PolicyConfig
from interalign.conversations.preferences import preferences
from interalign.conversations.simulate import grow_as_done
from interalign.conversations.tree import Tree
from interalign.conversations.turn import Cast
from interalign.errors import InputError, LeakError, ModelError
from interalign.llm.account import Account, Budget, RoleUsage, merged
from interalign.llm.endpoint import EndpointModel
from interalign.llm.journal import journalled
from interalign.llm.model import ChatModel
from interalign.llm.prices import load_prices
from interalign.messages import Value
from interalign.personas.persona import Persona
from interalign.pipeline.ray_engine import Order, gather_journals, grow_on_ray
from interalign.pipeline.stopping import Gate, stopping
from interalign.pipeline.work import Work
from interalign.report.simulation import SimulationPage
from interalign.report.simulation import write as write_simulation_report
from interalign.report.simulation_summary import summarise_simulation
from interalign.roles.llm.player import instructions, prompt_hashes
from interalign.roles.responder import ModelResponder, Responder, policy_prompt
from interalign.roles.user import refuse_unplayable
from interalign.run import Shelf, Stored, beside, read_json, storage_errors, write_json, writing
from interalign.training.checkpoint import installed_versions

__all__ = ["Simulation", "simulate", "training_personas"]


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


class Simulation(Value):
    """What `simulation.json` tells of the stage."""

    trees: int
    ended_early: int
    pairs: int
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
        StopWork: the budget is spent, or the user stopped it. The same command goes on from there.
        ModelError: every conversation failed. Nothing is written, so the same command tries again.
        InputError: personas that the roles cannot play, or a budget that cannot be kept for want of a price.
    """
    people = training_personas(work)
    before: Mapping[str, Tree] = {}
    if grow_on or work.run.trees.exists():
        before = _before(grow_on or work.run.trees, people)
    grown = _growths(_told_at(work), before.values())
    wanted = _wanted(people, before, limit, on=grow_on)
    if wanted:
        # A run on Ray that was killed has left these; what is in them is paid for.
        gather_journals(work.journal, work.run.root)
        table = load_prices(prices)
        order = Order(growing, work, wanted, before, Account(budget, table, journal=work.run.journal), table)
        simulation = _carried_out(order, people, grown, on_ray=engine == "ray", workers=workers)
    else:
        work.done("conversation trees")
        simulation = _told(work, Stored(work.run.trees, Tree), grown)
        write_json(_told_at(work), simulation)
    trees = Stored(work.run.trees, Tree)
    if simulation.pairs and (wanted or not (work.run.preferences / "sft.parquet").exists()):
        write_preference_tables(work.run.preferences, trees, work.recipe.preferences, policy_prompt())
    make_simulation_report(work, people, trees, simulation)
    work.console.print(
        f"{'':<34} {simulation.trees} trees, {simulation.ended_early} ended early, {simulation.pairs} preference pairs"
    )
    return simulation


def _carried_out(
    order: Order, people: Iterable[Persona], grown: tuple[Growth, ...], *, on_ray: bool, workers: int | None
) -> Simulation:
    """Grow the trees, and write all of them and what is told of them; `grown` are the commands before."""
    work = order.work
    with beside(work.run.trees) as place:
        usage = asyncio.run(_grow(order, place, on_ray=on_ray, workers=workers))
        new = _by_persona(place)
        _refuse_all_failed(new, order.personas)
        return _written(work, _in_order(people, new, order.before), grown, usage, personas=len(order.personas))


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
    work: Work, trees: Iterable[Tree], grown: tuple[Growth, ...], usage: tuple[RoleUsage, ...], personas: int
) -> Simulation:
    """Write the trees and what is told of them after one more command, which grew those of so many personas."""
    config = work.recipe.simulate
    with writing(work.run.trees) as place:
        with _writer(place, work.run.trees) as write:
            for tree in trees:
                write(tree)
        whole = Stored(place, Tree)
        now = Growth(policy=config.policy, turns=config.turns, personas=personas, usage=usage, trees=_digest(whole))
        # Where growing on found nothing to grow, the command has left no mark.
        simulation = _told(work, whole, grown if grown and grown[-1].trees == now.trees else (*grown, now))
        # The trees come after what is told of them: they say that the stage is done, and its usage is found nowhere
        # else.
        write_json(_told_at(work), simulation)
    return simulation


def _wanted(
    people: Stored[Persona], before: Mapping[str, Tree], limit: int | None, *, on: Path | None
) -> Stored[Persona]:
    """Whose trees are to be grown: those in the file `on`, or, without one, those that are not there yet."""
    if on is None:
        if not people:
            raise InputError("There is no persona to talk to.", mend="make some with `interalign personas`.")
        return people.picked(place for place, persona in enumerate(people[:limit]) if persona.id not in before)
    if not before:
        raise InputError(f"{on} holds no trees.", mend="give the trees.jsonl of a run to --grow.")
    return people.picked(place for place, persona in enumerate(people) if persona.id in before)[:limit]


def make_simulation_report(work: Work, people: Stored[Persona], trees: Sequence[Tree], told: Simulation) -> None:
    """Write `simulation.html`, where language models or scripts played the roles; rules have the run's report."""
    config = work.recipe.simulate
    if config.roles is None:
        return
    page = SimulationPage(
        summary=summarise_simulation(trees, pairs=told.pairs, usage=told.usage, hygiene=told.hygiene),
        trees=trees,
        personas=Shelf(people, lambda persona: persona.id),
        roles=config.roles,
        prompts=told.prompts,
        title=work.recipe.name,
        facts={
            "Recipe": work.recipe.name,
            "Seed": str(work.recipe.seed),
            "Turns": str(config.turns),
            "Policy": ", then ".join(one.policy.name for one in told.grown) or config.policy.name,
            "interalign": installed_versions()["interalign"],
        },
    )
    write_simulation_report(work.run.simulation_report, page)


def training_personas(work: Work) -> Stored[Persona]:
    """The personas to train on, which the recipe's roles must be able to play.

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
    if work.recipe.simulate.roles is None:
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


def _growths(path: Path, trees: Iterable[Tree]) -> tuple[Growth, ...]:
    """The commands that grew the trees that are there."""
    kept = read_json(path, Simulation).grown if path.exists() else ()
    digest = _digest(trees)
    ends = [index for index, one in enumerate(kept, 1) if one.trees == digest]
    return kept[: ends[-1]] if ends else ()


def _by_persona(path: Path) -> Mapping[str, Tree]:
    return Shelf(Stored(path, Tree), lambda tree: tree.persona_id)


def _digest(trees: Iterable[Tree]) -> str:
    digest = hashlib.sha256()
    for tree in trees:
        digest.update(tree.model_dump_json().encode())
    return digest.hexdigest()


async def growing(
    work: Work, personas: Sequence[Persona], before: Mapping[str, Tree], account: Account, gate: Gate
) -> AsyncIterator[Tree]:
    """Yield the tree of each persona as it is done, with a cast of this process's own."""
    async with _cast(work, account, gate) as cast:
        async for tree in grow_as_done(personas, work.recipe.simulate, work.recipe.seed, cast, before):
            yield tree


@asynccontextmanager
async def _cast(work: Work, account: Account, gate: Gate) -> AsyncIterator[Cast]:
    config = work.recipe.simulate
    if config.roles is None:
        yield Cast(policy=_policy(work) if config.policy_samples else None)
        return

    def wrap(model: ChatModel, role: str, free: bool) -> ChatModel:
        if isinstance(model, EndpointModel):
            # A thousand calls may wait for a slot; they are not in flight yet.
            model.before_sending = gate.check
        return account.metered(gate.guarded(journalled(model, work.journal)), role, free=free)

    async with open_cast(config, wrap) as cast:
        yield cast


async def _grow(order: Order, place: Path, *, on_ray: bool, workers: int | None) -> tuple[RoleUsage, ...]:
    """Write the trees to `place`, as they are done; returns what the roles have used."""
    work, config = order.work, order.work.recipe.simulate
    tables = ("simulate", *(("train", "benchmark") if config.policy_samples else ()))
    first, answers = work.run.begin(*tables), len(work.journal)
    try:
        # Rules ask nobody, so nothing is lost when Ctrl-C stops them at once.
        async with nullcontext(Gate()) if config.roles is None else stopping(work.console) as gate:
            with work.bar("conversation trees", len(order.personas)) as bar, _writer(place, work.run.trees) as write:

                def take(tree: Tree) -> None:
                    write(tree)
                    bar.advance()

                if on_ray:
                    return await grow_on_ray(order, workers, gate, take)
                async for tree in growing(work, order.personas, order.before, order.account, gate):
                    take(tree)
                return order.account.rows()
    except BaseException:
        if first and len(work.journal) == answers:
            # Nothing was answered, so another model may be named.
            work.run.withdraw(*tables)
        raise


def _policy(work: Work) -> Responder:
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


def _refuse_all_failed(new: Mapping[str, Tree], wanted: Sequence[Persona]) -> None:
    # Written down they would count as done, and a server that was only switched off would never be asked again.
    if not any(tree.nodes or tree.faults for tree in new.values()):
        raise ModelError(f"Every conversation failed; the first one said: {new[wanted[0].id].failure}")


def _told(work: Work, trees: Sequence[Tree], grown: tuple[Growth, ...]) -> Simulation:
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
