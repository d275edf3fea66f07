"""Extraction of embedding sets: a model embeds a view of a dataset."""

from typing import Annotated, Literal

from pydantic import Field

from consilience.contract.base import Document, EmbeddingId, Finite, LayerChoice, Metadata, Name, Request
from consilience.contract.embeddings import LayerDtype
from consilience.contract.models import ModelIdentifier, Pooling
from consilience.contract.records import SetRecord
from consilience.contract.webhooks import WebhookChoice

#: Upper limit of `max_length`; more than any model reads.
TOKENS_MAX = 10_000_000
#: Fields that distinguish an extraction from a given set.
EXTRACTION_FIELDS = frozenset({"model", "dataset", "view"})

DatasetName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        examples=["stdlib-docs", "scenes:n=512,seed=0", "ds_0123456789abcdef0123456789abcdef"],
        description="Id of a stored dataset, or name of a built-in dataset with its options.",
    ),
]
ViewName = Annotated[str, Field(min_length=1, max_length=64, examples=["text", "code", "image"])]


class Extraction(Request):
    """Embedding of one view of a dataset with a model."""

    model: ModelIdentifier
    dataset: DatasetName
    view: ViewName = Field(description="Name of the view of the dataset that the model embeds.")
    layers: LayerChoice = Field(
        default="all", description="Layers of the model to store: `last`, `all` or a list of names."
    )
    pooling: Pooling = Field(
        default="auto",
        description="Pooling of the vectors of an item's tokens or patches: `mean`, `cls` (first token), `last` (last "
        "token), or `auto` for the method that the model was made for.",
    )
    max_length: Annotated[int, Field(strict=True, ge=1, le=TOKENS_MAX)] | None = Field(
        default=None,
        description="Maximum number of tokens that the model reads of a text; null uses the limit of the model.",
    )


class ExtractionRequest(Extraction):
    """Request for an embedding set that a model computes from a dataset."""

    name: Name | None = Field(
        default=None, description="Label of the set; null builds one from the model, the dataset and the view."
    )
    metadata: Metadata = Field(default={})
    webhook: WebhookChoice | None = Field(default=None, description="Receiver of a notification when the job ends.")


class ExtractedLayer(Document):
    """Layer of an extracted embedding set."""

    name: str
    dim: int
    """Number of columns."""
    dtype: LayerDtype
    """Data type of the stored values: F16, or F32 if a value exceeds the range of float16."""


class ExtractionDocument(Document):
    """Result of an extraction job."""

    schema_: Literal["consilience.extraction/1"] = Field(default="consilience.extraction/1", alias="schema")
    embedding: EmbeddingId
    """Id of the embedding set. Its ids are those of the dataset's items."""
    name: str
    n: int
    """Number of items."""
    layers: tuple[ExtractedLayer, ...]
    cache: Literal["hit", "miss"]
    """`hit` if the same model had embedded the same items in the same way before, and that set was reused."""
    resumed_at: int = 0
    """Number of items that an interrupted earlier run had already embedded."""
    items_per_s: Finite | None = None
    """Throughput of this run in items per second, without loading and storing; null if there was nothing to embed."""
    peak_memory_bytes: int
    """Peak memory of the job's process, in bytes."""
    record: SetRecord
    """Model and settings that produced the set."""
    warnings: tuple[str, ...] = ()
    timings_s: dict[str, Finite]
    """Wall-clock time of each step, in seconds. `embedding_cpu` is CPU time, which does not depend on
    other load."""
