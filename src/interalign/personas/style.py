"""The measurable dimensions of style: how a person writes, and how that person wants to be answered.

Each dimension has a closed set of values that a program can read off a text (`roles/measure.py`), so that a verdict
about style is exact, free and cannot be flattered. A `Style` gives one value for some or all of the dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

__all__ = ["DIMENSIONS", "SHOWN_IN_WRITING", "Dimension", "Style", "StyleValue"]

Dimension: TypeAlias = Literal[
    "length", "emoji", "exclamation", "question", "formality", "directness", "layout", "warmth"
]
StyleValue: TypeAlias = str
Style: TypeAlias = Mapping[Dimension, StyleValue]

DIMENSIONS: dict[Dimension, tuple[StyleValue, ...]] = {
    "length": ("brief", "medium", "long"),
    "emoji": ("none", "some"),
    "exclamation": ("none", "some"),
    "question": ("none", "some"),  # a follow-up question to the user
    "formality": ("casual", "formal"),
    "directness": ("direct", "gentle"),
    "layout": ("prose", "list"),
    "warmth": ("plain", "warm"),  # opens with an acknowledgement of the person, or goes straight to the matter
}

SHOWN_IN_WRITING: tuple[Dimension, ...] = ("length", "emoji", "exclamation", "formality", "directness", "warmth")
"""The dimensions that a user's own messages can show. The others (question, layout) show in reactions only."""
