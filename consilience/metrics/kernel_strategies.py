"""Strategies for the sums and products that metrics of centred n x n matrices need, for all layer pairs at once.

Linear kernels are compared through the features, O(n p q) for each pair, or through blocks of their n x n matrices, O(n^2 d)
for each layer and O(n^2) for each pair, whichever is less work for the grid; other kernels always through blocks. Matrices that
fit in memory are stored: for permutations, and for the values themselves if they are smaller than the rows. A single pair of
linear kernels of few rows is stored packed.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from consilience.contract.scores import Reason
from consilience.limits import MATRICES_BYTES, POINTS_BYTES
from consilience.metrics.comparison import Cell, Comparison, LayerRef
from consilience.metrics.graph_sources import RowsKey
from consilience.metrics.sides import CacheKey, PreparedSide
from consilience.numerics.kernels import matrices as pairwise
from consilience.numerics.kernels.cka import jackknife_weights
from consilience.numerics.kernels.linear import PackedKernel, linear_product, linear_product_row_sums, linear_sums
from consilience.numerics.kernels.matrices import (
    LowerMatrix,
    MatrixSums,
    PairMatrix,
    ProductRowSums,
    StoredMatrix,
    find_product_row_sums,
    find_sums,
    permuted_products,
    triangle_share,
)
from consilience.numerics.rows.arrays import Float64Array
from consilience.numerics.stats.nulls import Permutation
from consilience.numerics.subspaces.moments import (
    CentredRows,
    FloatArray,
    PairMoments,
    RowProgress,
    find_moments,
    find_own_moments,
    working_dtype,
)

#: Number of rows up to which stored matrices are float64.
EXACT_ROWS = 512
#: Number of rows above which the skew of a null distribution is computed from a sample of this size.
SKEW_ROWS = 1024
#: Number of rows up to which one pair of layers is compared through packed linear kernels, 8 MB each.
PACKED_ROWS = 2048
#: Measured cost of a multiply-add in a block of a kernel, and in the product of two kernels, relative to a plain product.
_BLOCK_COST, _ENTRY_COST = 0.75, 4.0


@dataclass(frozen=True)
class Kernel:
    """Kind of the matrix of each layer: linear, Gaussian with a width, or Euclidean distances."""

    entry: Literal["inner", "gaussian", "distance"]
    sigma: float | Literal["median"] = 1.0


@dataclass(frozen=True)
class MedianDistanceKey(CacheKey[float]):
    """Median distance between the rows of a layer."""


@dataclass(frozen=True)
class TrianglesKey(CacheKey[float]):
    """Share of triangles of a layer's matrix."""

    kernel: Kernel


@dataclass(frozen=True)
class PackedKey(CacheKey[PackedKernel]):
    """Packed linear kernel of a layer; the seed counts only if its triangles are sampled."""

    seed: int | None


@dataclass(frozen=True)
class StoredPackedKey:
    """Key of a packed linear kernel in a store."""

    rows: RowsKey
    seed: int | None

    @property
    def address(self) -> str:
        """Text of the key."""
        return f"linear kernel{'' if self.seed is None else f' seed={self.seed}'} of {self.rows.address}"


class KernelLayers:
    """The layers of both sides under one kernel."""

    def __init__(self, comparison: Comparison, kernel: Kernel) -> None:
        self.a, self.b, self.shape = comparison.a, comparison.b, comparison.shape
        self.n, self.seed, self.kernel = comparison.n, comparison.seed, kernel
        self._report = comparison.report

    def side(self, layer: LayerRef) -> PreparedSide:
        """Side of a layer."""
        return self.a if layer.side == "a" else self.b

    def dims(self, layers: Sequence[LayerRef]) -> list[int]:
        """Return the number of columns of some layers."""
        return [self.side(layer).layers[layer.index].dim for layer in layers]

    @cached_property
    def defined(self) -> tuple[list[LayerRef], list[LayerRef]]:
        """The layers of each side that have a matrix."""
        of_a = [LayerRef("a", i) for i in range(self.shape[0]) if self.reason(self.a, i) is None]
        of_b = [LayerRef("b", j) for j in range(self.shape[1]) if self.reason(self.b, j) is None]
        return of_a, of_b

    def reason(self, side: PreparedSide, index: int) -> Reason | None:
        """Reason why a layer has no matrix; None if it has one."""
        reason = side.reason(index)
        if reason is None and self.kernel.sigma == "median" and self._sigma(side, index) == 0:
            name = side.layers[index].name
            return Reason(
                code="zero-median-distance",
                detail=f"Half of the pairs of rows of layer {name} are equal: the kernel's width, their median distance, is 0.",
            )
        return reason

    def _sigma(self, side: PreparedSide, index: int) -> float:
        if self.kernel.sigma != "median":
            return self.kernel.sigma
        seed = self.seed
        return side.memoize(index, MedianDistanceKey(), lambda: pairwise.median_distance(side.centred(index), seed))

    def matrix(self, layer: LayerRef) -> PairMatrix:
        """Return the matrix of one layer, whose blocks are computed when they are read."""
        side, index = self.side(layer), layer.index
        points = pairwise.centre_rows(side.rows.array(index), side.centred(index).mean)
        return pairwise.pair_matrix(points, self.kernel.entry, self._sigma(side, index), seed=self.seed)

    def triangles(self, layer: LayerRef) -> float:
        """Share of triangles of a layer's matrix, from at most 1024 rows sampled with the seed: see `triangle_share`."""
        side, index = self.side(layer), layer.index

        def find() -> float:
            rows = pairwise.draw_rows(self.n, SKEW_ROWS, self.seed)
            if self.kernel.entry == "inner":
                points = side.centred(index).take(rows, np.dtype(np.float32))
                return triangle_share(pairwise.pair_matrix(points, "inner"))
            return triangle_share(self.matrix(layer).take(rows))

        return side.memoize(index, TrianglesKey(self.kernel), find)

    def empty_grid(self) -> Float64Array:
        """Return a grid of all layer pairs without values."""
        return np.full(self.shape, np.nan)

    def indexes(self, of_a: Sequence[LayerRef], of_b: Sequence[LayerRef]) -> tuple[np.ndarray, ...]:
        """Index of some layers' pairs in the grid."""
        return np.ix_([layer.index for layer in of_a], [layer.index for layer in of_b])

    def progress(self, done: int, total: int) -> RowProgress:
        """Progress of one of several passes over the rows."""
        return lambda rows, n: self._report("kernels", done * n + rows, total * n)

    def report(self, done: int, total: int) -> None:
        """Report progress in layers."""
        self._report("kernels", done, total)


class StoredMatrices:
    """The n x n matrices of all layers in memory, those of each side in one array."""

    def __init__(self, layers: KernelLayers) -> None:
        self._layers = layers

    @cached_property
    def _stacks(self) -> tuple[tuple[FloatArray, FloatArray], dict[LayerRef, StoredMatrix]]:
        stored: dict[LayerRef, StoredMatrix] = {}
        of_a, of_b = self._layers.defined
        return (self._stack(of_a, stored), self._stack(of_b, stored)), stored

    def _stack(self, layers: Sequence[LayerRef], stored: dict[LayerRef, StoredMatrix]) -> FloatArray:
        n = self._layers.n
        stack = np.empty((len(layers), n, n), np.float64 if n <= EXACT_ROWS else np.float32)
        for place, layer in enumerate(layers):
            self._layers.report(place, len(layers))
            stored[layer] = self._layers.matrix(layer).store(stack[place])
        return stack

    def matrix(self, layer: LayerRef) -> StoredMatrix:
        """Return the matrix of one layer."""
        return self._stacks[1][layer]

    def permuted_products(self, permutation: Permutation) -> Float64Array:
        """Products of all layer pairs with b's items permuted."""
        of_a, of_b = self._layers.defined
        grid = self._layers.empty_grid()
        if of_a and of_b:
            a, b = self._stacks[0]
            grid[self._layers.indexes(of_a, of_b)] = permuted_products(a, b, permutation)
        return grid


class KernelStrategy(ABC):
    """One way to compute the sums of every layer and the products of every layer pair.

    Parameters
    ----------
    layers : KernelLayers
    stored : StoredMatrices, optional
        Matrices for permutations; without them each permutation is computed like the values.
    """

    def __init__(self, layers: KernelLayers, stored: StoredMatrices | None) -> None:
        self.layers, self.stored = layers, stored

    @cached_property
    def products(self) -> Float64Array:
        """sum_{i != j} K[i, j] L[i, j] of every layer pair; NaN if a layer has a reason."""
        return self._find_products(None)

    def permuted(self, permutation: Permutation) -> Float64Array:
        """Products of every layer pair with b's items permuted."""
        if self.stored is not None:
            return self.stored.permuted_products(permutation)
        return self._find_products(permutation)

    def triangles(self, layer: LayerRef) -> float:
        """Share of triangles, for the skew of a null distribution."""
        return self.layers.triangles(layer)

    @abstractmethod
    def sums(self, layer: LayerRef) -> MatrixSums:
        """Return the sums of the matrix of one layer."""

    @abstractmethod
    def row_sums(self, cell: Cell, *, debiased: bool) -> tuple[ProductRowSums, ProductRowSums, ProductRowSums]:
        """Row sums of the product of a layer pair, and of each layer with itself, for the jackknife."""

    @abstractmethod
    def _find_products(self, permutation: Permutation | None) -> Float64Array: ...


class FeatureStrategy(KernelStrategy):
    """Linear kernels through the cross-products of the features, never through n x n matrices."""

    def __init__(self, layers: KernelLayers, stored: StoredMatrices | None) -> None:
        super().__init__(layers, stored)
        self._sums: dict[LayerRef, MatrixSums] = {}
        self._last: tuple[Cell, PairMoments] | None = None

    def sums(self, layer: LayerRef) -> MatrixSums:
        """Return the sums of one layer, from the pass that computes the products."""
        self.products  # noqa: B018 - computes the sums too
        return self._sums[layer]

    def row_sums(self, cell: Cell, *, debiased: bool) -> tuple[ProductRowSums, ProductRowSums, ProductRowSums]:
        """Row sums from one more pass over both layers."""
        (x, y), executor = self._centred(cell), self.layers.a.executor
        if self._last is not None and self._last[0] == cell:
            moments = self._last[1]
        else:
            moments = find_moments(x, y, executor=executor, progress=self.layers.progress(0, 2))
        progress = self.layers.progress(1, 2)
        return linear_product_row_sums(x, y, moments, debiased=debiased, executor=executor, progress=progress)

    def _centred(self, cell: Cell) -> tuple[CentredRows, CentredRows]:
        return self.layers.a.centred(cell[0]), self.layers.b.centred(cell[1])

    def _find_products(self, permutation: Permutation | None) -> Float64Array:
        """Go over the features of every layer pair; the first pair of a layer finds its own sums in the same pass."""
        grid, (of_a, of_b) = self.layers.empty_grid(), self.layers.defined
        pairs = [(a, b) for a in of_a for b in of_b]
        for done, (a, b) in enumerate(pairs):
            progress = self.layers.progress(done, len(pairs)) if permutation is None else None
            moments = self._find_moments(a, b, permutation, progress)
            norms = self._sums[a].diagonal, self._sums[b].diagonal
            grid[a.index, b.index] = linear_product(moments.cross, norms, permutation)
        for layer in (*of_a, *of_b):
            if layer not in self._sums:  # the other side has no layer to form a pair with
                rows = self.layers.side(layer).centred(layer.index)
                self._sums[layer] = linear_sums(find_own_moments(rows))
        return grid

    def _find_moments(
        self, a: LayerRef, b: LayerRef, permutation: Permutation | None, progress: RowProgress | None
    ) -> PairMoments:
        cell, unknown = (a.index, b.index), (a not in self._sums, b not in self._sums)
        x, y = self._centred(cell)
        moments = find_moments(x, y, own=unknown, order=permutation, executor=self.layers.a.executor, progress=progress)
        for layer, found in ((a, moments.a), (b, moments.b)):
            if found is not None:
                self._sums[layer] = linear_sums(found)
        if all(unknown):
            self._last = cell, moments
        return moments


class BlockStrategy(KernelStrategy):
    """Any kernel through blocks of its n x n matrices.

    Parameters
    ----------
    from_stored : bool
        Read the blocks of the values from the stored matrices instead of computing them from the rows.
    """

    def __init__(self, layers: KernelLayers, stored: StoredMatrices | None, *, from_stored: bool = False) -> None:
        super().__init__(layers, stored)
        self._source = stored if from_stored else None
        self._sums: dict[LayerRef, MatrixSums] = {}

    def sums(self, layer: LayerRef) -> MatrixSums:
        """Return the sums of one layer, from the pass that computes the products."""
        self.products  # noqa: B018 - computes the sums too
        return self._sums[layer]

    def row_sums(self, cell: Cell, *, debiased: bool) -> tuple[ProductRowSums, ProductRowSums, ProductRowSums]:
        """Row sums from one more pass over the blocks of both matrices."""
        a, b = LayerRef("a", cell[0]), LayerRef("b", cell[1])
        weights = (
            jackknife_weights(self.sums(a), debiased=debiased),
            jackknife_weights(self.sums(b), debiased=debiased),
        )
        return find_product_row_sums((self._matrix(a), self._matrix(b)), weights)

    def _matrix(self, layer: LayerRef) -> LowerMatrix:
        return self.layers.matrix(layer) if self._source is None else self._source.matrix(layer)

    def _find_products(self, permutation: Permutation | None) -> Float64Array:
        """Find sums and products in passes over the blocks of as many layers as fit in memory."""
        layers, grid = self.layers, self.layers.empty_grid()
        runs = [(of_a, of_b) for of_a in self._split(layers.defined[0]) for of_b in self._split(layers.defined[1])]
        for done, (of_a, of_b) in enumerate(runs):
            matrices = [self._matrix(a) for a in of_a]
            if permutation is None:
                matrices += [self._matrix(b) for b in of_b]
            else:
                matrices += [layers.matrix(b).take(permutation) for b in of_b]
            if not matrices:
                continue
            sums, products = find_sums(matrices, layers.progress(done, len(runs)) if permutation is None else None)
            grid[layers.indexes(of_a, of_b)] = products[: len(of_a), len(of_a) :]
            if permutation is None:
                self._sums.update(zip((*of_a, *of_b), sums, strict=True))
        return grid

    def _split(self, layers: Sequence[LayerRef]) -> Iterator[list[LayerRef]]:
        """Yield runs of layers whose points fit in memory; one empty run if there are none: the other side has sums too."""
        run: list[LayerRef] = []
        held = 0
        for layer, dim in zip(layers, self.layers.dims(layers), strict=True):
            size = 0 if self._source is not None else 4 * self.layers.n * dim
            if run and held + size > POINTS_BYTES:
                yield run
                run, held = [], 0
            run.append(layer)
            held += size
        yield run


class PackedStrategy(BlockStrategy):
    """One pair of linear kernels of few rows: the lower triangles of both matrices, which a persistent side stores."""

    def __init__(self, layers: KernelLayers, stored: StoredMatrices | None) -> None:
        super().__init__(layers, stored)
        self._shared: dict[bool, ProductRowSums] = {}

    @cached_property
    def products(self) -> Float64Array:
        """Product of the only pair."""
        grid, (a, b) = self.layers.empty_grid(), self._pair
        grid[a.index, b.index] = self._share(debiased=True).product.sum()
        return grid

    @property
    def _pair(self) -> tuple[LayerRef, LayerRef]:
        (a,), (b,) = self.layers.defined
        return a, b

    def sums(self, layer: LayerRef) -> MatrixSums:
        """Return the sums of the packed matrix."""
        return self._packed(layer).sums

    def triangles(self, layer: LayerRef) -> float:
        """Share of triangles of the packed matrix."""
        return self._packed(layer).triangles

    def row_sums(self, cell: Cell, *, debiased: bool) -> tuple[ProductRowSums, ProductRowSums, ProductRowSums]:
        """Row sums of the packed matrices."""
        a, b = (self._packed(LayerRef("a", cell[0])), self._packed(LayerRef("b", cell[1])))
        shared = self._share(debiased=debiased)
        return shared, a.own_row_sums(debiased=debiased), b.own_row_sums(debiased=debiased)

    def _share(self, *, debiased: bool) -> ProductRowSums:
        if debiased not in self._shared:
            a, b = (self._packed(layer) for layer in self._pair)
            self._shared[debiased] = a.row_sums_with(b, debiased=debiased)
        return self._shared[debiased]

    def _packed(self, layer: LayerRef) -> PackedKernel:
        layers, is_sampled = self.layers, self.layers.n > SKEW_ROWS
        seed = layers.seed if is_sampled else None
        return layers.side(layer).memoize_stored(
            layer.index,
            PackedKey(seed),
            lambda rows: StoredPackedKey(rows, seed),
            lambda: PackedKernel.of(layers.matrix(layer), layers.triangles(layer) if is_sampled else None),
            PackedKernel,
        )


def choose_strategy(layers: KernelLayers) -> KernelStrategy:
    """Choose the strategy with the least work that fits in memory."""
    n, (of_a, of_b) = layers.n, layers.defined
    p, q = layers.dims(of_a), layers.dims(of_b)
    dims = p + q
    has_room = 4 * n**2 * len(dims) <= MATRICES_BYTES
    stored = StoredMatrices(layers) if has_room else None
    features = n * (sum(d * d for d in dims) + sum(p) * sum(q))
    blocks = n**2 * (_BLOCK_COST * sum(dims) + _ENTRY_COST / 2 * len(dims) ** 2)
    if layers.kernel.entry == "inner" and features <= blocks:
        permutes_stored = n * n * len(p) * len(q) <= 4 * sum(p) * sum(q)
        return FeatureStrategy(layers, stored if permutes_stored else None)
    if _is_small_pair(layers):
        return PackedStrategy(layers, stored)
    return BlockStrategy(layers, stored, from_stored=has_room and n * len(dims) < sum(dims))


def _is_small_pair(layers: KernelLayers) -> bool:
    """Return True for one pair of linear kernels of few rows, in memory, whose products are float32."""
    of_a, of_b = layers.defined
    if layers.kernel.entry != "inner" or not len(of_a) == len(of_b) == 1:
        return False
    n, pair = layers.n, (*of_a, *of_b)
    is_single = all(working_dtype(0.5 * n**2 * dim) == np.float32 for dim in layers.dims(pair))
    return is_single and n <= PACKED_ROWS and not any(layers.side(x).rows.is_streamed(x.index) for x in pair)
