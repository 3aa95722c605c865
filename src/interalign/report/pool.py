"""The page of a persona pool: how it was grown, what it covers, what was refused, what is held out.

It follows the rules of every page, see `shell`, and numbers are the summary's. What a large pool has too much of is
drawn evenly, and the page says how much of it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, TypeVar

from interalign.evaluation.summary import UNDEFINED, number
from interalign.messages import Value
from interalign.personas.coverage import shown
from interalign.personas.description import PLURALS, Description, Kind
from interalign.personas.grow import CandidateRow
from interalign.personas.pool import KindSummary, PoolSummary
from interalign.personas.projection import PoolMap
from interalign.report.island import Json
from interalign.report.shell import fill
from interalign.run import write_text

__all__ = ["MOST_PLACES", "MOST_REJECTED", "PoolIsland", "pool_island", "render", "write"]

V = TypeVar("V", bound=Value)

MOST_PLACES = 5_000
"""At most this many descriptions stand on the maps together."""
MOST_REJECTED = 2_000
"""At most this many rejected candidates are listed."""

_LONGEST_TEXT = 1_500
_MOST_PAIRS = 20
_ORDERED = (
    "age",
    "education",
    "openness",
    "conscientiousness",
    "extraversion",
    "agreeableness",
    "neuroticism",
    "difficulty",
)
_METHODS = {
    "pca": "Laid out by principal components (PCA): what differs most lies furthest apart.",
    "umap": "Laid out by UMAP: neighbours stay together, but distances between groups and their sizes mean little.",
}


def write(
    path: Path,
    summary: PoolSummary,
    pools: Sequence[Description],
    candidates: Sequence[CandidateRow],
    where: Mapping[Kind, PoolMap],
    sides: Mapping[str, str],
    *,
    title: str,
    facts: Mapping[str, str],
) -> None:
    """Render the page and put it at `path`, whole or not at all; the arguments are those of `render`.

    Raises:
        StorageError: the page cannot be written.
    """
    write_text(path, render(summary, pools, candidates, where, sides, title=title, facts=facts))


def render(
    summary: PoolSummary,
    pools: Sequence[Description],
    candidates: Sequence[CandidateRow],
    where: Mapping[Kind, PoolMap],
    sides: Mapping[str, str],
    *,
    title: str,
    facts: Mapping[str, str],
) -> str:
    """The page as one string.

    Args:
        summary: All numbers of the page.
        pools: The descriptions of both kinds.
        candidates: What became of each candidate, seeds among them.
        where: The map of each kind; a description without a place is not drawn.
        sides: By a description's id: "train", "heldout" or "refused".
        title: Of the page.
        facts: How the pool came about (recipe, seed, versions), in the order in which it is shown.
    """
    data = pool_island(summary, pools, candidates, where, sides)
    return fill(
        "pool.html.jinja",
        styles=["page.css", "pool.css"],
        script="pool.js",
        data=data,
        title=title,
        facts=facts,
        summary=summary,
        headline=_headline(summary),
        kinds=[
            _view(one, figures, where.get(one.kind)) for one, figures in zip(summary.kinds, data["kinds"], strict=True)
        ],
        shown_rejected=sum(len(one["rejected"]) for one in data["kinds"]),
        all_rejected=sum(one["allRejected"] for one in data["kinds"]),
        most_pairs=_MOST_PAIRS,
        percent=_percent,
        counted=_counted,
        cosine="{:g}".format,
        span=_span,
    )


# -- What the script reads --------------------------------------------------------------------------------------


class KindFigures(TypedDict):
    """One kind under the names that the script knows."""

    kind: Kind
    plural: str
    threshold: float
    growth: list[Json]
    dimensions: list[Json]


class KindIsland(KindFigures):
    """With its points and rejected candidates, and how many there were to draw from. Texts are places in `texts`."""

    points: list[dict[str, Json]]
    allPoints: int
    rejected: list[dict[str, Json]]
    allRejected: int


class PoolIsland(TypedDict):
    """The data of the page's script; no text stands in it twice."""

    kinds: list[KindIsland]
    texts: list[str]


def pool_island(
    summary: PoolSummary,
    pools: Sequence[Description],
    candidates: Sequence[CandidateRow],
    where: Mapping[Kind, PoolMap],
    sides: Mapping[str, str],
) -> PoolIsland:
    """Curves, points and rejected candidates of every kind, bounded.

    What is too much is drawn evenly in the order of entry. The room is parted equally between the kinds, and on each
    map between training descriptions and the few others; what one part does not need goes to the other.
    """
    texts: dict[str, int] = {}
    members = [_with_a_place(pools, where.get(one.kind), one.kind) for one in summary.kinds]
    rejected = [
        [row for row in candidates if row.kind == one.kind and row.call is not None and row.verdict == "rejected"]
        for one in summary.kinds
    ]
    entered = {row.id: row for row in candidates if row.verdict != "rejected"}
    by_id = {one.id: one.text for one in pools}
    places = _allotted(map(len, members), MOST_PLACES)
    listed = _allotted(map(len, rejected), MOST_REJECTED)
    return {
        "kinds": [
            {
                **_figures(one),
                "points": [
                    _point(description, where[one.kind].places[description.id], sides, entered, one, texts)
                    for description in _drawn(members[index], sides, places[index])
                ],
                "allPoints": len(members[index]),
                "rejected": [_rejected(row, by_id, texts) for row in _evenly(rejected[index], listed[index])],
                "allRejected": len(rejected[index]),
            }
            for index, one in enumerate(summary.kinds)
        ],
        # Filled above, so it must come last.
        "texts": list(texts),
    }


def _figures(one: KindSummary) -> KindFigures:
    return {
        "kind": one.kind,
        "plural": PLURALS[one.kind],
        "threshold": one.threshold,
        "growth": [list(step) for step in one.growth],
        "dimensions": [
            {"name": name, "ordered": name in _ORDERED, "levels": list(levels)}
            for name, levels in one.coverage.counts.items()
        ],
    }


def _with_a_place(pools: Sequence[Description], where: PoolMap | None, kind: Kind) -> list[Description]:
    return [] if where is None else [one for one in pools if one.kind == kind and one.id in where.places]


def _point(
    one: Description,
    place: tuple[float, float],
    sides: Mapping[str, str],
    entered: Mapping[str, CandidateRow],
    summary: KindSummary,
    texts: dict[str, int],
) -> dict[str, Json]:
    row = entered.get(one.id)
    shows = row.shows if row else shown(one.kind, one.text)
    levels: list[Json] = [
        list(counts).index(shows[name]) if shows.get(name) in counts else None
        for name, counts in summary.coverage.counts.items()
    ]
    return {
        "x": place[0],
        "y": place[1],
        "text": _number(one.text, texts),
        "side": sides.get(one.id),
        "origin": one.origin,
        "score": row.score if row else None,
        "levels": levels,
    }


def _rejected(row: CandidateRow, by_id: Mapping[str, str], texts: dict[str, int]) -> dict[str, Json]:
    nearest = by_id.get(row.nearest) if row.nearest else None
    return {
        "text": _number(row.text, texts),
        "reason": row.reason,
        "score": row.score,
        "nearest": None if nearest is None else _number(nearest, texts),
    }


def _number(text: str, texts: dict[str, int]) -> int:
    """The text's number among `texts`, where it is put if it is new. A text far too long is cut with a mark."""
    if len(text) > _LONGEST_TEXT:
        text = text[:_LONGEST_TEXT] + f" [... {len(text) - _LONGEST_TEXT:,} more characters]"
    return texts.setdefault(text, len(texts))


def _drawn(members: Sequence[Description], sides: Mapping[str, str], most: int) -> list[Description]:
    rare = [one for one in members if sides.get(one.id) in ("heldout", "refused")]
    rest = [one for one in members if sides.get(one.id) not in ("heldout", "refused")]
    room = _allotted((len(rare), len(rest)), most)
    return [*_evenly(rare, room[0]), *_evenly(rest, room[1])]


def _evenly(items: Sequence[V], most: int) -> list[V]:
    """At most so many items, evenly spaced."""
    if len(items) <= most:
        return list(items)
    return [items[index * len(items) // most] for index in range(most)]


def _allotted(sizes: Iterable[int], most: int) -> list[int]:
    """Room for each, equal parts of `most`; what the smaller ones leave goes to the larger ones."""
    wanted = list(sizes)
    room = [0] * len(wanted)
    for left, index in zip(range(len(wanted), 0, -1), sorted(range(len(wanted)), key=wanted.__getitem__), strict=True):
        room[index] = min(wanted[index], (most - sum(room)) // left)
    return room


# -- What stands in the markup ----------------------------------------------------------------------------------


class Bar(Value):
    """One bar: its count, and its length and mark as shares of the longest bar beside it."""

    label: str
    count: int
    length: float
    share: float | None = None
    """Of the whole that the bars divide up."""
    quiet: bool = False


class DimensionView(Value):
    """How the descriptions of a kind spread over one dimension."""

    name: str
    evenness: float | None
    followed: float | None
    even: float
    """Where the bars of all levels would end if the stated ones were spread evenly."""
    bars: tuple[Bar, ...]


class KindView(Value):
    """One kind, ready to be shown."""

    plural: str
    summary: KindSummary
    story: str
    dimensions: tuple[DimensionView, ...]
    fates: tuple[Bar, ...]
    map_note: str | None


def _view(one: KindSummary, data: KindIsland, where: PoolMap | None) -> KindView:
    coverage = one.coverage
    return KindView(
        plural=PLURALS[one.kind],
        summary=one,
        story=_story(one),
        dimensions=tuple(
            _dimension(
                name, levels, coverage.unstated.get(name, 0), coverage.evenness.get(name), one.followed.get(name)
            )
            for name, levels in coverage.counts.items()
        ),
        fates=_bars({"accepted": one.accepted, **one.rejections}, of=one.candidates),
        map_note=None if where is None or not data["points"] else _map_note(data, where),
    )


def _dimension(
    name: str, levels: Mapping[str, int], unstated: int, evenness: float | None, followed: float | None
) -> DimensionView:
    longest = max(*levels.values(), unstated, 1)
    bars = [Bar(label=level, count=count, length=count / longest) for level, count in levels.items()]
    return DimensionView(
        name=name,
        evenness=evenness,
        followed=followed,
        even=sum(levels.values()) / max(len(levels), 1) / longest,
        bars=(*bars, Bar(label="not stated", count=unstated, length=unstated / longest, quiet=True)),
    )


def _bars(counts: Mapping[str, int], of: int) -> tuple[Bar, ...]:
    longest = max(*counts.values(), 1)
    return tuple(
        Bar(label=name, count=count, length=count / longest, share=count / of if of else None, quiet=name != "accepted")
        for name, count in counts.items()
    )


def _headline(summary: PoolSummary) -> tuple[str, str]:
    """In two halves, between which a narrow page breaks the line."""
    pools = " and ".join(_counted(one.size, one.kind, PLURALS[one.kind]) for one in summary.kinds)
    return f"{pools};", f"{_counted(summary.train, 'persona')} to train on, {summary.heldout:,} held out"


def _story(one: KindSummary) -> str:
    """How one pool grew and why it stopped, or that it did not need to, in a sentence."""
    plural = PLURALS[one.kind]
    if not one.calls:
        return f"The pool of {plural} was complete from the start, with {_counted(one.size, 'description')}."
    return (
        f"The {plural} grew from {_counted(one.seeds, 'seed')} to {one.size:,} with "
        f"{_counted(one.candidates, 'candidate')}, and stopped because {_stop(one)}."
    )


def _stop(one: KindSummary) -> str:
    match one.stop:
        case "target":
            return f"their target of {one.size:,} was reached"
        case "saturated":
            least = f"{100 * one.min_acceptance:g}\N{NO-BREAK SPACE}%"
            return f"fewer than {least} of the last {one.last_candidates:,} candidates were new"
        case "budget":
            tokens = one.prompt_tokens + one.completion_tokens
            return f"the budget was spent, with {_counted(one.calls, 'call')} and {_counted(tokens, 'token')}"
        case "unreadable":
            return "nothing in the last answers could be read"


def _map_note(data: KindIsland, where: PoolMap) -> str:
    kept = "" if where.kept is None else f" These two directions keep {_percent(where.kept)} of the variance."
    drawn, whole = len(data["points"]), data["allPoints"]
    part = ""
    if drawn < whole:
        part = f" {drawn:,} of {whole:,} are drawn, evenly; half of the room is kept for those not trained on."
    return f"{_METHODS[where.method]}{kept}{part}"


def _counted(count: int, noun: str, plural: str | None = None) -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def _span(bounds: tuple[int, int]) -> str:
    least, most = bounds
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _percent(share: float | None) -> str:
    """A share in percent; with a decimal where rounding would say none, all, or little more than nothing."""
    if share is None:
        return UNDEFINED
    whole = 0.1 <= share < 0.995 or share in (0, 1)
    return f"{number(100 * share, 0 if whole else 1)}\N{NO-BREAK SPACE}%"
