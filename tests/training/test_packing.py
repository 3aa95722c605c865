from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from interalign.conversations.tree import Node, Tree
from interalign.messages import Message, as_dicts
from interalign.training.attention import attention_of, chains, use_attention
from interalign.training.objectives import as_rows, score_targets, sft_loss
from interalign.training.packing import Example, Packed, arranged, needed_nodes, pack, split
from interalign.training.tokens import Segment, tree_segments
from interalign.training.tree_trainer import collate
from tests.training.tiny import SYSTEM

BETA = 0.3


@st.composite
def random_trees(draw: st.DrawFn) -> Tree:
    """Any tree that the rules allow: several roots, uneven branches, turns without a reply."""
    random = Random(draw(st.integers(0, 2**32)))
    nodes: list[Node] = []
    for _ in range(draw(st.integers(2, 12))):
        content = " ".join(random.choices(("tea", "hello", "🙂", "I like", "why?", "Rome"), k=random.randint(0, 6)))
        open_ends = [i for i, node in enumerate(nodes) if node.role == "user" or node.continued]
        parent = random.choice([None, *open_ends, *open_ends])
        if parent is None or nodes[parent].role == "assistant":
            nodes.append(Node(parent=parent, role="user", content=content, source="user"))
        else:
            taken = any(node.parent == parent and node.continued for node in nodes)
            reply = Node(parent=parent, role="assistant", content=content, source="x", continued=not taken)
            nodes.append(reply)
    return Tree(persona_id="p", seed=0, nodes=tuple(nodes))


@pytest.fixture(scope="module", params=["tree", "sdpa"])
def model(base: Path, request: pytest.FixtureRequest) -> Any:
    """The tiny model, computing attention in each of the ways that a CPU can."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    use_attention(model, request.param)
    assert attention_of(model) == request.param
    return model


def replies_of(tree: Tree) -> list[int]:
    return [index for index, node in enumerate(tree.nodes) if node.role == "assistant"]


def pairs_of(tree: Tree) -> tuple[tuple[int, int], ...]:
    replies = replies_of(tree)
    return tuple((a, b) for a in replies for b in replies if a < b and b in tree.siblings(a))


def example(tree: Tree, tokenizer: Any, number: int = 0) -> Example:
    replies = replies_of(tree)
    segments = tree_segments(tree, needed_nodes(tree, replies), SYSTEM, tokenizer)
    return Example(number, tuple(segments), tuple(replies), pairs_of(tree))


def alone(model: Any, tree: Tree, reply: int, tokenizer: Any) -> torch.Tensor:
    """Log-probabilities of a reply's tokens after its own conversation, without packing: (m,)."""
    chat = as_dicts((Message(role="system", content=SYSTEM), *tree.chat(reply)))
    whole = tokenizer.apply_chat_template(chat, return_dict=True)["input_ids"]
    prompt = tokenizer.apply_chat_template(chat[:-1], add_generation_prompt=True, return_dict=True)["input_ids"]
    ids = torch.tensor([whole])
    logps = torch.log_softmax(model(input_ids=ids).logits[0, :-1], dim=-1)
    return logps.gather(1, ids[0, 1:, None])[len(prompt) - 1 :, 0]


def gradient(model: Any, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters()])


def assert_close(packed: torch.Tensor, single: torch.Tensor) -> None:
    assert (packed - single).norm() <= 1e-4 * single.norm()


@settings(max_examples=25)
@given(st.lists(random_trees().filter(replies_of), min_size=1, max_size=3))
def test_every_token_has_the_probability_it_has_alone(model: Any, tokenizer: Any, trees: list[Tree]) -> None:
    examples = [example(tree, tokenizer, number) for number, tree in enumerate(trees)]
    batch = collate(examples)
    with torch.no_grad():
        logps = score_targets(model, batch).logps
        single = [alone(model, tree, reply, tokenizer) for tree in trees for reply in replies_of(tree)]
    lengths = [len(one) for one in single]
    assert torch.bincount(batch["reply"]).tolist() == lengths
    for packed, one in zip(logps.split(lengths), single, strict=True):
        torch.testing.assert_close(packed, one, atol=1e-4, rtol=0)


@settings(max_examples=10)
@given(random_trees().filter(pairs_of))
def test_losses_and_gradients_are_those_of_the_replies_alone(model: Any, tokenizer: Any, tree: Tree) -> None:
    one = example(tree, tokenizer)
    batch = collate([one])
    single = [alone(model, tree, reply, tokenizer) for reply in one.replies]
    packed = score_targets(model, batch)

    sft = sft_loss(packed.logps), sft_loss(torch.cat(single))
    assert sft[0].item() == pytest.approx(sft[1].item(), rel=1e-4)
    chosen, rejected = as_rows(packed, batch).log_probs.sum(dim=1).chunk(2)
    of = dict(zip(one.replies, (logps.sum() for logps in single), strict=True))
    # A reference that differs from the policy, so that no term of the loss cancels.
    reference = torch.linspace(-20, 20, len(one.pairs))
    by_hand = torch.stack([of[better] - of[worse] for better, worse in one.pairs])
    dpo = [-F.logsigmoid(BETA * (margin - reference)).mean() for margin in (chosen - rejected, by_hand)]
    assert dpo[0].item() == pytest.approx(dpo[1].item(), rel=1e-4, abs=1e-6)
    assert_close(gradient(model, sft[0] + dpo[0]), gradient(model, sft[1] + dpo[1]))


@settings(max_examples=25)
@given(st.lists(random_trees().filter(replies_of), min_size=1, max_size=3))
def test_nobody_sees_but_ancestors(tokenizer: Any, trees: list[Tree]) -> None:
    examples = [example(tree, tokenizer) for tree in trees]
    packed = pack(examples)
    owner = [
        (number, index)
        for number, one in enumerate(examples)
        for index, segment in enumerate(one.segments)
        for _ in segment.ids
    ]
    seen = visible(packed)
    trees_of, segments_of = np.array(owner).T
    for row, (number, index) in enumerate(owner):
        above = ancestors(examples[number].segments, index)
        expected = (trees_of == number) & np.isin(segments_of, above)
        expected[row + 1 :] = False
        assert (seen[row] == expected).all()
        assert packed.positions[row] == expected.sum() - 1


def visible(packed: Packed) -> npt.NDArray[np.bool_]:
    """Who sees whom, token by token: (n, n)."""
    return packed.sees[np.ix_(packed.segment, packed.segment)] & np.tri(len(packed.ids), dtype=bool)


def ancestors(segments: Sequence[Segment], index: int) -> list[int]:
    parent = segments[index].parent
    return [index] if parent is None else [index, *ancestors(segments, parent)]


@settings(max_examples=25)
@given(random_trees().filter(replies_of))
def test_each_target_is_predicted_by_the_token_before_it_on_its_path(tokenizer: Any, tree: Tree) -> None:
    one = example(tree, tokenizer)
    packed = pack([one])
    assert packed.replies == tuple((0, reply) for reply in one.replies)
    assert (packed.positions[packed.targets] - packed.positions[packed.predictors] == 1).all()
    assert visible(packed)[packed.targets, packed.predictors].all()
    for which, reply in enumerate(one.replies):
        text = tokenizer.decode(packed.ids[packed.targets[packed.reply == which]])
        assert text == f"{tree.nodes[reply].content}<|im_end|>\n"


def test_without_headers_the_last_token_above_predicts_the_first_of_every_branch() -> None:
    # An empty root, as of a template that says nothing before the first user turn, twice in one sequence.
    segments = (
        Segment(ids=(), header=0, parent=None, node=None),
        Segment(ids=(5, 6), header=2, parent=0, node=0),
        Segment(ids=(7,), header=0, parent=1, node=1),
        Segment(ids=(8, 9), header=0, parent=1, node=2),
    )
    packed = pack([Example(0, segments, (1, 2)), Example(1, segments, (2,))])
    assert packed.positions.tolist() == [0, 1, 2, 2, 3, 0, 1, 2, 2, 3]
    assert packed.targets.tolist() == [2, 3, 4, 8, 9]
    assert packed.predictors.tolist() == [1, 1, 3, 6, 8]
    assert packed.reply.tolist() == [0, 1, 1, 2, 2]


def test_only_paths_to_replies_are_needed(trees: list[Tree]) -> None:
    tree = trees[0]
    last = replies_of(tree)[-1]
    assert needed_nodes(tree, [last]) == list(tree.path(last))
    assert len(tree.path(last)) < len(tree.nodes)


def everything_learnt(examples: Sequence[Example]) -> list[tuple[Any, ...]]:
    """What a set of examples trains on: the tokens of each reply, or of both sides of each pair, after their path."""
    found: list[tuple[Any, ...]] = []
    for one in examples:
        ids = {segment.node: path_ids(one.segments, place) for place, segment in enumerate(one.segments)}
        references = one.reference or [()] * len(one.pairs)
        units = one.pairs or [(reply,) for reply in one.replies]
        found += [
            (one.number, reference, *(ids[reply] for reply in unit))
            for unit, reference in zip(units, references if one.pairs else [()] * len(units), strict=True)
        ]
    return sorted(found)


def path_ids(segments: Sequence[Segment], place: int) -> tuple[int, ...]:
    parent = segments[place].parent
    return (() if parent is None else path_ids(segments, parent)) + segments[place].ids


@settings(max_examples=50)
@given(st.lists(random_trees().filter(replies_of), min_size=1, max_size=4), st.integers(1, 400), st.booleans())
def test_splitting_and_arranging_lose_nothing_and_repeat_nothing(
    tokenizer: Any, trees: list[Tree], max_tokens: int, in_pairs: bool
) -> None:
    examples = []
    for number, tree in enumerate(trees):
        one = example(tree, tokenizer, number)
        if in_pairs and one.pairs:
            sides = tuple(sorted({reply for pair in one.pairs for reply in pair}))
            reference = tuple((float(place), -float(place)) for place in range(len(one.pairs)))
            examples.append(Example(number, one.segments, sides, one.pairs, reference))
        else:
            examples.append(Example(number, one.segments, one.replies))
    sequences = arranged(examples, max_tokens)
    parts = [part for sequence in sequences for part in sequence]
    assert everything_learnt(parts) == everything_learnt(examples)
    for sequence in sequences:
        # Only what cannot be split is longer than a sequence may be, and it lies there alone.
        if sum(part.tokens for part in sequence) > max_tokens:
            (alone,) = sequence
            assert len(alone.pairs or alone.replies) == 1


@settings(max_examples=10)
@given(random_trees().filter(pairs_of), st.integers(1, 200))
def test_a_split_tree_trains_as_a_whole_one(model: Any, tokenizer: Any, tree: Tree, max_tokens: int) -> None:
    one = example(tree, tokenizer)
    whole = dict(zip(one.pairs, margins(model, one), strict=True))
    for part in split(Example(0, one.segments, one.replies, one.pairs), max_tokens):
        for pair, margin in zip(part.pairs, margins(model, part), strict=True):
            assert margin == pytest.approx(whole[pair], abs=1e-3)


def margins(model: Any, one: Example) -> list[float]:
    batch = collate([one])
    with torch.no_grad():
        chosen, rejected = as_rows(score_targets(model, batch), batch).log_probs.sum(dim=1).chunk(2)
    return (chosen - rejected).tolist()


@given(st.lists(st.tuples(st.integers(-1, 30), st.integers(0, 9)), min_size=1, max_size=30))
def test_chains_go_down_paths_and_hold_every_segment_once(drawn: list[tuple[int, int]]) -> None:
    parents = [min(parent, place - 1) for place, (parent, _) in enumerate(drawn)]
    lengths = [length for _, length in drawn]
    found = chains(parents, lengths)
    assert sorted(place for chain in found for place in chain) == list(range(len(drawn)))
    for chain in found:
        assert all(parents[below] == above for above, below in itertools.pairwise(chain))
    # As few as can be: one for each segment that nothing follows.
    assert len(found) == len(set(range(len(drawn))) - set(parents))
