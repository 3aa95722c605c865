"""Language models that play a role: who answers, what they are told, and how an answer is read.

What always holds: a role's instructions are the same bytes in every call; personas, chats and replies stand after them
as JSON between tags that no text can close, what changes from turn to turn behind what stays; who answers depends on
the seed alone; an answer that is not what was asked for is an error, never a default.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar

from pydantic import BeforeValidator, Field, ValidationError

from interalign.errors import InputError, ModelError, StopWork, StorageError
from interalign.llm.backends import ModelConfig
from interalign.llm.model import CUT, REFUSED, Answer, ChatModel, Request, Sampling
from interalign.messages import Chat, Message, Value
from interalign.personas.generate import as_data
from interalign.personas.persona import Persona
from interalign.run import derive_seed

__all__ = [
    "FREELY",
    "Form",
    "Player",
    "RoleConfig",
    "RoleFailure",
    "Score",
    "Unreadable",
    "WeightedModel",
    "all_or_first_error",
    "exchange",
    "instructions",
    "moment",
    "packaged",
    "prompt_hashes",
    "read_form",
    "schema_of",
    "setting",
    "tagged",
]

_FENCED = re.compile(r"\s*```(?:json)?[ \t]*\n(.*?)\n?```\s*", re.DOTALL)
# How models begin that will not answer. In English, and only where nothing of the wanted form was found.
_REFUSAL = re.compile(
    r"\W*(?:(?:i['’]m |i am )?(?:\w+ )?sorry\b|i apologi[sz]e\b|i (?:must )?(?:decline|refuse)\b"
    r"|(?:as an? [\w ]+, )?i(?:['’]m| am)? (?:cannot|can['’]t|can not|won['’]t|will not|unable|not able)"
    r"(?: \w+){0,2} (?:rate|score|judge|grade|assess|evaluate|give|provide|assist|help|comply|answer|respond)\b)",
    re.IGNORECASE,
)
_POLICIES = frozenset({"tailored", "generic"})
FREELY = "_free"
"""Behind the name of a rater who may answer in free text."""


class WeightedModel(Value):
    """One of the models that play a role, and how often it does, compared with the others."""

    model: ModelConfig
    weight: Annotated[float, Field(gt=0)] = 1


class RoleConfig(Value):
    """Which language models play a role."""

    models: Annotated[tuple[WeightedModel, ...], Field(min_length=1)]
    sampling: Sampling = Sampling()
    prompt: str | None = None
    """Path of a text file that replaces the package's instructions. It must ask for an answer of the same form."""


class RoleFailure(ModelError):
    """A language model was asked twice, or gave nothing, and its answer cannot be used in its role."""

    def __init__(self, what: str, *, mend: str | None = None, cause: str = "unreadable") -> None:
        super().__init__(what, mend=mend, cause=cause)


class Form(Value):
    """The form of an answer in JSON. `example` shows it to a model that has missed it."""

    example: ClassVar[str]


def _number(score: Any) -> Any:
    # To Python, true is 1.
    if isinstance(score, bool):
        raise ValueError("Input should be a number")
    return score


Score: TypeAlias = Annotated[Literal[1, 2, 3, 4, 5], BeforeValidator(_number)]
"""A field of a form that holds a score."""

F = TypeVar("F", bound=Form)
T = TypeVar("T")


class Player:
    """The models that play one role, and the instructions that they get.

    Raises:
        InputError: there is no model, or a weight is not a positive number.
    """

    def __init__(self, models: Sequence[tuple[ChatModel, float]], sampling: Sampling, instructions: str) -> None:
        if not models or not all(0 < weight < math.inf for _, weight in models):
            raise InputError("A role needs at least one model, and each a positive weight.")
        self._models = [model for model, _ in models]
        self._weights = [weight for _, weight in models]
        self._sampling = sampling
        self.instructions = instructions

    def pick(self, seed: int) -> ChatModel:
        """The model that a seed draws, by weight."""
        return Random(derive_seed(seed, "player")).choices(self._models, self._weights)[0]

    async def ask(
        self, data: str, seed: int, *, schema: dict[str, Any] | None = None, draw: int | None = None
    ) -> Answer:
        """The answer to one message after the instructions; see `reply`."""
        return await self.reply(_one(data), seed, schema=schema, draw=draw)

    async def reply(
        self,
        chat: Chat,
        seed: int,
        *,
        schema: dict[str, Any] | None = None,
        draw: int | None = None,
        top_logprobs: int = 0,
    ) -> Answer:
        """The answer to a chat after the instructions.

        Args:
            chat: Messages; the last one is the user's.
            seed: Of the answer.
            schema: JSON schema that the answer is wished to keep to.
            draw: Seed that draws the model; without one `seed` does.
            top_logprobs: How many of the likeliest tokens are wished for at each place of the answer.

        Raises:
            ModelError: there is no usable answer.
        """
        model = self.pick(seed if draw is None else draw)
        messages = (Message(role="system", content=self.instructions), *chat)
        return await model.complete(
            Request(
                messages=messages,
                sampling=self._sampling,
                seed=seed,
                response_schema=schema,
                top_logprobs=top_logprobs,
            )
        )

    async def ask_for(self, form: type[F], data: str, seed: int, *, draw: int | None = None) -> tuple[F, str]:
        """The answer to one message in the wanted form, after one attempt to mend it, and the model that gave it.

        Raises:
            RoleFailure: the second answer cannot be read either.
            ModelError: there is no usable answer.
        """
        read, answer = await self.ask_until_read(
            partial(read_form, form), form.example, data, seed, schema=schema_of(form), draw=draw
        )
        return read, answer.model

    async def ask_until_read(
        self, read: Callable[[str], T], example: str, data: str, seed: int, *, repair: str = "repair", **wishes: Any
    ) -> tuple[T, Answer]:
        """What `read` makes of the answer to one message, after one attempt to mend it, and that answer.

        Args:
            read: Reads an answer's text; raises Unreadable.
            example: The form of the answer, for a model that has missed it.
            data: The message.
            seed: Of the answer.
            repair: Name of the text that asks once more.
            wishes: See `reply`.

        Raises:
            RoleFailure: the second answer cannot be read either.
            ModelError: there is no usable answer.
        """
        chat = _one(data)
        answer = await self.reply(chat, seed, **wishes)
        try:
            return read(answer.text), answer
        except Unreadable as problem:
            again = packaged(repair).format(problem=problem, form=example)
        chat = (*chat, Message(role="assistant", content=answer.text), *_one(again))
        answer = await self.reply(chat, seed, **wishes)
        try:
            return read(answer.text), answer
        except Unreadable as problem:
            cut = " (it was cut off at max_tokens)" if answer.finish == "length" else ""
            what = f"{answer.model} gave an answer that cannot be read: {problem}{cut}."
            cause = _cause(answer, problem)
        raise RoleFailure(what, mend="raise max_tokens, or give the role another model.", cause=cause)


async def all_or_first_error(calls: Iterable[Awaitable[T]]) -> list[T]:
    """All results; or, when all have ended, the error that matters most: one that stops the work, then the first."""
    ended = await asyncio.gather(*calls, return_exceptions=True)
    errors = [one for one in ended if isinstance(one, BaseException)]
    for error in sorted(errors, key=lambda one: not isinstance(one, StopWork | StorageError)):
        raise error
    return [one for one in ended if not isinstance(one, BaseException)]


class Unreadable(Exception):
    """An answer that is not what was asked for; the text says why, in words that a model can mend it by.

    `cause` says it in a few words, the same ones for all answers that are wrong alike, so that they can be counted.
    """

    def __init__(self, problem: str, cause: str = "unreadable") -> None:
        self.cause = cause
        super().__init__(problem)


def _cause(answer: Answer, problem: Unreadable) -> str:
    """Why an answer could not be read, by what explains the most: it was cut, is nothing, or says no."""
    if answer.finish == "length":
        return CUT
    if not answer.text.strip():
        return "empty"
    return REFUSED if _REFUSAL.match(answer.text) else problem.cause


@cache
def schema_of(form: type[Form]) -> dict[str, Any]:
    """The JSON schema of a form."""
    return form.model_json_schema()


def _one(content: str) -> Chat:
    return (Message(role="user", content=content),)


def read_form(form: type[F], text: str) -> F:
    """The answer in a text that is its JSON, or one block of code with it; nothing is fished out of prose.

    Raises:
        Unreadable: the text is nothing of that form.
    """
    fenced = _FENCED.fullmatch(text)
    try:
        return form.model_validate_json(fenced[1] if fenced else text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        cause = "no JSON" if first["type"] == "json_invalid" else _misfit(form, first["loc"], first["type"])
        raise Unreadable(f"{where}: {first['msg']}" if where else first["msg"], cause) from None


def _misfit(form: type[Form], place: Sequence[int | str], kind: str) -> str:
    """What is wrong with JSON that is not of the form: keys that nobody asked for have too many names to be told."""
    field = place[0] if place else None
    if field not in form.model_fields:
        return "JSON of another form"
    return f"no {field} in its JSON" if kind == "missing" else f"unfit {field} in its JSON"


def setting(persona: Persona, chat: Chat) -> str:
    """What a prompt begins with that needs the whole chat: who it is, and the chat, which grows at its end."""
    return f"{_person(persona)}\n\n{_lines(chat)}"


def moment(persona: Persona, tag: str, shown: Sequence[str], chat: Chat) -> str:
    """What a prompt about the last message of a chat begins with: a few hundred tokens, however long the chat is.

    Args:
        persona: Who it is.
        tag: Around `shown`.
        shown: What the person has given away so far, oldest first, so that it grows at its end; it stands for all
            of the chat before the last exchange.
        chat: Of it, the last message and the one before are given.
    """
    return f"{_person(persona)}\n\n{tagged(tag, shown)}\n\n{exchange(chat)}"


def exchange(chat: Chat) -> str:
    """The last message of a chat and the one before, for a prompt that needs no more."""
    return _lines(chat[-2:])


def _person(persona: Persona) -> str:
    return tagged("persona", {"profile": persona.profile, "personality": persona.personality})


def _lines(chat: Chat) -> str:
    lines = "".join(f"{as_data({message.role: message.content})}\n" for message in chat)
    return f"<chat>\n{lines}</chat>"


def tagged(tag: str, content: Any) -> str:
    """`content` as JSON in a tag that no text in it can close."""
    return f"<{tag}>{as_data(content)}</{tag}>"


def instructions(role: str, path: str | None = None) -> str:
    """What the models that play a role are told, from the package or from a file in its place.

    Args:
        role: `user`, `inducer`, `judge`, `rater`, `helpfulness`, or `tailored` and `generic`, who are told what every
            policy is. With `FREELY` behind it, the last paragraph, which asks for JSON, asks for a reason and a last
            line "Rating: N" instead; a file of one's own is not touched.
        path: The file (`RoleConfig.prompt`).

    Raises:
        InputError: the file is missing, cannot be read, or is empty.
    """
    if path is None and role.endswith(FREELY):
        return "\n\n".join([packaged(role.removesuffix(FREELY)).rpartition("\n\n")[0], packaged("free")])
    if path is None:
        return packaged("policy" if role in _POLICIES else role)
    role = role.removesuffix(FREELY)
    mend = f"give the {role} a UTF-8 text file with instructions, or none for the package's own."
    try:
        # Some editors begin a file with a byte order mark.
        text = Path(path).read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text.", mend=mend) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", mend=mend) from error
    if not text:
        raise InputError(f"{path} is empty.", mend=mend)
    return text


@cache
def packaged(name: str) -> str:
    """The text of `roles/prompts/<name>.txt`."""
    return (files("interalign.roles") / "prompts" / f"{name}.txt").read_text(encoding="utf-8").strip()


def prompt_hashes(told: Mapping[str, str], *, free_text: bool = False) -> dict[str, str]:
    """Where results come from: for each role its instructions, and for the texts that roles share, 12 hex digits.

    Args:
        told: The instructions of each role.
        free_text: Whether a judge among them answers in free text, and is asked again by a text of its own.
    """
    texts = {**told, "notes": packaged("responder"), "repair": packaged("repair")}
    if free_text:
        texts["repair_free"] = packaged("repair_free")
    return {name: hashlib.sha256(text.encode()).hexdigest()[:12] for name, text in texts.items()}
