"""An encoder for tests that need no meaning: hashed words, so texts that share words are near."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from interalign.personas.description import normalised


class WordEncoder:
    """Counts hashed words. It is an Encoder like any other; `encoded` says how many texts it was given."""

    def __init__(self, dimension: int = 512) -> None:
        self.dimension = dimension
        self.encoded = 0

    @property
    def name(self) -> str:
        return f"words-{self.dimension}"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.encoded += len(texts)
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            for word in normalised(text).split() or [""]:
                vectors[row, crc32(word.encode()) % self.dimension] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
