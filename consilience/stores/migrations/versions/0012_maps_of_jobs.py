"""Which maps a job needs: they cannot be deleted before it has finished."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing that is there already changes."""
    op.create_table(
        "job_maps",
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("map_id", sa.String(36), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], "fk_job_maps_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "map_id", name="pk_job_maps"),
    )
    op.create_index("ix_job_maps_map_id", "job_maps", ["map_id"])
