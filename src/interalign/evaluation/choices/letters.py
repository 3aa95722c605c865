"""Which letter an answer chooses, read strictly: what is not plain is missing, and nothing is guessed."""

from __future__ import annotations

import re
from string import ascii_uppercase

__all__ = ["LETTERS", "read_letter"]

LETTERS = ascii_uppercase
"""What options are shown under, in their order."""

# Brackets, quotes and marks of Markdown or LaTeX that people and models put around a letter.
_AROUND = r"[\s*_`'\"“”(<\[{]*+"
_BEHIND = r"[\s*_`'\"“”)>\]}.,:;!]*"
_WHOLE = re.compile(rf"{_AROUND}(?:answer|option|choice)?{_AROUND}([A-Z]){_BEHIND}", re.IGNORECASE)
_SAID = re.compile(
    rf"(?:\b(?:answer|choice)(?:\s++is\s*+:?+|\s*+[*_`]*+\s*+[:=])|<(?:final_answer|answer|choice)>|\\boxed)"
    rf"{_AROUND}(?:option\s+)?{_AROUND}(?<![^\W_])([A-Z])(?![^\W_])(?=([^\n]*))",
    re.IGNORECASE,
)
_ALSO = re.compile(rf"{_BEHIND}(?:/|&|\+|,|\bor\b|\band\b){_AROUND}(?:option\s+)?[A-Z](?![^\W_])", re.IGNORECASE)
_WORD_BEHIND = re.compile(r"\s+\w|['’]\w")
_LEADING = re.compile(r"\s*(?:\*\*)?(?:[(\[]([A-Z])[)\]]|([A-Z])[).:]|([A-Z])(?:\*\*)?[ \t]*(?:\n|$))", re.IGNORECASE)
_LISTED = re.compile(r"[(\[]([A-Z])[)\]]|(?<![^\W_])([A-Z])\)|^[ \t*]*([A-Z])[.:](?=\s)", re.IGNORECASE | re.MULTILINE)


def read_letter(text: str, options: int) -> int | None:
    """The place of the option that an answer chooses, counted from 0; None when that is not plain.

    Read are, in this order:

    * an answer that is a letter and nothing else: `B`, `(b)`, `**B.**`, `Option B`;
    * one that says its answer: `Answer: B`, `the answer is (b)`, `<choice>B</choice>`, `<final_answer> (b)`;
      all that it says in this way must be the same letter, so that a change of mind is no choice;
    * one that begins with a letter set apart, `B) Tea` or `B` on a line of its own, and lists no other one.

    Args:
        text: the answer, without thinking.
        options: how many options were shown; a letter beyond them is no choice.
    """
    whole = _WHOLE.fullmatch(text)
    if whole:
        return _place(whole[1], options)
    said = [(found[1], found[2]) for found in _SAID.finditer(text) if not _is_word(found[1], found[2])]
    if said:
        letters = {letter.upper() for letter, _ in said}
        plain = len(letters) == 1 and not any(_ALSO.match(behind) for _, behind in said)
        return _place(letters.pop(), options) if plain else None
    leading = _LEADING.match(text)
    if leading is None:
        return None
    listed = {_first(found.groups()) for found in _LISTED.finditer(text)} | {_first(leading.groups())}
    return _place(listed.pop(), options) if len(listed) == 1 else None


def _is_word(letter: str, behind: str) -> bool:
    """Whether the letter begins a sentence and is no choice: "the answer is a tea", "Answer: I think"."""
    return _WORD_BEHIND.match(behind) is not None and (letter.islower() or letter in "AI")


def _first(letters: tuple[str | None, ...]) -> str:
    return next(letter for letter in letters if letter).upper()


def _place(letter: str, options: int) -> int | None:
    # Some characters beyond ASCII count as letters where case is ignored.
    place = LETTERS.find(letter.upper())
    return place if 0 <= place < options else None
