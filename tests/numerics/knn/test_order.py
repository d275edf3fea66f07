"""Inner products and the order of neighbours."""

import numpy as np
import pytest

from consilience.numerics.knn.order import rank_rows, square_rows
from consilience.numerics.neighbour_overlap.kernels import inner_products


def slow_square(row: np.ndarray) -> float:
    """Add the squares in the documented order: 32 partial sums, folded by halves, and then the rest one by one."""
    wide = row.astype(np.float64)
    sums, whole = np.zeros(32), len(row) // 32 * 32
    for start in range(0, whole, 32):
        sums += wide[start : start + 32] ** 2
    while len(sums) > 1:
        sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
    total = sums[0]
    for value in wide[whole:]:
        total += value**2
    return float(total)


@pytest.mark.parametrize("d", [1, 7, 31, 32, 33, 64, 95, 768, 1000])
def test_products_are_summed_in_one_order_to_the_last_bit(d: int) -> None:
    x, squares = np.random.default_rng(d).normal(size=(20, d)).astype(np.float32), np.empty(20)
    square_rows(x, 0, 20, squares)
    assert squares.tolist() == [slow_square(row) for row in x]


def test_a_product_does_not_depend_on_the_order_of_its_rows() -> None:
    x, ids = np.random.default_rng(0).normal(size=(30, 100)).astype(np.float32), np.arange(30, dtype=np.int32)
    square = inner_products(x, ids, np.tile(ids, (30, 1)))
    np.testing.assert_array_equal(square, square.T)


@pytest.mark.parametrize("count", [1, 2, 3, 17, 64, 100])
def test_candidates_are_sorted_with_the_smaller_id_first_at_ties(count: int) -> None:
    rng = np.random.default_rng(count)
    x = rng.integers(-1, 2, size=(101, 3)).astype(np.float32)
    names = rng.permutation(100)[:count].astype(np.int32)[None] + 1
    ids, similarities = np.empty((1, count + 1), np.int32), np.empty((1, count + 1), np.float32)
    rank_rows(x, np.zeros(1, np.int32), names, names, ids, similarities)
    expected = sorted(names[0].tolist(), key=lambda item: (-float(x[0] @ x[item]), item))
    assert ids[0].tolist() == [*expected, -1]
    assert similarities[0].tolist() == [*(float(x[0] @ x[item]) for item in expected), -np.inf]
