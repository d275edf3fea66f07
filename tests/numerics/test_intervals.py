import numpy as np
import pytest

from consilience.numerics.cka import CkaOptions, cka, jackknife
from consilience.numerics.intervals import (
    HALVES_ROWS_MAX,
    jackknife_bounds,
    list_length,
    mutual_knn_bounds,
    subsample_rows,
)
from consilience.numerics.moments import find_moments
from consilience.numerics.neighbours import build_exact
from consilience.numerics.overlap import mutual_knn
from tests import twins

N, K = 200, 10


def sample(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Two noisy views of one latent space."""
    latent = rng.normal(size=(n, 8))
    views = (latent + 0.8 * rng.normal(size=(n, 8)) for _ in range(2))
    return tuple(twins.unit_rows(view).astype(np.float32) for view in views)  # type: ignore[return-value]  # two views


def lists(x: np.ndarray, k: int) -> np.ndarray:
    return build_exact(x, list_length(len(x), k)).ids


def test_the_population_interval_of_mutual_knn_covers_the_mean_of_fresh_galleries() -> None:
    rng = np.random.default_rng(0)
    draws = [sample(rng, N) for _ in range(150)]
    values = [mutual_knn(lists(x, K), lists(y, K), K) for x, y in draws]
    centre = np.mean(values)
    bounds = [mutual_knn_bounds(lists(x, K), lists(y, K), K, 0.95, seed=1) for x, y in draws]
    covered = np.mean([found is not None and found.low <= centre <= found.high for found in bounds])
    assert 0.91 <= covered <= 0.995


def test_the_jackknife_interval_of_debiased_cka_covers_the_mean_of_fresh_samples() -> None:
    rng = np.random.default_rng(1)
    sides = [tuple(find_moments(side) for side in sample(rng, N)) for _ in range(150)]
    values = [cka(a, b, CkaOptions()) for a, b in sides]
    centre = np.mean(values)
    found = [
        jackknife_bounds(value, jackknife(a, b, CkaOptions()), 0.95)
        for value, (a, b) in zip(values, sides, strict=True)
    ]
    covered = np.mean([bounds is not None and bounds.low <= centre <= bounds.high for bounds in found])
    assert 0.89 <= covered <= 0.99


def test_the_half_sample_overlap_is_that_of_searching_the_half_again() -> None:
    from consilience.numerics import compiled

    x, y = sample(np.random.default_rng(2), N)
    kept = np.zeros(N, np.bool_)
    kept[np.random.default_rng(3).permutation(N)[: N // 2]] = True
    from_lists = compiled.mean_overlap_within(lists(x, K), lists(y, K), K, kept)
    assert from_lists == pytest.approx(twins.mutual_knn(x[kept], y[kept], K), abs=1e-12)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    x, y = sample(np.random.default_rng(4), N)
    first, again, other = (mutual_knn_bounds(lists(x, K), lists(y, K), K, 0.95, seed) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_a_higher_level_gives_a_wider_interval_around_the_same_value() -> None:
    x, y = sample(np.random.default_rng(5), N)
    narrow = mutual_knn_bounds(lists(x, K), lists(y, K), K, 0.8, 0)
    wide = mutual_knn_bounds(lists(x, K), lists(y, K), K, 0.99, 0)
    assert narrow is not None
    assert wide is not None
    assert wide.low < narrow.low < mutual_knn(lists(x, K), lists(y, K), K) < narrow.high < wide.high


def test_there_is_none_where_half_of_the_rows_has_no_k_neighbours() -> None:
    x, y = sample(np.random.default_rng(6), 20)
    assert mutual_knn_bounds(lists(x, 10), lists(y, 10), 10, 0.95, 0) is None


def test_large_galleries_use_the_block_jackknife_and_agree_with_halves() -> None:
    x, y = sample(np.random.default_rng(7), HALVES_ROWS_MAX + 1)
    blocks = mutual_knn_bounds(lists(x, K), lists(y, K), K, 0.95, 0)
    halves = mutual_knn_bounds(lists(x[:-1], K), lists(y[:-1], K), K, 0.95, 0)
    assert blocks is not None
    assert halves is not None
    assert (blocks.method, halves.method) == ("block-jackknife", "delete-half")
    assert 0.4 < (blocks.high - blocks.low) / (halves.high - halves.low) < 2.5


def test_the_bounds_of_a_correlation_stay_below_1() -> None:
    values = 0.99 + 0.01 * np.random.default_rng(8).normal(size=50)
    found = jackknife_bounds(0.99, values, 0.95)
    assert found is not None
    assert found.high < 1


def test_a_perfect_agreement_has_a_bound_of_1() -> None:
    found = jackknife_bounds(1.0, np.ones(50), 0.95)
    assert found is not None
    assert (found.low, found.high) == (1.0, 1.0)


def test_there_is_none_where_leaving_a_row_out_is_undefined() -> None:
    assert jackknife_bounds(0.5, np.array([0.4, np.nan, 0.5]), 0.95) is None


@pytest.mark.parametrize(("n", "k"), [(4, 1), (22, 10), (30, 10), (41, 10)])
def test_halves_of_at_most_twice_k_rows_give_no_interval_rather_than_a_false_one(n: int, k: int) -> None:
    x, y = sample(np.random.default_rng(7), n)
    assert mutual_knn_bounds(lists(x, k), lists(y, k), k, 0.95, seed=0) is None


def test_halves_of_one_row_more_than_twice_k_cover_the_mean_of_fresh_galleries() -> None:
    rng, n = np.random.default_rng(8), 2 * (2 * K + 1)
    draws = [tuple(lists(view, K) for view in sample(rng, n)) for _ in range(150)]
    centre = np.mean([mutual_knn(x, y, K) for x, y in draws])
    bounds = [mutual_knn_bounds(x, y, K, 0.95, seed=1) for x, y in draws]
    assert 0.91 <= np.mean([found is not None and found.low <= centre <= found.high for found in bounds]) <= 0.995


def test_blocks_leave_nine_tenths_of_the_rows() -> None:
    assert subsample_rows(HALVES_ROWS_MAX) == HALVES_ROWS_MAX // 2
    assert subsample_rows(10_001) == 9_000
