"""Notes on the user, written before each reply: what is to be inferred from the chat becomes something to learn.

Replies alone teach listening slowly: a wish changes a word here and there, and a model that copies the style of its
earlier replies has little to gain from what the user says. So a policy may learn to write down first what the last
message gives away, beside the wishes that it heard before, as the thinking of a reasoning model (<think>...</think>),
and to reply after it. It keeps its notes in the chat that it sees; nobody else sees them. The ledger says what the
notes are, so they never hold what was not disclosed.

`induction_trees` is the step before: what a remark says of a person, one remark at a time.

Source: to infer preferences in words first and to respond to them is the preference-bridged alignment of AlignX (arXiv
2503.15463).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from interalign.conversations.tree import Node, Tree
from interalign.errors import InputError
from interalign.llm.thinking import as_thinking
from interalign.roles.ledger import Disclosure, as_notes

__all__ = ["induction_trees", "noted"]


def noted(trees: Sequence[Tree]) -> tuple[Tree, ...]:
    """Trees in which every reply begins with notes on what may be known of the user by then.

    Raises:
        InputError: the ledgers hold nothing to note.
    """
    entries = (node.disclosure for tree in trees for node in tree.nodes if node.disclosure is not None)
    if not any(entry.reactions or entry.stated for entry in entries):
        raise InputError(
            "train.notes: the trees do not say what their users wish for or disclose.",
            mend="simulate more turns, with rule-based users or an inducer, or leave notes out of the recipe.",
        )
    return tuple(_noted(tree) for tree in trees)


def _noted(tree: Tree) -> Tree:
    def written(node: Node) -> Node:
        if node.parent is None or node.role == "user":
            return node
        notes = as_notes(tree.ledger(node.parent))
        return node.model_copy(update={"content": f"{as_thinking(notes)}{node.content}"})

    return tree.model_copy(update={"nodes": tuple(written(node) for node in tree.nodes)})


def induction_trees(trees: Sequence[Tree]) -> tuple[Tree, ...]:
    """For each remark in the trees' ledgers, once, a tree: the remark, and what is to be noted of it alone.

    Raises:
        InputError: the ledgers hold no words that anything rests on.
    """
    found = {pair: tree for tree in trees for node in tree.nodes for pair in _remarks(node.disclosure)}
    if not found:
        raise InputError(
            "There is nothing to train induction on: the trees do not say on which words of the user it rests.",
            mend="simulate anew (older versions did not write them down), or leave induction out of the recipe.",
        )
    return tuple(
        Tree(
            persona_id=tree.persona_id,
            seed=tree.seed,
            nodes=(
                Node(parent=None, role="user", content=words, source="user"),
                Node(parent=0, role="assistant", content=as_thinking(notes).rstrip(), source="tailored"),
            ),
        )
        for (words, notes), tree in found.items()
    )


def _remarks(disclosure: Disclosure | None) -> Iterator[tuple[str, str]]:
    """The words that a ledger entry rests on, each with what is to be noted of it."""
    if disclosure is None:
        return
    for reaction in disclosure.reactions:
        if reaction.words:
            yield reaction.words, as_notes([Disclosure(turn=1, reactions=(reaction,))])
    for stated in disclosure.stated:
        yield stated.words, as_notes([Disclosure(turn=1, stated=(stated,))])
