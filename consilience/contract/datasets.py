"""Datasets: items, each with one or more views of the same thing."""

from typing import Literal

from consilience.contract.base import DatasetId, Digest, Document, Metadata, Timestamp
from consilience.contract.embeddings import Column
from consilience.contract.keys import DEFAULT_OWNER

#: What a view holds: prose, a program's text, or an encoded picture (PNG, JPEG, WebP).
ViewKind = Literal["text", "code", "image"]


class ViewRecord(Document):
    """One view: the same kind of thing for each item."""

    name: str
    kind: ViewKind
    bytes: int
    """Of all its items together."""
    digest: Digest
    """SHA-256 over the items and where each begins: the blob's address."""


class Dataset(Document):
    """Items with ids, and views of them."""

    id: DatasetId
    owner: str = DEFAULT_OWNER
    """Whose key stored it; others cannot see it."""
    name: str
    n: int
    """Items."""
    views: tuple[ViewRecord, ...]
    ids: Column
    """Which item each is; no two are alike."""
    digest: Digest
    """SHA-256 over the ids and the views' names, kinds and digests: a dataset's version, equal for equal content."""
    source: Literal["upload", "builtin"] = "upload"
    metadata: Metadata
    bytes: int
    """Bytes that the views take in the store."""
    created_at: Timestamp
    links: dict[str, str]


class DatasetPage(Document):
    """One page of datasets, newest first."""

    data: tuple[Dataset, ...]
    has_more: bool
    next_cursor: str | None
