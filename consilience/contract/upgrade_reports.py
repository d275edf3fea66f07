"""Upgrade reports: what each way of answering queries finds when an embedding model is swapped, and what to do."""

from typing import Annotated, Literal

from pydantic import Field

from consilience.contract.base import Document, Finite, Metadata, Request, Share
from consilience.contract.maps import Fitted, MapChoice, MapSide, MeanShare
from consilience.contract.scores import Pairing

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
