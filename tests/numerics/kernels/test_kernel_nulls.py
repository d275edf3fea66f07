"""The closed forms of kernels and of Mantel's statistic against the enumeration of every one of the 7! pairings."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import skew

from consilience.numerics.kernels.cka import CkaOptions, cka, cka_null
from consilience.numerics.kernels.matrices import (
    Entry,
    MatrixSums,
    PairMatrix,
    StoredMatrix,
    centre_rows,
    find_sums,
    pair_matrix,
    triangle_share,
)
from consilience.numerics.kernels.rsa import count_patterns, draw_groups, mantel_null
from consilience.numerics.rows.prepared import ArrayRows
from consilience.numerics.stats.nulls import PearsonNull
from consilience.numerics.subspaces.moments import centre_layer

ALL = np.array(list(permutations(range(7))))
ENTRIES: tuple[Entry, ...] = ("inner", "gaussian", "distance")


def matrix(seed: int, n: int = 7, d: int = 4, spread: float = 1.0, entry: Entry = "inner") -> PairMatrix:
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(n, d)) * spread ** np.arange(d)).astype(np.float32)
    return pair_matrix(centre_rows(x, centre_layer(ArrayRows(x)).mean), entry, 1.3)


def products(a: np.ndarray, b: np.ndarray, orders: np.ndarray) -> np.ndarray:
    return np.array([np.vdot(a, b[np.ix_(order, order)]) for order in orders])


def values(a: PairMatrix, b: PairMatrix, sums: list[MatrixSums], options: CkaOptions, orders: np.ndarray) -> np.ndarray:
    shared = products(a.whole(), b.whole(), orders)
    return np.array([cka(float(p), *sums, options, order) for p, order in zip(shared, orders, strict=True)])


@pytest.mark.parametrize("definition", ["standard", "prh"])
@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize("spread", [1.0, 0.3])
@pytest.mark.parametrize("entry", ENTRIES)
def test_alignment_has_the_mean_and_sd_of_all_pairings(
    entry: Entry, spread: float, debiased: bool, definition: str
) -> None:
    a, b = matrix(3, spread=spread, entry=entry), matrix(4, d=3, entry=entry)
    options = CkaOptions(debiased, definition)  # type: ignore[arg-type]  # parametrised by plain strings
    sums, _ = find_sums([a, b])
    drawn = values(a, b, sums, options, ALL)
    law = cka_null(*sums, options, (triangle_share(a), triangle_share(b)))
    assert law.mean == pytest.approx(drawn.mean(), abs=1e-12)
    assert law.sd == pytest.approx(drawn.std(), rel=1e-9)


def test_a_kernel_of_one_direction_has_the_skew_of_the_chi_square_test() -> None:
    """(chi-square of 1 degree - 1) / n: variance 2 / n^2, skew sqrt(8)."""
    a, b = matrix(3, n=400, d=1), matrix(4, n=400, d=1)
    sums, _ = find_sums([a, b])
    law = cka_null(*sums, CkaOptions(), (triangle_share(a), triangle_share(b)))
    assert law.skew == pytest.approx(np.sqrt(8), rel=0.05)
    assert law.threshold(0.05) == pytest.approx((3.841 - 1) / 400, rel=0.02)


def test_the_debiased_tail_keeps_its_level_and_a_normal_tail_would_not() -> None:
    """Effective rank near 20: the share of draws above the 1 % threshold is near 1 %, not the 2 % of a normal law."""
    rng = np.random.default_rng(0)
    scales = 1 / np.arange(1, 65) ** 0.75
    a, b = (pair_matrix(rng.normal(size=(256, 64)) * scales, "inner") for _ in range(2))
    sums, _ = find_sums([a, b])
    law = cka_null(*sums, CkaOptions(), (triangle_share(a), triangle_share(b)))
    drawn = values(a, b, sums, CkaOptions(), np.array([rng.permutation(256) for _ in range(3000)]))
    normal = PearsonNull(law.mean, law.sd)
    assert 0.004 < (drawn > law.threshold(0.01)).mean() < 0.017
    assert (drawn > normal.threshold(0.01)).mean() > (drawn > law.threshold(0.01)).mean()


def centred(seed: int, n: int) -> np.ndarray:
    """A symmetric matrix with a diagonal of 0 whose other entries have mean 0, and rows that differ."""
    rng = np.random.default_rng(seed)
    effects = rng.exponential(size=n)
    entries = np.triu(rng.exponential(size=(n, n)) + effects + effects[:, None], 1)
    entries += entries.T
    entries -= entries.sum() / (n * (n - 1))
    np.fill_diagonal(entries, 0.0)
    return entries


def stored(entries: np.ndarray) -> StoredMatrix:
    return StoredMatrix(entries, np.zeros(len(entries)), centred=False, noise=0.0)


@pytest.mark.parametrize("n", [4, 5, 6, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_correlation_of_matrices_has_the_mean_sd_and_skew_of_all_pairings(n: int, seed: int) -> None:
    a, b = centred(seed, n), centred(seed + 10, n)
    drawn = products(a, b, np.array(list(permutations(range(n))))) / np.sqrt((a**2).sum() * (b**2).sum())
    law = mantel_null(count_patterns(n, [stored(a)]), count_patterns(n, [stored(b)]))
    assert law.mean == pytest.approx(drawn.mean(), abs=1e-12)
    assert law.sd == pytest.approx(drawn.std(), rel=1e-9)
    assert law.skew == pytest.approx(skew(drawn), rel=1e-9)


def test_within_random_groups_the_null_is_that_of_the_pairs_in_groups() -> None:
    rng = np.random.default_rng(0)
    n = 120
    x, y = rng.normal(size=(n, 3)), rng.normal(size=(n, 2)) ** 3
    full = [pair_matrix(side, "distance").whole() for side in (x, y)]
    groups = draw_groups(n, 1500, seed=1)
    assert len(groups) > 1

    def within(entries: np.ndarray, order: np.ndarray) -> list[np.ndarray]:
        parts = [entries[np.ix_(order[ids], order[ids])].copy() for ids in groups]
        off = [~np.eye(len(ids), dtype=bool) for ids in groups]
        mean = np.concatenate([part[mask] for part, mask in zip(parts, off, strict=True)]).mean()
        return [np.where(mask, part - mean, 0.0) for part, mask in zip(parts, off, strict=True)]

    def correlate(order: np.ndarray) -> float:
        a, b = within(full[0], np.arange(n)), within(full[1], order)
        dot = lambda s, t: sum(float(np.vdot(u, v)) for u, v in zip(s, t, strict=True))  # noqa: E731 - three uses
        return dot(a, b) / np.sqrt(dot(a, a) * dot(b, b))

    drawn = np.array([correlate(rng.permutation(n)) for _ in range(4000)])
    counts = [count_patterns(n, [stored(part) for part in within(side, np.arange(n))]) for side in full]
    law = mantel_null(counts[0], counts[1])
    assert law.sd == pytest.approx(drawn.std(), rel=0.06)
    assert law.threshold(0.05) == pytest.approx(np.quantile(drawn, 0.95), rel=0.1)


def test_triangles_of_a_sample_estimate_those_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(500, 2))
    entries = pair_matrix(x, "distance").whole()
    exact = count_patterns(500, [stored(entries)]).sums.triangle
    monkeypatch.setattr("consilience.numerics.kernels.rsa.TRIANGLE_ROWS", 250)
    assert count_patterns(500, [stored(entries)]).sums.triangle == pytest.approx(exact, rel=0.1)
