"""One half of a persona as text: a profile or a personality. The pool is made of these.

A description is known by a content id. Two texts that differ only in case, punctuation or spacing have the same
`normalised` form and count as the same description.
"""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from interalign.messages import Value

__all__ = ["KINDS", "PLURALS", "Description", "Kind", "Origin", "normalised"]

Kind: TypeAlias = Literal["profile", "personality"]
Origin: TypeAlias = Literal["seed", "generated", "imported"]

KINDS: tuple[Kind, ...] = ("profile", "personality")
PLURALS: dict[Kind, str] = {"profile": "profiles", "personality": "personalities"}


class Description(Value):
    """A profile or a personality. `id` is derived from kind and text and checked against them.

    Raises:
        pydantic.ValidationError: the text is empty, or the id is not the content's.
    """

    id: str = ""
    kind: Kind
    text: Annotated[str, Field(min_length=1)]
    origin: Origin = "imported"

    @model_validator(mode="after")
    def _check(self) -> Description:
        content_id = hashlib.sha256(f"{self.kind}\n{self.text}".encode()).hexdigest()[:16]
        if self.id and self.id != content_id:
            raise ValueError(f"id {self.id!r} does not belong to this content (expected {content_id!r})")
        object.__setattr__(self, "id", content_id)
        return self


def normalised(text: str) -> str:
    """The words of `text` in compatible, case-folded form, one space between them: the key for exact duplicates."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    # Marks are parts of letters in many scripts (Hindi vowels), though no word characters to regular expressions.
    words = "".join(one if unicodedata.category(one)[0] in "LMN" else " " for one in folded)
    return " ".join(words.split())
