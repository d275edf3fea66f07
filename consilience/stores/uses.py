"""Who still needs what: records that name a blob, reference sets that have a member."""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy import Connection

from consilience.errors import InUse
from consilience.stores import tables

#: Everywhere that a record names a blob.
BLOB_NAMES = (
    tables.layers.c.digest,
    tables.embeddings.c.ids_digest,
    tables.embeddings.c.groups_digest,
    tables.dataset_views.c.digest,
    tables.datasets.c.ids_digest,
    tables.maps.c.digest,
)


def named_blobs(connection: Connection, digests: Collection[str]) -> set[str]:
    """Those of the digests that some record names."""
    query = sa.union(*(sa.select(place).where(place.in_(digests)) for place in BLOB_NAMES))
    return set(connection.execute(query).scalars())


def refuse_if_member(connection: Connection, embedding_id: str) -> None:
    """Raise InUse where a reference set has this set as a member."""
    reference, member = tables.reference_sets.c, tables.reference_members.c
    query = (
        sa.select(reference.id, reference.name)
        .join(tables.reference_members, member.reference_id == reference.id)
        .where(member.embedding_id == embedding_id)
        .limit(1)
    )
    if found := connection.execute(query).first():
        raise InUse(
            f"The reference set {found.name} ({found.id}) has this set as a member.",
            value=embedding_id,
            hint="Delete the reference set first.",
        )
