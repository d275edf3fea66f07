"""Rows that are hard to search: integers, so that every order of float32 sums gives the same similarities."""

from collections.abc import Callable
from math import isqrt

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from tests.reference_implementations import basic

Rows = npt.NDArray[np.float32]
Draw = Callable[[np.random.Generator, int, int], Rows]


def sort_all(x: Rows, k: int, groups: npt.NDArray[np.int32] | None = None) -> npt.NDArray[np.intp]:
    """Sort all similarities in float64: larger ones first, at ties the smaller id."""
    similarity = x.astype(np.float64) @ x.astype(np.float64).T
    owner = np.arange(len(x)) if groups is None else groups
    similarity[owner[:, None] == owner] = -np.inf
    return np.lexsort((np.broadcast_to(np.arange(len(x)), similarity.shape), -similarity), axis=1)[:, :k]


def draw_case(
    draw: Draw, n: int, d: int, seed: int, data: st.DataObject
) -> tuple[Rows, npt.NDArray[np.int32] | None, int]:
    """Draw rows, groups or none, and any k that they allow."""
    rng = np.random.default_rng(seed)
    x, groups = draw(rng, n, d), None
    if data.draw(st.booleans()):
        groups = rng.integers(0, data.draw(st.integers(2, n)), n).astype(np.int32)
        groups[:2] = [0, 1]
    k = data.draw(st.integers(1, n - (1 if groups is None else int(np.bincount(groups).max()))))
    return x, groups, k


def largest_exact(d: int) -> int:
    """Return the largest integer whose inner products of d columns are exact in float32 (for few columns, not in bfloat16)."""
    return isqrt(2**24 // d)


def near_ties(rng: np.random.Generator, n: int, d: int) -> Rows:
    """Draw rows with similarities that differ by ones in millions."""
    return rng.integers(-largest_exact(d), largest_exact(d) + 1, size=(n, d)).astype(np.float32)


def tiny_gaps(rng: np.random.Generator, n: int, d: int) -> Rows:
    """Draw rows that differ from one row by ones in hundreds."""
    return (rng.integers(largest_exact(d) // 2, largest_exact(d), size=d) + rng.integers(-1, 2, size=(n, d))).astype(
        np.float32
    )


def clusters(rng: np.random.Generator, n: int, d: int) -> Rows:
    """Draw clusters with more rows than candidates, from dense (no row is verified) to loose (all rows are)."""
    size = largest_exact(d)
    centres = rng.integers(-size // 2, size // 2, size=(4, d))
    loose = np.array([1, size // 64, size // 16, size // 4])[:, None]
    cluster = rng.integers(0, 4, n)
    return (centres[cluster] + np.round(rng.uniform(-1, 1, (n, d)) * loose[cluster])).astype(np.float32)


def anisotropic(rng: np.random.Generator, n: int, d: int) -> Rows:
    """Draw directions around a common one, with a mean cosine of 0.9."""
    size = largest_exact(d)
    common = np.where(rng.normal(size=d) > 0, 1, -1) * int(0.6 * size)
    return (common + rng.integers(-size // 3, size // 3, size=(n, d))).astype(np.float32)


def copies(rng: np.random.Generator, n: int, d: int) -> Rows:
    """Draw rows with many copies of each."""
    return near_ties(rng, max(1, n // 40), d)[rng.integers(0, max(1, n // 40), n)]


def some_zero_rows(rng: np.random.Generator, n: int, d: int) -> Rows:
    """Draw rows of which a third is zero."""
    return near_ties(rng, n, d) * (rng.random((n, 1)) < 0.67).astype(np.float32)


def long_and_short(rng: np.random.Generator, n: int, d: int) -> Rows:
    """Draw rows whose lengths have the ratios 1, 8 and 64."""
    return np.ldexp(np.round(near_ties(rng, n, d) / 64), -rng.integers(0, 3, size=(n, 1)) * 3)


HOSTILE = [near_ties, tiny_gaps, clusters, anisotropic, copies, some_zero_rows, long_and_short]


def rounding_ties(rng: np.random.Generator, n: int, d: int) -> Rows:
    """Draw values halfway between two bfloat16 values, all rounded towards zero: the largest rounding error."""
    return (np.where(rng.random((n, d)) < 0.5, -1, 1) * (1 + 2.0**-8)).astype(np.float32)


def underflowing(rng: np.random.Generator, n: int, d: int) -> Rows:
    """Draw values whose products a processor may flush to zero."""
    return np.ldexp(rng.normal(size=(n, d)), rng.integers(-80, -30, size=(n, d))).astype(np.float32)


def normal(rng: np.random.Generator, n: int, d: int) -> Rows:
    return basic.unit_rows(rng.normal(size=(n, d))).astype(np.float32)
