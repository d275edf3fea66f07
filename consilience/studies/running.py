"""Scoring of the cells of a study.

Every layer is read once, and prepared sides are shared between cells; each cell holds what an alignment job of the pair would.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from consilience.contract.alignments import ScoringOptions
from consilience.contract.base import Metadata
from consilience.contract.scores import ScoreDocument
from consilience.contract.studies import StudyOptions, cell_key
from consilience.contract.study_results import CellScore, StudyDocument
from consilience.metrics.comparison import Report
from consilience.metrics.graph_sources import CountedGraphs, GraphSource, LazyKey, StorageKey
from consilience.metrics.sides import PreparedSide
from consilience.numerics.rows.parallel import LOCAL_EXECUTOR, Executor
from consilience.numerics.rows.sources import SideSource
from consilience.planning.alignments import SideShape
from consilience.planning.studies import SIDES_BYTES, ModelDescription, StudyDescription, assemble, with_labels
from consilience.scoring import SideKey, SideLoader, Stopwatch, find_versions, score_sources
from consilience.studies.analysis import ReplicateScorer, compare_models, complete_study


class SideCache:
    """Least recently used cache of prepared sides, shared by the cells of a study.

    Parameters
    ----------
    limit_bytes : int
        Largest size of the graphs and moments of all sides that are not in use.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._sides: OrderedDict[SideKey, PreparedSide] = OrderedDict()
        self._sizes: dict[SideKey, int] = {}
        self._used: set[SideKey] = set()

    def __call__(self, key: SideKey, build: Callable[[], PreparedSide]) -> PreparedSide:
        """Return the side of a key; it is built if it is not in the cache."""
        if key[-1] == 0:  # rows read by blocks: results belong to pairs of layers and cannot be shared
            return build()
        if key not in self._sides:
            self._sides[key] = build()
        self._sides.move_to_end(key)
        self._used.add(key)
        return self._sides[key]

    def clear_transient(self, *, keep_rows: SideKey | None = None) -> None:
        """Free the rows of sides, and the sides that exceed the limit; call it between cells."""
        for key in self._used:
            side = self._sides[key]
            if key != keep_rows:
                side.clear_transient()
            self._sizes[key] = side.nbytes
        self._used.clear()
        while self._sides and sum(self._sizes.values()) > self._limit:
            key, _ = self._sides.popitem(last=False)
            del self._sizes[key]


#: Scores of a cell, one for each metric.
CellScores = tuple[CellScore, ...]


@dataclass(frozen=True)
class StudyModel:
    """A model of a study and the source of its layers.

    Attributes
    ----------
    label : name in the study
    source : layers
    metadata : metadata of the set and of the request
    digest : digest of the stored set; scores of sets with digests are stored
    """

    label: str
    source: SideSource
    metadata: Metadata = field(default_factory=dict)
    digest: str | None = None

    def describe(self) -> ModelDescription:
        """Describe the model for planning."""
        source = self.source
        layers = tuple((layer.name, layer.dim) for layer in source.layers)
        unique = None if source.ids is None else len(set(source.ids))
        return ModelDescription(
            label=self.label,
            shape=SideShape(source.n, layers, unique_ids=unique, has_groups=source.groups is not None),
            metadata=self.metadata,
            id=source.id,
        )


@dataclass(frozen=True)
class StudyModels:
    """Models of a study: rows against columns, or all rows with each other."""

    rows: Sequence[StudyModel]
    columns: Sequence[StudyModel] | None

    @property
    def column_models(self) -> Sequence[StudyModel]:
        """Models of the columns; in a square study, those of the rows."""
        return self.rows if self.columns is None else self.columns

    def describe(self) -> StudyDescription:
        """Describe the models for planning."""
        columns = None if self.columns is None else [model.describe() for model in self.columns]
        return StudyDescription([model.describe() for model in self.rows], columns)


def score_pair(
    options: ScoringOptions,
    a: StudyModel,
    b: StudyModel,
    graphs: GraphSource,
    sides: SideLoader,
    *,
    executor: Executor = LOCAL_EXECUTOR,
    device: str = "cpu",
) -> CellScores:
    """Score two models as an alignment job would; the message of an error begins with their labels."""
    with with_labels(a.label, b.label):
        document = score_sources(
            options, a.source, b.source, graphs, _ignore_progress, sides=sides, executor=executor, device=device
        )
    return read_scores(document)


def _ignore_progress(stage: str, done: int, total: int) -> None:
    """Ignore the stages inside a cell, which are too short to report."""


def read_scores(document: ScoreDocument) -> CellScores:
    """Return the scores of a score document in the form of a cell."""
    fields = CellScore.model_fields.keys()
    return tuple(
        CellScore(**{name: value for name, value in dict(score).items() if name in fields}) for score in document.scores
    )


@dataclass(frozen=True)
class CellBatch:
    """Cells that another process scores: it reads layers from the store and graphs from the cache.

    Attributes
    ----------
    pairs : models of each cell
    open_graphs : opens the cache of graphs in the process that scores
    """

    options: ScoringOptions
    pairs: tuple[tuple[StudyModel, StudyModel], ...]
    open_graphs: Callable[[], GraphSource]
    device: str = "cpu"


def score_batch(batch: CellBatch) -> list[CellScores]:
    """Score the cells of a batch, in its order."""
    graphs, pool, found = batch.open_graphs(), SideCache(SIDES_BYTES), []
    for a, b in batch.pairs:
        found.append(score_pair(batch.options, a, b, graphs, pool, device=batch.device))
        pool.clear_transient()
    return found


CellIndex = tuple[int, int]
#: Seconds between two writes of scores to the store, from which a running study is read.
FLUSH_S = 0.5
#: Number of cells of a batch: enough to share the cost of reading layers, few enough to keep many processes busy.
BATCH_CELLS = 16


class CellStore(Protocol):
    """Store of the scores of cells, by key."""

    def read(self, keys: Sequence[str]) -> Mapping[str, CellScores]:
        """Return the scores that the store has."""

    def add(self, found: Mapping[str, CellScores]) -> None:
        """Store scores."""


class NullCellStore:
    """Store that keeps nothing."""

    def read(self, keys: Sequence[str]) -> Mapping[str, CellScores]:  # noqa: ARG002 - required by the protocol
        """Return no scores."""
        return {}

    def add(self, found: Mapping[str, CellScores]) -> None:
        """Store nothing."""


class CellBuffer:
    """Buffer of scores for a store, which are written together, at most FLUSH_S seconds late."""

    def __init__(self, store: CellStore) -> None:
        self._store = store
        self._found: dict[str, CellScores] = {}
        self._flushed = monotonic()

    def add(self, key: str, scores: CellScores) -> None:
        """Add the scores of one cell."""
        self._found[key] = scores
        if monotonic() - self._flushed >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write all scores to the store."""
        self._store.add(self._found)
        self._found, self._flushed = {}, monotonic()


def run_study(
    options: StudyOptions,
    models: StudyModels,
    graphs: GraphSource,
    report: Report,
    *,
    cells: CellStore | None = None,
    executor: Executor = LOCAL_EXECUTOR,
    device: str = "cpu",
    open_graphs: Callable[[], GraphSource] | None = None,
) -> StudyDocument:
    """Score every cell and compute the results of the study.

    Parameters
    ----------
    graphs : GraphSource
        Source of neighbour graphs; each graph is requested once.
    report : callable
        Called with a stage, the work done and the work in total.
    cells : CellStore, optional
        Cells that it has are not scored again; new scores are added to it.
    open_graphs : callable, optional
        Opens the same graphs in another process; cells are then scored there in batches.

    Raises
    ------
    InputError
        Two models that cannot be scored; the message begins with their labels.
    """
    stopwatch, counted, entries = Stopwatch(), CountedGraphs(CachedFacts(graphs)), models.describe()
    limit = min(SIDES_BYTES, options.memory_budget_bytes or SIDES_BYTES)
    scorer = CellScorer(options, models, counted, report, SideCache(limit), executor, device, open_graphs)
    with stopwatch.time("cells"):
        found, known = scorer.score_cells(entries, cells or NullCellStore())
    document = assemble(options, entries, found)
    with stopwatch.time("differences"):
        comparisons = ReplicateScorer(options.scoring(), counted, report, scorer.pool, executor, device)
        sources = {"rows": models.rows, "columns": models.column_models}
        differences = compare_models(
            options.differences,
            document,
            comparisons,
            {side: {model.label: model.source for model in members} for side, members in sources.items()},
        )
    with stopwatch.time("summary"):
        report("summary", 0, 1)
        document = complete_study(options, document)
    return document.model_copy(
        update={
            "differences": differences,
            "graphs": counted.use,
            "cells_reused": known,
            "versions": find_versions(),
            "timings_s": stopwatch.rounded(),
        }
    )


@dataclass(frozen=True)
class CellScorer:
    """Scorer of the cells of a study: in this process one after the other, or in batches elsewhere."""

    options: StudyOptions
    models: StudyModels
    graphs: GraphSource
    report: Report
    pool: SideCache
    executor: Executor
    device: str
    open_graphs: Callable[[], GraphSource] | None

    def score_cells(self, entries: StudyDescription, store: CellStore) -> tuple[dict[CellIndex, CellScores], int]:
        """Return the scores of every cell, and the number of cells that the store had."""
        order = entries.cells(self.options)
        found = self._read(order, store)
        known, buffer = len(found), CellBuffer(store)
        self.report("cells", known, len(order))
        for cell, scores in self._score([cell for cell in order if cell not in found]):
            found[cell] = scores
            if (key := self._key(cell)) is not None:
                buffer.add(key, scores)
            self.report("cells", len(found), len(order))
        buffer.flush()
        return found, known

    def _score(self, cells: Sequence[CellIndex]) -> Iterator[tuple[CellIndex, CellScores]]:
        """Score cells in this process one after the other, or in batches in other processes."""
        if self.open_graphs is not None and self.executor.is_remote:
            yield from self._score_batches(cells, self.open_graphs)
            return
        scoring = self.options.scoring()
        for cell in cells:
            a, b = self._models(cell)
            scores = score_pair(scoring, a, b, self.graphs, self.pool, executor=self.executor, device=self.device)
            self.pool.clear_transient()
            yield cell, scores

    def _score_batches(
        self, cells: Sequence[CellIndex], open_graphs: Callable[[], GraphSource]
    ) -> Iterator[tuple[CellIndex, CellScores]]:
        runs = [cells[start : start + BATCH_CELLS] for start in range(0, len(cells), BATCH_CELLS)]
        scoring = self.options.scoring()
        batches = [CellBatch(scoring, tuple(map(self._models, run)), open_graphs, self.device) for run in runs]
        for run, found in zip(runs, self.executor.map(score_batch, batches), strict=True):
            yield from zip(run, found, strict=True)

    def _models(self, cell: CellIndex) -> tuple[StudyModel, StudyModel]:
        return self.models.rows[cell[0]], self.models.column_models[cell[1]]

    def _read(self, order: Sequence[CellIndex], store: CellStore) -> dict[CellIndex, CellScores]:
        keys = {cell: key for cell in order if (key := self._key(cell)) is not None}
        stored = store.read(list(keys.values()))
        return {cell: stored[key] for cell, key in keys.items() if key in stored}

    def _key(self, cell: CellIndex) -> str | None:
        a, b = self._models(cell)
        if a.digest is None or b.digest is None:
            return None
        return cell_key(self.options.scoring(), a.digest, b.digest)


class CachedFacts:
    """Source of graphs that remembers the facts of another source."""

    def __init__(self, source: GraphSource) -> None:
        self.graph, self.matrix = source.graph, source.matrix
        self._fact = source.fact
        self._known: dict[StorageKey, bytes] = {}

    def fact(self, key: LazyKey, find: Callable[[], bytes]) -> bytes:
        """Return a fact about a layer; it is computed if it is not known."""
        known = key()
        if known not in self._known:
            self._known[known] = self._fact(lambda: known, find)
        return self._known[known]
