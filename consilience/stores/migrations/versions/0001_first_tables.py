"""The first tables: embedding sets, jobs, their runs, idempotency keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of version 0.1."""
    _make_embeddings()
    _make_jobs()
    _make_references()


def _make_embeddings() -> None:
    op.create_table(
        "embeddings",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("identity", sa.String(64), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_embeddings"),
        sa.UniqueConstraint("identity", name="uq_embeddings_identity"),
    )
    op.create_index("ix_embeddings_created_at_id", "embeddings", ["created_at", "id"])
    op.create_index("ix_embeddings_name", "embeddings", ["name"])
    op.create_table(
        "layers",
        sa.Column("embedding_id", sa.String(36), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("dtype", sa.String(8), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["embedding_id"], ["embeddings.id"], "fk_layers_embedding_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("embedding_id", "position", name="pk_layers"),
    )
    op.create_index("ix_layers_digest", "layers", ["digest"])


def _make_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("delivery", sa.Integer(), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("progress", sa.JSON()),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON()),
        sa.Column("error", sa.JSON()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_created_at_id", "jobs", ["created_at", "id"])
    op.create_index("ix_jobs_status", "jobs", ["status"])
    op.create_table(
        "runs",
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("delivery", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(128), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended", sa.String(16)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], "fk_runs_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "delivery", name="pk_runs"),
    )


def _make_references() -> None:
    op.create_table(
        "labels",
        sa.Column("embedding_id", sa.String(36), nullable=False),
        sa.Column("label", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["embedding_id"], ["embeddings.id"], "fk_labels_embedding_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("embedding_id", "label", name="pk_labels"),
    )
    op.create_index("ix_labels_label", "labels", ["label"])
    op.create_table(
        "job_embeddings",
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("embedding_id", sa.String(36), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], "fk_job_embeddings_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "embedding_id", name="pk_job_embeddings"),
    )
    op.create_index("ix_job_embeddings_embedding_id", "job_embeddings", ["embedding_id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("body_sha256", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], "fk_idempotency_keys_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_job_id", "idempotency_keys", ["job_id"])
