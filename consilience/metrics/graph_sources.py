"""Sources of neighbour graphs and of facts about layers: built anew, counted, or kept in a store under typed keys."""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

from consilience.contract.scores import GraphUse
from consilience.numerics.knn.approximate import IndexSearch
from consilience.numerics.knn.graph import NeighbourGraph


class StorageKey(Protocol):
    """Everything that a stored value depends on. Hashable, and equal to every key of the same value."""

    @property
    def address(self) -> str:
        """Unique text of the key, from which the name in the store is derived."""

    def __hash__(self) -> int:
        """Hash of all fields."""


@dataclass(frozen=True)
class RowsKey:
    """Key of the prepared rows of a layer.

    Attributes
    ----------
    digest : digest of the layer's numbers and selected rows
    clamp : threshold at which values are clamped, None for no clamp
    centre : True if the mean row is subtracted
    normalise : True if rows are scaled to length 1
    """

    digest: str
    clamp: float | None
    centre: bool
    normalise: bool

    @property
    def address(self) -> str:
        """Text of the key."""
        return f"{self.digest} clamp={self.clamp!r} centre={self.centre} l2={self.normalise}"


@dataclass(frozen=True)
class ExactSearch:
    """Search that finds the true neighbours: the same graph for every builder and device, and for every smaller k."""

    @property
    def address(self) -> str:
        """Text of the key."""
        return "exact"


@dataclass(frozen=True)
class ApproximateSearch:
    """Search through an index: the result depends on the number of neighbours that are requested."""

    k: int
    search: IndexSearch

    @property
    def address(self) -> str:
        """Text of the key."""
        search = self.search  # the names in the text are those of the first stored graphs
        return (
            f"approximate k={self.k} Search(index={search.index!r}, effort={search.effort}, spare={search.candidate_factor}, "
            f"recall_queries={search.recall_queries}, seed={search.seed})"
        )


@dataclass(frozen=True)
class QuerySearch:
    """Search for some rows only.

    Attributes
    ----------
    queries : digest of the query rows
    galleries : sizes of the nested galleries; empty for the gallery of all rows
    seed : seed of the galleries
    """

    queries: str
    galleries: tuple[int, ...] = ()
    seed: int = 0

    @property
    def address(self) -> str:
        """Text of the key."""
        galleries = f"{self.galleries} seed={self.seed}" if self.galleries else "all"
        return f"queries={self.queries} galleries={galleries}"


@dataclass(frozen=True)
class GraphKey:
    """Key of a neighbour graph: the prepared rows, the digest of their groups, and the search."""

    rows: RowsKey
    groups: str | None
    search: ExactSearch | ApproximateSearch | QuerySearch

    @property
    def address(self) -> str:
        """Text of the key."""
        return f"{self.rows.address} groups={self.groups or 'none'} {self.search.address}"


@dataclass(frozen=True)
class StatisticsKey:
    """Key of the row statistics of a layer."""

    rows: RowsKey

    @property
    def address(self) -> str:
        """Text of the key."""
        return f"scan of {self.rows.address}"


#: Returns a key: the digests in it are computed only by a source that keeps values.
LazyKey = Callable[[], StorageKey]
#: Builds a graph with a number of neighbours per row.
Builder = Callable[[int], NeighbourGraph]


class GraphSource(Protocol):
    """Source of neighbour graphs and of facts about layers: builds them here, or reads them from a store."""

    def graph(self, key: LazyKey, k: int, build: Builder) -> tuple[NeighbourGraph, bool]:
        """Return the graph of a key with k_max >= k, and True if it was already stored."""

    def fact(self, key: LazyKey, find: Callable[[], bytes]) -> bytes:
        """Return a stored fact about a layer, or compute it."""

    def matrix(self, key: LazyKey, find: Callable[[], bytes]) -> bytes:
        """Return a stored matrix of a layer, megabytes in size, or compute it."""


class FreshGraphs:
    """Source that builds every graph and stores none."""

    def graph(self, key: LazyKey, k: int, build: Builder) -> tuple[NeighbourGraph, bool]:  # noqa: ARG002 - a store needs it
        """Build the graph."""
        return build(k), False

    def fact(self, key: LazyKey, find: Callable[[], bytes]) -> bytes:  # noqa: ARG002 - the same
        """Compute the fact."""
        return find()

    def matrix(self, key: LazyKey, find: Callable[[], bytes]) -> bytes:  # noqa: ARG002 - the same
        """Compute the matrix."""
        return find()


@dataclass
class CountedGraphs:
    """Source that counts how often another source had a graph and how often it had to build one."""

    source: GraphSource
    hits: int = 0
    misses: int = 0
    _lock: Lock = field(default_factory=Lock)

    def graph(self, key: LazyKey, k: int, build: Builder) -> tuple[NeighbourGraph, bool]:
        """Return the graph of the other source."""
        graph, hit = self.source.graph(key, k, build)
        with self._lock:  # several layers may wait for a cluster at the same time
            self.hits, self.misses = self.hits + hit, self.misses + (not hit)
        return graph, hit

    def fact(self, key: LazyKey, find: Callable[[], bytes]) -> bytes:
        """Return a fact of the other source, without counting it."""
        return self.source.fact(key, find)

    def matrix(self, key: LazyKey, find: Callable[[], bytes]) -> bytes:
        """Return a matrix of the other source, without counting it."""
        return self.source.matrix(key, find)

    @property
    def use(self) -> GraphUse | None:
        """Counts for the document; None if no graph was needed."""
        return GraphUse(hits=self.hits, misses=self.misses) if self.hits or self.misses else None
