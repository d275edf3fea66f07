"""Jobs know the trace of the request that sent them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Jobs that are there already have none."""
    op.add_column("jobs", sa.Column("traceparent", sa.String(55)))
