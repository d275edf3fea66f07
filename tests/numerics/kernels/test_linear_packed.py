"""Halves of centred kernels against sums over whole matrices."""

import numpy as np
import pytest

from consilience.numerics.kernels.linear import PackedKernel
from consilience.numerics.kernels.matrices import (
    PairMatrix,
    find_product_row_sums,
    find_sums,
    pair_matrix,
    triangle_share,
)

#: More than one block of rows, and a last block of one.
N = 513


@pytest.fixture(scope="module")
def matrices() -> list[PairMatrix]:
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(N, 1100)) for _ in range(2)]
    found = [pair_matrix((each - each.mean(axis=0)).astype(np.float32), "inner") for each in rows]
    assert found[0].points.dtype == np.float32
    return found


def pack(matrix: PairMatrix) -> PackedKernel:
    return PackedKernel.of(matrix, triangle_share(matrix))


def test_sums_are_those_of_the_whole_matrix(matrices: list[PairMatrix]) -> None:
    (a, b), products = find_sums(matrices)
    packed = [pack(matrix) for matrix in matrices]

    for expected, found in zip((a, b), (each.sums for each in packed), strict=True):
        np.testing.assert_array_equal(found.rows, expected.rows)
        np.testing.assert_array_equal(found.diagonal, expected.diagonal)
        assert found.square == pytest.approx(expected.square, rel=1e-12)
        assert found.noise == expected.noise
    assert packed[0].row_sums_with(packed[1], debiased=True).product.sum() == pytest.approx(products[0, 1], rel=1e-10)


@pytest.mark.parametrize("debiased", [True, False])
def test_row_sums_are_those_of_the_whole_matrices(matrices: list[PairMatrix], debiased: bool) -> None:
    a, b = (pack(matrix) for matrix in matrices)
    weights = [each.sums.rows if debiased else each.sums.rows + each.diagonal for each in (a, b)]

    expected = find_product_row_sums((matrices[0], matrices[1]), (weights[0], weights[1]))
    found = a.row_sums_with(b, debiased=debiased), a.own_row_sums(debiased=debiased), b.own_row_sums(debiased=debiased)

    for rows, slow in zip(found, expected, strict=True):
        scale = np.abs(slow.product).max()
        for name in ("product", "left", "right"):
            np.testing.assert_allclose(getattr(rows, name), getattr(slow, name), rtol=1e-10, atol=1e-10 * scale)


def test_the_share_of_triangles_is_that_of_the_whole_matrix(matrices: list[PairMatrix]) -> None:
    assert PackedKernel.of(matrices[0]).triangles == pytest.approx(triangle_share(matrices[0]), rel=1e-4)


def test_serialisation_is_exact(matrices: list[PairMatrix]) -> None:
    packed = pack(matrices[0])
    again = PackedKernel.from_bytes(packed.to_bytes())

    for name in ("entries", "diagonal", "squares", "chains"):
        np.testing.assert_array_equal(getattr(again, name), getattr(packed, name))
    assert (again.noise, again.triangles, again.n) == (packed.noise, packed.triangles, N)
