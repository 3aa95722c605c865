from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from interalign.errors import MissingExtra
from interalign.personas.projection import PoolMap, project

# To import it takes seconds, so it is only looked for.
HAS_UMAP = find_spec("umap") is not None
needs_umap = pytest.mark.skipif(not HAS_UMAP, reason="needs the extra 'umap'")


def unit(seed: int, count: int, dimension: int = 16) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def named(count: int) -> list[str]:
    return [f"id{number}" for number in range(count)]


@given(st.integers(0, 2**32), st.integers(3, 40))
def test_the_places_are_the_two_principal_components(seed: int, count: int) -> None:
    vectors = unit(seed, count)
    found = project(named(count), vectors)
    centred = np.asarray(vectors, float) - vectors.mean(axis=0, dtype=float)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.array(list(found.places.values()))
    # A component may point either way; the sizes tell two of them apart. Where they are equal, any turn would do.
    if sizes[0] - sizes[1] > 0.01 and sizes[1] - sizes[2] > 0.01:
        np.testing.assert_allclose(np.abs(places), np.abs(left[:, :2] * sizes[:2]), atol=2e-3)
    np.testing.assert_allclose(np.square(places).sum(axis=0), np.square(sizes[:2]), rtol=1e-3)
    assert found.kept == pytest.approx(np.square(sizes[:2]).sum() / np.square(sizes).sum(), rel=1e-4)
    assert (found.method, list(found.places)) == ("pca", named(count))


def test_what_lies_in_a_plane_is_kept_whole_and_its_distances_too() -> None:
    turn = np.linspace(0, 5, 9)
    vectors = np.zeros((9, 32), np.float32)
    vectors[:, 3], vectors[:, 20] = np.cos(turn), np.sin(turn)
    found = project(named(9), vectors)
    assert found.kept == pytest.approx(1)
    places = np.array(list(found.places.values()))
    for one in range(9):
        np.testing.assert_allclose(
            np.linalg.norm(places - places[one], axis=1), np.linalg.norm(vectors - vectors[one], axis=1), atol=1e-4
        )


def test_the_map_is_the_same_every_time() -> None:
    assert project(named(30), unit(1, 30)) == project(named(30), unit(1, 30), seed=9)


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("method", ["pca", "umap"])
def test_too_few_for_a_plane_lie_in_a_row(count: int, method: Literal["pca", "umap"]) -> None:
    found = project(named(count), unit(1, count), method)
    assert found == PoolMap(method=method, kept=None, places={f"id{n}": (float(n), 0.0) for n in range(count)})


def test_one_text_many_times_lies_in_one_place_and_has_no_variance_to_keep() -> None:
    found = project(named(5), np.repeat(unit(1, 1), 5, axis=0))
    assert found.kept is None
    assert set(found.places.values()) == {(0.0, 0.0)}


def test_a_map_goes_through_json_unchanged() -> None:
    found = project(named(4), unit(2, 4))
    assert PoolMap.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("fields", [{"kept": 1.2}, {"method": "t-sne"}, {"places": {"id0": (float("nan"), 0.0)}}])
def test_what_is_no_map_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PoolMap.model_validate({"method": "pca", "kept": 0.5, "places": {}, **fields})


@pytest.mark.skipif(HAS_UMAP, reason="the extra 'umap' is installed")
def test_without_its_package_umap_is_refused_with_the_command() -> None:
    with pytest.raises(MissingExtra, match=r"umap-learn.*pip install 'interalign\[umap\]'"):
        project(named(4), unit(1, 4), "umap")


@needs_umap
@pytest.mark.parametrize("count", [3, 12])
def test_umap_places_everybody_the_same_way_every_time(count: int) -> None:
    found = project(named(count), unit(1, count), "umap", seed=4)
    assert (found.method, found.kept, list(found.places)) == ("umap", None, named(count))
    assert len(set(found.places.values())) == count
    assert project(named(count), unit(1, count), "umap", seed=4) == found


@needs_umap
def test_umap_keeps_two_crowds_apart() -> None:
    crowds = [unit(seed, 1) + 0.05 * unit(seed + 7, 15) for seed in (1, 2)]
    vectors = np.concatenate(crowds).astype(np.float32)
    places = np.array(list(project(named(30), vectors, "umap").places.values()))
    own = max(np.ptp(places[part], axis=0).max() for part in (slice(15), slice(15, 30)))
    assert np.linalg.norm(places[:15].mean(axis=0) - places[15:].mean(axis=0)) > own
