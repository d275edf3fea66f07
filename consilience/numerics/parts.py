"""The parts of a long computation: mapped here one after the other, or elsewhere by whoever implements the same protocol.

A part says everything that its function needs, holds access to rows and not the rows, and can be sent to another process. How a
computation is split depends on its size alone, and results are reduced in the parts' order: so it gives the same bits wherever
it runs, and however many run at once.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")


class Parts(Protocol):
    """Where the parts of a computation run."""

    def map(self, function: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
        """Apply a module-level function to every part and give the results in the parts' order, as they come."""


class Here:
    """Runs every part in this process, one after the other."""

    def map(self, function: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
        """Apply the function when its result is asked for."""
        return map(function, parts)
