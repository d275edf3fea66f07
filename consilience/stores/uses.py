"""Who still needs what: records that name a blob, jobs that read a set or a dataset."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, Connection

from consilience.contract.jobs import JobStatus
from consilience.errors import InUse
from consilience.stores import tables

UNFINISHED = (JobStatus.QUEUED, JobStatus.RUNNING)
#: What stands in each column that ties a job to what it uses.
USED: dict[Column[Any], str] = {
    tables.job_embeddings.c.embedding_id: "set",
    tables.job_datasets.c.dataset_id: "dataset",
    tables.job_references.c.reference_id: "reference set",
}
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


def refuse_if_used(connection: Connection, column: Column[Any], target_id: str) -> None:
    """Raise InUse where an unfinished job uses what stands under this id in a column of `job_embeddings` and its kin."""
    query = (
        sa.select(tables.jobs.c.id)
        .join(column.table, column.table.c.job_id == tables.jobs.c.id)
        .where(column == target_id, tables.jobs.c.status.in_(UNFINISHED))
        .limit(1)
    )
    if job_id := connection.execute(query).scalar():
        raise InUse(
            f"The unfinished job {job_id} uses this {USED[column]}.",
            value=target_id,
            hint="Wait for the job or cancel it.",
        )


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
