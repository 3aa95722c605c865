"""One multiple-choice question, whatever file it came from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from interalign.messages import Chat, Value

__all__ = ["ChoiceItem"]

_Text = Annotated[str, Field(min_length=1)]


class ChoiceItem(Value):
    """A question with its options, of which one suits the person best."""

    id: _Text
    question: _Text
    """What the person says last, without the options."""
    options: Annotated[tuple[_Text, ...], Field(min_length=2, max_length=26)]
    answer: Annotated[int, Field(ge=0)]
    """The place of the right option, counted from 0."""
    group: str = ""
    """What the questions are told apart by, such as their kind or their topic."""
    person: str = ""
    """Whose question it is. Questions of one person are not independent; "" is a person of its own each time."""
    chat: Chat = ()
    """The talk before the question, which tells who the person is."""

    @model_validator(mode="after")
    def _check(self) -> ChoiceItem:
        if self.answer >= len(self.options):
            raise ValueError(f"answer {self.answer} is none of {len(self.options)} options, counted from 0")
        if len(set(self.options)) < len(self.options):
            raise ValueError("two options are the same")
        return self
