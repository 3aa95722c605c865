"""What a budget leaves of an evaluation, and what is told of it; scripts play the roles and the tested models."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from interalign.conversations.environment import EnvironmentRoles, environment_played_by
from interalign.errors import BudgetSpent
from interalign.evaluation.baselines import prompt_hashes
from interalign.evaluation.benchmark import BenchmarkConfig
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.summary import Summary
from interalign.evaluation.tables import markdown
from interalign.llm.account import Budget
from interalign.llm.backends import LocalConfig, ScriptedConfig
from interalign.llm.prices import load_prices
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.persona import Persona
from interalign.personas.seeds import seeds
from interalign.pipeline.evaluate import evaluate, verdicts_at
from interalign.pipeline.record import Evaluation
from interalign.pipeline.rehearsed_evaluation import estimate_evaluation
from interalign.pipeline.setting import Setting, identified
from interalign.pipeline.tested import tested_models as models_of
from interalign.pipeline.work import Work
from interalign.recipe import Recipe
from interalign.run import RunFolder, read_json, read_jsonl, write_json, write_jsonl

PEOPLE = [
    Persona(profile=one.text, personality=other.text, split="heldout")
    for one, other in zip(seeds("profile")[:4], seeds("personality")[:4], strict=True)
]
MODELS = ("one+reminder", "two")


def recipe(repeats: float) -> Recipe:
    return Recipe(
        benchmark=BenchmarkConfig(
            turns=2,
            roles=environment_played_by(ScriptedConfig()),
            models=dict.fromkeys(MODELS, ScriptedConfig()),
            repeats=repeats,
            resamples=100,
        )
    )


def evaluated(folder: Path, repeats: float, tokens: int | None = None, said: StringIO | None = None) -> Summary:
    write_jsonl(folder / "heldout.jsonl", PEOPLE)
    with Work.open(recipe(repeats), folder, Console(file=said or StringIO(), width=500)) as work:
        return evaluate(work, (), budget=None if tokens is None else Budget(tokens=tokens))


def used(folder: Path) -> int:
    rows = read_json(folder / "eval" / "evaluation.json", Evaluation).usage
    return sum(row.prompt_tokens + row.completion_tokens for row in rows)


def rows_in(folder: Path) -> dict[str, list[TurnRow]]:
    return {name: read_jsonl(verdicts_at(RunFolder(folder), name), TurnRow) for name in MODELS}


def test_a_budget_that_ends_before_the_repeats_leaves_all_results_but_the_noise(tmp_path: Path) -> None:
    evaluated(tmp_path / "plain", 0)
    summary = evaluated(tmp_path / "run", 0.5, used(tmp_path / "plain") + 1)
    plain = rows_in(tmp_path / "plain")
    assert rows_in(tmp_path / "run") == plain
    assert [model.noise for model in summary.models] == [None, None]
    assert [note.partition(",")[0] for note in summary.notes] == [
        f"The noise floor of {name} was not measured: none of its 2 repeats could be played" for name in MODELS
    ]
    assert all("a larger budget" in note and note in markdown(summary) for note in summary.notes)
    assert read_json(tmp_path / "run" / "eval" / "summary.json", Summary) == summary
    # Without a budget the same command goes on, and comes to what it would have come to at once.
    whole = evaluated(tmp_path / "run", 0.5)
    assert whole == evaluated(tmp_path / "at once", 0.5)
    assert rows_in(tmp_path / "run") == rows_in(tmp_path / "at once")
    assert all(model.noise is not None and model.noise.cases == 2 for model in whole.models) and not whole.notes


@contextmanager
def openings(path: Path) -> Iterator[list[str]]:
    """How often this process opens a file in the meantime, as far as Python's own audit events tell."""
    heard: list[str] = []
    listening = True

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event == "open" and str(arguments[0]) == str(path):
            heard.append(event)

    sys.addaudithook(hear)
    try:
        yield heard
    finally:
        # A hook cannot be taken away again.
        listening = False


@pytest.mark.parametrize("roles", [None, environment_played_by(ScriptedConfig())], ids=["rules", "scripts"])
def test_the_weights_of_a_model_are_read_once_to_know_it_again(tmp_path: Path, roles: EnvironmentRoles | None) -> None:
    people = compose_personas(WorldConfig(train=1, heldout=2), seed=5)
    write_jsonl(tmp_path / "heldout.jsonl", [persona for persona in people if persona.split == "heldout"])
    benchmark = BenchmarkConfig(turns=2, roles=roles, models={"script": ScriptedConfig()}, resamples=100)
    with Work.open(Recipe(benchmark=benchmark), tmp_path, Console(quiet=True)) as work:
        evaluate(work, ())
        # The same rows as those of a model of the run, which need not be asked again.
        weights = work.run.models / "sft" / "model.safetensors"
        weights.parent.mkdir(parents=True)
        weights.write_bytes(b"weights")
        told = {"model": identified(LocalConfig(checkpoint=str(weights.parent))), "method": "plain"}
        made, kept = verdicts_at(work.run, "script"), verdicts_at(work.run, "sft")
        setting = read_json(made.with_name("setting.json"), Setting)
        write_json(kept.with_name("setting.json"), setting.model_copy(update={"name": "sft", "tested": told}))
        write_jsonl(kept, read_jsonl(made, TurnRow))
        with openings(weights) as heard:
            summary = evaluate(work, ["sft"])
    assert [model.name for model in summary.of_kind("model")] == ["sft", "script"]
    assert len(heard) == 1


def test_the_baseline_is_a_model_and_no_control(tmp_path: Path) -> None:
    people = compose_personas(WorldConfig(train=1, heldout=2), seed=5)
    write_jsonl(tmp_path / "heldout.jsonl", [persona for persona in people if persona.split == "heldout"])
    models = dict.fromkeys(("one+reminder", "two+cot"), ScriptedConfig())
    by_rules = Recipe(benchmark=BenchmarkConfig(turns=2, models=models, resamples=100))
    with Work.open(by_rules, tmp_path, Console(quiet=True)) as work:
        assert evaluate(work, ()).baseline == "one+reminder"


def test_some_repeats_are_told_as_some(tmp_path: Path) -> None:
    evaluated(tmp_path / "plain", 0)
    evaluated(tmp_path / "whole", 1)
    first, whole = used(tmp_path / "plain"), used(tmp_path / "whole")
    summary = evaluated(tmp_path / "run", 1, (first + whole) // 2)
    had = {name: {row.case for row in rows if row.repeat} for name, rows in rows_in(tmp_path / "run").items()}
    assert 0 < sum(map(len, had.values())) < 2 * len(PEOPLE)
    assert {model.name: model.noise.cases if model.noise else 0 for model in summary.models} == {
        name: len(cases) for name, cases in had.items()
    }
    for name, cases in had.items():
        told = [note for note in summary.notes if f"floor of {name} " in note]
        assert len(told) == (len(cases) < len(PEOPLE))
        assert not cases or all(f"rests on {len(cases)} of 4 repeats" in note for note in told)


def test_a_budget_that_ends_before_the_first_conversations_ends_the_work(tmp_path: Path) -> None:
    said = StringIO()
    with pytest.raises(BudgetSpent, match="of 4 conversations"):
        evaluated(tmp_path, 0.5, 100, said)
    assert "covers about 0 of 8 conversations by estimate" in said.getvalue()
    assert not (tmp_path / "eval" / "summary.json").exists()


def test_repeats_are_in_the_estimate(tmp_path: Path) -> None:
    def calls(repeats: float) -> dict[str, int]:
        tested = models_of(RunFolder(tmp_path), recipe(repeats), (), {})
        rows = estimate_evaluation(PEOPLE, recipe(repeats), tested, load_prices(None))
        return {row.role: row.calls for row in rows}

    first, whole = calls(0), calls(0.5)
    # Two of four persons, with each of two models for two turns; of repeats only the replies are judged.
    more = {role: whole[role] - first[role] for role in first}
    assert more == {"user": 8, "inducer": 8, "tested": 8, "judge": 8, "grader": 0}
    evaluated(tmp_path, 0.5)
    usage = {row.role: row.calls for row in read_json(tmp_path / "eval" / "evaluation.json", Evaluation).usage}
    # Openings that models share are asked for once, and noted once.
    assert {role: whole[role] - usage[role] for role in ("tested", "judge", "user")} == {
        "tested": 0,
        "judge": 0,
        "user": 6,
    }


def test_what_a_method_tells_a_model_is_recorded_with_its_hash(tmp_path: Path) -> None:
    evaluated(tmp_path, 0)
    (hashed,) = prompt_hashes("reminder").items()
    told = read_json(tmp_path / "eval" / "evaluation.json", Evaluation).prompts
    assert hashed in told.items()
    settings = {name: verdicts_at(RunFolder(tmp_path), name).with_name("setting.json") for name in MODELS}
    one, two = (read_json(settings[name], Setting) for name in MODELS)
    assert hashed[1] in one.tested["prompts of the method"] and "prompts of the method" not in two.tested
    other = one.tested["prompts of the method"].replace(hashed[1], "0" * 12)
    changed = one.model_copy(update={"tested": {**one.tested, "prompts of the method": other}})
    assert one.differences(changed) == ("prompts of the method",)
    # In other words it would be another setting, and is played again.
    settings["one+reminder"].write_text(changed.model_dump_json(), encoding="utf-8")
    said = StringIO()
    with Work.open(recipe(0), tmp_path, Console(file=said, width=500)) as work:
        evaluate(work, ["one+reminder"])
    assert read_json(settings["one+reminder"], Setting) == one
