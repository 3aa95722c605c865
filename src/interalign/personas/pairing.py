"""Profiles and personalities become personas: no pair twice, nobody favoured, nothing at odds with itself.

Drawing a personality for each profile at random, with replacement, repeats pairs and uses some personalities far more
often than others. Here the pairs are distinct and the uses even. Where forbidden pairs make that impossible, the
personalities come first, since each of them stands in many personas: their uses are as even as any choice of as many
pairs can make them, and the uses of the profiles are as even as that leaves possible. Both are exact.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import NamedTuple

from interalign.errors import InputError
from interalign.messages import Value
from interalign.personas.coverage import contradiction
from interalign.personas.description import Description, Kind
from interalign.personas.gender import Gender, gender_of, with_gender
from interalign.personas.masking import masked_key
from interalign.personas.persona import Persona, Split
from interalign.run import derive_seed

__all__ = ["Pairing", "balanced_pairs", "pair"]


class Pairing(Value):
    """The personas of one split, and what the pairing had to leave out."""

    personas: tuple[Persona, ...]
    contradictions: int
    """Combinations of a profile and a personality that are at odds with each other, and so were never drawn."""
    merged: tuple[tuple[str, str], ...]
    """Ids (kept, merged) of personalities that are one but for pronouns and case."""
    merged_profiles: tuple[tuple[str, str], ...]
    """The same for profiles."""
    per_personality: tuple[int, int]
    """The fewest and the most personas that a personality stands in."""
    per_profile: tuple[int, int]
    """The same for profiles."""


def pair(
    profiles: Sequence[Description],
    personalities: Sequence[Description],
    count: int,
    seed: int,
    *,
    split: Split = "train",
    exact: bool = True,
) -> Pairing:
    """`count` different personas, in random order, with the uses of profiles and personalities as even as possible.

    Where `exact` is off and fewer pairs exist, all of them.

    Descriptions that are one but for pronouns and case count as one (the first stays). Each personality is told with
    the pronouns of its profile; where the profile tells no gender its text stays as it is.

    Raises:
        InputError: a description is of the other kind, `count` is below 1, or so many pairs do not exist.
    """
    lives, merged_profiles = _distinct(profiles, "profile")
    characters, merged = _distinct(personalities, "personality")
    at_odds = {
        (i, j)
        for i, life in enumerate(lives)
        for j, character in enumerate(characters)
        if contradiction(life.text, character.text) is not None
    }
    possible = len(lives) * len(characters) - len(at_odds)
    pairs = balanced_pairs(
        len(lives),
        len(characters),
        count if exact or not possible else min(count, possible),
        lambda i, j: (i, j) not in at_odds,
        derive_seed(seed, "pairing", split),
    )
    told = _tell(lives, characters, pairs)
    return Pairing(
        personas=tuple(
            Persona(profile=lives[i].text, personality=text, split=split)
            for (i, _), text in zip(pairs, told, strict=True)
        ),
        contradictions=len(at_odds),
        merged=merged,
        merged_profiles=merged_profiles,
        per_personality=_extremes(len(characters), (j for _, j in pairs)),
        per_profile=_extremes(len(lives), (i for i, _ in pairs)),
    )


def _distinct(descriptions: Iterable[Description], kind: Kind) -> tuple[list[Description], tuple[tuple[str, str], ...]]:
    """The first of all descriptions that are one but for name and gender, and the ids (kept, merged) of the others."""
    kept: dict[str, Description] = {}
    merged: list[tuple[str, str]] = []
    for description in descriptions:
        if description.kind != kind:
            raise InputError(
                f"The {description.kind} {description.id} stands among the descriptions of kind {kind}.",
                mend="give profiles first, then personalities.",
            )
        # Texts without a single word have an empty key in common, and nothing else.
        key = masked_key(description.text) or description.text
        if key in kept:
            merged.append((kept[key].id, description.id))
        else:
            kept[key] = description
    return list(kept.values()), tuple(merged)


def _tell(
    profiles: Sequence[Description], personalities: Sequence[Description], pairs: Iterable[tuple[int, int]]
) -> list[str]:
    """For each pair the text of the personality, in the gender of the profile."""
    genders = [gender_of(profile.text) for profile in profiles]

    @cache
    def told(personality: int, gender: Gender | None) -> str:
        text = personalities[personality].text
        return text if gender is None else with_gender(text, gender)

    return [told(personality, genders[profile]) for profile, personality in pairs]


def _extremes(size: int, drawn: Iterable[int]) -> tuple[int, int]:
    uses = Counter(drawn)
    return min(uses[index] for index in range(size)), max(uses.values())


def balanced_pairs(
    profiles: int, personalities: int, count: int, allowed: Callable[[int, int], bool], seed: int
) -> list[tuple[int, int]]:
    """`count` distinct (profile, personality) pairs of indices, drawn by `seed`, in random order.

    Among all choices of `count` allowed pairs, this one has the smallest sum of squared uses of the personalities and,
    among those, the smallest sum of squared uses of the profiles. Uses on each side differ by at most 1 if any choice
    achieves that on both sides; with nothing forbidden one always does.

    Args:
        profiles: Number of profiles.
        personalities: Number of personalities.
        count: Pairs to draw.
        allowed: Whether a pair may be drawn. It is asked once for each pair.
        seed: Decides between choices that are equally even.

    Raises:
        InputError: `count` is below 1, or fewer pairs than that are allowed.
    """
    free = [{i for i in range(profiles) if allowed(i, j)} for j in range(personalities)]
    _check_count(count, sum(map(len, free)))
    random = Random(seed)
    draw = _Draw(free, [set() for _ in range(profiles)], [0] * personalities)
    _fill(draw, count, random)
    _even_out(draw)
    pairs = [(profile, personality) for profile in range(profiles) for personality in sorted(draw.partners[profile])]
    random.shuffle(pairs)
    return pairs


def _check_count(count: int, possible: int) -> None:
    if count < 1:
        raise InputError(f"{count} personas cannot be paired.", mend="ask for at least 1.")
    if count > possible:
        raise InputError(
            f"{count} personas are asked for, but only {possible} pairs of a profile and a personality are possible.",
            mend=f"ask for at most {possible}, or add descriptions to the pool."
            if possible
            else "add descriptions to the pool.",
        )


class _Move(NamedTuple):
    """One step of a path: `giver` gives up `lost`, and the profile that the step leads to receives `gained`."""

    giver: int
    lost: int
    gained: int


@dataclass
class _Draw:
    """The pairs drawn so far; changed in place while they are evened out."""

    free: list[set[int]]
    """By personality: the profiles that it may have and does not."""
    partners: list[set[int]]
    """By profile: its personalities."""
    uses: list[int]
    """By personality: how many profiles have it."""

    def use(self, profile: int) -> int:
        return len(self.partners[profile])

    def add(self, profile: int, personality: int) -> None:
        self.free[personality].remove(profile)
        self.partners[profile].add(personality)
        self.uses[personality] += 1

    def remove(self, profile: int, personality: int) -> None:
        self.free[personality].add(profile)
        self.partners[profile].remove(personality)
        self.uses[personality] -= 1


def _fill(draw: _Draw, count: int, random: Random) -> None:
    """Draw `count` pairs: in each round every personality that still can takes one of the profiles least used."""
    # A profile stands in the list of its use, in random order.
    by_use = [random.sample(range(len(draw.partners)), len(draw.partners))]
    while count:
        ready = [personality for personality, free in enumerate(draw.free) if free]
        random.shuffle(ready)
        for personality in ready[:count]:
            profile = next(profile for same_use in by_use for profile in same_use if profile in draw.free[personality])
            by_use[draw.use(profile)].remove(profile)
            draw.add(profile, personality)
            if draw.use(profile) == len(by_use):
                by_use.append([])
            same_use = by_use[draw.use(profile)]
            same_use.insert(random.randint(0, len(same_use)), profile)
        count -= len(ready[:count])


def _even_out(draw: _Draw) -> None:
    """Move pairs from the most used to the less used profiles until no move helps.

    `_fill` has made the uses of the personalities as even as they can be, and no path changes how even they are. An
    uneven choice always has a path to a more even one (no negative cycle in the residual graph of a flow with
    convex costs: it is optimal), so none is missed.
    """
    loose = set(range(len(draw.partners)))
    while loose:
        most = max(map(draw.use, loose))
        if most - min(map(draw.use, loose)) <= 1:
            return
        sources = sorted(profile for profile in loose if draw.use(profile) == most)
        target, moves = _search(draw, sources, enough=most - 2)
        if target is None:
            # All that these reach is used about as much as they are, and later paths that come here cannot leave.
            loose -= {*sources, *moves}
        else:
            _follow(draw, target, moves)


def _search(draw: _Draw, sources: Sequence[int], enough: int) -> tuple[int | None, dict[int, _Move]]:
    """Search, breadth first, a path from `sources` to a profile with at most `enough` uses.

    Returns:
        That profile (None when there is none), and for each profile reached the move that led to it.
    """
    most = max(draw.uses)
    # A personality used once more than another may leave a use to it: the uses are as even as before.
    heirs = {personality for personality, uses in enumerate(draw.uses) if uses == most - 1}
    moves: dict[int, _Move] = {}
    unseen = set(range(len(draw.partners))).difference(sources)
    seen: set[int] = set()
    queue = deque(sources)
    while queue:
        giver = queue.popleft()
        for lost in sorted(draw.partners[giver] - seen):
            gaining = {lost} | (heirs if draw.uses[lost] == most else set())
            for gained in sorted(gaining - seen):
                seen.add(gained)
                for profile in sorted(draw.free[gained] & unseen):
                    moves[profile] = _Move(giver, lost, gained)
                    if draw.use(profile) <= enough:
                        return profile, moves
                    unseen.remove(profile)
                    queue.append(profile)
    return None, moves


def _follow(draw: _Draw, target: int, moves: dict[int, _Move]) -> None:
    """Carry out the moves that lead to `target`."""
    profile = target
    while profile in moves:
        move = moves[profile]
        draw.remove(move.giver, move.lost)
        draw.add(profile, move.gained)
        profile = move.giver
