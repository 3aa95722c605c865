"""Messages to tokens, through a model's own chat template, one tree node at a time.

Packing needs each message's tokens to be the same whatever follows it. A template that rewrites earlier turns (as
those of thinking models do) breaks that. What a reply is trained on begins where the template's generation prompt
ends. A template without one would have its opening trained on. Both are found out here and refused, not trained on
wrongly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from interalign.conversations.tree import Tree
from interalign.errors import TrainingError
from interalign.messages import Chat, Message, as_dicts

__all__ = ["Segment", "chat_segments", "refuse_unopened", "rendered_length", "tree_segments"]


@dataclass(frozen=True)
class Segment:
    """The tokens of one message.

    `parent` is the index of the segment before it on its path (None for the system message), `node` the tree node it
    comes from (None for the system message). The first `header` tokens open the message ("<|im_start|>assistant");
    the others are what its author writes, end mark included, and are what a reply is trained on. Templates that end a
    user's turn with what opens the reply ("[/INST]") leave a reply no header; those that put the system message into
    the first user turn leave the system message no tokens.
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
        TrainingError: the template rewrites earlier messages, has no place for a system message, or does not say where
            a reply begins.
    """
    opening: Chat = (Message(role="system", content=system),)
    if nodes:
        _refuse_deaf(tokenizer, system, tree.chat(nodes[0]))
    root = _rendered_opening(tokenizer, opening)
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
        TrainingError: the template refuses the chat, rewrites earlier messages, or does not say where a reply begins.
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
        header -= len(full) - _begin_of_reply(tokenizer, chat, full)
    if header == 0 and chat[-1].role == "assistant":
        refuse_unopened(chat, tokenizer)
    return tuple(own), header, full


def _begin_of_reply(tokenizer: Any, chat: Chat, full: list[int]) -> int:
    """How many tokens of a chat stand before what its last reply is trained on."""
    prompt = _render(tokenizer, chat[:-1], add_generation_prompt=True)
    if full[: len(prompt)] != prompt:
        raise TrainingError(
            f"The chat template of {tokenizer.name_or_path!r} has a reply written after another opening than the one "
            "that it gives replies which are written already.",
            mend="use a template whose generation prompt is how every reply begins.",
        )
    return len(prompt)


def _rendered_opening(tokenizer: Any, opening: Chat) -> list[int]:
    """The tokens of the system message; none where it is written with the first user turn only."""
    try:
        return _render(tokenizer, opening)
    except TrainingError:
        # Some templates insist on a user turn. What they have against the system message itself comes up there again.
        return []


def _render(tokenizer: Any, chat: Chat, *, add_generation_prompt: bool = False) -> list[int]:
    with _told(tokenizer):
        rendered = tokenizer.apply_chat_template(
            as_dicts(chat), tokenize=True, add_generation_prompt=add_generation_prompt, return_dict=True
        )
    return list(rendered["input_ids"])


@contextmanager
def _told(tokenizer: Any) -> Iterator[None]:
    """Within this block, what a template has against a conversation becomes a TrainingError."""
    try:
        yield
    except Exception as error:  # templates are programs of their own and raise what they like
        raise TrainingError(
            f"The chat template of {tokenizer.name_or_path!r} refuses this conversation: {error}",
            mend="use a model whose template takes a system message and alternating turns, or give its tokenizer a "
            "template that writes the system message into the first user turn.",
        ) from error


def refuse_unopened(chat: Chat, tokenizer: Any) -> None:
    """Refuse a template that opens replies and does not do so when one is to be written.

    Raises:
        TrainingError: it is such a template, or it refuses `chat`, which ends with a reply.
    """
    with _told(tokenizer):
        full, before, prompt = (
            tokenizer.apply_chat_template(as_dicts(part), tokenize=False, add_generation_prompt=opened)
            for part, opened in ((chat, False), (chat[:-1], False), (chat[:-1], True))
        )
    if prompt == before and not full[len(prompt) :].lstrip().startswith(chat[-1].content.strip()):
        raise TrainingError(
            f"The chat template of {tokenizer.name_or_path!r} opens replies, but has no generation prompt: the opening "
            "itself would be trained on.",
            mend="give its tokenizer a template that heeds add_generation_prompt.",
        )


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
