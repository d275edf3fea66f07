"""Reference implementations of the neighbour metrics, by lists, sets and n x n matrices in float64."""

from itertools import permutations

import numpy as np
import numpy.typing as npt

from consilience.numerics.knn.graph import build_exact
from consilience.numerics.neighbour_overlap.lists import NeighbourLists, SimilaritySpace

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

#: All permutations of seven items.
ALL_OF_7 = np.array(list(permutations(range(7))))


def jaccard_knn(a: Ids, b: Ids) -> float:
    return float(np.mean([len({*x} & {*y}) / len({*x} | {*y}) for x, y in zip(a, b, strict=True)]))


def rank_similarity(a: Ids, b: Ids) -> float:
    def row(x: list[int], y: list[int]) -> float:
        shared = {*x} & {*y}
        ranks = [(x.index(j) + 1, y.index(j) + 1) for j in shared]
        harmonic = sum(1 / m for m in range(1, len(shared) + 1))
        return sum(2 / ((1 + abs(r - s)) * (r + s)) for r, s in ranks) / harmonic if shared else 0.0

    return float(np.mean([row(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]))


def lcs(x: list[int], y: list[int]) -> int:
    table = np.zeros((len(x) + 1, len(y) + 1), int)
    for i, of_x in enumerate(x, 1):
        for j, of_y in enumerate(y, 1):
            table[i, j] = table[i - 1, j - 1] + 1 if of_x == of_y else max(table[i - 1, j], table[i, j - 1])
    return int(table[-1, -1])


def levenshtein(x: list[int], y: list[int]) -> int:
    table = np.add.outer(np.arange(len(x) + 1), np.arange(len(y) + 1))
    for i, of_x in enumerate(x, 1):
        for j, of_y in enumerate(y, 1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (of_x != of_y))
    return int(table[-1, -1])


def lcs_knn(a: Ids, b: Ids) -> float:
    return float(np.mean([lcs(x, y) / len(x) for x, y in zip(a.tolist(), b.tolist(), strict=True)]))


def edit_distance_knn(a: Ids, b: Ids) -> float:
    return 1 - float(np.mean([levenshtein(x, y) / len(x) for x, y in zip(a.tolist(), b.tolist(), strict=True)]))


def cycle_knn(a: Ids, b: Ids) -> float:
    return float(np.mean([any(i in a[j] for j in b[i]) for i in range(len(a))]))


def second_order_cosine(x: npt.ArrayLike, y: npt.ArrayLike, a: Ids, b: Ids) -> float:
    p, q = (np.asarray(rows, np.float64) @ np.asarray(rows, np.float64).T for rows in (x, y))
    unions = [sorted({*row_a} | {*row_b}) for row_a, row_b in zip(a, b, strict=True)]
    cosines = [p[i, u] @ q[i, u] / np.sqrt((p[i, u] @ p[i, u]) * (q[i, u] @ q[i, u])) for i, u in enumerate(unions)]
    return float(np.mean(cosines))


def mask(ids: Ids) -> Array:
    """Return a matrix with 1 at (i, j) if j is in row i's list."""
    out = np.zeros((len(ids), len(ids)))
    np.put_along_axis(out, ids, 1.0, axis=1)
    return out


def masked_similarity(p: Array, q: Array, variant: str) -> float:
    """Return the unbiased HSIC, the plain sum, or the biased HSIC of masked kernels."""
    n = len(p)
    if variant == "paper":
        return float((p * q).sum())
    if variant == "biased":
        centring = np.eye(n) - 1 / n
        return float(np.trace(p @ centring @ q @ centring))
    total = (p * q.T).sum() + p.sum() * q.sum() / ((n - 1) * (n - 2)) - 2 * (p @ q).sum() / (n - 2)
    return float(total / (n * (n - 3)))


def cknna(k: Array, l: Array, a: Array, b: Array, variant: str) -> float:  # noqa: E741 - K and L are the literature's names
    """Compute CKNNA from whole kernels and masks, by the reference code or the article's formula."""
    if variant == "paper":
        k, l = (kernel - kernel.mean(axis=1, keepdims=True) for kernel in (k, l))  # noqa: E741 - the same
    cross = masked_similarity(a * b * k, a * b * l, variant)
    own = masked_similarity(a * k, a * k, variant) * masked_similarity(b * l, b * l, variant)
    return cross / (np.sqrt(own) + (1e-6 if variant == "prh" else 0.0))


def lists_of(x: npt.NDArray[np.float32], k: int) -> NeighbourLists:
    """Return the neighbour lists of prepared rows, with their similarity space."""
    graph = build_exact(x, k)
    return NeighbourLists.of(graph.ids, graph.similarities, SimilaritySpace(lambda: x))


def views(n: int, seed: int = 0, noise: float = 0.8) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Draw two noisy views of one latent space, with rows of length 1."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, 8))
    found = [latent + noise * rng.normal(size=(n, 8)) for _ in range(2)]
    return tuple((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in found)
