"""Maps from one space to another, and the idempotency keys of their uploads."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing that is there already changes."""
    op.create_table(
        "maps",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("identity", sa.String(64), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("card", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("shapes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_maps"),
        sa.UniqueConstraint("identity", name="uq_maps_identity"),
    )
    for name, columns in (
        ("ix_maps_name", ["name"]),
        ("ix_maps_digest", ["digest"]),
        ("ix_maps_created_at_id", ["created_at", "id"]),
        ("ix_maps_owner_created_at_id", ["owner", "created_at", "id"]),
        ("ix_maps_owner_bytes", ["owner", "bytes"]),
    ):
        op.create_index(name, "maps", columns)
    op.create_table(
        "map_keys",
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("identity", sa.String(64), nullable=False),
        sa.Column("map_id", sa.String(36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["map_id"], ["maps.id"], "fk_map_keys_map_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("owner", "key", name="pk_map_keys"),
    )
    op.create_index("ix_map_keys_map_id", "map_keys", ["map_id"])
