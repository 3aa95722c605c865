"""What the choices come to: accuracy with and without the chat, by group, beside what takes no model at all.

A reply that cannot be read, and a call that failed, is missing: it is counted, and it is neither right nor wrong.

Questions of one person are not independent, so people, not questions, carry the intervals. The interval of a share is
Wilson's at the effective number of questions, which is the number that would give independent questions the variance
that the people show (Korn and Graubard, "Confidence intervals for proportions with small expected number of positive
counts estimated from survey data", Survey Methodology 24, 1998, with Wilson's interval in place of the exact one),
with the t quantile of people - 1 degrees of freedom. Where every question is a person of its own it is Wilson's own
interval. `gain` is a paired difference over the questions that were read both ways, with the same variance over people.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import NormalDist, fmean
from typing import Annotated

from pydantic import Field
from rich.box import HORIZONTALS
from rich.table import Table
from rich.text import Text

from interalign.evaluation.choices.asking import Choice, Shown
from interalign.evaluation.choices.item import ChoiceItem
from interalign.evaluation.statistics import Estimate
from interalign.messages import Value

__all__ = ["Accuracy", "ChoiceGroup", "ChoiceSummary", "clustered_share", "paired_gain", "summarise_choices", "table"]

_LEVEL = 0.95
_Z = NormalDist().inv_cdf((1 + _LEVEL) / 2)
_FEW = {1: 12.706, 2: 4.303}
_UNDEFINED = "\N{EN DASH}"
_Count = Annotated[int, Field(ge=0)]


class Accuracy(Value):
    """How often the right option was chosen, of the replies that could be read."""

    asked: _Count
    read: _Count
    right: _Count
    failed: _Count
    """Calls that failed; they are missing like replies that cannot be read."""
    share: Estimate

    @property
    def missing(self) -> int:
        """How many have no choice."""
        return self.asked - self.read


class ChoiceGroup(Value):
    """One group of questions, or all of them. Shares are in [0, 1]."""

    name: str
    questions: _Count
    people: _Count
    """Those who are told apart; a question that names nobody counts as one."""
    chance: float
    longest: float
    """What the longest option of each question would reach; options of one length share the point."""
    shortest: float
    with_chat: Accuracy
    without_chat: Accuracy
    gain: Estimate
    """Accuracy with the chat minus accuracy without it."""


class ChoiceSummary(Value):
    """What a model chose. `method` is how it was asked (`evaluation/baselines.py`)."""

    file: str
    form: str
    model: str
    method: str
    seed: int
    left_out: _Count
    """Rows of the file that could not be used."""
    overall: ChoiceGroup
    groups: tuple[ChoiceGroup, ...]


def summarise_choices(items: Sequence[ChoiceItem], choices: Sequence[Choice]) -> tuple[ChoiceGroup, ...]:
    """The group of all questions, named "all", and behind it one for each `group` of the items, by name."""
    by_item: defaultdict[str, dict[Shown, Choice]] = defaultdict(dict)
    for choice in choices:
        by_item[choice.item][choice.shown] = choice
    groups: defaultdict[str, list[ChoiceItem]] = defaultdict(list)
    for item in items:
        groups[item.group].append(item)
    named = [(name or "(no group)", groups[name]) for name in sorted(groups)] if len(groups) > 1 else []
    return tuple(_group(name, some, by_item) for name, some in [("all", list(items)), *named])


def _group(name: str, items: Sequence[ChoiceItem], choices: Mapping[str, Mapping[Shown, Choice]]) -> ChoiceGroup:
    both = [(item, choices.get(item.id, {})) for item in items]
    gains = [
        (float(one["chat"].right) - float(one["nothing"].right), _person(item))
        for item, one in both
        if "chat" in one and one["chat"].right is not None and one["nothing"].right is not None
    ]
    return ChoiceGroup(
        name=name,
        questions=len(items),
        people=len({_person(item) for item in items}),
        chance=fmean(1 / len(item.options) for item in items),
        longest=fmean(_by_length(item, max) for item in items),
        shortest=fmean(_by_length(item, min) for item in items),
        with_chat=_accuracy((item, one["chat"]) for item, one in both if "chat" in one),
        without_chat=_accuracy((item, one["nothing"]) for item, one in both if "nothing" in one),
        gain=paired_gain([gain for gain, _ in gains], [person for _, person in gains]),
    )


def _by_length(item: ChoiceItem, extreme: Callable[[list[int]], int]) -> float:
    lengths = [len(option) for option in item.options]
    best = extreme(lengths)
    return (lengths[item.answer] == best) / lengths.count(best)


def _person(item: ChoiceItem) -> str:
    return f"person {item.person}" if item.person else f"question {item.id}"


def _accuracy(asked: Iterable[tuple[ChoiceItem, Choice]]) -> Accuracy:
    every = list(asked)
    read = [(choice.right, _person(item)) for item, choice in every if choice.right is not None]
    return Accuracy(
        asked=len(every),
        read=len(read),
        right=sum(right for right, _ in read),
        failed=sum(choice.failure is not None for _, choice in every),
        share=clustered_share([right for right, _ in read], [person for _, person in read]),
    )


def clustered_share(right: Sequence[bool], people: Sequence[str]) -> Estimate:
    """The share of True with its 95 % interval over people; without an interval for several questions of one person."""
    count = len(right)
    if not count:
        return Estimate()
    share, persons = fmean(right), len(set(people))
    if persons == 1 and count > 1:
        return Estimate(value=share)
    if persons == count:
        return Estimate(value=share, **_wilson(share, count, _Z))
    variance = _variance([float(one) for one in right], people)
    # All right or all wrong shows no variance; then no more is known than that many people were.
    effective = min(share * (1 - share) / variance, count) if variance else persons
    return Estimate(value=share, **_wilson(share, effective, _t(persons - 1)))


def paired_gain(gains: Sequence[float], people: Sequence[str]) -> Estimate:
    """The mean of differences in {-1, 0, 1} with its 95 % interval over people; no interval without any variance."""
    if not gains:
        return Estimate()
    mean, persons = fmean(gains), len(set(people))
    spread = math.sqrt(_variance(gains, people)) if persons > 1 else 0.0
    if not spread:
        return Estimate(value=mean)
    half = _t(persons - 1) * spread
    return Estimate(value=mean, low=max(-1.0, mean - half), high=min(1.0, mean + half))


def _variance(values: Sequence[float], people: Sequence[str]) -> float:
    """The variance of the mean, from the sums over the questions of each person; at least two people."""
    mean, sums = fmean(values), defaultdict[str, float](float)
    for value, person in zip(values, people, strict=True):
        sums[person] += value - mean
    return len(sums) / (len(sums) - 1) * math.fsum(one**2 for one in sums.values()) / len(values) ** 2


def _wilson(share: float, count: float, quantile: float) -> dict[str, float]:
    square = quantile**2 / count
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return {"low": max(0.0, middle - half), "high": min(1.0, middle + half)}


def _t(degrees: int) -> float:
    """The upper 97.5 % quantile of Student's t, within 1 %.

    From 3 degrees on by the expansion in Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.5.
    """
    if degrees in _FEW:
        return _FEW[degrees]
    z = _Z
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3


def table(summary: ChoiceSummary) -> Table:
    """The summary for a terminal of 80 columns: one row a group, percentages, intervals below their values."""
    whole = Table.grid()
    shown = Table(box=HORIZONTALS, padding=(0, 0, 0, 1), pad_edge=False, show_edge=False)
    shown.add_column("group", overflow="fold", min_width=5)
    for header in ("n", "chance", "longest", "shortest", "no\nchat", "chat", "gain", "missing"):
        shown.add_column(header, justify="right", no_wrap=True)
    for index, group in enumerate((summary.overall, *summary.groups)):
        if index == 1:
            shown.add_section()
        shown.add_row(Text(group.name), *_cells(group))
    whole.add_row(shown)
    whole.add_row(Text(_footnote(summary), style="dim"))
    return whole


def _cells(group: ChoiceGroup) -> list[Text]:
    missing = group.with_chat.missing + group.without_chat.missing
    plain = [f"{group.questions:,}", *(_percent(one) for one in (group.chance, group.longest, group.shortest))]
    stacked = [_stacked(group.without_chat.share), _stacked(group.with_chat.share), _stacked(group.gain, signed=True)]
    return [*map(Text, plain), *stacked, Text(f"{missing:,}")]


def _stacked(estimate: Estimate, *, signed: bool = False) -> Text:
    value = Text(_percent(estimate.value, signed=signed))
    if estimate.low is None or estimate.high is None:
        return value
    between = " to " if signed else "\N{EN DASH}"
    ends = between.join(_percent(end, signed=signed) for end in (estimate.low, estimate.high))
    return Text.assemble(value, (f"\n{ends}", "dim"))


def _percent(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return _UNDEFINED
    rounded = round(100 * value) + 0
    return f"{rounded:+d}" if signed and rounded else f"{rounded:d}"


def _footnote(summary: ChoiceSummary) -> str:
    overall = summary.overall
    people = "" if overall.people == overall.questions else f" of {overall.people:,} people"
    return (
        f"{summary.model}, asked as {summary.method!r}: {overall.questions:,} questions{people} in {summary.file} "
        f"(seed {summary.seed}). Percent, of the replies that could be read; intervals: 95 %, over people. n: "
        "questions; longest, shortest: always that option; no chat: the same without the talk before it."
    )
