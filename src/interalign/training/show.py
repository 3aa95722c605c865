"""What a training batch looks like to the model: every token, with those marked that are trained on.

A wrong mask trains a model on the wrong words without a complaint, so this is worth a look before each new base model.
What is shown is read from the packed sequence itself, by the same code that trains. On a terminal it is in colour; in
a pipe, or where colours are off, marks take their place. The text of others is data: it is neither markup nor obeyed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from interalign.conversations.preferences import PreferenceConfig
from interalign.conversations.tree import Tree
from interalign.errors import InputError, MissingExtra, ModelError, TrainingError
from interalign.llm.libraries import quiet
from interalign.llm.local import adapter_base, load_tokenizer
from interalign.llm.offline import resolve_model
from interalign.roles.responder import policy_prompt
from interalign.training.job import Job, Method
from interalign.training.packing import Example, pack
from interalign.training.train import TrainConfig, what_to_learn

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

__all__ = ["Batch", "Run", "first_batch"]

Kind: TypeAlias = Literal["read", "learnt", "unlearnt", "both"]
"""What happens to a token: the model reads it only, is drawn to it, is pushed away from it, or both in turn."""

_STYLES: Mapping[Kind, str] = {"read": "dim", "learnt": "green", "unlearnt": "red", "both": "yellow"}
_MARKS: Mapping[Kind, tuple[str, str]] = {
    "read": ("", ""),
    "learnt": ("[+", "+]"),
    "unlearnt": ("[-", "-]"),
    "both": ("[±", "±]"),
}
_JOINERS = frozenset("\u200c\u200d")
"""Invisible, and yet part of how words and emoji are written."""


@dataclass(frozen=True)
class Run:
    """Neighbouring tokens of one message with the same fate, as text."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Batch:
    """One tree as it is trained on, for rich to print.

    Attributes:
        tree: the tree.
        example: its tokens.
        runs: by node, the message as the model sees it; None is the system message.
        learnt: how many tokens are trained on.
        apart: how many tokens the replies (SFT), or both sides of all pairs (DPO), take without packing.
        heading: lines above it.
        notes: lines below it.
    """

    tree: Tree
    example: Example
    runs: Mapping[int | None, tuple[Run, ...]]
    learnt: int
    apart: int
    heading: tuple[str, ...]
    notes: tuple[str, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Lines as wide as the console."""
        return _Printer(self, console, options).lines()


def first_batch(
    method: Method,
    trees: Sequence[Tree],
    config: TrainConfig,
    *,
    preference: PreferenceConfig,
    system: str | None = None,
) -> Batch:
    """The first tree that a method finds something to train on in, as the model sees it. No weights are loaded.

    Args:
        method: `sft`, its control `sft-rejected`, `dpo`, or `induction`.
        trees: conversation trees.
        config: settings.
        preference: which replies are preferred to which.
        system: the policy's system message; None: the one that the benchmark uses.

    Raises:
        InputError: there is nothing to train on, or the base is no model.
        MissingExtra: a package that training needs is not installed.
        ModelError: the base's tokenizer or configuration cannot be loaded, or it has no chat template.
        TrainingError: the chat template does not fit.
    """
    tokenizer = load_tokenizer(config.base)
    learnt, lessons, _ = what_to_learn(method, trees, config, preference)
    longest = _longest_read(config)
    for lesson in lessons:
        job = Job(
            method=method,
            trees=learnt,
            lessons=(lesson,),
            system=policy_prompt() if system is None else system,
            start=config.base,
            out=Path(),
            config=config,
            seed=0,
        )
        examples, left_out = _examples(job, tokenizer, longest)
        if examples:
            return _batch(job, examples[0], left_out, tokenizer)
    raise InputError(
        f"There is nothing to train {method} on: every conversation is longer than the model reads.",
        mend="raise train.max_length, or simulate fewer turns.",
    )


def _examples(job: Job, tokenizer: Any, longest: int) -> tuple[list[Example], int]:
    try:
        from interalign.training.tree_trainer import examples_of
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "trl", "train") from error
    try:
        return examples_of(job, tokenizer, longest)
    except TrainingError as error:
        if job.config.packing == "tree":
            raise
        raise TrainingError(
            error.what, mend='packing = "trl" may train it all the same, but only packed trees can be shown.'
        ) from error


def _longest_read(config: TrainConfig) -> int:
    """The tokens of the longest conversation that is trained on, known without the model's weights."""
    from transformers import AutoConfig

    base = adapter_base(config.base) or config.base
    try:
        with quiet():
            shape = AutoConfig.from_pretrained(resolve_model(base)).get_text_config()
    except (OSError, ValueError, KeyError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"The configuration of the model {base!r} cannot be read: {first_line}",
            mend="check the folder or the name.",
        ) from error
    limits = (config.max_length, getattr(shape, "max_position_embeddings", None))
    return min((limit for limit in limits if limit), default=2**31)


def _batch(job: Job, example: Example, left_out: int, tokenizer: Any) -> Batch:
    packed = pack([example])
    trained = set(packed.targets.tolist())
    kinds = _kinds(example)
    runs: dict[int | None, tuple[Run, ...]] = {}
    start = 0
    down_to: dict[int | None, int] = {}
    for segment in example.segments:
        end = start + len(segment.ids)
        tokens = [(kinds[segment.node] if place in trained else "read", place) for place in range(start, end)]
        runs[segment.node] = tuple(
            Run(kind, tokenizer.decode([int(packed.ids[place]) for _, place in together], **_AS_IT_IS))
            for kind, together in groupby(tokens, key=lambda token: token[0])
        )
        above = 0 if segment.parent is None else down_to[example.segments[segment.parent].node]
        down_to[segment.node] = above + len(segment.ids)
        start = end
    sides = [node for pair in example.pairs for node in pair] or list(example.replies)
    return Batch(
        tree=job.trees[example.number],
        example=example,
        runs=runs,
        learnt=len(trained),
        apart=sum(down_to[node] for node in sides),
        heading=(f"{job.method}: tree {example.number + 1:,} of {len(job.trees):,}, base {_shown(job.config.base)}",),
        notes=tuple(_notes(job, left_out)),
    )


_AS_IT_IS = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}


def _kinds(example: Example) -> dict[int | None, Kind]:
    """By node: what happens to the tokens of its reply that are trained on."""
    if not example.pairs:
        return dict.fromkeys((segment.node for segment in example.segments), "learnt")
    kinds: dict[int | None, Kind] = dict.fromkeys((segment.node for segment in example.segments), "read")
    chosen, rejected = ({pair[side] for pair in example.pairs} for side in (0, 1))
    return kinds | {
        node: "both" if node in chosen & rejected else "learnt" if node in chosen else "unlearnt"
        for node in chosen | rejected
    }


def _notes(job: Job, left_out: int) -> Iterator[str]:
    what = "pairs" if job.method == "dpo" else "replies"
    if left_out:
        yield f"{left_out:,} {what} of this tree are left out: longer than the model reads."
    if job.config.packing == "trl":
        yield 'packing = "trl" trains on the same tokens, reply by reply or pair by pair.'
    if job.method == "sft" and job.config.sft.mix:
        mix = job.config.sft.mix
        yield f"Beside the trees, {mix.chats_per_tree:g} chats per tree of {_shown(mix.dataset)} are learnt."


class _Printer:
    """A batch on one console."""

    def __init__(self, batch: Batch, console: Console, options: ConsoleOptions) -> None:
        self._batch = batch
        self._console = console
        self._width = options.max_width
        self._ascii = options.ascii_only
        self._marks = console.color_system is None or console.no_color
        shown = [node for node in batch.runs if node is not None]
        self._roots = [node for node in shown if batch.tree.nodes[node].parent is None]
        self._children = {node: [child for child in batch.tree.children(node) if child in batch.runs] for node in shown}
        # How many messages are shown below each; a parent stands before its children.
        self._reach: dict[int, int] = {}
        for node in reversed(shown):
            self._reach[node] = sum(1 + self._reach[child] for child in self._children[node])

    def lines(self) -> Iterator[Text]:
        batch = self._batch
        for line in (*batch.heading, *self._key()):
            yield from self._wrapped(self._plain(line), "", "")
        yield from self._message(None, "", "")
        yield from self._below(self._roots, "")
        yield self._plain("")
        for line in (*_totals(batch), *batch.notes):
            yield from self._wrapped(self._plain(line), "", "")

    def _key(self) -> Iterator[str]:
        kinds = {run.kind for runs in self._batch.runs.values() for run in runs}
        names: Mapping[Kind, str] = {
            "learnt": "chosen" if self._batch.example.pairs else "trained on",
            "unlearnt": "rejected",
            "both": "chosen and rejected",
        }
        told = [f"{self._sign(kind)} {name}" for kind, name in names.items() if kind in kinds]
        yield f"{', '.join(told)}; all else is only read. {self._newline()} is a new line."

    def _sign(self, kind: Kind) -> str:
        before, after = self._mark(kind)
        return f"{before} {after}" if self._marks else f"{_STYLES[kind]}:"

    def _mark(self, kind: Kind) -> tuple[str, str]:
        if kind == "both" and self._ascii:
            return "[+-", "-+]"
        return _MARKS[kind]

    def _newline(self) -> str:
        return "\\n" if self._ascii else "↵"

    def _below(self, siblings: Sequence[int], indent: str) -> Iterator[Text]:
        """Messages that answer the same one, with all below them; the longest way down stays at this indent."""
        across, branch, corner = ("|", "+-", "`-") if self._ascii else ("│", "├╴", "└╴")
        while siblings:
            *others, last = sorted(siblings, key=self._reach.__getitem__)
            for node in others:
                inside = f"{indent}{across} "
                yield self._plain(f"{indent}{across}")
                yield from self._message(node, f"{indent}{branch}", inside)
                yield from self._below(self._children[node], inside)
            yield self._plain(f"{indent}{across}" if others else indent)
            first, inside = (f"{indent}{corner}", f"{indent}  ") if others else (indent, indent)
            yield from self._message(last, first, inside)
            siblings = self._children[last]

    def _message(self, node: int | None, first: str, indent: str) -> Iterator[Text]:
        yield from self._wrapped(self._label(node), first, indent)
        yield from self._wrapped(self._tokens(self._batch.runs.get(node, ())), indent, indent)

    def _label(self, node: int | None) -> Text:
        if node is None:
            label = self._plain("system" if self._batch.runs[None] else "system (written with the first user turn)")
        else:
            message = self._batch.tree.nodes[node]
            who = "user" if message.role == "user" else f"reply (node {node}, {_shown(message.source)})"
            label = self._plain(f"turn {self._batch.tree.turn(node)}: {who}{_part_in_pairs(self._batch.example, node)}")
        label.stylize("bold")
        return label

    def _tokens(self, runs: Sequence[Run]) -> Text:
        text = self._plain("")
        for run in runs:
            before, after = self._mark(run.kind) if self._marks else ("", "")
            shown = "\n".join(_shown(line) for line in run.text.split("\n"))
            # The end of a message is a new line anyway.
            shown = shown.replace("\n", f"{self._newline()}\n")
            text.append(f"{before}{shown.removesuffix(chr(10))}{after}", "" if self._marks else _STYLES[run.kind])
            if shown.endswith("\n"):
                text.append("\n")
        return text

    def _plain(self, text: str) -> Text:
        from rich.text import Text

        return Text(text)

    def _wrapped(self, text: Text, first: str, indent: str) -> Iterator[Text]:
        text.rstrip()
        width = max(self._width - len(indent), 10)
        for number, line in enumerate(text.wrap(self._console, width, overflow="fold")):
            yield self._plain(indent if number else first) + line


def _part_in_pairs(example: Example, node: int) -> str:
    """What a reply is in which pairs, counted from 1; empty where it is in none."""
    told = []
    for side, name in enumerate(("chosen", "rejected")):
        numbers = [str(number) for number, pair in enumerate(example.pairs, 1) if pair[side] == node]
        if numbers:
            told.append(f"; {name} in pair{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}")
    return "".join(told)


def _totals(batch: Batch) -> Iterator[str]:
    example, tokens = batch.example, batch.example.tokens
    count, one, more = (
        (len(example.pairs), "pair", "pairs") if example.pairs else (len(example.replies), "reply", "replies")
    )
    counted = f"{count:,} {one if count == 1 else more}"
    share = f"{batch.learnt / tokens:.0%}"
    yield f"{counted}; {tokens:,} tokens in the tree, {batch.learnt:,} of them trained on ({share})."
    apart = "Pair by pair" if example.pairs else "Reply by reply"
    yield f"{apart} these are {batch.apart:,} tokens: the tree takes {tokens / batch.apart:.0%} of that."


def _shown(text: str) -> str:
    """`text` with all that a terminal would obey, or not show, spelt out."""
    return "".join(_spelt(character) if _hidden(character) else character for character in text)


def _hidden(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and character not in _JOINERS


def _spelt(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
