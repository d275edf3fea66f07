"""Embedding sets: one or more layers over the same n items."""

from typing import Literal

from consilience.contract.base import Digest, Document, EmbeddingId, Metadata, Timestamp
from consilience.contract.keys import DEFAULT_OWNER
from consilience.contract.records import SetRecord

#: Data types of stored layers; F64 is converted to F32 when it is stored.
LayerDtype = Literal["F16", "BF16", "F32"]
DTYPE_BYTES: dict[LayerDtype, int] = {"F16": 2, "BF16": 2, "F32": 4}


class Layer(Document):
    """Immutable matrix of shape (n, dim), stored in C order and little-endian."""

    name: str
    dim: int
    """Number of columns."""
    dtype: LayerDtype
    """Data type of the stored values."""
    digest: Digest
    """SHA-256 of the header (dtype and shape) and the stored bytes, in lower-case hexadecimal; the address of the stored
    file."""


class Column(Document):
    """One string for each row, stored like a layer. Documents contain its digest and never the strings."""

    digest: Digest
    """SHA-256 of the strings as a JSON list, in lower-case hexadecimal; the address of the stored file."""
    unique: int
    """Number of distinct strings."""


class EmbeddingSet(Document):
    """Embedding set: one or more layers over the same n items."""

    id: EmbeddingId
    owner: str = DEFAULT_OWNER
    """Owner of the API key that stored the set; other owners cannot see it."""
    name: str
    n: int
    """Number of items, which is the number of rows of each layer."""
    layers: tuple[Layer, ...]
    digest: Digest
    """SHA-256 of the names and digests of the layers and of the digests of ids and groups; equal for equal content."""
    ids: Column | None = None
    """Item ids of the rows; null if the set has none."""
    groups: Column | None = None
    """Groups of rows that belong together, for example captions of one image; null if the set has none."""
    source: Literal["upload", "model"] = "upload"
    """Origin: uploaded, or computed with a model."""
    record: SetRecord | None = None
    """Model and settings that produced the set; null for an uploaded set."""
    metadata: Metadata
    bytes: int
    """Storage that the layers take, in bytes."""
    created_at: Timestamp
    links: dict[str, str]


class EmbeddingPage(Document):
    """Page of embedding sets, newest first."""

    data: tuple[EmbeddingSet, ...]
    has_more: bool
    next_cursor: str | None
