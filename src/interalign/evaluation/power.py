"""How many people an evaluation needs before it can tell two models apart.

Computed from how much cases differ, before any call is paid for. Two models meet the same people, so what counts is how
much the *difference* of a person's two mean ALs varies from person to person, and how much of that is noise that a
repeat of the same conversation would average away. Where profiles are crossed with personalities, more profiles do not
make up for few personalities: the plan says when no number of profiles is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import sqrt
from statistics import NormalDist
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from rich.box import HORIZONTALS
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from interalign.errors import InputError
from interalign.evaluation.crossed import DOUBT
from interalign.evaluation.statistics import students
from interalign.evaluation.summary import Summary
from interalign.evaluation.tables import stacked
from interalign.messages import Value

__all__ = ["RULE_BASED", "Design", "Plan", "Spreads", "plan", "plan_table", "power_of", "smallest_shown", "spreads_of"]

_MOST_PROFILES = 100_000
_PACKAGED = (20, 5)
"""Profiles and personalities of the packaged people."""
_SCALE = 4.0


class Spreads(Value):
    """How much cases differ in mean AL, in points.

    `between` and `correlation` are those of what one run shows; `residual` is the part of `between` that changes when
    the same case is played again. The shares are of the lasting variance of the difference between two models.
    """

    between: Annotated[float, Field(gt=0)]
    """Standard deviation over cases of a model's mean AL with one case."""
    correlation: Annotated[float, Field(ge=-1, le=1)]
    """Correlation over cases of the mean ALs of the two models."""
    residual: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of a case's mean AL from repeat to repeat; 0 where no case was repeated."""
    profile_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    personality_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    source: str
    """Where the numbers come from, in a few words."""

    @property
    def once(self) -> float:
        """Variance over cases of the difference between two models in one run."""
        return 2 * self.between**2 * (1 - self.correlation)

    @property
    def noise(self) -> float:
        """How much of that does not come again."""
        return min(2 * self.residual**2, self.once)

    def effects(self, repeats: int) -> tuple[float, float, float]:
        """Variances of a case's difference that profile, personality and the rest make, over `repeats` of each case."""
        lasting = self.once - self.noise
        profile, personality = lasting * self.profile_share, lasting * self.personality_share
        return profile, personality, lasting - profile - personality + self.noise / repeats


RULE_BASED = Spreads(
    between=0.28,
    correlation=0.42,
    residual=0.15,
    profile_share=0.0,
    personality_share=1.0,
    source="rule-based users, 20 profiles x 10 personalities, 10 turns, two scripted responders",
)
"""What `benchmarks/evaluation_statistics.py` measures, of a responder that mirrors the user and one that remembers.

For rule-based users the personality holds all preferences, so it makes all that lasts of a difference; measure your own
as soon as you can.
"""


class Design(Value):
    """One way to reach the power. `profiles` is None where no number of profiles does."""

    kind: Literal["distinct", "crossed"]
    profiles: int | None
    personalities: int | None
    repeats: int

    @property
    def cases(self) -> int | None:
        """Persons to talk to: each with another profile, or all profiles times all personalities."""
        if self.profiles is None:
            return None
        return self.profiles if self.personalities is None else self.profiles * self.personalities

    @property
    def conversations(self) -> int | None:
        """Conversations per model."""
        return None if self.cases is None else self.cases * self.repeats


class Plan(Value):
    """How many cases detect a paired difference of mean AL of `detect` points."""

    detect: float
    power: float
    level: float
    spreads: Spreads
    designs: tuple[Design, ...]
    smallest: float | None = None
    """What the packaged people can show, talked to once, in points; None where even the whole scale is too little."""


def plan(
    detect: float,
    spreads: Spreads = RULE_BASED,
    *,
    power: float = 0.8,
    level: float = 0.05,
    repeats: Sequence[int] = (1, 3),
    personalities: Sequence[int] = (5, 10, 20),
) -> Plan:
    """The smallest numbers of cases that detect a difference of `detect` points with this power, two-sided.

    Args:
        detect: the difference of mean AL, in points.
        spreads: how much cases differ; by default what rule-based users and scripted responders show.
        power: the wanted probability to find a difference of that size.
        level: the probability to find one where there is none.
        repeats: how often each case may be played.
        personalities: with how many personalities the profiles may be crossed.

    Raises:
        InputError: the difference is not above 0 or not below the length of the scale, or the power or the level is
            no probability, or the power is not above the level.
    """
    if not 0 < detect <= 4:
        raise InputError(f"A difference of {detect:g} points cannot be planned for.", mend="use one above 0, up to 4.")
    if not 0 < level < power < 1:
        raise InputError(f"Power {power:g} at a level of {level:g} is impossible.", mend="use 0 < level < power < 1.")

    def reached(kind: Literal["distinct", "crossed"], across: int | None, times: int) -> Design:
        def enough(profiles: int) -> bool:
            return power_of(detect, spreads, profiles, across, repeats=times, level=level) >= power

        return Design(kind=kind, profiles=_smallest(enough), personalities=across, repeats=times)

    designs = [reached("distinct", None, times) for times in repeats]
    designs += [reached("crossed", across, times) for across in personalities for times in repeats]
    smallest = smallest_shown(spreads, *_PACKAGED, power=power, level=level)
    return Plan(detect=detect, power=power, level=level, spreads=spreads, designs=tuple(designs), smallest=smallest)


def smallest_shown(
    spreads: Spreads, profiles: int, personalities: int | None = None, *, power: float = 0.8, level: float = 0.05
) -> float | None:
    """The smallest difference that these people detect with this power, in points, rounded up to hundredths; or None.

    Each person is talked to once. None: not even a difference of the length of the scale.
    """
    for hundredths in range(1, round(100 * _SCALE) + 1):
        if power_of(hundredths / 100, spreads, profiles, personalities, level=level) >= power:
            return hundredths / 100
    return None


def _smallest(enough: Callable[[int], bool]) -> int | None:
    """The smallest number of profiles, from 2 on, that is enough."""
    if not enough(_MOST_PROFILES):
        return None
    low, high = 1, _MOST_PROFILES
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def power_of(
    detect: float,
    spreads: Spreads,
    profiles: int,
    personalities: int | None = None,
    *,
    repeats: int = 1,
    level: float = 0.05,
) -> float:
    """The probability to find a difference of `detect` points; `personalities` None means that nobody shares one.

    Source: the approximation of the noncentral t distribution in Abramowitz and Stegun, Handbook of Mathematical
    Functions (1964), 26.7.10, with the degrees of freedom that `crossed` would find.
    """
    variance, freedom = _sureness(spreads, profiles, personalities, repeats)
    if variance <= 0:
        return 1.0
    normal = NormalDist()
    critical = float(students(np.array(normal.inv_cdf(1 - level / 2)), np.array(freedom)))
    distance = detect / sqrt(variance) - critical * (1 - 1 / (4 * freedom))
    return normal.cdf(distance / sqrt(1 + critical**2 / (2 * freedom)))


def _sureness(spreads: Spreads, profiles: int, personalities: int | None, repeats: int) -> tuple[float, float]:
    """The variance of the mean difference, and its degrees of freedom."""
    profile, personality, rest = spreads.effects(repeats)
    if personalities is None:
        return (profile + personality + rest) / profiles, profiles - 1
    cases = profiles * personalities
    profile, personality, rest = profile / profiles, personality / personalities, rest / cases
    variance = profile + personality + rest
    doubt = (
        profile * (profile + DOUBT * rest) / (profiles - 1)
        + personality * (personality + DOUBT * rest) / (personalities - 1)
        + rest**2 / ((profiles - 1) * (personalities - 1))
    )
    return variance, variance**2 / doubt if doubt > 0 else cases - 1


def spreads_of(summary: Summary, first: str, second: str) -> Spreads:
    """How much the cases of a finished evaluation differ in the difference of two of its models.

    Raises:
        InputError: the summary does not say, since it is of an older version, has too few cases or lacks a model.
    """
    pair = next((one for one in summary.pairs if {one.first, one.second} == {first, second}), None)
    sds = [model.case_sd for model in summary.models if model.name in (first, second)]
    if pair is None or pair.case_sd is None or len(sds) != 2 or None in sds:
        raise InputError(
            f"How much the cases of {first!r} and {second!r} differ does not stand in this summary.",
            mend="evaluate both together on two persons or more, or plan without a summary.",
        )
    between = max(sqrt(sum(sd**2 for sd in sds if sd is not None) / 2), 1e-6)
    # The two models may spread differently; this correlation gives the spread of the difference that was found.
    correlation = max(-1.0, min(1.0, 1 - pair.case_sd**2 / (2 * between**2)))
    floors = [model.noise.sd.value for model in summary.models if model.name in (first, second) and model.noise]
    known = [floor for floor in floors if floor is not None]
    found = Spreads(
        between=between,
        correlation=correlation,
        residual=sqrt(sum(floor**2 for floor in known) / len(known)) if known else 0.0,
        source=f"{second} and {first} on {summary.model(first).cases} cases, {summary.turns} turns",
    )
    profile, personality = _lasting_shares(found, pair.profile_share or 0.0, pair.personality_share or 0.0)
    return found.model_copy(update={"profile_share": profile, "personality_share": personality})


def _lasting_shares(spreads: Spreads, *shares: float) -> list[float]:
    """Shares of the variance of one run as shares of the variance that lasts; together they are never more than all.

    What profiles and personalities make comes again with every repeat, so the noise takes nothing from it.
    """
    lasting = spreads.once - spreads.noise
    if lasting <= 0:
        return [0.0 for _ in shares]
    grown = [share * spreads.once / lasting for share in shares]
    return [share / max(1.0, sum(grown)) for share in grown]


def plan_table(planned: Plan) -> Table:
    """The plan for a terminal of 80 columns: what is enough, what never is, and what both are computed from."""
    designs = Table(box=HORIZONTALS, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1))
    designs.add_column("people")
    for header in ("talked to", "cases", "conversations per model"):
        designs.add_column(header, justify="right")
    for design in planned.designs:
        if design.cases is not None and design.conversations is not None:
            designs.add_row(_people(design), _times(design), f"{design.cases:,}", f"{design.conversations:,}")
    parts: list[RenderableType] = [_aim(planned)]
    parts += [designs] if designs.row_count else []
    parts += [Text(sentence) for sentence in _never_enough(planned.designs)]
    parts.append(Text(_of_packaged(planned)))
    parts.append(Text(_told(planned.spreads), style="dim"))
    return stacked(parts)


def _aim(planned: Plan) -> Text:
    return Text(
        f"Enough to see a difference of {planned.detect:g} points of mean AL between two models in {planned.power:.0%} "
        f"of the evaluations, with a false alarm in {planned.level:.0%} where there is none:",
        style="bold",
    )


def _people(design: Design) -> str:
    if design.personalities is None:
        return f"{design.profiles:,} distinct persons"
    return f"{design.profiles:,} profiles x {design.personalities} personalities"


def _times(design: Design) -> str:
    return {1: "once", 2: "twice"}.get(design.repeats, f"{design.repeats} times")


def _never_enough(designs: Sequence[Design]) -> Iterator[str]:
    """What no number of profiles makes enough, and why."""
    lacking = [design for design in designs if design.profiles is None]
    few = sorted({design.personalities for design in lacking if design.personalities is not None})
    for count in few:
        tried = [design for design in designs if design.personalities == count]
        without = [_times(design) for design in lacking if design.personalities == count]
        when = "" if len(without) == len(tried) else f" if each person is talked to {' or '.join(without)}"
        yield (
            f"{count} personalities are too few{when}, however many profiles there are: how far two models differ "
            "depends on the personality, and more profiles do not bring in others."
        )
    if any(design.personalities is None for design in lacking):
        yield "Distinct persons: no number of them is enough."


def _of_packaged(planned: Plan) -> str:
    """What the packaged people can show, and whether that is enough."""
    profiles, personalities = _PACKAGED
    who = f"The {profiles * personalities} packaged people ({personalities} personalities, {profiles} profiles)"
    least = planned.smallest
    if least is not None and least <= planned.detect:
        return f"{who}, each talked to once, are enough: they can show a difference of {least:.2f} points or more."
    shown = "no difference that is possible" if least is None else f"a difference of {least:.2f} points or more"
    return (
        f"{who}, each talked to once, can show {shown} under these assumptions: for one of {planned.detect:g}, take "
        "people of more personalities, as the table has them (--cases FILE)."
    )


def _told(spreads: Spreads) -> str:
    return (
        f"Computed from: a model's mean AL varies by {spreads.between:.2f} points from case to case (standard "
        f"deviation) and by {spreads.residual:.2f} when the same case is played again; two models correlate by "
        f"{spreads.correlation:.2f}; of what lasts of their difference, {spreads.profile_share:.0%} comes with the "
        f"profile and {spreads.personality_share:.0%} with the personality. Measured with: {spreads.source}."
    )
