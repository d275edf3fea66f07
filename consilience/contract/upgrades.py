"""Upgrades of an embedding model: what becomes of an index of the old model's vectors when the new model asks."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from consilience.contract.alignments import Label, Side
from consilience.contract.base import Document, Finite, Level, Metadata, Request, Share, as_many
from consilience.contract.maps import Fitted, MapChoice, MapKind, MapSide, MeanShare, Procrustes, Ridge
from consilience.contract.scores import Pairing
from consilience.contract.webhooks import WebhookChoice

#: A share that a caller sets; a truth value is none.
Bar = Annotated[float, Field(strict=True, ge=0.0, le=1.0, allow_inf_nan=False)]


class Thresholds(Request):
    """How much of what full re-embedding finds must still be found, for a verdict short of re-embedding."""

    keep: Bar = Field(default=0.95, description="by the new model's queries on the old index, as they are")
    adapt: Bar = Field(default=0.9, description="by the same queries, translated by the best map")


class Span(Document):
    """A figure, and where it would lie if the rows that asked were drawn anew."""

    value: Finite
    low: Finite
    high: Finite


class NeighbourAgreement(Document):
    """How many of a document's k neighbours among the documents are the same by both models."""

    shared: MeanShare
    """The mean share."""
    asked: int
    """Documents that asked."""
    chance: Share
    """k / (n - 1): that of unrelated models."""


class Queries(Document):
    """Who asks in the figures of each way."""

    source: Literal["documents", "queries"]
    """documents: held-out documents stand in for queries, each without itself among the answers."""
    asked: int
    available: int
    """Those that could have asked: held-out documents, queries, or queries with judgements where there are some."""
    pairing: Pairing | None = None
    """Of the queries' two sides; null where documents ask."""


#: re_embed: new queries, documents embedded anew. old: old queries, old documents, as today. keep: new queries as they are,
#: old documents. adapt: new queries through a map, old documents.
WayKind = Literal["re_embed", "old", "keep", "adapt"]


class Way(Document):
    """One way to answer queries, and what it finds."""

    name: str
    """The kind; `adapt` with the map's kind and number where there are several, such as `adapt:ridge`."""
    kind: WayKind
    map: MapChoice | None = None
    fitted: Fitted | None = None
    recall: MeanShare
    """Share of the first k answers of full re-embedding that are among this way's first k."""
    judged: MeanShare | None = None
    """Share of a query's relevant documents among the first k, or of k of them where there are more."""
    retained: Span | None = None
    """What is found, over what full re-embedding finds: by the judgements where there are some, else `recall`; null where full
    re-embedding finds nothing."""
    gain: Span | None = None
    """The update gain: the way's improvement on `old`, over that of full re-embedding; null where that does not stand out from
    0, and for the two ways that it compares with."""


class Neighbour(Document):
    """One answer."""

    item: str
    """The document's id; its row number where it has none."""
    row: int
    similarity: Finite
    """The cosine."""


class Changed(Document):
    """One item whose neighbours the swap changes."""

    item: str
    row: int
    shared: int
    """Neighbours among the first k by both models."""
    old: tuple[Neighbour, ...]
    new: tuple[Neighbour, ...]


class Verdict(Document):
    """What to do with the index, and the figures that say so."""

    word: Literal["keep", "adapt", "re-embed"]
    way: str
    """The way that is recommended: `old` where the new model finds less than the old one, `keep`, a map, or `re_embed`."""
    best: str | None
    """The way on the old index that retains most; null where none can be judged."""
    truth: Literal["judgements", "re-embedding"]
    """What counts as found: relevant documents, or the answers of full re-embedding."""
    retained: Span | None
    """Of the best way."""
    threshold: Share
    """What that way had to reach."""
    clear: bool
    """Whether the interval lies on one side of the threshold; else more queries could change the verdict."""
    text: str
    """Two or three sentences in plain words."""


class UpgradeReport(Document):
    """The answer to an upgrade request."""

    schema_: Literal["consilience.upgrade/1"] = Field(default="consilience.upgrade/1", alias="schema")
    old: MapSide
    new: MapSide
    n: int
    """Documents."""
    n_train: int
    """Documents that maps were fitted on."""
    pairing: Pairing
    k: int
    agreement: NeighbourAgreement
    queries: Queries
    ways: tuple[Way, ...]
    improvement: Span | None = None
    """What full re-embedding finds of the relevant documents, less what the old model finds; null without judgements."""
    worst_documents: tuple[Changed, ...] = ()
    worst_queries: tuple[Changed, ...] = ()
    """Where queries were given."""
    verdict: Verdict
    thresholds: Thresholds
    level: Finite
    seed: int
    metadata: Metadata = Field(default={})
    warnings: tuple[str, ...] = ()
    versions: dict[str, str]
    timings_s: dict[str, Finite]


#: Neighbours that a report counts, at most.
K_MAX = 1000
#: Rows that ask, at most.
SAMPLE_MAX = 100_000
WORST_MAX = 100


def _kind(value: object) -> object:
    """A bare name stands for the map with its defaults."""
    return {"kind": value} if isinstance(value, str) else value


UpgradeMap = Annotated[MapChoice, BeforeValidator(_kind, json_schema_input_type=MapKind | MapChoice)]
UpgradeMaps = Annotated[
    tuple[UpgradeMap, ...],
    BeforeValidator(as_many, json_schema_input_type=MapKind | MapChoice | tuple[MapKind | MapChoice, ...]),
    Field(max_length=16),
]


class UpgradeLayers(Request):
    """Which layer of each model is compared: `last`, or a name."""

    old: str = "last"
    new: str = "last"


def _both_models(value: object) -> object:
    """One name stands for both models."""
    return {"old": value, "new": value} if isinstance(value, str) else value


class UpgradeOptions(Request):
    """Everything of an upgrade report but the vectors and the judgements; every field has a default."""

    maps: UpgradeMaps = Field(default=(Procrustes(), Ridge()), description="from the new space to the old one")
    k: Annotated[int, Field(strict=True, ge=1, le=K_MAX)] = Field(default=10, description="neighbours that are counted")
    layers: Annotated[UpgradeLayers, BeforeValidator(_both_models, json_schema_input_type=str | UpgradeLayers)] = (
        UpgradeLayers()
    )
    pairing: Literal["row", "id"] = "row"
    test_share: Annotated[float, Field(gt=0.0, le=0.5)] = Field(
        default=0.2, description="share of the documents, whole groups, that no map is fitted on"
    )
    sample: Annotated[int, Field(strict=True, ge=2, le=SAMPLE_MAX)] = Field(
        default=1000, description="documents that ask, and queries that ask, at most; all documents answer"
    )
    worst: Annotated[int, Field(strict=True, ge=0, le=WORST_MAX)] = Field(
        default=10, description="items listed that changed most"
    )
    thresholds: Thresholds = Thresholds()
    level: Level = Field(default=0.95, description="of the intervals")
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0
    metadata: Metadata = Field(default={})


class QuerySides(Request):
    """The same queries by both models."""

    old: Side
    new: Side


#: For each query the documents that answer it, by their ids, or by row numbers where there are no ids.
Judgements = dict[str, tuple[Label, ...]]


class UpgradeRequest(UpgradeOptions):
    """The question what a swap of the model of `old` for that of `new` asks of an index of documents."""

    old: Side
    new: Side
    queries: QuerySides | None = Field(
        default=None, description="by both models; null: documents that no map was fitted on ask in their place"
    )
    judgements: Judgements | None = Field(
        default=None,
        description="for each query, by id or row number, the documents that answer it; a request has at most 10,000 values, "
        "the command and the library have no limit",
    )

    webhook: WebhookChoice | None = Field(default=None, description="where the end of the job is told")

    @model_validator(mode="after")
    def _judged_queries(self) -> Self:
        check_judgements(self.judgements, queries=self.queries is not None)
        return self


def check_judgements(judgements: Mapping[str, object] | None, *, queries: bool) -> None:
    """ValueError for judgements of queries that there are not."""
    if judgements is not None and not queries:
        raise ValueError("`judgements` are about queries: give `queries` too")
