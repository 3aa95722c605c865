"""The page of a comparison: every two models with their differences, their curves, and whose people these are.

Where too many verdicts on a model are missing, that stands above everything else, and nothing is claimed of it. The
page follows the rules of every page, see `shell`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from interalign.evaluation.compare import Comparison, differing_turns, turns_in_words
from interalign.evaluation.notation import number, p_value, shown_turns
from interalign.evaluation.statistics import Estimate
from interalign.evaluation.summary import PairDifference, Summary
from interalign.report.finding import Finding
from interalign.report.island import Json
from interalign.report.shell import fill, percent
from interalign.report.tables import interval
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
        finding=finding,
        red={model.name: model.red for model in summary.models if model.red},
        summary=summary,
        shown_turns=shown_turns(summary.turns),
        pairs=summary.pairs,
        differing=lambda pair: turns_in_words(differing_turns(pair)),
        sources=found.sources,
        cases=summary.models[0].cases,
        interval=interval,
        p_value=p_value,
        percent=percent,
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
    """Which models stand above which, in plain sentences; a difference is claimed where its interval excludes 0.

    Nothing is claimed of a model on which too many verdicts are missing.
    """
    red = [model.name for model in found.summary.models if model.red]
    pairs = [pair for pair in found.summary.pairs if pair.first not in red and pair.second not in red]
    support = (*_left_out(found, red if pairs else ()), *found.notes)
    if not pairs:
        return Finding(headline=_untrusted(found.summary), support=support, red=True)
    told = [pair for pair in pairs if pair.mean_al.excludes_zero and pair.mean_al.value is not None]
    if not told:
        headline = "No two models are shown to differ." if len(pairs) > 1 else "No difference is shown."
        return Finding(headline=headline, support=support)
    widest = max(told, key=lambda pair: abs(pair.mean_al.value or 0))
    above, below = (widest.second, widest.first) if (widest.mean_al.value or 0) > 0 else (widest.first, widest.second)
    size = number(abs(widest.mean_al.value or 0))
    many = f" {len(told)} of {len(pairs)} pairs differ." if len(pairs) > 1 else ""
    return Finding(headline=f"{above} answers people {size} points better than {below}.{many}", support=support)


def _untrusted(summary: Summary) -> str:
    one, *others = [model.name for model in summary.models]
    if len(others) == 1:
        return f"Too many verdicts are missing to say whether {others[0]} answers people better than {one}."
    return "Too many verdicts are missing to say which model answers people better."


def _left_out(found: Comparison, red: Sequence[str]) -> Iterator[str]:
    if red:
        yield f"Not considered, because too many verdicts are missing: {', '.join(red)}."
    for one in found.sources:
        if one.left_out:
            yield f"{one.left_out:,} of {one.cases:,} persons of {one.label} are left out."


def _pair(pair: PairDifference) -> Json:
    return {"first": pair.first, "second": pair.second, "al": _triple(pair.mean_al), "ir": _triple(pair.ir)}


def _triple(estimate: Estimate) -> Json:
    return [estimate.value, estimate.low, estimate.high]
