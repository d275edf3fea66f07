"""Neighbour graphs: the k most similar other rows of each row.

Similarity is the inner product, which is the cosine for rows of length 1. The row itself is removed by its id (never as
"column 0", which duplicates would break); larger similarity comes first, and of equal ones the smaller id.
"""

import io
from dataclasses import dataclass
from typing import Self

import faiss
import numpy as np

from consilience.numerics.arrays import Float32Array, IdArray

#: Neighbours searched beyond those kept, so that ties at the end of a list can be broken by id.
SLACK = 8
#: Values up to 2 to this power, or no smaller than 2 to minus it, are multiplied and summed in float32 as they are.
EXPONENT_MAX = 32


@dataclass(frozen=True)
class NeighbourGraph:
    """Each row's neighbours, nearest first; any smaller k is a prefix.

    Attributes
    ----------
    ids : array of shape (n, k_max), int32
    similarities : array of shape (n, k_max), float32, descending in each row; of the rows as they were searched, which are
        scaled down or up where their products would leave float32's range
    builder : str
        How it was made: "faiss_flat" is exact.
    """

    ids: IdArray
    similarities: Float32Array
    builder: str

    @property
    def k_max(self) -> int:
        """The largest k that it answers."""
        return int(self.ids.shape[1])

    def prefix(self, k: int) -> IdArray:
        """Return the first k neighbours of each row as a contiguous (n, k) array."""
        return np.ascontiguousarray(self.ids[:, :k])

    def to_bytes(self) -> bytes:
        """Write it for the cache: two npy arrays, one after the other."""
        out = io.BytesIO()
        np.save(out, self.ids, allow_pickle=False)
        np.save(out, self.similarities, allow_pickle=False)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, builder: str) -> Self:
        """Read what `to_bytes` wrote."""
        source = io.BytesIO(data)
        ids, similarities = np.load(source, allow_pickle=False), np.load(source, allow_pickle=False)
        return cls(ids, similarities, builder)


def build_exact(x: Float32Array, k_max: int) -> NeighbourGraph:
    """Build the exact graph of the rows of x by a flat FAISS search.

    Parameters
    ----------
    x : array of shape (n, d), float32, C order
        Prepared rows.
    k_max : int, 1 <= k_max <= n - 1

    Returns
    -------
    NeighbourGraph, O(n^2 d) time, O(n (k_max + d)) memory
    """
    n = len(x)
    x = _in_range(x)
    width = min(n, k_max + 1 + SLACK)
    found, labels = faiss.knn(x, x, width, metric=faiss.METRIC_INNER_PRODUCT)
    similarities, ids = _without_self(found, labels.astype(np.int32))
    order = np.lexsort((ids, -similarities), axis=1)
    ids, similarities = np.take_along_axis(ids, order, axis=1), np.take_along_axis(similarities, order, axis=1)
    if width < n:
        _settle_ties(x, ids, similarities, k_max)
    return NeighbourGraph(
        np.ascontiguousarray(ids[:, :k_max]), np.ascontiguousarray(similarities[:, :k_max]), "faiss_flat"
    )


def _in_range(x: Float32Array) -> Float32Array:
    """Scale all rows by one power of two where their products would leave float32's range; no neighbour changes by it."""
    exponent = int(np.frexp(max(x.max(), -x.min()))[1])
    return x if -EXPONENT_MAX <= exponent <= EXPONENT_MAX else np.ldexp(x, -exponent)


def _without_self(similarities: Float32Array, ids: IdArray) -> tuple[Float32Array, IdArray]:
    """Drop each row's own id; where more than `width` duplicates crowded it out, the last entry goes instead."""
    n, width = ids.shape
    drop = ids == np.arange(n, dtype=np.int32)[:, None]
    drop[~drop.any(axis=1), -1] = True
    return similarities[~drop].reshape(n, width - 1), ids[~drop].reshape(n, width - 1)


def _settle_ties(x: Float32Array, ids: IdArray, similarities: Float32Array, k_max: int) -> None:
    """Search anew, in place, the rows whose ties at rank k_max run on past the end of what was found."""
    for i in np.flatnonzero(similarities[:, k_max - 1] == similarities[:, -1]):
        row = x @ x[i]
        row[i] = -np.inf
        best = _best(row, ids.shape[1])
        ids[i], similarities[i] = best, row[best]


def _best(row: Float32Array, count: int) -> IdArray:
    """Ids of the largest values, largest first, of equal ones the smaller id first; only they are sorted."""
    least = np.partition(row, -count)[-count]
    above, equal = np.flatnonzero(row > least), np.flatnonzero(row == least)
    found = np.concatenate([above, equal[: count - len(above)]]).astype(np.int32)
    return found[np.lexsort((found, -row[found]))]
