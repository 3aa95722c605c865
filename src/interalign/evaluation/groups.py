"""Who the cases are: what they share with each other, and the groups of people that results are told for.

A mean over everybody hides whom a model serves badly. The groups are of age (as the profile states it, by the bands of
the coverage plan), of difficulty (whether the personality has a difficult trait) and of single traits. What cannot be
read surely is "unknown", and never guessed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Literal, TypeAlias

from interalign.evaluation.crossed import Clusters, clusters_of
from interalign.messages import Value
from interalign.personas.coverage import dimensions, shown
from interalign.personas.gender import ungendered
from interalign.personas.persona import Persona

__all__ = [
    "LEAST_CASES",
    "UNKNOWN",
    "Group",
    "GroupKind",
    "clusters_of_people",
    "clusters_of_texts",
    "groups_of",
    "membership",
]

GroupKind: TypeAlias = Literal["age", "difficulty", "trait"]

UNKNOWN = "unknown"

LEAST_CASES = 5
"""A mean over fewer persons says more of them than of their group."""

_KINDS: tuple[GroupKind, ...] = ("age", "difficulty", "trait")


class Group(Value):
    """A group of people by what they have in common."""

    kind: GroupKind
    name: str


def groups_of(persona: Persona) -> tuple[Group, ...]:
    """The groups that a person belongs to: one of age, one of difficulty, and one for each trait that is known."""
    age = shown("profile", persona.profile).get("age", UNKNOWN)
    names = sorted({trait.name for trait in persona.traits})
    return (
        Group(kind="age", name=age),
        Group(kind="difficulty", name=_difficulty(persona)),
        *(Group(kind="trait", name=name) for name in names),
    )


def _difficulty(persona: Persona) -> str:
    if not persona.traits:
        return UNKNOWN
    return "difficult" if any(trait.difficult for trait in persona.traits) else "not difficult"


def membership(cases: Sequence[str], people: Mapping[str, Persona]) -> dict[Group, list[int]]:
    """The places in `cases` of the members of each group that has at least five, in a steady order."""
    members: defaultdict[Group, list[int]] = defaultdict(list)
    for place, case in enumerate(cases):
        for group in groups_of(people[case]) if case in people else ():
            members[group].append(place)
    large = [group for group, places in members.items() if len(places) >= LEAST_CASES]
    return {group: members[group] for group in sorted(large, key=_order)}


def _order(group: Group) -> tuple[int, int, str]:
    ages = next(one for one in dimensions("profile") if one.name == "age")
    bands = [level.name for level in ages.levels]
    return _KINDS.index(group.kind), bands.index(group.name) if group.name in bands else len(bands), group.name


def clusters_of_people(cases: Sequence[str], people: Mapping[str, Persona]) -> Clusters:
    """Which cases share the text of their profile or of their personality; an unknown person shares nothing."""
    known = [people.get(case) for case in cases]
    return clusters_of_texts(
        [place if person is None else person.profile for place, person in enumerate(known)],
        [place if person is None else person.personality for place, person in enumerate(known)],
    )


def clusters_of_texts(profiles: Sequence[Hashable], personalities: Sequence[Hashable]) -> Clusters:
    """The clusters of cases with these texts, or something else that is theirs alone.

    A personality that is told of a woman and of a man is the same one.
    """
    ways = {text: ungendered(text) for text in set(personalities) if isinstance(text, str)}
    return clusters_of(profiles, [ways[text] if isinstance(text, str) else text for text in personalities])
