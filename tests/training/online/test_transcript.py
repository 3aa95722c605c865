from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.errors import TrainingError
from interalign.messages import Chat, Message, as_dicts
from interalign.training.online.transcript import ChatTemplate, Transcript
from tests.training.tiny import CHATML, SYSTEM, make_tokenizer

TOKENIZER = make_tokenizer("Good morning. How are you today? I am well, thank you, and you?")
END = TOKENIZER.eos_token_id
OTHER_END = TOKENIZER.pad_token_id
TEMPLATE = ChatTemplate(TOKENIZER, SYSTEM, frozenset({END, OTHER_END}))

texts = st.text(st.characters(codec="utf-8", exclude_characters="<|>"), max_size=30).map(str.strip)
exchanges = st.lists(st.tuples(texts, texts, st.booleans()), min_size=1, max_size=4)


def chat_of(said: list[tuple[str, str, bool]]) -> Chat:
    return tuple(
        message
        for user, reply, _ in said
        for message in (Message(role="user", content=user), Message(role="assistant", content=reply))
    )


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def played(said: list[tuple[str, str, bool]]) -> Transcript:
    """The transcript of replies that are drawn as the tokenizer spells them, each cut or with its end mark."""
    transcript = TEMPLATE.opening(said[0][0])
    for turn, (_, reply, cut) in enumerate(said):
        drawn = ids(reply) if cut and reply else [*ids(reply), END]
        transcript = transcript.drawn(drawn, [-1.5] * len(drawn))
        if turn + 1 < len(said):
            transcript = TEMPLATE.answered(transcript, chat_of(said)[: 2 * turn + 2], said[turn + 1][0])
    return transcript


@given(exchanges)
def test_tokens_are_those_of_the_whole_chat(said: list[tuple[str, str, bool]]) -> None:
    transcript = played(said)
    opening = Message(role="system", content=SYSTEM)
    whole = TOKENIZER.apply_chat_template(as_dicts((opening, *chat_of(said))), return_dict=True)["input_ids"]
    assert transcript.context == whole[: len(transcript.context)]
    assert TOKENIZER.decode(whole[len(transcript.context) :]) in ("\n", "<|im_end|>\n")


@given(exchanges)
def test_what_is_trained_on_is_what_was_drawn(said: list[tuple[str, str, bool]]) -> None:
    transcript = played(said)
    assert len(transcript.completion) == len(transcript.mask) == len(transcript.logprobs)
    drawn = [token for token, mark in zip(transcript.completion, transcript.mask, strict=True) if mark]
    assert drawn == [token for _, reply, cut in said for token in (ids(reply) if cut and reply else [*ids(reply), END])]
    assert all((logprob < 0) == bool(mark) for logprob, mark in zip(transcript.logprobs, transcript.mask, strict=True))


def test_the_end_that_a_cut_reply_lacks_is_not_trained_on() -> None:
    cut, ended = (played([("Hi", "Good", cut), ("Well?", "Fine", False)]) for cut in (True, False))
    assert cut.completion == ended.completion
    assert sum(ended.mask) == sum(cut.mask) + 1


def test_another_end_mark_gives_way_to_the_templates() -> None:
    chat = chat_of([("Hi", "Good", False)])
    started = TEMPLATE.opening("Hi")
    own, other = (started.drawn([*ids("Good"), end], [-1.0] * (len(ids("Good")) + 1)) for end in (END, OTHER_END))
    own, other = (TEMPLATE.answered(transcript, chat, "Well?") for transcript in (own, other))
    assert own.context == other.context
    assert sum(own.mask) == sum(other.mask) + 1


def test_a_reply_is_read_without_marks_and_spaces_around_it() -> None:
    assert TEMPLATE.read([*ids("  Good morning. \n"), END]) == "Good morning."
    assert TEMPLATE.read([*ids("<think>Notes: emoji none.</think>\nGood morning."), END]) == "Good morning."


MERGING = CHATML.replace("'<|im_start|>' + message['role'] + '\n'", "' ' + message['role'] + ' '").replace(
    "'<|im_end|>' + '\n'", "''"
)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (
            CHATML.replace("message['content']", "(message['content'] if loop.last or loop.index0 != 2 else '')"),
            "changes earlier messages",
        ),
        (CHATML.replace("assistant\n", "assistant\n<think>\n"), "changes earlier messages"),
        (
            "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}",
            "no system role",
        ),
        (CHATML.replace("{{ '<", "{{ '' if message['role'] == 'system' else '<", 1), "leaves out the system message"),
        (MERGING.replace("<|im_start|>assistant\n", " assistant "), "splits a chat otherwise"),
    ],
    ids=["rewrites", "thinks", "refuses", "deaf", "merges"],
)
def test_a_template_that_does_not_fit_is_refused(template: str, says: str) -> None:
    learnt = "nothing much. user nothing much. user Good morning. What is new? assistant Hello"
    tokenizer: Any = make_tokenizer(learnt, template)
    with pytest.raises(TrainingError, match=says):
        ChatTemplate(tokenizer, SYSTEM, frozenset({END}))
