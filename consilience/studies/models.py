"""The models of a study, ready to be read, and the scores of two of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from consilience.contract.base import Metadata
from consilience.contract.jobs import ScoringOptions
from consilience.contract.scores import ScoreDocument
from consilience.contract.study_results import CellScore
from consilience.measures.comparison import GraphSource
from consilience.numerics.parts import HERE, Parts
from consilience.numerics.sources import Source
from consilience.planning.alignments import SideShape
from consilience.planning.studies import SIDES_BYTES, Entries, Entry, named
from consilience.scoring import KeepSide, score_sources
from consilience.studies.pool import Pool

#: What a cell says under each metric.
Scores = tuple[CellScore, ...]


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


def score_pair(
    options: ScoringOptions,
    a: Model,
    b: Model,
    graphs: GraphSource,
    sides: KeepSide,
    *,
    parts: Parts = HERE,
    device: str = "cpu",
) -> Scores:
    """What the two models' own job would say; an error's sentence begins with their labels."""
    with named(a.label, b.label):
        document = score_sources(
            options, a.source, b.source, graphs, _tell_nobody, sides=sides, parts=parts, device=device
        )
    return read_scores(document)


def _tell_nobody(stage: str, done: int, total: int) -> None:
    """Stages inside a cell are too short to be told."""


def read_scores(document: ScoreDocument) -> Scores:
    """What a pair job's document says, for a cell."""
    fields = CellScore.model_fields.keys()
    return tuple(
        CellScore(**{name: value for name, value in dict(score).items() if name in fields}) for score in document.scores
    )


@dataclass(frozen=True)
class Share:
    """Some cells of a study that another process scores: it reads layers from the store, and graphs from the cache.

    Attributes
    ----------
    pairs : the models of each cell
    open_graphs : gives the cache in whichever process
    """

    options: ScoringOptions
    pairs: tuple[tuple[Model, Model], ...]
    open_graphs: Callable[[], GraphSource]
    device: str = "cpu"


def score_share(share: Share) -> list[Scores]:
    """The cells of a share, in its order."""
    graphs, pool, found = share.open_graphs(), Pool(SIDES_BYTES), []
    for a, b in share.pairs:
        found.append(score_pair(share.options, a, b, graphs, pool, device=share.device))
        pool.rest()
    return found
