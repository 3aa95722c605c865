"""The forms of a verb: "loves" for one, "love" for many, and which word may be one or the other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from interalign.personas.gender.words import grammar, pronouns, verbs

__all__ = ["Change", "base", "is_act", "is_third", "third"]


@dataclass(frozen=True)
class Change:
    """How verbs change with their subject: from "she" to "they" when `plural`, else back."""

    plural: bool

    def auxiliary(self, word: str) -> str | None:
        """What the auxiliary `word` becomes; None where it is none."""
        return _auxiliaries(self.plural).get(word)

    def of(self, word: str) -> str | None:
        """What `word` becomes; None where it is no verb that changes."""
        changed = self.auxiliary(word)
        if changed is not None:
            return changed
        if not word.isalpha() or not word.isascii():
            return None
        if self.plural:
            return base(word) if is_third(word) else None
        return third(word) if _is_present(word) else None

    def base(self, word: str) -> str:
        """The base of `word`, a verb in the number from which the change goes out."""
        return base(word) if self.plural else word


def is_third(word: str) -> bool:
    """Whether `word` looks like a third person."""
    return word.endswith("s") and not word.endswith(("ss", "us")) and len(word) > 2 and word not in verbs().not_verbs


def is_act(word: str) -> bool:
    """Whether `word` is the third person of a verb that is hardly ever a noun."""
    return is_third(word) and base(word) in verbs().plain


def _is_present(word: str) -> bool:
    if word in _never_present() or (word.endswith("s") and not word.endswith(("ss", "us"))):
        return False
    return not word.endswith(("ed", "ing")) or word in verbs().base_endings


def third(base: str) -> str:
    """The third person: "loves" of "love", "tries" of "try", "goes" of "go"."""
    if base in verbs().thirds:
        return verbs().thirds[base]
    if base.endswith("y") and base[-2:-1] not in "aeiou":
        return base[:-1] + "ies"
    sibilant = base.endswith(("s", "x", "z", "ch", "sh", "o")) and not base.endswith("oo")
    return base + ("es" if sibilant else "s")


def base(third: str) -> str:
    """The verb of a third person: "love" of "loves"; a word of another form comes back as it is."""
    if third in _bases():
        return _bases()[third]
    if third.endswith("ies") and len(third) > 3:
        return third[:-3] + "y"
    if third.endswith(("sses", "xes", "zzes", "ches", "shes", "oes")):
        return third[:-2]
    return third[:-1] if third.endswith("s") and not third.endswith("ss") else third


@cache
def _auxiliaries(plural: bool) -> dict[str, str]:
    known = verbs().auxiliary
    return known if plural else {many: one for one, many in known.items()}


@cache
def _never_present() -> frozenset[str]:
    known = verbs()
    others = known.sure_objects | known.modals | known.past | known.not_verbs | pronouns().keys()
    return others | (grammar().function - {"like"})


@cache
def _bases() -> dict[str, str]:
    irregular = {third: base for base, third in verbs().thirds.items()}
    return {**verbs().auxiliary, **irregular, "was": "be"}
