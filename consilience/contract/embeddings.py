"""Embedding sets: layers over the same n items."""

from typing import Literal

from consilience.contract.base import Digest, Document, EmbeddingId, Metadata, Timestamp
from consilience.contract.keys import DEFAULT_OWNER
from consilience.contract.records import SetRecord

#: How a stored layer's numbers are kept; F64 becomes F32 on the way in.
LayerDtype = Literal["F16", "BF16", "F32"]
DTYPE_BYTES: dict[LayerDtype, int] = {"F16": 2, "BF16": 2, "F32": 4}
#: A score of fewer rows says nothing, and debiased CKA divides by n - 3.
ROWS_MIN = 4


class Layer(Document):
    """One immutable matrix (n, dim), C-order, little-endian."""

    name: str
    dim: int
    dtype: LayerDtype
    digest: Digest
    """SHA-256 over the header (dtype, shape) and the stored bytes: the blob's address."""


class Column(Document):
    """A string for each row, kept like a layer; the strings themselves are never in a document."""

    digest: Digest
    """SHA-256 over the strings as a JSON list: the blob's address."""
    unique: int
    """How many different ones there are."""


class EmbeddingSet(Document):
    """Layers over the same n items."""

    id: EmbeddingId
    owner: str = DEFAULT_OWNER
    """Whose key stored it; others cannot see it."""
    name: str
    n: int
    layers: tuple[Layer, ...]
    digest: Digest
    """SHA-256 over the layers' names and digests, and those of ids and groups: equal for equal content."""
    ids: Column | None = None
    """Which item each row is, where the upload said so."""
    groups: Column | None = None
    """Which rows belong together (captions of one image, say), where the upload said so."""
    source: Literal["upload", "model"] = "upload"
    record: SetRecord | None = None
    """How a model made it, where one did."""
    metadata: Metadata
    bytes: int
    """Bytes that the layers take in the store."""
    created_at: Timestamp
    links: dict[str, str]


class EmbeddingPage(Document):
    """One page of embedding sets, newest first."""

    data: tuple[EmbeddingSet, ...]
    has_more: bool
    next_cursor: str | None
