"""The closed-form law of T = sum_{i<j} A_ij B_p(i)p(j) under random relabelling, for weighted symmetric matrices.

Mantel's statistic, of which RSA is the normalised form. Its first three moments are exact: a power of T is a sum over pairs,
couples and triples of edges, and a random relabelling sends each to a random one that shares nodes in the same way.
"""

from dataclasses import dataclass
from math import comb, sqrt

import numpy as np
import numpy.typing as npt

from consilience.numerics.arrays import Float64Array
from consilience.numerics.nulls import NullLaw
from consilience.numerics.pairwise import StoredMatrix, blocks, draw_rows

#: Rows of a group from which triangles are counted; of more rows, a sample drawn with the seed stands for all.
TRIANGLE_ROWS = 1024


@dataclass(frozen=True)
class Shapes:
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
    sums: Shapes
    sets: Shapes


def count_matrix(n: int, groups: list[StoredMatrix], seed: int = 0) -> MantelCounts:
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
    return MantelCounts(n, Shapes(*total.tolist()), Shapes(*sets.tolist()))


def mantel_law(a: MantelCounts, b: MantelCounts) -> NullLaw:
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
    return NullLaw(0.0, sd * scale, third / sd**3 if sd > 0 else 0.0)


#: In how many orders the edges of a triple can play their parts: which one is double, in the middle or apart.
_ORDERS = np.array([1, 3, 3, 1, 3, 1, 3, 1])


def _expect(a: Float64Array, b: Float64Array, sets: Float64Array) -> float:
    possible = sets > 0
    return float((a[possible] * b[possible] / sets[possible]).sum())


def _close(s: Shapes) -> Float64Array:
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


def _sets(n: int) -> Shapes:
    """How many ordered sets of edges there are among n items."""
    edges, bends = float(comb(n, 2)), float(n * (n - 1) * (n - 2))
    return Shapes(edges, bends, edges, bends, bends, bends * (n - 3), bends * (n - 3))


def _scaled(counts: MantelCounts, n: int) -> Shapes:
    """The sums over all n items, from the means within the groups."""
    return Shapes(*(counts.sums.values() / counts.sets.values() * _sets(n).values()).tolist())


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


def _shapes(e: _Entries, triangles: float) -> Shapes:
    """Sum over each kind of set: over all, less those in which an edge comes twice."""
    cubes = float(e.cubes.sum())
    double_bend = float(e.squares @ e.rows) - cubes
    return Shapes(
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
