"""Several threads over the rows of one compiled kernel, which releases the interpreter's lock."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import pairwise
from operator import attrgetter
from threading import Lock
from typing import TypeVar

import faiss
from threadpoolctl import ThreadpoolController

T = TypeVar("T")

#: Steps below which starting threads costs more than it saves.
STEPS_MIN = 1 << 22


def map_rows(task: Callable[[slice], T], n: int, steps_per_row: int) -> list[T]:
    """Run a task on equal parts of n rows, one part a thread, and give the results in order.

    There are as many threads as FAISS uses. They end with the call, so that a process may fork after it.
    """
    threads = count_threads() if n * steps_per_row >= STEPS_MIN else 1
    edges = [n * part // threads for part in range(threads + 1)]
    parts = [slice(start, stop) for start, stop in pairwise(edges)]
    if threads == 1:
        return [task(parts[0])]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(task, parts))


def count_threads() -> int:
    """As many threads as FAISS uses, which `OMP_NUM_THREADS` limits."""
    return int(faiss.omp_get_max_threads())


class _SerialProducts:
    """Keeps numpy's matrix products on the thread that asks for them, while anyone needs that."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._limits: ExitStack | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """From the first who enters to the last who leaves."""
        with self._lock:
            if self._users == 0:
                self._limits = ExitStack()
                self._limits.enter_context(find_blas().limit(limits=1))
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0 and self._limits is not None:
                    self._limits.close()


@cache
def find_blas() -> ThreadpoolController:
    """The BLAS that numpy calls: a tenth of a second to find, by a look at every loaded library; none of them is called."""
    # FAISS brings one of its own, and a limit to that would be one to all of FAISS in this thread.
    blas = ThreadpoolController().select(user_api="blas")
    return blas.select(
        filepath=[path for path in map(attrgetter("filepath"), blas.lib_controllers) if "faiss" not in path]
    )


#: Inside it each matrix product of numpy uses one thread. The setting is the process's, so whoever comes later shares it.
serial_products = _SerialProducts()
