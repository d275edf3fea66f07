"""Webhooks, what is left of expired jobs, and the idempotency keys of uploads."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing that is there already changes."""
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"])
    _make_webhooks()
    _make_upload_keys()
    op.create_table(
        "expired_jobs",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expired_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_expired_jobs"),
    )


def _make_webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("message_id", sa.String(36), nullable=False),
        sa.Column("url", sa.String(2083), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.String()),
        sa.Column("due_at", sa.DateTime(timezone=True)),
        sa.Column("delivered_at", sa.DateTime(timezone=True)),
        sa.Column("gave_up_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], "fk_webhooks_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name="pk_webhooks"),
        sa.UniqueConstraint("message_id", name="uq_webhooks_message_id"),
    )
    op.create_index("ix_webhooks_due_at", "webhooks", ["due_at"])


def _make_upload_keys() -> None:
    op.create_table(
        "upload_keys",
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("identity", sa.String(64), nullable=False),
        sa.Column("embedding_id", sa.String(36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["embedding_id"], ["embeddings.id"], "fk_upload_keys_embedding_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("owner", "key", name="pk_upload_keys"),
    )
    op.create_index("ix_upload_keys_embedding_id", "upload_keys", ["embedding_id"])
