"""Jobs for workers of different kinds: each names its queue."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every job that is there already is for the workers there were."""
    op.add_column("jobs", sa.Column("queue", sa.String(16), nullable=False, server_default="align"))
