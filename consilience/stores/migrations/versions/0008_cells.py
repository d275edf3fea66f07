"""Cells of studies, by what they depend on."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of cells, which belong to no job."""
    op.create_table(
        "cells",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("scores", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, index=True),
    )
