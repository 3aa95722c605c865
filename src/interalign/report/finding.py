"""What an evaluation found, in plain sentences computed from its numbers.

A sentence claims a difference only where the interval of the paired difference excludes 0.
"""

from __future__ import annotations

from interalign.evaluation.statistics import Estimate
from interalign.evaluation.summary import ModelSummary, Summary, number
from interalign.messages import Value

__all__ = ["Finding", "finding"]


class Finding(Value):
    """The headline, and the sentences that keep it honest."""

    headline: str
    support: tuple[str, ...] = ()


def finding(summary: Summary) -> Finding:
    """The main finding: the best model against the baseline, or the baseline alone."""
    subject = _subject(summary)
    if subject.mean_al.value is None:
        return Finding(headline="No reply could be judged, so nothing is known yet.", support=_missing(summary))
    support = (
        *_ceiling(summary),
        *_improvement(subject),
        *_personal(subject),
        *_beaten_by_controls(summary, subject),
        *_selection(summary),
        *_missing(summary),
    )
    return Finding(headline=_headline(subject, summary.baseline), support=support)


def _subject(summary: Summary) -> ModelSummary:
    """The model that the page is about: the best that is not the baseline, or the baseline when it is alone."""
    others = [model for model in summary.of_kind("model") if model.name != summary.baseline]
    judged = [(model.mean_al.value, -place) for place, model in enumerate(others) if model.mean_al.value is not None]
    return others[-max(judged)[1]] if judged else summary.model(summary.baseline)


def _headline(subject: ModelSummary, baseline: str) -> str:
    difference = subject.difference
    if difference is None or difference.value is None:
        return (
            f"{subject.name} answers people at {number(subject.mean_al.value)} of 5 points{_interval(subject.mean_al)}."
        )
    size = number(abs(difference.value))
    if not difference.excludes_zero:
        return (
            f"No difference is shown between {subject.name} and {baseline}: "
            f"{number(difference.value, signed=True)} points{_interval(difference, signed=True)}."
        )
    if difference.value > 0:
        return f"{subject.name} answers people {size} points better than {baseline}{_interval(difference)}."
    return f"{subject.name} answers people {size} points worse than {baseline}{_interval(_mirrored(difference))}."


def _ceiling(summary: Summary) -> tuple[str, ...]:
    for sign, whom in (
        ("disclosed", "A perfect listener, who uses all that a person has disclosed and nothing else,"),
        ("oracle", "An oracle, which knows the whole person from the first turn,"),
    ):
        for control in summary.of_kind("control"):
            if sign in control.name.lower() and control.mean_al.value is not None:
                return (f"{whom} would reach {number(control.mean_al.value)} of 5.",)
    return ()


def _improvement(subject: ModelSummary) -> tuple[str, ...]:
    if subject.ir.value is None:
        return ()
    rate = f"{number(subject.ir.value, 3, signed=True)} points per turn{_interval(subject.ir, 3, signed=True)}"
    if not subject.ir.excludes_zero:
        return (f"It is not shown that {subject.name} gets better or worse during a conversation: {rate}.",)
    direction = "better" if subject.ir.value > 0 else "worse"
    return (f"{subject.name} gets {direction} as it gets to know the person: {rate}.",)


def _personal(subject: ModelSummary) -> tuple[str, ...]:
    if subject.gap.value is None:
        return ()
    if subject.gap.excludes_zero and subject.gap.value > 0:
        gap = f"{number(subject.gap.value)} points{_interval(subject.gap)}"
        return (f"Its replies fit the person they were written for better than somebody else, by {gap}.",)
    gap = f"{number(subject.gap.value, signed=True)} points{_interval(subject.gap, signed=True)}"
    return (f"It is not shown that its replies fit this person better than somebody else: {gap}.",)


def _beaten_by_controls(summary: Summary, subject: ModelSummary) -> tuple[str, ...]:
    level = subject.mean_al.value
    stronger = [
        f"{control.name} ({number(control.mean_al.value)})"
        for control in summary.of_kind("control")
        if "oracle" not in control.name.lower() and "disclosed" not in control.name.lower()
        if level is not None and control.mean_al.value is not None and control.mean_al.value >= level
    ]
    if not stronger:
        return ()
    return (f"Beware: a control without any understanding does as well or better: {', '.join(stronger)}.",)


def _selection(summary: Summary) -> tuple[str, ...]:
    compared = len(summary.of_kind("model")) - 1
    if compared < 2:
        return ()
    return (f"This is the best of {compared} compared models; the intervals are not corrected for that choice.",)


def _missing(summary: Summary) -> tuple[str, ...]:
    worst = max(summary.models, key=lambda model: model.missing)
    if not worst.missing:
        return ()
    each = worst.cases * summary.turns
    total = sum(model.missing for model in summary.models)
    return (
        f"{total:,} of {each * len(summary.models):,} turns have no verdict, most often with {worst.name} "
        f"({worst.missing:,} of {each:,}). They are left out, not scored low.",
    )


def _mirrored(estimate: Estimate) -> Estimate:
    value, low, high = (None if bound is None else -bound for bound in (estimate.value, estimate.low, estimate.high))
    return Estimate(value=value, low=high, high=low)


def _interval(estimate: Estimate, digits: int = 2, *, signed: bool = False) -> str:
    if estimate.low is None or estimate.high is None:
        return " (no interval)"
    low, high = (number(bound, digits, signed=signed) for bound in (estimate.low, estimate.high))
    return f" (95\N{NO-BREAK SPACE}% interval {low} to {high})"
