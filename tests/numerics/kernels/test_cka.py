"""The algebra of centred matrices, by features and by blocks, against whole matrices."""

from collections.abc import Callable

import numpy as np
import pytest

from consilience.numerics.kernels.cka import CkaOptions, cka, jackknife, jackknife_weights, self_hsic
from consilience.numerics.kernels.linear import linear_product, linear_product_row_sums, linear_sums
from consilience.numerics.kernels.matrices import (
    Entry,
    PairMatrix,
    centre_rows,
    find_product_row_sums,
    find_sums,
    median_distance,
    pair_matrix,
)
from consilience.numerics.rows import parallel as parts_module
from consilience.numerics.rows.arrays import Float64Array
from consilience.numerics.rows.prepared import ArrayRows
from consilience.numerics.subspaces import moments as moments_module
from consilience.numerics.subspaces.moments import centre_layer, find_moments, find_own_moments
from tests.reference_implementations import basic
from tests.reference_implementations import kernels as reference

OPTIONS = [CkaOptions(debiased, definition) for debiased in (True, False) for definition in ("standard", "prh")]
#: n, p, q and how far the rows lie from the origin.
SHAPES = [(60, 9, 14, 0), (20, 50, 33, 0), (600, 3, 4, 2), (4, 7, 2, 0)]
Way = Callable[[np.ndarray, np.ndarray, CkaOptions], float]
#: The kernel's matrix, made fast and slowly.
KERNELS: dict[Entry, Callable[[np.ndarray], Float64Array]] = {
    "inner": lambda x: np.asarray(x, np.float64) @ np.asarray(x, np.float64).T,
    "gaussian": lambda x: reference.rbf(x, 0.7),
    "distance": reference.distances,
}


def pair(n: int = 60, p: int = 9, q: int = 14, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n + p)
    shared = rng.normal(size=(n, 5))
    x = shared @ rng.normal(size=(5, p)) + rng.normal(size=(n, p)) + offset
    y = shared @ rng.normal(size=(5, q)) + rng.normal(size=(n, q)) + offset
    return basic.unit_rows(x).astype(np.float32), basic.unit_rows(y).astype(np.float32)


def matrix(x: np.ndarray, entry: Entry) -> PairMatrix:
    return pair_matrix(centre_rows(x, centre_layer(ArrayRows(x)).mean), entry, 0.7)


def by_blocks(x: np.ndarray, y: np.ndarray, options: CkaOptions, entry: Entry = "inner") -> float:
    (a, b), products = find_sums([matrix(x, entry), matrix(y, entry)])
    return cka(float(products[0, 1]), a, b, options)


def by_features(x: np.ndarray, y: np.ndarray, options: CkaOptions, order: np.ndarray | None = None) -> float:
    a, b = centre_layer(ArrayRows(x)), centre_layer(ArrayRows(y))
    sums = linear_sums(find_own_moments(a)), linear_sums(find_own_moments(b))
    cross = find_moments(a, b, own=(False, False), order=order).cross
    return cka(linear_product(cross, (sums[0].diagonal, sums[1].diagonal), order), *sums, options, order)


def epsilon(options: CkaOptions) -> float:
    return 1e-6 if options.definition == "prh" else 0.0


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("way", [by_features, by_blocks])
def test_blocks_and_features_give_the_value_of_whole_kernel_matrices(
    way: Way, options: CkaOptions, shape: tuple[int, int, int, float]
) -> None:
    x, y = pair(*shape)
    expected = basic.cka(x, y, debiased=options.debiased, epsilon=epsilon(options))
    assert way(x, y, options) == pytest.approx(expected, abs=1e-9)


def test_features_in_many_blocks_give_the_value_of_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = pair()
    order = np.random.default_rng(2).permutation(len(x))
    whole = by_features(x, y, CkaOptions(), order)
    monkeypatch.setattr(parts_module, "BLOCK_ROWS", 7)
    assert by_features(x, y, CkaOptions(), order) == pytest.approx(whole, abs=1e-14)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("entry", ["gaussian", "distance"])
def test_blocks_of_other_kernels_give_the_value_of_whole_matrices(
    entry: Entry, options: CkaOptions, shape: tuple[int, int, int, float]
) -> None:
    x, y = pair(*shape)
    k, l = (KERNELS[entry](side) for side in (x, y))  # noqa: E741 - K and L are the literature's names
    expected = reference.alignment(k, l, debiased=options.debiased, epsilon=epsilon(options))
    assert by_blocks(x, y, options, entry) == pytest.approx(expected, abs=1e-9)


def test_bias_corrected_distance_correlation_is_that_of_u_centred_distances() -> None:
    x, y = pair()
    expected = reference.corrected_distance_correlation(x, y)
    assert by_blocks(x, y, CkaOptions(), "distance") == pytest.approx(expected, abs=1e-12)


def test_distance_correlation_is_the_root_of_the_double_centred_cosine() -> None:
    x, y = pair()
    found = by_blocks(x, y, CkaOptions(debiased=False), "distance")
    assert np.sqrt(found) == pytest.approx(reference.distance_correlation(x, y), abs=1e-12)


@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize("offset", [0, 3])
@pytest.mark.parametrize("way", [by_features, by_blocks])
def test_float32_products_keep_a_relative_accuracy_of_one_in_a_million(
    monkeypatch: pytest.MonkeyPatch, way: Way, offset: float, debiased: bool
) -> None:
    """Against float64 throughout; an offset of 3 leaves the rows a mean cosine of 0.9."""
    x, y = pair(1500, 256, 192, offset)
    expected = basic.cka(x, y, debiased=debiased)
    monkeypatch.setattr(moments_module, "EXACT_WORK", 0)
    assert way(x, y, CkaOptions(debiased)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize("entry", ["gaussian", "distance"])
def test_float32_blocks_of_other_kernels_keep_the_same_accuracy(
    monkeypatch: pytest.MonkeyPatch, entry: Entry, debiased: bool
) -> None:
    x, y = pair(1200, 64, 80, 1)
    k, l = (KERNELS[entry](side) for side in (x, y))  # noqa: E741 - the same
    expected = reference.alignment(k, l, debiased=debiased)
    monkeypatch.setattr(moments_module, "EXACT_WORK", 0)
    assert by_blocks(x, y, CkaOptions(debiased), entry) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("way", [by_features, by_blocks])
def test_rows_far_from_the_origin_lose_no_accuracy(way: Way) -> None:
    x, y = pair(100)
    far = (x + 1000).astype(np.float32)
    exact = basic.cka(far.astype(np.float64) - 1000, y, debiased=True)
    assert way(far, y, CkaOptions()) == pytest.approx(exact, abs=1e-9)
    assert way(x, y, CkaOptions()) == pytest.approx(exact, abs=1e-2)


def test_a_very_wide_gaussian_kernel_approaches_the_linear_one() -> None:
    """1 - |x - y|^2 / 2 sigma^2 has the centred kernel x.y / sigma^2: nothing is lost to the 1."""
    x, y = pair()
    wide = [pair_matrix(centre_rows(side, centre_layer(ArrayRows(side)).mean), "gaussian", 1e5) for side in (x, y)]
    (a, b), products = find_sums(wide)
    found = cka(float(products[0, 1]), a, b, CkaOptions())
    assert found == pytest.approx(basic.cka(x, y, debiased=True), abs=1e-6)


@pytest.mark.parametrize("options", OPTIONS)
def test_permuting_b_equals_permuting_its_rows(options: CkaOptions) -> None:
    x, y = pair()
    order = np.random.default_rng(1).permutation(len(x))
    assert by_features(x, y, options, order) == pytest.approx(by_features(x, y[order], options), abs=1e-12)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("entry", KERNELS)
def test_the_jackknife_equals_leaving_each_row_out(entry: Entry, options: CkaOptions) -> None:
    x, y = pair(30)
    k, l = (KERNELS[entry](side) for side in (x, y))  # noqa: E741 - the same
    brute = [
        reference.alignment(
            *(np.delete(np.delete(side, j, 0), j, 1) for side in (k, l)),
            debiased=options.debiased,
            epsilon=epsilon(options),
        )
        for j in range(30)
    ]
    matrices = matrix(x, entry), matrix(y, entry)
    (a, b), products = find_sums(matrices)
    weights = [jackknife_weights(side, debiased=options.debiased) for side in (a, b)]
    rows = find_product_row_sums(matrices, (weights[0], weights[1]))
    np.testing.assert_allclose(jackknife(float(products[0, 1]), (a, b), rows, options), brute, atol=1e-12)


@pytest.mark.parametrize("debiased", [True, False])
def test_the_features_give_the_same_row_sums_as_the_matrices(debiased: bool) -> None:
    x, y = pair(40)
    a, b = centre_layer(ArrayRows(x)), centre_layer(ArrayRows(y))
    w_a, w_b = (jackknife_weights(linear_sums(find_own_moments(side)), debiased=debiased) for side in (a, b))
    expected = find_product_row_sums((matrix(x, "inner"), matrix(y, "inner")), (w_a, w_b))
    found = linear_product_row_sums(a, b, find_moments(a, b), debiased=debiased)
    for of_features, of_matrices in zip(found, expected, strict=True):
        for name in ("product", "left", "right"):
            np.testing.assert_allclose(getattr(of_features, name), getattr(of_matrices, name), atol=1e-12)


@pytest.mark.parametrize("debiased", [True, False])
def test_a_constant_layer_has_a_self_similarity_of_exactly_0(debiased: bool) -> None:
    constant = np.full((300, 5), 0.1, np.float32)
    (blocks,), _ = find_sums([matrix(constant, "gaussian")])
    assert self_hsic(linear_sums(find_own_moments(centre_layer(ArrayRows(constant)))), debiased=debiased) == 0.0
    assert self_hsic(blocks, debiased=debiased) == 0.0


@pytest.mark.parametrize("entry", ["inner", "gaussian", "distance"])
def test_equidistant_rows_have_a_debiased_self_similarity_of_exactly_0(entry: Entry) -> None:
    (sums,), _ = find_sums([matrix(np.eye(50, dtype=np.float32), entry)])
    assert self_hsic(sums, debiased=True) == 0.0
    assert self_hsic(sums, debiased=False) > 0.0


@pytest.mark.parametrize("entry", KERNELS)
@pytest.mark.parametrize("debiased", [True, False])
def test_a_space_has_alignment_1_with_itself(entry: Entry, debiased: bool) -> None:
    x, _ = pair()
    assert by_blocks(x, x.copy(), CkaOptions(debiased), entry) == pytest.approx(1.0, abs=1e-14)
    assert by_features(x, x.copy(), CkaOptions(debiased)) == pytest.approx(1.0, abs=1e-14)


def test_a_space_has_alignment_1_with_itself_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments_module, "EXACT_WORK", 0)
    x, _ = pair(3000, 40)
    assert by_blocks(x, x.copy(), CkaOptions()) == pytest.approx(1.0, abs=1e-14)
    assert by_features(x, x.copy(), CkaOptions()) == pytest.approx(1.0, abs=1e-14)


def test_the_median_distance_is_that_of_all_pairs_of_different_rows() -> None:
    x, _ = pair(501)
    assert median_distance(centre_layer(ArrayRows(x)), 0) == pytest.approx(reference.median_distance(x), rel=1e-12)


def test_the_median_distance_of_a_sample_is_close_and_depends_on_the_seed() -> None:
    x, _ = pair(5000, 6)
    side = centre_layer(ArrayRows(x))
    assert median_distance(side, 0) == pytest.approx(reference.median_distance(x), rel=0.01)
    assert median_distance(side, 0) == median_distance(side, 0) != median_distance(side, 1)
