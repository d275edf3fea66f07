"""Neighbour graphs: the k most similar other rows of each row.

Similarity is the inner product, which is the cosine for rows of length 1. The row itself is excluded by its id (never as
"column 0", which duplicates would break); `order` defines the order of neighbours.
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import faiss
import numpy as np

from consilience.numerics.knn.bounds import measure_lengths
from consilience.numerics.knn.tie_break import (
    DecidedNeighbours,
    RoundedRows,
    break_ties,
    count_candidates,
    search_unverified,
)
from consilience.numerics.knn.tile_kernels import NO_KEY, KeyArray, make_keys
from consilience.numerics.rows.arrays import CountArray, Float32Array, IdArray
from consilience.numerics.rows.prepared import ArrayRows

#: Largest values between 2 to minus this power and 2 to this power are multiplied in float32 without scaling.
EXPONENT_MAX = 32


#: Multiply-adds of a block of rows, about a second, so that progress can be reported.
BLOCK_STEPS = 1e11
MIN_BLOCK_ROWS = 1024

#: Serialised fields besides the lists.
_FACTS = ("builder", "verified", "recall", "recall_queries", "device")


@dataclass(frozen=True)
class NeighbourGraph:
    """Neighbour lists of all rows, nearest first; the lists of a smaller k are prefixes.

    Attributes
    ----------
    ids : array of shape (n, k_max), int32
    similarities : array of shape (n, k_max), float32, descending in each row; of the searched rows,
        which are scaled if their products would leave float32's range
    builder : str
        Name of the builder: "faiss_flat", "symmetric", "verified_bf16" and "verified_f32" are exact, any other is the
        index-factory string of an approximate graph.
    verified : float, optional
        Share of rows that rounded products and their error bound verified.
    recall : sequence of k_max floats, optional
        For an approximate graph: share of the true first k neighbours among the first k, for every k.
    recall_queries : int, optional
        Number of rows on which the recall was measured.
    device : str
        "cpu", or the name and model of a GPU.
    """

    ids: IdArray
    similarities: Float32Array
    builder: str
    verified: float | None = None
    recall: Sequence[float] | None = None
    recall_queries: int | None = None
    device: str = "cpu"

    @property
    def k_max(self) -> int:
        """Length of the lists."""
        return int(self.ids.shape[1])

    def to_bytes(self) -> bytes:
        """Serialise the graph for the cache: a line of JSON and two npy arrays."""
        out = io.BytesIO()
        out.write(json.dumps({fact: getattr(self, fact) for fact in _FACTS}).encode() + b"\n")
        np.save(out, self.ids, allow_pickle=False)
        np.save(out, self.similarities, allow_pickle=False)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the bytes of `to_bytes`."""
        source = io.BytesIO(data)
        made = json.loads(source.readline())
        ids, similarities = np.load(source, allow_pickle=False), np.load(source, allow_pickle=False)
        return cls(ids, similarities, **made)


def build_exact(
    x: Float32Array, k_max: int, groups: IdArray | None = None, report: Callable[[int], None] | None = None
) -> NeighbourGraph:
    """Build the exact graph of the rows of x, from candidates of a flat FAISS search.

    Parameters
    ----------
    x : array of shape (n, d), float32, C order
        Prepared rows.
    k_max : int, 1 <= k_max <= n - 1, or n less the size of the largest group
    groups : array of shape (n,), int32, optional
        Rows of one group are never neighbours of each other. None: every row is its own group.
    report : callable, optional
        Called after each block with the number of rows searched.

    Returns
    -------
    NeighbourGraph, O(n^2 d) time, O(n (k_max + d)) memory
    """
    n = len(x)
    x, exponent = np.ascontiguousarray(x), find_exponent(x)
    if exponent:
        x = np.ldexp(x, exponent)
    owner = np.arange(n, dtype=np.int32) if groups is None else groups
    excluded = 1 if groups is None else int(np.bincount(groups).max())
    kept, rounded = count_candidates(k_max, n), RoundedRows.plain(x, measure_lengths(x))
    whole, verified = DecidedNeighbours.empty(n, k_max), np.empty(n, np.bool_)
    step = max(MIN_BLOCK_ROWS, int(BLOCK_STEPS / x.size))
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        queries = np.arange(rows.start, rows.stop, dtype=np.int32)
        near, ids = faiss.knn(x[rows], x, min(n, kept + excluded), metric=faiss.METRIC_INNER_PRODUCT)
        keys, counts = _others(near, ids.astype(np.int32), owner, queries, kept)
        found, verified[rows] = break_ties(x, queries, keys, counts, rounded=rounded, k=k_max)
        whole.ids[rows], whole.similarities[rows] = found.ids, found.similarities
        if report is not None:
            report(rows.stop)
    search_unverified(ArrayRows(x), groups, whole, verified)
    return NeighbourGraph(whole.ids, whole.similarities, "faiss_flat")


def find_exponent(x: Float32Array) -> int:
    """Return the power of two by which all rows of x are scaled before the search."""
    return scale_exponent(max(float(x.max()), -float(x.min())))


def scale_exponent(largest: float) -> int:
    """Return the power of two by which rows with a given largest value are scaled, which changes no neighbour.

    0 unless products of rows would leave float32's range.
    """
    exponent = int(np.frexp(largest)[1])
    return 0 if -EXPONENT_MAX <= exponent <= EXPONENT_MAX else -exponent


def _others(
    similarities: Float32Array, ids: IdArray, owner: IdArray, queries: IdArray, kept: int
) -> tuple[KeyArray, CountArray]:
    """Return at most `kept` keys of other groups' rows, best first, and their number."""
    own, keys = owner[ids] == owner[queries, None], np.empty(ids.shape, np.uint64)
    make_keys(similarities, ids, np.full(len(ids), ids.shape[1]), keys, 0, len(ids))
    keys[own] = NO_KEY
    keys.sort(axis=1)
    counts: CountArray = np.minimum((~own).sum(axis=1), kept)
    return keys[:, :kept], counts
