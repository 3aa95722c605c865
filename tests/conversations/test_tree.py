from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from interalign.conversations.tree import Node, Tree
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Disclosure

verdicts = st.none() | st.builds(Verdict, score=st.floats(1, 5))


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Conversations of up to five turns; a reply can be followed by several user messages."""
    nodes: list[Node] = []
    open_to_user: list[int | None] = [None]
    for _ in range(draw(st.integers(0, 5))):
        parent = draw(st.sampled_from(open_to_user))
        disclosure = draw(st.none() | st.builds(Disclosure, turn=st.integers(1, 9), topic=st.just("pet")))
        at = len(nodes)
        nodes.append(Node(parent=parent, role="user", content=draw(st.text()), source="user", disclosure=disclosure))
        count = draw(st.integers(0, 4))
        continued = draw(st.none() | st.integers(0, count - 1)) if count else None
        for sibling in range(count):
            reply = Node(
                parent=at,
                role="assistant",
                content=draw(st.text()),
                source=draw(st.sampled_from(["tailored", "generic"])),
                verdict=draw(verdicts),
                continued=sibling == continued,
            )
            nodes.append(reply)
            if reply.continued:
                open_to_user.append(len(nodes) - 1)
    return Tree(persona_id="p", seed=draw(st.integers()), nodes=tuple(nodes), failure=draw(st.none() | st.text()))


@given(trees())
def test_trees_come_back_from_json(tree: Tree) -> None:
    assert Tree.model_validate_json(tree.model_dump_json()) == tree


@given(trees())
def test_every_prefix_is_a_tree(tree: Tree) -> None:
    for length in range(len(tree.nodes)):
        Tree(persona_id="p", seed=1, nodes=tree.nodes[:length])


@given(trees())
def test_paths(tree: Tree) -> None:
    for index, node in enumerate(tree.nodes):
        path = tree.path(index)
        assert path[-1] == index
        assert tree.nodes[path[0]].parent is None
        assert list(path) == sorted(set(path))
        assert all(tree.nodes[child].parent == parent for parent, child in pairwise(path))
        assert node.parent is None or path[:-1] == tree.path(node.parent)


@given(trees())
def test_siblings_children_and_leaves(tree: Tree) -> None:
    nodes = range(len(tree.nodes))
    for index in nodes:
        assert index in tree.siblings(index)
        assert {tree.nodes[i].parent for i in tree.siblings(index)} == {tree.nodes[index].parent}
        assert all(tree.siblings(i) == tree.siblings(index) for i in tree.siblings(index))
        assert all(tree.nodes[child].parent == index for child in tree.children(index))
    assert sum(len(tree.children(index)) for index in nodes) == sum(n.parent is not None for n in tree.nodes)
    assert set(tree.leaves()) == set(nodes) - {node.parent for node in tree.nodes}
    assert {i for leaf in tree.leaves() for i in tree.path(leaf)} == set(nodes)


@given(trees())
def test_chats_and_ledgers(tree: Tree) -> None:
    for index, node in enumerate(tree.nodes):
        chat, path = tree.chat(index), tree.path(index)
        assert [message.content for message in chat] == [tree.nodes[i].content for i in path]
        assert [message.role for message in chat] == [("user", "assistant")[i % 2] for i in range(len(chat))]
        assert tree.ledger(index) == tuple(d for i in path if (d := tree.nodes[i].disclosure) is not None)
        assert tree.turn(index) == (len(chat) + 1) // 2
        assert chat[-1].role == node.role
    assert [tree.nodes[i].role for i in tree.user_turns()] == ["user"] * len(list(tree.user_turns()))
    assert len(list(tree.user_turns())) == sum(node.role == "user" for node in tree.nodes)


def user(parent: int | None) -> dict[str, Any]:
    return {"parent": parent, "role": "user", "content": "u", "source": "user"}


def reply(parent: int | None, *, continued: bool = False) -> dict[str, Any]:
    return {"parent": parent, "role": "assistant", "content": "a", "source": "generic", "continued": continued}


@pytest.mark.parametrize(
    ("nodes", "complaint"),
    [
        ([reply(None)], "root and must be a user turn"),
        ([user(None), reply(1)], "does not stand before it"),
        ([user(None), reply(5)], "does not stand before it"),
        ([user(None), reply(-1)], "does not stand before it"),
        ([user(None), user(0)], "both user turns"),
        ([user(None), reply(0, continued=True), reply(1)], "both assistant turns"),
        ([user(None), reply(0), user(1)], "was not continued"),
        ([{**user(None), "role": "system"}], "role"),
        ([{**user(None), "mood": "good"}], "mood"),
    ],
)
def test_broken_trees_are_refused(nodes: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Tree.model_validate({"persona_id": "p", "seed": 1, "nodes": nodes})


def test_several_roots_are_siblings() -> None:
    tree = Tree.model_validate({"persona_id": "p", "seed": 1, "nodes": [user(None), reply(0), user(None)]})
    assert tree.siblings(0) == tree.siblings(2) == (0, 2)
    assert tree.leaves() == (1, 2)
