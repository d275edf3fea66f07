"""Error bounds of inner products of rows, for any order of summation."""

import numpy as np

from consilience.numerics.knn.order import square_rows
from consilience.numerics.rows.arrays import Float32Array, Float64Array
from consilience.numerics.rows.parallel import map_rows

#: Relative error of rounding to bfloat16: half of its spacing at 1.
BFLOAT16_ROUNDING = 2.0**-8
#: Relative error of a float32 sum: twice the rounding error, for processors that truncate sums.
FLOAT32_SUMMING = 2.0**-23
#: The same for sums rounded to nearest, plus a hundredth for higher-order terms in up to 160,000 columns.
NEAREST_SUMMING = 1.01 * 2.0**-24
#: Smallest normal float32: a processor may flush smaller values to 0.
TINY = 2.0**-126
#: Spacing of float64 at 1.
EPSILON = 2.0**-52


def measure_lengths(x: Float32Array) -> Float64Array:
    """Compute upper bounds of the lengths of rows."""
    n, d = x.shape
    squares = np.empty(n)
    map_rows(lambda part: square_rows(x, part.start, part.stop, squares), n, d)
    lengths: Float64Array = np.sqrt(squares) * (1 + d * EPSILON)
    return lengths


def bound_errors(left: Float64Array, right: Float64Array, dim: int) -> Float64Array:
    """Bound the errors of float32 products of some rows with any of other rows, from the lengths of both.

    The bound contains `dim` roundings of at most the product of the lengths (Higham 2002, 3.1), underflow, and four roundings
    for similarities and limits that are rounded themselves.
    """
    furthest = left * right.max()
    errors: Float64Array = (dim + 8) * (NEAREST_SUMMING + EPSILON) * furthest + dim * TINY * (2 + left + right.max())
    return errors
