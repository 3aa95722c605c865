"""The report: one HTML page that carries everything it shows and asks nothing of the network.

Texts of models, users and files are hostile data. They enter the markup through jinja2 with escaping always on, and
the script through a JSON island; the page's policy runs no script but its own two and loads nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from interalign.conversations.tree import Tree
from interalign.evaluation.statistics import Estimate
from interalign.evaluation.summary import Summary, TurnRow, number, shown_turns
from interalign.personas.persona import Persona
from interalign.report.finding import finding
from interalign.report.island import as_script, island
from interalign.report.losses import part_rows
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
    """The page as one string: 1.2 MB for the figures' library, and what the shown texts take.

    `facts` says how the numbers came about (recipe, base model, versions, time), in the order in which it is shown.
    The page shows the first cases and trees only, see `island`.
    """
    data = island(summary, rows, trees, personas)
    names = [model.name for model in (*summary.of_kind("model"), *summary.of_kind("control"))]
    scripts = {"figures_library": _asset("plotly-basic.min.js"), "script": _asset("page.js")}
    page = (
        _environment()
        .from_string(_asset("page.html.jinja"))
        .render(
            title=title,
            facts=facts,
            finding=finding(summary),
            summary=summary,
            shown_turns=shown_turns(summary.turns),
            parts=part_rows(rows, names),
            ordered=[summary.model(name) for name in names],
            penalties=_penalty_kinds(summary),
            style=Markup(_asset("page.css")),
            policy=_policy(scripts.values()),
            data=as_script(data),
            all_cases=summary.models[0].cases,
            shown_cases=len(data["cases"]),
            all_trees=len(trees),
            shown_trees=len(data["trees"]),
            rule_based="rule" in summary.world.lower(),
            **{name: Markup(text) for name, text in scripts.items()},
        )
    )
    # Half a surrogate pair, as cut streams and odd file names have it, cannot be written as UTF-8.
    return page.encode("utf-8", "replace").decode("utf-8")


def _penalty_kinds(summary: Summary) -> tuple[str, ...]:
    """Kinds of penalties that were given to anybody, the costliest first."""
    worst: dict[str, float] = {}
    for model in summary.models:
        for kind, points in model.penalties.items():
            worst[kind] = max(points, worst.get(kind, 0.0))
    return tuple(sorted((kind for kind, points in worst.items() if points > 0), key=lambda kind: (-worst[kind], kind)))


def _policy(scripts: Iterable[str]) -> str:
    """Content security policy: the page's own scripts by their hashes, and nothing from anywhere.

    The figures' library sets styles from its script, so styles are allowed inline.
    """
    digests = (hashlib.sha256(text.encode()).digest() for text in scripts)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    shown: dict[str, Callable[..., str]] = {"number": number, "interval": _interval}
    environment.filters.update(shown)
    return environment


def _interval(estimate: Estimate | None, digits: int = 2, signed: bool = False) -> str:
    """The interval alone, empty when there is none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"{number(estimate.low, digits, signed=signed)} to {number(estimate.high, digits, signed=signed)}"
