"""Exact neighbour graphs whose candidates are found in bfloat16, several times faster where the processor has such products.

How far a product of rounded rows can be off is bounded. A row whose k-th true similarity exceeds by more than that whatever is
no candidate is certified; the few others are searched in float32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from typing import Self

import numba as nb
import numpy as np
import numpy.typing as npt

from consilience.limits import BEYOND_MAX, BEYOND_MIN
from consilience.numerics.knn.accelerated.lanes import LANES
from consilience.numerics.knn.graph import NeighbourGraph, find_exponent
from consilience.numerics.knn.queries import search_queries
from consilience.numerics.knn.symmetric import (
    Found,
    Pair,
    all_pairs,
    block_edges,
    build_symmetric,
    read_graph,
    run_pairs,
)
from consilience.numerics.knn.tile_kernels import NO_KEY, SELECTION, KeyArray, key_item, key_value, make_key, select
from consilience.numerics.neighbour_overlap.kernels import BoolArray, CountArray
from consilience.numerics.rows.arrays import Float32Array, Float64Array, IdArray
from consilience.numerics.rows.parallel import map_rows
from consilience.numerics.rows.prepared import ArrayRows

BitsArray = npt.NDArray[np.uint16]

_SINGLES = nb.types.Array(nb.float32, 2, "C", readonly=True)
_DOUBLES = nb.types.Array(nb.float64, 1, "C", readonly=True)
_COUNTS = nb.int64[::1]
_IDS = nb.types.Array(nb.int32, 1, "C", readonly=True)
_IDS_OF_ROWS = nb.types.Array(nb.int32, 2, "C", readonly=True)
_LOOSE = {"reassoc", "contract"}
_HALF, _ONE, _SHIFT = np.uint32(0x7FFF), np.uint32(1), np.uint32(16)


#: `select` for tiles of bfloat16, as bits.
select_rounded = nb.njit(nb.void(nb.uint16[:, ::1], *SELECTION), cache=True, nogil=True)(select.py_func)


@nb.njit(
    nb.void(_SINGLES, _DOUBLES, nb.int64, nb.int64, nb.uint16[:, ::1], nb.float64[:, ::1]),
    cache=True,
    nogil=True,
    fastmath=_LOOSE,
)
def round_rows(  # noqa: PLR0917 - numba takes arguments by position
    x: Float32Array, centre: Float64Array, start: int, stop: int, bits: BitsArray, measures: Float64Array
) -> None:
    """Subtract a centre from some rows and round them to bfloat16: to the nearest, of two equally near to the even one.

    Parameters
    ----------
    bits : array of shape (n, d or more), the rounded rows, zeros behind them
    measures : array of shape (4, n)
        Squared lengths of the centred row, of the rounded one and of their difference; the row's inner product with the centre.
    """
    for row in range(start, stop):
        whole = rounded = left = along = 0.0
        for c in range(x.shape[1]):
            value = np.float64(x[row, c]) - centre[c]
            word = np.float32(value).view(np.uint32)
            word = (word + _HALF + (word >> _SHIFT & _ONE)) >> _SHIFT
            bits[row, c] = np.uint16(word)
            near = np.float64(np.uint32(word << _SHIFT).view(np.float32))
            whole += value * value
            rounded += near * near
            left += (value - near) * (value - near)
            along += np.float64(x[row, c]) * centre[c]
        for c in range(x.shape[1], bits.shape[1]):
            bits[row, c] = 0
        measures[0, row], measures[1, row] = whole, rounded
        measures[2, row], measures[3, row] = left, along


@nb.njit(nogil=True, fastmath=_LOOSE)
def _decide(x: Float32Array, row: int, keys: KeyArray, first: int, last: int) -> None:
    """Give some of a row's keys the true similarities: summed in float64, then rounded; two at once hide the way to memory."""
    for t in range(first, last, 2):
        u = min(t + 1, last - 1)
        item, other = key_item(keys[t]), key_item(keys[u])
        total = total_other = 0.0
        for c in range(x.shape[1]):
            value = np.float64(x[row, c])
            total += value * np.float64(x[item, c])
            total_other += value * np.float64(x[other, c])
        keys[t] = make_key(np.float32(total), item)
        keys[u] = make_key(np.float32(total_other), other)


@nb.njit(
    nb.void(_SINGLES, _IDS, nb.uint64[:, :], _COUNTS, _DOUBLES, nb.int64, nb.int64, nb.int64), cache=True, nogil=True
)
def decide_rows(  # noqa: PLR0917 - the same
    x: Float32Array,
    rows: IdArray,
    keys: KeyArray,
    counts: CountArray,
    errors: Float64Array,
    k: int,
    start: int,
    stop: int,
) -> None:
    """Give some rows' candidates their true similarities; those that cannot be among the k best become `NO_KEY`.

    Parameters
    ----------
    rows : array of shape (m,), the rows' ids
    keys : array of shape (m, any): each row's candidates, most similar first
    counts : array of shape (m,), how many candidates each row has, at least k
    errors : array of shape (m,), how far a similarity that was found can be from the true one
    start, stop : places in these arrays
    """
    for place in range(start, stop):
        row, own, least = rows[place], keys[place], np.float32(np.inf)
        _decide(x, row, own, 0, k)
        for t in range(k):
            least = min(least, key_value(own[t]))
        last = k
        while last < counts[place] and key_value(own[last]) >= np.float64(least) - errors[place]:
            last += 1
        _decide(x, row, own, k, last)
        own[last : counts[place]] = NO_KEY


@nb.njit(
    nb.void(_SINGLES, _IDS_OF_ROWS, _COUNTS, nb.uint64[:, ::1], nb.int64, nb.int64),
    cache=True,
    nogil=True,
)
def make_keys(  # noqa: PLR0917 - the same
    similarities: Float32Array, ids: IdArray, counts: CountArray, keys: KeyArray, start: int, stop: int
) -> None:
    """Write the keys of some rows' candidates, `NO_KEY` after them."""
    for row in range(start, stop):
        for t in range(keys.shape[1]):
            keys[row, t] = make_key(similarities[row, t], ids[row, t]) if t < counts[row] else NO_KEY


BUILDER = "verified_bf16"
#: Rows whose mean is the centre.
CENTRE_ROWS = 4096
#: Largest share of rows that are searched one by one; beyond it half of all products is less.
SINGLE_MAX = 0.5

#: Values of bfloat16 in a line of the processor's cache.
LINE = 32
#: Half of the spacing of bfloat16 at 1: relative error of rounding to it.
ROUNDING = 2.0**-8
#: The same of float32, twice, for processors that cut sums off.
SUMMING = 2.0**-23
#: The least normal float32: below it, a processor may take 0.
TINY = 2.0**-126
#: The spacing of float64 at 1.
EPSILON = 2.0**-52


def build_certified(
    x: Float32Array, k_max: int, groups: IdArray | None = None, report: Callable[[int], None] | None = None
) -> NeighbourGraph:
    """Build the exact graph of the rows of x; the parameters are those of `neighbours.build_exact`.

    Returns
    -------
    NeighbourGraph, with the share of rows that were certified; O(n (k_max + d)) memory

    Notes
    -----
    With any vector c, y_i = x_i - c has s_ij = x_i . x_j = y_i . y_j + t_i + t_j for t_i = x_i . c - c . c / 2. Let z_i be y_i
    rounded to bfloat16, r_i = y_i - z_i what that leaves (|r_i| <= 2^-8 |y_i|), and v_ij what is found: z_i . z_j in float32,
    rounded to bfloat16, plus t_i + t_j. Then, for every j,

        |s_ij - v_ij| <= |r_i| max |y| + |z_i| max |r|      operands: y_i y_j - z_i z_j = r_i y_j + z_i r_j;
                                                            never above (2^-7 + 2^-16) |y_i| max |y|
                       + d 2^-23 |z_i| max |z|              sums in float32, in whatever order (Higham 2002, 3.1)
                       + 2^-8 |v_ij - t_i - t_j|            the product, rounded to bfloat16
                       + 2^-21 (|v_ij| + |t_i| + max |t|)   t and its sums in float32; s_ij rounded to float32
                       + d 2^-126 (2 + 2 max |z|)           what underflows

    and float64's rounding of what is measured. As a function of v it is convex: between the first candidate and the last one it
    stays below the larger of its values there. And v plus it grows with v: what the last candidate may truly be, nothing behind
    it can exceed.
    """
    n = len(x)
    if exponent := find_exponent(x):
        x = np.ldexp(x, exponent)
    kept = count_kept(k_max, n)
    rounded, items = round_centred(x), np.arange(n, dtype=np.int32)
    found = _search(rounded, items if groups is None else groups, kept, report)
    best = found.best()
    graph, certified = settle(x, items, best, found.counts, rounded=rounded, k=k_max)
    search_others(x, groups, graph, np.flatnonzero(~certified).astype(np.int32))
    if report is not None:
        report(n)
    return replace(graph, certified=float(certified.mean()))


def count_kept(k_max: int, n: int) -> int:
    """How many candidates a row has for its k_max neighbours."""
    return min(k_max + min(max(k_max, BEYOND_MIN), BEYOND_MAX), n)


@dataclass(frozen=True)
class Rounded:
    """Rows as they are multiplied: centred, in bfloat16.

    Attributes
    ----------
    values : array of shape (n, d), the bits of bfloat16, or float32; with columns of zeros behind. No rows, where they are
        rounded again when they are multiplied
    whole, rounded, left : arrays of shape (n,): |y|, |z| and |r| (see `build_certified`), not below the true ones
    shifts : array of shape (n,): t
    centre : |c|
    product : by how much of itself a product can be off for its rounding
    summing : by how much of |z_i| |z_j|, for each of d products, its sum can be off
    """

    values: BitsArray | Float32Array
    whole: Float64Array
    rounded: Float64Array
    left: Float64Array
    shifts: Float64Array
    centre: float
    product: float = ROUNDING
    summing: float = SUMMING

    @classmethod
    def of(cls, values: BitsArray, measures: Float64Array, centre: Float64Array, d: int) -> Self:
        """What follows from the measures of `round_rows`, of rows of d columns."""
        whole, rounded, left = np.sqrt(measures[:3]) * (1 + d * EPSILON)
        shifts = measures[3] - centre @ centre / 2
        return cls(values, whole, rounded, left, shifts, float(np.linalg.norm(centre)))

    def errors(self, rows: IdArray, ends: Float32Array) -> Float64Array:
        """How far some rows' similarities can be off, from the first candidate on, where `ends` has the first and the last."""
        d, t, all_t = self.values.shape[1], self.shifts[rows], self.shifts
        largest = np.abs(ends).max(axis=1).astype(np.float64)
        edges = (all_t.min(), all_t.max())
        furthest = np.max([np.abs(ends[:, end] - t - shift) for end in (0, 1) for shift in edges], axis=0)
        terms = (
            self.left[rows] * self.whole.max() + self.rounded[rows] * self.left.max(),
            d * self.summing * self.rounded[rows] * self.rounded.max(),
            self.product * furthest,
            4 * SUMMING * (largest + np.abs(t) + np.abs(all_t).max()),
            d * TINY * (2 + 2 * self.rounded.max()),
            4 * d * EPSILON * (self.whole.max() + self.centre) ** 2,
        )
        total: Float64Array = np.sum(np.broadcast_arrays(*terms), axis=0)
        return total


def round_centred(x: Float32Array) -> Rounded:
    """Centre rows and round them."""
    n, d = x.shape
    centre = x[:: max(1, n // CENTRE_ROWS)].mean(axis=0, dtype=np.float64)
    bits, measures = allocate(n, d), np.empty((4, n))
    map_rows(lambda part: round_rows(x, centre, part.start, part.stop, bits, measures), n, d)
    return Rounded.of(bits, measures, centre, d)


def allocate(n: int, d: int) -> BitsArray:
    """Rows that all begin where a line of the processor's cache does: else products take twice the time."""
    width = ceil(d / LINE) * LINE
    values = np.empty(n * width + LINE, np.uint16)
    first = -values.ctypes.data // values.itemsize % LINE
    return values[first : first + n * width].reshape(n, width)


def _search(rounded: Rounded, owner: IdArray, kept: int, report: Callable[[int], None] | None) -> Found:
    """Find the candidates of all rows."""
    n, edges = len(rounded.values), block_edges(len(rounded.values))
    found = Found(np.arange(n, dtype=np.int32), owner, kept)
    found.shifts[:n] = rounded.shifts
    pairs = all_pairs(len(edges) - 1)
    multiply_rounded(rounded.values, edges, pairs, found, lambda share: report and report(int(share * n)))
    return found


def multiply_rounded(
    rows: BitsArray | Float32Array,
    edges: Sequence[int],
    pairs: Sequence[Pair],
    found: Found,
    report: Callable[[float], None],
) -> None:
    """Multiply tiles of rows in bfloat16 and add them to what is found.

    Parameters
    ----------
    rows : array of shape (m, d), the bits of bfloat16
    edges : where the blocks begin among them, and the last one's end
    pairs : the tiles, by the numbers of their blocks
    report : told which share of the tiles is begun
    """
    import torch  # noqa: PLC0415 - it takes a second, and the float32 search must not need it

    values = torch.from_numpy(rows.view(np.int16)).view(torch.bfloat16)
    blocks = [values[start:stop] for start, stop in pairwise(edges)]

    def open_worker() -> Callable[[Pair], None]:
        torch.set_num_threads(1)
        buffer = torch.empty(max(map(len, blocks)) ** 2 + LANES, dtype=torch.bfloat16)
        bits = buffer.view(torch.int16).numpy().view(np.uint16)

        def work(pair: Pair) -> None:
            left, right = (blocks[block] for block in pair)
            size, shape = len(left) * len(right), (len(left), len(right))
            torch.mm(left, right.T, out=buffer[:size].view(shape))
            found.add(bits[:size].reshape(shape), edges[pair[0]], edges[pair[1]], select_rounded)

        return work

    threads = torch.get_num_threads()
    try:
        run_pairs(pairs, open_worker, report)
    finally:
        torch.set_num_threads(threads)


def settle(
    x: Float32Array, rows: IdArray, keys: KeyArray, counts: CountArray, *, rounded: Rounded, k: int
) -> tuple[NeighbourGraph, BoolArray]:
    """Decide among the candidates of some rows: their neighbours, and which of the rows are certified.

    Parameters
    ----------
    rows : array of shape (m,), int32
    keys : array of shape (m, kept): candidates, most similar first; they are lost
    counts : array of shape (m,), how many candidates each row has, at least k
    """
    kept, ends = keys.shape[1], find_ends(keys, counts)
    errors = rounded.errors(rows, ends)

    def decide(part: slice) -> None:
        decide_rows(x, rows, keys, counts, errors, k, part.start, part.stop)
        keys[part].sort(axis=1)

    map_rows(decide, len(rows), 2 * k * x.shape[1])
    graph = read_graph(keys[:, :k], BUILDER)
    # With room left among its candidates, a row has them all.
    return graph, (counts < kept) | (graph.similarities[:, -1] > ends[:, 1] + errors)


def find_ends(keys: KeyArray, counts: CountArray) -> Float32Array:
    """The similarities of each row's first candidate and of its last."""
    ends = np.stack([keys[:, 0], keys[np.arange(len(keys)), counts - 1]], axis=1)
    return read_graph(ends, BUILDER).similarities


def search_others(x: Float32Array, groups: IdArray | None, graph: NeighbourGraph, rows: IdArray) -> None:
    """Search some rows in float32, in place."""
    if len(rows) > SINGLE_MAX * len(x):
        whole = build_symmetric(x, graph.k_max, groups)
        graph.ids[rows], graph.similarities[rows] = whole.ids[rows], whole.similarities[rows]
    elif len(rows):
        found = search_queries(rows, ArrayRows(x), graph.k_max, groups=groups)
        graph.ids[rows], graph.similarities[rows] = found.ids[0], found.similarities[0]
