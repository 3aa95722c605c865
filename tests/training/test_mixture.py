from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from interalign.errors import InputError, MissingExtra
from interalign.messages import Chat, Message
from interalign.training import mixture
from interalign.training.mixture import MixConfig, read_chats

HELLO = (Message(role="user", content="Hello"), Message(role="assistant", content="Good day."))
MESSAGES = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day."}]
SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.fixture(scope="module", autouse=True)
def no_shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Datasets keep what they read in a cache, which is no place for tests to write to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


def written(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def chats_of(dataset: str, trees: int = 1, ratio: float = 1.0, seed: int = 0) -> tuple[Chat, ...]:
    return read_chats(MixConfig(dataset=dataset, chats_per_tree=ratio), trees, seed)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": MESSAGES},
        {"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Good day."}]},
        {"conversations": [{"from": "user", "value": "Hello"}, {"from": "assistant", "value": "Good day."}]},
        {"prompt": "Hello", "completion": "Good day."},
        {"prompt": MESSAGES[:1], "completion": MESSAGES[1:]},
        {"prompt": "Hello", "completion": MESSAGES[1:]},
        {"prompt": "Hello", "messages": MESSAGES},
        {"messages": [], "prompt": "Hello", "completion": "Good day."},
        {"messages": [*MESSAGES, {"role": "user", "content": "Bye"}]},
        {"prompt": "\n Hello\n", "completion": "\n\nGood day. "},
    ],
    ids=["messages", "human", "user", "texts", "sides", "mixed", "both", "empty", "unanswered", "space"],
)
def test_the_forms_that_a_chat_may_have(tmp_path: Path, row: dict[str, Any]) -> None:
    assert chats_of(written(tmp_path / "rows.jsonl", row)) == (HELLO,)


def test_a_system_message_stays_first(tmp_path: Path) -> None:
    found = chats_of(written(tmp_path / "rows.jsonl", {"messages": [SYSTEM, *MESSAGES]}))
    assert found == ((Message(role="system", content="Be brief."), *HELLO),)


@pytest.mark.parametrize("form", ["json", "parquet", "folder", "folder of parquet"])
def test_the_files_that_may_hold_them(tmp_path: Path, form: str) -> None:
    rows = [{"messages": MESSAGES}]
    if form == "json":
        (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
        name = str(tmp_path / "rows.json")
    elif form == "folder":
        written(tmp_path / "train.jsonl", *rows)
        name = str(tmp_path)
    else:
        Dataset.from_list(rows).to_parquet(tmp_path / "train.parquet")
        name = str(tmp_path / "train.parquet" if form == "parquet" else tmp_path)
    assert chats_of(name) == (HELLO,)


@pytest.mark.parametrize(
    "row",
    [
        {"text": "Hello"},
        {"messages": None},
        {"messages": MESSAGES[:1]},
        {"messages": [SYSTEM]},
        {"messages": [SYSTEM, MESSAGES[1]]},
        {"messages": MESSAGES[::-1]},
        {"messages": [MESSAGES[0], *MESSAGES]},
        {"messages": [*MESSAGES, SYSTEM, *MESSAGES]},
        {"messages": [{"role": "user", "content": None}, MESSAGES[1]]},
        {"messages": [MESSAGES[0], {"role": "assistant", "content": " \n"}]},
        {"messages": [MESSAGES[0], {"role": "tool", "content": "3"}, MESSAGES[1]]},
        {"messages": ["Hello", "Good day."]},
        {"messages": "Hello"},
        {"conversations": [{"role": "user", "content": "Hello"}]},
        {"prompt": "Hello", "completion": None},
        {"prompt": "Hello", "completion": 3},
        {"prompt": None, "completion": "Good day."},
        {"prompt": "Hello"},
    ],
    ids=str,
)
def test_a_row_without_a_chat_is_passed_over(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no chat with an answer in 1 rows"):
        chats_of(written(tmp_path / "bad.jsonl", row))


def test_rows_that_fit_are_found_among_others(tmp_path: Path) -> None:
    rows = [{"messages": MESSAGES[:1]}, {"messages": MESSAGES}, {"messages": None}]
    assert chats_of(written(tmp_path / "rows.jsonl", *rows), trees=2) == (HELLO, HELLO)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("broken.jsonl", b'{"messages": [\n', "JSON parse error"),
        ("binary.jsonl", b"\xff\xfe\x00", "cannot be read"),
        ("empty.jsonl", b"", "it is empty"),
        ("broken.parquet", b"PAR", "Parquet"),
    ],
)
def test_a_bad_file_is_told_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        chats_of(str(tmp_path / name))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_file_that_is_not_there_is_not_looked_for_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        chats_of(str(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize("name", ["somebody/dataset", "empty"])
def test_a_dataset_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        chats_of(name)


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    written(tmp_path / "train.jsonl", {"messages": MESSAGES})
    with pytest.raises(InputError, match="validation"):
        read_chats(MixConfig(dataset=str(tmp_path), split="validation"), 1, 0)


def numbered(tmp_path: Path, count: int) -> str:
    rows = [{"prompt": f"Hello {number}", "completion": "Good day."} for number in range(count)]
    return written(tmp_path / "rows.jsonl", *rows)


@pytest.mark.parametrize(("ratio", "wanted"), [(0.5, 3), (1.0, 6), (2.0, 12)])
def test_as_many_chats_as_the_trees_ask_for(tmp_path: Path, ratio: float, wanted: int) -> None:
    chats = chats_of(numbered(tmp_path, 20), trees=6, ratio=ratio)
    assert len(chats) == wanted
    assert len(set(chats)) == wanted


def test_too_few_rows_are_learnt_again_in_turn(tmp_path: Path) -> None:
    chats = chats_of(numbered(tmp_path, 5), trees=6, ratio=2.0)
    assert len(chats) == 12
    assert len(set(chats[:5])) == 5
    assert chats[5:10] == chats[:5]
    assert chats[10:] == chats[:2]


def test_the_seed_decides_which(tmp_path: Path) -> None:
    name = numbered(tmp_path, 20)
    assert chats_of(name, 5, seed=1) == chats_of(name, 5, seed=1)
    assert chats_of(name, 5, seed=1) != chats_of(name, 5, seed=2)


def test_more_trees_only_add(tmp_path: Path) -> None:
    name = numbered(tmp_path, 20)
    assert chats_of(name, 9)[:4] == chats_of(name, 4)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = numbered(tmp_path, 1)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match="datasets"):
        chats_of(name)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["user", "assistant", "gpt", "", "text"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "from", "value"]), inner, max_size=4)
    ),
    max_leaves=12,
)
ROWS = st.dictionaries(st.sampled_from(["messages", "conversations", "prompt", "completion"]), JSON)


@given(ROWS)
def test_whatever_a_row_holds_a_chat_takes_turns_and_ends_with_an_answer(row: dict[str, Any]) -> None:
    chat = mixture._chat(row)
    if chat is not None:
        roles = [message.role for message in chat if message.role != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert chat[-1].role == "assistant"
        assert all(message.content.strip() for message in chat)
