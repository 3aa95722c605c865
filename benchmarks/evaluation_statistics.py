"""How fast the statistics of an evaluation are, how often their intervals hold the truth, and how much cases differ.

    python benchmarks/evaluation_statistics.py

Coverage is counted in made-up evaluations of two models whose true means are known: scores with effects of profile,
personality, their interaction and noise, for the level and for the slope; and of two judges of the same replies, whose
difference has such effects. It is counted again where verdicts are missing. `--quick` makes fewer of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from measuring import console, measure_and_tell, new_table

from interalign.evaluation.benchmark import BenchmarkConfig, ControlCandidate, run_benchmark
from interalign.evaluation.crossed import Clusters, clusters_of
from interalign.evaluation.metrics import Floats
from interalign.evaluation.power import spreads_of
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.statistics import (
    Drawn,
    Ratio,
    Samples,
    bootstrap,
    estimates_of,
    mean_over_turns,
    relative_to,
    resample,
    slope_over_turns,
)
from interalign.evaluation.summary import summarise
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.persona import Persona
from interalign.run import derive_seed

RESULT = Path(__file__).parent / "results" / "evaluation_statistics.json"
CASES, TURNS, MODELS, RESAMPLES = 100, 10, 4, 10_000
TURNS_PLAYED = 4
LEVEL, SLOPE, GAIN = 3.0, 0.1, 0.2
LOST = 0.15
AT_ONCE = 500
STATISTICS = ("mean_al", "ir", "difference", "ir_difference", "relative", "judges")
FIRST, SECOND = "mirror", "disclosed-only oracle"


class Deviations(NamedTuple):
    """Standard deviations of a score, in points: between profiles, personalities, their pairs, and turns."""

    profile: float
    personality: float
    pair: float
    turn: float


WORLDS = (
    Deviations(0.4, 0.0, 0.3, 0.6),
    Deviations(0.4, 0.1, 0.3, 0.6),
    Deviations(0.4, 0.2, 0.3, 0.6),
    Deviations(0.4, 0.4, 0.3, 0.6),
    Deviations(0.2, 0.6, 0.2, 0.4),
)
CROSSED = clusters_of(*(list(labels) for labels in np.divmod(np.arange(CASES), 5)))
DESIGNS = {"20 profiles x 5 personalities": CROSSED, "100 distinct persons": Clusters()}
SHORT = dict(zip(DESIGNS, ("20 x 5", "100"), strict=True))


def main() -> None:
    assert __doc__ is not None
    measure_and_tell(__doc__.partition("\n")[0], RESULT, measure, show, served=False)


def measure(quick: bool, seed: int) -> dict[str, Any]:
    repetitions = 100 if quick else 2000
    return {
        "seconds": {name: seconds(clusters, seed) for name, clusters in DESIGNS.items()},
        "repetitions": repetitions,
        "coverage": [
            {
                "design": name,
                **deviations._asdict(),
                "lost": lost,
                **coverage(clusters, deviations, repetitions, seed, lost=lost),
            }
            for name, clusters in DESIGNS.items()
            for deviations in WORLDS
            for lost in (0.0, LOST)
        ],
        "spreads": spreads(*((5, 4) if quick else (20, 10)), seed),
    }


def seconds(clusters: Clusters, seed: int) -> dict[str, float]:
    """Processor seconds of all intervals of four models, the median of five runs."""
    scores = np.random.default_rng(seed).normal(LEVEL, 0.6, (MODELS, CASES, TURNS))
    samples = Samples(
        scores=scores, swapped=scores - 0.5, uptake=(scores > LEVEL).astype(np.float64), clusters=clusters
    )
    took = []
    for _ in range(5):
        start = time.process_time()
        bootstrap(samples, baseline=0, resamples=RESAMPLES, seed=seed)
        took.append(time.process_time() - start)
    return {"median": round(median(took), 3), "most": round(max(took), 3)}


def coverage(
    clusters: Clusters,
    deviations: Deviations,
    repetitions: int,
    seed: int,
    resamples: int = 1000,
    known: Clusters | None = None,
    lost: float = 0.0,
) -> dict[str, float]:
    """How often the 95 % intervals hold the truth in made-up evaluations.

    Of mean AL, IR and their paired differences, of the relative difference, and of the difference of two judges of the
    same replies.

    Args:
        clusters: What the cases share.
        deviations: How much scores differ.
        repetitions: How many evaluations are made up.
        seed: Of the evaluations and of the draws.
        resamples: Behind each interval.
        known: The clusters that the intervals are told of, by default those that there are.
        lost: The share of verdicts that are missing, of each model and of each judge.
    """
    known = clusters if known is None else known
    held: dict[str, int] = {}
    for start in range(0, repetitions, AT_ONCE):
        count = min(AT_ONCE, repetitions - start)
        of_block = derive_seed(seed, "coverage", start)
        ratios = made_up_ratios(clusters, deviations, count, lost, np.random.default_rng(of_block))
        drawn = resample(ratios, known, resamples=resamples, seed=of_block)
        for name, (statistic, truth) in told(drawn).items():
            held[name] = held.get(name, 0) + sum(
                one.low is not None and one.high is not None and (one.low <= truth <= one.high)
                for one in estimates_of(statistic, known)
            )
    return {name: round(count / repetitions, 4) for name, count in held.items()}


def made_up_ratios(
    clusters: Clusters, deviations: Deviations, count: int, lost: float, generator: np.random.Generator
) -> dict[str, Ratio]:
    """What is resampled of `count` evaluations, where a share of the verdicts is missing."""
    first, second = made_up(clusters, deviations, count, generator)
    # A judge of two models, who is as far from the first judge as the second model is from the first one.
    lead = GAIN + effects(clusters, Deviations(*(0.5 * one for one in deviations)), count, generator, 2 * TURNS_PLAYED)
    for scores in (first, second, lead, lead) if lost else ():
        scores[generator.random(scores.shape) < lost] = np.nan
    return {
        "first": Ratio.of(first),
        "gain": Ratio.of(second - first),
        "level": Ratio.of(np.where(np.isnan(second), np.nan, first)),
        "judges": Ratio.of(lead).over_all_turns,
    }


def told(drawn: Mapping[str, Drawn]) -> dict[str, tuple[Drawn, float]]:
    """What an evaluation tells, with the truth."""
    gain = mean_over_turns(drawn["gain"])
    return {
        "mean_al": (mean_over_turns(drawn["first"]), LEVEL),
        "ir": (slope_over_turns(drawn["first"]), SLOPE),
        "difference": (gain, GAIN),
        "ir_difference": (slope_over_turns(drawn["gain"]), 0.0),
        "relative": (relative_to(mean_over_turns(drawn["level"]), gain), GAIN / LEVEL),
        "judges": (mean_over_turns(drawn["judges"]), GAIN),
    }


def made_up(
    clusters: Clusters, deviations: Deviations, count: int, generator: np.random.Generator, turns: int = TURNS_PLAYED
) -> tuple[Floats, Floats]:
    """Scores of two models in `count` evaluations, two arrays of (evaluations, cases, turns).

    The second model has its own effects of half the size, on top of the first one's.
    """
    base = effects(clusters, deviations, count, generator, turns)
    own = effects(clusters, Deviations(*(0.5 * one for one in deviations)), count, generator, turns)
    truth = LEVEL + SLOPE * (np.arange(turns) - (turns - 1) / 2)
    return truth + base, truth + GAIN + base + own


def effects(
    clusters: Clusters, deviations: Deviations, count: int, generator: np.random.Generator, turns: int
) -> Floats:
    """What each case adds to the truth at each turn: effects on level and slope, and noise."""
    places = [np.arange(CASES) if labels is None else labels for labels in (clusters.profiles, clusters.personalities)]

    def of_cases() -> Floats:
        profile, personality = (
            generator.normal(0, size, (count, int(labels.max()) + 1, 1))[:, labels]
            for size, labels in zip(deviations[:2], places, strict=True)
        )
        return np.asarray(profile + personality + generator.normal(0, deviations.pair, (count, CASES, 1)))

    later = (np.arange(turns) - (turns - 1) / 2) / 3
    return np.asarray(of_cases() + of_cases() * later + generator.normal(0, deviations.turn, (count, CASES, turns)))


def crossed_users(profiles: int, personalities: int, seed: int) -> list[Persona]:
    """Rule-based users with the facts of one person and the ways of another."""
    world = compose_personas(WorldConfig(train=1, heldout=profiles + personalities), seed)
    people = [persona for persona in world if persona.split == "heldout"]
    ways = ("personality", "traits", "manner", "preferences", "voice")
    return [
        Persona(
            split="heldout",
            profile=who.profile,
            facts=who.facts,
            **{field: getattr(how, field) for field in ways},
        )
        for who in people[:profiles]
        for how in people[profiles:]
    ]


def spreads(profiles: int, personalities: int, seed: int) -> dict[str, Any]:
    """How much rule-based users differ with two scripted responders, each case played twice."""
    heldout = crossed_users(profiles, personalities, seed)
    candidates = {FIRST: ControlCandidate("mirror"), SECOND: ControlCandidate("tailored")}

    async def played() -> dict[str, list[TurnRow]]:
        rows: dict[str, list[TurnRow]] = {FIRST: [], SECOND: []}
        for repeat in range(2):
            for name, candidate in candidates.items():
                run = await run_benchmark(candidate, heldout, BenchmarkConfig(turns=TURNS), derive_seed(seed, repeat))
                rows[name] += [row.model_copy(update={"repeat": repeat}) for row in run]
        return rows

    people = {persona.id: persona for persona in heldout}
    rows = asyncio.run(played())
    summary = summarise(rows, baseline=FIRST, world="rule-based", resamples=100, seed=seed, people=people)
    found = spreads_of(summary, FIRST, SECOND)
    numbers = found.model_dump(exclude={"source"})
    return {name: round(value, 3) for name, value in numbers.items()} | {"source": found.source}


def show(found: Mapping[str, Any]) -> None:
    columns = ("cases", "deviations", "lost", "AL", "IR", "diff.", "of IR", "rel.", "judges")
    title = f"How often 95 % intervals hold the truth, {found['repetitions']:,} times, in %"
    table = new_table(title, *columns)
    for one in found["coverage"]:
        deviations = " ".join(f"{one[name]:g}" for name in Deviations._fields)
        shares = (f"{100 * one[name]:.1f}" for name in STATISTICS)
        table.add_row(SHORT[one["design"]], deviations, f"{100 * one['lost']:.0f}", *shares)
    table.caption = (
        "cases: 20 profiles x 5 personalities, or 100 distinct persons; deviations in points: profile, personality, "
        "their pair, turn; lost: verdicts, in %"
    )
    console.print(table)
    for design, took in found["seconds"].items():
        console.print(
            f"{design}: {RESAMPLES:,} resamples of {CASES} cases x {TURNS} turns x {MODELS} models "
            f"in {took['median']:.2f} processor seconds"
        )
    spread = ", ".join(f"{name} {value}" for name, value in found["spreads"].items())
    console.print(f"Spreads of mean AL: {spread}")


if __name__ == "__main__":
    main()
