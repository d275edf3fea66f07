"""Representational similarity analysis (RSA): the correlation of two dissimilarity matrices, over all pairs or within groups.

If there are too many pairs, items are split at random into groups and all pairs within a group are used: every item is in the
same number of pairs, and a group takes one matrix product, whereas pairs drawn one by one would take one gather each.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, comb, sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt

from consilience.limits import BLOCK_ROWS
from consilience.numerics.kernels import matrices
from consilience.numerics.kernels.matrices import PairMatrix, StoredMatrix, blocks, draw_rows, mirror, rounding_square
from consilience.numerics.rows.arrays import Float32Array, Float64Array
from consilience.numerics.rows.parallel import block_rows
from consilience.numerics.rows.prepared import Rows
from consilience.numerics.stats.nulls import PearsonNull
from consilience.numerics.subspaces.moments import Dtype, FloatArray, working_dtype

#: Largest number of rows of a group for counting triangles; of larger groups, a sample drawn with the seed is counted.
TRIANGLE_ROWS = 1024


@dataclass(frozen=True)
class EdgePatterns:
    """One number for each pattern in which two or three edges can share nodes; equal letters are the same edge.

    Attributes
    ----------
    double : a a
    bend : a b, sharing one node
    triple : a a a
    double_bend : a a b, sharing one node
    triangle : a b c
    path : a b c in a chain, the second in the middle
    star : a b c, sharing one node
    """

    double: float
    bend: float
    triple: float
    double_bend: float
    triangle: float
    path: float
    star: float

    def values(self) -> Float64Array:
        """Return all numbers, in the order of the attributes."""
        return np.array(list(vars(self).values()))


@dataclass(frozen=True)
class MantelCounts:
    """Sums for Mantel's null distribution, of one matrix whose entries have mean 0 over the pairs within its groups of items.

    Attributes
    ----------
    n : int
        Number of items.
    sums : Shapes
        Products of entries, summed over all sets of edges of each pattern within the groups.
    sets : Shapes
        Number of sets of each pattern.
    """

    n: int
    sums: EdgePatterns
    sets: EdgePatterns


def count_patterns(n: int, groups: list[StoredMatrix], seed: int = 0) -> MantelCounts:
    """Compute the sums of a matrix known within disjoint groups of its n items (one group of all items: the whole matrix).

    O(g^2) for a group of g items, and O(min(g, 1024)^3) for the triangles.
    """
    total, sets = np.zeros(7), np.zeros(7)
    for group in groups:
        size = group.n
        entries = _add_up(group.entries)
        sample = draw_rows(size, TRIANGLE_ROWS, seed)
        triangles, share = _trace_cube(group.entries, sample), _sets(len(sample)).triangle
        total += _shapes(entries, triangles * _sets(size).triangle / share).values()
        sets += _sets(size).values()
    return MantelCounts(n, EdgePatterns(*total.tolist()), EdgePatterns(*sets.tolist()))


def mantel_null(a: MantelCounts, b: MantelCounts) -> PearsonNull:
    """Return the distribution of r = T / sqrt(sum a^2 sum b^2) over all n! permutations of b's items.

    Mean 0; standard deviation and skew are exact if b is one group (and n is at most 1024, or triangles are rare); with
    more groups, means over b's sets of edges within the groups estimate those over all its sets.

    References
    ----------
    Mantel 1967, Cancer Research 27:209-220; third moment: Siemiatycki 1978, Journal of Mathematical Biology 6:217-225.
    """
    n = a.n
    of_a, of_b = _close(a.sums), _close(_scaled(b, n))
    count = _close_sets(n)
    second = _expect(of_a[:3], of_b[:3], count[:3])
    third = _expect(of_a[3:], of_b[3:], count[3:] / _ORDERS)
    sd = sqrt(max(0.0, second))
    scale = 1 / sqrt(a.sums.double * b.sums.double)
    return PearsonNull(0.0, sd * scale, third / sd**3 if sd > 0 else 0.0)


#: Number of orders of the edges of a triple: which one is double, in the middle or separate.
_ORDERS = np.array([1, 3, 3, 1, 3, 1, 3, 1])


def _expect(a: Float64Array, b: Float64Array, sets: Float64Array) -> float:
    possible = sets > 0
    return float((a[possible] * b[possible] / sets[possible]).sum())


def _close(s: EdgePatterns) -> Float64Array:
    """Add the patterns of edges that share no nodes: as all entries sum to 0, each follows from the others.

    Pairs: double, bend, disjoint. Triples: triple, double and bend, double and one disjoint, triangle, path, star, bend and
    one disjoint, all disjoint.
    """
    apart = -s.double - s.bend
    double_apart = -s.triple - s.double_bend
    bend_apart = -2 * s.double_bend - s.triangle - s.star - 2 * s.path
    all_apart = -(s.triple + 3 * s.double_bend + 3 * double_apart + s.triangle + 3 * s.path + s.star + 3 * bend_apart)
    couples = [s.double, s.bend, apart]
    return np.array([
        *couples, s.triple, s.double_bend, double_apart, s.triangle, s.path, s.star, bend_apart, all_apart
    ])  # fmt: skip


def _close_sets(n: int) -> Float64Array:
    """Return the number of sets of each pattern of `_close`."""
    s, edges = _sets(n), comb(n, 2)
    two_apart, bend_apart = edges * comb(n - 2, 2), s.bend * comb(n - 3, 2)
    couples = [s.double, s.bend, two_apart]
    triples = [s.triple, s.double_bend, two_apart, s.triangle, s.path, s.star, bend_apart]
    return np.array([*couples, *triples, two_apart * comb(n - 4, 2)], dtype=np.float64)


def _sets(n: int) -> EdgePatterns:
    """Return the number of ordered sets of edges of each pattern among n items."""
    edges, bends = float(comb(n, 2)), float(n * (n - 1) * (n - 2))
    return EdgePatterns(edges, bends, edges, bends, bends, bends * (n - 3), bends * (n - 3))


def _scaled(counts: MantelCounts, n: int) -> EdgePatterns:
    """Estimate the sums over all n items from the means within the groups."""
    return EdgePatterns(*(counts.sums.values() / counts.sets.values() * _sets(n).values()).tolist())


@dataclass(frozen=True)
class _Entries:
    """Row sums of a symmetric matrix, of its squares and of its cubes, and o'Ao with the row sums o."""

    rows: Float64Array
    squares: Float64Array
    cubes: Float64Array
    chain: float


def _add_up(matrix: npt.NDArray[np.floating]) -> _Entries:
    n = len(matrix)
    rows = matrix.sum(axis=1, dtype=np.float64)
    squares, cubes, chain = np.empty(n), np.empty(n), 0.0
    for start, stop in blocks(n, 256):
        block = matrix[start:stop].astype(np.float64)
        power = block * block
        squares[start:stop] = power.sum(axis=1)
        power *= block
        cubes[start:stop] = power.sum(axis=1)
        chain += float(rows[start:stop] @ (block @ rows))
    return _Entries(rows, squares, cubes, chain)


def _shapes(e: _Entries, triangles: float) -> EdgePatterns:
    """Sum over the sets of each pattern: over all combinations, less those in which an edge is repeated."""
    cubes = float(e.cubes.sum())
    double_bend = float(e.squares @ e.rows) - cubes
    return EdgePatterns(
        double=float(e.squares.sum()) / 2,
        bend=float((e.rows**2 - e.squares).sum()),
        triple=cubes / 2,
        double_bend=double_bend,
        triangle=triangles,
        path=e.chain - 2 * float(e.squares @ e.rows) + cubes - triangles,
        star=float((e.rows**3 - 3 * e.rows * e.squares + 2 * e.cubes).sum()),
    )


def _trace_cube(matrix: npt.NDArray[np.floating], rows: npt.NDArray[np.intp]) -> float:
    """Return the trace of the cube of a symmetric matrix restricted to some rows and columns."""
    chosen = matrix if len(rows) == len(matrix) else matrix[np.ix_(rows, rows)]
    return float(np.vdot((chosen @ chosen).astype(np.float64), chosen))


Distance = Literal["cosine", "euclidean", "correlation"]
RowNumbers = npt.NDArray[np.intp]
#: Number of levels to which dissimilarities are quantised for ranking, by the bytes of a value of the points: about the
#: resolution of their products, so that equal ones stay ties.
_LEVELS = {4: 2.0**21, 8: 2.0**31}


def draw_groups(n: int, pairs: int | None, seed: int) -> list[RowNumbers]:
    """Split n items at random into groups with at least `pairs` pairs in total; one group of all items if None or not fewer."""
    size = n if pairs is None else min(n, 1 + ceil(2 * pairs / n))
    count = max(1, n // size)
    if count == 1:
        return [np.arange(n)]
    return [np.sort(group) for group in np.array_split(np.random.default_rng(seed).permutation(n), count)]


def find_points(
    x: Float32Array, distance: Distance, mean: Float64Array | None = None, rows: int | None = None
) -> FloatArray | None:
    """Convert rows to points whose angles or distances are the dissimilarities: see `matrices.Entry`.

    cosine: rows scaled to length 1; correlation: the same after subtracting each row's mean; euclidean: rows less the mean row.

    Parameters
    ----------
    x : array of shape (n, d), float32
    distance : "cosine", "euclidean" or "correlation"
    mean : array of shape (d,), float64, optional
        The mean row, if x is some rows of a layer.
    rows : int, optional
        Number of rows of the layer, if x is some of them.

    Returns
    -------
    array of shape (n, d), float32, or float64 if the work is small; None if a row has no direction
    """
    n, d = x.shape
    out = np.empty((n, d), points_dtype(rows or n, d))
    mean = x.mean(axis=0, dtype=np.float64) if mean is None else mean
    step = max(1, BLOCK_ROWS * 32 // d)
    for start in range(0, n, step):
        block = x[start : start + step].astype(np.float64)
        if distance == "euclidean":
            out[start : start + step] = block - mean
            continue
        size = np.abs(block).max(axis=1)
        if distance == "correlation":
            block -= block.mean(axis=1, keepdims=True)
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
        # Subtracting the mean of a row of equal values leaves only rounding.
        if (lengths <= 1e-12 * size).any():
            return None
        out[start : start + step] = block / lengths[:, None]
    return out


def points_dtype(n: int, d: int) -> Dtype:
    """Return float64 if all pairs of a layer of this shape take little work, else float32."""
    return working_dtype(0.5 * n * n * d)


def fill_pairs(
    matrix: PairMatrix, groups: list[RowNumbers], out: list[FloatArray], *, ranked: bool
) -> list[StoredMatrix]:
    """Compute each group's matrix of dissimilarities, or of their ranks over all groups' pairs, with mean 0 over pairs.

    Ties share their mean rank. O(n g d) time for groups of g.

    Parameters
    ----------
    out : one array of shape (g, g) for each group, which receives the result
    """
    plain = replace(matrix, shift=0.0) if ranked else matrix
    for ids, entries in zip(groups, out, strict=True):
        plain.take(ids).store(entries)
    return centre_pairs(out, matrix.shift, matrix.points.dtype, ranked=ranked)


def take_pairs(
    rows: Rows, points: Callable[[Float32Array], PairMatrix], groups: list[RowNumbers], out: list[FloatArray]
) -> None:
    """Write each group's dissimilarities, reading the rows of a few groups at a time.

    Parameters
    ----------
    points : function from some rows to their matrix
    """
    most = max(1, block_rows(rows.dim) // len(groups[0]))
    for start in range(0, len(groups), most):
        some = groups[start : start + most]
        matrix = points(rows.take(np.concatenate(some)))
        edges = np.cumsum([0, *(len(ids) for ids in some)])
        for index, (first, last) in enumerate(pairwise(edges.tolist())):
            matrix.take(np.arange(first, last)).store(out[start + index])


def centre_pairs(out: list[FloatArray], shift: float, dtype: Dtype, *, ranked: bool) -> list[StoredMatrix]:
    """Centre dissimilarities over all groups in place, after ranking them if `ranked`."""
    packed = _pack(out)
    noise = 0.0 if ranked else len(packed) * rounding_square(2, shift, dtype)
    centred = rank(packed, dtype.itemsize) if ranked else packed - packed.mean(dtype=np.float64)
    _unpack(centred, out)
    return [StoredMatrix(entries, np.zeros(len(entries)), centred=False, noise=noise / len(out)) for entries in out]


def rank(values: FloatArray, item_bytes: int = 8) -> Float32Array:
    """Return the centred ranks of m non-negative values, ties sharing their mean; exact in float32 up to m = 2^24.

    Values closer than 2^-31 of the largest are ties (2^-21 if computed from values of 4 bytes).

    Examples
    --------
    >>> rank(np.array([0.5, 0.1, 0.5, 0.9]))
    array([ 0. , -1.5,  0. ,  1.5], dtype=float32)
    """
    largest = float(values.max())
    ranks = np.zeros(len(values), np.float32)
    if largest > 0:
        keys = (values * (_LEVELS[item_bytes] / largest) + 0.5).astype(np.uint64)
        keys <<= np.uint64(32)
        keys |= np.arange(len(values), dtype=np.uint64)
        keys.sort()
        matrices.rank_sorted(keys, ranks)
    return ranks


def _pack(entries: list[FloatArray]) -> FloatArray:
    return np.concatenate([row[:i] for group in entries for i, row in enumerate(group)])


def _unpack(values: FloatArray, entries: list[FloatArray]) -> None:
    start = 0
    for group in entries:
        for i in range(1, len(group)):
            group[i, :i] = values[start : start + i]
            start += i
        mirror(group)


def rsa(product: float, square_a: float, square_b: float) -> float:
    """Correlation of two sets of dissimilarities, or of their ranks.

    r = sum_{i<j} a_ij b_ij / sqrt(sum a^2 sum b^2), a and b with mean 0 over the pairs. Symmetric, in [-1, 1], 0 at chance.

    Parameters
    ----------
    product, square_a, square_b : float
        The sums, over the same pairs; squares above 0.

    References
    ----------
    Kriegeskorte et al. 2008, Frontiers in Systems Neuroscience 2:4.

    Examples
    --------
    >>> rsa(3.0, 4.0, 9.0)
    0.5
    """
    return product / sqrt(square_a * square_b)


def rsa_without_each(products: Float64Array, rows: Float64Array, pairs: Float64Array) -> Float64Array:
    """Compute the correlation with each item and all its pairs left out in turn; ranks are not recomputed.

    Parameters
    ----------
    products : array of shape (3, n), float64
        Row sums of a b, a a and b b; their totals are twice the sums over all pairs.
    rows : array of shape (2, n), float64
        Row sums of a and b.
    pairs : array of shape (n,), float64
        Number of pairs that contain each item.

    Returns
    -------
    array of shape (n,), float64, NaN if the remaining entries are constant
    """
    left = pairs.sum() - 2 * pairs
    of_a, of_b = rows.sum(axis=1, keepdims=True) - 2 * rows
    means = np.stack([of_a * of_b, of_a * of_a, of_b * of_b]) / left
    shared, own_a, own_b = products.sum(axis=1, keepdims=True) - 2 * products - means
    squared = own_a * own_b
    squared[(own_a <= 0) | (own_b <= 0)] = np.nan
    return np.asarray(shared / np.sqrt(squared))
