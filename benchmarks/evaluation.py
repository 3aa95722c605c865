"""How near the benchmark comes to what a server could do, and what its controls cost.

    python benchmarks/evaluation.py                 # two minutes on two idle cores
    python benchmarks/evaluation.py --quick         # seconds: whether everything runs; its numbers say little

Scripts play all roles and the tested model on a local server in a process of its own (`delayed_server.py`), which
answers after a set delay: what is measured is what the client makes of it. Runs are journalled, metered and can be
stopped, as those of `interalign eval`. The ideal is calls x delay / concurrency: the server is busy with as many calls
as it may be from the first moment to the last. One case cannot be faster than its user and its tested model, who wait
for each other: two delays a turn, and what is judged of the last one.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import console, delayed_server, measure_and_tell, new_table, note, personas, rounded

from interalign.conversations.environment import environment_played_by, open_test
from interalign.evaluation.benchmark import BenchmarkConfig, MethodCandidate, line_up, play_cases
from interalign.evaluation.rows import TurnRow
from interalign.llm.account import Account
from interalign.llm.endpoint import EndpointConfig
from interalign.llm.journal import Journal
from interalign.llm.prices import load_prices
from interalign.personas.persona import Persona
from interalign.pipeline.stopping import Gate, wrapping

RESULT = Path(__file__).parent / "results" / "evaluation.json"


@dataclass(frozen=True)
class Sizes:
    """How much is measured. The delay is in milliseconds."""

    cases: int = 100
    turns: int = 10
    concurrency: int = 64
    delay: int = 500


QUICK = Sizes(cases=6, turns=4, concurrency=4, delay=60)


def main() -> None:
    measure_and_tell("How near the benchmark comes to what a server could do.", RESULT, measure, show)


def measure(quick: bool, seed: int) -> dict[str, Any]:
    sizes = QUICK if quick else Sizes()
    people = [one.model_copy(update={"split": "heldout"}) for one in personas(sizes.cases, seed)]
    with delayed_server() as root:
        server = EndpointConfig(
            base_url=f"{root}/{sizes.delay}/v1", model="scripts", concurrency=sizes.concurrency, max_retries=0
        )
        config = BenchmarkConfig(
            turns=sizes.turns, roles=environment_played_by(server), repeats=0, in_flight=sizes.cases
        )
        runs = []
        for what, controls in (("with controls", True), ("without", False)):
            note(f"{sizes.cases} cases of {sizes.turns} turns, {what}")
            of_one = config.model_copy(update={"controls": controls})
            runs.append({"controls": controls, **timed(people, of_one, server, sizes, seed)})
        note("one case alone")
        alone = timed(people[:2], config.model_copy(update={"in_flight": 2}), server, sizes, seed)
    return {
        "delay_s": sizes.delay / 1000,
        "cases": sizes.cases,
        "turns": sizes.turns,
        "concurrency": sizes.concurrency,
        "runs": runs,
        "two_cases_delays_a_turn": rounded(alone["seconds"] / (sizes.delay / 1000) / sizes.turns),
        "calls_with_to_without": rounded(runs[0]["calls"] / runs[1]["calls"]),
        "tokens_with_to_without": rounded(runs[0]["tokens"] / runs[1]["tokens"]),
    }


def timed(
    people: Sequence[Persona], config: BenchmarkConfig, server: EndpointConfig, sizes: Sizes, seed: int
) -> dict[str, Any]:
    """Seconds on the clock and of this process's CPU, calls and tokens of one evaluation that nobody keeps."""
    account = Account(None, load_prices(None))

    async def play(journal: Journal) -> None:
        wrap = wrapping(journal, account, Gate())
        async with open_test(server, config.roles, None, wrap) as (model, cast):
            candidate = MethodCandidate("plain", model, config.sampling)
            async for _, rows in play_cases(line_up(people, config, seed), candidate, cast, config, seed):
                refuse_failed(rows)

    with (
        tempfile.TemporaryDirectory(prefix="evaluation-") as folder,
        Journal.open(Path(folder) / "journal.sqlite") as journal,
    ):
        clock, cpu = time.perf_counter(), time.process_time()
        asyncio.run(play(journal))
        seconds, used, calls = time.perf_counter() - clock, time.process_time() - cpu, len(journal)
    ideal = calls * sizes.delay / 1000 / sizes.concurrency
    return {
        "calls": calls,
        "tokens": account.tokens,
        "seconds": rounded(seconds),
        "cpu_seconds": rounded(used),
        "ideal_seconds": rounded(ideal),
        "of_ideal": rounded(ideal / seconds),
        "calls_per_second": rounded(calls / seconds),
    }


def refuse_failed(rows: Sequence[TurnRow]) -> None:
    wrong = [row.failure or row.faults for row in rows if row.failure or row.faults or row.verdict is None]
    if wrong:
        raise RuntimeError(f"a case did not go as it should: {wrong[0]}")


def show(found: Mapping[str, Any]) -> None:
    delay = f"{1000 * found['delay_s']:.0f} ms a call"
    title = f"{found['cases']} cases, {found['turns']} turns, {delay}, {found['concurrency']} calls at once"
    table = new_table(title, "controls", "calls", "tokens", "ideal, s", "wall, s", "of ideal", "CPU, s", "calls/s")
    for one in found["runs"]:
        table.add_row(
            "yes" if one["controls"] else "no",
            f"{one['calls']:,}",
            f"{one['tokens']:,}",
            f"{one['ideal_seconds']:.1f}",
            f"{one['seconds']:.1f}",
            f"{one['of_ideal']:.1%}",
            f"{one['cpu_seconds']:.1f}",
            f"{one['calls_per_second']:,.0f}",
        )
    table.caption = (
        f"with to without controls: {found['calls_with_to_without']:.2f} in calls, "
        f"{found['tokens_with_to_without']:.2f} in tokens; two cases alone: "
        f"{found['two_cases_delays_a_turn']:.2f} delays a turn"
    )
    console.print(table)


if __name__ == "__main__":
    main()
