"""Order of neighbours: inner products in one fixed order of summation, and the comparison of two neighbours.

Matrix products sum in an order that depends on the processor, the library, the number of threads and the position of a row in a
block; they are used only to propose candidates. The final order is computed here, by products that are summed in the same order
on every machine, and by one comparison. The product of two float32 values is exact in float64, so that fused and separate
multiply-adds give the same bits.
"""

from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from consilience.numerics.knn.tile_kernels import KeyArray, key_item, key_value
from consilience.numerics.rows.arrays import CountArray, Float32Array, Float64Array, IdArray

#: Id of no neighbour, at the end of an incomplete list; its similarity is minus infinity.
NO_NEIGHBOUR = -1

#: Number of partial sums in one vector, and number of vectors.
_WIDTH, _VECTORS = 8, 4
#: Number of columns of one step: column c is added to the partial sum c modulo this number.
_STEP = _WIDTH * _VECTORS

_SINGLES = nb.types.Array(nb.float32, 2, "C", readonly=True)
_IDS = nb.types.Array(nb.int32, 1, "C", readonly=True)
_LISTS = nb.types.Array(nb.int32, 2, "C", readonly=True)
_COUNTS = nb.types.Array(nb.int64, 1, "C", readonly=True)
_DOUBLES = nb.types.Array(nb.float64, 1, "C", readonly=True)
_KEYS = nb.types.Array(nb.uint64, 2, "A", readonly=True)


@intrinsic
def _sum_steps(_context: Any, _left: Any, _right: Any, _steps: Any) -> Any:
    """Sum the products of whole steps of columns of two rows that begin at the given addresses.

    Column c is added to partial sum c modulo 32, and the partial sums are added by halves. Plain numba keeps the partial sums
    in memory, which takes 1.7 to 2.1 times as long at 768 columns.
    """
    count = ir.IntType(64)
    doubles, singles = (ir.VectorType(kind(), _WIDTH) for kind in (ir.DoubleType, ir.FloatType))

    def load(builder: Any, address: Any, offset: Any) -> Any:
        values = builder.load(builder.inttoptr(builder.add(address, offset), singles.as_pointer()))
        values.align = 4
        return builder.fpext(values, doubles)

    def fold(builder: Any, sums: Any, width: int) -> Any:
        """Add the second half of the partial sums to the first until one is left."""
        while width > 1:
            width //= 2
            halves = [ir.Constant(ir.VectorType(ir.IntType(32), width), [*range(at, at + width)]) for at in (0, width)]
            sums = builder.fadd(*(builder.shuffle_vector(sums, sums, half) for half in halves))
        return builder.extract_element(sums, ir.IntType(32)(0))

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        left, right, steps = arguments
        before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
        zero = ir.Constant(doubles, [0.0] * _WIDTH)
        builder.cbranch(builder.icmp_signed(">", steps, count(0)), loop, after)
        builder.position_at_end(loop)
        step, sums = builder.phi(count), [builder.phi(doubles) for _ in range(_VECTORS)]
        following, added = builder.add(step, count(1)), []
        for vector, partial in enumerate(sums):
            offset = builder.add(builder.mul(step, count(4 * _STEP)), count(4 * _WIDTH * vector))
            product = builder.fmul(load(builder, left, offset), load(builder, right, offset), flags=["contract"])
            added.append(builder.fadd(product, partial, flags=["contract"]))
        for phi, first, last in zip([step, *sums], [count(0)] + [zero] * _VECTORS, [following, *added], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(last, loop)
        builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
        builder.position_at_end(after)
        total = []
        for new in added:
            found = builder.phi(doubles)
            found.add_incoming(zero, before)
            found.add_incoming(new, loop)
            total.append(found)
        while len(total) > 1:
            half = len(total) // 2
            total = [builder.fadd(one, other) for one, other in zip(total[:half], total[half:], strict=True)]
        return fold(builder, total[0], _WIDTH)

    return nb.float64(nb.uintp, nb.uintp, nb.int64), generate


# Helpers have no signature: they are compiled into the kernels and not loaded separately.


@nb.njit(nogil=True)
def inner_product(x: Float32Array, i: int | np.int64, y: Float32Array, j: int | np.int64) -> float:
    """Return the inner product of row i of x and row j of y in float64, with the same bits on every machine and if swapped.

    Parameters
    ----------
    x, y : arrays of shape (any, d), float32, C order
    """
    d = x.shape[1]
    steps = d // _STEP
    left, right = x.ctypes.data + 4 * d * np.int64(i), y.ctypes.data + 4 * d * np.int64(j)
    total: float = _sum_steps(np.uintp(left), np.uintp(right), steps)  # type: ignore[call-arg]  # numba adds one
    for c in range(_STEP * steps, d):
        total += np.float64(x[i, c]) * np.float64(y[j, c])
    return total


@nb.njit(nogil=True)
def precedes(similarity: float, item: int, other_similarity: float, other: int) -> bool:
    """Return True if a neighbour ranks before another one: by larger similarity, at equal similarity by smaller id.

    This is the only definition of the order of ties.
    """
    return similarity > other_similarity or (similarity == other_similarity and item < other)


@nb.njit(nogil=True)
def sort_neighbours(  # noqa: PLR0917 - numba takes arguments by position
    order: IdArray, first: int, last: int, similarities: Float64Array, items: IdArray, buffer: IdArray
) -> None:
    """Sort the numbers of neighbours in query, best first, by a merge sort that skips runs already in order.

    Parameters
    ----------
    order : array of numbers of neighbours; those from `first` to `last` are sorted
    similarities, items : arrays, by number
    buffer : array of half as many entries, which is overwritten
    """
    width = 1
    while width < last - first:
        for start in range(first, last - width, 2 * width):
            middle, stop = start + width, min(start + 2 * width, last)
            left, right = order[middle - 1], order[middle]
            if not precedes(similarities[right], items[right], similarities[left], items[left]):
                continue
            for t in range(width):
                buffer[t] = order[start + t]
            taken, to = 0, start
            while taken < width:
                left, right = buffer[taken], order[min(middle, stop - 1)]
                if middle < stop and precedes(similarities[right], items[right], similarities[left], items[left]):
                    order[to] = right
                    middle += 1
                else:
                    order[to] = left
                    taken += 1
                to += 1
        width *= 2


@nb.njit(nb.void(_SINGLES, nb.int64, nb.int64, nb.float64[::1]), cache=True, nogil=True)
def square_rows(x: Float32Array, start: int, stop: int, squares: Float64Array) -> None:
    """Compute the squared lengths of some rows."""
    for row in range(start, stop):
        squares[row] = inner_product(x, row, x, row)


@nb.njit(
    nb.void(
        *(_SINGLES, _IDS, _IDS, _KEYS, _COUNTS, _DOUBLES, nb.int64, nb.int64),
        *(nb.int32[:, ::1], nb.float32[:, ::1], nb.float64[::1]),
    ),
    cache=True,
    nogil=True,
)
def break_row_ties(  # noqa: PLR0917 - compiled code takes no keywords
    x: Float32Array,
    items: IdArray,
    rows: IdArray,
    keys: KeyArray,
    counts: CountArray,
    errors: Float64Array,
    start: int,
    stop: int,
    ids: IdArray,
    similarities: Float32Array,
    least: Float64Array,
) -> None:
    """Select and order the k nearest of the candidates of some rows, by exact inner products.

    Parameters
    ----------
    x : array of shape (r, d), the rows in memory
    items : array of shape (r,), the id of each of them
    rows : array of shape (m,), position of each query in x
    keys : array of shape (m, any): each query's candidates, most similar first; a key's id is the candidate's position in x
    counts : array of shape (m,), number of candidates of each query, at least k
    errors : array of shape (m,), error bound of a key's similarity
    start, stop : range of queries
    ids, similarities : arrays of shape (m, k), which receive the ids and similarities of the neighbours
    least : array of shape (m,), which receives the k-th similarity, not rounded
    """
    k, width = ids.shape[1], keys.shape[1]
    found, names = np.empty(width), np.empty(width, np.int32)
    order, buffer = np.empty(width, np.int32), np.empty(width, np.int32)
    for query in range(start, stop):
        count, limit = 0, -np.inf
        while count < counts[query] and key_value(keys[query, count]) >= limit:
            position, order[count] = key_item(keys[query, count]), count
            found[count], names[count] = inner_product(x, rows[query], x, position), items[position]
            count += 1
            if count == k:
                # A candidate further below the worst of k others than the error bound is not among the k best.
                limit = found[:k].min() - errors[query]
        sort_neighbours(order, 0, count, found, names, buffer)
        least[query] = found[order[k - 1]]
        for t in range(k):
            ids[query, t], similarities[query, t] = names[order[t]], found[order[t]]


@nb.njit(nb.void(nb.int32[:, :], nb.float64[:, :], nb.int32[:, :], nb.float64[:, :]), cache=True, nogil=True)
def merge_neighbours(
    ids: IdArray, similarities: Float64Array, other_ids: IdArray, other_similarities: Float64Array
) -> None:
    """Merge two sets of neighbours of some rows, both best first, in query; the result does not depend on their order."""
    n, k = ids.shape
    both, items = np.empty(2 * k), np.empty(2 * k, np.int32)
    order, buffer = np.empty(2 * k, np.int32), np.empty(2 * k, np.int32)
    for row in range(n):
        both[:k], both[k:] = similarities[row], other_similarities[row]
        items[:k], items[k:] = ids[row], other_ids[row]
        order[:] = np.arange(2 * k)
        sort_neighbours(order, 0, 2 * k, both, items, buffer)
        for t in range(k):
            similarities[row, t], ids[row, t] = both[order[t]], items[order[t]]


@nb.njit(
    nb.void(_SINGLES, _IDS, _LISTS, _LISTS, nb.int32[:, ::1], nb.float32[:, ::1]),
    cache=True,
    nogil=True,
)
def rank_rows(  # noqa: PLR0917 - the same
    x: Float32Array, rows: IdArray, positions: IdArray, names: IdArray, ids: IdArray, similarities: Float32Array
) -> None:
    """Select the k best of some rows' candidates, with -1 and minus infinity for missing ones.

    Parameters
    ----------
    rows : array of shape (m,), position of each query in x
    positions, names : arrays of shape (m, c), position of each candidate in x, and its id; -1 for none
    ids, similarities : arrays of shape (m, k)
    """
    width = names.shape[1]
    found, items = np.empty(width), np.empty(width, np.int32)
    order, buffer = np.empty(width, np.int32), np.empty(width, np.int32)
    for row in range(len(rows)):
        count = 0
        for t in range(width):
            if names[row, t] != NO_NEIGHBOUR:
                found[count], items[count] = inner_product(x, rows[row], x, positions[row, t]), names[row, t]
                order[count] = count
                count += 1
        sort_neighbours(order, 0, count, found, items, buffer)
        for t in range(ids.shape[1]):
            ids[row, t] = items[order[t]] if t < count else NO_NEIGHBOUR
            similarities[row, t] = found[order[t]] if t < count else -np.inf
