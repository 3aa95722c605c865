"""Messages to tokens, through a model's own chat template, one tree node at a time.

Packing needs each message's tokens to be the same whatever follows it. A template that rewrites earlier turns (as
those of thinking models do) breaks that; it is found out here and refused, not trained on wrongly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from interalign.conversations.tree import Tree
from interalign.errors import TrainingError
from interalign.messages import Chat, Message, as_dicts

__all__ = ["Segment", "chat_segments", "rendered_length", "tree_segments"]


@dataclass(frozen=True)
class Segment:
    """The tokens of one message.

    `parent` is the index of the segment before it on its path (None for the system message), `node` the tree node it
    comes from (None for the system message). The first `header` tokens open the message ("<|im_start|>assistant");
    the others are what its author writes, end mark included, and are what a reply is trained on.
    """

    ids: tuple[int, ...]
    header: int
    parent: int | None
    node: int | None


def tree_segments(tree: Tree, nodes: Sequence[int], system: str, tokenizer: Any) -> list[Segment]:
    """The system message and the given nodes as segments, parents first.

    Args:
        tree: the tree.
        nodes: node indices in ascending order, closed under "parent of".
        system: the policy's system message.
        tokenizer: a Hugging Face tokenizer with a chat template.

    Raises:
        TrainingError: the template rewrites earlier messages, or has no place for a system message.
    """
    opening: Chat = (Message(role="system", content=system),)
    if nodes:
        _refuse_deaf(tokenizer, system, tree.chat(nodes[0]))
    root = _render(tokenizer, opening)
    segments = [Segment(ids=tuple(root), header=len(root), parent=None, node=None)]
    rendered: dict[int | None, list[int]] = {None: root}
    place: dict[int | None, int] = {None: 0}
    for index in nodes:
        parent = tree.nodes[index].parent
        chat = (*opening, *tree.chat(index))
        own, header, rendered[index] = _last_message(tokenizer, chat, rendered[parent])
        place[index] = len(segments)
        segments.append(Segment(ids=own, header=header, parent=place[parent], node=index))
    return segments


def chat_segments(chat: Chat, tokenizer: Any) -> list[Segment]:
    """A conversation that does not branch as segments, one a message; `node` is the message's place.

    Raises:
        TrainingError: the template refuses the chat, or rewrites earlier messages.
    """
    segments: list[Segment] = []
    before: list[int] = []
    for place in range(len(chat)):
        own, header, before = _last_message(tokenizer, chat[: place + 1], before)
        segments.append(Segment(ids=own, header=header, parent=place - 1 if place else None, node=place))
    return segments


def rendered_length(chat: Chat, tokenizer: Any) -> int:
    """How many tokens a conversation takes; raises TrainingError when the template refuses it."""
    return len(_render(tokenizer, chat))


def _last_message(tokenizer: Any, chat: Chat, before: list[int]) -> tuple[tuple[int, ...], int, list[int]]:
    """The tokens of the last message, how many of them are its header, and the tokens of the whole chat."""
    full = _render(tokenizer, chat)
    own = _remainder(full, before, tokenizer)
    header = len(own)
    if chat[-1].role == "assistant":
        prompt = _render(tokenizer, chat[:-1], add_generation_prompt=True)
        header -= len(_remainder(full, prompt, tokenizer))
    return tuple(own), header, full


def _render(tokenizer: Any, chat: Chat, *, add_generation_prompt: bool = False) -> list[int]:
    try:
        rendered = tokenizer.apply_chat_template(
            as_dicts(chat), tokenize=True, add_generation_prompt=add_generation_prompt, return_dict=True
        )
    except Exception as error:  # templates are programs of their own and raise what they like
        raise TrainingError(
            f"The chat template of {tokenizer.name_or_path!r} refuses this conversation: {error}",
            mend="use a model whose template takes a system message and alternating turns.",
        ) from error
    return list(rendered["input_ids"])


def _refuse_deaf(tokenizer: Any, system: str, chat: Chat) -> None:
    """Refuse a template that leaves the system message out without a word."""
    heard = [
        _render(tokenizer, (Message(role="system", content=content), *chat)) for content in (system, f"{system} Yes.")
    ]
    if heard[0] == heard[1]:
        raise TrainingError(
            f"The chat template of {tokenizer.name_or_path!r} leaves out the system message.",
            mend="use a model whose template takes a system message.",
        )


def _remainder(full: list[int], before: list[int], tokenizer: Any) -> list[int]:
    if full[: len(before)] != before:
        raise TrainingError(
            f"The chat template of {tokenizer.name_or_path!r} changes earlier messages when the chat goes on, so no "
            "two branches of a tree can share them.",
            mend='train it with packing = "trl", or use a template that leaves earlier turns alone.',
        )
    return full[len(before) :]
