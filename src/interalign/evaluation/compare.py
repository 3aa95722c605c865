"""Models of several evaluations side by side, on the people whom all of them have met.

Differences are paired, so the evaluations must be of the same turns, the same users and the same judge: what differs
otherwise would be counted for a model. What cannot be compared is refused with its reason, and whoever is left out is
counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.table import Table
from rich.text import Text

from interalign.errors import InputError
from interalign.evaluation.notation import interval, number, p_value
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.statistics import Estimate
from interalign.evaluation.summary import Kind, PairDifference, Summary, summarise
from interalign.messages import Value
from interalign.personas.persona import Persona

__all__ = [
    "Comparison",
    "Joined",
    "Results",
    "Source",
    "compare",
    "comparison_table",
    "differing_turns",
    "join",
    "turns_in_words",
]

_LEAST = 2
_ALPHA = 0.05
_SAME = "evaluate both with the same users and the same judge."
_TOLD = {"sampling": "The sampling of the replies is", "checks": "The checks of what users say are"}
_MENDS = {
    "sampling": "evaluate both with the same benchmark.max_tokens, benchmark.temperature and benchmark.top_p.",
    "checks": "evaluate both with the same benchmark.checks.",
}
"""By the names of `Results.setting`; of other roles the same is said of users and judge."""


@dataclass(frozen=True)
class Results:
    """What one evaluation has left, or one judging of it anew."""

    label: str
    """Which one it is, in a few words; no two have the same."""
    summary: Summary
    rows: Mapping[str, Sequence[TurnRow]]
    """Of every model and control that the summary tells of."""
    people: Mapping[str, Persona] = field(default_factory=dict)
    """Those of the cases that are known, by id."""
    setting: Mapping[str, str] = field(default_factory=dict)
    """Who played the user and who judged, by the name of the role, `sampling` of the replies and `checks` of the user,
    as far as that is recorded."""


class Source(Value):
    """How many people of one evaluation are compared."""

    label: str
    cases: int
    left_out: int
    """Those whom another evaluation has not met."""


@dataclass(frozen=True)
class Joined:
    """Models of several evaluations, with the rows of the people whom all have met."""

    rows: Mapping[str, Sequence[TurnRow]]
    kinds: Mapping[str, Kind]
    cases: tuple[str, ...]
    people: Mapping[str, Persona]
    sources: tuple[Source, ...]
    notes: tuple[str, ...]
    """What a reader should know of the joining."""
    world: str
    resamples: int
    seed: int


class Comparison(Value):
    """Models of several evaluations compared; every pair stands in the summary's `pairs`."""

    summary: Summary
    sources: tuple[Source, ...]
    notes: tuple[str, ...] = ()


def join(results: Sequence[Results], *, controls: bool = False) -> Joined:
    """Put the models of several evaluations together.

    A model whose name another evaluation has as well is called by its evaluation, too, unless it has said the same and
    was judged alike: then it is one model.

    Args:
        results: Two or more, or one whose models are to be compared among each other.
        controls: Keep the controls.

    Raises:
        InputError: the evaluations have other turns, users, judges or sampling, have fewer than two people in common,
            or hold fewer than two models together.
    """
    _check_same(results)
    met = [{row.case for rows in one.rows.values() for row in rows} for one in results]
    shared = set.intersection(*met)
    if len(shared) < _LEAST:
        raise InputError(
            f"{_named(results)} have {len(shared)} of their people in common, and a paired comparison needs two.",
            mend="evaluate the models on the same held-out personas.",
        )
    kept = [_kept(one, shared, controls=controls) for one in results]
    rows, kinds, notes = _named_apart(results, kept)
    if len(rows) < _LEAST:
        raise InputError(f"{_named(results)} hold one model together.", mend="name a run with another model as well.")
    people = {case: one.people[case] for one in results for case in sorted(shared) if case in one.people}
    return Joined(
        rows=rows,
        kinds=kinds,
        cases=tuple(sorted(shared)),
        people=people,
        sources=tuple(
            Source(label=one.label, cases=len(cases), left_out=len(cases - shared))
            for one, cases in zip(results, met, strict=True)
        ),
        notes=(*notes, *_to_know(results)),
        world=results[0].summary.world,
        resamples=results[0].summary.resamples,
        seed=results[0].summary.seed,
    )


def compare(results: Sequence[Results], *, controls: bool = False, resamples: int | None = None) -> Comparison:
    """Every two models of several evaluations, on the people whom all have met.

    Args:
        results: As `join`.
        controls: Compare the controls as well.
        resamples: Behind each interval; left out, as in the first evaluation.

    Raises:
        InputError: as `join`, or a model has not met all the people that it should have.
    """
    joined = join(results, controls=controls)
    summary = summarise(
        joined.rows,
        baseline=next(iter(joined.rows)),
        world=joined.world,
        controls=[name for name, kind in joined.kinds.items() if kind == "control"],
        resamples=resamples or joined.resamples,
        seed=joined.seed,
        people=joined.people,
    )
    return Comparison(summary=summary, sources=joined.sources, notes=joined.notes)


def differing_turns(pair: PairDifference) -> tuple[int, ...]:
    """The turns at which two models differ: corrected by Holm over the turns of the pair, p is below 0.05."""
    return tuple(turn for turn, one in enumerate(pair.al, 1) if one.p is not None and one.p < _ALPHA)


def turns_in_words(turns: Sequence[int]) -> str:
    """Turns as they are told: "2, 4\N{EN DASH}7", or "none"."""
    runs: list[list[int]] = []
    for turn in turns:
        if runs and runs[-1][-1] == turn - 1:
            runs[-1].append(turn)
        else:
            runs.append([turn])
    told = (f"{run[0]}\N{EN DASH}{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    return ", ".join(told) or "none"


def _named(results: Sequence[Results]) -> str:
    return " and ".join(one.label for one in results)


def _check_same(results: Sequence[Results]) -> None:
    first, *others = results
    for other in others:
        if first.summary.turns != other.summary.turns:
            raise InputError(
                f"{first.label} has {first.summary.turns} turns and {other.label} has {other.summary.turns}: their "
                "curves cannot be compared.",
                mend="evaluate one of them again with the other's benchmark.turns.",
            )
        # What an evaluation does not record cannot be held against it.
        for name in sorted(first.setting.keys() & other.setting.keys()):
            if first.setting[name] != other.setting[name]:
                told = _TOLD.get(name, f"The {name} is")
                raise InputError(
                    f"{told} not the same: {first.setting[name]} in {first.label}, {other.setting[name]} in "
                    f"{other.label}. A difference of the models could not be told from that.",
                    mend=_one_judge(first, other) if name == "judge" else _MENDS.get(name, _SAME),
                )


def _one_judge(first: Results, other: Results) -> str:
    """How two evaluations by different judges get to one."""
    ranking = "How far the two judges agree, `interalign ranking` says"
    one, two = (results.setting["judge"] for results in (first, other))
    if _replies(first) == _replies(other):
        return (
            f"both are judgements of the same replies, so there are no other models to compare: compare {first.label} "
            f"with a run that {one} has judged, or {other.label} with one that {two} has judged. {ranking}."
        )
    return (
        f"both need one judge: name {other.label} as {one} has judged it, or {first.label} as {two} has; where that is "
        f"not done yet, `interalign rescore` does it and writes it to rescored/ of the run. {ranking}."
    )


def _replies(results: Results) -> dict[str, frozenset[tuple[str, int, int, str]]]:
    return {
        name: frozenset((row.case, row.repeat, row.turn, row.reply) for row in rows)
        for name, rows in results.rows.items()
    }


def _to_know(results: Sequence[Results]) -> Iterator[str]:
    if len({one.summary.seed for one in results}) > 1:
        yield (
            "The evaluations have other seeds, so the same people opened their conversations in other words: that is "
            "noise between the models of one evaluation and those of another."
        )
    if len({one.summary.world for one in results}) > 1:
        yield "The evaluations describe themselves in other words: " + "; ".join(
            f"{one.label}: {one.summary.world.rstrip('.')}" for one in results
        )
    for note in dict.fromkeys(note for one in results for note in one.summary.notes):
        labels = [one.label for one in results if note in one.summary.notes]
        yield note if len(labels) == len(results) else f"{', '.join(labels)}: {note}"
    unknown = [one.label for one in results if not one.setting]
    if unknown:
        yield f"Who played the user and who judged is not recorded with {', '.join(unknown)}."


def _kept(results: Results, shared: set[str], *, controls: bool) -> dict[str, tuple[TurnRow, ...]]:
    kinds = {model.name: model.kind for model in results.summary.models}
    return {
        name: tuple(row for row in rows if row.case in shared)
        for name, rows in results.rows.items()
        if controls or kinds.get(name) != "control"
    }


def _named_apart(
    results: Sequence[Results], kept: Sequence[Mapping[str, tuple[TurnRow, ...]]]
) -> tuple[dict[str, tuple[TurnRow, ...]], dict[str, Kind], list[str]]:
    """The rows and kinds of all models under names that tell them apart, and which of them are one."""
    times = Counter(name for rows in kept for name in rows)
    rows: dict[str, tuple[TurnRow, ...]] = {}
    kinds: dict[str, Kind] = {}
    same: list[str] = []
    for name in times:
        of_all = [(one, rows_of[name]) for one, rows_of in zip(results, kept, strict=True) if name in rows_of]
        # Rows may stand in another order in another file.
        is_one = len({frozenset(row.model_dump_json() for row in of_one) for _, of_one in of_all}) == 1
        same += [name] if is_one and len(of_all) > 1 else []
        for one, of_one in of_all[:1] if is_one else of_all:
            called = name if is_one else f"{one.label}: {name}"
            rows[called] = of_one
            kinds[called] = one.summary.model(name).kind
    told = f"The same in all that have it, and shown once: {', '.join(same)}."
    return rows, kinds, [told] if same else []


def comparison_table(found: Comparison) -> Table:
    """Every pair for a terminal of 80 columns, the second model minus the first, and how many people it rests on."""
    whole = Table.grid()
    table = Table(box=box.HORIZONTALS, padding=(0, 1))
    table.add_column("second \N{MINUS SIGN} first", overflow="fold")
    for name in ("mean AL", "IR"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("turns\nthat differ", justify="right", overflow="fold")
    for pair in found.summary.pairs:
        named = Text(f"{pair.second} \N{MINUS SIGN} {pair.first}")
        turns = turns_in_words(differing_turns(pair))
        table.add_row(named, _stacked(pair.mean_al), _stacked(pair.ir, 3), turns)
    for model in found.summary.models:
        if model.red:
            whole.add_row(Text(model.red, style="bold red"))
    whole.add_row(table)
    for sentence in (_basis(found), *found.notes):
        whole.add_row(Text(sentence, style="dim"))
    return whole


def _stacked(estimate: Estimate, digits: int = 2) -> Text:
    """The value with its p, and the interval under it."""
    value = number(estimate.value, digits, signed=True)
    if estimate.low is None or estimate.high is None:
        return Text(value)
    tested = "" if estimate.p is None else f"  p {p_value(estimate.p)}"
    return Text.assemble(value, (f"{tested}\n{interval(estimate.low, estimate.high, digits, signed=True)}", "dim"))


def _basis(found: Comparison) -> str:
    summary = found.summary
    left = ", ".join(f"{one.left_out:,} of {one.cases:,} in {one.label}" for one in found.sources if one.left_out)
    return (
        f"{summary.world.rstrip('.')}. {summary.models[0].cases:,} held-out persons whom all have met, {summary.turns} "
        f"turns. Left out: {left or 'nobody'}. Intervals: 95 %, from {summary.resamples:,} resamples of persons (seed "
        f"{summary.seed}). p of each pair by itself; turns corrected by Holm over the turns of a pair."
    )
