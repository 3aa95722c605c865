"""Sentence encoders: texts to unit vectors whose inner product is their cosine similarity.

Encoding is what costs; so a text is encoded once and its vector is kept (`remembered`), under the text and the
weights that it was made with.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from interalign.errors import MissingExtra, ModelError
from interalign.llm.hardware import pick_device
from interalign.llm.libraries import quiet
from interalign.llm.offline import cache_folder, resolve_encoder
from interalign.llm.sqlite import Wording, connect, transaction, translated, use_wal

if TYPE_CHECKING:
    import torch

__all__ = ["Encoder", "SentenceEncoder", "kept_encoder", "remembered"]

_SCHEMA = "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID"
_KEYS_PER_QUERY = 500
_SAMPLED = 4096
_AGAIN = "texts are encoded again when they are needed."
_WORDING = Wording(
    name="The store of embeddings",
    unreadable=f"delete it (with its -wal and -shm files); {_AGAIN}",
    kept="what was encoded before is kept",
    read_only=f"make it a file that can be written, in a folder that can be, or delete it; {_AGAIN}",
)


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns texts into unit vectors of one dimension."""

    @property
    def name(self) -> str:
        """What identifies the weights: two encoders with one name give one text the same vector."""
        ...

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, [len(texts), dimension], in the order of `texts`; raises ModelError."""
        ...


class SentenceEncoder:
    """Any sentence-transformers model: a folder, a hub name, or the offline encoder's name.

    Texts are batched by length, on the GPU when there is one. What is longer than the model reads (256 tokens for
    MiniLM, about 190 words) is compared by its beginning.

    Raises:
        InputError: the folder holds no weights.
        MissingExtra: sentence-transformers, or the offline encoder's package, is not installed.
        ModelError: the model cannot be loaded.
    """

    def __init__(self, name: str, *, device: str | None = None, batch_size: int = 64) -> None:
        source = resolve_encoder(name)
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise MissingExtra("sentence-transformers", "personas") from None
        try:
            with quiet():
                self._model: Any = SentenceTransformer(source, device=device or pick_device())
        except Exception as error:
            why = " ".join(str(error).split())[:300].rstrip(".")
            raise ModelError(
                f"The sentence encoder {name!r} cannot be loaded: {why}.",
                mend="name a sentence-transformers model: a folder, or a hub name this machine can reach.",
            ) from error
        self._batch_size = batch_size
        self._name = f"{name}-{_fingerprint(self._model)}"
        # Asked of a vector: what a model says of itself may be missing.
        self._dimension = int(self._model.encode([""], show_progress_bar=False).shape[1])

    def __repr__(self) -> str:
        return f"SentenceEncoder({self._name!r})"

    @property
    def name(self) -> str:
        """The name it was given and a digest of its weights."""
        return self._name

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return self._dimension

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, [len(texts), dimension], in the order of `texts`."""
        if not texts:
            return np.empty((0, self._dimension), np.float32)
        with quiet():
            vectors = self._model.encode(
                list(texts), batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False
            )
        return np.asarray(vectors, np.float32)


def _fingerprint(model: Any) -> str:
    """12 hexadecimal digits that other weights, another reading length or another pooling change."""
    digest = hashlib.sha256(f"{model!r} {model.max_seq_length}".encode())
    tensors: dict[str, torch.Tensor] = model.state_dict()
    for name in sorted(tensors):
        tensor = tensors[name].detach().flatten()
        # A few thousand numbers of each tensor tell models apart; all of them would take seconds for a large one.
        sample = tensor[:: max(1, len(tensor) // _SAMPLED)].float().cpu().numpy()
        digest.update(f"{name} {tuple(tensors[name].shape)}".encode())
        digest.update(sample.tobytes())
    return digest.hexdigest()[:12]


@contextmanager
def remembered(encoder: Encoder, path: Path) -> Iterator[Encoder]:
    """`encoder`, with each text encoded once: vectors are kept in the SQLite file at `path`, made when it is missing.

    Several processes may use the same file. It holds nothing that cannot be made again.

    Raises:
        InputError: the file is no such store.
        StorageError: the disk is full or cannot be written, or another process holds the file.
    """
    connection = connect(path, _WORDING)
    try:
        with translated(path, _WORDING):
            use_wal(connection)
            connection.execute(_SCHEMA)
        yield _Remembered(encoder, path, connection)
    finally:
        connection.close()


@contextmanager
def kept_encoder(name: str) -> Iterator[Encoder]:
    """The sentence encoder of that name, with vectors kept in the user's cache folder, for all runs together.

    Raises:
        InputError, MissingExtra, ModelError, StorageError: as `SentenceEncoder` and `remembered`.
    """
    with remembered(SentenceEncoder(name), cache_folder(os.environ) / "embeddings.sqlite") as encoder:
        yield encoder


class _Remembered:
    def __init__(self, encoder: Encoder, path: Path, connection: sqlite3.Connection) -> None:
        self._encoder = encoder
        self._path = path
        self._connection = connection
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"remembered({self._encoder!r}, {str(self._path)!r})"

    @property
    def name(self) -> str:
        return self._encoder.name

    @property
    def dimension(self) -> int:
        return self._encoder.dimension

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        keys = [self._key(text) for text in texts]
        with self._lock, translated(self._path, _WORDING):
            known = self._read(keys)
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if new:
            fresh = dict(zip(new, self._encoder.encode(list(new.values())), strict=True))
            rows = [(key, vector.astype("<f4").tobytes()) for key, vector in fresh.items()]
            with self._lock, translated(self._path, _WORDING), transaction(self._connection):
                self._connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
            known |= fresh
        return np.stack([known[key] for key in keys]) if keys else np.empty((0, self.dimension), np.float32)

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self._encoder.name}\n{text}".encode()).digest()[:16]

    def _read(self, keys: Iterable[bytes]) -> dict[bytes, NDArray[np.float32]]:
        wanted = list(dict.fromkeys(keys))
        found: dict[bytes, NDArray[np.float32]] = {}
        for start in range(0, len(wanted), _KEYS_PER_QUERY):
            some = wanted[start : start + _KEYS_PER_QUERY]
            query = f"SELECT key, vector FROM vectors WHERE key IN ({','.join('?' * len(some))})"
            for key, blob in self._connection.execute(query, some):
                # Another length is damage, and is made again.
                if len(blob) == 4 * self.dimension:
                    found[key] = np.frombuffer(blob, "<f4").astype(np.float32)
        return found
