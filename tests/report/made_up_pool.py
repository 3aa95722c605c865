"""A made-up pool of personas for the report: descriptions, candidates, maps and the figures that belong to them."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from interalign.personas.coverage import Coverage
from interalign.personas.description import KINDS, Description, Kind
from interalign.personas.grow import CandidateRow, Rejection
from interalign.personas.pool import KindSummary, PoolMaps, PoolSummary
from interalign.personas.projection import PoolMap
from interalign.personas.split import NearPair
from interalign.report.pool import PoolPage

POLES = ("low", "high")
LEVELS: dict[Kind, dict[str, tuple[str, ...]]] = {
    "profile": {
        "age": ("18-24", "25-34", "35-49", "50-64", "65-79", "80 and over"),
        "region": (
            "Africa", "East Asia", "South Asia", "Southeast Asia and Oceania", "Middle East", "Europe", "Latin America",
            "North America",
        ),
        "occupation": (
            "care and health", "education", "trades and factory", "office and finance", "technology and science",
            "arts and media", "shop and hospitality", "farm and outdoors", "public service", "not in paid work",
        ),
        "household": (
            "alone", "with a partner", "with children", "single parent", "with parents or relatives", "shared home",
        ),
        "education": (
            "left school early", "school certificate", "vocational training", "bachelor's degree",
            "postgraduate degree",
        ),
    },
    "personality": {
        "openness": POLES, "conscientiousness": POLES, "extraversion": POLES, "agreeableness": POLES,
        "neuroticism": POLES, "style": ("terse", "talkative", "formal", "joking", "blunt", "tentative"),
        "difficulty": ("easy", "demanding", "difficult"),
    },
}  # fmt: skip
PHRASES: dict[Kind, tuple[tuple[str, ...], ...]] = {
    "profile": (
        ("Samira is 41 and repairs harbour cranes in Sfax", "Hyun-woo, 27, draws storyboards in Busan",
         "A widow of 72 keeps bees outside Cusco", "He is 19 and delivers bread before dawn in Porto",
         "They are 33 and teach the deaf in Winnipeg"),
        ("shares two rooms with a cousin who works nights", "lives alone above a shop that sells buttons",
         "brings up three children with a neighbour's help", "moved back to the parents' house after a fire",
         "rents a bed in a house of eight"),
        ("left school at fourteen to work", "holds a certificate in refrigeration", "studied geology without a degree",
         "finished a doctorate on lichens", "takes evening classes in accounting"),
        ("Most Sundays go to restoring a tandem bicycle", "A shelf of pickled lemons stands in the hall",
         "The dog, Biscuit, is afraid of balloons", "Every wage goes partly into a fund for a boat",
         "Nobody else in the family can whistle that loudly"),
    ),
    "personality": (
        ("She answers before the question is finished", "He weighs each word as if it cost money",
         "They turn every silence into a story", "She hears criticism where there is none",
         "He apologises for things that others did"),
        ("keeps lists of the lists", "forgets where the morning went", "asks why until nobody has an answer",
         "would rather lose than let a rule bend", "laughs at the own jokes first"),
        ("trusts strangers at once", "suspects a catch in any gift", "gives way to keep the peace",
         "remembers a slight for years", "says no and means it"),
        ("Plans calm the nerves", "Surprises are a treat", "A raised voice ends the talk",
         "Praise is brushed aside", "New ideas must first prove themselves"),
    ),
}  # fmt: skip
REASONS: dict[Rejection, float] = {
    "too similar": 0.8, "differs in name or gender only": 0.05,
    "too short": 0.05, "repeats itself": 0.03, "same text": 0.04,
    "speaks to a model": 0.01, "target reached": 0.02,
}  # fmt: skip
COMPARED = ("too similar", "differs in name or gender only", "same text")


def pool(
    profiles: int = 60, personalities: int = 24, rejected: int = 90, hostile: str = "", *, scripted: bool = False
) -> PoolPage:
    """A pool in which every text also contains `hostile`; each kind rejects `rejected` candidates."""
    chance = random.Random(11)
    sizes: dict[Kind, int] = {"profile": profiles, "personality": personalities}
    made = {kind: grown(kind, sizes[kind], rejected, hostile, chance) for kind in KINDS}
    sides = {one.id: side for kind in KINDS for one, side in zip(made[kind][0], drawn_sides(sizes[kind]), strict=True)}
    summary = PoolSummary(
        generator="a-model-of-8B" + hostile,
        scripted=scripted,
        encoder="all-MiniLM-L6-v2" + hostile,
        kinds=tuple(summarised(kind, *made[kind], sides) for kind in KINDS),
        train=3310,
        heldout=100,
        contradictions=1204,
        per_personality=(46, 47),
        per_profile=(10, 10),
    )
    return PoolPage(
        summary=summary,
        pools=[one for kind in KINDS for one in made[kind][0]],
        candidates=[row for kind in KINDS for row in made[kind][1]],
        maps=PoolMaps(
            maps={kind: mapped(made[kind][0], chance, "pca" if kind == "profile" else "umap") for kind in KINDS},
            sides=sides,
        ),
        title="A pool",
        facts={"Recipe": "pool.toml", "Seed": "7"},
    )


def grown(
    kind: Kind, size: int, rejected: int, hostile: str, chance: random.Random
) -> tuple[list[Description], list[CandidateRow]]:
    """A pool and all its candidates, seeds first; new ones get rarer and rarer."""
    seeds = min(20, size // 3)
    members: list[Description] = []
    rows: list[CandidateRow] = []
    fates = [False] * seeds + sorted_late([False] * (size - seeds), [True] * rejected, chance)
    for number, refused in enumerate(fates):
        words = f"{written(kind, chance)} {'The' if kind == 'profile' else 'A'} case number is {number}.{hostile}"
        origin = "seed" if number < seeds else "generated" if kind == "profile" or number % 5 else "imported"
        one = Description(kind=kind, text=words, origin=origin)
        reason = chance.choices(list(REASONS), list(REASONS.values()))[0] if refused else None
        near = chance.choice(members) if members and (reason in COMPARED or reason is None) else None
        score = None if near is None else chance.uniform(0.7, 0.99) if refused else chance.uniform(0.2, 0.7)
        rows.append(
            CandidateRow(
                kind=kind,
                call=None if number < seeds else (number - seeds) // 20,
                position=number,
                id=one.id,
                text=one.text,
                verdict="rejected" if refused else "seed" if number < seeds else "accepted",
                reason=reason,
                nearest=near.id if near else None,
                score=score,
                shows=drawn_levels(kind, chance),
            )
        )
        if not refused:
            members.append(one)
    return members, rows


def sorted_late(accepted: list[bool], rejected: list[bool], chance: random.Random) -> list[bool]:
    """Both mixed, acceptance falling off."""
    places = [(chance.random() ** 5, fate) for fate in accepted] + [(chance.random() ** 0.7, fate) for fate in rejected]
    return [fate for _, fate in sorted(places, key=lambda place: place[0])]


def written(kind: Kind, chance: random.Random) -> str:
    """A few sentences."""
    first, second, third, fourth = (chance.choice(phrases) for phrases in PHRASES[kind])
    return f"{first}, {second}, and {third}. {fourth}. {chance.choice(PHRASES[kind][3])}, which few people know."


def drawn_levels(kind: Kind, chance: random.Random) -> dict[str, str]:
    """Some levels, low ones more often."""
    return {
        name: levels[int(len(levels) * chance.random() ** 1.5)]
        for name, levels in LEVELS[kind].items()
        if chance.random() < 0.8
    }


def drawn_sides(size: int) -> list[str]:
    """A tenth is held out, every thirtieth refused."""
    return ["heldout" if number % 10 == 3 else "refused" if number % 30 == 5 else "train" for number in range(size)]


def mapped(members: Sequence[Description], chance: random.Random, method: Any) -> PoolMap:
    """Places in five clouds."""
    centres = [(0.35 * math.cos(turn), 0.25 * math.sin(turn)) for turn in (0.2, 1.5, 2.6, 4.0, 5.2)]
    places = {
        one.id: (centres[number % 5][0] + chance.gauss(0, 0.12), centres[number % 5][1] + chance.gauss(0, 0.1))
        for number, one in enumerate(members)
    }
    return PoolMap(method=method, kept=0.137 if method == "pca" else None, places=places)


def summarised(
    kind: Kind, members: Sequence[Description], rows: Sequence[CandidateRow], sides: Mapping[str, str]
) -> KindSummary:
    """The figures of one kind, counted from its rows."""
    asked = [row for row in rows if row.call is not None]
    seeds = len(rows) - len(asked)
    side = Counter(sides[one.id] for one in members)
    growth = [(0, seeds)]
    for end in range(20, len(asked) + 20, 20):
        done = asked[:end]
        growth.append((len(done), seeds + sum(row.verdict == "accepted" for row in done)))
    refused = [one.text for one in members if sides[one.id] == "refused"]
    heldout = [one.text for one in members if sides[one.id] == "heldout"]
    train = [one.text for one in members if sides[one.id] == "train"]
    return KindSummary(
        kind=kind,
        size=len(members),
        seeds=seeds,
        seeds_too_similar=1,
        candidates=len(asked),
        accepted=sum(row.verdict == "accepted" for row in asked),
        rejections=dict(Counter(row.reason for row in asked if row.reason is not None).most_common()),
        outcomes={"read": len(growth) - 1, "read after repair": 3, "unreadable": 1},
        missing=14,
        prompt_tokens=120_345 + len(members),
        completion_tokens=98_761 + len(members),
        stop="saturated" if kind == "profile" else "target",
        min_acceptance=0.2,
        window=5,
        threshold=0.71 if kind == "profile" else 0.8,
        coverage=covered(kind, rows),
        followed={name: 0.52 + 0.06 * place for place, name in enumerate(LEVELS[kind]) if name != "education"},
        growth=tuple(growth),
        gate=0.66 if kind == "profile" else 0.74,
        heldout=side["heldout"],
        train=side["train"],
        refused=tuple(
            NearPair(
                id="ours", score=0.7 + 0.01 * place, ours=ours, theirs=heldout[place % len(heldout)], why="too similar"
            )
            for place, ours in enumerate(refused)
        ),
        nearest=tuple(
            NearPair(id="ours", score=None if place == 2 else 0.655 - 0.01 * place, ours=ours, theirs=theirs)
            for place, (ours, theirs) in enumerate(list(zip(train, heldout, strict=False))[:5])
        ),
    )


def covered(kind: Kind, rows: Sequence[CandidateRow]) -> Coverage:
    """The levels that members show."""
    members = [row for row in rows if row.verdict != "rejected"]
    counts = {
        name: {level: sum(row.shows.get(name) == level for row in members) for level in levels}
        for name, levels in LEVELS[kind].items()
    }
    return Coverage(
        kind=kind,
        size=len(members),
        counts=counts,
        unstated={name: len(members) - sum(levels.values()) for name, levels in counts.items()},
        evenness={name: evenness(list(levels.values())) for name, levels in counts.items()},
        pairs=0.874 if kind == "profile" else None,
    )


def evenness(counts: Sequence[int]) -> float | None:
    """Normalised entropy."""
    whole = sum(counts)
    if not whole:
        return None
    return min(1.0, -sum(n / whole * math.log(n / whole) for n in counts if n) / math.log(len(counts)))
