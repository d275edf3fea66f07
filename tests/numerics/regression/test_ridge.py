import numpy as np
import pytest

from consilience.numerics.regression.ridge import (
    PENALTIES,
    find_errors,
    find_folds,
    find_targets,
    fold_shares,
    linear_predictivity,
)
from tests.reference_implementations import subspaces as reference


def pair(n: int, p: int, q: int, seed: int = 0, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 4))
    x = shared @ rng.normal(size=(4, p)) + noise * rng.normal(size=(n, p)) + 1
    y = shared @ rng.normal(size=(4, q)) + noise * rng.normal(size=(n, q)) - 1
    return x.astype(np.float32), y.astype(np.float32)


def test_the_penalties_are_the_powers_of_ten_from_1e_minus_8_to_10000() -> None:
    np.testing.assert_allclose(PENALTIES, [10.0**power for power in range(-8, 5)])


@pytest.mark.parametrize("ridge", [None, 1e-3, 1.0])
@pytest.mark.parametrize("folds", [2, 5])
@pytest.mark.parametrize(("n", "p", "q"), [(60, 5, 7), (60, 30, 4), (40, 60, 50), (30, 24, 3), (10, 2, 1)])
def test_the_value_is_that_of_a_plain_loop(n: int, p: int, q: int, folds: int, ridge: float | None) -> None:
    x, y = pair(n, p, q)
    fold_of_row = find_folds(x, folds, ridge, seed=3)
    expected = reference.linear_predictivity(x, y, [fold.scored for fold in fold_of_row], ridge)
    assert linear_predictivity(fold_of_row, find_targets(y)) == pytest.approx(expected, abs=1e-6)


def test_every_row_is_scored_once_by_a_fit_on_the_other_folds() -> None:
    x, _ = pair(53, 4, 4)
    fold_of_row = find_folds(x, 5, None, seed=0)
    assert sorted(np.concatenate([fold.scored for fold in fold_of_row])) == list(range(53))
    for fold in fold_of_row:
        assert sorted(np.concatenate([fold.scored, fold.fitted])) == list(range(53))
        assert 10 <= len(fold.scored) <= 11


@pytest.mark.parametrize(("n", "p", "q"), [(60, 5, 7), (40, 60, 50)])
@pytest.mark.parametrize("ridge", [None, 0.1])
def test_a_permutation_pairs_the_predictor_with_other_targets(n: int, p: int, q: int, ridge: float | None) -> None:
    x, y = pair(n, p, q)
    fold_of_row = find_folds(x, 5, ridge, seed=0)
    order = np.random.default_rng(1).permutation(n)
    expected = linear_predictivity(fold_of_row, find_targets(y[order]))
    assert linear_predictivity(fold_of_row, find_targets(y), order) == pytest.approx(expected, abs=1e-9)


def test_folds_do_not_depend_on_row_order_or_rotation() -> None:
    x, y = pair(50, 6, 3)
    order = np.random.default_rng(2).permutation(50)
    rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(6, 6)))
    value = linear_predictivity(find_folds(x, 5, None, 0), find_targets(y))
    for mapped, targets in ((x[order], y[order]), ((x @ rotation).astype(np.float32), y), (3 * x, 2 * y)):
        found = linear_predictivity(find_folds(mapped, 5, None, 0), find_targets(targets))
        assert found == pytest.approx(value, abs=1e-6)


def test_another_seed_gives_other_folds() -> None:
    x, _ = pair(50, 6, 3)
    first, second = (find_folds(x, 5, None, seed)[0].scored for seed in (0, 1))
    assert set(first) != set(second)


def test_items_of_one_group_share_a_fold() -> None:
    x, _ = pair(60, 4, 4)
    groups = np.repeat(np.arange(20), 3).astype(np.int32)
    for fold in find_folds(x, 5, None, 0, groups):
        assert not set(groups[fold.scored]) & set(groups[fold.fitted])
        assert len(fold.scored) == 12


def test_a_linear_map_is_predicted_fully_and_noise_not_at_all() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(200, 8)).astype(np.float32)
    fold_of_row = find_folds(x, 5, None, 0)
    assert linear_predictivity(fold_of_row, find_targets((x @ rng.normal(size=(8, 5))).astype(np.float32))) > 1 - 1e-9
    chance = [
        linear_predictivity(fold_of_row, find_targets(rng.normal(size=(200, 5)).astype(np.float32))) for _ in range(50)
    ]
    assert -0.05 < np.mean(chance) <= 0.0


def test_more_dimensions_than_rows_do_not_inflate_the_value() -> None:
    """In-sample, 100 rows fit 200 dimensions exactly."""
    rng = np.random.default_rng(5)
    x, y = (rng.normal(size=(100, d)).astype(np.float32) for d in (200, 5))
    assert linear_predictivity(find_folds(x, 5, None, 0), find_targets(y)) < 0.1
    assert linear_predictivity(find_folds(x, 5, 1e-6, 0), find_targets(y)) < 0.1


def test_the_shares_of_folds_combine_to_the_value() -> None:
    x, y = pair(50, 6, 3)
    fold_of_row, targets = find_folds(x, 5, None, 0), find_targets(y)
    sizes = [np.vdot(targets[fold.scored], targets[fold.scored]) for fold in fold_of_row]
    assert np.average(fold_shares(fold_of_row, targets), weights=sizes) == pytest.approx(
        linear_predictivity(fold_of_row, targets)
    )
    assert sum(len(errors) for _, errors in find_errors(fold_of_row, targets)) == 50
