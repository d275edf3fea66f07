"""Reading ahead: while one block of rows is worked on, a thread reads and prepares the next."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

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
