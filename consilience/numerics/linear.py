"""Linear kernels without their n x n matrices: every sum that centred statistics need, from the features."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from consilience.numerics.ahead import read_ahead
from consilience.numerics.arrays import Float64Array
from consilience.numerics.moments import (
    CentredRows,
    Dtype,
    FloatArray,
    OwnMoments,
    PairMoments,
    Step,
    centre,
    working_dtype,
)
from consilience.numerics.pair_sums import MatrixSums, PairRows
from consilience.numerics.pairwise import rounding_square
from consilience.numerics.parts import HERE, Parts, block_rows, split_rows
from consilience.numerics.permutations import Permutation
from consilience.numerics.rows import Rows


def linear_sums(own: OwnMoments) -> MatrixSums:
    """Sums of the centred linear kernel of one layer: its diagonal are the norms, its full row sums are 0."""
    n, d = len(own.norms), len(own.square)
    square = float(np.vdot(own.square, own.square)) - float(own.norms @ own.norms)
    noise = rounding_square(n, float(own.norms.mean()), working_dtype(float(n) * d**2))
    return MatrixSums(own.norms, -own.norms, square, noise)


def linear_product(
    cross: FloatArray, norms: tuple[Float64Array, Float64Array], permutation: Permutation | None = None
) -> float:
    """sum_{i != j} K[i, j] L[p(i), p(j)] = |Xc'Yc|^2 - sum_i |x_i|^2 |y_p(i)|^2, from Xc'Yc under the same relabelling."""
    of_a, of_b = norms
    return float(np.vdot(cross, cross)) - float(of_a @ (of_b if permutation is None else of_b[permutation]))


@dataclass(frozen=True)
class _Product:
    """Rows of K = Xc Xc' times rows of L = Yc Yc': what one pass over the rows needs.

    Attributes
    ----------
    sides : which of the two layers X and Y are
    cross : Xc'Yc
    pulls : Xc' and Yc' times the norms of the other layer
    """

    sides: tuple[int, int]
    cross: FloatArray
    pulls: tuple[FloatArray, FloatArray]

    @property
    def dtype(self) -> Dtype:
        return self.cross.dtype

    def row_sums(self, x: FloatArray, y: FloatArray) -> tuple[Float64Array, Float64Array, Float64Array]:
        """x_i' (Xc'Yc) y_i, and each kernel times the norms of the other layer."""
        product = np.einsum("ij,ij->i", x @ self.cross, y, dtype=np.float64)
        return product, (x @ self.pulls[0]).astype(np.float64), (y @ self.pulls[1]).astype(np.float64)


@dataclass(frozen=True)
class _Part:
    """Some rows of a pair of layers, and all products of them that are asked for."""

    rows: tuple[Rows, Rows]
    means: tuple[Float64Array, Float64Array]
    products: tuple[_Product, ...]
    span: slice


def linear_pair_rows(
    a: CentredRows,
    b: CentredRows,
    moments: PairMoments,
    *,
    debiased: bool,
    parts: Parts = HERE,
    step: Step | None = None,
) -> tuple[PairRows, PairRows, PairRows]:
    """Row sums of K with L, K with K and L with L, with the weights of the jackknife: O(n (p + q)^2), one pass.

    The weights are row sums without the diagonal for debiased statistics, which are -|x_i|^2, and with it else, which are 0.

    Parameters
    ----------
    moments : PairMoments of a and b, with those of each alone
    step : told the rows done and their number
    """
    if moments.a is None or moments.b is None:
        raise AssertionError("the moments of each layer alone are needed too")
    weight = -1.0 if debiased else 0.0
    crosses = (((0, 1), moments.cross), ((0, 0), moments.a.square), ((1, 1), moments.b.square))
    products = tuple(_prepare(sides, cross, moments, a.n) for sides, cross in crosses)
    sums = np.empty((len(products), 3, a.n))
    todo = [
        _Part((a.load(), b.load()), (a.mean, b.mean), products, span) for span in split_rows(a.n, max(a.dim, b.dim))
    ]
    for part, found in zip(todo, parts.map(_multiply, todo), strict=True):
        sums[:, :, part.span] = found
        if step is not None:
            step(part.span.stop, a.n)
    norms = moments.a.norms, moments.b.norms
    rows = []
    for (s, t), (product, left, right) in zip((sides for sides, _ in crosses), sums, strict=True):
        diagonal = norms[s] * norms[t]
        # Both chains hold the diagonal, which has no place in them: k_i w_i on either side.
        rows.append(PairRows(product - diagonal, weight * (left - diagonal), weight * (right - diagonal)))
    return rows[0], rows[1], rows[2]


def _prepare(sides: tuple[int, int], cross: FloatArray, moments: PairMoments, n: int) -> _Product:
    dtype = working_dtype(float(n) * cross.size)
    s, t = sides
    pulls = moments.chains[s][:, t].astype(dtype), moments.chains[t][:, s].astype(dtype)
    return _Product(sides, cross.astype(dtype), pulls)


def _multiply(part: _Part) -> Float64Array:
    """The row sums of each product: (products, 3, rows of the part)."""
    start = part.span.start
    sums = np.empty((len(part.products), 3, part.span.stop - start))
    step = block_rows(max(len(mean) for mean in part.means))
    for block, rows in read_ahead(partial(_read, part), part.span, step):
        local = slice(block.start - start, block.stop - start)
        for place, product in enumerate(part.products):
            s, t = product.sides
            sums[place, :, local] = product.row_sums(rows[s][product.dtype], rows[t][product.dtype])
    return sums


def _read(part: _Part, start: int, stop: int) -> list[dict[Dtype, FloatArray]]:
    """A block of both layers, centred in every type that a product needs."""
    dtypes = {product.dtype for product in part.products}
    raw = [(rows.read(start, stop), mean) for rows, mean in zip(part.rows, part.means, strict=True)]
    return [{dtype: centre(block, mean, dtype) for dtype in dtypes} for block, mean in raw]
