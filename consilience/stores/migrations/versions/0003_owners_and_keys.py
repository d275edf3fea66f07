"""API keys, and an owner for every set, job and idempotency key."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add owners and keys; existing rows belong to the owner `default`, as in a service without keys."""
    _make_keys()
    for table in ("embeddings", "jobs"):
        op.add_column(table, _owner())
        op.create_index(f"ix_{table}_owner_created_at_id", table, ["owner", "created_at", "id"])
    op.create_index("ix_embeddings_owner_bytes", "embeddings", ["owner", "bytes"])
    op.drop_index("ix_jobs_status", "jobs")
    op.create_index("ix_jobs_status_owner", "jobs", ["status", "owner"])
    # SQLite makes this table anew, which is safe for it alone: no other table refers to it, so nothing cascades.
    with op.batch_alter_table("idempotency_keys") as keys:
        keys.add_column(_owner())
        keys.drop_constraint("pk_idempotency_keys", type_="primary")
        keys.create_primary_key("pk_idempotency_keys", ["owner", "key"])


def _owner() -> sa.Column[str]:
    return sa.Column("owner", sa.String(64), nullable=False, server_default="default")


def _make_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(20), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
    )
