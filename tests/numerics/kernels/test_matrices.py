from itertools import pairwise

import numpy as np
import pytest

from consilience.numerics.kernels import matrices as compiled_dense
from consilience.numerics.kernels.matrices import (
    Entry,
    PairMatrix,
    draw_rows,
    find_sums,
    mirror,
    pair_matrix,
    permuted_products,
)


def matrix(n: int, seed: int, entry: Entry = "distance") -> PairMatrix:
    return pair_matrix(np.random.default_rng(seed).normal(size=(n, 4)), entry)


@pytest.mark.parametrize("n", [5, 64, 65, 600])
@pytest.mark.parametrize("entry", ["inner", "gaussian", "distance"])
def test_the_sums_are_those_of_the_whole_matrices(monkeypatch: pytest.MonkeyPatch, n: int, entry: Entry) -> None:
    monkeypatch.setattr(compiled_dense, "BLOCK_BYTES", 1)
    matrices = [matrix(n, seed, entry) for seed in range(3)]
    whole = np.stack([found.whole() for found in matrices])
    steps: list[tuple[int, int]] = []
    sums, products = find_sums(matrices, lambda done, total: steps.append((done, total)))
    np.testing.assert_allclose(products, np.einsum("sij,tij->st", whole, whole), rtol=1e-12)
    for found, entries in zip(sums, whole, strict=True):
        assert found.square == pytest.approx((entries**2).sum())
        if entry != "inner":  # rows that are centred by another mean than their own are no centred kernel
            np.testing.assert_allclose(found.rows, entries.sum(axis=1), atol=1e-9)
    assert steps[-1] == (n, n)
    assert len(steps) == -(-n // 64)


@pytest.mark.parametrize("n", [2, 3, 10, 33])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_permuted_products_are_those_of_permuted_rows_and_columns(n: int, dtype: type) -> None:
    a, b = (np.stack([matrix(n, 10 * side + i).whole().astype(dtype) for i in range(2)]) for side in range(2))
    order = np.random.default_rng(n).permutation(n)
    expected = np.einsum("sij,tij->st", a.astype(float), b[:, order][:, :, order].astype(float))
    np.testing.assert_allclose(permuted_products(a, b, order), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [7, 8])
def test_products_of_parts_of_the_rows_sum_to_those_of_all(n: int) -> None:
    a, b, order = matrix(n, 0).whole()[None], matrix(n, 1).whole(), np.arange(n, dtype=np.int32)
    edges = [0, 1, 3, (n + 1) // 2]
    parts = [compiled_dense.sum_permuted_products(a, b, order, *part) for part in pairwise(edges)]
    assert sum(parts)[0] == pytest.approx(np.vdot(a, b) / 2)


def test_mirroring_copies_the_entries_below_the_diagonal() -> None:
    entries = np.random.default_rng(0).normal(size=(700, 700))
    below = np.tril(entries, -1)
    mirror(entries)
    np.testing.assert_array_equal(entries, below + below.T)


def test_rows_are_drawn_without_repeats_and_all_of_few() -> None:
    drawn = draw_rows(100, 30, 0)
    assert len(set(drawn.tolist())) == 30
    np.testing.assert_array_equal(draw_rows(20, 30, 0), np.arange(20))
