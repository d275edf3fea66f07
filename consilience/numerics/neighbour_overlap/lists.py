"""Neighbour lists of one layer, their permutation and their restriction to a smaller gallery."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from consilience.numerics.neighbour_overlap import kernels
from consilience.numerics.rows.arrays import BoolArray, Float32Array, Float64Array, IdArray
from consilience.numerics.rows.parallel import map_rows
from consilience.numerics.stats.nulls import Permutation

#: Bytes of similarities beyond the lists that are kept for each layer.
KNOWN_BYTES = 32_000_000


@dataclass(frozen=True)
class SimilaritySpace:
    """Similarities between prepared rows, computed only if a metric needs values that the lists do not hold.

    Attributes
    ----------
    rows : returns the array of shape (n, d), float32
    square : returns all n x n similarities, float32; None if they do not fit in memory
    known : similarities of every row to the neighbours in other lists, by the name of the lists
    """

    rows: Callable[[], Float32Array]
    square: Callable[[], Float32Array] | None = None
    known: dict[str, Float32Array] = field(default_factory=dict)

    def similarities(self, left: IdArray, right: IdArray) -> Float32Array:
        """Compute inner products of row left[i] with rows right[i, t]: shapes (m,) and (m, k) to (m, k)."""
        if self.square is not None:
            return self.square()[left[:, None], right]
        rows = self.rows()

        def fill(part: slice) -> Float32Array:
            return kernels.inner_products(rows, left[part], right[part])

        return np.concatenate(map_rows(fill, len(left), right.shape[1] * rows.shape[1]))

    def lengths(self, items: IdArray) -> Float64Array:
        """Compute the squared length of each of some rows, its similarity to itself."""
        return kernels.inner_products(self.rows(), items, items[:, None])[:, 0].astype(np.float64)

    def means(self, items: IdArray) -> Float64Array:
        """Compute the mean similarity of each of some rows to all of them, itself included: x_i . mean(x)."""
        return kernels.mean_similarities(self.rows(), items)


def _no_rows() -> Float32Array:
    return np.empty((0, 0), np.float32)


@dataclass(frozen=True)
class NeighbourLists:
    """Neighbour lists of n items, nearest first.

    Attributes
    ----------
    ids : array of shape (n, k), int32, C order
        Item numbers, without the item itself; -1 at the end of an incomplete list.
    similarities : array of shape (n, k), float32, C order
    items : array of shape (n,), int32
        Row of each item in `space`.
    complete : array of shape (n,), bool
        Whether the item's list has k neighbours.
    name : str
        Name of the lists within a request, shared by their prefixes; empty for permuted or restricted lists.
    """

    ids: IdArray
    similarities: Float32Array
    items: IdArray
    complete: BoolArray
    space: SimilaritySpace
    name: str = ""

    @classmethod
    def of(
        cls,
        ids: IdArray,
        similarities: Float32Array | None = None,
        space: SimilaritySpace | None = None,
        name: str = "",
    ) -> Self:
        """Create the lists of all rows of a space; missing similarities are 0."""
        values = np.zeros(ids.shape, np.float32) if similarities is None else similarities
        return cls(
            np.ascontiguousarray(ids),
            np.ascontiguousarray(values),
            np.arange(len(ids), dtype=np.int32),
            np.ones(len(ids), np.bool_),
            space or SimilaritySpace(_no_rows),
            name,
        )

    @property
    def n(self) -> int:
        """Number of items."""
        return len(self.ids)

    @property
    def k(self) -> int:
        """Length of each list."""
        return int(self.ids.shape[1])

    def first(self, k: int) -> Self:
        """Return the first k neighbours of each list."""
        if k == self.k:
            return self
        ids, similarities = self.ids[:, :k], self.similarities[:, :k]
        return replace(self, ids=np.ascontiguousarray(ids), similarities=np.ascontiguousarray(similarities))

    def permuted(self, permutation: Permutation) -> Self:
        """Permute the items: N_pB(i) = p^-1(N_B(p(i))), without a new search."""
        return replace(
            self,
            ids=permute_ids(self.ids, permutation),
            similarities=self.similarities[permutation],
            items=self.items[permutation],
            complete=self.complete[permutation],
            name="",
        )

    def restricted(self, kept: BoolArray, k: int) -> Self:
        """Restrict the gallery to the kept items, renumbered: the first k kept neighbours of each.

        Lists must be longer than k. A list with fewer than k kept neighbours is filled with -1 and is not `complete`.
        """
        ids, similarities, complete = kernels.restrict(self.ids, self.similarities, kept, k)
        return replace(self, ids=ids, similarities=similarities, items=self.items[kept], complete=complete, name="")

    def similarities_to(self, other: "NeighbourLists") -> Float32Array:
        """Return the similarities in this space of each item to its neighbours in other lists; shape (n, k).

        Those of named lists are kept, so that a sweep over k computes each inner product once.
        """
        if not (self.name and other.name):
            return self.space.similarities(self.items, self.items[other.ids])
        known = self.space.known.get(other.name, np.empty((self.n, 0), np.float32))
        if known.shape[1] < other.k:
            more = self.space.similarities(self.items, np.ascontiguousarray(other.ids[:, known.shape[1] :]))
            known = np.concatenate([known, more], axis=1)
            if sum(kept.nbytes for kept in self.space.known.values()) + known.nbytes <= KNOWN_BYTES:
                self.space.known[other.name] = known
        return np.ascontiguousarray(known[:, : other.k])


def permute_ids(ids: IdArray, permutation: Permutation) -> IdArray:
    """Permute the items of a graph: row i of the result is p^-1 of row p(i)."""
    inverse = np.empty(len(permutation), dtype=np.int32)
    inverse[permutation] = np.arange(len(permutation), dtype=np.int32)
    return inverse[ids[permutation]]
