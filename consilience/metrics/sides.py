"""One side of a comparison: its prepared rows, its neighbour graphs, and a cache of what metrics derive from a layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass
from typing import ClassVar, Generic, Protocol, Self, TypeVar, cast

import numpy as np

from consilience.contract.scores import Reason
from consilience.contract.search import BuilderChoice
from consilience.metrics.graph_sources import FreshGraphs, GraphSource, RowsKey, StorageKey
from consilience.metrics.layers import ROWS_BYTES, LayerGraphs, LayerRows, LayerStatistics
from consilience.numerics.rows.arrays import IdArray
from consilience.numerics.rows.parallel import LOCAL_EXECUTOR, Executor
from consilience.numerics.rows.prepared import RowStatistics
from consilience.numerics.rows.sources import RawLayer
from consilience.numerics.subspaces.moments import CentredRows
from consilience.numerics.subspaces.spectra import StreamedLayer

#: Largest absolute value whose square, summed over rows, stays within float32.
VALUE_MAX = 2.0**60

T = TypeVar("T")
#: Of the value that a key leads to.
Value = TypeVar("Value")


@dataclass(frozen=True)
class CacheKey(Generic[Value]):
    """Key of a value in memory: a subclass for each kind of value, with a field for every option that it depends on.

    `is_transient` marks values that take much memory or belong to one comparison.
    """

    is_transient: ClassVar[bool] = False


@dataclass(frozen=True)
class ReasonKey(CacheKey["Reason | None"]):
    """Reason why no metric of a layer is defined."""


@dataclass(frozen=True)
class StreamedKey(CacheKey[StreamedLayer]):
    """Access to a layer that is read in blocks."""

    is_transient: ClassVar[bool] = True


class LayerCache:
    """Values that metrics derive from one layer alone, each computed once."""

    def __init__(self) -> None:
        self._values: dict[tuple[int, CacheKey[object]], object] = {}

    def memoize(self, index: int, key: CacheKey[T], compute: Callable[[], T]) -> T:
        """Return the value of a key for a layer, computed by the first call."""
        place = index, cast("CacheKey[object]", key)
        if place not in self._values:
            self._values[place] = compute()
        return cast("T", self._values[place])

    def clear_transient(self) -> None:
        """Forget the values that are marked as transient."""
        self._values = {place: value for place, value in self._values.items() if not place[1].is_transient}

    @property
    def values(self) -> list[object]:
        """All values."""
        return list(self._values.values())


class Storable(Protocol):
    """A value that can be stored as bytes."""

    def to_bytes(self) -> bytes:
        """Return the bytes of the value."""

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the bytes that `to_bytes` returned."""


Stored = TypeVar("Stored", bound=Storable)


class PreparedSide:
    """One side of a comparison: the layers that take part, prepared rows, graphs and derived values.

    Attributes
    ----------
    rows : access to the prepared rows of each layer
    statistics : statistics of the rows of each layer
    graphs : neighbour graph of each layer
    cache : values derived from each layer
    executor : executor of long computations
    persistent : True if the side is scored again and again, so that large derived values are stored with the graphs
    """

    def __init__(
        self,
        layers: Sequence[RawLayer],
        clamps: Sequence[float | None],
        *,
        centre: bool,
        normalise: bool,
        source: GraphSource,
        groups: IdArray | None = None,
        builder: BuilderChoice = "auto",
        seed: int = 0,
        rows_bytes: int = ROWS_BYTES,
        executor: Executor = LOCAL_EXECUTOR,
        device: str = "cpu",
        persistent: bool = False,
    ) -> None:
        self.rows = LayerRows(layers, clamps, centre, normalise, rows_bytes)
        self.statistics = LayerStatistics(self.rows, source, executor)
        self.graphs = LayerGraphs(self.rows, self.statistics, source, groups, builder, seed, executor, device)
        self.cache = LayerCache()
        self.executor, self.persistent = executor, persistent

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.rows.n

    @property
    def layers(self) -> Sequence[RawLayer]:
        """The layers that take part, in the order of the grid."""
        return self.rows.layers

    def memoize(self, index: int, key: CacheKey[T], compute: Callable[[], T]) -> T:
        """Return a value derived from one layer, computed once and kept with the side."""
        return self.cache.memoize(index, key, compute)

    def memoize_stored(
        self,
        index: int,
        key: CacheKey[Stored],
        storage_key: Callable[[RowsKey], StorageKey],
        compute: Callable[[], Stored],
        kind: type[Stored],
    ) -> Stored:
        """Return a large value derived from one layer; a persistent side stores it with the graphs."""

        def find() -> Stored:
            if not self.persistent:
                return compute()
            stored = storage_key(self.rows.key(index))
            return kind.from_bytes(self.graphs.source.matrix(lambda: stored, lambda: compute().to_bytes()))

        return self.memoize(index, key, find)

    def centred(self, index: int) -> CentredRows:
        """Access to a layer's rows, and their mean; holds no rows itself."""
        rows = self.rows
        return CentredRows(lambda: rows.reader(index), self.n, self.statistics.find(index).mean)

    def streamed(self, index: int) -> StreamedLayer:
        """Access to a layer for fits that never hold its rows; keeps the moments that it finds."""
        return self.memoize(index, StreamedKey(), lambda: StreamedLayer(self.centred(index), self.executor))

    def reason(self, index: int) -> Reason | None:
        """Reason why no metric of this layer is defined; None if metrics are defined."""
        return self.memoize(
            index, ReasonKey(), lambda: self._find_reason(self.statistics.find(index), self.layers[index].name)
        )

    def _find_reason(self, found: RowStatistics, layer: str) -> Reason | None:
        if self.rows.normalise and (count := found.zero_rows):
            rows = "row is" if count == 1 else "rows are"
            return Reason(
                code="zero-rows", detail=f"{count} {rows} zero in layer {layer} and cannot be scaled to length 1."
            )
        if found.constant:
            return Reason(code="constant-rows", detail=f"All rows of layer {layer} are equal.")
        if not self.rows.normalise and found.largest > VALUE_MAX:
            return Reason(
                code="values-too-large",
                detail=f"Layer {layer} has values above 2^60; without scaling, sums of their products overflow float32.",
            )
        return None

    def select(self, members: IdArray) -> "PreparedSide":
        """Return some of the rows as a side of their own, prepared as here; a subtracted mean is that of all rows."""
        graphs = self.graphs
        selected = PreparedSide(
            self.layers,
            self.rows.clamps,
            centre=self.rows.centre,
            normalise=self.rows.normalise,
            source=FreshGraphs(),  # a key does not say over which rows the mean is
            groups=None if graphs.groups is None else graphs.groups[members],
            builder=graphs.builder,
            executor=self.executor,
            device=graphs.device,
        )
        selected.rows = selected.statistics.rows = selected.graphs.rows = self.rows.select(members)
        return selected

    def clear_transient(self) -> None:
        """Forget the rows and what belongs to one comparison; keep what is derived from each layer alone."""
        self.rows.clear()
        self.cache.clear_transient()

    @property
    def nbytes(self) -> int:
        """Size of all arrays that the side holds, those of graphs and derived values included."""
        return self.rows.nbytes + _count_bytes((self.graphs.found, self.cache.values))


def _count_bytes(value: object) -> int:
    """Size of the arrays in a value and in the tuples, lists, dictionaries and dataclasses inside it."""
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, list | tuple):
        return sum(_count_bytes(item) for item in value)
    if isinstance(value, dict):
        return sum(_count_bytes(item) for item in value.values())
    return sum(_count_bytes(item) for item in vars(value).values()) if is_dataclass(value) else 0
