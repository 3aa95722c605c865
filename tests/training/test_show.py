from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from interalign.conversations.preferences import PreferenceConfig, preferences
from interalign.conversations.tree import Node, Tree
from interalign.errors import InputError, ModelError, TrainingError
from interalign.messages import Message, as_dicts
from interalign.roles.judge import Comparison
from interalign.training.job import Method
from interalign.training.mixture import MixConfig
from interalign.training.show import Batch, first_batch
from interalign.training.train import DpoConfig, SftConfig, TrainConfig
from interalign.training.tree_trainer import collate
from tests.training.tiny import CHATML, SYSTEM, make_model, make_tokenizer

PREFERENCE = PreferenceConfig()


def shown(batch: Batch, *, width: int = 80, **console: Any) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, **console).print(batch)
    return stream.getvalue()


def batch_of(method: Method, trees: list[Tree], config: TrainConfig) -> Batch:
    return first_batch(method, trees, config, preference=PREFERENCE, system=SYSTEM)


def scored(content: str, score: float, trees: list[Tree], *, continued: bool = False, parent: int = 0) -> Node:
    verdict = next(node.verdict for node in trees[0].nodes if node.verdict is not None)
    return Node(
        parent=parent,
        role="assistant",
        content=content,
        source="generic",
        verdict=verdict.model_copy(update={"score": score}),
        continued=continued,
    )


def asked(content: str, parent: int | None = None) -> Node:
    return Node(parent=parent, role="user", content=content, source="rules")


def tree_of(*nodes: Node) -> Tree:
    return Tree(persona_id="0" * 16, seed=0, nodes=nodes)


def small(trees: list[Tree], good: str = "Good.", bad: str = "Bad.") -> Tree:
    return tree_of(asked("Hello"), scored(good, 4, trees), scored(bad, 2, trees))


def test_a_small_tree_in_a_pipe(trees: list[Tree], config: TrainConfig) -> None:
    # The numbers of tokens are those of the tiny tokenizer.
    lines = shown(batch_of("dpo", [small(trees)], config)).splitlines()
    assert lines[0].startswith("dpo: tree 1 of 1, base ")
    where = next(place for place, line in enumerate(lines) if line.startswith("[+ +]"))
    assert "\n".join(line.rstrip() for line in lines[where:-2]) == (
        "[+ +] chosen, [- -] rejected; all else is only read. ↵ is a new line.\n"
        "system\n"
        "<|im_start|>system↵\n"
        f"{SYSTEM}<|im_end|>↵\n"
        "\n"
        "turn 1: user\n"
        "<|im_start|>user↵\n"
        "Hello<|im_end|>↵\n"
        "│\n"
        "├╴turn 1: reply (node 1, generic); chosen in pair 1\n"
        "│ <|im_start|>assistant↵\n"
        "│ [+Good.<|im_end|>↵+]\n"
        "│\n"
        "└╴turn 1: reply (node 2, generic); rejected in pair 1\n"
        "  <|im_start|>assistant↵\n"
        "  [-Bad.<|im_end|>↵-]\n"
    )


@pytest.mark.parametrize("method", ["sft", "sft-rejected", "dpo"])
def test_what_is_marked_is_what_is_trained_on(
    method: Method, trees: list[Tree], config: TrainConfig, tokenizer: Any
) -> None:
    batch = batch_of(method, trees, config)
    packed = collate([batch.example])
    learnt = [run.text for runs in batch.runs.values() for run in runs if run.kind != "read"]
    trained = tokenizer.decode(packed["input_ids"][0, packed["targets"]])
    assert "".join(sorted(learnt)) == "".join(sorted(re.findall(r".*?<\|im_end\|>\n", trained, re.DOTALL)))
    assert sum(len(run.text) for runs in batch.runs.values() for run in runs) == sum(
        len(tokenizer.decode(list(segment.ids))) for segment in batch.example.segments
    )
    assert batch.learnt == len(packed["targets"])


def test_kinds_follow_the_pairs(trees: list[Tree], config: TrainConfig) -> None:
    batch = batch_of("dpo", trees, config)
    pairs = preferences(trees[:1], PREFERENCE)
    kinds = {node: runs[-1].kind for node, runs in batch.runs.items()}
    assert {node for node, kind in kinds.items() if kind == "learnt"} == {pair.chosen for pair in pairs}
    assert {node for node, kind in kinds.items() if kind == "unlearnt"} == {pair.rejected for pair in pairs}


def test_the_totals_are_those_of_the_rendered_conversations(
    trees: list[Tree], config: TrainConfig, tokenizer: Any
) -> None:
    batch = batch_of("dpo", trees, config)

    def length(node: int) -> int:
        chat = (Message(role="system", content=SYSTEM), *trees[0].chat(node))
        return len(tokenizer.apply_chat_template(as_dicts(chat), return_dict=True)["input_ids"])

    pairs = preferences(trees[:1], PREFERENCE)
    apart = sum(length(node) for pair in pairs for node in (pair.chosen, pair.rejected))
    text = shown(batch)
    assert batch.apart == apart
    assert f"{len(pairs)} pairs; {batch.example.tokens:,} tokens in the tree, {batch.learnt:,} of them trained" in text
    assert f"these are {apart:,} tokens: the tree takes {batch.example.tokens / apart:.0%} of that." in text


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("terminal", [False, True])
def test_no_line_is_wider_than_the_console(trees: list[Tree], config: TrainConfig, width: int, terminal: bool) -> None:
    long = small(trees, good="word " * 60 + "x" * 300, bad="数" * 150)
    for tree in (trees[0], long):
        text = shown(batch_of("dpo", [tree], config), width=width, force_terminal=terminal)
        plain = re.sub(r"\x1b\[[\d;]*m", "", text)
        assert max(map(cell_len, plain.splitlines())) <= width


def test_colours_take_the_place_of_marks_on_a_terminal(trees: list[Tree], config: TrainConfig) -> None:
    batch = batch_of("dpo", [small(trees)], config)
    text = shown(batch, force_terminal=True, color_system="standard", no_color=False, _environ={})
    assert "[+" not in text
    assert "\x1b[32mGood.<|im_end|>↵\x1b[0m" in text
    assert "\x1b[31mBad.<|im_end|>↵\x1b[0m" in text
    assert "\x1b[2m<|im_start|>assistant↵\x1b[0m" in text


def test_a_terminal_without_colours_gets_marks(trees: list[Tree], config: TrainConfig) -> None:
    batch = batch_of("dpo", [small(trees)], config)
    text = shown(batch, force_terminal=True, color_system="standard", no_color=True)
    assert "[+Good.<|im_end|>↵+]" in re.sub(r"\x1b\[[\d;]*m", "", text)


def test_what_takes_only_ascii_gets_only_ascii(trees: list[Tree], config: TrainConfig) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    Console(file=stream, width=80).print(batch_of("dpo", [small(trees)], config))
    stream.seek(0)
    text = stream.read()
    assert "+-turn 1: reply (node 1, generic); chosen in pair 1\n" in text
    assert "| [+Good.<|im_end|>\\n+]" in text
    assert "`-turn 1: reply" in text


def test_the_text_of_others_is_neither_markup_nor_obeyed(trees: list[Tree], config: TrainConfig) -> None:
    nasty = "[red]no[/red] :smile: \x1b[2J\x07 \u202eback\u2066 \r\x9b31m a\u200db <|im_end|> \u2028 end"
    batch = batch_of("dpo", [small(trees, good=nasty)], config)
    for terminal in (False, True):
        text = shown(batch, width=400, force_terminal=terminal)
        spelt = r"\x1b[2J\x07 \u202eback\u2066 \r\x9b31m"
        assert f"[red]no[/red] :smile: {spelt} a\u200db <|im_end|> \\u2028 end<|im_end|>↵" in text
        assert not set(re.sub(r"\x1b\[[\d;]*m", "", text)) & set("\x1b\x07\u202e\u2066\r\x9b\u2028")


def test_tokens_that_hold_half_a_character_are_read_together(trees: list[Tree], config: TrainConfig) -> None:
    assert "[+🦩 œuf<|im_end|>↵+]" in shown(batch_of("dpo", [small(trees, good="🦩 œuf")], config))


def test_a_reply_that_wins_and_loses_says_so(trees: list[Tree], config: TrainConfig) -> None:
    tree = tree_of(asked("Hello"), *(scored(text, score, trees) for text, score in (("A.", 4), ("B.", 3), ("C.", 2))))
    comparisons = tuple(Comparison(first=one, second=one + 1, votes=("first", "first")) for one in (1, 2))
    batch = batch_of("dpo", [tree.model_copy(update={"comparisons": comparisons})], config)
    text = shown(batch)
    assert "reply (node 2, generic); chosen in pair 2; rejected in pair 1" in text
    assert "[±B.<|im_end|>↵±]" in text
    assert "[± ±] chosen and rejected" in text


def test_a_conversation_that_branches_on_is_indented_by_branch(trees: list[Tree], config: TrainConfig) -> None:
    tree = tree_of(
        asked("Hello"),
        scored("Left.", 4, trees, continued=True),
        scored("Right.", 2, trees, continued=True),
        asked("On the left.", 1),
        scored("L one.", 4, trees, parent=3),
        scored("L two.", 2, trees, parent=3),
        asked("On the right.", 2),
        scored("R one.", 4, trees, parent=6, continued=True),
        scored("R two.", 2, trees, parent=6),
        asked("Still right.", 7),
        scored("R three.", 4, trees, parent=9),
        scored("R four.", 2, trees, parent=9),
    )
    text = shown(batch_of("dpo", [tree], config))
    assert "│ turn 2: user\n│ <|im_start|>user↵\n│ On the left." in text
    assert "│ ├╴turn 2: reply (node 4" in text
    assert "\nturn 2: user\n<|im_start|>user↵\nOn the right." in text
    assert "\nturn 3: user\n<|im_start|>user↵\nStill right." in text


def test_a_very_long_conversation(trees: list[Tree], config: TrainConfig) -> None:
    nodes: list[Node] = []
    for turn in range(40):
        nodes.append(asked("Hi", 2 * turn - 1 if turn else None))
        nodes.append(scored("Yes.", 4, trees, parent=2 * turn, continued=turn < 39))
    text = shown(batch_of("sft", [tree_of(*nodes)], config.model_copy(update={"max_length": 600})))
    told = re.search(r"(\d+) replies of this tree are left out", text)
    assert told is not None
    assert text.count(": reply (") == 40 - int(told[1]) > 20


def test_the_first_tree_with_something_to_train_on(trees: list[Tree], config: TrainConfig) -> None:
    equal = small(trees, good="Same.", bad="Same.")
    batch = batch_of("dpo", [equal, small(trees)], config)
    assert batch.heading[0].startswith("dpo: tree 2 of 2")
    assert batch.example.number == 1


def test_replies_that_are_too_long_are_told(trees: list[Tree], config: TrainConfig) -> None:
    whole = batch_of("dpo", trees, config)
    shorter = batch_of("dpo", trees, config.model_copy(update={"max_length": 450}))
    left_out = len(whole.example.pairs) - len(shorter.example.pairs)
    assert 0 < left_out < len(whole.example.pairs)
    assert f"{left_out} pairs of this tree are left out: longer than the model reads." in shown(shorter)


@pytest.mark.parametrize("changes", [{"max_length": 3}, {"dpo": DpoConfig(trees=1)}], ids=["long", "equal"])
def test_nothing_to_train_on(trees: list[Tree], config: TrainConfig, changes: dict[str, Any]) -> None:
    equal = small(trees, good="Same.", bad="Same.")
    with pytest.raises(InputError, match="nothing to train dpo on"):
        batch_of("dpo", [equal, *trees], config.model_copy(update=changes))


def test_what_is_not_shown_is_said(trees: list[Tree], config: TrainConfig) -> None:
    mixed = SftConfig(mix=MixConfig(dataset="chats.jsonl", chats_per_tree=0.5))
    text = shown(batch_of("sft", trees, config.model_copy(update={"packing": "trl", "sft": mixed})))
    assert "0.5 chats per tree of chats.jsonl" in text
    assert 'packing = "trl"' in text


def test_an_adapter_as_base(trees: list[Tree], config: TrainConfig, tuned: Path) -> None:
    on_top = batch_of("dpo", trees, config.model_copy(update={"base": str(tuned)}))
    assert on_top.runs == batch_of("dpo", trees, config).runs


def test_no_weights_are_read(trees: list[Tree], config: TrainConfig, base: Path, tmp_path: Path) -> None:
    for file in base.iterdir():
        content = b"" if file.suffix == ".safetensors" else file.read_bytes()
        (tmp_path / file.name).write_bytes(content)
    bare = batch_of("dpo", trees, config.model_copy(update={"base": str(tmp_path)}))
    assert bare.runs == batch_of("dpo", trees, config).runs


def test_a_base_whose_configuration_is_damaged(
    trees: list[Tree], config: TrainConfig, base: Path, tmp_path: Path
) -> None:
    for file in base.iterdir():
        (tmp_path / file.name).write_bytes(b"{" if file.name == "config.json" else file.read_bytes())
    with pytest.raises(ModelError, match="cannot be"):
        batch_of("dpo", trees, config.model_copy(update={"base": str(tmp_path)}))


@pytest.mark.parametrize(("packing", "mend"), [("tree", 'train it with packing = "trl"'), ("trl", "only packed trees")])
def test_a_template_that_rewrites_is_refused_with_the_reason(
    trees: list[Tree], config: TrainConfig, tmp_path: Path, packing: str, mend: str
) -> None:
    template = CHATML.replace("message['content']", "(message['content'] if loop.last or loop.index0 != 2 else '')")
    base = make_model(tmp_path / "thinking", make_tokenizer("some words", template))
    changed = config.model_copy(update={"base": str(base), "packing": packing})
    with pytest.raises(TrainingError, match=f"changes earlier messages.*{mend}"):
        batch_of("dpo", trees, changed)


def test_a_system_message_without_tokens_of_its_own(trees: list[Tree], config: TrainConfig, tmp_path: Path) -> None:
    template = (
        "{% for message in messages[1:] %}{% if message.role == 'user' %}"
        "{{ '[INST] ' + (messages[0].content + '\n\n' if loop.first else '') + message.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + message.content + '</s>' }}{% endif %}{% endfor %}"
    )
    base = make_model(tmp_path / "inst", make_tokenizer("some words", template))
    text = shown(batch_of("dpo", [small(trees)], config.model_copy(update={"base": str(base)})), width=200)
    assert "system (written with the first user turn)\n" in text
    assert f"[INST] {SYSTEM}↵\n↵\nHello [/INST]\n" in text
    assert "│ [+ Good.</s>+]\n" in text
