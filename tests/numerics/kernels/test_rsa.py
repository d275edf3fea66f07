import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata

from consilience.numerics.kernels.matrices import StoredMatrix, pair_matrix
from consilience.numerics.kernels.rsa import Distance, draw_groups, fill_pairs, find_points, rank, rsa_without_each
from consilience.numerics.subspaces import moments as moments_module

DISTANCES: tuple[Distance, ...] = ("cosine", "euclidean", "correlation")


def rows(n: int = 50, d: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def fill(x: np.ndarray, distance: Distance, groups: list[np.ndarray], *, ranked: bool) -> list[StoredMatrix]:
    points = find_points(x, distance)
    assert points is not None
    matrix = pair_matrix(points, "distance" if distance == "euclidean" else "angle")
    out = [np.empty((len(ids), len(ids))) for ids in groups]
    return fill_pairs(matrix, groups, out, ranked=ranked)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("ranked", [True, False])
def test_entries_are_the_centred_dissimilarities_or_their_ranks(distance: Distance, ranked: bool) -> None:
    x = rows()
    (found,) = fill(x, distance, [np.arange(50)], ranked=ranked)
    expected = pdist(x.astype(np.float64), distance)
    expected = rankdata(expected) if ranked else expected
    np.testing.assert_allclose(found.entries, squareform(expected - expected.mean()), atol=1e-12)


@pytest.mark.parametrize("exact", [True, False])
def test_equal_dissimilarities_share_their_rank(monkeypatch: pytest.MonkeyPatch, exact: bool) -> None:
    """Vectors of zeros and ones have few different distances, which products of scaled rows blur in the last digit."""
    if not exact:
        monkeypatch.setattr(moments_module, "EXACT_WORK", 0)
    x = np.random.default_rng(1).integers(0, 2, size=(60, 12)).astype(np.float32)
    x[:, 0] = 1
    (found,) = fill(x, "cosine", [np.arange(60)], ranked=True)
    expected = rankdata(pdist(x.astype(np.float64), "cosine").round(9))
    differs = found.entries != squareform(expected - expected.mean())
    assert differs.mean() <= (0 if exact else 0.05)  # float32 splits a tie that lies on the edge of two levels


def test_ranks_are_exact_in_float32_for_millions_of_values() -> None:
    values = np.random.default_rng(0).permutation(1 << 21).astype(np.float32)
    np.testing.assert_array_equal(rank(values), values - values.mean(dtype=np.float64))


def test_equal_values_all_have_rank_0() -> None:
    assert not rank(np.full(10, 0.3)).any()
    assert not rank(np.zeros(10)).any()


@pytest.mark.parametrize(("n", "pairs"), [(100, 500), (1000, 10_000), (50, 1200), (4097, 4_000_000)])
def test_groups_contain_every_item_once_and_at_least_the_requested_pairs(n: int, pairs: int) -> None:
    groups = draw_groups(n, pairs, seed=3)
    assert len(groups) > 1 or n == 50
    np.testing.assert_array_equal(np.sort(np.concatenate(groups)), np.arange(n))
    held = sum(len(ids) * (len(ids) - 1) // 2 for ids in groups)
    assert pairs <= held <= 2.2 * pairs
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


def test_all_pairs_are_one_group_in_order() -> None:
    for pairs in (None, 10**9):
        (group,) = draw_groups(30, pairs, seed=0)
        np.testing.assert_array_equal(group, np.arange(30))


def test_the_seed_determines_the_groups() -> None:
    first, again, other = (draw_groups(100, 500, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_rows_without_direction_have_no_points() -> None:
    x = rows()
    x[3] = 0.1
    assert find_points(x, "correlation") is None
    assert find_points(x, "cosine") is not None
    x[3] = 0
    assert find_points(x, "cosine") is None
    assert find_points(x, "euclidean") is not None


def test_leaving_out_an_item_removes_its_pairs() -> None:
    rng = np.random.default_rng(0)
    a, b = (squareform(rng.normal(size=20 * 19 // 2)) for _ in range(2))
    upper = np.triu_indices(19, 1)
    brute = [np.corrcoef(*(np.delete(np.delete(m, j, 0), j, 1)[upper] for m in (a, b)))[0, 1] for j in range(20)]
    a_, b_ = (m - m.sum() / (20 * 19) * (1 - np.eye(20)) for m in (a, b))
    products = np.array([(a_ * b_).sum(1), (a_ * a_).sum(1), (b_ * b_).sum(1)])
    found = rsa_without_each(products, np.array([a_.sum(1), b_.sum(1)]), np.full(20, 19.0))
    np.testing.assert_allclose(found, brute, atol=1e-12)
