from __future__ import annotations

from typing import Any

import pytest

from interalign.conversations.tree import Tree
from interalign.errors import TrainingError
from interalign.messages import Message, as_dicts
from interalign.training.tokens import Segment, tree_segments
from tests.training.tiny import CHATML, SYSTEM, make_tokenizer


def segments_of(tree: Tree, tokenizer: Any) -> list[Segment]:
    return tree_segments(tree, range(len(tree.nodes)), SYSTEM, tokenizer)


def path_ids(segments: list[Segment], index: int | None) -> list[int]:
    if index is None:
        return []
    segment = segments[index]
    return [*path_ids(segments, segment.parent), *segment.ids]


def test_segments_along_a_path_are_the_whole_chat(trees: list[Tree], tokenizer: Any) -> None:
    for tree in trees:
        segments = segments_of(tree, tokenizer)
        assert [segment.node for segment in segments] == [None, *range(len(tree.nodes))]
        for index, segment in enumerate(segments[1:], 1):
            assert segment.node is not None
            chat = (Message(role="system", content=SYSTEM), *tree.chat(segment.node))
            whole = tokenizer.apply_chat_template(as_dicts(chat), return_dict=True)["input_ids"]
            assert path_ids(segments, index) == whole


def test_what_is_trained_on_is_the_reply_and_its_end(trees: list[Tree], tokenizer: Any) -> None:
    for segment in segments_of(trees[0], tokenizer)[1:]:
        assert segment.node is not None
        node = trees[0].nodes[segment.node]
        header, rest = (tokenizer.decode(ids) for ids in (segment.ids[: segment.header], segment.ids[segment.header :]))
        if node.role == "assistant":
            assert (header, rest) == ("<|im_start|>assistant\n", f"{node.content}<|im_end|>\n")
        else:
            assert (header, rest) == (f"<|im_start|>user\n{node.content}<|im_end|>\n", "")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        # A thinking model's template leaves out of earlier replies what it leaves in the last one.
        (
            CHATML.replace("message['content']", "(message['content'] if loop.last or loop.index0 != 2 else '')"),
            "changes earlier messages",
        ),
        (
            "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}",
            "no system role",
        ),
        (CHATML.replace("{{ '<", "{{ '' if message['role'] == 'system' else '<", 1), "leaves out the system message"),
    ],
    ids=["rewrites", "refuses", "deaf"],
)
def test_a_template_that_does_not_fit_is_refused(trees: list[Tree], template: str, says: str) -> None:
    tokenizer = make_tokenizer("some words", template)
    with pytest.raises(TrainingError, match=says):
        segments_of(trees[0], tokenizer)


def test_a_system_message_inside_the_first_user_turn_will_do(trees: list[Tree]) -> None:
    merging = (
        "{% set ns = namespace(said='') %}{% for message in messages %}"
        "{% if message['role'] == 'system' %}{% set ns.said = message['content'] + '\n\n' %}{% else %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + ns.said + message['content'] + '<|im_end|>\n' }}"
        "{% set ns.said = '' %}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    tokenizer = make_tokenizer("some words", merging)
    segments = segments_of(trees[0], tokenizer)
    assert segments[0].ids == ()
    assert SYSTEM in tokenizer.decode(segments[1].ids)
