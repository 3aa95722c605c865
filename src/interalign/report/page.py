"""The report of a run: what was found, all numbers, and conversations and trees to read.

It follows the rules of every page, see `shell`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from interalign.conversations.tree import Tree
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.statistics import Estimate
from interalign.evaluation.summary import Summary, number, shown_turns
from interalign.personas.persona import Persona
from interalign.report.finding import finding
from interalign.report.island import island
from interalign.report.losses import part_rows
from interalign.report.shell import fill
from interalign.run import write_text

__all__ = ["render", "write"]


def write(
    path: Path,
    summary: Summary,
    rows: Mapping[str, Sequence[TurnRow]],
    trees: Sequence[Tree],
    personas: Mapping[str, Persona],
    *,
    title: str,
    facts: Mapping[str, str],
) -> None:
    """Render the page and put it at `path`, whole or not at all.

    Raises:
        StorageError: the page cannot be written.
    """
    write_text(path, render(summary, rows, trees, personas, title=title, facts=facts))


def render(
    summary: Summary,
    rows: Mapping[str, Sequence[TurnRow]],
    trees: Sequence[Tree],
    personas: Mapping[str, Persona],
    *,
    title: str,
    facts: Mapping[str, str],
) -> str:
    """The page as one string.

    `facts` says how the numbers came about (recipe, base model, versions, time), in the order in which it is shown.
    The page shows the first cases and trees only, see `island`.
    """
    data = island(summary, rows, trees, personas)
    names = [model.name for model in (*summary.of_kind("model"), *summary.of_kind("control"))]
    return fill(
        "page.html.jinja",
        styles=["page.css"],
        scripts=["trees.js", "page.js"],
        data=data,
        title=title,
        facts=facts,
        finding=finding(summary),
        summary=summary,
        shown_turns=shown_turns(summary.turns),
        parts=part_rows(rows, names),
        ordered=[summary.model(name) for name in names],
        penalties=_penalty_kinds(summary),
        all_cases=summary.models[0].cases,
        shown_cases=len(data["cases"]),
        all_trees=len(trees),
        shown_trees=len(data["trees"]),
        rule_based="rule" in summary.world.lower(),
        interval=_interval,
    )


def _penalty_kinds(summary: Summary) -> tuple[str, ...]:
    """Kinds of penalties that were given to anybody, the costliest first."""
    worst: dict[str, float] = {}
    for model in summary.models:
        for kind, points in model.penalties.items():
            worst[kind] = max(points, worst.get(kind, 0.0))
    return tuple(sorted((kind for kind, points in worst.items() if points > 0), key=lambda kind: (-worst[kind], kind)))


def _interval(estimate: Estimate | None, digits: int = 2, signed: bool = False) -> str:
    """The interval alone, empty when there is none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"{number(estimate.low, digits, signed=signed)} to {number(estimate.high, digits, signed=signed)}"
