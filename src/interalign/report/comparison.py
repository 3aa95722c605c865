"""The page of a comparison: every two models with their differences, their curves, and whose people these are.

It follows the rules of every page, see `shell`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from interalign.evaluation.compare import Comparison, differing_turns, turns_in_words
from interalign.evaluation.notation import number, shown_turns
from interalign.evaluation.statistics import Estimate
from interalign.evaluation.summary import PairDifference
from interalign.report.finding import Finding
from interalign.report.island import Json
from interalign.report.shell import fill
from interalign.run import write_text

__all__ = ["comparison_finding", "render_comparison", "write_comparison"]


def write_comparison(path: Path, found: Comparison, *, title: str, facts: Mapping[str, str]) -> None:
    """Render the page and put it at `path`, whole or not at all.

    Raises:
        StorageError: the page cannot be written.
    """
    write_text(path, render_comparison(found, title=title, facts=facts))


def render_comparison(found: Comparison, *, title: str, facts: Mapping[str, str]) -> str:
    """The page as one string; `facts` says how the numbers came about, in the order in which it is shown."""
    summary = found.summary
    finding = comparison_finding(found)
    return fill(
        "comparison.html.jinja",
        styles=["page.css"],
        scripts=["figures.js", "comparison.js"],
        data=_island(found),
        title=title,
        facts=facts,
        headline=finding.headline,
        support=finding.support,
        summary=summary,
        shown_turns=shown_turns(summary.turns),
        pairs=summary.pairs,
        differing=lambda pair: turns_in_words(differing_turns(pair)),
        sources=found.sources,
        cases=summary.models[0].cases,
        interval=_interval,
    )


def _island(found: Comparison) -> dict[str, Json]:
    """The data under the names that the script knows."""
    summary = found.summary
    models: list[Json] = [
        {"name": model.name, "kind": model.kind, "al": [_triple(level) for level in model.al]}
        for model in (*summary.of_kind("model"), *summary.of_kind("control"))
    ]
    return {
        "turns": summary.turns,
        "baseline": None,
        "models": models,
        "pairs": [_pair(pair) for pair in summary.pairs],
    }


def comparison_finding(found: Comparison) -> Finding:
    """Which models stand above which, in plain sentences; a difference is claimed where its interval excludes 0."""
    pairs = found.summary.pairs
    told = [pair for pair in pairs if pair.mean_al.excludes_zero and pair.mean_al.value is not None]
    if not told:
        count = "No two" if len(found.summary.models) > 2 else "The two"
        headline = f"{count} models are shown to differ." if count == "No two" else "No difference is shown."
        return Finding(headline=headline, support=found.notes)
    widest = max(told, key=lambda pair: abs(pair.mean_al.value or 0))
    above, below = (widest.second, widest.first) if (widest.mean_al.value or 0) > 0 else (widest.first, widest.second)
    size = number(abs(widest.mean_al.value or 0))
    many = f" {len(told)} of {len(pairs)} pairs differ." if len(pairs) > 1 else ""
    left = [f"{one.left_out:,} of {one.cases:,} persons of {one.label} are left out." for one in found.sources]
    kept = tuple(text for text, one in zip(left, found.sources, strict=True) if one.left_out)
    return Finding(
        headline=f"{above} answers people {size} points better than {below}.{many}", support=(*kept, *found.notes)
    )


def _pair(pair: PairDifference) -> Json:
    return {"first": pair.first, "second": pair.second, "al": _triple(pair.mean_al), "ir": _triple(pair.ir)}


def _triple(estimate: Estimate) -> Json:
    return [estimate.value, estimate.low, estimate.high]


def _interval(estimate: Estimate | None, digits: int = 2, signed: bool = False) -> str:
    """The interval alone, empty when there is none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"{number(estimate.low, digits, signed=signed)} to {number(estimate.high, digits, signed=signed)}"
