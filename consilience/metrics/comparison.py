"""How many graphs a request took from a cache, and how many it had to build."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from functools import partial
from hashlib import sha256
from threading import Lock
from typing import Protocol, Self, TypeVar, cast
from weakref import proxy

import numpy as np

from consilience.contract.scores import GraphUse, Reason
from consilience.contract.search import Approximate, BuilderChoice, choose_index
from consilience.numerics.knn.approximate import Search, build_approximate
from consilience.numerics.knn.build import build_graph, choose_card
from consilience.numerics.knn.graph import NeighbourGraph, scale_exponent
from consilience.numerics.knn.parts import GraphTask, build_in_parts
from consilience.numerics.rows.arrays import Float32Array, IdArray
from consilience.numerics.rows.parallel import HERE, STEPS_MIN, Parts
from consilience.numerics.rows.prepared import LoadedRows, PreparedRows, Rows, RowStatistics, find_row_statistics
from consilience.numerics.rows.sources import RawLayer, SelectedLayer
from consilience.numerics.stats.nulls import Permutation, draw_permutation
from consilience.numerics.subspaces.moments import CentredRows
from consilience.numerics.subspaces.spectra import StreamedLayer

#: Rows up to which the exact builders take no longer, measured against auto at 384 columns.
EXACT_ROWS = 50_000


def find_search(choice: Approximate, n: int, dim: int, k: int, seed: int) -> Search:
    """Find how the k neighbours of each of n rows of so many columns are searched.

    Raises
    ------
    InvalidRequest
        The index does not suit the rows.
    """
    index = choose_index(choice, n, dim, k)
    return Search(index.shape.text, index.effort, index.shape.spare, choice.recall_queries, seed)


def worst_recall(graphs: Sequence[NeighbourGraph], k: int) -> float:
    """Share of the true k neighbours in the worst of some graphs; 1 where all are exact."""
    return min(1.0 if graph.recall is None else graph.recall[k - 1] for graph in graphs)


def warn(a: Sequence[NeighbourGraph], b: Sequence[NeighbourGraph], k: int) -> tuple[str, ...]:
    """Say what missing neighbours do to a score, where some graph of either side is approximate."""
    asked = [graph.recall_queries for graph in (*a, *b) if graph.recall_queries is not None]
    if not asked:
        return ()
    found_a, found_b = worst_recall(a, k), worst_recall(b, k)
    told = (
        f"The graphs are approximate: measured on {min(asked)} rows, they hold {found_a:.2%} of the true {k} neighbours "
        f"in a and {found_b:.2%} in b. A shared neighbour counts only where both sides found it: agreement beyond chance "
        f"is too low, by a factor of {found_a * found_b:.3f} if neighbours are missed at random."
    )
    n = len(a[0].ids)
    if n > EXACT_ROWS:
        return (told,)
    return told, f"At {n} rows an exact graph takes no longer: `builder: auto` makes one."


#: Bytes of prepared rows kept on each side, so that a grid does not prepare each layer for every cell.
PREPARED_BYTES = 512_000_000
#: Bytes of a layer's prepared rows above which it is read by blocks, where no budget says otherwise.
ROWS_BYTES = 4_000_000_000
FLOAT32_BYTES = 4

T = TypeVar("T")


class Storable(Protocol):
    """What a cache can hold."""

    def to_bytes(self) -> bytes:
        """Write it."""

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote."""


M = TypeVar("M", bound=Storable)

#: Values above it have squares whose sums leave float32.
VALUE_MAX = 2.0**60

#: What a graph depends on, in words; found only where graphs are kept.
Address = Callable[[], str]
#: Makes a graph of so many neighbours per row.
Builder = Callable[[int], NeighbourGraph]

#: Called with a stage, what is done and what there is to do.
Report = Callable[[str, int, int], None]


class GraphSource(Protocol):
    """Where neighbour graphs come from: built here, or out of a cache."""

    def graph(self, key: Address, k: int, build: Builder) -> tuple[NeighbourGraph, bool]:
        """Give the graph of a key with k_max of at least k, and whether it was there already."""

    def fact(self, key: Address, find: Callable[[], bytes]) -> bytes:
        """Give what was found once of a layer, or find it."""

    def matrix(self, key: Address, find: Callable[[], bytes]) -> bytes:
        """The same for what takes room: megabytes of a layer that is asked for again and again."""


class FreshGraphs:
    """Builds every graph, keeps none."""

    def graph(self, key: Address, k: int, build: Builder) -> tuple[NeighbourGraph, bool]:  # noqa: ARG002 - a cache needs it
        """Build it."""
        return build(k), False

    def fact(self, key: Address, find: Callable[[], bytes]) -> bytes:  # noqa: ARG002 - the same
        """Find it."""
        return find()

    def matrix(self, key: Address, find: Callable[[], bytes]) -> bytes:  # noqa: ARG002 - the same
        """Find it."""
        return find()


def count_bytes(value: object) -> int:
    """What the arrays in a value take, also those in tuples, lists, dictionaries and dataclasses."""
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, list | tuple):
        return sum(count_bytes(item) for item in value)
    if isinstance(value, dict):
        return sum(count_bytes(item) for item in value.values())
    return sum(count_bytes(item) for item in vars(value).values()) if is_dataclass(value) else 0


@dataclass
class Side:
    """One side of a comparison: the layers that take part, and how their rows are prepared.

    Attributes
    ----------
    layers : the layers that take part, in the grid's order
    clamps : the clamp threshold of each of them, None for no clamp
    centre : whether the mean row is subtracted
    normalise : whether rows are scaled to length 1
    groups : the group number of each row; rows of one group are never each other's neighbours
    builder : how graphs are built
    seed : of whatever an approximate graph draws
    rows_bytes : a layer whose prepared rows take more is read by blocks
    parts : where long computations run
    device : what multiplies for graphs: `cpu`, `cuda`, `cuda:1` or `auto`
    lasting : whether it will be asked for again and again, so that what takes room is kept too
    """

    layers: Sequence[RawLayer]
    clamps: Sequence[float | None]
    centre: bool
    normalise: bool
    graphs: GraphSource
    groups: IdArray | None = None
    builder: BuilderChoice = "auto"
    seed: int = 0
    rows_bytes: int = ROWS_BYTES
    parts: Parts = HERE
    device: str = "cpu"
    lasting: bool = False
    _rows: OrderedDict[int, Float32Array] = field(default_factory=OrderedDict)
    _graphs: dict[int, tuple[NeighbourGraph, bool]] = field(default_factory=dict)
    _kept: dict[tuple[int, str], object] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.layers[0].n

    def rows(self, index: int) -> Float32Array:
        """All prepared rows (n, d) of a layer, in memory."""
        if index not in self._rows:
            layer = self.layers[index]
            kept = 0 if self.streams(index) else PREPARED_BYTES - FLOAT32_BYTES * layer.n * layer.dim
            while self._rows and sum(rows.nbytes for rows in self._rows.values()) > kept:
                self._rows.popitem(last=False)
            self._rows[index] = self.prepared(index).load().array
        self._rows.move_to_end(index)
        return self._rows[index]

    def prepared(self, index: int) -> PreparedRows:
        """How the rows of a layer are read and prepared, wherever that is done."""
        return self.keep(
            index,
            "prepared",
            lambda: PreparedRows.of(
                self.layers[index], clamp=self.clamps[index], centre=self.centre, normalise=self.normalise
            ),
        )

    def reader(self, index: int) -> Rows:
        """Access to the prepared rows of a layer: in memory where they fit, else read by blocks each time."""
        return self.prepared(index) if self.streams(index) else LoadedRows(self.rows(index), self.prepared(index))

    def streams(self, index: int) -> bool:
        """Whether a layer is read by blocks, because its rows do not fit."""
        layer = self.layers[index]
        return FLOAT32_BYTES * layer.n * layer.dim > self.rows_bytes

    def streamed(self, index: int) -> StreamedLayer:
        """A layer for fits that never hold its rows; what is found of it is kept."""
        return self.keep(index, "streamed", lambda: StreamedLayer(self.centred(index), self.parts))

    def stream(self, index: int) -> Rows:
        """Access to the prepared rows for one pass: in memory where they are, or are soon read, else by blocks."""
        layer = self.layers[index]
        if index in self._rows or FLOAT32_BYTES * layer.n * layer.dim <= PREPARED_BYTES:
            return self.reader(index)
        return self.prepared(index)

    def keep(self, index: int, name: str, build: Callable[[], T]) -> T:
        """Whatever a metric derives from one layer alone, built once and kept for the whole request.

        `name` tells the kinds apart and holds every option that the result depends on.
        """
        if (index, name) not in self._kept:
            self._kept[index, name] = build()
        return cast("T", self._kept[index, name])

    def keep_matrix(self, index: int, name: str, build: Callable[[], M], kind: type[M]) -> M:
        """The same for what takes room; of a side that lasts it is kept where graphs are."""

        def find() -> M:
            if not self.lasting:
                return build()
            key = f"{name} of {self._preparation(index)}"
            return kind.from_bytes(self.graphs.matrix(lambda: key, lambda: build().to_bytes()))

        return self.keep(index, name, find)

    def scan(self, index: int) -> RowStatistics:
        """What one look at every row tells of a layer."""

        def find() -> bytes:
            return find_row_statistics(self.stream(index), self.parts).to_bytes()

        def read() -> RowStatistics:
            return RowStatistics.from_bytes(self.graphs.fact(lambda: f"scan of {self._preparation(index)}", find))

        return self.keep(index, "scan", read)

    def centred(self, index: int) -> CentredRows:
        """Access to a layer's rows, and their mean; it holds no rows."""
        side = proxy(self)  # a circle would keep all rows until the next full collection of garbage
        return CentredRows(lambda: side.reader(index), self.n, self.scan(index).mean)

    def graph(self, index: int, k: int, report: Callable[[int], None] | None = None) -> tuple[NeighbourGraph, bool]:
        """Neighbour graph of a layer with k_max of at least k, and whether it came out of the cache.

        `report` is told how many rows have been searched.
        """
        found = self._graphs.get(index)
        if found is None or found[0].k_max < k:
            found = self.graphs.graph(partial(self._key, index, k), k, self._build(index, report))
            self._graphs[index] = found
        return found

    def _build(self, index: int, report: Callable[[int], None] | None) -> Builder:
        def build(k_max: int) -> NeighbourGraph:
            if isinstance(self.builder, Approximate):
                search, largest = self._search(self.builder, index, k_max), self._largest(index)
                return build_approximate(
                    self.stream(index), k_max, search, groups=self.groups, largest=largest, report=report
                )
            if not (self.sends(index) or self._tiles(index)):
                graph = build_graph(self.rows(index), k_max, self.groups, report, self.builder, device=self.device)
                if self.streams(index):  # a graph needs all rows of one layer; the others' have room after it
                    self._rows.clear()
                return graph
            exponent = scale_exponent(self._largest(index))
            task = GraphTask(self.prepared(index), k_max, self.groups, exponent, self.builder)
            return build_in_parts(task, self.parts, report)

        return build

    def _largest(self, index: int) -> float:
        """The largest absolute value of a layer's prepared rows, or something above it."""
        return 1.0 if self.normalise else self.scan(index).largest

    def _search(self, choice: Approximate, index: int, k: int) -> Search:
        return find_search(choice, self.n, self.layers[index].dim, k, self.seed)

    def sends(self, index: int) -> bool:
        """Whether the graph of a layer is built elsewhere: where it is worth the way, and no card is here."""
        dim = self.layers[index].dim
        if isinstance(self.builder, Approximate):  # an index is one piece
            return False
        if not self.parts.elsewhere or float(self.n) ** 2 * dim < STEPS_MIN:
            return False
        return choose_card(self.n, dim, self.builder, self.device) is None

    def _tiles(self, index: int) -> bool:
        """Whether a graph is built of tiles whose rows are read for them, because those of the layer do not fit."""
        if not self.streams(index) or self.builder == "faiss" or isinstance(self.builder, Approximate):
            return False
        return choose_card(self.n, self.layers[index].dim, self.builder, self.device) is None

    def rest(self) -> None:
        """Forget what takes room or belongs to one comparison; keep what is found of each layer alone."""
        self._rows.clear()
        passing = ("known", "similarities", "streamed")
        self._kept = {key: found for key, found in self._kept.items() if key[1] not in passing}

    @property
    def nbytes(self) -> int:
        """What its arrays take, those that graphs and derived quantities hold included."""
        derived = [found for (_, name), found in self._kept.items() if name != "prepared"]  # that one holds a layer
        return count_bytes((list(self._rows.values()), list(self._graphs.values()), derived))

    def select(self, members: IdArray) -> "Side":
        """Some of the rows as a side of their own, prepared as here: less the mean of all rows, where one is subtracted."""
        selected = Side(
            layers=[SelectedLayer(layer, members.astype(np.intp)) for layer in self.layers],
            clamps=self.clamps,
            centre=self.centre,
            normalise=self.normalise,
            graphs=FreshGraphs(),  # an address does not say of which rows the mean is
            groups=None if self.groups is None else self.groups[members],
            builder=self.builder,
            rows_bytes=self.rows_bytes,
            parts=self.parts,
            device=self.device,
        )
        for index, layer in enumerate(selected.layers):
            selected._kept[index, "prepared"] = replace(self.prepared(index), layer=layer)
        return selected

    def reason(self, index: int) -> Reason | None:
        """Why no metric of this layer is defined, where none is."""
        return self.keep(index, "reason", lambda: self._find_reason(self.scan(index), self.layers[index].name))

    def _find_reason(self, found: RowStatistics, layer: str) -> Reason | None:
        if self.normalise and (count := found.zero_rows):
            some = "row is" if count == 1 else "rows are"
            return Reason(
                code="zero-rows", detail=f"{count} {some} zero in layer {layer} and cannot be scaled to length 1."
            )
        if found.constant:
            return Reason(code="constant-rows", detail=f"All rows of layer {layer} are equal.")
        if not self.normalise and found.largest > VALUE_MAX:
            return Reason(
                code="values-too-large",
                detail=f"Values of layer {layer} are above 2^60: without scaling, sums of their products leave float32.",
            )
        return None

    def _key(self, index: int, k: int) -> str:
        """What the graph of all rows depends on.

        Exact graphs of any builder and device are the same one, and its first k are those of a longer one. Those of an
        approximate graph depend on how many were asked for.
        """
        if isinstance(self.builder, Approximate):
            return f"{self.address(index)} approximate k={k} {self._search(self.builder, index, k)}"
        return f"{self.address(index)} exact"

    def address(self, index: int) -> str:
        """What every graph of a layer depends on: the numbers and rows, their preparation, the groups."""
        groups = "none" if self.groups is None else sha256(self.groups.tobytes()).hexdigest()
        return f"{self._preparation(index)} groups={groups}"

    def _preparation(self, index: int) -> str:
        """What a layer's prepared rows depend on."""
        return f"{self.layers[index].digest} clamp={self.clamps[index]!r} centre={self.centre} l2={self.normalise}"


@dataclass
class Comparison:
    """Two sides over the same n items, and what every metric of one request shares."""

    a: Side
    b: Side
    #: Neighbours per row that some metric of the request needs, its interval included.
    list_length: int
    seed: int
    report: Report
    #: The group number of each item, where items belong together.
    groups: IdArray | None = None
    _kept: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Pairs of a layer in memory and one that is read by blocks would need a third way of fitting.
        if any(side.streams(index) for side in (self.a, self.b) for index in range(len(side.layers))):
            self.a.rows_bytes = self.b.rows_bytes = 0

    def keep(self, name: str, build: Callable[[], T]) -> T:
        """Whatever several metrics derive from both sides, built once and kept for the whole request."""
        if name not in self._kept:
            self._kept[name] = build()
        return cast("T", self._kept[name])

    @property
    def n(self) -> int:
        """Number of paired items."""
        return self.a.n

    @property
    def parts(self) -> Parts:
        """Where long computations run."""
        return self.a.parts

    @property
    def grouped(self) -> bool:
        """Whether some relabellings are forbidden."""
        return self.groups is not None

    def permutations(self, draws: int) -> Iterator[Permutation]:
        """Relabellings of b's items, the same for every metric and layer of the request."""
        rng = np.random.default_rng(self.seed)
        for _ in range(draws):
            yield draw_permutation(rng, self.n, self.groups)


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
