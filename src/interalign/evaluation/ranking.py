"""Does the order of the models hold? Rankings under several users and judges, and how sure each one is.

A ranking is by mean AL over the replies that all ranked models of the setting have a verdict on, so that what one of
them lacks moves nobody; what is left out for that is counted. A model with verdicts at less than half of the turns has
no rank, for it would leave the others next to nothing. The cases are drawn again as one sample for all settings: a draw
that is easy on a model is so everywhere.

Which of two models stands above the other is told by their paired difference, whose draws have the spread that
`statistics` gives every difference. Ranks and Kendall's tau are made of these orders and of nothing else. Models that
tie share their ranks. What is undefined is None, and where the order of two models hangs on too few people there is
neither an interval nor a share.

Kendall's tau-b is twenty lines here, and not SciPy's: that is a download of 40 MB for one number, and for a bootstrap
it is needed for ten thousand rankings at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table
from rich.text import Text

from interalign.errors import InputError
from interalign.evaluation.crossed import Clusters
from interalign.evaluation.groups import clusters_of_people
from interalign.evaluation.measures import SCALE
from interalign.evaluation.metrics import Floats
from interalign.evaluation.notation import UNDEFINED, interval, number
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.statistics import (
    Drawn,
    Estimate,
    Ratio,
    calibrated,
    estimates_of,
    mean_over_turns,
    percentiles,
    resample,
)
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

# The share of the verdicts that a ranked model has at least.
_LEAST = 0.5
_LEAST_FOR_TAU = 3
_TAU_NEEDS = "Kendall's tau needs three models: of two it could only be 1 or -1, so their order is told in words."
# Means of equal scores may differ by rounding.
_NO_DIFFERENCE = 1e-9


class Rank(Value):
    """Where one model stands in one setting."""

    model: str
    level: Estimate
    """Mean AL, over what all ranked models of the setting have a verdict on; undefined for those without a rank."""
    shares: tuple[float, ...]
    """In what share of the resamples it has rank 1, 2, ...; empty where it has no level, or an order is not known."""

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
    turns: int = 0
    """All turns of all cases."""
    left_out: int = 0
    """Those at which not every ranked model has a verdict."""
    unranked: tuple[str, ...] = ()
    """Models with verdicts at less than half of the turns."""


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
    # As many cases and the same seed: the same draws for all settings.
    found = {
        name: _orders({model: rows[model] for model in models}, cases, clusters, resamples=resamples, seed=seed)
        for name, rows in settings.items()
    }
    return Stability(
        models=tuple(models),
        rankings=tuple(_ranking(name, orders) for name, orders in found.items()),
        agreements=tuple(
            TauPair(first=one, second=other, tau=_agreement(found[one], found[other]))
            for one, other in combinations(found, 2)
        ),
        resamples=resamples,
        seed=seed,
    )


@dataclass(frozen=True)
class _Orders:
    """Who stands above whom in one setting."""

    levels: Mapping[str, Estimate]
    """By model."""
    signs: Floats
    """1 where the second model of a pair stands above the first, -1 the reverse: (1 + resamples, pairs)."""
    known: NDArray[np.bool_]
    """Whether there is an interval of the difference: (pairs,)."""
    counted: float
    """Of how many cases the orders are."""
    cases: int
    turns: int
    left_out: int
    unranked: tuple[str, ...]


def _orders(rows: Rows, cases: Sequence[str], clusters: Clusters, *, resamples: int, seed: int) -> _Orders:
    """The orders in one setting, which need not have all the cases that are drawn."""
    scores = _scores(rows, cases)
    met = {row.case for of_model in rows.values() for row in of_model}
    turns = len(met) * scores.shape[2]
    ranked = (~np.isnan(scores)).sum((1, 2)) >= _LEAST * turns
    common = _in_common(scores, ranked)
    first, second = np.triu_indices(len(scores), 1)
    ratios = {"al": Ratio.of(common), "gains": Ratio.of(common[second] - common[first])}
    drawn = resample(ratios, clusters, resamples=resamples, seed=seed)
    here = np.array([case in met for case in cases])
    levels, gains = (_of_cases(mean_over_turns(drawn[name]), here) for name in ("al", "gains"))
    draws = calibrated(gains, clusters.of(here))
    return _Orders(
        levels=dict(zip(rows, estimates_of(levels, clusters.of(here), bounds=SCALE), strict=True)),
        signs=np.where(np.abs(draws) < _NO_DIFFERENCE, 0.0, np.sign(draws)),
        known=np.array([one.low is not None for one in percentiles(draws, gains.counted)]),
        counted=float(gains.counted.max()),
        cases=len(met),
        turns=turns,
        left_out=turns - int((~np.isnan(common)).any(0).sum()),
        unranked=tuple(name for name, is_ranked in zip(rows, ranked, strict=True) if not is_ranked),
    )


def _of_cases(drawn: Drawn, kept: NDArray[np.bool_]) -> Drawn:
    """The same, if those who are not kept add nothing to it."""
    return Drawn(draws=drawn.draws, influence=drawn.influence[kept], counted=drawn.counted)


def _in_common(scores: Floats, ranked: NDArray[np.bool_]) -> Floats:
    """The scores of the ranked models at the turns at which all of them have one; NaN for all else."""
    lacking = np.isnan(scores[ranked]).any(0)
    return np.where(lacking | ~ranked[:, None, None], np.nan, scores)


def _agreement(one: _Orders, other: _Orders) -> Estimate:
    """Tau of two settings, over the pairs of models that both rank; undefined where there is none.

    It has an interval where all these orders have one.
    """
    both = ~(np.isnan(one.signs[0]) | np.isnan(other.signs[0]))
    taus = _taus(one.signs[:, both], other.signs[:, both])[:, None]
    counted = min(one.counted, other.counted) if (one.known & other.known)[both].all() else 0.0
    return percentiles(taus, np.array([counted]), steps=True)[0]


def kendall_tau_b(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Kendall's tau-b of two series of the same length; None where one of them does not vary.

    The pairs in the same order minus those in the reverse order, over the geometric mean of the pairs that are not tied
    in the one and in the other (Kendall, Biometrika 33, 1945).
    """
    pairs = np.triu_indices(len(one), 1)
    both = (np.array(values, dtype=np.float64) for values in (one, other))
    tau = _taus(*(np.sign(values[pairs[1]] - values[pairs[0]])[None] for values in both))[0]
    return None if np.isnan(tau) else float(tau)


def _taus(one: Floats, other: Floats) -> Floats:
    """Tau-b of each row of two arrays of orders, (draws, pairs); NaN where it is undefined."""
    agreed = (one * other).sum(1)
    untied = np.sqrt((one**2).sum(1) * (other**2).sum(1))
    taus: Floats = np.divide(agreed, untied, out=np.full_like(agreed, np.nan), where=untied > 0)
    return taus


def _scores(rows: Rows, cases: Sequence[str]) -> Floats:
    """The scores of (models, cases, turns), NaN for missing."""
    place = {case: index for index, case in enumerate(cases)}
    turns = max(row.turn for of_model in rows.values() for row in of_model)
    scores = np.full((len(rows), len(cases), turns), np.nan)
    for index, of_model in enumerate(rows.values()):
        for row in of_model:
            if row.verdict is not None and not row.repeat:
                scores[index, place[row.case], row.turn - 1] = row.verdict.score
    return scores


def _ranking(setting: str, orders: _Orders) -> Ranking:
    ranked = [place for place, level in enumerate(orders.levels.values()) if level.value is not None]
    shares = dict(zip(ranked, _shares(orders, ranked), strict=True))
    ranks = [
        Rank(model=name, level=level, shares=tuple(map(float, shares.get(place, ()))))
        for place, (name, level) in enumerate(orders.levels.items())
    ]
    ordered = sorted(ranks, key=lambda one: -np.inf if one.level.value is None else one.level.value, reverse=True)
    return Ranking(
        setting=setting,
        cases=orders.cases,
        ranks=tuple(ordered),
        turns=orders.turns,
        left_out=orders.left_out,
        unranked=orders.unranked,
    )


def _shares(orders: _Orders, ranked: Sequence[int]) -> Floats:
    """How often each model has each rank, (models, ranks); without ranks where an order is not known.

    A model's place is by how many stand below it less how many above: models whose orders go round in a circle share.
    """
    first, second = np.triu_indices(len(orders.levels), 1)
    pairs = np.flatnonzero(np.isin(first, ranked) & np.isin(second, ranked))
    whole = ~np.isnan(orders.signs[1:, pairs]).any(1)
    if len(ranked) < 2 or not orders.known[pairs].all() or not whole.any():
        return np.zeros((len(ranked), 0))
    wins = np.zeros((len(orders.levels), len(pairs)))
    wins[second[pairs], np.arange(len(pairs))] = 1.0
    wins[first[pairs], np.arange(len(pairs))] = -1.0
    won = (orders.signs[1:, pairs][whole] @ wins.T)[:, ranked]
    above = (won[:, None, :] > won[:, :, None]).sum(2)
    tied = (won[:, None, :] == won[:, :, None]).sum(2)
    held = [((above <= rank) & (rank < above + tied)) / tied for rank in range(len(ranked))]
    shares: Floats = np.stack(held, axis=2).mean(0)
    return shares


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
            stands = UNDEFINED if rank.level.value is None else str(place)
            table.add_row(stands, Text(rank.model), level, _ends(rank.level), best, number(rank.expected, 1))
        whole.add_row(table)
        for sentence in _left_out(ranking):
            whole.add_row(Text(sentence, style="dim"))
    if found.agreements:
        whole.add_row(_agreements_table(found))
    if any(len(_ranked_by_both(found, pair)) < _LEAST_FOR_TAU for pair in found.agreements):
        whole.add_row(Text(_TAU_NEEDS, style="dim"))
    return whole


def _agreements_table(found: Stability) -> Table:
    table = Table(title="Do they agree on the order?", box=box.HORIZONTALS, padding=(0, 1))
    few = {place: len(_ranked_by_both(found, pair)) < _LEAST_FOR_TAU for place, pair in enumerate(found.agreements)}
    for name in ("", "", "order") if all(few.values()) else ("", "", "Kendall's tau-b", "95 %"):
        table.add_column(name, justify="right" if name not in ("", "order") else "left")
    for place, pair in enumerate(found.agreements):
        cells = [_in_words(pair.tau)] if few[place] else [number(pair.tau.value), _ends(pair.tau)]
        table.add_row(Text(pair.first), Text(pair.second), *cells)
    return table


def _ranked_by_both(found: Stability, pair: TauPair) -> list[str]:
    ranked = {one.setting: {rank.model for rank in one.ranks if rank.level.value is not None} for one in found.rankings}
    return [model for model in found.models if model in ranked[pair.first] & ranked[pair.second]]


def _in_words(tau: Estimate) -> str:
    """Whether two settings put two models in the same order."""
    if tau.value is None:
        return "not known: one of them has a tie, or ranks fewer than two"
    order = "the same" if tau.value > 0 else "the other way round"
    return f"{order}, but not surely" if tau.low is None or tau.low != tau.high else order


def _left_out(ranking: Ranking) -> Iterator[str]:
    """Which models and which turns a ranking is not made of."""
    if ranking.unranked:
        names = ", ".join(ranking.unranked)
        yield f"Not ranked, because of verdicts at less than half of the {ranking.turns:,} turns: {names}."
    if ranking.left_out and len(ranking.unranked) < len(ranking.ranks):
        yield (
            f"{ranking.left_out:,} of {ranking.turns:,} turns are left out, because not every ranked model has a "
            "verdict there: models are ranked by what all of them have."
        )


def _ends(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return interval(estimate.low, estimate.high)
