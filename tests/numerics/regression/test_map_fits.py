import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import PredefinedSplit

from consilience.numerics.regression.map_fits import (
    RidgePath,
    choose_map,
    find_error,
    fit_procrustes,
    fit_relative,
    reduce_rank,
)
from consilience.numerics.regression.maps import HELD_OUT, MapSums, add_sums, find_fold_sums
from consilience.numerics.regression.ridge import PENALTIES
from consilience.numerics.rows.prepared import ArrayRows

N, P, Q = 400, 12, 9


def draw_pair(n: int = N, p: int = P, q: int = Q, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) * np.linspace(1, 0.01, p) + 5
    y = x @ rng.normal(size=(p, q)) + rng.normal(size=(n, q)) - 3
    return x.astype(np.float32), y.astype(np.float32)


def sums_of(x: np.ndarray, y: np.ndarray, fold_of_row: np.ndarray | None = None) -> list[MapSums]:
    return find_fold_sums(
        ArrayRows(x), ArrayRows(y), np.zeros(len(x), np.int32) if fold_of_row is None else fold_of_row
    )


def rotation_of(p: int, q: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(3).normal(size=(max(p, q), max(p, q))))[0][:p, :q]


def test_sums_over_folds_are_those_of_the_rows_themselves() -> None:
    x, y = draw_pair()
    fold_of_row = np.random.default_rng(1).integers(-1, 3, N).astype(np.int32)
    for fold, found in enumerate(sums_of(x, y, fold_of_row)):
        mine_x, mine_y = (side[fold_of_row == fold].astype(np.float64) for side in (x, y))
        centred = found.about(found.means)
        assert found.n == len(mine_x)
        assert found.means[0] == pytest.approx(mine_x.mean(axis=0))
        mine_x, mine_y = mine_x - mine_x.mean(axis=0), mine_y - mine_y.mean(axis=0)
        assert centred.xx == pytest.approx(mine_x.T @ mine_x)
        assert centred.xy == pytest.approx(mine_x.T @ mine_y)
        assert centred.yy == pytest.approx((mine_y**2).sum())


def test_held_out_rows_change_no_bit_of_the_sums() -> None:
    x, y = draw_pair()
    fold_of_row = np.arange(N, dtype=np.int32) % 6 - 1
    other_x, other_y = x.copy(), y.copy()
    other_x[fold_of_row == HELD_OUT] = 1e30
    other_y[fold_of_row == HELD_OUT] = -7
    (before, *_), (after, *_) = sums_of(x, y, fold_of_row), sums_of(other_x, other_y, fold_of_row)
    for name in ("x", "y", "xx", "xy", "yy"):
        assert np.array_equal(getattr(before, name), getattr(after, name))


@pytest.mark.parametrize(("p", "q"), [(24, 24), (16, 24)])
def test_a_known_rotation_scale_and_translation_are_recovered_to_1e_5(p: int, q: int) -> None:
    x = np.random.default_rng(0).normal(size=(N, p)).astype(np.float32)
    rotation = rotation_of(p, q)
    y = (2.5 * x @ rotation + np.arange(q)).astype(np.float32)
    found = fit_procrustes(sums_of(x, y)[0])
    assert found.scale == pytest.approx(2.5, abs=1e-5)
    assert found.affine.weights / found.scale == pytest.approx(rotation, abs=1e-5)
    assert found.affine.target - found.affine.origin @ found.affine.weights == pytest.approx(np.arange(q), abs=1e-5)


def test_without_scale_and_translation_the_map_is_a_rotation() -> None:
    x, y = draw_pair(p=8, q=8)
    found = fit_procrustes(sums_of(x, y)[0], scale=False, translation=False)
    left, _, right = np.linalg.svd(x.astype(np.float64).T @ y.astype(np.float64))
    assert found.scale == 1
    assert found.affine.weights == pytest.approx(left @ right, abs=1e-9)
    assert not found.affine.origin.any()
    assert not found.affine.target.any()


def test_the_scale_of_a_rotation_has_the_least_error() -> None:
    x, y = draw_pair(p=7, q=9)
    (sums,) = sums_of(x, y)
    best = fit_procrustes(sums)
    errors = [
        find_error(type(best.affine)(best.affine.weights * factor, best.affine.origin, best.affine.target), sums)
        for factor in (0.99, 1, 1.01)
    ]
    assert min(errors) == errors[1]


@pytest.mark.parametrize("penalty", [1e-8, 1e-2, 10])
def test_ridge_gives_the_map_of_scikit_learn(penalty: float) -> None:
    x, y = draw_pair()
    path = RidgePath(sums_of(x, y)[0])
    found, theirs = (
        path.fit(penalty),
        Ridge(alpha=penalty * path.variance, solver="svd").fit(x.astype(float), y.astype(float)),
    )
    assert found.weights == pytest.approx(theirs.coef_.T, abs=1e-6)
    assert found.target - found.origin @ found.weights == pytest.approx(theirs.intercept_, abs=1e-5)


def test_the_penalty_is_the_best_for_scikit_learn_on_the_same_folds() -> None:
    x, y = draw_pair(n=40)
    fold_of_row = np.random.default_rng(2).permutation(40).astype(np.int32) % 5
    folds = sums_of(x, y, fold_of_row)
    totals = np.zeros(len(PENALTIES))
    for held, (fitted, scored) in enumerate(PredefinedSplit(fold_of_row).split()):
        path = RidgePath(add_sums([*folds[:held], *folds[held + 1 :]]))
        for place, alpha in enumerate(PENALTIES * path.variance):
            theirs = Ridge(alpha=alpha, solver="svd").fit(x[fitted].astype(float), y[fitted].astype(float))
            totals[place] += ((theirs.predict(x[scored].astype(float)) - y[scored]) ** 2).sum()
    found = sum(
        RidgePath(add_sums([*folds[:held], *folds[held + 1 :]])).errors(PENALTIES, folds[held]) for held in range(5)
    )
    assert found == pytest.approx(totals, rel=1e-5)
    assert choose_map(folds).penalty == PENALTIES[np.argmin(totals)]


def test_fewer_rows_than_dimensions_still_have_a_best_penalty_and_a_finite_map() -> None:
    x, y = draw_pair(n=30, p=50, q=8)
    folds = sums_of(x, y, np.arange(30, dtype=np.int32) % 5)
    found = RidgePath(add_sums(folds)).fit(choose_map(folds).penalty)
    theirs = Ridge(alpha=choose_map(folds).penalty * RidgePath(add_sums(folds)).variance, solver="svd").fit(
        x.astype(float), y.astype(float)
    )
    assert found.weights == pytest.approx(theirs.coef_.T, abs=1e-6)


def test_cross_validation_chooses_a_true_rotation_of_few_rows() -> None:
    x = np.random.default_rng(0).normal(size=(40, 24)).astype(np.float32)
    y = x @ rotation_of(24, 24) + 0.3 * np.random.default_rng(1).normal(size=(40, 24))
    fold_of_row = np.arange(40, dtype=np.int32) % 5
    assert choose_map(sums_of(x, y.astype(np.float32), fold_of_row)).best == "procrustes"
    assert choose_map(sums_of(*draw_pair(p=24, q=24), np.arange(N, dtype=np.int32) % 5)).best == "ridge"


@pytest.mark.parametrize("rank", [1, 3, Q])
def test_the_map_of_low_rank_has_the_least_error_of_its_rank(rank: int) -> None:
    x, y = draw_pair()
    (sums,) = sums_of(x, y)
    transform = reduce_rank(RidgePath(sums), sums, 1e-9, rank).transform()
    predicted = transform.apply(x)
    centred = y - y.mean(axis=0, dtype=np.float64)
    full = Ridge(alpha=1e-12).fit(x.astype(float), centred).predict(x.astype(float))
    left, values, right = np.linalg.svd(full, full_matrices=False)
    best = (left[:, :rank] * values[:rank]) @ right[:rank] + y.mean(axis=0)
    assert predicted == pytest.approx(best, abs=2e-3)
    assert np.linalg.matrix_rank(transform.steps[0].weights @ transform.steps[1].weights, tol=1e-4) == rank


def test_a_relative_map_matches_its_formula() -> None:
    x, y = draw_pair()
    (sums,) = sums_of(x, y)
    anchors = np.arange(0, N, 20)
    found = fit_relative(sums, x[anchors], y[anchors])
    a, b = x[anchors] - x.mean(axis=0, dtype=float), y[anchors] - y.mean(axis=0, dtype=float)
    unit = (b**2).sum() / len(b)
    decoded = a.T @ np.linalg.solve(b @ b.T + found.penalty * unit * np.eye(len(b)), b)
    expected = found.scale * (x - x.mean(axis=0, dtype=float)) @ decoded + y.mean(axis=0, dtype=float)
    assert found.factors.transform().apply(x) == pytest.approx(expected, abs=1e-3)


def test_penalty_and_scale_of_a_relative_map_have_the_least_error() -> None:
    x, y = draw_pair()
    (sums,) = sums_of(x, y)
    anchors = np.arange(0, N, 20)
    found = fit_relative(sums, x[anchors], y[anchors])
    a, b = (side[anchors] - side.mean(axis=0, dtype=float) for side in (x, y))
    centred_x, centred_y = (side - side.mean(axis=0, dtype=float) for side in (x, y))
    errors = []
    for penalty in PENALTIES:
        w = a.T @ np.linalg.solve(b @ b.T + penalty * (b**2).sum() / len(b) * np.eye(len(b)), b)
        predicted = centred_x @ w
        scale = np.vdot(predicted, centred_y) / np.vdot(predicted, predicted)
        errors.append(((centred_y - scale * predicted) ** 2).sum())
    assert found.penalty == PENALTIES[np.argmin(errors)]
