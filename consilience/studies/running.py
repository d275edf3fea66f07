"""From the models of a study to its cells: each layer is read once, and each cell is the pair job's own score."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from consilience.contract.base import Metadata
from consilience.contract.scores import ScoreDocument
from consilience.contract.studies import StudyOptions, cell_key
from consilience.contract.study_results import CellScore, StudyDocument
from consilience.measures.comparison import Address, GraphSource, Report
from consilience.measures.graph_use import CountedGraphs
from consilience.numerics.parts import HERE, Parts
from consilience.numerics.sources import Source
from consilience.planning import SideShape
from consilience.scoring import Stopwatch, find_versions, score_sources
from consilience.studies.differences import Comparisons, compare_models
from consilience.studies.finishing import finish
from consilience.studies.pool import Pool
from consilience.study_planning import SIDES_BYTES, Entries, Entry, assemble, named

Cell = tuple[int, int]
#: Cells are kept this often, and so seen by who looks at a running study.
FLUSH_S = 0.5
Scores = tuple[CellScore, ...]


class CellStore(Protocol):
    """Where cells are kept once they are found, by their address."""

    def read(self, keys: Sequence[str]) -> Mapping[str, Scores]:
        """Give those that are there."""

    def add(self, found: Mapping[str, Scores]) -> None:
        """Keep some."""


class NoCells:
    """Keeps nothing."""

    def read(self, keys: Sequence[str]) -> Mapping[str, Scores]:  # noqa: ARG002 - a store needs them
        """Give none."""
        return {}

    def add(self, found: Mapping[str, Scores]) -> None:
        """Keep none."""


class Batch:
    """Cells on their way to a store: together, at most half a second late."""

    def __init__(self, store: CellStore) -> None:
        self._store = store
        self._found: dict[str, Scores] = {}
        self._flushed = monotonic()

    def add(self, key: str, scores: Scores) -> None:
        """Take one."""
        self._found[key] = scores
        if monotonic() - self._flushed >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Put all in the store."""
        self._store.add(self._found)
        self._found, self._flushed = {}, monotonic()


@dataclass(frozen=True)
class Model:
    """A model of a study, ready to be read.

    Attributes
    ----------
    label : what the study calls it
    source : its layers
    metadata : its own, and what the request adds
    digest : of the stored set: cells of sets with digests are kept
    """

    label: str
    source: Source
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
class Models:
    """The models of a study: rows against columns, or all rows with each other."""

    rows: Sequence[Model]
    columns: Sequence[Model] | None

    @property
    def across(self) -> Sequence[Model]:
        """Those of the columns, the rows themselves in a square."""
        return self.rows if self.columns is None else self.columns

    def describe(self) -> Entries:
        """What planning needs to know of them."""
        columns = None if self.columns is None else [model.describe() for model in self.columns]
        return Entries([model.describe() for model in self.rows], columns)


def run_study(
    options: StudyOptions,
    models: Models,
    graphs: GraphSource,
    report: Report,
    *,
    cells: CellStore | None = None,
    parts: Parts = HERE,
    device: str = "cpu",
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

    Raises
    ------
    InputError
        What two of the models cannot be scored for; its sentence begins with their labels.
    """
    stopwatch, counted, entries = Stopwatch(), CountedGraphs(RememberedFacts(graphs)), models.describe()
    limit = min(SIDES_BYTES, options.memory_budget_bytes or SIDES_BYTES)
    work = Work(options, models, counted, report, Pool(limit), parts, device)
    with stopwatch.time("cells"):
        found, known = work.score_cells(entries, cells or NoCells())
    document = assemble(options, entries, found)
    with stopwatch.time("differences"):
        comparisons = Comparisons(options.scoring(), counted, report, work.pool, parts, device)
        sources = {"rows": models.rows, "columns": models.across}
        differences = compare_models(
            options.differences,
            document,
            comparisons,
            {side: {model.label: model.source for model in members} for side, members in sources.items()},
        )
    with stopwatch.time("summary"):
        report("summary", 0, 1)
        document = finish(options, document)
    return document.model_copy(
        update={
            "differences": differences,
            "graphs": counted.use,
            "cells_known": known,
            "versions": find_versions(),
            "timings_s": stopwatch.rounded(),
        }
    )


@dataclass(frozen=True)
class Work:
    """Scores the cells of a study one after the other."""

    options: StudyOptions
    models: Models
    graphs: GraphSource
    report: Report
    pool: Pool
    parts: Parts
    device: str

    def score_cells(self, entries: Entries, store: CellStore) -> tuple[dict[Cell, Scores], int]:
        """Every cell, and how many were known."""
        order = entries.cells(self.options)
        found = self._read(order, store)
        known, kept = len(found), Batch(store)
        for done, cell in enumerate([cell for cell in order if cell not in found], known):
            self.report("cells", done, len(order))
            found[cell] = self._score(cell)
            if (key := self._key(cell)) is not None:
                kept.add(key, found[cell])
        kept.flush()
        return found, known

    def _keep_alive(self, stage: str, done: int, total: int) -> None:
        """Stages inside a cell are too short to be told."""

    def _read(self, order: Sequence[Cell], store: CellStore) -> dict[Cell, Scores]:
        keys = {cell: key for cell in order if (key := self._key(cell)) is not None}
        held = store.read(list(keys.values()))
        return {cell: held[key] for cell, key in keys.items() if key in held}

    def _key(self, cell: Cell) -> str | None:
        a, b = self.models.rows[cell[0]], self.models.across[cell[1]]
        if a.digest is None or b.digest is None:
            return None
        return cell_key(self.options.scoring(), a.digest, b.digest)

    def _score(self, cell: Cell) -> Scores:
        a, b = self.models.rows[cell[0]], self.models.across[cell[1]]
        with named(a.label, b.label):
            document = score_sources(
                self.options.scoring(),
                a.source,
                b.source,
                self.graphs,
                self._keep_alive,
                sides=self.pool,
                parts=self.parts,
                device=self.device,
            )
        self.pool.rest()
        return read_scores(document)


def read_scores(document: ScoreDocument) -> Scores:
    """What a pair job's document says, for a cell."""
    fields = CellScore.model_fields.keys()
    return tuple(
        CellScore(**{name: value for name, value in dict(score).items() if name in fields}) for score in document.scores
    )


class RememberedFacts:
    """Graphs and facts of another source; facts are asked for once."""

    def __init__(self, source: GraphSource) -> None:
        self.graph = source.graph
        self._fact = source.fact
        self._known: dict[str, bytes] = {}

    def fact(self, key: Address, find: Callable[[], bytes]) -> bytes:
        """Give what was found once of a layer, or find it."""
        address = key()
        if address not in self._known:
            self._known[address] = self._fact(lambda: address, find)
        return self._known[address]
