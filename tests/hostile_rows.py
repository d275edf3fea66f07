"""Rows that are hard to search: whole numbers, so that every order of sums in float32 gives the same similarities."""

from collections.abc import Callable
from math import isqrt

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from tests import twins

Rows = npt.NDArray[np.float32]
Draw = Callable[[np.random.Generator, int, int], Rows]


def sort_all(x: Rows, k: int, groups: npt.NDArray[np.int32] | None = None) -> npt.NDArray[np.intp]:
    """The slow twin: every similarity in float64, larger first and of equal ones the smaller id."""
    similarity = x.astype(np.float64) @ x.astype(np.float64).T
    owner = np.arange(len(x)) if groups is None else groups
    similarity[owner[:, None] == owner] = -np.inf
    return np.lexsort((np.broadcast_to(np.arange(len(x)), similarity.shape), -similarity), axis=1)[:, :k]


def draw_case(
    draw: Draw, n: int, d: int, seed: int, data: st.DataObject
) -> tuple[Rows, npt.NDArray[np.int32] | None, int]:
    """Rows, groups or none, and any k that they allow."""
    rng = np.random.default_rng(seed)
    x, groups = draw(rng, n, d), None
    if data.draw(st.booleans()):
        groups = rng.integers(0, data.draw(st.integers(2, n)), n).astype(np.int32)
        groups[:2] = [0, 1]
    k = data.draw(st.integers(1, n - (1 if groups is None else int(np.bincount(groups).max()))))
    return x, groups, k


def most(d: int) -> int:
    """Inner products of d whole numbers up to it are exact in float32; bfloat16 has not its bits but for many columns."""
    return isqrt(2**24 // d)


def near_ties(rng: np.random.Generator, n: int, d: int) -> Rows:
    """Similarities that differ by ones in millions."""
    return rng.integers(-most(d), most(d) + 1, size=(n, d)).astype(np.float32)


def tiny_gaps(rng: np.random.Generator, n: int, d: int) -> Rows:
    """One row, and what differs from it by ones in hundreds."""
    return (rng.integers(most(d) // 2, most(d), size=d) + rng.integers(-1, 2, size=(n, d))).astype(np.float32)


def clusters(rng: np.random.Generator, n: int, d: int) -> Rows:
    """Crowds of more rows than there are candidates, from so dense that no row certifies to so loose that all do."""
    size = most(d)
    centres = rng.integers(-size // 2, size // 2, size=(4, d))
    loose = np.array([1, size // 64, size // 16, size // 4])[:, None]
    crowd = rng.integers(0, 4, n)
    return (centres[crowd] + np.round(rng.uniform(-1, 1, (n, d)) * loose[crowd])).astype(np.float32)


def anisotropic(rng: np.random.Generator, n: int, d: int) -> Rows:
    """Directions about a common one: a mean cosine of 0.9."""
    size = most(d)
    common = np.where(rng.normal(size=d) > 0, 1, -1) * int(0.6 * size)
    return (common + rng.integers(-size // 3, size // 3, size=(n, d))).astype(np.float32)


def copies(rng: np.random.Generator, n: int, d: int) -> Rows:
    """Every row many times."""
    return near_ties(rng, max(1, n // 40), d)[rng.integers(0, max(1, n // 40), n)]


def some_zero(rng: np.random.Generator, n: int, d: int) -> Rows:
    """A third of all rows zero."""
    return near_ties(rng, n, d) * (rng.random((n, 1)) < 0.67).astype(np.float32)


def long_and_short(rng: np.random.Generator, n: int, d: int) -> Rows:
    """Lengths that differ as 1, 8 and 64."""
    return np.ldexp(np.round(near_ties(rng, n, d) / 64), -rng.integers(0, 3, size=(n, 1)) * 3)


HOSTILE = [near_ties, tiny_gaps, clusters, anisotropic, copies, some_zero, long_and_short]


def rounding_ties(rng: np.random.Generator, n: int, d: int) -> Rows:
    """Values halfway between two of bfloat16's, all rounded towards zero: the furthest that rounding goes."""
    return (np.where(rng.random((n, d)) < 0.5, -1, 1) * (1 + 2.0**-8)).astype(np.float32)


def almost_nothing(rng: np.random.Generator, n: int, d: int) -> Rows:
    """Values whose products a processor may take for zero."""
    return np.ldexp(rng.normal(size=(n, d)), rng.integers(-80, -30, size=(n, d))).astype(np.float32)


def normal(rng: np.random.Generator, n: int, d: int) -> Rows:
    return twins.unit_rows(rng.normal(size=(n, d))).astype(np.float32)
