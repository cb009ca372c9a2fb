"""Lineage: tasks can be removed, weights that were collected are remembered, and a component's users are found fast."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    # Without batch mode, which would make the tables anew and lose their triggers.
    op.add_column("tasks", sa.Column("removed_at", TIME, nullable=True))
    op.create_table(
        "collected",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_collected")),
    )
    op.drop_index("ix_path_parts_component_key", "path_parts")
    op.create_index("ix_path_parts_component_key_path_key", "path_parts", ["component_key", "path_key"])
