"""Reference sets: their members, the jobs that use them, and the idempotency keys under which they were made."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing that is there already changes."""
    _make_references()
    op.create_table(
        "reference_members",
        sa.Column("reference_id", sa.String(36), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("embedding_id", sa.String(36), nullable=False),
        _refers("reference_members", "reference_id", "reference_sets", ondelete="CASCADE"),
        _refers("reference_members", "embedding_id", "embeddings"),
        sa.PrimaryKeyConstraint("reference_id", "position", name="pk_reference_members"),
    )
    op.create_index("ix_reference_members_embedding_id", "reference_members", ["embedding_id"])
    op.create_table(
        "job_references",
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("reference_id", sa.String(36), nullable=False),
        _refers("job_references", "job_id", "jobs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "reference_id", name="pk_job_references"),
    )
    op.create_index("ix_job_references_reference_id", "job_references", ["reference_id"])
    op.create_table(
        "reference_keys",
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("identity", sa.String(64), nullable=False),
        sa.Column("reference_id", sa.String(36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        _refers("reference_keys", "reference_id", "reference_sets", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("owner", "key", name="pk_reference_keys"),
    )
    op.create_index("ix_reference_keys_reference_id", "reference_keys", ["reference_id"])


def _make_references() -> None:
    op.create_table(
        "reference_sets",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("identity", sa.String(64), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_reference_sets"),
        sa.UniqueConstraint("identity", name="uq_reference_sets_identity"),
    )
    op.create_index("ix_reference_sets_name", "reference_sets", ["name"])
    op.create_index("ix_reference_sets_created_at_id", "reference_sets", ["created_at", "id"])
    op.create_index("ix_reference_sets_owner_created_at_id", "reference_sets", ["owner", "created_at", "id"])


def _refers(table: str, column: str, target: str, ondelete: str | None = None) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], f"fk_{table}_{column}", ondelete=ondelete)
