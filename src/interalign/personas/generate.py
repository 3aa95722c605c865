"""Asking a language model for new descriptions, and reading what it answers.

What always holds: pool members stand in the prompt as JSON between tags that no text can close, and the instructions
are the same bytes whatever the members say. An answer is either JSON of the form that was asked for, or it is
unreadable as a whole; nothing is fished out of prose.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from pydantic import Field

from interalign.llm.model import Request, Sampling
from interalign.messages import Message, Value, well_formed
from interalign.personas.coverage import Outline, asked
from interalign.personas.description import PLURALS, Kind

__all__ = ["Draft", "Unreadable", "as_data", "ask", "ask_again", "instructions", "read_answer"]

_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n?```", re.DOTALL)


class Draft(Value):
    """One item of an answer, unchecked. `number` is that of the outline it was written for, where that is known."""

    text: str
    number: Annotated[int, Field(ge=1)] | None = None


class Unreadable(Exception):
    """An answer that is not what was asked for; the text says why, in words that a model can mend it by."""


def ask(
    kind: Kind,
    examples: Sequence[str],
    outlines: Sequence[Outline],
    count: int,
    *,
    language: str,
    sampling: Sampling,
    seed: int,
) -> Request:
    """The request for `count` new descriptions of a kind.

    Args:
        kind: Profiles or personalities.
        examples: Pool members that show the form.
        outlines: What each of the new ones shall show (see `personas/coverage`); none leaves the model free.
        count: How many; as many as there are outlines, if any.
        language: Its English name.
        sampling: Of the answer.
        seed: Of the answer.
    """
    wanted = PLURALS[kind]
    parts = [f"<examples>{as_data(list(examples))}</examples>"]
    if outlines:
        numbered = [{"number": number, "shows": asked(kind, outline)} for number, outline in enumerate(outlines, 1)]
        parts.append(f"<outlines>{as_data(numbered)}</outlines>")
        parts.append(
            f"Write {count} new {wanted}, one for each outline, under its number. Let each show all that its outline "
            "says, in words of your own, and much that the outline does not say."
        )
    else:
        parts.append(f"Write {count} new {wanted}, numbered from 1. Let each be unlike all others.")
    return Request(
        messages=(
            Message(role="system", content=instructions(kind, language)),
            Message(role="user", content="\n\n".join(parts)),
        ),
        sampling=sampling,
        seed=seed,
        response_schema=_schema(kind),
    )


def ask_again(kind: Kind, request: Request, answer: str, problem: str) -> Request:
    """The one attempt to mend an unreadable answer: the same chat, what was said, and what is wrong with it."""
    repair = _prompt("repair").format(problem=problem, kinds=PLURALS[kind])
    said = (Message(role="assistant", content=answer), Message(role="user", content=repair))
    return request.model_copy(update={"messages": (*request.messages, *said)})


def instructions(kind: Kind, language: str) -> str:
    """The system prompt: fixed for a kind and a language."""
    return _prompt(kind).format(language=language)


def as_data(content: Any) -> str:
    """JSON in which no text can close a tag around it."""
    return json.dumps(content, ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e")


@cache
def _prompt(name: str) -> str:
    return (files("interalign.personas") / "prompts" / f"{name}.txt").read_text(encoding="utf-8").strip()


def _schema(kind: Kind) -> dict[str, Any]:
    item = {
        "type": "object",
        "properties": {"number": {"type": "integer"}, "text": {"type": "string"}},
        "required": ["number", "text"],
        "additionalProperties": False,
    }
    # How many is said in words: strict servers refuse bounds on the length of an array.
    return {
        "type": "object",
        "properties": {PLURALS[kind]: {"type": "array", "items": item}},
        "required": [PLURALS[kind]],
        "additionalProperties": False,
    }


def read_answer(kind: Kind, text: str, count: int) -> list[Draft]:
    """The items of an answer, in its order.

    Read are `{"profiles": [...]}` and a bare array, each also as the only code block of the answer; items are objects
    with `text` and perhaps `number`, or plain strings. Plain strings belong to the outlines in order only when there
    are `count` of them: with one missing, nobody knows which.

    Raises:
        Unreadable: anything else, such as prose, JSON that was cut off, or an item that is no text.
    """
    items = _items(kind, _loaded(text))
    in_order = len(items) == count
    return [_draft(item, index, in_order=in_order) for index, item in enumerate(items, 1)]


def _loaded(text: str) -> Any:
    blocks = _FENCED.findall(text)
    inner = blocks[0] if len(blocks) == 1 and not _FENCED.sub("", text).strip() else text
    try:
        return json.loads(inner)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is not JSON ({error})") from None


def _items(kind: Kind, content: Any) -> list[Any]:
    plural = PLURALS[kind]
    items = content.get(plural) if isinstance(content, dict) else content
    if not isinstance(items, list):
        raise Unreadable(f'there is no array under "{plural}"')
    if not items:
        raise Unreadable(f'the array under "{plural}" is empty')
    return items


def _draft(item: Any, index: int, *, in_order: bool) -> Draft:
    if isinstance(item, str):
        return Draft(text=well_formed(item).strip(), number=index if in_order else None)
    text, number = (item.get("text"), item.get("number")) if isinstance(item, dict) else (None, None)
    if not isinstance(text, str):
        raise Unreadable(f"item {index} has no text")
    known = isinstance(number, int) and not isinstance(number, bool) and number >= 1
    return Draft(text=well_formed(text).strip(), number=number if known else None)
