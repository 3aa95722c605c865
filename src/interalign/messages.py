"""Chat messages and the frozen base of every value that interalign stores."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

__all__ = ["Chat", "Message", "Speaker", "Value", "as_dicts", "well_formed"]

Speaker: TypeAlias = Literal["system", "user", "assistant"]


class Value(BaseModel):
    """A frozen record. Unknown fields, NaN and infinities are refused; a change makes a new value (`model_copy`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Message(Value):
    """One message of a chat, in the terms of the OpenAI chat protocol."""

    role: Speaker
    content: str


Chat: TypeAlias = tuple[Message, ...]


def as_dicts(chat: Chat) -> list[dict[str, str]]:
    """The chat as the list of `{"role", "content"}` dictionaries that chat templates, TRL and servers take."""
    return [{"role": message.role, "content": message.content} for message in chat]


def well_formed(text: str) -> str:
    """`text` with U+FFFD for each half of a character, which no file can hold; two halves that belong together join.

    JSON may bring such halves: a token limit can cut a character in two.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
