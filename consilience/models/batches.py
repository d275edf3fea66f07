"""Which items go through a model together: those of like length, so that little of a batch is padding."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.intp]


def plan_batches(lengths: Sequence[int], tokens: int, items: int) -> Iterator[Positions]:
    """Where the items of each batch stand, longest first: what is too much for memory fails at once.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each item.
    tokens : int
        What a batch may have with its padding; a longer item is a batch alone.
    items : int
        Items of a batch, at most.
    """
    order = np.argsort(-np.asarray(lengths, np.intp), kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, lengths[int(order[start])])
        stop = start + max(1, min(items, tokens // longest))
        yield order[start:stop]
        start = stop
