import numpy as np
import pytest

from consilience.numerics.cka import CkaOptions, cka, jackknife, self_hsic
from consilience.numerics.moments import Moments, find_moments
from tests import twins

OPTIONS = [CkaOptions(debiased, definition) for debiased in (True, False) for definition in ("standard", "prh")]


def pair(n: int = 60, p: int = 9, q: int = 14, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n + p)
    shared = rng.normal(size=(n, 5))
    x = shared @ rng.normal(size=(5, p)) + rng.normal(size=(n, p)) + offset
    y = shared @ rng.normal(size=(5, q)) + rng.normal(size=(n, q)) + offset
    return twins.unit_rows(x).astype(np.float32), twins.unit_rows(y).astype(np.float32)


def moments(x: np.ndarray, y: np.ndarray) -> tuple[Moments, Moments]:
    return find_moments(x), find_moments(y)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("n", "p", "q", "offset"), [(60, 9, 14, 0), (20, 50, 33, 0), (5000, 3, 4, 2), (4, 7, 2, 0)])
def test_feature_space_gives_what_the_kernel_matrices_give(
    options: CkaOptions, n: int, p: int, q: int, offset: float
) -> None:
    x, y = pair(n, p, q, offset)
    epsilon = 1e-6 if options.definition == "prh" else 0.0
    expected = twins.cka(x, y, debiased=options.debiased, epsilon=epsilon)
    assert cka(*moments(x, y), options) == pytest.approx(expected, abs=1e-9)


def test_rows_far_from_the_origin_cost_no_accuracy() -> None:
    x, y = pair(100)
    near, far = moments(x, y), moments((x + 1000).astype(np.float32), y)
    exact = twins.cka((x + 1000).astype(np.float32).astype(np.float64) - 1000, y, debiased=True)
    assert cka(*far, CkaOptions()) == pytest.approx(exact, abs=1e-9)
    assert cka(*near, CkaOptions()) == pytest.approx(exact, abs=1e-2)


@pytest.mark.parametrize("options", OPTIONS)
def test_permuting_b_equals_permuting_its_rows(options: CkaOptions) -> None:
    x, y = pair()
    order = np.random.default_rng(1).permutation(len(x))
    permuted = cka(*moments(x, y), options, order)
    assert permuted == pytest.approx(cka(*moments(x, y[order]), options), abs=1e-12)


@pytest.mark.parametrize("options", OPTIONS)
def test_the_jackknife_equals_leaving_each_row_out(options: CkaOptions) -> None:
    x, y = pair(30)
    epsilon = 1e-6 if options.definition == "prh" else 0.0
    brute = [
        twins.cka(np.delete(x, j, 0), np.delete(y, j, 0), debiased=options.debiased, epsilon=epsilon)
        for j in range(len(x))
    ]
    np.testing.assert_allclose(jackknife(*moments(x, y), options), brute, atol=1e-12)


def test_a_constant_layer_has_a_self_similarity_of_exactly_0() -> None:
    constant = find_moments(np.full((300, 5), 0.1, np.float32))
    assert self_hsic(constant, debiased=True) == 0.0
    assert self_hsic(constant, debiased=False) == 0.0


def test_a_space_agrees_with_itself_wholly() -> None:
    x, _ = pair()
    side = find_moments(x)
    assert cka(side, side, CkaOptions()) == pytest.approx(1.0, abs=1e-12)
