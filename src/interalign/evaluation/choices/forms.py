"""The forms that rows of multiple-choice files have, each read into items.

`personamem` (github.com/bowen-upenn/PersonaMem): `question_id`, `question_type`, `persona_id`,
`user_question_or_message` (older files: `question`), `all_options` (a list, as Python or JSON writes it, of
`(a) text`), `correct_answer` (`(c)`), `shared_context_id` and `end_index_in_shared_context`; the contexts are lines
`{id: [messages]}`, of which the messages before the end index are the chat.

`prefeval` (github.com/amazon-science/PrefEval, mcq_options/<topic>.json): `preference`, `question` and
`classification_task_options`, of which the first is the one that fits. The chat is the stated preference, or the
conversation that the implicit file of the same topic has for the same preference and question. A row with `options` and
`aligned_op` in their place is read as well: there the question that the options answer is `implicit_query`. (The
published evaluation lets the tested model itself acknowledge the preference; here one sentence stands for it, so that
all models answer the same chat.)

`plain`: `question`, `options` (a list), `answer` (a place, counted from 0), and where wanted `id`, `group`, `person`,
and the chat: either `chat`, a list of messages, or `chat_id`, with `chat_end` where it ends before its end, into a
contexts file of lines `{"id": ..., "chat": [messages]}`. In CSV, lists are written as JSON.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

from interalign.evaluation.choices.item import ChoiceItem
from interalign.messages import Chat, Message, Speaker, well_formed

__all__ = ["FORMS", "FormName", "Talks", "Unusable", "form_of", "talks_of"]

FormName: TypeAlias = Literal["personamem", "prefeval", "plain"]
Talks: TypeAlias = Mapping[str, Chat]
"""Chats by what rows name them by."""

_Fields: TypeAlias = Mapping[str, Any]
_LABEL = re.compile(r"\s*\(([a-zA-Z])\)\s*")
_SPEAKERS: tuple[Speaker, ...] = get_args(Speaker)
_NUMBER = re.compile(r"\d+")
_TOLD = "Thank you for telling me. I will keep it in mind."
_CHOICE_TURNS: tuple[tuple[str, Speaker], ...] = (
    ("query", "user"),
    ("assistant_options", "assistant"),
    ("user_selection", "user"),
    ("assistant_acknowledgment", "assistant"),
)


class Unusable(ValueError):
    """A row that is no question; the text says why."""


def form_of(fields: _Fields) -> FormName | None:
    """The form of a file whose first row has these fields; None when it is none of those known."""
    names = fields.keys()
    if {"all_options", "correct_answer"} <= names:
        return "personamem"
    if "preference" in names:
        return "prefeval"
    return "plain" if {"question", "options", "answer"} <= names else None


def talks_of(form: FormName, rows: Sequence[_Fields]) -> Talks:
    """The chats in the rows of a contexts file."""
    talks: dict[str, Chat] = {}
    for fields in rows:
        if form == "prefeval":
            talks[_pair(fields)] = _conversation(fields.get("conversation"))
        elif "id" in fields and "chat" in fields:
            talks[str(fields["id"])] = _chat(fields["chat"])
        else:
            talks.update({name: _chat(messages) for name, messages in fields.items()})
    return talks


def _personamem(fields: _Fields, name: str, group: str, talks: Talks | None) -> ChoiceItem:
    options = _texts(fields.get("all_options"), "all_options")
    labelled = [_LABEL.match(option) for option in options]
    right = _letter(_text(fields, "correct_answer"))
    labels = [found[1].lower() if found else chr(ord("a") + place) for place, found in enumerate(labelled)]
    if labels.count(right) != 1:
        raise Unusable("correct_answer names no option, or more than one")
    return ChoiceItem(
        id=_text(fields, "question_id") or name,
        question=_text(fields, "user_question_or_message") or _text(fields, "question"),
        options=tuple(option[found.end() if found else 0 :] for option, found in zip(options, labelled, strict=True)),
        answer=labels.index(right),
        group=_text(fields, "question_type") or group,
        person=_text(fields, "persona_id") or _text(fields, "shared_context_id"),
        chat=_shared(talks, _text(fields, "shared_context_id"), fields.get("end_index_in_shared_context")),
    )


def _prefeval(fields: _Fields, name: str, group: str, talks: Talks | None) -> ChoiceItem:
    question = "question"
    if "classification_task_options" in fields:
        options, answer = _texts(fields["classification_task_options"], "classification_task_options"), 0
    elif "aligned_op" in fields and "options" in fields:
        options = _texts(fields["options"], "options")
        aligned = [place for place, option in enumerate(options) if _same(option) == _same(_text(fields, "aligned_op"))]
        if len(aligned) != 1:
            raise Unusable("aligned_op is none of the options, or more than one")
        # The conversation of such a row says which option was taken, so that it cannot stand before the question.
        question, answer, talks = "implicit_query", aligned[0], None
    else:
        raise Unusable("it has no options: give mcq_options/<topic>.json, and this file as the contexts")
    chat = _stated(_text(fields, "preference")) if talks is None else talks.get(_pair(fields), ())
    if not chat:
        raise Unusable("the contexts have no conversation for it")
    return ChoiceItem(
        id=name,
        question=_text(fields, question),
        options=tuple(options),
        answer=answer,
        group=_text(fields, "topic") or group,
        chat=chat,
    )


def _plain(fields: _Fields, name: str, group: str, talks: Talks | None) -> ChoiceItem:
    answer = _text(fields, "answer")
    if not answer.isdecimal():
        raise Unusable("answer is not the place of an option, counted from 0")
    shared, given = _text(fields, "chat_id"), fields.get("chat")
    if isinstance(given, str) and given.strip():
        given = _literal(given, "chat")
    return ChoiceItem(
        id=_text(fields, "id") or name,
        question=_text(fields, "question"),
        options=tuple(_texts(fields.get("options"), "options")),
        answer=int(answer),
        group=_text(fields, "group") or group,
        person=_text(fields, "person") or shared,
        chat=_shared(talks, shared, fields.get("chat_end")) if shared else _chat(given or []),
    )


FORMS: dict[FormName, Callable[[_Fields, str, str, Talks | None], ChoiceItem]] = {
    "personamem": _personamem,
    "prefeval": _prefeval,
    "plain": _plain,
}
"""By its name, what reads a row of a form: fields, an id and a group where the row has none, and the contexts."""


def _shared(talks: Talks | None, name: str, end: Any) -> Chat:
    """The messages of a shared chat before the place `end`."""
    if talks is None:
        raise Unusable("its chat stands in another file: name it with --contexts")
    if name not in talks:
        raise Unusable("the contexts have no chat of its id")
    chat = talks[name]
    if end is None or not str(end).strip():
        return chat
    if not str(end).strip().isdecimal() or int(end) > len(chat):
        raise Unusable(f"its chat does not reach to message {end}")
    return chat[: int(end)]


def _stated(preference: str) -> Chat:
    return (Message(role="user", content=preference), Message(role="assistant", content=_TOLD)) if preference else ()


def _conversation(value: Any) -> Chat:
    """PrefEval's implicit conversations: one exchange over options, or numbered turns."""
    if not isinstance(value, dict):
        return ()
    if "query" in value:
        said = [(role, value.get(key)) for key, role in _CHOICE_TURNS]
    else:
        turns = sorted(((_number(key), turn) for key, turn in value.items() if turn), key=lambda one: one[0])
        said = [(role, turn.get(role)) for _, turn in turns if isinstance(turn, dict) for role in ("user", "assistant")]
    return tuple(Message(role=role, content=well_formed(text)) for role, text in said if isinstance(text, str) and text)


def _number(key: str) -> int:
    found = _NUMBER.search(key)
    return int(found[0]) if found else 0


def _chat(value: Any) -> Chat:
    """A list of messages; what they have beside role and content is passed over."""
    if not isinstance(value, list):
        raise Unusable("its chat is no list of messages")
    return tuple(map(_message, value))


def _message(value: Any) -> Message:
    role, content = (value.get("role"), value.get("content")) if isinstance(value, dict) else (None, None)
    known = next((one for one in _SPEAKERS if one == role), None)
    if known is None or not isinstance(content, str):
        raise Unusable("a message of its chat has no role (system, user or assistant) or no text")
    return Message(role=known, content=well_formed(content))


def _texts(value: Any, what: str) -> list[str]:
    if isinstance(value, str):
        value = _literal(value, what)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise Unusable(f"{what} is no list of texts")
    return [well_formed(one.strip()) for one in value]


def _literal(text: str, what: str) -> Any:
    """What a text writes out as JSON or as Python does: a value, and never code that is run."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        raise Unusable(f"{what} is no list") from None


def _text(fields: _Fields, key: str) -> str:
    """A field as text without the white space around it; "" where it is missing."""
    value = fields.get(key)
    return "" if value is None else well_formed(str(value)).strip()


def _letter(text: str) -> str:
    return text.strip("() ").lower()


def _pair(fields: _Fields) -> str:
    """What the files of one topic share for one row."""
    return json.dumps([_same(_text(fields, "preference")), _same(_text(fields, "question"))])


def _same(text: str) -> str:
    return " ".join(text.split()).casefold()
