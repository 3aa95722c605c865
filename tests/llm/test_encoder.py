from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from interalign.errors import InputError, ModelError, StorageError
from interalign.llm.encoder import Encoder, SentenceEncoder, remembered
from interalign.llm.offline import OFFLINE_ENCODER


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
