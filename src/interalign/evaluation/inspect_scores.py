"""The benchmark's numbers in the form that Inspect AI logs and shows.

A sample's score holds the levels of one conversation, the metrics are those of `interalign.evaluation.statistics`, and
the rows themselves stand in the log, so every number can be had again from it. What is undefined is NaN there: Inspect
would count None as 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from interalign.errors import InputError, MissingExtra
from interalign.evaluation.groups import clusters_of_texts
from interalign.evaluation.measures import SCALE
from interalign.evaluation.metrics import Floats
from interalign.evaluation.notation import number
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.statistics import Estimate, ModelEstimates, Samples, bootstrap
from interalign.roles.judge import Verdict

try:
    from inspect_ai.log import EvalLog
    from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, Value, metric, scorer
    from inspect_ai.solver import TaskState
except ImportError:
    raise MissingExtra("inspect-ai", "inspect") from None

__all__ = ["ROWS", "alignment", "by_turn", "overall", "rows_of", "score_of", "shown_parts"]

ROWS = "interalign_rows"
"""Where the rows of a conversation lie in a sample's store."""

_UNDEFINED = math.nan


@metric
def overall() -> Metric:
    """The metrics of the whole curve, each with the ends of its 95 % interval under `..._low` and `..._high`.

    `al` (mean over turns), `ir`, `r2`, `n_ir` and `gap` (own persona minus another's); then `mind_reading`, a share of
    replies, and `missing`, a number of turns. With epochs the mean of a case's epochs counts.
    """

    def measure(scores: list[SampleScore]) -> Value:
        found = _estimates(scores)
        if found is None:
            return {}
        estimates = {"al": found.mean_al, "ir": found.ir, "r2": found.r2, "n_ir": found.n_ir, "gap": found.gap}
        values = [score.score.as_dict() for score in scores]
        return {
            **_with_ends(estimates),
            "mind_reading": _mean([_of(value, "mind_reading") for value in values]),
            "missing": sum(_of(value, "missing") for value in values),
        }

    return measure


@metric
def by_turn() -> Metric:
    """`al_1`, `al_2`, ...: the mean score at each turn with the ends of its 95 % interval."""

    def measure(scores: list[SampleScore]) -> Value:
        found = _estimates(scores)
        return {} if found is None else _with_ends({f"al_{turn}": level for turn, level in enumerate(found.al, 1)})

    return measure


def _estimates(scores: Sequence[SampleScore]) -> ModelEstimates | None:
    """Of all cases; in the order of a summary, so that the resamples are the same."""
    scores = sorted(scores, key=lambda score: str(score.sample_id))
    turns = _turns(scores)
    return bootstrap(_samples(scores, turns))[0] if turns else None


def _samples(scores: Sequence[SampleScore], turns: int) -> Samples:
    def column(name: str) -> Floats:
        of_cases = [[_of(score.score.as_dict(), f"{name}_{turn}") for turn in range(1, turns + 1)] for score in scores]
        return np.array([of_cases])

    people = [score.sample_metadata or {} for score in scores]
    shared = (
        [person.get(text, score.sample_id) for person, score in zip(people, scores, strict=True)]
        for text in ("profile", "personality")
    )
    levels = column("al")
    return Samples(
        scores=levels,
        swapped=levels - column("gap"),
        uptake=np.full_like(levels, np.nan),
        clusters=clusters_of_texts(*shared),
        scale=SCALE,
    )


@scorer(metrics=[overall(), by_turn()])
def alignment(turns: int) -> Scorer:
    """Scores what the solver has written to the store; asks no model.

    Args:
        turns: Turns of a conversation; one that ended before has NaN for the rest.
    """

    async def score(state: TaskState, target: Target) -> Score:
        stored: list[dict[str, Any]] = state.store.get(ROWS, [])
        return score_of([TurnRow.model_validate(row) for row in stored], turns)

    return score


def score_of(rows: Sequence[TurnRow], turns: int) -> Score:
    """The score of one conversation: its levels as the value, a table of its turns to read, and their parts."""
    at = {row.turn: row for row in rows}
    levels = {turn: _level(at[turn].verdict) if turn in at else _UNDEFINED for turn in range(1, turns + 1)}
    gaps = {turn: levels[turn] - _level(at[turn].swapped) if turn in at else _UNDEFINED for turn in levels}
    claims = [float(row.mind_reading) for row in rows if row.mind_reading is not None]
    value: dict[str, str | int | float | bool | None] = {
        "al": _mean(list(levels.values())),
        **{f"al_{turn}": level for turn, level in levels.items()},
        "gap": _mean(list(gaps.values())),
        **{f"gap_{turn}": gap for turn, gap in gaps.items()},
        "mind_reading": _mean(claims),
        "missing": sum(math.isnan(level) for level in levels.values()),
    }
    nothing = all(math.isnan(level) for level in levels.values())
    return Score(
        value=value,
        explanation=_explanation(rows),
        reason="scoring_failed" if nothing else None,
        metadata={"turns": [shown_parts(row) for row in rows]},
    )


def rows_of(log: EvalLog) -> list[TurnRow]:
    """The rows of all conversations in a log, as `interalign eval` writes them; epochs above the first are repeats.

    Raises:
        InputError: the log holds no conversation of the benchmark, or was read without its samples.
    """
    stored = [sample.store.get(ROWS, []) for sample in log.samples or []]
    if not any(stored):
        raise InputError(
            f"The log of {log.eval.task} holds no rows of the benchmark.",
            mend="read the whole log of a run of interalign/aloe (read_eval_log without header_only).",
        )
    return [TurnRow.model_validate(row) for rows in stored for row in rows]


def shown_parts(row: TurnRow) -> dict[str, Any]:
    """What the viewer shows beside a reply: turn and score (None without a verdict), and of the rest what there is."""
    parts, penalties = _pieces(row.verdict)
    beside = {
        "parts": dict(parts),
        "penalties": dict(penalties),
        "score for another person": row.swapped.score if row.swapped else None,
        "mind reading": row.mind_reading,
        "uptake": row.uptake,
        "helpfulness": row.helpfulness,
        "cut at tokens": row.cut_at or None,
        "missing": dict(row.missing),
        "faults": [f"{fault.role}: {fault.check}" for fault in row.faults],
        "failure": row.failure,
    }
    there = {name: value for name, value in beside.items() if value not in (None, [], {})}
    return {"turn": row.turn, "score": row.verdict.score if row.verdict else None, **there}


def _explanation(rows: Sequence[TurnRow]) -> str:
    """A table in Markdown, and below it what went wrong: by whom, which is not the model under test, and how often."""
    lines = ["| turn | score | for another | parts | penalties |", "|---:|---:|---:|---|---|"]
    for row in rows:
        swapped, verdict = row.swapped.score if row.swapped else None, row.verdict
        cells = [str(row.turn), number(verdict.score if verdict else None), number(swapped)]
        lines.append("| " + " | ".join([*cells, *(map(_listed, _pieces(verdict)))]) + " |")
    paragraphs = ["\n".join(lines)]
    faults = Counter(f"{fault.role}: {fault.check}" for row in rows for fault in row.faults)
    if faults:
        paragraphs.append(", ".join(f"{count} x {fault}" for fault, count in faults.items()))
    failure = next((row.failure for row in rows if row.failure is not None), None)
    if failure is not None:
        paragraphs.append(f"The conversation ended early: {failure}")
    return "\n\n".join(paragraphs)


def _pieces(verdict: Verdict | None) -> tuple[Mapping[str, float], Mapping[str, float]]:
    return ({}, {}) if verdict is None else (verdict.parts, verdict.penalties)


def _listed(named: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {number(points)}" for name, points in named.items())


def _level(verdict: Verdict | None) -> float:
    return _UNDEFINED if verdict is None else verdict.score


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else _UNDEFINED


def _turns(scores: Sequence[SampleScore]) -> int:
    """For how many turns the scores have levels."""
    names = scores[0].score.as_dict() if scores else {}
    return sum(name.removeprefix("al_").isdigit() for name in names)


def _of(value: Mapping[str, object], name: str) -> float:
    level = value.get(name)
    return float(level) if isinstance(level, int | float) else _UNDEFINED


def _with_ends(estimates: Mapping[str, Estimate]) -> dict[str, float | None]:
    ends = (
        {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        for name, estimate in estimates.items()
    )
    return {name: _UNDEFINED if end is None else end for of_one in ends for name, end in of_one.items()}
