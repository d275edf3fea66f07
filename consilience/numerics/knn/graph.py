"""Neighbour graphs: the k most similar other rows of each row.

Similarity is the inner product, which is the cosine for rows of length 1. The row itself is removed by its id (never as
"column 0", which duplicates would break); `compiled_order` says which neighbour comes first.
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

#: Values up to 2 to this power, or no smaller than 2 to minus it, are multiplied and summed in float32 as they are.
EXPONENT_MAX = 32


#: Rows are searched in blocks of about so many multiply-adds (a second or so), so that progress can be told.
BLOCK_STEPS = 1e11
MIN_BLOCK_ROWS = 1024

#: What a graph says of itself besides its lists.
_FACTS = ("builder", "verified", "recall", "recall_queries", "device")


@dataclass(frozen=True)
class NeighbourGraph:
    """Each row's neighbours, nearest first; any smaller k is a prefix.

    Attributes
    ----------
    ids : array of shape (n, k_max), int32
    similarities : array of shape (n, k_max), float32, descending in each row but for float32's rounding; of the rows as they
        were searched, which are scaled down or up where their products would leave float32's range
    builder : str
        How it was made: "faiss_flat", "symmetric", "verified_bf16" and "verified_f32" are exact, anything else is an
        index-factory string.
    certified : float, optional
        Share of rows that rounded products and their bound settled.
    recall : sequence of k_max floats, optional
        Of an approximate graph: the share of the true first k neighbours among the first k, for every k.
    recall_queries : int, optional
        Rows on which that was measured.
    device : str
        What multiplied: "cpu", or a card by name and model.
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
        """The largest k that it answers."""
        return int(self.ids.shape[1])

    def to_bytes(self) -> bytes:
        """Write it for the cache: a line of JSON, and two npy arrays."""
        out = io.BytesIO()
        out.write(json.dumps({fact: getattr(self, fact) for fact in _FACTS}).encode() + b"\n")
        np.save(out, self.ids, allow_pickle=False)
        np.save(out, self.similarities, allow_pickle=False)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote."""
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
        Rows of one group are never each other's neighbours. None: every row is a group of its own.
    report : callable, optional
        Told after each block of rows how many rows have been searched.

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
    whole, certified = DecidedNeighbours.empty(n, k_max), np.empty(n, np.bool_)
    step = max(MIN_BLOCK_ROWS, int(BLOCK_STEPS / x.size))
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        asking = np.arange(rows.start, rows.stop, dtype=np.int32)
        near, ids = faiss.knn(x[rows], x, min(n, kept + excluded), metric=faiss.METRIC_INNER_PRODUCT)
        keys, counts = _others(near, ids.astype(np.int32), owner, asking, kept)
        found, certified[rows] = break_ties(x, asking, keys, counts, rounded=rounded, k=k_max)
        whole.ids[rows], whole.similarities[rows] = found.ids, found.similarities
        if report is not None:
            report(rows.stop)
    search_unverified(ArrayRows(x), groups, whole, certified)
    return NeighbourGraph(whole.ids, whole.similarities, "faiss_flat")


def find_exponent(x: Float32Array) -> int:
    """The power of two by which all rows of x are scaled before they are searched."""
    return scale_exponent(max(float(x.max()), -float(x.min())))


def scale_exponent(largest: float) -> int:
    """The power of two by which rows of values up to so large a one are scaled; no neighbour changes by it.

    0 but where products of rows would leave float32's range.
    """
    exponent = int(np.frexp(largest)[1])
    return 0 if -EXPONENT_MAX <= exponent <= EXPONENT_MAX else -exponent


def _others(
    similarities: Float32Array, ids: IdArray, owner: IdArray, asking: IdArray, kept: int
) -> tuple[KeyArray, CountArray]:
    """Keys of what was found but each row's own group, at most `kept`, best first; and how many they are."""
    own, keys = owner[ids] == owner[asking, None], np.empty(ids.shape, np.uint64)
    make_keys(similarities, ids, np.full(len(ids), ids.shape[1]), keys, 0, len(ids))
    keys[own] = NO_KEY
    keys.sort(axis=1)
    counts: CountArray = np.minimum((~own).sum(axis=1), kept)
    return keys[:, :kept], counts
