"""What an evaluation found, in plain sentences computed from its numbers.

A sentence claims a difference only where the interval of the paired difference excludes 0, and where it still would if
the best of several models were not chosen with hindsight. Where too many verdicts are missing nothing is claimed.
"""

from __future__ import annotations

from interalign.evaluation.measures import IMPERSONAL, Bounds, CounterfactualLevels
from interalign.evaluation.notation import UNDEFINED, interval, number, p_in_words
from interalign.evaluation.statistics import Estimate, holm
from interalign.evaluation.summary import ModelSummary, Summary
from interalign.messages import Value
from interalign.report.shell import percent

__all__ = ["Finding", "finding", "plain_in_words"]

_ALPHA = 0.05


class Finding(Value):
    """The headline, and the sentences that keep it honest. `red`: the numbers behind it are not to be trusted."""

    headline: str
    support: tuple[str, ...] = ()
    red: bool = False


def finding(summary: Summary) -> Finding:
    """The main finding: the best model against the baseline, or the baseline alone."""
    subject = _subject(summary)
    if subject.mean_al.value is None:
        red = any(model.red for model in summary.models)
        return Finding(
            headline="No reply could be judged, so nothing is known yet.", support=_missing(summary), red=red
        )
    if subject.red or summary.model(summary.baseline).red:
        return _untrusted(summary, subject)
    support = (
        *_left_out(summary),
        *_ceiling(summary),
        *_improvement(subject),
        *_personal(subject),
        *_beaten_by_controls(summary, subject),
        *_in_its_place(subject),
        *_at_what_cost(summary, subject),
        *_selection(summary, subject),
        *_missing(summary),
        *_at_worst(subject),
    )
    return Finding(headline=_headline(summary, subject), support=support)


def _subject(summary: Summary) -> ModelSummary:
    """The model that the page is about: the best that is not the baseline, or the baseline when it is alone.

    One with too many missing verdicts is chosen where there is no other.
    """
    judged = [
        (model.red is None, model.mean_al.value, -place)
        for place, model in enumerate(_others(summary))
        if model.mean_al.value is not None
    ]
    return _others(summary)[-max(judged)[2]] if judged else summary.model(summary.baseline)


def _others(summary: Summary) -> list[ModelSummary]:
    return [model for model in summary.of_kind("model") if model.name != summary.baseline]


def _untrusted(summary: Summary, subject: ModelSummary) -> Finding:
    """What is left to say where the subject or the baseline is red."""
    difference = subject.difference
    if difference is None:
        what = f"how well {subject.name} answers people"
        there, bounds = f"{number(subject.mean_al.value)} of 5 points{_interval(subject.mean_al)}", subject.bounds
    else:
        what = f"whether {subject.name} answers people better than {summary.baseline}"
        there = f"a difference of {_signed(difference)}"
        bounds = subject.difference_bounds
    sentence = f"The verdicts that are there give {there}, as if the others would have been like them."
    return Finding(
        headline=f"Too many verdicts are missing to say {what}.",
        support=(
            sentence,
            *_whatever(bounds, signed=difference is not None),
            *(() if subject.red else _left_out(summary)),
            *_missing(summary),
        ),
        red=True,
    )


def _whatever(bounds: Bounds | None, *, signed: bool) -> tuple[str, ...]:
    if bounds is None:
        return ()
    low, high = (number(end, signed=signed) for end in (bounds.low, bounds.high))
    return (f"Whatever the missing ones would have been, it lies between {low} and {high} in these conversations.",)


def _headline(summary: Summary, subject: ModelSummary) -> str:
    difference, baseline = subject.difference, summary.baseline
    if difference is None or difference.value is None:
        return (
            f"{subject.name} answers people at {number(subject.mean_al.value)} of 5 points{_interval(subject.mean_al)}."
        )
    if not difference.excludes_zero:
        return f"No difference is shown between {subject.name} and {baseline}: {_signed(difference)}."
    chosen = _p_as_the_best(summary, subject)
    if chosen is not None and chosen >= _ALPHA:
        return (
            f"No difference is shown between {subject.name} and {baseline}, for the best of {len(_others(summary))} "
            f"models may be so by chance: {_signed(difference)}."
        )
    size = number(abs(difference.value))
    if difference.value > 0:
        return f"{subject.name} answers people {size} points better than {baseline}{_interval(difference)}."
    return f"{subject.name} answers people {size} points worse than {baseline}{_interval(_mirrored(difference))}."


def _left_out(summary: Summary) -> tuple[str, ...]:
    names = [model.name for model in _others(summary) if model.red]
    if not names:
        return ()
    return (f"Not considered, because too many verdicts are missing: {', '.join(names)}.",)


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
        fit = f"Its replies fit the person they were written for better than somebody else, by {gap}."
        return (fit, *_beyond_impersonal(subject))
    return (f"It is not shown that its replies fit this person better than somebody else: {_signed(subject.gap)}.",)


def _beyond_impersonal(subject: ModelSummary) -> tuple[str, ...]:
    """How much of a gap is the model's own: what was said was said by this person, so any reply to it may have one."""
    above = subject.gap_above
    if above is None or above.value is None:
        return ()
    plain = plain_in_words(subject)
    # The gap itself is that of all turns.
    there = "at the turns where both were judged"
    if above.excludes_zero and above.value > 0:
        return (f"{there[0].upper()}{there[1:]}, its gap is {_size(above)} more than that of {plain}.",)
    return (f"Beware: {there}, its gap is not shown to be more than that of {plain}: {_signed(above)}.",)


def plain_in_words(model: ModelSummary) -> str:
    """Whose gap that of a model is held against (`ModelSummary.gap_above`)."""
    nice, script = IMPERSONAL
    if any(control.name == nice for control in model.counterfactuals):
        return f"the same model told to look at nobody ({nice})"
    return f"one plain style for everybody ({script})"


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


def _in_its_place(subject: ModelSummary) -> tuple[str, ...]:
    """What the model would have done with other instructions, at the turns where that was tried."""
    told = (_against_niceness, _against_listening)
    return tuple(
        sentence for tell in told for control in subject.counterfactuals for sentence in tell(subject.name, control)
    )


def _against_niceness(name: str, control: CounterfactualLevels) -> tuple[str, ...]:
    difference = control.difference
    if "nice" not in control.name.lower() or difference.value is None:
        return ()
    nice = f"the same model told only to be brief and warm ({control.name})"
    if not difference.excludes_zero:
        return (f"Beware: it is not shown that {name} does better than {nice}: {_signed(difference)}.",)
    if difference.value > 0:
        return (f"{name} does better than {nice}, by {_size(difference)}.",)
    return (f"Beware: {name} does worse than {nice}, by {_size(difference)}.",)


def _against_listening(name: str, control: CounterfactualLevels) -> tuple[str, ...]:
    difference = control.difference
    if "disclosed" not in control.name.lower() or difference.value is None:
        return ()
    if difference.excludes_zero and difference.value < 0:
        return (f"Told all that the user had shown by then, it would do better, by {_size(difference)}.",)
    return (
        f"It is not shown that it would do better if it were told all that the user had shown by then: the difference "
        f"of {name} to that is {_signed(difference)}.",
    )


def _at_what_cost(summary: Summary, subject: ModelSummary) -> tuple[str, ...]:
    """What is clearly worse than with the baseline: intervals that do not even overlap."""
    baseline = summary.model(summary.baseline)
    if baseline is subject:
        return ()
    sentences = []
    if _below(subject.helpfulness, baseline.helpfulness):
        sentences.append(
            f"Beware: its replies would help people in general less than those of {baseline.name}: "
            f"{_of_five(subject.helpfulness)} against {_of_five(baseline.helpfulness)}."
        )
    if _below(baseline.mind_reading, subject.mind_reading):
        sentences.append(
            f"Beware: it claims what nobody has said more often than {baseline.name}: in "
            f"{_share(subject.mind_reading)} of the replies against {_share(baseline.mind_reading)}."
        )
    return tuple(sentences)


def _below(one: Estimate | None, other: Estimate | None) -> bool:
    if one is None or other is None or one.high is None or other.low is None:
        return False
    return one.high < other.low


def _of_five(level: Estimate | None) -> str:
    return "" if level is None else f"{number(level.value)} of 5{_interval(level)}"


def _share(share: Estimate | None) -> str:
    if share is None or share.low is None or share.high is None:
        return UNDEFINED
    low = percent(share.low).removesuffix("\N{NO-BREAK SPACE}%")
    return f"{percent(share.value)} (95\N{NO-BREAK SPACE}% interval {low} to {percent(share.high)})"


def _selection(summary: Summary, subject: ModelSummary) -> tuple[str, ...]:
    compared = len(_others(summary))
    if compared < 2:
        return ()
    chosen = _p_as_the_best(summary, subject)
    if chosen is None:
        return (f"This is the best of {compared} compared models; the intervals are not corrected for that choice.",)
    return (
        f"This is the best of {compared} compared models. Corrected for that (Holm) the difference has "
        f"{p_in_words(chosen)}; the intervals are not corrected.",
    )


def _p_as_the_best(summary: Summary, subject: ModelSummary) -> float | None:
    """The p-value of the difference to the baseline, corrected for the number of models held against it."""
    names = [model.name for model in _others(summary)]
    if subject.name not in names:
        return None
    of_pair = {frozenset((pair.first, pair.second)): pair.mean_al.p for pair in summary.pairs}
    corrected = holm([of_pair.get(frozenset((name, summary.baseline))) for name in names])
    return corrected[names.index(subject.name)]


def _missing(summary: Summary) -> tuple[str, ...]:
    worst = max(summary.models, key=lambda model: model.missing)
    if not worst.missing:
        return ()
    each = worst.cases * summary.turns
    total = sum(model.missing for model in summary.models)
    most = f", most often with {worst.name} ({worst.missing:,} of {each:,})" if len(summary.models) > 1 else ""
    return (
        f"{total:,} of {each * len(summary.models):,} turns have no verdict{most}. They are left out, not scored low.",
    )


def _at_worst(subject: ModelSummary) -> tuple[str, ...]:
    """That a difference which is shown would be none if the missing verdicts went against it."""
    difference, bounds = subject.difference, subject.difference_bounds
    if difference is None or bounds is None or not difference.excludes_zero or bounds.low > 0 or bounds.high < 0:
        return ()
    low, high = number(bounds.low, signed=True), number(bounds.high, signed=True)
    return (f"If all missing verdicts went against it, nothing would be left of the difference: {low} to {high}.",)


def _mirrored(estimate: Estimate) -> Estimate:
    value, low, high = (None if bound is None else -bound for bound in (estimate.value, estimate.low, estimate.high))
    return Estimate(value=value, low=high, high=low)


def _signed(difference: Estimate) -> str:
    return f"{number(difference.value, signed=True)} points{_interval(difference, signed=True)}"


def _size(difference: Estimate) -> str:
    positive = difference if (difference.value or 0) >= 0 else _mirrored(difference)
    return f"{number(positive.value)} points{_interval(positive)}"


def _interval(estimate: Estimate, digits: int = 2, *, signed: bool = False) -> str:
    if estimate.low is None or estimate.high is None:
        return " (no interval)"
    return f" (95\N{NO-BREAK SPACE}% interval {interval(estimate.low, estimate.high, digits, signed=signed)})"
