"""Layouts of models: exact if the distances allow it, else never worse than their start."""

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest

from consilience.numerics.rows.arrays import Float64Array
from consilience.numerics.stats import layouts
from consilience.numerics.stats.layouts import MdsLayout, classical_mds, find_distances, order_leaves, smacof

RNG = np.random.default_rng(5)


def distances_of(places: Float64Array) -> Float64Array:
    return np.asarray(np.linalg.norm(places[:, None] - places[None], axis=2))


@pytest.mark.parametrize("place", [classical_mds, smacof])
def test_points_in_a_plane_keep_their_distances(place: Callable[[Float64Array], MdsLayout]) -> None:
    distances = distances_of(RNG.normal(size=(20, 2)) * [5, 1] + 100)
    layout = place(distances)
    assert layout.stress < 1e-6
    np.testing.assert_allclose(distances_of(layout.coordinates), distances, atol=1e-5)


def test_axes_are_principal_and_independent_of_the_order_of_items() -> None:
    distances = distances_of(RNG.normal(size=(12, 2)) * [5, 1])
    order = RNG.permutation(12)
    places, again = smacof(distances).coordinates, smacof(distances[np.ix_(order, order)]).coordinates
    np.testing.assert_allclose(places[order], again, atol=1e-6)
    assert places[:, 0].std() > places[:, 1].std()
    np.testing.assert_allclose(places.mean(axis=0), 0, atol=1e-9)


def test_majorisation_never_increases_the_stress() -> None:
    for _ in range(5):
        distances = np.abs(RNG.normal(size=(15, 15)))
        distances = (distances + distances.T) * (1 - np.eye(15))
        assert smacof(distances).stress <= classical_mds(distances).stress + 1e-12


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_items_have_coordinates_too(n: int) -> None:
    distances = np.ones((n, n)) - np.eye(n)
    layout = smacof(distances)
    assert layout.coordinates.shape == (n, 2)
    assert layout.stress < 1e-6


def test_items_at_distance_0_share_their_coordinates() -> None:
    assert smacof(np.zeros((4, 4))).coordinates.tolist() == [[0.0, 0.0]] * 4


def test_the_order_of_leaves_is_the_shortest_path_that_the_tree_allows() -> None:
    places = np.array([3.0, 0.0, 2.0, 7.0, 1.0, 6.5])
    distances = np.abs(places[:, None] - places)
    order = order_leaves(distances)
    shortest = min(sum(distances[i, j] for i, j in pairwise(way)) for way in permutations(range(6)))
    assert sum(distances[i, j] for i, j in pairwise(order)) == pytest.approx(shortest)


def test_scores_above_1_by_rounding_have_distance_0() -> None:
    assert find_distances(np.array([1.0 + 1e-12, -0.2])).tolist() == [0.0, np.inf]


@pytest.mark.skipif(not layouts.is_umap_installed(), reason="the package of UMAP is an extra")
def test_umap_separates_two_clusters() -> None:
    # Given two distant clusters of models; in a process that compiles nothing, which is the faster for a dozen items
    code = """
import numpy as np
from consilience.numerics.stats.layouts import umap_coordinates
rng = np.random.default_rng(0)
points = np.concatenate([rng.normal(size=(8, 3)), 50 + rng.normal(size=(8, 3))])
distances = np.linalg.norm(points[:, None] - points, axis=2)
coordinates = umap_coordinates(distances, 4, seed=1)
apart = np.linalg.norm(coordinates[:, None] - coordinates, axis=2)
assert apart[:8, :8].max() < apart[:8, 8:].min(), apart
assert coordinates.shape == (16, 2) and coordinates.dtype == np.float64
"""
    env = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3], env=env)
