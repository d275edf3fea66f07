"""From the models of a study to its cells: each layer is read once, and each cell is the pair job's own score."""

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
from consilience.metrics.comparison import Address, CountedGraphs, GraphSource, Report, Side
from consilience.numerics.rows.parallel import HERE, Parts
from consilience.numerics.rows.sources import SideSource
from consilience.planning.alignments import SideShape
from consilience.planning.studies import SIDES_BYTES, Entries, Entry, assemble, named
from consilience.scoring import SideKey, SideLoader, Stopwatch, find_versions, score_sources
from consilience.studies.analysis import ReplicateScorer, compare_models, complete_study


class SideCache:
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


#: What a cell says under each metric.
CellScores = tuple[CellScore, ...]


@dataclass(frozen=True)
class StudyModel:
    """A model of a study, ready to be read.

    Attributes
    ----------
    label : what the study calls it
    source : its layers
    metadata : its own, and what the request adds
    digest : of the stored set: cells of sets with digests are kept
    """

    label: str
    source: SideSource
    metadata: Metadata = field(default_factory=dict)
    digest: str | None = None

    def describe(self) -> Entry:
        """What planning needs to know of it."""
        source = self.source
        layers = tuple((layer.name, layer.dim) for layer in source.layers)
        unique = None if source.ids is None else len(set(source.ids))
        return Entry(
            label=self.label,
            shape=SideShape(source.n, layers, unique_ids=unique, has_groups=source.groups is not None),
            metadata=self.metadata,
            id=source.id,
        )


@dataclass(frozen=True)
class StudyModels:
    """The models of a study: rows against columns, or all rows with each other."""

    rows: Sequence[StudyModel]
    columns: Sequence[StudyModel] | None

    @property
    def across(self) -> Sequence[StudyModel]:
        """Those of the columns, the rows themselves in a square."""
        return self.rows if self.columns is None else self.columns

    def describe(self) -> Entries:
        """What planning needs to know of them."""
        columns = None if self.columns is None else [model.describe() for model in self.columns]
        return Entries([model.describe() for model in self.rows], columns)


def score_pair(
    options: ScoringOptions,
    a: StudyModel,
    b: StudyModel,
    graphs: GraphSource,
    sides: SideLoader,
    *,
    parts: Parts = HERE,
    device: str = "cpu",
) -> CellScores:
    """What the two models' own job would say; an error's sentence begins with their labels."""
    with named(a.label, b.label):
        document = score_sources(
            options, a.source, b.source, graphs, _ignore_progress, sides=sides, parts=parts, device=device
        )
    return read_scores(document)


def _ignore_progress(stage: str, done: int, total: int) -> None:
    """Stages inside a cell are too short to be told."""


def read_scores(document: ScoreDocument) -> CellScores:
    """What a pair job's document says, for a cell."""
    fields = CellScore.model_fields.keys()
    return tuple(
        CellScore(**{name: value for name, value in dict(score).items() if name in fields}) for score in document.scores
    )


@dataclass(frozen=True)
class CellBatch:
    """Some cells of a study that another process scores: it reads layers from the store, and graphs from the cache.

    Attributes
    ----------
    pairs : the models of each cell
    open_graphs : gives the cache in whichever process
    """

    options: ScoringOptions
    pairs: tuple[tuple[StudyModel, StudyModel], ...]
    open_graphs: Callable[[], GraphSource]
    device: str = "cpu"


def score_batch(share: CellBatch) -> list[CellScores]:
    """The cells of a share, in its order."""
    graphs, pool, found = share.open_graphs(), SideCache(SIDES_BYTES), []
    for a, b in share.pairs:
        found.append(score_pair(share.options, a, b, graphs, pool, device=share.device))
        pool.rest()
    return found


CellIndex = tuple[int, int]
#: Cells are kept this often, and so seen by who looks at a running study.
FLUSH_S = 0.5
#: Cells of a share: enough that what its models' layers cost is shared, few enough that many processes have some.
BATCH_CELLS = 16


class CellStore(Protocol):
    """Where cells are kept once they are found, by their address."""

    def read(self, keys: Sequence[str]) -> Mapping[str, CellScores]:
        """Give those that are there."""

    def add(self, found: Mapping[str, CellScores]) -> None:
        """Keep some."""


class NullCellStore:
    """Keeps nothing."""

    def read(self, keys: Sequence[str]) -> Mapping[str, CellScores]:  # noqa: ARG002 - a store needs them
        """Give none."""
        return {}

    def add(self, found: Mapping[str, CellScores]) -> None:
        """Keep none."""


class CellBuffer:
    """Cells on their way to a store: together, at most half a second late."""

    def __init__(self, store: CellStore) -> None:
        self._store = store
        self._found: dict[str, CellScores] = {}
        self._flushed = monotonic()

    def add(self, key: str, scores: CellScores) -> None:
        """Take one."""
        self._found[key] = scores
        if monotonic() - self._flushed >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Put all in the store."""
        self._store.add(self._found)
        self._found, self._flushed = {}, monotonic()


def run_study(
    options: StudyOptions,
    models: StudyModels,
    graphs: GraphSource,
    report: Report,
    *,
    cells: CellStore | None = None,
    parts: Parts = HERE,
    device: str = "cpu",
    open_graphs: Callable[[], GraphSource] | None = None,
) -> StudyDocument:
    """Score every cell and say what the study says.

    Parameters
    ----------
    graphs : GraphSource
        Where neighbour graphs come from; each is asked for once.
    report : callable
        Called with a stage, what is done and what there is to do.
    cells : CellStore, optional
        Cells that it holds are not scored again; each new one is put there when it is done.
    open_graphs : callable, optional
        Gives the same graphs in another process: then cells run where parts do, in shares.

    Raises
    ------
    InputError
        What two of the models cannot be scored for; its sentence begins with their labels.
    """
    stopwatch, counted, entries = Stopwatch(), CountedGraphs(CachedFacts(graphs)), models.describe()
    limit = min(SIDES_BYTES, options.memory_budget_bytes or SIDES_BYTES)
    work = CellScorer(options, models, counted, report, SideCache(limit), parts, device, open_graphs)
    with stopwatch.time("cells"):
        found, known = work.score_cells(entries, cells or NullCellStore())
    document = assemble(options, entries, found)
    with stopwatch.time("differences"):
        comparisons = ReplicateScorer(options.scoring(), counted, report, work.pool, parts, device)
        sources = {"rows": models.rows, "columns": models.across}
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
    """Scores the cells of a study one after the other."""

    options: StudyOptions
    models: StudyModels
    graphs: GraphSource
    report: Report
    pool: SideCache
    parts: Parts
    device: str
    open_graphs: Callable[[], GraphSource] | None

    def score_cells(self, entries: Entries, store: CellStore) -> tuple[dict[CellIndex, CellScores], int]:
        """Every cell, and how many were known."""
        order = entries.cells(self.options)
        found = self._read(order, store)
        known, kept = len(found), CellBuffer(store)
        self.report("cells", known, len(order))
        for cell, scores in self._score([cell for cell in order if cell not in found]):
            found[cell] = scores
            if (key := self._key(cell)) is not None:
                kept.add(key, scores)
            self.report("cells", len(found), len(order))
        kept.flush()
        return found, known

    def _score(self, cells: Sequence[CellIndex]) -> Iterator[tuple[CellIndex, CellScores]]:
        """Score cells here, one after the other, or in shares where parts run elsewhere."""
        if self.open_graphs is not None and self.parts.elsewhere:
            yield from self._share_out(cells, self.open_graphs)
            return
        scoring = self.options.scoring()
        for cell in cells:
            a, b = self._models(cell)
            scores = score_pair(scoring, a, b, self.graphs, self.pool, parts=self.parts, device=self.device)
            self.pool.rest()
            yield cell, scores

    def _share_out(
        self, cells: Sequence[CellIndex], open_graphs: Callable[[], GraphSource]
    ) -> Iterator[tuple[CellIndex, CellScores]]:
        runs = [cells[start : start + BATCH_CELLS] for start in range(0, len(cells), BATCH_CELLS)]
        scoring = self.options.scoring()
        shares = [CellBatch(scoring, tuple(map(self._models, run)), open_graphs, self.device) for run in runs]
        for run, found in zip(runs, self.parts.map(score_batch, shares), strict=True):
            yield from zip(run, found, strict=True)

    def _models(self, cell: CellIndex) -> tuple[StudyModel, StudyModel]:
        return self.models.rows[cell[0]], self.models.across[cell[1]]

    def _read(self, order: Sequence[CellIndex], store: CellStore) -> dict[CellIndex, CellScores]:
        keys = {cell: key for cell in order if (key := self._key(cell)) is not None}
        held = store.read(list(keys.values()))
        return {cell: held[key] for cell, key in keys.items() if key in held}

    def _key(self, cell: CellIndex) -> str | None:
        a, b = self._models(cell)
        if a.digest is None or b.digest is None:
            return None
        return cell_key(self.options.scoring(), a.digest, b.digest)


class CachedFacts:
    """Graphs and facts of another source; facts are asked for once."""

    def __init__(self, source: GraphSource) -> None:
        self.graph, self.matrix = source.graph, source.matrix
        self._fact = source.fact
        self._known: dict[str, bytes] = {}

    def fact(self, key: Address, find: Callable[[], bytes]) -> bytes:
        """Give what was found once of a layer, or find it."""
        address = key()
        if address not in self._known:
            self._known[address] = self._fact(lambda: address, find)
        return self._known[address]
