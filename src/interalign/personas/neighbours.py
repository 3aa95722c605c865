"""The nearest of many vectors, exactly: blocked matrix products over what lies in memory or in a mapped file.

A million vectors of dimension 384 are 1.5 GB as float32 and half of that as float16. A mapped file is read block by
block, so a search needs a few megabytes beside the operating system's file cache.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from interalign.errors import InputError, MissingExtra

__all__ = ["ApproximateIndex", "ExactIndex", "Nearest", "VectorIndex", "cosines"]

# 4,096 rows of 384 float32 stay in a core's cache while they are converted and multiplied.
_BLOCK = 4096
_QUERIES = 1024
_FIRST_CAPACITY = 1024

_Product: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Nearest:
    """For each query the row of its nearest vector and their cosine; row -1 and cosine -inf in an empty index."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


class VectorIndex(Protocol):
    """Unit vectors that grow at the end and are searched by cosine."""

    def __len__(self) -> int: ...

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append unit vectors, [n, dimension]."""
        ...

    def nearest(self, queries: NDArray[np.float32]) -> Nearest:
        """The nearest row for each of the unit vectors `queries`, [q, dimension]."""
        ...


def cosines(queries: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cosines of unit vectors, [q, d] and [n, d] -> [q, n]."""
    torch = sys.modules.get("torch")
    if torch is None:
        return queries @ rows.T
    # Where torch encodes it multiplies too: its threads and numpy's, each waiting busily, would fight for the cores.
    found: NDArray[np.float32] = (torch.from_numpy(queries) @ torch.from_numpy(rows).T).numpy()
    return found


class ExactIndex:
    """Finds the true nearest vector. Rows can only be added.

    Args:
        dimension: Length of a vector.
        stored: Rows that come before all that are added: float32 or float16, [n, dimension], often a mapped file.
    """

    def __init__(self, dimension: int, stored: NDArray[Any] | None = None) -> None:
        self._stored = np.empty((0, dimension), np.float32) if stored is None else stored
        self._added = np.empty((0, dimension), np.float32)
        self._count = 0

    @classmethod
    def mapped(cls, path: Path) -> ExactIndex:
        """The rows of an `.npy` file, read as they are needed; raises InputError when it holds none."""
        try:
            # Copy on write: the file is never changed, and torch takes an array that is not read-only.
            stored = np.load(path, mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path} holds no vectors: {error}.", mend="write it with numpy.save.") from error
        if stored.ndim != 2 or stored.dtype not in (np.float32, np.float16):
            raise InputError(
                f"{path} holds {stored.dtype} of shape {stored.shape}, not vectors.",
                mend="save unit vectors as float32 or float16, one a row.",
            )
        return cls(stored.shape[1], stored)

    def __len__(self) -> int:
        return len(self._stored) + self._count

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append unit vectors, [n, dimension]."""
        wanted = self._count + len(vectors)
        if wanted > len(self._added):
            # Twice the room each time, so that a pool grown one by one is not copied one by one.
            grown = np.empty((max(wanted, 2 * len(self._added), _FIRST_CAPACITY), self._added.shape[1]), np.float32)
            grown[: self._count] = self._added[: self._count]
            self._added = grown
        self._added[self._count : wanted] = vectors
        self._count = wanted

    def nearest(self, queries: NDArray[np.float32]) -> Nearest:
        """The nearest row for each of the unit vectors `queries`, [q, dimension]; the first among equals."""
        rows = np.full(len(queries), -1, np.int64)
        scores = np.full(len(queries), -np.inf, np.float32)
        for start, multiplied in self._blocks():
            # Many queries at once would make the table of cosines larger than the vectors.
            for first in range(0, len(queries), _QUERIES):
                part = slice(first, first + _QUERIES)
                found = multiplied(queries[part])
                best = found.argmax(axis=1)
                highest = found[np.arange(len(best)), best]
                better = highest > scores[part]
                scores[part][better] = highest[better]
                rows[part][better] = best[better] + start
        return Nearest(rows, scores)

    def _blocks(self) -> Iterator[tuple[int, _Product]]:
        """Where a block of rows begins, and what gives the cosines of queries to it: [q, d] -> [q, rows]."""
        with_stored = _products(self._stored)
        for start in range(0, len(self._stored), _BLOCK):
            yield start, with_stored(self._stored[start : start + _BLOCK])
        for start in range(0, self._count, _BLOCK):
            block = self._added[start : min(start + _BLOCK, self._count)]
            yield len(self._stored) + start, partial(cosines, rows=block)


def _products(stored: NDArray[Any]) -> Callable[[NDArray[Any]], _Product]:
    """How a block of stored rows is multiplied; each product is good until the next block is asked for."""
    if stored.dtype == np.float32:
        return lambda block: partial(cosines, rows=block)
    try:
        import torch
    except ImportError:
        return lambda block: lambda queries: queries @ block.astype(np.float32).T
    # numpy converts float16 one number at a time, torch many at once. One room for all blocks, since fresh memory for
    # each costs more than the conversion.
    room = torch.empty(_BLOCK, stored.shape[1])

    def product(block: NDArray[Any]) -> _Product:
        part = room[: len(block)]
        part.copy_(torch.from_numpy(block))
        return partial(cosines, rows=part.numpy())

    return product


class ApproximateIndex:
    """Finds the nearest vector mostly: an HNSW graph of the package usearch, in float16. Faster above some 100,000.

    What it misses enters a pool as a near-duplicate; `benchmarks/persona_pool.py` measures how often.
    """

    def __init__(self, dimension: int) -> None:
        try:
            from usearch.index import Index
        except ImportError:
            raise MissingExtra("usearch", "ann") from None
        self._index: Any = Index(ndim=dimension, metric="ip", dtype="f16")

    def __len__(self) -> int:
        return len(self._index)

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append unit vectors, [n, dimension]."""
        start = len(self._index)
        # One thread: with several, the graph, and with it what is found, would depend on which was faster.
        self._index.add(np.arange(start, start + len(vectors), dtype=np.uint64), vectors, threads=1)

    def nearest(self, queries: NDArray[np.float32]) -> Nearest:
        """A near row for each of the unit vectors `queries`, [q, dimension], the nearest mostly."""
        if not len(self._index) or not len(queries):
            return Nearest(np.full(len(queries), -1, np.int64), np.full(len(queries), -np.inf, np.float32))
        found = self._index.search(queries, 1)
        keys = np.asarray(found.keys).reshape(len(queries))
        distances = np.asarray(found.distances, np.float32).reshape(len(queries))
        return Nearest(keys.astype(np.int64), 1 - distances)
