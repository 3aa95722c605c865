"""How numbers and names are written wherever results are shown."""

from __future__ import annotations

import re

from interalign.messages import well_formed

__all__ = [
    "UNDEFINED",
    "ends_and_middle",
    "interval",
    "markdown_text",
    "number",
    "on_one_line",
    "p_in_words",
    "p_value",
    "shown_turns",
]

UNDEFINED = "\N{EN DASH}"

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_MARKDOWN = re.compile(r"([\\`*_\[\]|~#])")


def number(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """A number as it is shown everywhere; an en dash when it is undefined, and never a negative zero."""
    if value is None:
        return UNDEFINED
    rounded = round(value, digits) + 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}"


def shown_turns(turns: int) -> tuple[int, ...]:
    """The turns whose AL is shown in a table: all up to five, otherwise the first, the middle and the last."""
    return tuple(range(1, turns + 1)) if turns <= 5 else ends_and_middle(turns)


def ends_and_middle(turns: int) -> tuple[int, ...]:
    """The first turn, the middle one and the last."""
    return tuple(sorted({1, (turns + 1) // 2, turns}))


def p_value(value: float | None) -> str:
    """A p-value as it is shown everywhere."""
    if value is None:
        return UNDEFINED
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def p_in_words(value: float | None) -> str:
    """A p-value in a sentence."""
    if value is None:
        return "p not known"
    shown = p_value(value)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def interval(low: float, high: float, digits: int = 2, *, signed: bool = False) -> str:
    """The ends of an interval."""
    # In words: before a number that may be negative a dash would read as a minus.
    return " to ".join(number(end, digits, signed=signed) for end in (low, high))


def on_one_line(text: str) -> str:
    """A text on one line, without what a terminal or a table would take for a command."""
    return " ".join(_CONTROL.sub(" ", well_formed(text)).split())


def markdown_text(text: str) -> str:
    """A text as a cell of a Markdown table shows it."""
    plain = on_one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", plain)
