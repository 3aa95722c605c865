from __future__ import annotations

from typing import Any

import pytest

from interalign.conversations.tree import Tree
from interalign.errors import TrainingError
from interalign.messages import Chat, Message, as_dicts
from interalign.training.packing import Example, pack
from interalign.training.tokens import Segment, chat_segments, tree_segments
from tests.training.tiny import CHATML, SYSTEM, make_tokenizer

# Templates of the kinds that are in use, each as short as its kind allows.
INST = (
    "{% if messages[0].role == 'system' %}{% set said = messages[0].content %}{% set turns = messages[1:] %}"
    "{% else %}{% set said = '' %}{% set turns = messages %}{% endif %}"
    "{% for turn in turns %}"
    "{% if (turn.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if turn.role == 'user' %}"
    "{{ '<s>[INST] ' + ('<<SYS>>\n' + said + '\n<</SYS>>\n\n' if loop.first and said else '') + turn.content.strip() }}"
    "{{ ' [/INST]' }}"
    "{% else %}{{ ' ' + turn.content.strip() + '</s>' }}{% endif %}{% endfor %}"
)
"""Llama 2 and the first Mistral: the system message lies in the first user turn, and a reply has no opening."""

HEADERS = (
    "{{ '<|begin_of_text|>' }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content.strip() + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
"""Llama 3."""

NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% set role = 'model' if message.role == 'assistant' else message.role %}"
    "{{ '<start_of_turn>' + role + '\n' + message.content.strip() + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
"""The first two Gemmas."""

THINKING = (
    "{% set ns = namespace(asked=0) %}"
    "{% for message in messages %}"
    "{% if message.role == 'user' %}{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.role == 'assistant' and loop.index0 > ns.asked %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ message.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Qwen 3: what a reply thought goes when the next question comes."""

OPENED_THOUGHT = CHATML.replace("{{ '<|im_start|>assistant\n' }}", "{{ '<|im_start|>assistant\n<think>\n' }}")
"""DeepSeek R1 and its like: a reply that is to be written begins with a thought, one that is written does not."""

OWN_DEFAULT = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI.<|im_end|>\n' }}{% endif %}"
    + CHATML
)
"""Qwen 2.5 and SmolLM2: without a system message there is one all the same."""

NEEDS_USER = (
    "{% if messages | selectattr('role', 'equalto', 'user') | list | length == 0 %}"
    "{{ raise_exception('No user query found') }}{% endif %}" + CHATML
)
"""Newer Qwens."""

UNOPENED = CHATML.partition("{% if add_generation_prompt %}")[0]
"""One that does not heed add_generation_prompt."""


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


def targets_of(tree: Tree, tokenizer: Any, node: int) -> str:
    """What is trained on of one reply, by way of the packed sequence."""
    segments = segments_of(tree, tokenizer)
    packed = pack([Example(0, tuple(segments), (node,))])
    return str(tokenizer.decode(packed.ids[packed.targets]))


@pytest.mark.parametrize(
    ("template", "before", "after", "bare"),
    [
        (INST, " ", "</s>", True),
        (HEADERS, "", "<|eot_id|>", False),
        (OWN_DEFAULT, "", "<|im_end|>\n", False),
        (NEEDS_USER, "", "<|im_end|>\n", False),
    ],
    ids=["INST", "HEADERS", "OWN_DEFAULT", "NEEDS_USER"],
)
def test_templates_of_other_kinds_train_on_the_reply_and_its_end(
    trees: list[Tree], template: str, before: str, after: str, bare: bool
) -> None:
    tokenizer = make_tokenizer("some words", template)
    tree = trees[0]
    segments = segments_of(tree, tokenizer)
    replies = [node for node, one in enumerate(tree.nodes) if one.role == "assistant"]
    for node in replies:
        assert targets_of(tree, tokenizer, node) == f"{before}{tree.nodes[node].content}{after}"
        assert (segments[node + 1].header == 0) is bare
        chat = (Message(role="system", content=SYSTEM), *tree.chat(node))
        assert (
            path_ids(segments, node + 1) == tokenizer.apply_chat_template(as_dicts(chat), return_dict=True)["input_ids"]
        )


@pytest.mark.parametrize("template", [INST, NEEDS_USER], ids=["INST", "NEEDS_USER"])
def test_a_system_message_that_is_written_with_the_first_user_turn(trees: list[Tree], template: str) -> None:
    tokenizer = make_tokenizer("some words", template)
    segments = segments_of(trees[0], tokenizer)
    assert segments[0].ids == ()
    assert tokenizer.decode(segments[1].ids).count(SYSTEM) == 1
    assert all(SYSTEM not in tokenizer.decode(segment.ids) for segment in segments[2:])


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (NO_SYSTEM, "System role not supported.*To mend it: .*first user turn"),
        (THINKING, "changes earlier messages"),
        (OPENED_THOUGHT, "written after another opening"),
        (UNOPENED, "no generation prompt.*add_generation_prompt"),
    ],
    ids=["NO_SYSTEM", "THINKING", "OPENED_THOUGHT", "UNOPENED"],
)
def test_templates_whose_masks_would_be_wrong_are_refused(trees: list[Tree], template: str, says: str) -> None:
    with pytest.raises(TrainingError, match=says):
        segments_of(trees[0], make_tokenizer("some words", template))


CHAT: Chat = (
    Message(role="user", content="Hello"),
    Message(role="assistant", content="Good day."),
    Message(role="user", content="And you?"),
    Message(role="assistant", content="Fine."),
)


def test_a_chat_is_cut_where_its_messages_end(tokenizer: Any) -> None:
    segments = chat_segments(CHAT, tokenizer)
    assert [segment.parent for segment in segments] == [None, 0, 1, 2]
    assert [tokenizer.decode(segment.ids[segment.header :]) for segment in segments] == [
        "",
        "Good day.<|im_end|>\n",
        "",
        "Fine.<|im_end|>\n",
    ]
    whole = tokenizer.apply_chat_template(as_dicts(CHAT), return_dict=True)["input_ids"]
    assert path_ids(segments, 3) == whole


def test_a_default_system_message_is_read_and_not_trained_on() -> None:
    tokenizer = make_tokenizer("some words", OWN_DEFAULT)
    segments = chat_segments(CHAT, tokenizer)
    assert "You are a helpful AI." in tokenizer.decode(segments[0].ids[: segments[0].header])
    assert tokenizer.decode(segments[1].ids[segments[1].header :]) == "Good day.<|im_end|>\n"


@pytest.mark.parametrize(
    ("template", "chat", "says"),
    [
        (THINKING, CHAT, "changes earlier messages"),
        (UNOPENED, CHAT, "no generation prompt"),
        (INST, (CHAT[0], *CHAT), "roles must alternate"),
    ],
    ids=["THINKING", "UNOPENED", "INST"],
)
def test_a_chat_that_a_template_does_not_fit_is_refused(template: str, chat: Chat, says: str) -> None:
    with pytest.raises(TrainingError, match=says):
        chat_segments(chat, make_tokenizer("some words", template))


def test_an_opening_that_looks_like_a_reply_is_no_reply() -> None:
    # The first reply begins with the very words that open it, so only the second can tell.
    tokenizer = make_tokenizer("some words", UNOPENED)
    chat = (CHAT[0], Message(role="assistant", content="<|im_start|>assistant"), *CHAT[2:])
    with pytest.raises(TrainingError, match="no generation prompt"):
        chat_segments(chat, tokenizer)
