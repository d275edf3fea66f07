"""How many graphs a request took from a cache, and how many it had to build."""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from consilience.contract.scores import GraphUse
from consilience.measures.comparison import Address, Builder, GraphSource
from consilience.numerics.neighbours import NeighbourGraph


@dataclass
class CountedGraphs:
    """The graphs of another source, counted."""

    source: GraphSource
    hits: int = 0
    misses: int = 0
    _counting: Lock = field(default_factory=Lock)

    def graph(self, key: Address, k: int, build: Builder) -> tuple[NeighbourGraph, bool]:
        """Give the source's graph."""
        graph, hit = self.source.graph(key, k, build)
        with self._counting:  # several layers may wait for a cluster at the same time
            self.hits, self.misses = self.hits + hit, self.misses + (not hit)
        return graph, hit

    def fact(self, key: Address, find: Callable[[], bytes]) -> bytes:
        """Give what the source knows of a layer; not counted."""
        return self.source.fact(key, find)

    def matrix(self, key: Address, find: Callable[[], bytes]) -> bytes:
        """Give what the source keeps of a layer; not counted."""
        return self.source.matrix(key, find)

    @property
    def use(self) -> GraphUse | None:
        """What the document says; None where no graph was needed."""
        return GraphUse(hits=self.hits, misses=self.misses) if self.hits or self.misses else None
