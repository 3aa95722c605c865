"""Chats of any dataset, learnt beside the trees so that a model keeps what it could do before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging import CRITICAL
from pathlib import Path
from random import Random
from typing import Annotated, Any

from pydantic import Field, ValidationError

from interalign.errors import InputError, MissingExtra
from interalign.llm.libraries import quiet
from interalign.messages import Chat, Message, Value
from interalign.run import derive_seed

__all__ = ["MixConfig", "read_chats"]

_FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}
_ROLES = {"human": "user", "gpt": "assistant"}


class MixConfig(Value):
    """Chats of another dataset among the trees (the paper mixed general chats into SFT)."""

    dataset: str
    """A JSONL, JSON or Parquet file, a folder, or a hub name. Its rows hold a chat as `messages` (role, content), as
    `conversations` (from, value), or as `prompt` and `completion`, each a text or messages. Rows in which user and
    assistant do not take turns, or one of them says nothing, are passed over."""
    split: str = "train"
    """Which split of it."""
    chats_per_tree: Annotated[float, Field(gt=0)] = 1.0
    """How many chats are learnt for each tree."""


def read_chats(config: MixConfig, trees: int, seed: int) -> tuple[Chat, ...]:
    """Chats to learn beside so many trees, drawn by seed; from the first draw again when the dataset is too small.

    Raises:
        InputError: the dataset cannot be read, or holds no chat with an answer.
        MissingExtra: the package datasets is not installed.
    """
    wanted = round(config.chats_per_tree * trees)
    rows = _rows(config)
    order = list(range(len(rows)))
    Random(derive_seed(seed, "mix")).shuffle(order)
    chats: list[Chat] = []
    unfit = 0
    for index in order:
        if len(chats) == wanted:
            break
        chat = _chat(rows[index])
        if chat is None:
            unfit += 1
        else:
            chats.append(chat)
    if wanted and not chats:
        raise InputError(
            f"The dataset {config.dataset} holds no chat with an answer in {len(rows):,} rows.",
            mend="its rows need messages (role, content), conversations (from, value), or prompt and completion.",
        )
    return tuple(chats[index % len(chats)] for index in range(wanted))


def _rows(config: MixConfig) -> Any:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise MissingExtra("datasets", "train") from error
    path = Path(config.dataset)
    kind = _FORMATS.get(path.suffix)
    if kind and not path.is_file():
        raise InputError(f"There is no file {config.dataset}.", mend="correct train.sft.mix.dataset in the recipe.")
    try:
        with quiet(), _silent(datasets):
            if kind:
                return datasets.load_dataset(kind, data_files=str(path), split="train")
            return datasets.load_dataset(config.dataset, split=config.split)
    # An empty file is told by StopIteration.
    except (OSError, ValueError, KeyError, StopIteration, datasets.exceptions.DatasetsError) as error:
        raise InputError(
            f"The dataset {config.dataset!r} cannot be read: {_reason(error)}",
            mend="name a JSONL, JSON or Parquet file, a folder, or a hub name, and one of its splits.",
        ) from error


def _reason(error: BaseException) -> str:
    """The first line of what went wrong at first: datasets hides it behind an error of its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0] or "it is empty"


@contextmanager
def _silent(datasets: Any) -> Iterator[None]:
    """Within this block datasets logs no errors: it also raises them, and they are told once."""
    before = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(before)


def _chat(row: Mapping[str, Any]) -> Chat | None:
    """The chat in a row, up to its last answer; None when there is none."""
    try:
        messages = list(_messages(row))
    except (AttributeError, KeyError, TypeError, ValidationError):
        return None
    while messages and messages[-1].role != "assistant":
        messages.pop()
    roles = [message.role for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    # A chat template refuses what does not alternate, and one refusal would end the whole training.
    in_turn = bool(turns) and turns == ["user", "assistant"] * (len(turns) // 2)
    return tuple(messages) if in_turn and all(message.content for message in messages) else None


def _messages(row: Mapping[str, Any]) -> Iterator[Message]:
    if row.get("messages"):
        said = [(message["role"], message["content"]) for message in row["messages"]]
    elif row.get("conversations"):
        said = [(message["from"], message["value"]) for message in row["conversations"]]
    else:
        said = [*_side(row["prompt"], "user"), *_side(row["completion"], "assistant")]
    for role, content in said:
        # White space around it would melt into the tokens of the template, which packing keeps apart.
        yield Message(role=_ROLES.get(role, role), content=content.strip())


def _side(said: Any, role: str) -> list[tuple[Any, Any]]:
    """One side of a row: a text, or messages."""
    return [(role, said)] if isinstance(said, str) else [(message["role"], message["content"]) for message in said]
