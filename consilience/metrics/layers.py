"""Rows and neighbour graphs of the layers of one side.

Rows are held in memory if they fit, else they are read in blocks. A graph is built by the chosen builder, on a device or by
other processes, and warns about missing neighbours.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

import numpy as np

from consilience.contract.search import Approximate, BuilderChoice, choose_index
from consilience.limits import FLOAT32_BYTES, PREPARED_BYTES
from consilience.metrics.graph_sources import (
    ApproximateSearch,
    ExactSearch,
    GraphKey,
    GraphSource,
    QuerySearch,
    RowsKey,
    StatisticsKey,
)
from consilience.numerics.knn.approximate import IndexSearch, build_approximate
from consilience.numerics.knn.build import build_graph, choose_gpu
from consilience.numerics.knn.graph import NeighbourGraph, scale_exponent
from consilience.numerics.knn.graph_tasks import GraphTask, build_by_tasks
from consilience.numerics.rows.arrays import Float32Array, IdArray
from consilience.numerics.rows.parallel import LOCAL_EXECUTOR, STEPS_MIN, Executor
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


#: Number of rows up to which an exact graph takes no longer than an approximate one, measured at 384 columns.
EXACT_GRAPH_ROWS = 50_000


@dataclass
class LayerGraphs:
    """Neighbour graphs of the layers of one side.

    Attributes
    ----------
    rows, statistics : the rows that are searched
    source : source of graphs that may already exist
    groups : group number of each row; rows of one group are never each other's neighbours
    builder : method of the search
    seed : seed of everything random in an approximate graph
    executor : executor of long computations
    device : device for the search: `cpu`, `cuda`, `cuda:1` or `auto`
    """

    rows: LayerRows
    statistics: LayerStatistics
    source: GraphSource
    groups: IdArray | None = None
    builder: BuilderChoice = "auto"
    seed: int = 0
    executor: Executor = LOCAL_EXECUTOR
    device: str = "cpu"
    _found: dict[int, tuple[NeighbourGraph, bool]] = field(default_factory=dict)

    def find(self, index: int, k: int, report: Callable[[int], None] | None = None) -> tuple[NeighbourGraph, bool]:
        """Return the neighbour graph of a layer with k_max >= k, and True if the source already had it.

        `report` is called with the number of rows searched so far.
        """
        found = self._found.get(index)
        if found is None or found[0].k_max < k:
            found = self.source.graph(
                lambda: self.key(index, self._search_key(index, k)), k, lambda k_max: self._build(index, k_max, report)
            )
            self._found[index] = found
        return found

    def key(self, index: int, search: ExactSearch | ApproximateSearch | QuerySearch) -> GraphKey:
        """Key of a graph of a layer: the numbers and rows, their preparation, the groups and the search."""
        groups = None if self.groups is None else sha256(self.groups.tobytes()).hexdigest()
        return GraphKey(self.rows.key(index), groups, search)

    def _search_key(self, index: int, k: int) -> ExactSearch | ApproximateSearch:
        if isinstance(self.builder, Approximate):
            return ApproximateSearch(k, self._find_search(self.builder, index, k))
        return ExactSearch()

    def _find_search(self, choice: Approximate, index: int, k: int) -> IndexSearch:
        return find_search(choice, self.rows.n, self.rows.layers[index].dim, k, self.seed)

    def _build(self, index: int, k_max: int, report: Callable[[int], None] | None) -> NeighbourGraph:
        rows, builder = self.rows, self.builder
        if isinstance(builder, Approximate):
            search, largest = self._find_search(builder, index, k_max), self.statistics.largest_value(index)
            return build_approximate(
                rows.reader_for_one_pass(index), k_max, search, groups=self.groups, largest=largest, report=report
            )
        if not (self.is_remote(index) or self._reads_tiles(index)):
            graph = build_graph(rows.array(index), k_max, self.groups, report, builder, device=self.device)
            if rows.is_streamed(index):  # a graph needs all rows of one layer, and the next layer needs their room
                rows.clear()
            return graph
        exponent = scale_exponent(self.statistics.largest_value(index))
        task = GraphTask(rows.prepared(index), k_max, self.groups, exponent, builder)
        return build_by_tasks(task, self.executor, report)

    def is_remote(self, index: int) -> bool:
        """Return True if the graph of a layer is built by other processes: it is large enough, and no GPU is here."""
        dim = self.rows.layers[index].dim
        if isinstance(self.builder, Approximate):  # an index is built in one piece
            return False
        if not self.executor.is_remote or float(self.rows.n) ** 2 * dim < STEPS_MIN:
            return False
        return choose_gpu(self.rows.n, dim, self.builder, self.device) is None

    def _reads_tiles(self, index: int) -> bool:
        """Return True if a graph is built from tiles whose rows are read one by one, because the layer does not fit."""
        if not self.rows.is_streamed(index) or self.builder == "faiss" or isinstance(self.builder, Approximate):
            return False
        return choose_gpu(self.rows.n, self.rows.layers[index].dim, self.builder, self.device) is None

    @property
    def found(self) -> list[tuple[NeighbourGraph, bool]]:
        """All graphs in memory."""
        return list(self._found.values())


def find_search(choice: Approximate, n: int, dim: int, k: int, seed: int) -> IndexSearch:
    """Find the search for the k neighbours of each of n rows of `dim` columns through an index.

    Raises
    ------
    InvalidRequest
        The index does not suit the rows.
    """
    index = choose_index(choice, n, dim, k)
    return IndexSearch(index.shape.text, index.effort, index.shape.candidate_factor, choice.recall_queries, seed)


def worst_recall(graphs: Sequence[NeighbourGraph], k: int) -> float:
    """Share of the true k neighbours in the worst of some graphs; 1 if all graphs are exact."""
    return min(1.0 if graph.recall is None else graph.recall[k - 1] for graph in graphs)


def warn_of_recall(a: Sequence[NeighbourGraph], b: Sequence[NeighbourGraph], k: int) -> tuple[str, ...]:
    """Explain the effect of missing neighbours on a score; empty if no graph of either side is approximate."""
    measured = [graph.recall_queries for graph in (*a, *b) if graph.recall_queries is not None]
    if not measured:
        return ()
    recall_a, recall_b = worst_recall(a, k), worst_recall(b, k)
    effect = (
        f"The graphs are approximate: measured on {min(measured)} rows, they contain {recall_a:.2%} of the true {k} "
        f"neighbours in a and {recall_b:.2%} in b. A shared neighbour counts only if both sides find it: the agreement "
        f"beyond chance is too low, by a factor of {recall_a * recall_b:.3f} if neighbours are missed at random."
    )
    n = len(a[0].ids)
    if n > EXACT_GRAPH_ROWS:
        return (effect,)
    return effect, f"With {n} rows, an exact graph takes no longer: use `builder: auto`."
