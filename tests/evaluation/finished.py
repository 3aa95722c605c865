"""A run folder with a finished evaluation by rules, whose models are scripted responders that know more or less."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from interalign.evaluation.benchmark import BenchmarkConfig, ControlCandidate, run_benchmark
from interalign.evaluation.rows import Counterfactual, TurnRow
from interalign.evaluation.summary import summarise
from interalign.messages import Message
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.persona import Persona
from interalign.recipe import Recipe, recipe_toml
from interalign.roles.judge import RuleJudge
from interalign.roles.responder import Source
from interalign.run import RunFolder, write_json, write_jsonl, write_text

__all__ = ["CONFIG", "MODELS", "SEED", "WORLD", "finished_run", "people", "played"]

WORLD = "Rule-based users and a rule-based judge, not human beings"
SEED = 7
CONFIG = BenchmarkConfig(turns=3, resamples=200, repeats=0.25)
MODELS: Mapping[str, Source] = {"base": "constant", "tuned": "tailored", "mirror": "mirror"}
"""By name what the scripted responder knows; `mirror` is called a control."""


@cache
def people(count: int = 8) -> tuple[Persona, ...]:
    """Held-out people of the rule-based world."""
    composed = compose_personas(WorldConfig(train=2, heldout=count), seed=3)
    return tuple(persona for persona in composed if persona.split == "heldout")


@cache
def played(source: Source, count: int = 8, seed: int = SEED) -> tuple[TurnRow, ...]:
    """What a responder that knows so much makes of the benchmark; its first reply has a counterfactual beside it."""
    personas = people(count)
    rows = asyncio.run(run_benchmark(ControlCandidate(source), personas, CONFIG, seed))
    return (_with_control(rows[0], personas), *rows[1:])


def _with_control(row: TurnRow, personas: Sequence[Persona]) -> TurnRow:
    persona = next(one for one in personas if one.id == row.case)
    chat = (Message(role="user", content=row.user),)
    verdict = asyncio.run(RuleJudge().score(persona, chat, "Fine.", (row.disclosure,), 0))
    return row.model_copy(update={"controls": {"generic-nice": Counterfactual(reply="Fine.", verdict=verdict)}})


def finished_run(
    root: Path,
    rows: Mapping[str, Sequence[TurnRow]] | None = None,
    *,
    recipe: Recipe | None = None,
    heldout: Sequence[Persona] | None = None,
    seed: int = SEED,
) -> RunFolder:
    """A folder as `interalign eval` leaves it."""
    run = RunFolder(root)
    rows = {name: played(source, seed=seed) for name, source in MODELS.items()} if rows is None else rows
    write_text(root / "recipe.toml", recipe_toml(recipe or Recipe(seed=seed, benchmark=CONFIG)))
    write_jsonl(run.heldout, heldout or people())
    for name, of_model in rows.items():
        write_jsonl(run.eval / name.replace(" ", "-") / "verdicts.jsonl", of_model)
    summary = summarise(
        rows, baseline=next(iter(rows)), world=WORLD, controls=["mirror"], resamples=200, seed=seed,
        people={one.id: one for one in heldout or people()},
    )  # fmt: skip
    write_json(run.eval / "summary.json", summary)
    return run
