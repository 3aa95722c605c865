"""The verbs that change with their subject: "she listens and nods", "they listen and nod"."""

from __future__ import annotations

from interalign.personas.gender.joined import joined
from interalign.personas.gender.reading import Tokens, past_adverbs, word_at
from interalign.personas.gender.verbs import Change
from interalign.personas.gender.words import grammar, is_adverb, verbs

__all__ = ["agreed", "means_has"]


def agreed(tokens: Tokens, subject: int, change: Change) -> dict[int, str]:
    """What changes with the subject pronoun at `subject`, by place: its verb, and the verbs joined to that one."""
    following = word_at(tokens, subject + 1, subject)
    if following in ("and", "or", "nor"):
        return {}
    if following.startswith("'"):
        return _clitic(tokens, subject + 1, change) | joined(tokens, subject + 1, "be", change)
    inverted = _inverted(tokens, subject, change)
    if inverted:
        return inverted
    place = past_adverbs(tokens, subject + 1, subject)
    word = word_at(tokens, place, subject)
    changed = change.of(word)
    edits = {} if changed is None else {place: changed}
    return edits | joined(tokens, place, change.base(word), change)


def means_has(tokens: Tokens, index: int) -> bool:
    """Whether the "'s", "'re" or "'ve" at `index` is a form of "have": "she's been ill"."""
    place = past_adverbs(tokens, index + 1, index)
    return word_at(tokens, place, index) in verbs().after_has


def _clitic(tokens: Tokens, index: int, change: Change) -> dict[int, str]:
    has = means_has(tokens, index)
    word = tokens[index].word
    if change.plural and word == "'s":
        return {index: "'ve" if has else "'re"}
    if word in ("'re", "'ve") and not change.plural:
        short = has == (word == "'ve")
        return {index: "'s" if short else (" has" if word == "'ve" else " is")}
    return {}


def _inverted(tokens: Tokens, subject: int, change: Change) -> dict[int, str]:
    """The verb of "rarely does she speak", "as is she", "doesn't she?"."""
    place = subject - 1
    changed = change.auxiliary(word_at(tokens, place, subject))
    if changed is None:
        return {}
    before = word_at(tokens, place - 1, subject)
    if not (tokens[place].first or before in grammar().inverts or is_adverb(before)):
        return {}
    verb = word_at(tokens, past_adverbs(tokens, subject + 1, subject), subject)
    return {place: changed} if change.auxiliary(verb) is None else {}
