"""Does the order of the models hold? Rankings under several users and judges, and how sure each one is.

A ranking is by mean AL. The cases are drawn again as one sample for all settings: a draw that is easy on a model is so
everywhere. Where people share profiles or personalities, these are drawn (see `statistics`); the ranks are those of the
draws as they are, which makes a ranking look less sure than it is rather than surer. Models that tie share their ranks,
and what is undefined is None.

Kendall's tau-b is twenty lines here, and not SciPy's: that is a download of 40 MB for one number, and for a bootstrap
it is needed for ten thousand rankings at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TypeAlias

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from interalign.errors import InputError
from interalign.evaluation.crossed import Clusters
from interalign.evaluation.groups import clusters_of_people
from interalign.evaluation.metrics import Floats
from interalign.evaluation.notation import UNDEFINED, number
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.statistics import Drawn, Estimate, Ratio, estimates_of, mean_over_turns, resample
from interalign.messages import Value
from interalign.personas.persona import Persona

__all__ = [
    "Rank",
    "Ranking",
    "Stability",
    "TauPair",
    "kendall_tau_b",
    "stability",
    "stability_table",
]

Rows: TypeAlias = Mapping[str, Sequence[TurnRow]]
"""Judged replies by model."""

_TAIL = 0.025
_MOST_UNDEFINED = 0.05


class Rank(Value):
    """Where one model stands in one setting."""

    model: str
    level: Estimate
    """Mean AL."""
    shares: tuple[float, ...]
    """In what share of the resamples it has rank 1, 2, ...; empty where a level is undefined."""

    @property
    def best(self) -> float | None:
        """How often it is the best."""
        return self.shares[0] if self.shares else None

    @property
    def expected(self) -> float | None:
        """Its mean rank."""
        return sum(place * share for place, share in enumerate(self.shares, 1)) if self.shares else None


class Ranking(Value):
    """The models in one setting, the best first."""

    setting: str
    cases: int
    ranks: tuple[Rank, ...]


class TauPair(Value):
    """How far two settings agree on the order of the models: 1 the same order, -1 the reverse."""

    first: str
    second: str
    tau: Estimate


class Stability(Value):
    """The rankings of the same models in several settings, and how far every two of them agree."""

    models: tuple[str, ...]
    rankings: tuple[Ranking, ...]
    agreements: tuple[TauPair, ...]
    resamples: int
    seed: int


def stability(
    settings: Mapping[str, Rows],
    *,
    people: Mapping[str, Persona] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Stability:
    """Rank the models that all settings have, in each of them.

    Args:
        settings: By a name, what one pair of user and judge made of the models. Two or more for agreements; one alone
            is ranked all the same.
        people: Those of the cases, by id: who shares a profile or a personality is told by them.
        resamples: How often the cases are drawn again.
        seed: Of the draws.

    Raises:
        InputError: fewer than two models are in all settings.
    """
    models = [name for name in next(iter(settings.values()), {}) if all(name in rows for rows in settings.values())]
    if len(models) < 2:
        raise InputError(
            f"The {len(settings)} results have {len(models)} models in common; a ranking needs two.",
            mend="evaluate the same models, under the same names, everywhere.",
        )
    cases = sorted({row.case for rows in settings.values() for name in models for row in rows[name]})
    clusters = clusters_of_people(cases, people or {})
    levels = {}
    for setting, rows in settings.items():
        # As many cases and the same seed: the same draws for all settings.
        al = {"al": Ratio.of(_scores(rows, models, cases))}
        levels[setting] = mean_over_turns(resample(al, clusters, resamples=resamples, seed=seed)["al"])
    return Stability(
        models=tuple(models),
        rankings=tuple(_ranking(name, settings[name], models, drawn, clusters) for name, drawn in levels.items()),
        agreements=tuple(
            TauPair(
                first=one,
                second=other,
                tau=_interval(_taus(levels[one].draws, levels[other].draws), paired=len(cases) > 1),
            )
            for one, other in combinations(levels, 2)
        ),
        resamples=resamples,
        seed=seed,
    )


def kendall_tau_b(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Kendall's tau-b of two series of the same length; None where one of them does not vary.

    The pairs in the same order minus those in the reverse order, over the geometric mean of the pairs that are not tied
    in the one and in the other (Kendall, Biometrika 33, 1945).
    """
    tau = _taus(np.array([one], dtype=np.float64), np.array([other], dtype=np.float64))[0]
    return None if np.isnan(tau) else float(tau)


def _taus(one: Floats, other: Floats) -> Floats:
    """Tau-b of each row of two arrays (draws, models); NaN where it is undefined."""
    first, second = np.triu_indices(one.shape[1], 1)
    orders = [np.sign(levels[:, first] - levels[:, second]) for levels in (one, other)]
    agreed = (orders[0] * orders[1]).sum(1)
    untied = np.sqrt((orders[0] ** 2).sum(1) * (orders[1] ** 2).sum(1))
    taus: Floats = np.divide(agreed, untied, out=np.full_like(agreed, np.nan), where=untied > 0)
    return taus


def _scores(rows: Rows, models: Sequence[str], cases: Sequence[str]) -> Floats:
    """The scores of (models, cases, turns), NaN for missing."""
    place = {case: index for index, case in enumerate(cases)}
    turns = max(row.turn for name in models for row in rows[name])
    scores = np.full((len(models), len(cases), turns), np.nan)
    for index, name in enumerate(models):
        for row in rows[name]:
            if row.verdict is not None and not row.repeat:
                scores[index, place[row.case], row.turn - 1] = row.verdict.score
    return scores


def _ranking(setting: str, rows: Rows, models: Sequence[str], levels: Drawn, clusters: Clusters) -> Ranking:
    shares = _shares(levels.draws[1:])
    ranks = [
        Rank(model=name, level=level, shares=tuple(map(float, shares[index])))
        for index, (name, level) in enumerate(zip(models, estimates_of(levels, clusters), strict=True))
    ]
    ordered = sorted(ranks, key=lambda one: -np.inf if one.level.value is None else one.level.value, reverse=True)
    cases = len({row.case for name in models for row in rows[name]})
    return Ranking(setting=setting, cases=cases, ranks=tuple(ordered))


def _shares(levels: Floats) -> Floats:
    """How often each model has each rank: (draws, models) -> (models, ranks), without ranks where no draw is whole."""
    whole = levels[~np.isnan(levels).any(1)]
    models = levels.shape[1]
    if not len(whole):
        return np.zeros((models, 0))
    above = (whole[:, None, :] > whole[:, :, None]).sum(2)
    tied = (whole[:, None, :] == whole[:, :, None]).sum(2)
    held = [((above <= rank) & (rank < above + tied)) / tied for rank in range(models)]
    shares: Floats = np.stack(held, axis=2).mean(0)
    return shares


def _interval(draws: Floats, *, paired: bool) -> Estimate:
    """The first draw as the value, percentiles of the others as its interval."""
    if np.isnan(draws[0]):
        return Estimate()
    rest = draws[1:]
    defined = rest[~np.isnan(rest)]
    if not paired or not defined.size or defined.size < (1 - _MOST_UNDEFINED) * rest.size:
        return Estimate(value=float(draws[0]))
    low, high = np.quantile(defined, [_TAIL, 1 - _TAIL])
    return Estimate(value=float(draws[0]), low=float(low), high=float(high))


def stability_table(found: Stability) -> Table:
    """Rankings and agreements for a terminal."""
    whole = Table.grid()
    for ranking in found.rankings:
        table = Table(title=Text(f"{ranking.setting} ({ranking.cases:,} cases)"), box=box.HORIZONTALS, padding=(0, 1))
        for name in ("rank", "model", "mean AL", "95 %", "P(best)", "mean rank"):
            table.add_column(name, justify="left" if name == "model" else "right")
        for place, rank in enumerate(ranking.ranks, 1):
            best = UNDEFINED if rank.best is None else f"{rank.best:.0%}"
            level = number(rank.level.value)
            table.add_row(str(place), Text(rank.model), level, _ends(rank.level), best, number(rank.expected, 1))
        whole.add_row(table)
    if found.agreements:
        table = Table(title="Do they agree on the order?", box=box.HORIZONTALS, padding=(0, 1))
        for name in ("", "", "Kendall's tau-b", "95 %"):
            table.add_column(name, justify="right" if name else "left")
        for pair in found.agreements:
            table.add_row(Text(pair.first), Text(pair.second), number(pair.tau.value), _ends(pair.tau))
        whole.add_row(table)
    return whole


def _ends(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{number(estimate.low)} to {number(estimate.high)}"
