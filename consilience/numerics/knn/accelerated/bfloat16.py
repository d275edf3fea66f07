"""Verified bfloat16 search: exact neighbour graphs from bfloat16 candidates, several times faster on processors with AMX.

The error of a product of rounded rows is bounded. A row is verified if its k-th true similarity exceeds all non-candidates by
more than this bound; the few other rows are searched in float32.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil
from typing import cast

import numba as nb
import numpy as np
import numpy.typing as npt

from consilience.limits import BEYOND_MAX, BEYOND_MIN
from consilience.numerics.knn.accelerated.lanes import LANES
from consilience.numerics.knn.bounds import BFLOAT16_ROUNDING, EPSILON
from consilience.numerics.knn.graph import NeighbourGraph, find_exponent
from consilience.numerics.knn.symmetric import Pair, TileCandidates, all_pairs, block_edges, build_symmetric, run_pairs
from consilience.numerics.knn.tie_break import DecidedNeighbours, RoundedRows, break_ties, search_unverified
from consilience.numerics.knn.tile_kernels import SELECTION, select_from_tile
from consilience.numerics.rows.arrays import BoolArray, Float32Array, Float64Array, IdArray
from consilience.numerics.rows.parallel import map_rows
from consilience.numerics.rows.prepared import ArrayRows

BitsArray = npt.NDArray[np.uint16]

_SINGLES = nb.types.Array(nb.float32, 2, "C", readonly=True)
_DOUBLES = nb.types.Array(nb.float64, 1, "C", readonly=True)
_LOOSE = {"reassoc", "contract"}
_HALF, _ONE, _SHIFT = np.uint32(0x7FFF), np.uint32(1), np.uint32(16)


#: `select_from_tile` for tiles of bfloat16, as bits.
select_rounded = nb.njit(nb.void(nb.uint16[:, ::1], *SELECTION), cache=True, nogil=True)(select_from_tile.py_func)


@nb.njit(
    nb.void(_SINGLES, _DOUBLES, nb.int64, nb.int64, nb.uint16[:, ::1], nb.float64[:, ::1]),
    cache=True,
    nogil=True,
    fastmath=_LOOSE,
)
def round_rows(  # noqa: PLR0917 - numba takes arguments by position
    x: Float32Array, centre: Float64Array, start: int, stop: int, bits: BitsArray, measures: Float64Array
) -> None:
    """Subtract a centre from some rows and round them to bfloat16, to nearest, ties to even.

    Parameters
    ----------
    bits : array of shape (n, d or more), which receives the rounded rows, padded with zeros
    measures : array of shape (4, n)
        Receives the squared lengths of the centred row, the rounded one and their difference, and the row's inner product with
        the centre.
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


BUILDER = "verified_bf16"
#: Number of sampled rows whose mean is the centre.
CENTRE_ROWS = 4096
#: Largest share of unverified rows that are searched one by one; for more, the symmetric search takes less work.
UNVERIFIED_SHARE_MAX = 0.5

#: Number of bfloat16 values in a line of the processor's cache.
CACHE_LINE_VALUES = 32


def build_verified(
    x: Float32Array, k_max: int, groups: IdArray | None = None, report: Callable[[int], None] | None = None
) -> NeighbourGraph:
    """Build the exact graph of the rows of x by bfloat16 products; the parameters are those of `graph.build_exact`.

    Returns
    -------
    NeighbourGraph, with the share of verified rows; O(n (k_max + d)) memory

    Notes
    -----
    With any vector c, y_i = x_i - c has s_ij = x_i . x_j = y_i . y_j + t_i + t_j for t_i = x_i . c - c . c / 2. Let z_i be y_i
    rounded to bfloat16, r_i = y_i - z_i the remainder (|r_i| <= 2^-8 |y_i|), and v_ij the computed value: z_i . z_j in float32,
    rounded to bfloat16, plus t_i + t_j. Then, for every j,

        |s_ij - v_ij| <= |r_i| max |y| + |z_i| max |r|      operands: y_i y_j - z_i z_j = r_i y_j + z_i r_j;
                                                            never above (2^-7 + 2^-16) |y_i| max |y|
                       + d 2^-23 |z_i| max |z|              sums in float32, in any order (Higham 2002, 3.1)
                       + 2^-8 |v_ij - t_i - t_j|            the product, rounded to bfloat16
                       + 2^-21 (|v_ij| + |t_i| + max |t|)   t and its sums in float32; s_ij rounded to float32
                       + d 2^-126 (2 + 2 max |z|)           underflow

    plus the float64 rounding of the measured lengths. As a function of v, the bound is convex: between the first and the last
    candidate it is below the larger of its values at these. And v plus the bound grows with v: no row after the last candidate
    can exceed the upper bound of the last candidate.
    """
    n = len(x)
    if exponent := find_exponent(x):
        x = np.ldexp(x, exponent)
    kept = count_bfloat16_candidates(k_max, n)
    rounded, items = round_centred(x), np.arange(n, dtype=np.int32)
    found = _search(rounded, items if groups is None else groups, kept, report)
    best = found.best()
    decided, verified = break_ties(x, items, best, found.counts, rounded=rounded, k=k_max)
    search_unverified_float32(x, groups, decided, verified)
    if report is not None:
        report(n)
    return NeighbourGraph(decided.ids, decided.similarities, BUILDER, verified=float(verified.mean()))


def count_bfloat16_candidates(k_max: int, n: int) -> int:
    """Return the number of candidates of each row for k_max neighbours."""
    return min(k_max + min(max(k_max, BEYOND_MIN), BEYOND_MAX), n)


def round_centred(x: Float32Array) -> RoundedRows:
    """Centre rows and round them to bfloat16."""
    n, d = x.shape
    centre = x[:: max(1, n // CENTRE_ROWS)].mean(axis=0, dtype=np.float64)
    bits, measures = allocate_bits(n, d), np.empty((4, n))
    map_rows(lambda part: round_rows(x, centre, part.start, part.stop, bits, measures), n, d)
    return describe_rounding(bits, measures, centre, d)


def describe_rounding(bits: BitsArray, measures: Float64Array, centre: Float64Array, d: int) -> RoundedRows:
    """Compute the error terms of rows of d columns from the measures of `round_rows`."""
    whole, rounded, left = np.sqrt(measures[:3]) * (1 + d * EPSILON)
    shifts = measures[3] - centre @ centre / 2
    return RoundedRows(bits, whole, rounded, left, shifts, float(np.linalg.norm(centre)), BFLOAT16_ROUNDING)


def allocate_bits(n: int, d: int) -> BitsArray:
    """Allocate rows aligned to lines of the processor's cache; without alignment, products take twice the time."""
    width = ceil(d / CACHE_LINE_VALUES) * CACHE_LINE_VALUES
    values = np.empty(n * width + CACHE_LINE_VALUES, np.uint16)
    first = -values.ctypes.data // values.itemsize % CACHE_LINE_VALUES
    return values[first : first + n * width].reshape(n, width)


def _search(rounded: RoundedRows, owner: IdArray, kept: int, report: Callable[[int], None] | None) -> TileCandidates:
    """Find the candidates of all rows."""
    n, edges = len(rounded.values), block_edges(len(rounded.values))
    found = TileCandidates(np.arange(n, dtype=np.int32), owner, kept)
    found.shifts[:n] = rounded.shifts
    pairs = all_pairs(len(edges) - 1)
    bits = cast("BitsArray", rounded.values)
    multiply_rounded(bits, edges, pairs, found, lambda share: report and report(int(share * n)))
    return found


def multiply_rounded(
    rows: BitsArray,
    edges: Sequence[int],
    pairs: Sequence[Pair],
    found: TileCandidates,
    report: Callable[[float], None],
) -> None:
    """Multiply tiles of rows in bfloat16 and add them to the candidates.

    Parameters
    ----------
    rows : array of shape (m, d), the bits of bfloat16
    edges : starts of the blocks among them, and the end of the last
    pairs : the tiles, by the numbers of their blocks
    report : called with the share of the tiles started
    """
    import torch  # noqa: PLC0415 - takes a second, and the float32 search must not need it

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


def search_unverified_float32(
    x: Float32Array, groups: IdArray | None, found: DecidedNeighbours, verified: BoolArray
) -> None:
    """Search the unverified rows with float32 products, in place."""
    left = ~verified
    if left.mean() > UNVERIFIED_SHARE_MAX:
        whole = build_symmetric(x, found.ids.shape[1], groups)
        found.ids[left], found.similarities[left] = whole.ids[left], whole.similarities[left]
    else:
        search_unverified(ArrayRows(x), groups, found, verified)
