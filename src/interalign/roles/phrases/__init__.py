"""What rule-based users and responders say around facts and suggestions: text files beside this loader."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from interalign.messages import Value
from interalign.personas.style import Dimension

__all__ = ["Remarks", "ResponderPhrases", "UserPhrases", "responder_phrases", "user_phrases"]


class Remarks(Value):
    """How a user remarks on a reply that missed a preference (plainly, politely, bluntly) or met it (praise)."""

    plain: tuple[str, ...]
    polite: tuple[str, ...]
    blunt: tuple[str, ...]
    praise: tuple[str, ...]


class UserPhrases(Value):
    """The user's phrases; `reaction[dimension][wanted]` never states a preference outright."""

    first_opener: tuple[str, ...]
    bridge: tuple[str, ...]
    pleasantry: tuple[str, ...]
    pleasantry_first: tuple[str, ...]
    musing: tuple[str, ...]
    hedge: tuple[str, ...]
    push: tuple[str, ...]
    answer_lead: tuple[str, ...]
    deflect: tuple[str, ...]
    sign_off: tuple[str, ...]
    emoji: dict[str, tuple[str, ...]]
    casual: dict[str, str]
    contractions: dict[str, str]
    reaction: dict[Dimension, dict[str, Remarks]]


class ResponderPhrases(Value):
    """The rule-based assistant's phrases; `{vp}` takes a verb phrase, `{Vp}` the same capitalised."""

    warm_opening: tuple[str, ...]
    warm_short: tuple[str, ...]
    gentle: tuple[str, ...]
    direct: tuple[str, ...]
    connector: tuple[str, ...]
    list_lead: tuple[str, ...]
    list_lead_gentle: tuple[str, ...]
    question_short: tuple[str, ...]
    casual_lead: tuple[str, ...]
    closer: tuple[str, ...]
    cheer: tuple[str, ...]
    filler: tuple[str, ...]


@cache
def user_phrases() -> UserPhrases:
    """The phrases in `user.toml`."""
    return UserPhrases.model_validate(_load("user.toml"))


@cache
def responder_phrases() -> ResponderPhrases:
    """The phrases in `responder.toml`."""
    return ResponderPhrases.model_validate(_load("responder.toml"))


@cache
def _load(name: str) -> dict[str, Any]:
    return tomllib.loads((files(__package__) / name).read_text(encoding="utf-8"))
