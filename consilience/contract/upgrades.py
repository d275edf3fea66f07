"""Upgrade reports: effect of a change of the embedding model on an index of vectors of the old model."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from consilience.contract.alignments import ItemLabel, Side
from consilience.contract.base import Document, Finite, Level, Metadata, Request, Share, as_list
from consilience.contract.maps import FitSummary, MapChoice, MapKind, MapSide, MeanShare, ProcrustesMap, RidgeMap
from consilience.contract.scores import Pairing
from consilience.contract.webhooks import WebhookChoice

#: Threshold between 0 and 1; a boolean is not allowed.
ThresholdShare = Annotated[float, Field(strict=True, ge=0.0, le=1.0, allow_inf_nan=False)]


class Thresholds(Request):
    """Shares of the results of full re-embedding that a strategy must retain to be recommended."""

    keep: ThresholdShare = Field(
        default=0.95, description="Threshold for keeping the index: new queries on the old index without a map."
    )
    adapt: ThresholdShare = Field(
        default=0.9, description="Threshold for adapting: new queries on the old index, translated by the best map."
    )


class ValueWithInterval(Document):
    """Value with its confidence interval over the query rows."""

    value: Finite
    low: Finite
    """Lower end of the interval."""
    high: Finite
    """Upper end of the interval."""


class NeighbourAgreement(Document):
    """Share of a document's k nearest neighbours that is the same by both models."""

    shared: MeanShare
    """Mean share over the query documents."""
    queries: int
    """Number of query documents."""
    chance: Share
    """Expected share for unrelated models: k / (n - 1)."""


class QuerySummary(Document):
    """Query rows that the results of each strategy are measured with."""

    source: Literal["documents", "queries"]
    """Origin of the queries: `queries` of the request, or held-out `documents` in their place. A document is never a
    result of its own query."""
    used: int
    """Number of query rows used."""
    available: int
    """Number of query rows available: held-out documents, or queries, or queries with relevance judgments if there are
    any."""
    pairing: Pairing | None = None
    """Matching of the queries of both models; null if documents serve as queries."""


#: re_embed: new queries, re-embedded documents. old: old queries, old documents. keep: new queries, old documents. adapt: new
#: queries mapped into the old space, old documents.
StrategyKind = Literal["re_embed", "old", "keep", "adapt"]


class Strategy(Document):
    """Strategy for searching after the change of model, and its results."""

    name: str
    """Name: the kind, and for `adapt` also the kind of map and a number if there are several, such as `adapt:ridge`."""
    kind: StrategyKind
    """Kind: `re_embed` uses new queries and re-embedded documents; `old` uses old queries and old documents; `keep` uses
    new queries and old documents; `adapt` maps new queries into the space of the old documents."""
    map: MapChoice | None = None
    fitted: FitSummary | None = None
    recall: MeanShare
    """Share of the first k results of full re-embedding that are also among the first k results of this strategy."""
    relevant_recall: MeanShare | None = None
    """Share of the relevant documents of a query that are among its first k results; of k, if it has more than k
    relevant documents."""
    retained: ValueWithInterval | None = None
    """Results of this strategy as a share of the results of full re-embedding: by relevance judgments if there are any,
    otherwise by `recall`. Null if full re-embedding retrieves nothing."""
    gain: ValueWithInterval | None = None
    """Update gain: the improvement of this strategy over `old` as a share of the improvement of full re-embedding. Null
    if that improvement does not differ from 0, and for `old` and `re_embed`."""


class Neighbour(Document):
    """Nearest neighbour of an item."""

    item: str
    """Id of the document, or its row number if it has no id."""
    row: int
    """Row number of the document."""
    similarity: Finite
    """Cosine similarity."""


class ChangedItem(Document):
    """Item whose nearest neighbours change with the new model."""

    item: str
    """Id of the item, or its row number if it has no id."""
    row: int
    """Row number of the item."""
    shared: int
    """Number of the k nearest neighbours that both models have in common."""
    old: tuple[Neighbour, ...]
    """Nearest neighbours by the old model, most similar first."""
    new: tuple[Neighbour, ...]
    """Nearest neighbours by the new model, most similar first."""


class Verdict(Document):
    """Recommendation for the index and the results that support it."""

    recommendation: Literal["keep", "adapt", "re_embed"]
    """Recommendation: `keep` the index, `adapt` the queries with a map, or `re-embed` all documents."""
    strategy: str
    """Recommended strategy: `old` if the new model retrieves less than the old one, otherwise `keep`, a map or
    `re_embed`."""
    best: str | None
    """Strategy on the old index that retains the largest share of results; null if none can be measured."""
    ground_truth: Literal["relevance_judgments", "re_embedding"]
    """Results that count as correct: relevant documents, or the results of full re-embedding."""
    retained: ValueWithInterval | None
    """Share of results that the best strategy retains."""
    threshold: Share
    """Share that the best strategy had to reach."""
    conclusive: bool
    """Whether the whole confidence interval is on one side of the threshold. If not, more queries could change the
    recommendation."""
    text: str
    """Recommendation in two or three sentences."""


class UpgradeReport(Document):
    """Result of an upgrade request."""

    schema_: Literal["consilience.upgrade/1"] = Field(default="consilience.upgrade/1", alias="schema")
    old: MapSide
    """Documents by the old model."""
    new: MapSide
    """Documents by the new model."""
    n: int
    """Number of documents."""
    n_train: int
    """Number of documents that the maps were fitted on."""
    pairing: Pairing
    k: int
    """Number of results of each query that are compared."""
    agreement: NeighbourAgreement
    """Agreement of the nearest neighbours of documents between both models."""
    queries: QuerySummary
    strategies: tuple[Strategy, ...]
    """Strategies and the share of results that each retains."""
    improvement: ValueWithInterval | None = None
    """Share of relevant documents that full re-embedding retrieves, minus the share that the old model retrieves; null
    without relevance judgments."""
    worst_documents: tuple[ChangedItem, ...] = ()
    """Documents whose nearest neighbours change most."""
    worst_queries: tuple[ChangedItem, ...] = ()
    """Queries whose results change most; empty if the request has no queries."""
    verdict: Verdict
    thresholds: Thresholds
    level: Finite
    """Level of the confidence intervals."""
    seed: int
    metadata: Metadata = Field(default={})
    warnings: tuple[str, ...] = ()
    versions: dict[str, str]
    timings_s: dict[str, Finite]
    """Wall-clock time of each step, in seconds."""


#: Maximum of k.
K_MAX = 1000
#: Maximum number of query rows.
SAMPLE_MAX = 100_000
WORST_MAX = 100


def _kind(value: object) -> object:
    """Replace the name of a map by the map with its defaults."""
    return {"kind": value} if isinstance(value, str) else value


UpgradeMap = Annotated[MapChoice, BeforeValidator(_kind, json_schema_input_type=MapKind | MapChoice)]
UpgradeMaps = Annotated[
    tuple[UpgradeMap, ...],
    BeforeValidator(as_list, json_schema_input_type=MapKind | MapChoice | tuple[MapKind | MapChoice, ...]),
    Field(max_length=16),
]


class UpgradeLayers(Request):
    """Layer of each model to compare: `last` or a layer name."""

    old: str = "last"
    new: str = "last"


def _both_models(value: object) -> object:
    """Use one name for both models."""
    return {"old": value, "new": value} if isinstance(value, str) else value


class UpgradeOptions(Request):
    """Options of an upgrade report. Every field has a default."""

    maps: UpgradeMaps = Field(
        default=(ProcrustesMap(), RidgeMap()),
        description="Maps to try from the new space to the old space: names, or objects with options.",
    )
    k: Annotated[int, Field(strict=True, ge=1, le=K_MAX)] = Field(
        default=10, description="Number of results of each query that are compared."
    )
    layers: Annotated[UpgradeLayers, BeforeValidator(_both_models, json_schema_input_type=str | UpgradeLayers)] = Field(
        default=UpgradeLayers(),
        description="Layer of each model to compare: one name for both models, or one for each.",
    )
    pairing: Literal["row", "id"] = Field(
        default="row", description="Matching of rows: `row` by position, `id` by item id."
    )
    test_share: Annotated[float, Field(gt=0.0, le=0.5)] = Field(
        default=0.2,
        description="Share of the documents that is held out from fitting the maps; groups are kept together.",
    )
    max_queries: Annotated[int, Field(strict=True, ge=2, le=SAMPLE_MAX)] = Field(
        default=1000,
        description="Maximum number of documents and of queries used as query rows. Every document is in the gallery.",
    )
    worst: Annotated[int, Field(strict=True, ge=0, le=WORST_MAX)] = Field(
        default=10, description="Number of items to list whose neighbours change most."
    )
    thresholds: Thresholds = Field(
        default=Thresholds(),
        description="Shares of the results of full re-embedding that a strategy must retain to be recommended.",
    )
    level: Level = Field(default=0.95, description="Level of the confidence intervals.")
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = Field(
        default=0, description="Seed of all random choices."
    )
    metadata: Metadata = Field(default={})


class QuerySides(Request):
    """Embeddings of the same queries by both models."""

    old: Side = Field(description="Query embeddings by the old model.")
    new: Side = Field(description="Query embeddings by the new model.")


#: Relevant documents of each query, by id, or by row number if there are no ids.
Qrels = dict[str, tuple[ItemLabel, ...]]


class UpgradeRequest(UpgradeOptions):
    """Request for a report on the change of the embedding model of an index."""

    old: Side = Field(description="Documents embedded with the old model.")
    new: Side = Field(description="The same documents embedded with the new model.")
    queries: QuerySides | None = Field(
        default=None,
        description="Embeddings of the same queries by both models; null uses held-out documents as queries.",
    )
    qrels: Qrels | None = Field(
        default=None,
        description="Relevance judgments (qrels): for each query, by id or row number, the ids of its relevant documents. "
        "A request can contain at most 10,000 values; the command line and the library have no limit.",
    )

    webhook: WebhookChoice | None = Field(default=None, description="Receiver of a notification when the job ends.")

    @model_validator(mode="after")
    def _judged_queries(self) -> Self:
        check_qrels(self.qrels, queries=self.queries is not None)
        return self


def check_qrels(qrels: Mapping[str, object] | None, *, queries: bool) -> None:
    """Raise ValueError if there are relevance judgments but no queries."""
    if qrels is not None and not queries:
        raise ValueError("`qrels` need `queries`, whose relevant documents they list")
