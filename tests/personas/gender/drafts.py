"""Texts that are put together: about one person in each gender, and of scraps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from interalign.personas.gender import Gender

VERBS = ["listen", "argue", "worry", "try", "watch", "miss", "go", "reply", "apologise", "snore", "fidget", "forget"]
# "Keeps old songs and worries" may be two things that are kept: after an object only words that are no nouns.
NO_NOUNS = [verb for verb in VERBS if verb not in ("worry", "try", "watch")]
OBJECTS = [
    "old songs",
    "the news",
    "every promise",
    "a grudge",
    "small talk",
    "{dependent} own jokes",
    "{dependent} past",
]
ACTIONS = ["keep", "repeat", "ignore", "enjoy", "remember", "discuss", "fix", "carry", "tease"]
ADVERBS = ["", "always ", "never ", "rarely ", "quietly ", "often "]
STATES = [
    "shy",
    "late",
    "a good listener",
    "proud of {dependent} garden",
    "hard on {reflexive}",
    "the loudest in the room",
]
FRAMES = [
    "{Subject} {adverb}{verb}.",
    "{Subject} {adverb}{act} {thing}.",
    "{Subject} {be} {state}.",
    "{Subject}{'re} {state}.",
    "{Subject} {be}n't {state}.",
    "{Subject} {have} no patience and {adverb}{act} {thing}.",
    "{Subject} {verb}, {verb2} and {verb3}.",
    "{Subject} {act} {thing} and {adverb}{no_noun}.",
    "Noise bores {object}, but {subject} {verb}.",
    "When {subject} {be} {state}, {subject} {verb}.",
    "People trust {object} because {subject} {do} not {base}.",
    "{Dependent} temper is short.",
    "At home {subject} {act} {thing}.",
    "Whatever is broken is {independent}.",
    "{Subject} would rather {base} than ask.",
]
WORDS: dict[Gender, dict[str, str]] = {
    "female": {"subject": "she", "object": "her", "dependent": "her", "independent": "hers", "reflexive": "herself"},
    "male": {"subject": "he", "object": "him", "dependent": "his", "independent": "his", "reflexive": "himself"},
    "neutral": {
        "subject": "they",
        "object": "them",
        "dependent": "their",
        "independent": "theirs",
        "reflexive": "themselves",
    },
}


def third(verb: str) -> str:
    if verb.endswith(("ss", "x", "ch", "o")):
        return verb + "es"
    return verb[:-1] + "ies" if verb.endswith("ry") or verb.endswith("ly") else verb + "s"


Draft = Callable[[Gender], str]


@st.composite
def sentences(draw: st.DrawFn) -> Draft:
    """A sentence about one person, ready to be told in each gender."""
    frame = draw(st.sampled_from(FRAMES))
    verb, verb2, verb3, base = (draw(st.sampled_from(VERBS)) for _ in range(4))
    no_noun = draw(st.sampled_from(NO_NOUNS))
    act, thing, state = (draw(st.sampled_from(choices)) for choices in (ACTIONS, OBJECTS, STATES))
    adverb = draw(st.sampled_from(ADVERBS))

    def told(gender: Gender) -> str:
        forms = WORDS[gender]
        plural = gender == "neutral"
        finite: dict[str, Any] = {
            "verb": verb if plural else third(verb),
            "verb2": verb2 if plural else third(verb2),
            "verb3": verb3 if plural else third(verb3),
            "no_noun": no_noun if plural else third(no_noun),
            "act": act if plural else third(act),
            "be": "are" if plural else "is",
            "'re": "'re" if plural else "'s",
            "have": "have" if plural else "has",
            "do": "do" if plural else "does",
            "base": base,
            "adverb": adverb,
            "thing": thing.format(**forms),
            "state": state.format(**forms),
        }
        return frame.format(Subject=forms["subject"].title(), Dependent=forms["dependent"].title(), **forms, **finite)

    return told


@st.composite
def texts(draw: st.DrawFn) -> Draft:
    """A text about one person; its first sentence begins with the pronoun."""
    drafts = draw(st.lists(sentences(), min_size=0, max_size=6))
    first = draw(st.sampled_from(["{Subject} {be} calm.", "{Subject} {have} a plan."]))

    def told(gender: Gender) -> str:
        opening = first.format(
            Subject=WORDS[gender]["subject"].title(),
            be="are" if gender == "neutral" else "is",
            have="have" if gender == "neutral" else "has",
        )
        return " ".join([opening, *(draft(gender) for draft in drafts)])

    return told


WORDS_AND_SIGNS = """She she he they i her Her his HIM them their hers himself themselves 's 're ' ’ " “ ” , . ; — ( /
    or and who is are was has have does do isn't loves love walks not people friends mother widow Mr a an wife sad
    cat"""
SCRAPS = st.lists(st.sampled_from([*WORDS_AND_SIGNS.split(), "\n"])).map(" ".join)
