"""What a reasoning model thinks before it answers (<think>...</think>): nobody but the model ever sees it."""

from __future__ import annotations

import re

__all__ = ["as_thinking", "takes_notes", "without_thinking"]

_THOUGHT = re.compile(r"<(think|thinking)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r".*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_THOUGHT_START = re.compile(r"<think(?:ing)?>.*", re.DOTALL | re.IGNORECASE)

# Some templates open the thinking in the prompt, or put it on a line of its own.
_NOTES = re.compile(r"\s*(?:<think>)?\s*Notes: ")


def as_thinking(text: str) -> str:
    """`text` as a model thinks it, before what it says."""
    return f"<think>{text}</think>\n"


def takes_notes(text: str) -> bool:
    """Whether `text` begins with notes on the user, as a policy thinks them that was trained to take notes."""
    return _NOTES.match(text) is not None


def without_thinking(text: str) -> str:
    """`text` without what a reasoning model thought in <think> tags, stripped.

    Where only the end tag is there (some templates open it in the prompt) all before it is thinking; where only the
    start tag is there (`max_tokens` came first) all behind it is.
    """
    rest = _THOUGHT.sub("", text)
    return _THOUGHT_START.sub("", _THOUGHT_END.sub("", rest)).strip()
