from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.conversations.export import (
    FORMS,
    Form,
    dpo_rows,
    kto_rows,
    read_aloe,
    reward_rows,
    sft_rows,
    trajectory_rows,
    write_export,
    write_preference_tables,
)
from interalign.conversations.preferences import PreferenceConfig, preferences, preferred
from interalign.conversations.simulate import SimulateConfig, grow
from interalign.conversations.tree import Fault, Node, Tree
from interalign.errors import InputError, LeakError, StorageError
from interalign.roles.responder import policy_prompt
from tests.conversations.hand_made import asked, compared, one_turn, replied
from tests.roles.talks import PERSONAS

CONFIG = PreferenceConfig()
PEOPLE = [*PERSONAS[:4], *PERSONAS[30:32]]
TREES = grow(PEOPLE, SimulateConfig(turns=3), 1)
SYSTEM = "You are a helpful assistant."
FACTS = {"user simulator": "rules", "prompt user.txt": "3f0a"}


def is_conversation(messages: list[dict[str, str]]) -> bool:
    return bool(messages) and all(list(message) == ["role", "content"] for message in messages)


def said(messages: list[dict[str, str]]) -> str:
    return " ".join(message["content"] for message in messages)


def test_dpo_rows_are_the_pairs() -> None:
    rows, pairs = list(dpo_rows(TREES, CONFIG, SYSTEM)), preferences(TREES, CONFIG)
    for row, pair in zip(rows, pairs, strict=True):
        tree = TREES[pair.tree]
        assert all(is_conversation(row[column]) for column in ("prompt", "chosen", "rejected"))
        assert row["prompt"][0] == {"role": "system", "content": SYSTEM}
        assert [message["role"] for message in row["prompt"][1:]] == (["user", "assistant"] * row["turn"])[:-1]
        assert row["chosen"] == [{"role": "assistant", "content": tree.nodes[pair.chosen].content}]
        assert row["rejected"] == [{"role": "assistant", "content": tree.nodes[pair.rejected].content}]
        assert (row["margin"], row["persona_id"]) == (pair.margin, tree.persona_id)
        assert row["chosen_source"] == tree.nodes[pair.chosen].source
        assert row["rejected_source"] == tree.nodes[pair.rejected].source


def test_sft_rows_are_the_preferred_replies() -> None:
    rows = list(sft_rows(TREES, CONFIG, SYSTEM))
    expected = [(tree, node) for tree in TREES for turn in tree.user_turns() for node in preferred(tree, turn, CONFIG)]
    for row, (tree, node) in zip(rows, expected, strict=True):
        assert is_conversation(row["messages"])
        assert row["messages"][0] == {"role": "system", "content": SYSTEM}
        assert row["messages"][-1] == {"role": "assistant", "content": tree.nodes[node].content}
        assert len(row["messages"]) == 1 + 2 * row["turn"]


def test_kto_rows_are_replies_that_are_good_or_bad() -> None:
    rows = list(kto_rows(TREES, CONFIG, SYSTEM))
    pairs = preferences(TREES, CONFIG)
    good = {(TREES[pair.tree].chat(pair.chosen), True) for pair in pairs}
    bad = {(TREES[pair.tree].chat(pair.rejected), False) for pair in pairs}
    assert {(said(row["prompt"][1:] + row["completion"]), row["label"]) for row in rows} == {
        (" ".join(message.content for message in chat), label) for chat, label in good | bad
    }
    assert len(rows) == len(good | bad)
    between = one_turn([2.0, 3.0, 4.0], [compared(2, 1, "first", "first"), compared(3, 2, "first", "first")])
    labels = [(row["completion"][0]["content"], row["label"]) for row in kto_rows([between], CONFIG, SYSTEM)]
    assert labels == [("reply 0", False), ("reply 2", True)]


def test_reward_rows_are_whole_chats() -> None:
    rows, pairs = list(reward_rows(TREES, CONFIG, SYSTEM)), list(dpo_rows(TREES, CONFIG, SYSTEM))
    for row, pair in zip(rows, pairs, strict=True):
        assert row["chosen"] == pair["prompt"] + pair["chosen"]
        assert row["rejected"] == pair["prompt"] + pair["rejected"]
        assert row["score_gap"] == pair["margin"]
        # TRL would take it into the loss.
        assert "margin" not in row


def test_no_system_message_is_no_message() -> None:
    assert next(dpo_rows(TREES, CONFIG, ""))["prompt"][0]["role"] == "user"


def forked(scores: list[float | None]) -> Tree:
    """Two replies to the first message, both continued, with two replies each; six scores in that order."""
    nodes = (
        asked(),
        replied(0, "a", scores[0], continued=True),
        replied(0, "b", scores[1], continued=True),
        asked(1, "after a"),
        replied(3, "a1", scores[2]),
        replied(3, "a2", scores[3]),
        asked(2, "after b"),
        replied(6, "b1", scores[4]),
        replied(6, "b2", scores[5]),
    )
    return Tree(persona_id="p", seed=1, nodes=nodes)


def ways(tree: Tree, config: PreferenceConfig = CONFIG) -> list[tuple[str, str, str, float]]:
    return [
        (said(row["prompt"]), said(row["chosen"]), said(row["rejected"]), row["margin"])
        for row in trajectory_rows([tree], config, "")
    ]


def test_trajectories_part_at_a_user_turn() -> None:
    first = ("What now?", "b after b b2", "a after a a1", 1.0)
    rows = ways(forked([5.0, 3.0, 1.0, 1.0, 1.0, 5.0]))
    assert rows == [first, ("What now? b after b", "b2", "b1", 4.0)]
    assert ways(forked([5.0, 3.0, 1.0, 1.0, 1.0, 5.0]), PreferenceConfig(min_margin=2)) == rows[1:]
    # A way with a missing verdict is no way, and one is no pair.
    assert ways(forked([5.0, None, 1.0, 2.0, 1.0, 5.0])) == [
        ("What now? a after a", "a2", "a1", 1.0),
        ("What now? b after b", "b2", "b1", 4.0),
    ]
    assert ways(forked([3.0] * 6), PreferenceConfig(min_margin=0)) == []
    row = next(trajectory_rows([forked([5.0, 3.0, 1.0, 1.0, 1.0, 5.0])], CONFIG, SYSTEM))
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    assert [message["role"] for message in row["chosen"]] == ["assistant", "user", "assistant"]
    assert (row["turn"], row["turns"], row["persona_id"]) == (1, 2, "p")


def test_trajectories_are_matched_by_the_length_of_their_replies() -> None:
    nodes = [asked(), replied(0, "a", 5.0), replied(0, "b b b", 1.0)]
    tree = Tree(persona_id="p", seed=1, nodes=tuple(nodes))
    assert len(ways(tree, PreferenceConfig(length_match=2))) == 1
    assert ways(tree, PreferenceConfig(length_match=1.9)) == []


def test_trajectories_end_as_deep_as_the_tree_and_with_a_reply() -> None:
    cut_off = [*forked([5.0, 3.0, 1.0, 1.0, 1.0, 5.0]).nodes, asked(1, "again after a")]
    tree = Tree(persona_id="p", seed=1, nodes=tuple(cut_off), failure="turn 2: no answer")
    assert len(ways(tree)) == 2
    shallow = [*cut_off[:6], asked(2, "after b")]
    assert ways(Tree(persona_id="p", seed=1, nodes=tuple(shallow)), PreferenceConfig(min_margin=0)) == []
    for row in trajectory_rows(TREES, CONFIG, SYSTEM):
        assert (row["turn"], row["turns"]) == (3, 1)


scores = st.none() | st.floats(1, 5).map(lambda score: round(score, 2))


@given(st.lists(scores, min_size=6, max_size=6))
def test_the_better_way_has_the_higher_mean(given_scores: list[float | None]) -> None:
    tree = forked(given_scores)
    by_text = {node.content: node.verdict.score for node in tree.nodes if node.verdict}
    for row in trajectory_rows([tree], CONFIG, ""):
        means = []
        for side in ("chosen", "rejected"):
            replies = [message["content"] for message in row[side] if message["role"] == "assistant"]
            means.append(sum(by_text[reply] for reply in replies) / len(replies))
        assert means[0] - means[1] == pytest.approx(row["margin"], abs=1e-4)
        assert row["margin"] >= CONFIG.min_margin
        assert len(row["chosen"]) == len(row["rejected"])
        assert row["chosen"][0] != row["rejected"][0]


def loaded(path: Path, cache_dir: Path) -> Any:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    if path.is_dir():
        return datasets.load_dataset(str(path), cache_dir=str(cache_dir))
    return datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(cache_dir))


def test_the_tables_are_the_rows(tmp_path: Path) -> None:
    write_preference_tables(tmp_path, TREES, CONFIG, SYSTEM)
    assert list(loaded(tmp_path / "dpo.parquet", tmp_path / "cache")) == list(dpo_rows(TREES, CONFIG, SYSTEM))
    assert list(loaded(tmp_path / "sft.parquet", tmp_path / "cache")) == list(sft_rows(TREES, CONFIG, SYSTEM))


def test_tables_of_many_rows_are_written_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = list(dpo_rows(TREES, CONFIG, SYSTEM))
    monkeypatch.setattr("interalign.conversations.export.dataset._ROWS_AT_ONCE", len(rows) // 2)
    write_preference_tables(tmp_path, TREES, CONFIG, SYSTEM)
    table = parquet.ParquetFile(tmp_path / "dpo.parquet")
    assert table.num_row_groups >= 2
    assert table.read().to_pylist() == rows
    assert parquet.read_table(tmp_path / "sft.parquet").to_pylist() == list(sft_rows(TREES, CONFIG, SYSTEM))


@pytest.mark.parametrize("verdicts", [[], [None, None], [3.0], [3.0, None], [3.0, 3.1]])
def test_nothing_to_prefer(tmp_path: Path, verdicts: list[float | None]) -> None:
    tree = one_turn(verdicts, who=PEOPLE[0].id)
    with pytest.raises(InputError, match=r"preferences\.min_margin"):
        write_preference_tables(tmp_path, [tree], CONFIG, SYSTEM)
    for form in ("dpo", "kto", "reward", "trajectory", "aloe"):
        with pytest.raises(InputError, match=r"preferences\.min_margin"):
            write_export(tmp_path / form, form, [tree], PEOPLE, CONFIG, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_trl_knows_the_formats() -> None:
    data_utils = pytest.importorskip("trl.data_utils")
    for rows in (dpo_rows, sft_rows, kto_rows, reward_rows, trajectory_rows):
        assert data_utils.is_conversational(next(rows(TREES, CONFIG, SYSTEM)))


@cache
def voiced() -> tuple[Tree, ...]:
    """The trees as if language models had spoken, with a comparison, a fault and a failure."""
    first = TREES[0]
    nodes = tuple(
        node.model_copy(update={"model": f"{'actor' if node.role == 'user' else 'author'}-1"}) for node in first.nodes
    )
    changed = Tree(
        persona_id=first.persona_id,
        seed=1,
        nodes=nodes,
        failure="turn 4: no answer",
        comparisons=(compared(1, 2, "first", "second"),),
        faults=(Fault(turn=1, check="role flip", attempt=0, text="As an AI"),) * 2,
    )
    return (changed, *TREES[1:])


def test_the_datasets_library_loads_every_form(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    assert set(FORMS) == set(get_args(Form))
    expected: dict[Form, Any] = {
        "dpo": dpo_rows,
        "sft": sft_rows,
        "kto": kto_rows,
        "reward": reward_rows,
        "trajectory": trajectory_rows,
    }
    for form in FORMS:
        folder = tmp_path / form
        counts = write_export(folder, form, voiced(), PEOPLE, CONFIG, FACTS)
        suffix = "jsonl" if form == "aloe" else "parquet"
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        assert files == ["README.md", f"data/heldout.{suffix}", f"data/train.{suffix}"]
        sets = loaded(folder, tmp_path / "cache")
        assert {split: len(rows) for split, rows in sets.items()} == counts
        if form != "aloe":
            assert list(sets["train"]) == list(expected[form](voiced()[:4], CONFIG, policy_prompt()))
            assert list(sets["heldout"]) == list(expected[form](voiced()[4:], CONFIG, policy_prompt()))
    read = read_aloe(tmp_path / "aloe")
    assert [len(read.trees), len(read.personas)] == [6, 6]
    assert [persona.split for persona in read.personas] == ["train"] * 4 + ["heldout"] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FORMS, "cache"])


def test_the_card_says_how_the_rows_were_made(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    write_export(tmp_path / "set", "dpo", voiced(), PEOPLE, CONFIG, FACTS)
    card = (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
    header = card.split("---\n")[1]
    assert "  - split: train\n    path: data/train.parquet\n  - split: heldout\n" in header
    assert "license: other\n" in header
    assert "```text\nuser simulator: rules\nprompt user.txt: 3f0a\nsystem message, sha256: " in card
    assert "min_margin: 0.3\n" in card
    assert "\njudge: referee-1\n" in card and "\nuser: actor-1\n" in card and "tailored replies: author-1\n" in card
    assert "terms of their providers" in card
    assert "```text\nuser, role flip: 2\n```" in card
    assert "| conversation trees | 6 |\n| of these, ended early by a failure | 1 |" in card
    assert "compared in both orders: 1; the two orders disagree in: 100.0%" in card
    write_export(tmp_path / "other", "trajectory", TREES[:4], PEOPLE, CONFIG, {})
    card = (tmp_path / "other" / "README.md").read_text(encoding="utf-8")
    assert "heldout" not in card
    assert "{% generation %}" in card and "completion_mask" in card
    assert "No language model is named" in card and "Nothing that anybody said was refused" in card


def test_foreign_text_means_nothing_in_the_card(tmp_path: Path) -> None:
    nasty = "```\n# Heading\n<script>{{ 1 }}"
    nodes = [
        Node(parent=None, role="user", content="u", source="user", model=nasty),
        replied(0, "a", 4.0, continued=True),
        replied(0, "b", 2.0),
    ]
    tree = Tree(persona_id=PEOPLE[0].id, seed=1, nodes=tuple(nodes))
    write_export(tmp_path / "set", "dpo", [tree], PEOPLE, CONFIG, {"by": nasty, "````": "\x1b[31mred"})
    card = (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
    assert "\n`````text\nby: ``` # Heading <script>{{ 1 }}\n````: [31mred\n" in card
    assert "\n````text\nuser: ``` # Heading <script>{{ 1 }}\n````\n" in card


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for name in ("full", "file"):
        with pytest.raises(InputError, match="is there already"):
            write_export(tmp_path / name, "dpo", TREES, PEOPLE, CONFIG, {})
    with pytest.raises(StorageError):
        write_export(tmp_path / "file" / "inside", "sft", TREES[:1], PEOPLE, CONFIG, {})
    with pytest.raises(InputError, match="1 trees have a persona"):
        write_export(tmp_path / "set", "dpo", TREES[:2], PEOPLE[:1], CONFIG, {})
    twice = [*PEOPLE, PEOPLE[0].model_copy(update={"split": "heldout"})]
    with pytest.raises(LeakError, match="in both splits"):
        write_export(tmp_path / "set", "dpo", TREES, twice, CONFIG, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]
    (tmp_path / "empty").mkdir()
    write_export(tmp_path / "empty", "dpo", TREES[:1], PEOPLE, CONFIG, {})
    assert sorted(path.name for path in (tmp_path / "empty").iterdir()) == ["README.md", "data"]
