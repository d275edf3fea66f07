"""Reference sets: fixed lists of embedding sets of the same items that new models are compared with."""

from typing import Annotated

from pydantic import Field

from consilience.contract.base import Digest, Document, EmbeddingId, Metadata, Name, ReferenceId, Request, Timestamp
from consilience.contract.keys import DEFAULT_OWNER

#: Maximum number of members of a reference set; each pair is scored once.
REFERENCE_MEMBERS_MAX = 128


class ReferenceRequest(Request):
    """Request for a reference set of stored embedding sets."""

    name: Name = Field(
        description="Label of the reference set. A new reference set with the same name is its next version."
    )
    embeddings: Annotated[tuple[EmbeddingId, ...], Field(min_length=1, max_length=REFERENCE_MEMBERS_MAX)] = Field(
        description="Ids of stored sets of the same items in the same order. Every set must have different content."
    )
    metadata: Metadata = Field(default={})


class ReferenceMember(Document):
    """Embedding set of a reference set."""

    embedding: EmbeddingId
    """Id of the embedding set."""
    name: str
    layers: int
    """Number of layers."""
    digest: Digest
    """Digest of the embedding set; equal for equal content."""


class ReferenceSet(Document):
    """Fixed list of embedding sets of the same n items. Its members cannot be deleted while it exists."""

    id: ReferenceId
    owner: str = DEFAULT_OWNER
    """Owner of the API key that created the reference set; other owners cannot see it."""
    name: str
    """Label. Reference sets with the same name are versions of each other, and the name refers to the newest."""
    n: int
    """Number of rows of each member."""
    members: tuple[ReferenceMember, ...]
    digest: Digest
    """SHA-256 of the members' digests in any order, in lower-case hexadecimal; equal for equal content."""
    metadata: Metadata
    created_at: Timestamp
    links: dict[str, str]


class ReferencePage(Document):
    """Page of reference sets, newest first."""

    data: tuple[ReferenceSet, ...]
    has_more: bool
    next_cursor: str | None
