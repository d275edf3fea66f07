"""The parts of a long computation: mapped here one after the other, or elsewhere by whoever implements the same protocol.

A part says everything that its function needs, holds access to rows and not the rows, and can be sent to another process. How a
computation is split depends on its size alone, and results are reduced in the parts' order: so it gives the same bits wherever
it runs, and however many run at once. A part's function multiplies and selects: factorisations depend on the number of threads,
and stay with the job.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import pairwise
from operator import attrgetter
from threading import Lock
from typing import Protocol, TypeVar

import faiss
from threadpoolctl import ThreadpoolController

from consilience.limits import BLOCK_ROWS, BLOCK_VALUES

T = TypeVar("T")


def read_ahead(read: Callable[[int, int], T], span: slice, step: int) -> Iterator[tuple[slice, T]]:
    """Give what is read of each block of rows of a span, in order.

    One block more than the current one is in memory. The thread ends with the last block, so that a process may fork after it;
    a single block is read without one.
    """
    blocks = [slice(start, min(start + step, span.stop)) for start in range(span.start, span.stop, step)]
    if len(blocks) == 1:
        yield span, read(span.start, span.stop)
        return
    with ThreadPoolExecutor(1, "read-ahead") as thread:
        coming = thread.submit(read, blocks[0].start, blocks[0].stop)
        for block, after in zip(blocks, [*blocks[1:], None], strict=True):
            found = coming.result()
            if after is not None:
                coming = thread.submit(read, after.start, after.stop)
            yield block, found
            del found


#: Values of one layer that a part goes over: 256 MB as float32, about a second of products.
PART_VALUES = 1 << 26
#: Multiply-adds, about a tenth of a second on one core, below which a search is not worth the way to another process.
STEPS_MIN = 5e9

Part = TypeVar("Part")
Result = TypeVar("Result")


class Parts(Protocol):
    """Where the parts of a computation run."""

    @property
    def elsewhere(self) -> bool:
        """Whether parts run in other processes, so that they read rows from a store and hold none."""

    def map(self, function: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
        """Apply a module-level function to every part and give the results in the parts' order, as they come."""

    def overlap(self, calls: Sequence[Callable[[], Result]]) -> list[Result]:
        """Make calls that mostly wait for parts of their own, and give the results in their order."""


class Here:
    """Runs every part in this process, one after the other."""

    elsewhere = False

    def map(self, function: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
        """Apply the function when its result is asked for."""
        return map(function, parts)

    def overlap(self, calls: Sequence[Callable[[], Result]]) -> list[Result]:
        """Make one call after the other."""
        return [call() for call in calls]


HERE = Here()


def block_rows(dim: int) -> int:
    """Rows of a block that is read at once: at most 4096, and 16 MB of them as float32 where they are wide."""
    return max(1, min(BLOCK_ROWS, BLOCK_VALUES // dim))


def split_rows(n: int, dim: int) -> list[slice]:
    """Split n rows of the widest layer's columns into parts of whole blocks: by size alone."""
    block = block_rows(dim)
    step = max(1, PART_VALUES // dim // block) * block
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


#: Steps below which starting threads costs more than it saves.
THREAD_STEPS_MIN = 1 << 22


def map_rows(task: Callable[[slice], T], n: int, steps_per_row: int) -> list[T]:
    """Run a task on equal parts of n rows, one part a thread, and give the results in order.

    There are as many threads as FAISS uses. They end with the call, so that a process may fork after it.
    """
    threads = count_threads() if n * steps_per_row >= THREAD_STEPS_MIN else 1
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
