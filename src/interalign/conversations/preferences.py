"""Preferences: what sibling replies teach, as data that TRL and tree packing train on.

A preference is two siblings with the path above them as prompt. An SFT example is the preferred reply after the
branch that the conversation really took.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from interalign.conversations.tree import Tree
from interalign.errors import InputError, MissingExtra
from interalign.messages import Chat, Message, Value
from interalign.run import writing

__all__ = ["Preference", "PreferenceConfig", "preferences", "preferred", "write_preference_tables"]


class PreferenceConfig(Value):
    """Which pairs of siblings become preferences."""

    min_margin: Annotated[float, Field(gt=0)] = 0.3
    """Smallest difference of scores (in points of the 1-5 scale) that counts as a preference; replies that differ by
    less are equally good."""


class Preference(Value):
    """Two siblings of one tree, by node index, with the judge's margin between them in points."""

    tree: int
    chosen: int
    rejected: int
    margin: float


def preferred(tree: Tree, user_node: int, config: PreferenceConfig) -> tuple[int, ...]:
    """The replies to a user turn that none is preferred to: the best one and those within the margin of it.

    A reply without a verdict is not among them: missing is neither better nor worse.
    """
    scores = _scores(tree, user_node)
    best = max(scores.values(), default=None)
    return tuple(node for node, score in scores.items() if best is not None and best - score < config.min_margin)


def preferences(trees: Sequence[Tree], config: PreferenceConfig) -> tuple[Preference, ...]:
    """At each user turn, the best reply against each one that falls short of it by the margin or more."""
    return tuple(pair for index, tree in enumerate(trees) for pair in _of_tree(index, tree, config))


def _of_tree(index: int, tree: Tree, config: PreferenceConfig) -> Iterator[Preference]:
    for user_node in tree.user_turns():
        scores = _scores(tree, user_node)
        best = max(scores, key=lambda node: scores[node], default=None)
        for worse, score in scores.items():
            if best is not None and scores[best] - score >= config.min_margin:
                margin = round(scores[best] - score, 4)
                yield Preference(tree=index, chosen=best, rejected=worse, margin=margin)


def _scores(tree: Tree, user_node: int) -> dict[int, float]:
    verdicts = {node: tree.nodes[node].verdict for node in tree.children(user_node)}
    return {node: verdict.score for node, verdict in verdicts.items() if verdict is not None}


def write_preference_tables(folder: Path, trees: Sequence[Tree], config: PreferenceConfig, system: str) -> None:
    """Write `dpo.parquet` and `sft.parquet` in TRL's conversational formats.

    `dpo.parquet` has `prompt`, `chosen`, `rejected` (message lists), `margin`, `turn`, `chosen_source`,
    `rejected_source` and `persona_id`. `sft.parquet` has `messages`, whose last one is a preferred reply (the one to
    train on: the others are the branch that was continued), `turn` and `persona_id`.

    Args:
        folder: where to write.
        trees: the trees.
        config: which pairs count.
        system: the policy's system message, first in every prompt.

    Raises:
        InputError: no pair of siblings differs enough.
        StorageError: the disk is full or cannot be written.
    """
    pairs = preferences(trees, config)
    if not pairs:
        raise InputError(
            "No two sibling replies differ by the wanted margin, so there is nothing to prefer.",
            mend="lower preferences.min_margin in the recipe, or simulate more conversations.",
        )
    opening = Message(role="system", content=system)
    _write_parquet(folder / "dpo.parquet", (_dpo_row(trees[pair.tree], pair, opening) for pair in pairs))
    _write_parquet(folder / "sft.parquet", (row for tree in trees for row in _sft_rows(tree, opening, config)))


def _dpo_row(tree: Tree, pair: Preference, opening: Message) -> dict[str, Any]:
    chosen, rejected = tree.nodes[pair.chosen], tree.nodes[pair.rejected]
    assert chosen.parent is not None  # a reply always answers a user turn
    return {
        "prompt": _dumped((opening, *tree.chat(chosen.parent))),
        "chosen": _dumped((Message(role="assistant", content=chosen.content),)),
        "rejected": _dumped((Message(role="assistant", content=rejected.content),)),
        "margin": pair.margin,
        "turn": tree.turn(pair.chosen),
        "chosen_source": chosen.source,
        "rejected_source": rejected.source,
        "persona_id": tree.persona_id,
    }


def _sft_rows(tree: Tree, opening: Message, config: PreferenceConfig) -> Iterator[dict[str, Any]]:
    for user_node in tree.user_turns():
        for reply in preferred(tree, user_node, config):
            yield {
                "messages": _dumped((opening, *tree.chat(reply))),
                "turn": tree.turn(reply),
                "persona_id": tree.persona_id,
            }


def _dumped(chat: Chat) -> list[dict[str, str]]:
    return [message.model_dump() for message in chat]


def _write_parquet(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise MissingExtra("pyarrow", "train") from error
    with writing(path) as beside:
        parquet.write_table(pyarrow.Table.from_pylist(list(rows)), beside)
