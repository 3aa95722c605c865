"""Trees as rows that TRL's trainers and `datasets` take as they are.

Every text stands in message lists, so that a trainer applies the chat template of its own model. A row also tells the
turn, the persona and, where it has one, the judge's margin; trainers pass over such columns. Rows come in the order of
the trees, one tree after the other, and an empty system message is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

from interalign.conversations.preferences import (
    Preference,
    PreferenceConfig,
    each_preference,
    length_matched,
    preferences,
    preferred,
)
from interalign.conversations.tree import Tree
from interalign.messages import Chat, Message, as_dicts

__all__ = ["Row", "dpo_rows", "kto_rows", "reward_rows", "sft_rows", "trajectory_rows"]

Row: TypeAlias = dict[str, Any]


def dpo_rows(trees: Iterable[Tree], config: PreferenceConfig, system: str) -> Iterator[Row]:
    """One row for each preference: `prompt`, `chosen` and `rejected` (message lists), `margin`, `turn`, sources."""
    for tree, pair in each_preference(trees, config):
        chosen, rejected = tree.nodes[pair.chosen], tree.nodes[pair.rejected]
        yield {
            "prompt": _opened(tree.chat(pair.chosen)[:-1], system),
            "chosen": as_dicts(tree.chat(pair.chosen)[-1:]),
            "rejected": as_dicts(tree.chat(pair.rejected)[-1:]),
            "margin": pair.margin,
            "turn": tree.turn(pair.chosen),
            "chosen_source": chosen.source,
            "rejected_source": rejected.source,
            "persona_id": tree.persona_id,
        }


def sft_rows(trees: Iterable[Tree], config: PreferenceConfig, system: str) -> Iterator[Row]:
    """One row for each preferred reply: `messages`, `turn`.

    The last message is the one to train on; those before it are the branch that the conversation really took, in which
    replies of any quality stand.
    """
    for tree in trees:
        for user_node in tree.user_turns():
            for reply in preferred(tree, user_node, config):
                yield {
                    "messages": _opened(tree.chat(reply), system),
                    "turn": tree.turn(reply),
                    "persona_id": tree.persona_id,
                }


def kto_rows(trees: Iterable[Tree], config: PreferenceConfig, system: str) -> Iterator[Row]:
    """One row for each reply of a preference: `prompt`, `completion` (message lists), `label` (bool), `turn`, `source`.

    A reply that is chosen in one preference and rejected in another is neither good nor bad and has no row.
    """
    for tree in trees:
        pairs = preferences([tree], config)
        good, bad = {pair.chosen for pair in pairs}, {pair.rejected for pair in pairs}
        for node in sorted(good ^ bad):
            yield {
                "prompt": _opened(tree.chat(node)[:-1], system),
                "completion": as_dicts(tree.chat(node)[-1:]),
                "label": node in good,
                "turn": tree.turn(node),
                "source": tree.nodes[node].source,
                "persona_id": tree.persona_id,
            }


def reward_rows(trees: Iterable[Tree], config: PreferenceConfig, system: str) -> Iterator[Row]:
    """One row for each preference: `chosen` and `rejected` as whole chats, `score_gap`, `turn`.

    The judge's margin is called `score_gap` here, because TRL's reward trainer takes a column `margin` into its loss.
    """
    for tree, pair in each_preference(trees, config):
        yield {
            "chosen": _opened(tree.chat(pair.chosen), system),
            "rejected": _opened(tree.chat(pair.rejected), system),
            "score_gap": pair.margin,
            "turn": tree.turn(pair.chosen),
            "persona_id": tree.persona_id,
        }


def trajectory_rows(trees: Iterable[Tree], config: PreferenceConfig, system: str) -> Iterator[Row]:
    """One row for each two ways that a conversation took from some user turn on: `prompt`, `chosen`, `rejected`.

    `prompt` ends with the user turn where the two part, `turn` is that turn, `turns` how many both go on, and `margin`
    the difference of their mean scores. Only conversations that reach the same, deepest turn are held against each
    other, each reply at the parting with its best continuation; a reply on the way without a verdict leaves its
    conversation out. In trees that continue one reply a turn, all pairs part at the last turn.

    `chosen` and `rejected` hold user turns, and DPO would train the policy to say them. Mask them: with a chat template
    that marks what the assistant says (`{% generation %}`), `tokenizer.apply_chat_template(prompt + chosen,
    return_dict=True, return_assistant_tokens_mask=True)` gives the mask that a collator has to multiply the
    trainer's `completion_mask` by.
    """
    for tree, pair in _partings(trees, config):
        prompt, chosen, rejected = _parted(tree, pair)
        yield {
            "prompt": _opened(prompt, system),
            "chosen": as_dicts(chosen),
            "rejected": as_dicts(rejected),
            "margin": pair.margin,
            "turn": _turns(prompt),
            "turns": _turns(chosen) + 1,
            "persona_id": tree.persona_id,
        }


def _partings(trees: Iterable[Tree], config: PreferenceConfig) -> Iterator[tuple[Tree, Preference]]:
    """Two leaves of a tree each, as a preference."""
    for index, tree in enumerate(trees):
        for user_node, ways in _ways(tree).items():
            means = _best_ends(tree, ways, len(tree.path(user_node)))
            best = max(means, key=lambda leaf: means[leaf], default=0)
            for leaf, mean in means.items():
                gap = round(means[best] - mean, 4)
                pair = Preference(tree=index, chosen=best, rejected=leaf, margin=gap)
                if gap > 0 and gap >= config.min_margin and _length_matched(tree, pair, config):
                    yield tree, pair


def _ways(tree: Tree) -> dict[int, list[tuple[int, ...]]]:
    """For each user turn that is answered, the whole paths through it that end with a reply."""
    ways: dict[int, list[tuple[int, ...]]] = {user_node: [] for user_node in tree.user_turns()}
    for leaf in tree.leaves():
        if tree.nodes[leaf].role == "assistant":
            path = tree.path(leaf)
            for user_node in path[::2]:
                ways[user_node].append(path)
    return ways


def _best_ends(tree: Tree, ways: Sequence[tuple[int, ...]], depth: int) -> dict[int, float]:
    """The leaf that each reply's best way to the deepest turn ends at, with the mean score from that reply on."""
    deepest = max(map(len, ways), default=0)
    best: dict[int, tuple[int, float]] = {}
    for path in ways:
        mean = _mean_score(tree, path[depth:])
        if len(path) == deepest and mean is not None:
            best[path[depth]] = max(best.get(path[depth], (0, 0.0)), (path[-1], mean), key=itemgetter(1))
    return dict(best.values())


def _mean_score(tree: Tree, path: Sequence[int]) -> float | None:
    verdicts = [tree.nodes[node].verdict for node in path if tree.nodes[node].role == "assistant"]
    scores = [verdict.score for verdict in verdicts if verdict is not None]
    return sum(scores) / len(scores) if len(scores) == len(verdicts) else None


def _parted(tree: Tree, pair: Preference) -> tuple[Chat, Chat, Chat]:
    """What two leaves share, and what each has to itself."""
    paths = tree.path(pair.chosen), tree.path(pair.rejected)
    shared = sum(one == other for one, other in zip(*paths, strict=True))
    chosen, rejected = tree.chat(pair.chosen), tree.chat(pair.rejected)
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _length_matched(tree: Tree, pair: Preference, config: PreferenceConfig) -> bool:
    _, *remainders = _parted(tree, pair)
    chosen, rejected = ([message.content for message in one if message.role == "assistant"] for one in remainders)
    return length_matched(chosen, rejected, config)


def _turns(chat: Chat) -> int:
    return sum(message.role == "user" for message in chat)


def _opened(chat: Chat, system: str) -> list[dict[str, str]]:
    return as_dicts((Message(role="system", content=system), *chat) if system else chat)
