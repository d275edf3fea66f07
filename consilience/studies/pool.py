"""The sides that a study has opened: what is found of a layer serves every cell that it is in."""

from collections import OrderedDict
from collections.abc import Callable

from consilience.measures.comparison import Side
from consilience.scoring import SideKey


class Pool:
    """Keeps sides between cells, the least recently used leave first.

    Parameters
    ----------
    limit_bytes : int
        What graphs and moments of sides that are not in use may take together.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._sides: OrderedDict[SideKey, Side] = OrderedDict()
        self._sizes: dict[SideKey, int] = {}
        self._used: set[SideKey] = set()

    def __call__(self, key: SideKey, build: Callable[[], Side]) -> Side:
        """Give the side of a key, opened now or before."""
        if key[-1] == 0:  # its rows are read by blocks, and what is then found belongs to pairs of layers
            return build()
        if key not in self._sides:
            self._sides[key] = build()
        self._sides.move_to_end(key)
        self._used.add(key)
        return self._sides[key]

    def rest(self, *, keep_rows: SideKey | None = None) -> None:
        """Between cells: forget rows, and the sides that there is no room for."""
        for key in self._used:
            side = self._sides[key]
            if key != keep_rows:
                side.rest()
            self._sizes[key] = side.nbytes
        self._used.clear()
        while self._sides and sum(self._sizes.values()) > self._limit:
            key, _ = self._sides.popitem(last=False)
            del self._sizes[key]
