"""Several judges as one, and how far they agree.

What always holds: a judge without a verdict is left out of that reply's mean, and where too few are left there is no
verdict; what each judge said stays in the verdict's parts, so that agreement can be computed from any rows, and why it
had no verdict is counted (`Panel.lacking`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from itertools import starmap
from statistics import fmean, median
from typing import Literal

import numpy as np

from interalign.errors import InputError
from interalign.evaluation.judging.agreement import krippendorff_alpha, spearman
from interalign.evaluation.judging.resampling import RESAMPLES, Places, floats, interval, mean_interval
from interalign.evaluation.statistics import Estimate
from interalign.messages import Chat, Value
from interalign.personas.persona import Persona
from interalign.roles.judge import NOT_TOLD, Judge, Verdict
from interalign.roles.ledger import Ledger
from interalign.roles.llm.player import RoleFailure, all_or_first_error

__all__ = ["Member", "Panel", "PanelAgreement", "panel_agreement", "scores_of"]

_MEMBER = "judge "
"""How the parts begin that hold what one judge of a panel said, as (score - 1) / 4."""


class Panel:
    """Judges who are all asked, and whose scores become one: their mean, or their median.

    Source: Verga et al., "Replacing Judges with Juries" (arXiv 2404.18796).

    Args:
        judges: By their names.
        by: What becomes of the scores.
        least: So many verdicts make one of the panel's; None for more than half. Where judges differ in how kind they
            are, a mean without one of them is a little off, and none at all is more honest than a mean of the few.

    Raises:
        InputError: there is no judge, or `least` is not between 1 and their number.
    """

    def __init__(
        self, judges: Mapping[str, Judge], by: Literal["mean", "median"] = "mean", least: int | None = None
    ) -> None:
        self._judges = dict(judges)
        self._by = by
        self._least = len(judges) // 2 + 1 if least is None else least
        self._lacking: dict[str, Counter[str]] = {name: Counter() for name in judges}
        if not judges or not 1 <= self._least <= len(judges):
            raise InputError(
                f"A panel of {len(judges)} judges cannot need {self._least} verdicts.",
                mend="give it at least one judge, and ask for no more verdicts than judges.",
            )

    @property
    def lacking(self) -> dict[str, dict[str, int]]:
        """Why each judge had no verdict so far: how often by the reason, the commonest first."""
        return {name: dict(counts.most_common()) for name, counts in self._lacking.items()}

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict:
        """Return the panel's verdict.

        Parts and penalties are means over the judges that have them. A part that each judge answers with yes or no
        (`honest`) is 1 where more than half of them say so.

        Raises:
            RoleFailure: too few judges have a verdict; its cause is that of most of the others.
            ModelError: a judge failed; that is no missing verdict.
        """
        why: dict[str, str] = {}

        async def asked(name: str, judge: Judge) -> Verdict | None:
            try:
                verdict = await judge.score(persona, chat, reply, ledger, seed)
            except RoleFailure as error:
                verdict, why[name] = None, error.cause
            if verdict is None:
                self._lacking[name][why.setdefault(name, NOT_TOLD)] += 1
            return verdict

        given = dict(zip(self._judges, await all_or_first_error(starmap(asked, self._judges.items())), strict=True))
        verdicts = {name: verdict for name, verdict in given.items() if verdict is not None}
        if len(verdicts) < self._least:
            raise self._too_few(why)
        scores = [verdict.score for verdict in verdicts.values()]
        parts = _joined([verdict.parts for verdict in verdicts.values()])
        if "honest" in parts:
            parts["honest"] = float(parts["honest"] > 0.5)
        said = {f"{_MEMBER}{name}": (verdict.score - 1) / 4 for name, verdict in verdicts.items()}
        return Verdict(
            score=fmean(scores) if self._by == "mean" else median(scores),
            parts=parts | said,
            penalties=_joined([verdict.penalties for verdict in verdicts.values()]),
        )

    def _too_few(self, why: Mapping[str, str]) -> RoleFailure:
        told = "; ".join(f"{name}: {reason}" for name, reason in why.items())
        ((cause, _),) = Counter(why.values()).most_common(1)
        return RoleFailure(
            f"{len(self._judges) - len(why)} of {len(self._judges)} judges have a verdict, and {self._least} are "
            f"needed ({told}).",
            mend="mend those judges, or let fewer verdicts do (least).",
            cause=f"too few of a panel: {cause}",
        )


class Member(Value):
    """One judge of a panel."""

    judge: str
    missing: float
    """The share of items without its verdict."""
    with_others: Estimate
    """Spearman's correlation with the mean of the others."""
    kindness: Estimate
    """Mean of its score less the mean of the others', in points."""
    alpha_without: float | None
    """The alpha (ordinal) of the others: above the panel's, the panel would agree more without this one."""


class PanelAgreement(Value):
    """How far the judges of a panel agree."""

    items: int
    alpha_ordinal: Estimate
    alpha_interval: Estimate
    members: tuple[Member, ...]


def scores_of(verdicts: Sequence[Verdict | None]) -> dict[str, list[float | None]]:
    """What each judge of a panel said, from the panel's verdicts; None also where the panel has no verdict."""
    names = dict.fromkeys(
        part.removeprefix(_MEMBER)
        for verdict in verdicts
        if verdict is not None
        for part in verdict.parts
        if part.startswith(_MEMBER)
    )
    return {name: [_said(verdict, name) for verdict in verdicts] for name in names}


def panel_agreement(
    scores: Mapping[str, Sequence[float | None]],
    *clusters: Sequence[Hashable],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PanelAgreement:
    """How far judges agree on the same items.

    Args:
        scores: For each judge its scores, item by item.
        clusters: What items share (`resampling.interval`); left out, each item is one of its own.
        resamples: Samples behind each interval.
        seed: Of the samples.

    Raises:
        InputError: there are fewer than two judges, or they have not the same number of items.
    """
    lengths = {len(one) for one in scores.values()}
    if len(scores) < 2 or len(lengths) != 1:
        raise InputError("Agreement needs two judges and more, with the same items.", mend="write None for a missing.")
    items = lengths.pop()
    shared = clusters or (range(items),)
    table = np.stack([floats(one) for one in scores.values()], axis=1)

    def alpha(scale: Literal["ordinal", "interval"]) -> Estimate:
        def of(places: Places) -> float:
            found = krippendorff_alpha(_rows(table[places]), scale)
            return float("nan") if found is None else found

        return interval(of, *shared, bounds=(-1, 1), resamples=resamples, seed=seed)

    return PanelAgreement(
        items=items,
        alpha_ordinal=alpha("ordinal"),
        alpha_interval=alpha("interval"),
        members=tuple(
            _member(name, at, _rows(table), shared, resamples=resamples, seed=seed) for at, name in enumerate(scores)
        ),
    )


def _member(
    name: str,
    at: int,
    rows: Sequence[Sequence[float | None]],
    clusters: Sequence[Sequence[Hashable]],
    *,
    resamples: int,
    seed: int,
) -> Member:
    own = [row[at] for row in rows]
    others = [[*row[:at], *row[at + 1 :]] for row in rows]
    means = [fmean(said) if (said := [one for one in row if one is not None]) else None for row in others]
    ahead = [None if one is None or mean is None else one - mean for one, mean in zip(own, means, strict=True)]

    def correlation(places: Places) -> float:
        found = spearman([own[place] for place in places], [means[place] for place in places])
        return float("nan") if found is None else found

    return Member(
        judge=name,
        missing=sum(one is None for one in own) / len(own) if own else 0.0,
        with_others=interval(correlation, *clusters, bounds=(-1, 1), resamples=resamples, seed=seed),
        kindness=mean_interval(ahead, *clusters, resamples=resamples, seed=seed),
        alpha_without=krippendorff_alpha(others),
    )


def _rows(table: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[list[float | None]]:
    return [[None if np.isnan(one) else float(one) for one in row] for row in table]


def _joined(named: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each name's values over those that have it."""
    names = dict.fromkeys(name for one in named for name in one)
    return {name: fmean(one[name] for one in named if name in one) for name in names}


def _said(verdict: Verdict | None, name: str) -> float | None:
    part = None if verdict is None else verdict.parts.get(f"{_MEMBER}{name}")
    return None if part is None else 1 + 4 * part
