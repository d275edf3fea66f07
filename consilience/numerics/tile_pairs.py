"""Tiles of a symmetric matrix, done by several threads of which no two touch the same rows at a time."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import ceil
from threading import Condition

from consilience.numerics.threads import count_threads, serial_products

#: Numbers of the row block and the column block of a tile, the first not above the second.
Pair = tuple[int, int]

#: A tile of so many rows and columns fills float32 products of any width that embeddings have, and stays near the cache.
TILE_ROWS = 1024
#: Below it, starting a product costs more than the threads gain.
TILE_ROWS_MIN = 256
#: Blocks that keep several threads busy.
BLOCKS_MIN = 8


def block_edges(n: int) -> list[int]:
    """Where the blocks of n rows begin, and the last one's end; by n alone, so that every product is the same everywhere."""
    blocks = count_blocks(n)
    return [n * block // blocks for block in range(blocks + 1)]


def count_blocks(n: int) -> int:
    """Number of blocks of n rows."""
    return max(ceil(n / TILE_ROWS), min(BLOCKS_MIN, ceil(n / TILE_ROWS_MIN)))


def all_pairs(blocks: int) -> list[Pair]:
    """Every pair of so many blocks once."""
    return [(i, j) for i in range(blocks) for j in range(i, blocks)]


def is_diagonal(pairs: Sequence[Pair]) -> bool:
    """Whether tiles hold some of the diagonal, where rows meet themselves."""
    return any(i == j for i, j in pairs)


class _Queue:
    """The tiles still to do."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        # The diagonal first: it gives every row a limit. Then pairs of one sum, which share no block.
        blocks = 1 + max(max(pair) for pair in pairs)
        self._waiting = sorted(pairs, key=lambda pair: (pair[0] != pair[1], sum(pair) % blocks, pair))
        self._busy: set[int] = set()
        self._changed = Condition()

    def take(self) -> Pair | None:
        """A tile whose rows and columns nobody is at, waiting for one; None where nothing is left."""
        with self._changed:
            while self._waiting:
                pair = next((pair for pair in self._waiting if self._busy.isdisjoint(pair)), None)
                if pair is not None:
                    self._waiting.remove(pair)
                    self._busy.update(pair)
                    return pair
                self._changed.wait()
            return None

    def give_back(self, pair: Pair) -> int:
        """Free a tile's rows and columns; how many tiles are left to take."""
        with self._changed:
            self._busy.difference_update(pair)
            self._changed.notify_all()
            return len(self._waiting)

    @contextmanager
    def emptied(self) -> Iterator[None]:
        """Whoever fails leaves the others nothing to do."""
        try:
            yield
        except BaseException:
            with self._changed:
                self._waiting.clear()
                self._changed.notify_all()
            raise


def run_pairs(
    pairs: Sequence[Pair], open_worker: Callable[[], Callable[[Pair], None]], report: Callable[[float], None]
) -> None:
    """Do every tile once, in any order; numpy's products use one thread each meanwhile.

    The threads are as many as FAISS uses, this one among them, and end with the call, so that a process may fork after it.

    Parameters
    ----------
    open_worker : callable
        Called once in each thread: what does one tile, with buffers of its own. The tiles that run at one time share no block.
    report : callable
        Told in this thread which share of the tiles is begun. What it raises ends the call.
    """
    queue = _Queue(pairs)

    def run(report: Callable[[float], None]) -> None:
        with queue.emptied():
            work = open_worker()
            while (pair := queue.take()) is not None:
                try:
                    work(pair)
                finally:
                    left = queue.give_back(pair)
                report(1 - left / len(pairs))

    others = min(count_threads(), len(pairs)) - 1
    with serial_products(), ThreadPoolExecutor(max(1, others)) as pool:
        running = [pool.submit(run, lambda _: None) for _ in range(others)]
        run(report)
        for future in running:
            future.result()
