"""Access to the rows of the layers of one side: in memory if they fit, else read in blocks."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from consilience.limits import FLOAT32_BYTES, PREPARED_BYTES
from consilience.metrics.graph_sources import GraphSource, RowsKey, StatisticsKey
from consilience.numerics.rows.arrays import Float32Array, IdArray
from consilience.numerics.rows.parallel import LOCAL_EXECUTOR, Executor
from consilience.numerics.rows.prepared import LoadedRows, PreparedRows, Rows, RowStatistics, find_row_statistics
from consilience.numerics.rows.sources import RawLayer, SelectedLayer

#: Bytes of a layer's prepared rows above which they are read in blocks, unless a memory budget sets another limit.
ROWS_BYTES = 4_000_000_000


@dataclass
class LayerRows:
    """Prepared rows of the layers of one side.

    Attributes
    ----------
    layers : the layers that take part, in the order of the grid
    clamps : the clamp threshold of each layer, None for no clamp
    centre : True if the mean row is subtracted
    normalise : True if rows are scaled to length 1
    max_bytes : largest size of a layer that is held in memory; a larger one is read in blocks
    """

    layers: Sequence[RawLayer]
    clamps: Sequence[float | None]
    centre: bool
    normalise: bool
    max_bytes: int = ROWS_BYTES
    _arrays: OrderedDict[int, Float32Array] = field(default_factory=OrderedDict)
    _prepared: dict[int, PreparedRows] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.layers[0].n

    def size_bytes(self, index: int) -> int:
        """Size of the prepared rows of a layer in memory."""
        return FLOAT32_BYTES * self.layers[index].n * self.layers[index].dim

    def is_streamed(self, index: int) -> bool:
        """Return True if a layer is read in blocks because it does not fit in memory."""
        return self.size_bytes(index) > self.max_bytes

    def array(self, index: int) -> Float32Array:
        """All prepared rows (n, d) of a layer, in memory."""
        if index not in self._arrays:
            room = 0 if self.is_streamed(index) else PREPARED_BYTES - self.size_bytes(index)
            while self._arrays and sum(rows.nbytes for rows in self._arrays.values()) > room:
                self._arrays.popitem(last=False)
            self._arrays[index] = self.prepared(index).load().array
        self._arrays.move_to_end(index)
        return self._arrays[index]

    def prepared(self, index: int) -> PreparedRows:
        """Return the description of a layer's rows and their preparation, for this process or another one."""
        if index not in self._prepared:
            self._prepared[index] = PreparedRows.of(
                self.layers[index], clamp=self.clamps[index], centre=self.centre, normalise=self.normalise
            )
        return self._prepared[index]

    def reader(self, index: int) -> Rows:
        """Access to the prepared rows of a layer: loaded if they fit in memory, else read in blocks each time."""
        if self.is_streamed(index):
            return self.prepared(index)
        return LoadedRows(self.array(index), self.prepared(index))

    def reader_for_one_pass(self, index: int) -> Rows:
        """Access for a single pass: loaded rows if they are in memory or small enough to stay there, else blocks."""
        if index in self._arrays or self.size_bytes(index) <= PREPARED_BYTES:
            return self.reader(index)
        return self.prepared(index)

    def key(self, index: int) -> RowsKey:
        """Key of the prepared rows of a layer."""
        return RowsKey(self.layers[index].digest, self.clamps[index], self.centre, self.normalise)

    def select(self, members: IdArray) -> "LayerRows":
        """Return some of the rows, prepared as here; a subtracted mean is that of all rows."""
        layers = [SelectedLayer(layer, members.astype(np.intp)) for layer in self.layers]
        selected = LayerRows(layers, self.clamps, self.centre, self.normalise, self.max_bytes)
        selected._prepared = {index: replace(self.prepared(index), layer=layer) for index, layer in enumerate(layers)}
        return selected

    def clear(self) -> None:
        """Release all rows in memory."""
        self._arrays.clear()

    @property
    def nbytes(self) -> int:
        """Size of the rows in memory."""
        return sum(rows.nbytes for rows in self._arrays.values())


@dataclass
class LayerStatistics:
    """Statistics of the rows of each layer, from one pass over them; computed once."""

    rows: LayerRows
    source: GraphSource
    executor: Executor = LOCAL_EXECUTOR
    _found: dict[int, RowStatistics] = field(default_factory=dict)

    def find(self, index: int) -> RowStatistics:
        """Statistics of a layer's prepared rows."""
        if index not in self._found:
            found = self.source.fact(
                lambda: StatisticsKey(self.rows.key(index)),
                lambda: find_row_statistics(self.rows.reader_for_one_pass(index), self.executor).to_bytes(),
            )
            self._found[index] = RowStatistics.from_bytes(found)
        return self._found[index]

    def largest_value(self, index: int) -> float:
        """Upper bound of the absolute values of a layer's prepared rows."""
        return 1.0 if self.rows.normalise else self.find(index).largest
