"""The hand-written descriptions from which a pool of personas grows: twenty profiles and twenty personalities.

A generator is shown some of them as what a person may look like, so they share neither phrases nor openings and
cover every level of every dimension of coverage. Each comes with two companions of a known kind, a paraphrase and a
near-copy: a filter that is to refuse duplicates is measured on pairs whose answer is known.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Annotated

from pydantic import Field

from interalign.messages import Value
from interalign.personas.description import Kind

__all__ = ["Seed", "seeds"]

_FILES: dict[Kind, str] = {"profile": "profiles.toml", "personality": "personalities.toml"}


class Seed(Value):
    """One description, with the same person told twice more.

    `paraphrase` keeps every fact or trait and changes the words. `altered` keeps the words and swaps one or two
    details. `shows` names, for each dimension of coverage that `text` states, the level that a careful reader finds.
    """

    text: Annotated[str, Field(min_length=1)]
    paraphrase: Annotated[str, Field(min_length=1)]
    altered: Annotated[str, Field(min_length=1)]
    shows: dict[str, str]


@cache
def seeds(kind: Kind) -> tuple[Seed, ...]:
    """The seeds of one kind, in the order of the file."""
    entries = tomllib.loads((files(__package__) / _FILES[kind]).read_text(encoding="utf-8"))["seed"]
    return tuple(Seed.model_validate(entry) for entry in entries)
