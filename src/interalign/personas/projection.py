"""A map of the pool: vectors of many dimensions laid out in two, near ones near each other as far as that goes."""

from __future__ import annotations

import warnings
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from interalign.errors import MissingExtra
from interalign.messages import Value

__all__ = ["PoolMap", "project"]


class PoolMap(Value):
    """Places of descriptions, by id, and how they were found."""

    method: Literal["pca", "umap"]
    kept: Annotated[float, Field(ge=0, le=1)] | None
    """The share of the variance that two principal components keep; None for other methods, and without variance."""
    places: dict[str, tuple[float, float]]


def project(
    ids: list[str], vectors: NDArray[np.float32], method: Literal["pca", "umap"] = "pca", seed: int = 0
) -> PoolMap:
    """Lay out `vectors`, [n, dimension], one for each id.

    PCA shows what differs most and is the same every time. UMAP shows clusters better and needs the extra "umap".

    Raises:
        MissingExtra: the package is not installed.
    """
    if len(ids) < 3:
        # Two points span no plane.
        return PoolMap(method=method, kept=None, places={one: (float(index), 0.0) for index, one in enumerate(ids)})
    places, kept = _pca(vectors) if method == "pca" else (_umap(vectors, seed), None)
    return PoolMap(
        method=method,
        kept=kept,
        places={one: (round(float(x), 5), round(float(y), 5)) for one, (x, y) in zip(ids, places, strict=True)},
    )


def _pca(vectors: NDArray[np.float32]) -> tuple[Any, float | None]:
    try:
        from sklearn.decomposition import PCA
    except ImportError:
        raise MissingExtra("scikit-learn", "personas") from None
    analysis = PCA(n_components=2, svd_solver="full")
    # One text many times has no variance that could be divided.
    with np.errstate(invalid="ignore"):
        places = analysis.fit_transform(vectors)
    varies = np.ptp(vectors, axis=0).any()
    return places, float(min(1.0, analysis.explained_variance_ratio_.sum())) if varies else None


def _umap(vectors: NDArray[np.float32], seed: int) -> Any:
    try:
        with warnings.catch_warnings():
            # It says so where there is no TensorFlow, of which nothing is used.
            warnings.simplefilter("ignore", ImportWarning)
            from umap import UMAP
    except ImportError:
        raise MissingExtra("umap-learn", "umap") from None
    neighbours = min(15, len(vectors) - 1)
    layout = UMAP(metric="cosine", n_neighbors=neighbours, random_state=seed, n_jobs=1, init="random")
    return layout.fit_transform(vectors)
