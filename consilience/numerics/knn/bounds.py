"""How far products of rows can be off, in whatever order they are summed."""

import numpy as np

from consilience.numerics.knn.order import square_rows
from consilience.numerics.rows.arrays import Float32Array, Float64Array
from consilience.numerics.rows.parallel import map_rows

#: Half of the spacing of bfloat16 at 1: relative error of rounding to it.
BFLOAT16_ROUNDING = 2.0**-8
#: The same of float32, twice, for processors that cut sums off.
FLOAT32_SUMMING = 2.0**-23
#: Of float32 where sums are rounded to nearest, and a hundredth for what roundings of roundings add in up to 160,000 columns.
NEAREST_SUMMING = 1.01 * 2.0**-24
#: The least normal float32: below it, a processor may take 0.
TINY = 2.0**-126
#: The spacing of float64 at 1.
EPSILON = 2.0**-52


def measure_lengths(x: Float32Array) -> Float64Array:
    """Lengths of rows, not below the true ones."""
    n, d = x.shape
    squares = np.empty(n)
    map_rows(lambda part: square_rows(x, part.start, part.stop, squares), n, d)
    lengths: Float64Array = np.sqrt(squares) * (1 + d * EPSILON)
    return lengths


def bound_errors(left: Float64Array, right: Float64Array, dim: int) -> Float64Array:
    """How far float32 products of some rows with any of others can be off, from the lengths of both.

    That is `dim` roundings of at most the product of the lengths (Higham 2002, 3.1), what underflows, and four roundings for
    similarities and limits that are rounded themselves.
    """
    furthest = left * right.max()
    errors: Float64Array = (dim + 8) * (NEAREST_SUMMING + EPSILON) * furthest + dim * TINY * (2 + left + right.max())
    return errors
