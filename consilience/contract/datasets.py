"""Datasets: items, each with one or more views of the same thing."""

from typing import Annotated, Literal

from pydantic import Field

from consilience.contract.base import DatasetId, Digest, Document, Metadata, Name, Request, Timestamp
from consilience.contract.embeddings import Column
from consilience.contract.keys import DEFAULT_OWNER

#: What a view holds: prose, a program's text, or an encoded picture (PNG, JPEG, WebP).
ViewKind = Literal["text", "code", "image"]


class BuiltinRequest(Request):
    """A dataset that the service makes itself."""

    builtin: Annotated[str, Field(min_length=1, max_length=256, examples=["scenes:n=64,seed=7"])]
    """Its name, and behind a colon its options."""
    ids: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """The items wanted, in this order; by default all."""
    name: Name | None = None
    """Your own label; by default the name of the dataset."""
    metadata: Metadata = Field(default_factory=dict)


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
