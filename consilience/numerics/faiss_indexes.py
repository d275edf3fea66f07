"""Approximate indices of FAISS: made of an index-factory string, trained on a sample, filled block by block.

The same string, rows and seed give the same index: what FAISS draws, it draws from seeds of its own that never change. It is
trained by one thread, since products may round otherwise on another number of them (and many small ones are ten times slower
on two busy cores than on one); and rows are linked by one, since the order in which several link them is that of a race.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np

from consilience.errors import InvalidRequest
from consilience.numerics.arrays import Float32Array
from consilience.numerics.rows import Rows, blocks

#: Rows that each list, each word of a product quantiser and each column is learnt from, where there are so many.
POINTS_PER_CENTROID = 40
POINTS_PER_COLUMN = 16
SAMPLE_MIN = 1 << 14
#: Rounds of OPQ; its own 50 take minutes, and gain little after these.
TURN_ROUNDS = 10


def train_index(text: str, rows: Rows, seed: int) -> Any:
    """Make an index of inner products and train it on a sample of the rows; it holds none of them yet.

    Raises
    ------
    InvalidRequest
        FAISS refuses the string for these rows.
    """
    try:
        index = faiss.index_factory(rows.dim, text, faiss.METRIC_INNER_PRODUCT)
        kept = [_settle(part) for part in _parts(index)]
        wanted = max(SAMPLE_MIN, *(_points(part) for part in _parts(index)), POINTS_PER_COLUMN * rows.dim)
        with _threads(1):
            _train(index, _sample(rows, wanted, seed))
        del kept
    except RuntimeError as error:
        raise InvalidRequest(
            f"FAISS cannot make {text} of {rows.n} rows of {rows.dim} columns.",
            value=text,
            hint=f"It says: {str(error).rpartition('Error: ')[2].splitlines()[0]}",
            pointer="/builder/index",
        ) from error
    return index


def fill_index(index: Any, rows: Rows) -> None:
    """Add all rows, block by block."""
    linked = any(isinstance(part, faiss.IndexHNSW) for part in _parts(index, quantisers=False))
    with _threads(1 if linked else faiss.omp_get_max_threads()):
        for _, block in blocks(rows):
            index.add(block)


def set_effort(index: Any, effort: int | None, width: int) -> None:
    """Say how many lists are probed, or how broad a graph is searched: never narrower than the list that is asked for."""
    for part in _parts(index, quantisers=False):
        if isinstance(part, faiss.IndexIVF):
            part.nprobe = effort or 1
            quantiser = faiss.downcast_index(part.quantizer)
            if isinstance(quantiser, faiss.IndexHNSW):
                quantiser.hnsw.efSearch = max(64, 2 * part.nprobe)
        elif isinstance(part, faiss.IndexHNSW):
            part.hnsw.efSearch = max(effort or 1, width)


def _parts(index: Any, *, quantisers: bool = True) -> Iterator[Any]:
    """The turn of the rows, the index itself, and the indices inside it."""
    index = faiss.downcast_index(index)
    yield index
    if isinstance(index, faiss.IndexPreTransform):
        chain: Any = index.chain
        yield from (faiss.downcast_VectorTransform(chain.at(i)) for i in range(chain.size()))
        yield from _parts(index.index, quantisers=quantisers)
    if isinstance(index, faiss.IndexHNSW):
        yield from _parts(index.storage, quantisers=quantisers)
    if quantisers and isinstance(index, faiss.IndexIVF):
        yield from _parts(index.quantizer)


def _settle(part: Any) -> Any:
    """Set what the factory leaves open; gives what must live until the part is trained."""
    for words in (getattr(part, "cp", None), getattr(getattr(part, "pq", None), "cp", None)):
        if words is not None:
            words.min_points_per_centroid = 1  # fewer are no reason to print a warning: the recall is measured
    if hasattr(part, "do_polysemous_training"):
        part.do_polysemous_training = False  # it takes most of the time, for a filter that is not used
    if isinstance(part, faiss.OPQMatrix):
        part.niter = TURN_ROUNDS
        quantiser = faiss.ProductQuantizer(part.d_out, part.M, 8)
        quantiser.cp.min_points_per_centroid = 1
        part.pq = quantiser
        return quantiser
    return None


def _points(part: Any) -> int:
    """Rows that a part is to be trained on."""
    lists = part.nlist if isinstance(part, faiss.IndexIVF) else 0
    quantiser = getattr(part, "pq", None)
    return int(POINTS_PER_CENTROID * max(lists, quantiser.ksub if quantiser is not None else 0))


def _sample(rows: Rows, count: int, seed: int) -> Float32Array:
    if count >= rows.n:
        return rows.read(0, rows.n)
    drawn = np.random.default_rng(seed).choice(rows.n, count, replace=False)
    return rows.take(np.sort(drawn))


def _train(index: Any, sample: Float32Array) -> None:
    for part in _parts(index):
        if isinstance(part, faiss.PCAMatrix):
            # It would subtract the mean row of both sides, after which inner products rank rows otherwise.
            part.train(sample)
            part.have_bias = False
    index.train(sample)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
