"""What the columns and rows of a summary mean, a line each, for readers who have not met them before.

Only what is shown is explained, each once, in the order in which it stands.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["meanings"]

_MEANINGS = {
    "AL": "mean score at a turn, from 1 to 5; mean AL: at all turns",
    "to baseline": "mean AL minus the baseline's, where both have a score",
    "gap": "mean AL, minus that of the replies judged for a stranger",
    "gap beyond it": "the model's gap, minus that of a reply made for nobody",
    "uptake": "share of the complaints that the next reply meets",
    "listening": "how much more a miss is mended if it was complained of",
    "words": "mean length of a reply",
    "IR": "change of the score per turn: the slope of the AL curve",
    "N-IR": "the same of the curve stretched to go from 0 to 1",
    "R2": "how straight the curve is, from 0 to 1",
    "first 4": "by this turn half of the people have had a 4 or more",
    "never 4": "share of the people who never get a 4 or more",
    "mind-reading": "share of replies that claim what the user has not said",
    "helpful": "how well the replies would help anybody, from 1 to 5",
    "true": "of what it says it has learnt, the share that is true",
    "noticed": "of what the user has shown, the share that it names",
    "cut": "share of replies that were cut at the most tokens a reply may have",
    "p": "how often chance alone makes a difference so large",
    "turns": "turns at which the two differ (p < 0.05, corrected)",
    "oracle persona": "the same model, told the whole persona",
    "disclosed-only oracle": "told what the user has shown so far, nothing else",
    "generic-nice": "the same model, told to be brief, warm and impersonal",
    "constant": "rules: one plain style for everybody",
    "mirror": "rules: copies how the user writes",
    "full oracle": "rules: knows what the person likes from the first turn",
}


def meanings(shown: Iterable[str]) -> list[tuple[str, str]]:
    """What these columns and rows mean; AL(1), AL(2) and mean AL are one, and what explains itself is left out."""
    names = dict.fromkeys("AL" if name.startswith("AL(") or name == "mean AL" else name for name in shown)
    return [(name, _MEANINGS[name]) for name in names if name in _MEANINGS]
