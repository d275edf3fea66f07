"""Reference sets: a named, fixed list of embedding sets of the same items, which new models are scored against."""

from typing import Annotated

from pydantic import Field

from consilience.contract.base import Digest, Document, EmbeddingId, Metadata, Name, ReferenceId, Request, Timestamp
from consilience.contract.keys import DEFAULT_OWNER

#: Members of one reference set; each pair of them is scored once.
MEMBERS_MAX = 128


class ReferenceRequest(Request):
    """Which stored sets are to be a reference set, and what it is called."""

    name: Name
    embeddings: Annotated[tuple[EmbeddingId, ...], Field(min_length=1, max_length=MEMBERS_MAX)] = Field(
        description="sets of the same items in the same order, no two of the same content"
    )
    metadata: Metadata = Field(default={})


class ReferenceMember(Document):
    """One set of a reference set."""

    embedding: EmbeddingId
    name: str
    layers: int
    digest: Digest
    """That of the set: equal for equal content."""


class ReferenceSet(Document):
    """A fixed list of sets of the same n items. Its members cannot be deleted before it is."""

    id: ReferenceId
    owner: str = DEFAULT_OWNER
    """Whose key made it; others cannot see it."""
    name: str
    """Several reference sets may share a name: they are its versions, and the newest is the one that is meant."""
    n: int
    """Rows of each member."""
    members: tuple[ReferenceMember, ...]
    digest: Digest
    """SHA-256 over the members' digests, whatever their order: a version, equal for equal content."""
    metadata: Metadata
    created_at: Timestamp
    links: dict[str, str]


class ReferencePage(Document):
    """One page of reference sets, newest first."""

    data: tuple[ReferenceSet, ...]
    has_more: bool
    next_cursor: str | None
