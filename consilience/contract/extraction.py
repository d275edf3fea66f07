"""Extraction: a model and a dataset become a set of embeddings."""

from typing import Annotated, Literal

from pydantic import Field

from consilience.contract.base import Document, EmbeddingId, Finite, LayerChoice, Metadata, Name, Request
from consilience.contract.embeddings import LayerDtype
from consilience.contract.models import ModelIdentifier, Pooling
from consilience.contract.records import SetRecord
from consilience.contract.webhooks import WebhookChoice

#: More than any model reads.
TOKENS_MAX = 10_000_000
#: By any of these a set that is to be made is told from one that is given.
WISHED = frozenset({"model", "dataset", "view"})

DatasetName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        examples=["stdlib-docs", "scenes:n=512,seed=0", "ds_0123456789abcdef0123456789abcdef"],
        description="A stored dataset by its id, or a built-in one by its name and options",
    ),
]
ViewName = Annotated[str, Field(min_length=1, max_length=64, examples=["text", "code", "image"])]


class Extraction(Request):
    """What a model makes of one view of a dataset."""

    model: ModelIdentifier
    dataset: DatasetName
    view: ViewName
    layers: LayerChoice = Field(default="all", description="which layers of the model become layers of the set")
    pooling: Pooling = Field(default="auto", description="how the vectors of an item's tokens or patches become one")
    max_length: Annotated[int, Field(strict=True, ge=1, le=TOKENS_MAX)] | None = Field(
        default=None, description="tokens that are read of a text; null: as many as the model is meant for"
    )


class ExtractionRequest(Extraction):
    """The wish for a set of embeddings."""

    name: Name | None = Field(default=None, description="your own label for the set; null: the model, dataset and view")
    metadata: Metadata = Field(default={})
    webhook: WebhookChoice | None = Field(default=None, description="where the end of the job is told")


class ExtractedLayer(Document):
    """One layer of the set that was made."""

    name: str
    dim: int
    dtype: LayerDtype
    """F16; F32 where values are beyond what float16 holds."""


class ExtractionDocument(Document):
    """What came of an extraction."""

    schema_: Literal["consilience.extraction/1"] = Field(default="consilience.extraction/1", alias="schema")
    embedding: EmbeddingId
    """The set: its ids are those of the dataset's items."""
    name: str
    n: int
    """Items."""
    layers: tuple[ExtractedLayer, ...]
    cache: Literal["hit", "miss"]
    """Whether the set was there already: made by the same model from the same items in the same way."""
    resumed_at: int = 0
    """Items that an earlier run, which did not end, had embedded already."""
    items_per_s: Finite | None = None
    """Of this run, without loading and storing; null where there was nothing to embed."""
    peak_memory_bytes: int
    """Of the process that did it."""
    record: SetRecord
    """How the set was made."""
    warnings: tuple[str, ...] = ()
    timings_s: dict[str, Finite]
    """By the clock, of each part; `embedding_processor` is processor time, which other load does not stretch."""
