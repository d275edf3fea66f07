from itertools import permutations

import numpy as np
import pytest

from consilience.numerics.stats.nulls import PearsonNull
from consilience.numerics.subspaces.cca import (
    cca_mean,
    cca_r2,
    cca_r2_null,
    eigenspace_null,
    eigenspace_overlap,
    leading_components,
    pwcca,
)
from consilience.numerics.subspaces.spectra import ScaledDirections, find_spectrum, scale_directions
from tests.reference_implementations import subspaces as reference

ALL = np.array(list(permutations(range(7))))
SHAPES = [(80, 9, 14), (80, 14, 9), (60, 5, 5), (300, 80, 70), (4, 2, 1)]


def pair(n: int, p: int, q: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 5))
    x = shared @ rng.normal(size=(5, p)) + rng.normal(size=(n, p)) + 1
    y = shared @ rng.normal(size=(5, q)) + rng.normal(size=(n, q)) - 1
    return x.astype(np.float32), y.astype(np.float32)


def white(x: np.ndarray) -> ScaledDirections:
    return scale_directions(find_spectrum(x))


def columns(x: np.ndarray) -> ScaledDirections:
    return scale_directions(find_spectrum(x, centre=False))


@pytest.mark.parametrize(("n", "p", "q"), SHAPES)
def test_canonical_correlations_are_the_cosines_of_the_subspace_angles(n: int, p: int, q: int) -> None:
    x, y = pair(n, p, q)
    rho = reference.correlations(x, y)
    assert cca_mean(white(x), white(y)) == pytest.approx(rho.mean(), abs=1e-7)
    assert cca_r2(white(x), white(y)) == pytest.approx((rho**2).mean(), abs=1e-7)


@pytest.mark.parametrize(("n", "p", "q"), SHAPES)
def test_pwcca_is_that_of_morcos(n: int, p: int, q: int) -> None:
    x, y = pair(n, p, q)
    assert pwcca(white(x), white(y)) == pytest.approx(reference.pwcca(x, y), abs=1e-6)


@pytest.mark.parametrize(("n", "p", "q"), SHAPES)
def test_the_eigenspace_overlap_is_the_trace_of_two_projectors(n: int, p: int, q: int) -> None:
    x, y = pair(n, p, q)
    assert eigenspace_overlap(columns(x), columns(y)) == pytest.approx(reference.eigenspace_overlap(x, y), abs=1e-7)


@pytest.mark.parametrize("zscore", [True, False])
@pytest.mark.parametrize("components", [1, 4, 10])
def test_svcca_correlates_the_leading_components(components: int, zscore: bool) -> None:
    x, y = pair(90, 12, 15)
    sides = (leading_components(find_spectrum(side, zscore=zscore), components, 0.99) for side in (x, y))
    assert cca_mean(*sides) == pytest.approx(reference.svcca(x, y, components, zscore=zscore), abs=1e-7)


@pytest.mark.parametrize(("variance", "kept"), [(0.5, 1), (0.64, 1), (0.65, 2), (0.9999, 3), (1.0, 3)])
def test_components_are_chosen_by_their_share_of_variance(variance: float, kept: int) -> None:
    """Squares 64, 32 and 4: shares of 0.64, 0.96 and 1."""
    basis, _ = np.linalg.qr(np.hstack([np.ones((20, 1)), np.random.default_rng(0).normal(size=(20, 3))]))
    spectrum = find_spectrum((basis[:, 1:] * np.sqrt([64.0000064, 32, 4])).astype(np.float32))
    assert leading_components(spectrum, None, variance).rank == kept


def test_more_components_than_the_rank_keep_all() -> None:
    spectrum = find_spectrum(pair(50, 6, 3)[0])
    assert leading_components(spectrum, 10, 0.99).rank == 6


@pytest.mark.parametrize("metric", [cca_mean, cca_r2, pwcca])
@pytest.mark.parametrize(("n", "p", "q"), [(40, 5, 8), (300, 80, 70), (300, 70, 80)])
def test_permuted_directions_score_as_permuted_rows(metric: object, n: int, p: int, q: int) -> None:
    x, y = pair(n, p, q)
    order = np.random.default_rng(1).permutation(n)
    assert metric(white(x), white(y), order) == pytest.approx(metric(white(x), white(y[order])), abs=1e-8)  # type: ignore[operator]  # parametrised functions


@pytest.mark.parametrize("metric", [cca_mean, cca_r2, pwcca])
def test_an_invertible_map_does_not_change_canonical_correlations(metric: object) -> None:
    x, y = pair(80, 6, 7)
    mapped = (x @ np.random.default_rng(2).normal(size=(6, 6))).astype(np.float32)
    same = metric(white(mapped), white(y)) == pytest.approx(metric(white(x), white(y)), abs=1e-5)  # type: ignore[operator]  # the same
    assert same == (metric is not pwcca)
    assert metric(white(x), white(mapped)) == pytest.approx(1.0, abs=1e-5)  # type: ignore[operator]  # the same


def test_orthogonal_spaces_have_score_0() -> None:
    basis, _ = np.linalg.qr(np.hstack([np.ones((30, 1)), np.random.default_rng(3).normal(size=(30, 7))]))
    x, y = basis[:, 1:4].astype(np.float32), basis[:, 4:].astype(np.float32)
    for metric in (cca_mean, cca_r2, pwcca):
        assert metric(white(x), white(y)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("p", "q"), [(1, 1), (2, 3), (4, 1), (3, 5), (4, 4)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_null_of_cca_r2_has_the_mean_and_sd_of_all_pairings(p: int, q: int, seed: int) -> None:
    a, b = (white(side) for side in pair(7, p, q, seed))
    cross = np.einsum("ia,pib->pab", a.scores, b.scores[ALL])
    values = (cross**2).sum(axis=(1, 2)) / min(p, q)
    assert values[17] == pytest.approx(cca_r2(a, b, ALL[17]), abs=1e-12)
    law = cca_r2_null(a, b)
    assert law.mean == pytest.approx(values.mean(), abs=1e-12)
    assert law.mean == pytest.approx(max(p, q) / 6, abs=1e-12)
    assert law.sd == pytest.approx(values.std(), rel=1e-8)


@pytest.mark.parametrize(("p", "q"), [(1, 1), (2, 3), (6, 1), (3, 5)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_null_of_eigenspace_overlap_has_the_mean_of_all_pairings(p: int, q: int, seed: int) -> None:
    a, b = (columns(side) for side in pair(7, p, q, seed))
    cross = np.einsum("ia,pib->pab", a.scores, b.scores[ALL])
    values = (cross**2).sum(axis=(1, 2)) / max(p, q)
    assert values[17] == pytest.approx(eigenspace_overlap(a, b, ALL[17]), abs=1e-12)
    assert eigenspace_null(a, b).mean == pytest.approx(values.mean(), abs=1e-12)


@pytest.mark.parametrize(("n", "p", "q"), [(200, 3, 4), (200, 40, 20), (60, 40, 45), (60, 50, 5)])
def test_the_tail_of_cca_r2_keeps_its_level(n: int, p: int, q: int) -> None:
    """Also where a layer fills more than half of the room and the skew changes its sign."""
    rng = np.random.default_rng(5)
    a, b = (white(side) for side in pair(n, p, q))
    law = cca_r2_null(a, b)
    draws = np.array([cca_r2(a, b, rng.permutation(n)) for _ in range(2000)])
    skew = float((((draws - law.mean) / law.sd) ** 3).mean())
    assert law.skew == pytest.approx(skew, abs=0.35)
    for alpha in (0.05, 0.01):
        assert np.mean([law.p_value(value) <= alpha for value in draws]) <= alpha + 3.5 * np.sqrt(alpha / 2000)
    assert isinstance(law, PearsonNull)


def test_in_sample_correlations_of_independent_spaces_grow_with_their_dimensions() -> None:
    """The reason why a score needs its null distribution and the interval of its held-out value."""
    rng = np.random.default_rng(6)
    found = []
    for d in (5, 20, 80, 140):
        a, b = (white(rng.normal(size=(300, d)).astype(np.float32)) for _ in range(2))
        found.append(cca_mean(a, b))
        assert cca_r2(a, b) == pytest.approx(d / 299, rel=0.5)
    assert found == sorted(found)
    assert found[0] < 0.15
    assert found[-1] > 0.6
