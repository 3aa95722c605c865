"""The report of a run: what was found, all numbers, and conversations and trees to read.

What was measured is shown and what was not has no place; a run of rules alone folds away what few look for. Where too
many verdicts are missing, that stands above everything else. It follows the rules of every page, see `shell`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from interalign.conversations.tree import Tree
from interalign.evaluation.notation import shown_turns
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.summary import Summary
from interalign.personas.persona import Persona
from interalign.report.finding import finding, plain_in_words
from interalign.report.growth import counted
from interalign.report.island import island
from interalign.report.judging import Players, faults_of, judging
from interalign.report.losses import part_rows
from interalign.report.shell import fill, percent
from interalign.report.tables import (
    MOST_TRAITS,
    Table,
    beside_table,
    counterfactual_table,
    group_table,
    induction_table,
    interval,
    missing_table,
    pair_table,
    reason_table,
    turn_table,
)
from interalign.run import write_text

__all__ = ["render", "write"]


def write(
    path: Path,
    summary: Summary,
    rows: Mapping[str, Sequence[TurnRow]],
    trees: Sequence[Tree],
    personas: Mapping[str, Persona],
    *,
    players: Players,
    title: str,
    facts: Mapping[str, str],
) -> None:
    """Render the page and put it at `path`, whole or not at all.

    Raises:
        StorageError: the page cannot be written.
    """
    write_text(path, render(summary, rows, trees, personas, players=players, title=title, facts=facts))


def render(
    summary: Summary,
    rows: Mapping[str, Sequence[TurnRow]],
    trees: Sequence[Tree],
    personas: Mapping[str, Persona],
    *,
    players: Players,
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
        scripts=["figures.js", "trees.js", "page.js"],
        data=data,
        title=title,
        facts={**{role.capitalize(): who for role, who in players.roles.items()}, **facts},
        finding=finding(summary),
        red=[model for model in summary.models if model.red],
        warnings=[model.warning for model in summary.models if model.warning],
        summary=summary,
        shown_turns=shown_turns(summary.turns),
        tables=_tables(summary, rows),
        parts=part_rows(rows, names),
        ordered=[summary.model(name) for name in names],
        penalties=_penalty_kinds(summary),
        all_cases=summary.models[0].cases,
        shown_cases=len(data["cases"]),
        all_trees=len(trees),
        shown_trees=len(data["trees"]),
        most_traits=MOST_TRAITS,
        players=players,
        judging=judging(summary, rows, players),
        faults=faults_of(rows),
        drawn=_drawn(summary),
        beyond=_beyond(summary),
        interval=interval,
        percent=percent,
    )


def _tables(summary: Summary, rows: Mapping[str, Sequence[TurnRow]]) -> dict[str, Table | None]:
    """The tables by the names that the template knows; None for what was not measured."""
    return {
        "turns": turn_table(summary),
        "pairs": pair_table(summary),
        "beside": beside_table(summary),
        "place": counterfactual_table(summary),
        "learnt": induction_table(summary),
        "groups": group_table(summary),
        "missing": missing_table(summary, rows),
        "reasons": reason_table(summary),
    }


def _drawn(summary: Summary) -> str:
    """What is drawn again for the intervals."""
    units = [(summary.profiles, "profile"), (summary.personalities, "personality")]
    plurals = {"profile": "profiles", "personality": "personalities"}
    shared = [counted(count, name, plurals[name]) for count, name in units if count is not None]
    return " and ".join(shared) or "persons"


def _beyond(summary: Summary) -> str | None:
    """Whose plain replies the gaps are held against; None where there are none."""
    return next((plain_in_words(model) for model in summary.models if model.gap_above), None)


def _penalty_kinds(summary: Summary) -> tuple[str, ...]:
    """Kinds of penalties that were given to anybody, the costliest first."""
    worst: dict[str, float] = {}
    for model in summary.models:
        for kind, points in model.penalties.items():
            worst[kind] = max(points, worst.get(kind, 0.0))
    return tuple(sorted((kind for kind, points in worst.items() if points > 0), key=lambda kind: (-worst[kind], kind)))
