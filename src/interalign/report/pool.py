"""The page of a persona pool: how it was grown, what it covers, what was refused, what is held out.

It follows the rules of every page, see `shell`, and numbers are the summary's. What a large pool has too much of is
drawn evenly, and the page says how much of it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from interalign.messages import Value
from interalign.personas.coverage import dimensions, shown
from interalign.personas.description import PLURALS, Description, Kind
from interalign.personas.grow import CandidateRow
from interalign.personas.pool import KindSummary, PoolMaps, PoolSummary
from interalign.personas.projection import PoolMap
from interalign.report.growth import counted, judged, no_room, rejections, span, story
from interalign.report.island import Json, evenly
from interalign.report.shell import fill, percent
from interalign.run import write_text

__all__ = ["MOST_PLACES", "MOST_REJECTED", "PoolIsland", "PoolPage", "pool_island", "render", "write"]

MOST_PLACES = 5_000
"""At most this many descriptions stand on the maps together."""
MOST_REJECTED = 2_000
"""At most this many rejected candidates are listed."""

_LONGEST_TEXT = 1_500
_MOST_PAIRS = 20
_METHODS = {
    "pca": "Laid out by principal components (PCA): what differs most lies furthest apart.",
    "umap": "Laid out by UMAP: neighbours stay together, but distances between groups and their sizes mean little.",
}


@dataclass(frozen=True)
class PoolPage:
    """What the page of a pool is made from."""

    summary: PoolSummary
    """All numbers of the page."""
    pools: Sequence[Description]
    """The descriptions of both kinds."""
    candidates: Sequence[CandidateRow]
    """What became of each candidate, seeds among them."""
    maps: PoolMaps
    """A description without a place is not drawn."""
    title: str
    facts: Mapping[str, str]
    """How the pool came about (recipe, seed, versions), in the order in which it is shown."""


def write(path: Path, page: PoolPage) -> None:
    """Render the page and put it at `path`, whole or not at all.

    Raises:
        StorageError: the page cannot be written.
    """
    write_text(path, render(page))


def render(page: PoolPage) -> str:
    """The page as one string."""
    summary, data = page.summary, pool_island(page)
    return fill(
        "pool.html.jinja",
        styles=["page.css", "pool.css"],
        scripts=["pool.js"],
        data=data,
        title=page.title,
        facts=page.facts,
        summary=summary,
        headline=_headline(summary),
        kinds=[
            _view(one, figures, page.maps.maps.get(one.kind))
            for one, figures in zip(summary.kinds, data["kinds"], strict=True)
        ],
        shown_rejected=sum(len(one["rejected"]) for one in data["kinds"]),
        all_rejected=sum(one["allRejected"] for one in data["kinds"]),
        most_pairs=_MOST_PAIRS,
        percent=percent,
        counted=counted,
        cosine="{:g}".format,
        span=span,
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


def pool_island(page: PoolPage) -> PoolIsland:
    """Curves, points and rejected candidates of every kind, bounded.

    What is too much is drawn evenly in the order of entry. The room is parted equally between the kinds, and on each
    map between training descriptions and the few others; what one part does not need goes to the other.
    """
    texts: dict[str, int] = {}
    kinds, where, sides = page.summary.kinds, page.maps.maps, page.maps.sides
    members = [_with_a_place(page.pools, where.get(one.kind), one.kind) for one in kinds]
    rejected = [
        [
            row
            for row in page.candidates
            if row.kind == one.kind and row.call is not None and row.reason in rejections(one)
        ]
        for one in kinds
    ]
    entered = {row.id: row for row in page.candidates if row.verdict != "rejected"}
    by_id = {one.id: one.text for one in page.pools}
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
                "rejected": [_rejected(row, by_id, texts) for row in evenly(rejected[index], listed[index])],
                "allRejected": len(rejected[index]),
            }
            for index, one in enumerate(kinds)
        ],
        # Filled above, so it must come last.
        "texts": list(texts),
    }


def _figures(one: KindSummary) -> KindFigures:
    ordered = {dimension.name for dimension in dimensions(one.kind) if dimension.ordered}
    return {
        "kind": one.kind,
        "plural": PLURALS[one.kind],
        "threshold": one.threshold,
        "growth": [list(step) for step in one.growth],
        "dimensions": [
            {"name": name, "ordered": name in ordered, "levels": list(levels)}
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
    return [*evenly(rare, room[0]), *evenly(rest, room[1])]


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
    judged: int
    no_room: int
    map_note: str | None


def _view(one: KindSummary, data: KindIsland, where: PoolMap | None) -> KindView:
    coverage = one.coverage
    return KindView(
        plural=PLURALS[one.kind],
        summary=one,
        story=story(one),
        dimensions=tuple(
            _dimension(
                name, levels, coverage.unstated.get(name, 0), coverage.evenness.get(name), one.followed.get(name)
            )
            for name, levels in coverage.counts.items()
        ),
        fates=_bars({"accepted": one.accepted, **rejections(one)}, of=judged(one)),
        judged=judged(one),
        no_room=no_room(one),
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
    pools = " and ".join(counted(one.size, one.kind, PLURALS[one.kind]) for one in summary.kinds)
    return f"{pools};", f"{counted(summary.train, 'persona')} to train on, {summary.heldout:,} held out"


def _map_note(data: KindIsland, where: PoolMap) -> str:
    kept = "" if where.kept is None else f" These two directions keep {percent(where.kept)} of the variance."
    drawn, whole = len(data["points"]), data["allPoints"]
    part = ""
    if drawn < whole:
        part = f" {drawn:,} of {whole:,} are drawn, evenly; half of the room is kept for those not trained on."
    return f"{_METHODS[where.method]}{kept}{part}"
