"""Ids and groups of a set's rows."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add `ids` and `groups`: sets of version 0.1 have neither; a column that may be NULL is added in place, also by SQLite."""
    for name in ("ids", "groups"):
        op.add_column("embeddings", sa.Column(f"{name}_digest", sa.String(64)))
        op.add_column("embeddings", sa.Column(f"{name}_unique", sa.BigInteger()))
        op.create_index(f"ix_embeddings_{name}_digest", "embeddings", [f"{name}_digest"])
