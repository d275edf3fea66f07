"""The eight metrics of the Platonic Representation Hypothesis as a textbook writes them: the yardstick of `engine`.

float32 on whole n x n matrices, every metric for itself, as the public reference implementation computes them: neighbours by a
full sort, overlaps by n x n masks, traces of products of n x n matrices, the two list metrics in Python loops. Those loops are
run on `LOOPED` rows only, and their time is scaled to all rows.
"""

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

LOOPED = 256
Tensor = torch.Tensor
Ids = npt.NDArray[np.int64]


def neighbours(x: Tensor, k: int) -> Tensor:
    """Ids of the k largest inner products of each row with the others."""
    similarities = x @ x.T
    similarities.fill_diagonal_(-1e8)
    return similarities.argsort(dim=1, descending=True)[:, :k]


def mask(ids: Tensor) -> Tensor:
    """1 where j is a neighbour of i."""
    out = torch.zeros(len(ids), len(ids))
    return out.scatter_(1, ids, 1.0)


def mutual_knn(a: Tensor, b: Tensor, k: int) -> float:
    """Mean share of neighbours in common."""
    shared = mask(neighbours(a, k)) * mask(neighbours(b, k))
    return float((shared.sum(dim=1) / k).mean())


def cycle_knn(a: Tensor, b: Tensor, k: int) -> float:
    """Share of rows that a step in b and a step in a lead back to."""
    ids_a, ids_b = neighbours(a, k), neighbours(b, k)
    reached = ids_a[ids_b].reshape(len(a), -1)
    return float((reached == torch.arange(len(a))[:, None]).any(dim=1).float().mean())


def lcs(x: Ids, y: Ids) -> int:
    """Length of the longest common subsequence."""
    table = [[0] * (len(y) + 1) for _ in range(len(x) + 1)]
    for i, one in enumerate(x):
        for j, other in enumerate(y):
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def levenshtein(x: Ids, y: Ids) -> int:
    """Fewest insertions, deletions and substitutions."""
    above = list(range(len(y) + 1))
    for i, one in enumerate(x):
        row = [i + 1]
        for j, other in enumerate(y):
            row.append(min(above[j + 1] + 1, row[j] + 1, above[j] + (one != other)))
        above = row
    return above[-1]


def hsic(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741 - K and L are the literature's names
    """tr(K H L H)."""
    centring = torch.eye(len(k)) - 1 / len(k)
    return torch.trace(k @ centring @ l @ centring)


def unbiased_hsic(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741 - the same
    """Compute the estimator of Song et al. 2012, eq. 5."""
    n = len(k)
    k, l = k.clone().fill_diagonal_(0), l.clone().fill_diagonal_(0)  # noqa: E741 - the same
    total = (k * l.T).sum() + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 * (k @ l).sum() / (n - 2)
    return total / (n * (n - 3))


def ratio(estimator: Callable[[Tensor, Tensor], Tensor], k: Tensor, l: Tensor) -> float:  # noqa: E741 - the same
    """Compute the cosine of two matrices."""
    return float(estimator(k, l) / (torch.sqrt(estimator(k, k) * estimator(l, l)) + 1e-6))


def cka(a: Tensor, b: Tensor) -> float:
    """Centred kernel alignment."""
    return ratio(hsic, a @ a.T, b @ b.T)


def debiased_cka(a: Tensor, b: Tensor) -> float:
    """With the unbiased estimator."""
    return ratio(unbiased_hsic, a @ a.T, b @ b.T)


def cknna(a: Tensor, b: Tensor, k: int) -> float:
    """Kernel alignment where both kernels list a neighbour; each of the three terms finds the neighbours of both."""

    def masked(p: Tensor, q: Tensor) -> Tensor:
        hidden = (kernel.clone().fill_diagonal_(-torch.inf) for kernel in (p, q))
        of_p, of_q = (mask(kernel.topk(k, dim=1).indices) for kernel in hidden)
        shared = of_p * of_q
        return unbiased_hsic(shared * p, shared * q)

    return ratio(masked, a @ a.T, b @ b.T)


def svcca(a: Tensor, b: Tensor, components: int = 10) -> float:
    """Mean canonical correlation of the leading left singular vectors of the z-scored columns (by full decompositions)."""
    left = [torch.linalg.svd((x - x.mean(0)) / x.std(0), full_matrices=False)[0][:, :components] for x in (a, b)]
    return float(torch.linalg.svdvals(left[0].T @ left[1]).mean())


def measure(a: Tensor, b: Tensor, k: int) -> dict[str, tuple[float, float]]:
    """Value and seconds of each metric."""
    found: dict[str, tuple[float, float]] = {}

    def run(name: str, metric: Callable[[], float]) -> None:
        started = time.perf_counter()
        value = metric()
        found[name] = value, time.perf_counter() - started

    run("mutual_knn", lambda: mutual_knn(a, b, k))
    run("cycle_knn", lambda: cycle_knn(a, b, k))
    for name, compare in (("lcs_knn", lcs), ("edit_distance_knn", levenshtein)):
        started = time.perf_counter()
        ids_a, ids_b = (neighbours(side, k).numpy() for side in (a, b))
        searched = time.perf_counter()
        mean = sum(compare(ids_a[i], ids_b[i]) for i in range(LOOPED)) / LOOPED
        looped = (time.perf_counter() - searched) * len(a) / LOOPED
        found[name] = (mean / k if compare is lcs else 1 - mean / k), searched - started + looped
    run("cka", lambda: cka(a, b))
    run("debiased_cka", lambda: debiased_cka(a, b))
    run("cknna", lambda: cknna(a, b, k))
    run("svcca", lambda: svcca(a, b))
    return found
