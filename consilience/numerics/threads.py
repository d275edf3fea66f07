"""Several threads over the rows of one compiled kernel, which releases the interpreter's lock."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import faiss

T = TypeVar("T")

#: Steps below which starting threads costs more than it saves.
STEPS_MIN = 1 << 22


def map_rows(task: Callable[[slice], T], n: int, steps_per_row: int) -> list[T]:
    """Run a task on equal parts of n rows, one part a thread, and give the results in order.

    There are as many threads as FAISS uses, which `OMP_NUM_THREADS` limits. They end with the call, so that a process may fork
    after it.
    """
    threads = faiss.omp_get_max_threads() if n * steps_per_row >= STEPS_MIN else 1
    edges = [n * part // threads for part in range(threads + 1)]
    parts = [slice(start, stop) for start, stop in pairwise(edges)]
    if threads == 1:
        return [task(parts[0])]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(task, parts))
