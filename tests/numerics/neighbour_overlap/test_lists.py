"""Relabelling lists, and taking some items as a gallery of their own, against searching again."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilience.numerics.neighbour_overlap.lists import SimilaritySpace
from consilience.numerics.stats.intervals import list_length
from tests.reference_implementations import neighbours as reference


def test_permuted_lists_are_those_of_the_permuted_rows() -> None:
    x, _ = reference.views(70)
    order = np.random.default_rng(1).permutation(70)
    moved, again = reference.lists_of(x, 9).permuted(order), reference.lists_of(x[order], 9)
    np.testing.assert_array_equal(moved.ids, again.ids)
    np.testing.assert_allclose(moved.similarities, again.similarities, atol=1e-6)
    np.testing.assert_allclose(moved.similarities_to(moved), again.similarities, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(20, 60), k=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def test_restricted_lists_are_those_of_a_new_search(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, _ = reference.views(n, seed)
    kept = np.zeros(n, np.bool_)
    kept[rng.permutation(n)[: rng.integers(k + 1, n + 1)]] = True
    part, again = reference.lists_of(x, n - 1).restricted(kept, k), reference.lists_of(x[kept], k)
    assert part.complete.all()
    np.testing.assert_array_equal(part.ids, again.ids)
    np.testing.assert_allclose(part.similarities, again.similarities, atol=1e-6)
    np.testing.assert_allclose(part.similarities_to(part), again.similarities, atol=1e-6)


def test_an_incomplete_list_is_marked_and_filled_with_minus_1() -> None:
    x, _ = reference.views(30)
    kept = np.arange(30) < 8
    part = reference.lists_of(x, 6).restricted(kept, 5)
    short = ~part.complete
    assert short.any()
    assert (part.ids[short] == -1).any(axis=1).all()
    assert (part.ids[part.complete] >= 0).all()
    assert (part.similarities[part.ids < 0] == 0).all()


def test_a_random_half_keeps_k_neighbours_of_nearly_every_item() -> None:
    x, _ = reference.views(1000)
    lists = reference.lists_of(x, list_length(1000, 10))
    kept = np.zeros(1000, np.bool_)
    kept[np.random.default_rng(2).permutation(1000)[:500]] = True
    assert lists.restricted(kept, 10).complete.mean() > 0.99


def test_a_prefix_contains_the_nearest_neighbours() -> None:
    x, _ = reference.views(50)
    np.testing.assert_array_equal(reference.lists_of(x, 20).first(4).ids, reference.lists_of(x, 4).ids)


def test_similarities_to_named_lists_are_computed_once_and_grow_with_k() -> None:
    x, y = reference.views(50)
    a, b = (reference.lists_of(side, 12) for side in (x, y))
    a, b = replace(a, name="a"), replace(b, name="b")
    for k in (3, 12, 5):
        found = a.similarities_to(b.first(k))
        np.testing.assert_allclose(found, np.take_along_axis(x @ x.T, b.first(k).ids.astype(np.intp), 1), atol=1e-6)
    assert {name: known.shape for name, known in a.space.known.items()} == {"b": (50, 12)}
    order = np.random.default_rng(0).permutation(50)
    a.similarities_to(b.permuted(order))
    assert a.space.known.keys() == {"b"}


def test_mean_similarities_include_the_item_itself() -> None:
    x, _ = reference.views(40)
    some = np.array([3, 0, 17, 39], dtype=np.int32)
    expected = (x[some].astype(np.float64) @ x[some].T.astype(np.float64)).mean(axis=1)
    assert SimilaritySpace(lambda: x).means(some) == pytest.approx(expected, abs=1e-12)
    assert SimilaritySpace(lambda: 3 * x).lengths(some) == pytest.approx(9 * np.ones(4), rel=1e-6)
