"""Sets that a model made: what they were made of, and how."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every set that is there already was uploaded."""
    op.add_column("embeddings", sa.Column("extraction", sa.String(64)))
    op.add_column("embeddings", sa.Column("record", sa.JSON()))
    op.create_index("ix_embeddings_extraction", "embeddings", ["extraction"])
