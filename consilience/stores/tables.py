"""Tables of the database. `migrations` holds the history of the schema."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, DateTime, ForeignKey, Index, Integer, MetaData, String, Table
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from consilience.contract.keys import DEFAULT_OWNER

#: The newest migration: the schema that this code reads and writes (a test compares it with `migrations`).
SCHEMA = "0013"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Instant(TypeDecorator[datetime]):
    """Time in UTC. SQLite stores no time zone, so it is added when a value is read."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Convert a value to UTC before it is stored."""
        return value and value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return a stored value with the time zone UTC."""
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


#: JSON whose None is SQL's NULL.
Json = JSON(none_as_null=True)


def _newest_first() -> tuple[Index, Index]:
    """Return the indexes for lists of all records and of one owner's records."""
    return Index(None, "created_at", "id"), Index(None, "owner", "created_at", "id")


def _links(name: str, target: str) -> Table:
    """Return the table that links jobs to the records that they use.

    It has no foreign key to the record, which may be deleted once the jobs that used it have finished.
    """
    return Table(
        name,
        metadata,
        Column("job_id", String(36), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        Column(target, String(36), primary_key=True, index=True),
    )


def _keys(name: str, target: str, table: Table) -> Table:
    """Return a table of idempotency keys of records that are made without a job. A key is deleted with its record."""
    return Table(
        name,
        metadata,
        Column("owner", String(64), primary_key=True),
        Column("key", String(255), primary_key=True),
        Column("identity", String(64), nullable=False),
        Column(target, String(36), ForeignKey(table.c.id, ondelete="CASCADE"), nullable=False, index=True),
        Column("created_at", Instant, nullable=False),
    )


embeddings = Table(
    "embeddings",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("owner", String(64), nullable=False, server_default=DEFAULT_OWNER),
    # SHA-256 of content, name, metadata and owner: a repeated upload finds the existing row.
    Column("identity", String(64), nullable=False, unique=True),
    Column("name", String(128), nullable=False, index=True),
    Column("n", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("source", String(16), nullable=False),
    Column("metadata", Json, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    # The columns `ids` and `groups`, each NULL where the set has none.
    Column("ids_digest", String(64), index=True),
    Column("ids_unique", BigInteger),
    Column("groups_digest", String(64), index=True),
    Column("groups_unique", BigInteger),
    # Of sets that a model made: SHA-256 of everything that determines their content, and a record of how they were made.
    Column("extraction", String(64), index=True),
    Column("record", Json),
    *_newest_first(),
    # Covers the query that sums the bytes of an owner.
    Index("ix_embeddings_owner_bytes", "owner", "bytes"),
)

layers = Table(
    "layers",
    metadata,
    Column("embedding_id", String(36), ForeignKey("embeddings.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("name", String, nullable=False),
    Column("dim", Integer, nullable=False),
    Column("dtype", String(8), nullable=False),
    Column("digest", String(64), nullable=False, index=True),
)

# One row per item of a set's metadata: SHA-256 of its key and value, which every database can index.
labels = Table(
    "labels",
    metadata,
    Column("embedding_id", String(36), ForeignKey("embeddings.id", ondelete="CASCADE"), primary_key=True),
    Column("label", String(64), primary_key=True, index=True),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("owner", String(64), nullable=False, server_default=DEFAULT_OWNER),
    Column("kind", String(16), nullable=False),
    # The queue that the job is sent to.
    Column("queue", String(16), nullable=False, server_default="align"),
    # W3C Trace Context of the request that sent the job; NULL if tracing is off.
    Column("traceparent", String(55)),
    Column("status", String(16), nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    # Fencing number: +1 at each enqueue. A write under an older number has no effect.
    Column("delivery", Integer, nullable=False),
    # +1 for each heartbeat of the worker that runs the job.
    Column("beat", BigInteger, nullable=False),
    # +1 whenever a lease expires or the process of the job dies, and only then.
    Column("crashes", Integer, nullable=False),
    # +1 for each change that a user can see.
    Column("version", Integer, nullable=False),
    Column("progress", Json),
    Column("plan", Json, nullable=False),
    Column("request", Json, nullable=False),
    Column("result", Json),
    Column("error", Json),
    Column("created_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("finished_at", Instant, index=True),
    *_newest_first(),
    # Covers the queries that count the queued jobs, of all owners and of one.
    Index("ix_jobs_status_owner", "status", "owner"),
)

runs = Table(
    "runs",
    metadata,
    Column("job_id", String(36), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("delivery", Integer, primary_key=True),
    Column("worker", String(128), nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("ended", String(16)),
    Column("ended_at", Instant),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("owner", String(64), primary_key=True, server_default=DEFAULT_OWNER),
    Column("key", String(255), primary_key=True),
    Column("body_sha256", String(64), nullable=False),
    Column("job_id", String(36), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created_at", Instant, nullable=False),
)

# Rows are never deleted: once a key exists, the service requires one, even after the last key is revoked.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(20), primary_key=True),
    # SHA-256 of the whole token. A slow hash is needed only for passwords; a random 256-bit secret cannot be guessed.
    Column("digest", String(64), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("scopes", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
)

# One row per job with a webhook: a transactional outbox. The transaction that ends the job sets `due_at`; it is NULL again
# once the message has been accepted or has failed for good.
webhooks = Table(
    "webhooks",
    metadata,
    Column("job_id", String(36), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("message_id", String(36), nullable=False, unique=True),
    Column("url", String(2083), nullable=False),
    Column("host", String(255), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_error", String),
    Column("due_at", Instant, index=True),
    Column("delivered_at", Instant),
    Column("failed_at", Instant),
)

# Tombstones of jobs whose retention has passed.
expired_jobs = Table(
    "expired_jobs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("finished_at", Instant, nullable=False),
    Column("expired_at", Instant, nullable=False),
)

# Scores of pairs of sets in studies, by the hash of their inputs. They have no owner: whoever has the sets could compute them.
cells = Table(
    "cells",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("scores", Json, nullable=False),
    Column("created_at", Instant, nullable=False, index=True),
)

datasets = Table(
    "datasets",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("owner", String(64), nullable=False),
    # SHA-256 of content, name, metadata and owner, or of the name of a built-in dataset and its owner.
    Column("identity", String(64), nullable=False, unique=True),
    Column("name", String(128), nullable=False, index=True),
    Column("n", BigInteger, nullable=False),
    Column("ids_digest", String(64), nullable=False, index=True),
    Column("digest", String(64), nullable=False),
    Column("source", String(16), nullable=False),
    Column("metadata", Json, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    *_newest_first(),
    # Covers the query that sums the bytes of an owner.
    Index("ix_datasets_owner_bytes", "owner", "bytes"),
)

dataset_views = Table(
    "dataset_views",
    metadata,
    Column("dataset_id", String(36), ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False, index=True),
)

# A named, fixed list of sets that new models are scored against. The sets cannot be deleted before the list is.
reference_sets = Table(
    "reference_sets",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("owner", String(64), nullable=False),
    # SHA-256 of name, members, metadata and owner: a repeated request finds the existing row.
    Column("identity", String(64), nullable=False, unique=True),
    Column("name", String(128), nullable=False, index=True),
    Column("n", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("metadata", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    *_newest_first(),
)

reference_members = Table(
    "reference_members",
    metadata,
    Column("reference_id", String(36), ForeignKey("reference_sets.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("embedding_id", String(36), ForeignKey("embeddings.id"), nullable=False, index=True),
)

maps = Table(
    "maps",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("owner", String(64), nullable=False),
    # SHA-256 of the job that fitted the map, or of its content if it was uploaded.
    Column("identity", String(64), nullable=False, unique=True),
    Column("name", String(128), nullable=False, index=True),
    Column("model_card", Json, nullable=False),
    # All weights as one layer of float32 numbers, one per row, and the shape of each tensor by its name.
    Column("digest", String(64), nullable=False, index=True),
    Column("shapes", Json, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    *_newest_first(),
    Index("ix_maps_owner_bytes", "owner", "bytes"),
)

job_embeddings = _links("job_embeddings", "embedding_id")
job_datasets = _links("job_datasets", "dataset_id")
job_references = _links("job_references", "reference_id")
job_maps = _links("job_maps", "map_id")

# The idempotency keys of jobs are in `idempotency_keys`.
upload_keys = _keys("upload_keys", "embedding_id", embeddings)
dataset_keys = _keys("dataset_keys", "dataset_id", datasets)
reference_keys = _keys("reference_keys", "reference_id", reference_sets)
map_keys = _keys("map_keys", "map_id", maps)
