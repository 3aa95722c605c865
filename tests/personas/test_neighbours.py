from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from interalign.errors import InputError
from interalign.personas.neighbours import ApproximateIndex, ExactIndex, VectorIndex


def unit(seed: int, count: int, dimension: int = 16) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@given(st.integers(0, 2**32), st.lists(st.integers(0, 40), max_size=6), st.integers(0, 9))
def test_exact_search_is_the_full_product_however_the_vectors_came(seed: int, parts: list[int], asked: int) -> None:
    vectors, queries = unit(seed, sum(parts)), unit(seed + 1, asked)
    index = ExactIndex(16)
    start = 0
    for size in parts:
        index.add(vectors[start : start + size])
        start += size
    found = index.nearest(queries)
    assert len(index) == sum(parts)
    if not sum(parts):
        assert set(found.rows) <= {-1}
        assert np.all(found.scores == -np.inf)
        return
    cosines = queries @ vectors.T
    np.testing.assert_allclose(found.scores, cosines.max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(cosines[np.arange(asked), found.rows], found.scores, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_mapped_file_is_searched_block_by_block_and_grows_in_memory(tmp_path: Path, dtype: type) -> None:
    stored, added, queries = unit(1, 9000), unit(2, 500), unit(3, 2500)
    np.save(tmp_path / "vectors.npy", stored.astype(dtype))
    index = ExactIndex.mapped(tmp_path / "vectors.npy")
    index.add(added)
    found = index.nearest(queries)
    everything = np.concatenate([stored.astype(dtype).astype(np.float32), added])
    assert np.array_equal(found.rows, (queries @ everything.T).argmax(axis=1))
    assert np.array_equal(np.load(tmp_path / "vectors.npy"), stored.astype(dtype))


@pytest.mark.parametrize("content", [b"", b"prose", np.zeros(4).tobytes()])
def test_a_file_without_vectors_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "vectors.npy").write_bytes(content)
    with pytest.raises(InputError, match="holds no vectors"):
        ExactIndex.mapped(tmp_path / "vectors.npy")


def test_a_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", np.zeros((3, 4), np.int64))
    with pytest.raises(InputError, match="int64 of shape"):
        ExactIndex.mapped(tmp_path / "vectors.npy")


def test_the_approximate_index_finds_what_is_there_and_says_nothing_of_an_empty_pool() -> None:
    pytest.importorskip("usearch", reason="needs the extra 'ann'")
    index: VectorIndex = ApproximateIndex(16)
    assert list(index.nearest(unit(1, 2)).rows) == [-1, -1]
    vectors = unit(4, 2000)
    index.add(vectors[:1500])
    index.add(vectors[1500:])
    found = index.nearest(vectors)
    assert np.mean(found.rows == np.arange(2000)) > 0.95
    np.testing.assert_allclose(found.scores[found.rows == np.arange(2000)], 1, atol=2e-3)
