"""Sparse CKNNA against masked n x n matrices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilience.numerics.neighbour_overlap.cknna import Variant, _alignment, cknna, weight_edges
from consilience.numerics.neighbour_overlap.lists import NeighbourLists
from tests.reference_implementations import neighbours as reference

VARIANTS: tuple[Variant, ...] = ("prh", "paper", "biased")
each_variant = pytest.mark.parametrize("variant", VARIANTS)


def dense(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64) @ x.T.astype(np.float64)


def neighbour_mask(x: np.ndarray, k: int, variant: str) -> np.ndarray:
    """Under `biased` the diagonal competes, as in the reference's topk."""
    kernel = dense(x)
    if variant != "biased":
        np.fill_diagonal(kernel, -np.inf)
    return reference.mask(np.argsort(-kernel, axis=1, kind="stable")[:, :k])


@each_variant
@pytest.mark.parametrize("k", [2, 10, 79])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_cknna_is_that_of_masked_kernels(variant: Variant, k: int, scale: float) -> None:
    x, y = (scale * side * np.linspace(1, scale, 80, dtype=np.float32)[:, None] for side in reference.views(80))
    found = cknna(*(weight_edges(reference.lists_of(side, k), k, variant) for side in (x, y)), variant)
    masks = [neighbour_mask(side, k, variant) for side in (x, y)]
    assert found == pytest.approx(reference.cknna(dense(x), dense(y), *masks, variant), abs=2e-6)


@each_variant
@settings(deadline=None, max_examples=60)
@given(n=st.integers(4, 40), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_the_sparse_sums_of_any_two_graphs_equal_the_dense_ones(
    variant: Variant, n: int, seed: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, n))
    rng = np.random.default_rng(seed)
    ids = [np.array([rng.permutation(n)[:k] for _ in range(n)], dtype=np.int32) for _ in range(2)]
    kernels = [rng.normal(size=(n, n)) + 1 for _ in range(2)]
    values = [
        np.take_along_axis(kernel, graph.astype(np.intp), axis=1) for kernel, graph in zip(kernels, ids, strict=True)
    ]
    shared = reference.mask(ids[0].astype(np.intp)) * reference.mask(ids[1].astype(np.intp))
    expected = reference.masked_similarity(shared * kernels[0], shared * kernels[1], variant)
    # Terms of both signs cancel: the rounding error follows their absolute sum, not the result.
    magnitude = np.abs(shared * kernels[0] * kernels[1]).sum()
    tolerance = 1e-12 + 8 * np.finfo(np.float64).eps * magnitude
    found = _alignment(ids[0], values[0], ids[1], values[1], variant)
    assert found == pytest.approx(expected, rel=1e-12, abs=tolerance)


@each_variant
def test_a_graph_shares_all_its_edges_with_itself(variant: Variant) -> None:
    lists = reference.lists_of(reference.views(60)[0], 8)
    lists.ids[7, 5:] = -1
    graph = weight_edges(lists, 8, variant)
    shared = _alignment(graph.ids, graph.values, graph.ids, graph.values, variant)
    assert graph.own == pytest.approx(shared, rel=1e-12)


@each_variant
def test_permuting_the_graph_equals_permuting_the_rows(variant: Variant) -> None:
    x, y = reference.views(60)
    order = np.random.default_rng(4).permutation(60)
    a, b, again = (weight_edges(reference.lists_of(side, 8), 8, variant) for side in (x, y, y[order]))
    assert cknna(a, b.permuted(order), variant) == pytest.approx(cknna(a, again, variant), abs=1e-6)


@each_variant
def test_a_restricted_gallery_equals_a_new_search(variant: Variant) -> None:
    sides = reference.views(90)
    kept = np.random.default_rng(5).random(90) < 0.6
    parts = [weight_edges(reference.lists_of(side, 89).restricted(kept, 7), 7, variant) for side in sides]
    again = [weight_edges(reference.lists_of(side[kept], 7), 7, variant) for side in sides]
    assert cknna(*parts, variant) == pytest.approx(cknna(*again, variant), abs=1e-6)


def test_only_the_reference_variant_depends_on_the_order_of_the_sides() -> None:
    a, b = reference.views(60)
    for variant in VARIANTS:
        forth, back = (weight_edges(reference.lists_of(side, 6), 6, variant) for side in (a, b))
        same = cknna(forth, back, variant) == pytest.approx(cknna(back, forth, variant), abs=1e-12)
        assert same == (variant != "prh")


@each_variant
def test_incomplete_lists_add_no_edges(variant: Variant) -> None:
    """A list without neighbours is a row without edges."""
    x, y = reference.views(40)
    graphs = [weight_edges(reference.lists_of(side, 5), 5, variant) for side in (x, y)]
    for graph in graphs:
        graph.ids[7] = -1
    masks = [reference.mask(np.where(graph.ids < 0, 0, graph.ids).astype(np.intp)) for graph in graphs]
    kernels = []
    for mask, graph in zip(masks, graphs, strict=True):
        mask[7] = 0
        kernels.append(np.zeros((40, 40)))
        np.put_along_axis(kernels[-1], np.where(graph.ids < 0, 0, graph.ids).astype(np.intp), graph.values, axis=1)
    shared = masks[0] * masks[1]
    expected = reference.masked_similarity(shared * kernels[0], shared * kernels[1], variant)
    a, b = graphs
    assert _alignment(a.ids, a.values, b.ids, b.values, variant) == pytest.approx(expected, abs=1e-12)


def test_cknna_is_undefined_unless_self_alignment_is_positive() -> None:
    """One-way edges only: no reciprocal pair is left, and the unbiased HSIC of the masked kernel is below 0."""
    ids = np.array([[1], [2], [3], [4], [5], [0]], dtype=np.int32)
    ring = weight_edges(NeighbourLists.of(ids, np.ones((6, 1), np.float32)), 1, "prh")
    assert ring.own <= 0
    assert np.isnan(cknna(ring, ring))
