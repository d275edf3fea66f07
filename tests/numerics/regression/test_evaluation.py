import faiss
import numpy as np
import pytest
from sklearn.metrics import r2_score

from consilience.numerics.regression.evaluation import HeldOutRows, draw_held_out, evaluate_maps
from consilience.numerics.regression.maps import LinearStep, Transform
from consilience.numerics.rows.prepared import ArrayRows


def draw(n: int = 300, p: int = 10, q: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray, Transform]:
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(n, p)), rng.normal(size=(p, q))
    y = x @ w + 4 * rng.normal(size=(n, q)) + 1
    bias = rng.normal(size=q).astype(np.float32)
    return x.astype(np.float32), y.astype(np.float32), Transform((LinearStep(w.astype(np.float32), bias),))


def unit(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def held(
    x: np.ndarray, y: np.ndarray, query_ids: np.ndarray | None = None, groups: np.ndarray | None = None
) -> HeldOutRows:
    places = np.arange(len(x), dtype=np.int32) if query_ids is None else query_ids
    return HeldOutRows(ArrayRows(x), ArrayRows(y), places, groups)


def test_ranks_are_those_of_an_exact_search_by_faiss() -> None:
    x, y, transform = draw(n=9000)
    query_ids = np.sort(np.random.default_rng(1).permutation(9000)[:1500]).astype(np.int32)
    (found,), _ = evaluate_maps([transform], held(x, y, query_ids), y.mean(axis=0, dtype=np.float64))
    translated = unit(transform.apply(x))
    for ranks, queries, gallery in (
        (found.forward, translated[query_ids], unit(y)),
        (found.backward, unit(y)[query_ids], translated),
    ):
        index = faiss.IndexFlatIP(gallery.shape[1])
        index.add(gallery)
        _, ids = index.search(queries, 10)
        for k in (1, 5, 10):
            recall = (ids[:, :k] == query_ids[:, None]).any(axis=1).mean()
            assert (ranks <= k).mean() == recall


def test_cosine_and_r2_match_their_definitions() -> None:
    x, y, transform = draw(n=9000)
    (found,), _ = evaluate_maps([transform], held(x, y), y.mean(axis=0, dtype=np.float64))
    predicted = transform.apply(x)
    assert found.cosine == pytest.approx(float((unit(predicted) * unit(y)).sum(axis=1).mean()), abs=1e-6)
    assert found.r2 == pytest.approx(r2_score(y, predicted, multioutput="variance_weighted"), abs=1e-6)


def test_the_baseline_is_the_evaluation_of_a_constant_row() -> None:
    x, y, transform = draw()
    constant = np.arange(1.0, 13)
    _, floor = evaluate_maps([transform], held(x, y), constant)
    predicted = np.broadcast_to(constant, y.shape)
    assert floor.cosine == pytest.approx(float((unit(predicted) * unit(y)).sum(axis=1).mean()), abs=1e-6)
    assert floor.r2 == pytest.approx(r2_score(y, predicted, multioutput="variance_weighted"), abs=1e-6)


def test_several_maps_are_evaluated_as_each_alone() -> None:
    x, y, good = draw()
    bad = Transform((LinearStep(-good.steps[0].weights, good.steps[0].bias),))
    mean = y.mean(axis=0, dtype=np.float64)
    together, _ = evaluate_maps([good, bad], held(x, y), mean)
    for transform, found in zip((good, bad), together, strict=True):
        (alone,), _ = evaluate_maps([transform], held(x, y), mean)
        assert (alone.cosine, alone.r2) == (found.cosine, found.r2)
        assert np.array_equal(alone.forward, found.forward)


def test_a_map_to_random_rows_ranks_at_chance() -> None:
    x, y, transform = draw()
    forgetful = Transform((LinearStep(np.zeros_like(transform.steps[0].weights), transform.steps[0].bias),))
    (found,), _ = evaluate_maps([forgetful], held(x, y), y.mean(axis=0, dtype=np.float64))
    assert found.backward.mean() == pytest.approx(150.5)
    assert found.forward.mean() == pytest.approx(150.5, abs=0.05)


def test_of_equal_candidates_the_smaller_id_ranks_first() -> None:
    x = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    identity = Transform((LinearStep(np.eye(2, dtype=np.float32), np.zeros(2, np.float32)),))
    (found,), _ = evaluate_maps([identity], held(x, x), np.ones(2))
    assert found.forward.tolist() == found.backward.tolist() == [1, 2, 1]


def test_rows_of_a_group_are_not_candidates_of_each_other() -> None:
    x = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    identity = Transform((LinearStep(np.eye(2, dtype=np.float32), np.zeros(2, np.float32)),))
    rows = held(x, x, groups=np.array([0, 0, 1], np.int32))
    (found,), _ = evaluate_maps([identity], rows, np.ones(2))
    assert found.forward.tolist() == [1, 1, 1]
    assert rows.candidate_counts.tolist() == [2, 2, 3]


def test_a_row_of_zeros_does_not_change_the_other_ranks() -> None:
    x, y, transform = draw()
    y[7] = 0
    (found,), _ = evaluate_maps([transform], held(x, y), y.mean(axis=0, dtype=np.float64))
    assert np.isfinite(found.cosine)


def test_constant_rows_have_no_r2() -> None:
    x, y, transform = draw()
    (found,), floor = evaluate_maps([transform], held(x, np.ones_like(y)), np.ones(12))
    assert found.r2 is floor.r2 is None


def test_a_share_of_the_rows_is_held_out() -> None:
    assert draw_held_out(1000, 0.2, 0).sum() == 200
    assert not np.array_equal(draw_held_out(1000, 0.2, 0), draw_held_out(1000, 0.2, 1))
    assert np.array_equal(draw_held_out(1000, 0.2, 3), draw_held_out(1000, 0.2, 3))


def test_groups_are_held_out_as_a_whole() -> None:
    groups = (np.arange(1000) // 7).astype(np.int32)
    mask = draw_held_out(1000, 0.2, 0, groups)
    assert not set(groups[mask]) & set(groups[~mask])
    assert 200 <= mask.sum() < 207
