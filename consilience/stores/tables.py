"""The tables. What happens to them over time stands in `migrations`."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, DateTime, ForeignKey, Index, Integer, MetaData, String, Table
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from consilience.contract.keys import DEFAULT_OWNER

#: The newest migration: the schema that this code reads and writes (a test compares it with `migrations`).
SCHEMA = "0012"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Instant(TypeDecorator[datetime]):
    """A moment in UTC; SQLite keeps no time zone, so it is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Everything goes in as UTC."""
        return value and value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Everything comes out as UTC."""
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


#: JSON whose None is SQL's NULL.
Json = JSON(none_as_null=True)


def _newest_first() -> tuple[Index, Index]:
    """What lists are read by: everybody's, and an owner's."""
    return Index(None, "created_at", "id"), Index(None, "owner", "created_at", "id")


def _uses(name: str, target: str) -> Table:
    """What jobs need. No foreign key to it: it may go once the jobs that used it have finished."""
    return Table(
        name,
        metadata,
        Column("job_id", String(36), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        Column(target, String(36), primary_key=True, index=True),
    )


def _keys(name: str, target: str, table: Table) -> Table:
    """The idempotency keys of what is made without a job, each as long as what it stands for."""
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
    # SHA-256 of content, name, metadata and owner: the same upload again meets its own row.
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
    # Of sets that a model made: SHA-256 of everything that decides what is in them, and how they were made.
    Column("extraction", String(64), index=True),
    Column("record", Json),
    *_newest_first(),
    # What an owner keeps is added up from this index alone.
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

# One row an item of a set's metadata: SHA-256 of its key and value, which any database can look up.
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
    # Which workers take it.
    Column("queue", String(16), nullable=False, server_default="align"),
    # W3C Trace Context of the request that sent it; NULL where spans are not made.
    Column("traceparent", String(55)),
    Column("status", String(16), nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    # The fencing number: +1 at each enqueue; whoever writes with an older one writes nothing.
    Column("delivery", Integer, nullable=False),
    # +1 for each sign of life of the worker that has it.
    Column("beat", BigInteger, nullable=False),
    # +1 when a running lease is lost or the job's process dies, and for nothing else.
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
    # How many wait, in all and of one owner, is counted in this index alone.
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

# Rows are never deleted: a service that once had a key does not open itself again when the last one is revoked.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(20), primary_key=True),
    # SHA-256 of the whole token. A slow hash guards what people can remember; nobody can try 2^256 secrets.
    Column("digest", String(64), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("scopes", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
)

# One row a job that has a webhook. `due_at` is set by the transaction that ends the job, so that this is the outbox;
# it is empty again once the message was accepted or given up.
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
    Column("gave_up_at", Instant),
)

# What is left of a job whose retention has passed.
expired_jobs = Table(
    "expired_jobs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("finished_at", Instant, nullable=False),
    Column("expired_at", Instant, nullable=False),
)

# What pairs of sets came to in studies, by what it depends on. No owner: who has the sets could find the same.
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
    # SHA-256 of content, name, metadata and owner, or of a built-in dataset's own name and owner.
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
    # What an owner keeps is added up from this index alone.
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

# What a new model is scored against: a fixed list of sets, under a name. The sets cannot go before it does.
reference_sets = Table(
    "reference_sets",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("owner", String(64), nullable=False),
    # SHA-256 of name, members, metadata and owner: the same request again meets its own row.
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
    # SHA-256 of what makes it the same map: the job that fitted it, or its content where it was uploaded.
    Column("identity", String(64), nullable=False, unique=True),
    Column("name", String(128), nullable=False, index=True),
    Column("card", Json, nullable=False),
    # All weights as one layer of float32 numbers, one a row, and the shape of each tensor among them, by its name.
    Column("digest", String(64), nullable=False, index=True),
    Column("shapes", Json, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    *_newest_first(),
    Index("ix_maps_owner_bytes", "owner", "bytes"),
)

job_embeddings = _uses("job_embeddings", "embedding_id")
job_datasets = _uses("job_datasets", "dataset_id")
job_references = _uses("job_references", "reference_id")
job_maps = _uses("job_maps", "map_id")

# Those of jobs are `idempotency_keys`.
upload_keys = _keys("upload_keys", "embedding_id", embeddings)
dataset_keys = _keys("dataset_keys", "dataset_id", datasets)
reference_keys = _keys("reference_keys", "reference_id", reference_sets)
map_keys = _keys("map_keys", "map_id", maps)
