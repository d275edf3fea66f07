"""Representational similarity analysis: the correlation of two matrices of dissimilarities, over all pairs or within groups.

Where there are too many pairs, items are dealt at random to groups and every pair within a group is taken: each item is in as
many pairs as any other, and a group costs one matrix product, where pairs drawn one by one would cost a gather each.
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

#: Rows of a group from which triangles are counted; of more rows, a sample drawn with the seed stands for all.
TRIANGLE_ROWS = 1024


@dataclass(frozen=True)
class EdgePatterns:
    """One number for each way in which up to three edges can hang together; a letter is an edge, equal letters one edge.

    Attributes
    ----------
    double : a a
    bend : a b, sharing one node
    triple : a a a
    double_bend : a a b, sharing one node
    triangle : a b c
    path : a b c in a row, the second in the middle
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
        """All of them, in this order."""
        return np.array(list(vars(self).values()))


@dataclass(frozen=True)
class MantelCounts:
    """What the law needs of one matrix whose entries, over the pairs within its groups of items, have mean 0.

    Attributes
    ----------
    n : int
        Number of items.
    sums : Shapes
        The products of entries, summed over all such sets of edges within the groups.
    sets : Shapes
        How many sets there are.
    """

    n: int
    sums: EdgePatterns
    sets: EdgePatterns


def count_patterns(n: int, groups: list[StoredMatrix], seed: int = 0) -> MantelCounts:
    """Count a matrix known within disjoint groups of its n items; one group of all items is the whole matrix.

    O(g^2) a group of g items, and O(min(g, 1024)^3) for the triangles.
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
    """Give the law of r = T / sqrt(sum a^2 sum b^2) over all n! relabellings of b's items.

    Mean 0; standard deviation and skew are exact where b is one group (and n is at most 1024, or triangles are rare); with
    more groups the means over b's sets of edges within the groups stand for those over all its sets.

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


#: In how many orders the edges of a triple can play their parts: which one is double, in the middle or apart.
_ORDERS = np.array([1, 3, 3, 1, 3, 1, 3, 1])


def _expect(a: Float64Array, b: Float64Array, sets: Float64Array) -> float:
    possible = sets > 0
    return float((a[possible] * b[possible] / sets[possible]).sum())


def _close(s: EdgePatterns) -> Float64Array:
    """Add the sets that do not hang together: as all entries sum to 0, each follows from those that do.

    Couples: double, bend, apart. Triples: triple, double and bend, double and one apart, triangle, path, star, bend and one
    apart, all apart.
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
    """How many sets there are of each kind that `_close` gives."""
    s, edges = _sets(n), comb(n, 2)
    two_apart, bend_apart = edges * comb(n - 2, 2), s.bend * comb(n - 3, 2)
    couples = [s.double, s.bend, two_apart]
    triples = [s.triple, s.double_bend, two_apart, s.triangle, s.path, s.star, bend_apart]
    return np.array([*couples, *triples, two_apart * comb(n - 4, 2)], dtype=np.float64)


def _sets(n: int) -> EdgePatterns:
    """How many ordered sets of edges there are among n items."""
    edges, bends = float(comb(n, 2)), float(n * (n - 1) * (n - 2))
    return EdgePatterns(edges, bends, edges, bends, bends, bends * (n - 3), bends * (n - 3))


def _scaled(counts: MantelCounts, n: int) -> EdgePatterns:
    """The sums over all n items, from the means within the groups."""
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
    """Sum over each kind of set: over all, less those in which an edge comes twice."""
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
    """Trace of the cube of some rows and columns of a symmetric matrix."""
    chosen = matrix if len(rows) == len(matrix) else matrix[np.ix_(rows, rows)]
    return float(np.vdot((chosen @ chosen).astype(np.float64), chosen))


Distance = Literal["cosine", "euclidean", "correlation"]
RowNumbers = npt.NDArray[np.intp]
#: Levels that dissimilarities are told apart in when they are ranked, by the bytes of a number of the points: about what their
#: products resolve, so that equal ones stay ties.
_LEVELS = {4: 2.0**21, 8: 2.0**31}


def draw_groups(n: int, pairs: int | None, seed: int) -> list[RowNumbers]:
    """Deal n items to groups that hold at least so many pairs together; one group of all in order where None or all are."""
    size = n if pairs is None else min(n, 1 + ceil(2 * pairs / n))
    count = max(1, n // size)
    if count == 1:
        return [np.arange(n)]
    return [np.sort(group) for group in np.array_split(np.random.default_rng(seed).permutation(n), count)]


def find_points(
    x: Float32Array, distance: Distance, mean: Float64Array | None = None, rows: int | None = None
) -> FloatArray | None:
    """Turn rows into points whose angles or distances are the dissimilarities: see `pairwise.Entry`.

    cosine: rows scaled to length 1; correlation: after their own mean is taken off; euclidean: rows less the mean row.

    Parameters
    ----------
    x : array of shape (n, d), float32
    distance : "cosine", "euclidean" or "correlation"
    mean : array of shape (d,), float64, optional
        The mean row, where x are some rows of a layer.
    rows : int, optional
        The rows of the layer, where x are some of them.

    Returns
    -------
    array of shape (n, d), float32, or float64 where the work is small; None where a row has no direction
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
        # Taking off the mean leaves its rounding of a row of equal values.
        if (lengths <= 1e-12 * size).any():
            return None
        out[start : start + step] = block / lengths[:, None]
    return out


def points_dtype(n: int, d: int) -> Dtype:
    """Float64 where all pairs of a layer of that shape are little work."""
    return working_dtype(0.5 * n * n * d)


def fill_pairs(
    matrix: PairMatrix, groups: list[RowNumbers], out: list[FloatArray], *, ranked: bool
) -> list[StoredMatrix]:
    """Make each group's matrix of dissimilarities, or of their ranks over all groups' pairs, with a mean of 0 over pairs.

    Ties share their mean rank. O(n g d) time for groups of g.

    Parameters
    ----------
    out : one array of shape (g, g) for each group, which is written to and kept
    """
    plain = replace(matrix, shift=0.0) if ranked else matrix
    for ids, entries in zip(groups, out, strict=True):
        plain.take(ids).store(entries)
    return centre_pairs(out, matrix.shift, matrix.points.dtype, ranked=ranked)


def take_pairs(
    rows: Rows, points: Callable[[Float32Array], PairMatrix], groups: list[RowNumbers], out: list[FloatArray]
) -> None:
    """Write each group's dissimilarities, of rows that are read a few groups at a time.

    Parameters
    ----------
    points : makes the matrix of some rows
    """
    most = max(1, block_rows(rows.dim) // len(groups[0]))
    for start in range(0, len(groups), most):
        some = groups[start : start + most]
        matrix = points(rows.take(np.concatenate(some)))
        edges = np.cumsum([0, *(len(ids) for ids in some)])
        for place, (first, last) in enumerate(pairwise(edges.tolist())):
            matrix.take(np.arange(first, last)).store(out[start + place])


def centre_pairs(out: list[FloatArray], shift: float, dtype: Dtype, *, ranked: bool) -> list[StoredMatrix]:
    """Rank dissimilarities over all groups where asked, and take off their mean, in place."""
    packed = _pack(out)
    noise = 0.0 if ranked else len(packed) * rounding_square(2, shift, dtype)
    centred = rank(packed, dtype.itemsize) if ranked else packed - packed.mean(dtype=np.float64)
    _unpack(centred, out)
    return [StoredMatrix(entries, np.zeros(len(entries)), centred=False, noise=noise / len(out)) for entries in out]


def rank(values: FloatArray, item_bytes: int = 8) -> Float32Array:
    """Centred ranks of m values that are not below 0, ties sharing their mean; exact in float32 up to m = 2^24.

    Values closer than 2^-31 of the largest are ties (2^-21 where they came from numbers of 4 bytes).

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
    """Correlation with each item left out in turn, and with it all its pairs; ranks are kept as they are.

    Parameters
    ----------
    products : array of shape (3, n), float64
        Row sums of a b, a a and b b; their totals are the sums over all pairs, twice.
    rows : array of shape (2, n), float64
        Row sums of a and b.
    pairs : array of shape (n,), float64
        The number of pairs that each item is in.

    Returns
    -------
    array of shape (n,), float64, NaN where what is left does not vary
    """
    left = pairs.sum() - 2 * pairs
    of_a, of_b = rows.sum(axis=1, keepdims=True) - 2 * rows
    means = np.stack([of_a * of_b, of_a * of_a, of_b * of_b]) / left
    shared, own_a, own_b = products.sum(axis=1, keepdims=True) - 2 * products - means
    squared = own_a * own_b
    squared[(own_a <= 0) | (own_b <= 0)] = np.nan
    return np.asarray(shared / np.sqrt(squared))
