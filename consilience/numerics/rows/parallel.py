"""Parallel execution: tasks on a local or remote executor, threads over rows, and prefetched blocks.

A task holds everything that its function needs, but access to rows instead of the rows, and can be sent to another process. The
split of a computation into tasks depends only on its size, and results are reduced in the order of the tasks: so the result has
the same bits in any process and at any degree of parallelism. Tasks multiply and select; factorisations, which depend on the
number of threads, run in the process of the job.
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


def prefetch_blocks(read: Callable[[int, int], T], span: slice, step: int) -> Iterator[tuple[slice, T]]:
    """Yield the blocks of rows of a span and what `read` returns for each, in order, prefetching the next block on a thread.

    At most the current block and the next one are in memory. The thread ends with the last block, so that the process may fork
    afterwards; a single block is read without a thread.
    """
    blocks = [slice(start, min(start + step, span.stop)) for start in range(span.start, span.stop, step)]
    if len(blocks) == 1:
        yield span, read(span.start, span.stop)
        return
    with ThreadPoolExecutor(1, "prefetch") as thread:
        pending = thread.submit(read, blocks[0].start, blocks[0].stop)
        for block, after in zip(blocks, [*blocks[1:], None], strict=True):
            found = pending.result()
            if after is not None:
                pending = thread.submit(read, after.start, after.stop)
            yield block, found
            del found


#: Number of values of one layer per task: 256 MB as float32, about a second of products.
PART_VALUES = 1 << 26
#: Multiply-adds, about a tenth of a second on one core, below which a search is not worth sending to another process.
STEPS_MIN = 5e9

Task = TypeVar("Task")
Result = TypeVar("Result")


class Executor(Protocol):
    """Executor of the tasks of a computation."""

    @property
    def is_remote(self) -> bool:
        """True if tasks run in other processes, so that they read rows from a store and hold none."""

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """Apply a module-level function to every task and yield the results in the order of the tasks."""

    def run_concurrently(self, calls: Sequence[Callable[[], Result]]) -> list[Result]:
        """Run calls that mostly wait for tasks of their own, and return their results in order."""


class LocalExecutor:
    """Executor that runs every task in this process, one after the other."""

    is_remote = False

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """Apply the function to a task when its result is requested."""
        return map(function, tasks)

    def run_concurrently(self, calls: Sequence[Callable[[], Result]]) -> list[Result]:
        """Run one call after the other."""
        return [call() for call in calls]


LOCAL_EXECUTOR = LocalExecutor()


def block_rows(dim: int) -> int:
    """Return the number of rows of a block that is read at once: at most 4096, and at most 16 MB as float32."""
    return max(1, min(BLOCK_ROWS, BLOCK_VALUES // dim))


def split_rows(n: int, dim: int) -> list[slice]:
    """Split n rows into parts of whole blocks, by the size of the widest layer only."""
    block = block_rows(dim)
    step = max(1, PART_VALUES // dim // block) * block
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


#: Number of steps below which starting threads costs more than it saves.
THREAD_STEPS_MIN = 1 << 22


def map_rows(task: Callable[[slice], T], n: int, steps_per_row: int) -> list[T]:
    """Run a task on equal parts of n rows, one part per thread, and return the results in order.

    The number of threads is that of FAISS. They end with the call, so that the process may fork afterwards.
    """
    threads = count_threads() if n * steps_per_row >= THREAD_STEPS_MIN else 1
    edges = [n * part // threads for part in range(threads + 1)]
    parts = [slice(start, stop) for start, stop in pairwise(edges)]
    if threads == 1:
        return [task(parts[0])]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(task, parts))


def count_threads() -> int:
    """Return the number of threads of FAISS, which `OMP_NUM_THREADS` limits."""
    return int(faiss.omp_get_max_threads())


class _SerialProducts:
    """Context manager that keeps numpy's matrix products on the calling thread; it can be entered several times at once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._limits: ExitStack | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Limit BLAS to one thread from the first entry to the last exit."""
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
    """Return a controller of the BLAS that numpy calls; the search of all loaded libraries takes a tenth of a second."""
    # FAISS has its own BLAS; a limit on that one would limit all of FAISS in this thread.
    blas = ThreadpoolController().select(user_api="blas")
    return blas.select(
        filepath=[path for path in map(attrgetter("filepath"), blas.lib_controllers) if "faiss" not in path]
    )


#: Context in which each matrix product of numpy uses one thread. The setting is global, so that other threads share it.
serial_products = _SerialProducts()
