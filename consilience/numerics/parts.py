"""The parts of a long computation: mapped here one after the other, or elsewhere by whoever implements the same protocol.

A part says everything that its function needs, holds access to rows and not the rows, and can be sent to another process. How a
computation is split depends on its size alone, and results are reduced in the parts' order: so it gives the same bits wherever
it runs, and however many run at once. A part's function multiplies and selects: factorisations depend on the number of threads,
and stay with the job.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from consilience.numerics.arrays import BLOCK_ROWS

#: Values of one layer that a part goes over: 256 MB as float32, about a second of products.
PART_VALUES = 1 << 26
#: Values of a block of rows that is read at once: 16 MB as float32.
BLOCK_VALUES = 1 << 22
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
