"""Faults that a message shows next to earlier ones: the chat begins anew, or every message begins alike."""

from __future__ import annotations

from interalign.conversations.checks.phrases import expression, names_in, phrases
from interalign.personas.persona import Persona
from interalign.roles.measure import ngram_overlap, words

__all__ = ["repeats_opener", "restarts"]

_COPY_WORDS, _COPY_SHARE = 5, 0.7
_OPENER_WORDS = 3


def restarts(said: str, earlier: tuple[str, ...], persona: Persona) -> bool:
    """Whether a later message greets, introduces the user a second time, or says an earlier message again."""
    if not earlier:
        return False
    introduction = expression(phrases().introduction, names_in(persona.profile))
    introduced = introduction.search(said) and any(introduction.search(message) for message in earlier)
    greets = expression(phrases().greeting).match(said.lstrip(" \n*\"'"))
    # The second message may answer the assistant's own introduction.
    meets = len(earlier) > 1 and expression(phrases().first_meeting).search(said)
    return bool(introduced or greets or meets) or any(_is_copy(said, message) for message in earlier)


def _is_copy(said: str, message: str) -> bool:
    return len(words(said)) >= _COPY_WORDS and ngram_overlap(said, [message], 3) >= _COPY_SHARE


def repeats_opener(said: str, earlier: tuple[str, ...]) -> bool:
    """Whether the first three words are those of two earlier messages or more."""
    opener = words(said)[:_OPENER_WORDS]
    return len(opener) == _OPENER_WORDS and sum(words(message)[:_OPENER_WORDS] == opener for message in earlier) > 1
