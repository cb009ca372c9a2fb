"""Who trains what since when, and where every child's time went.

Without batch mode, which would make the tables anew on SQLite and lose their triggers.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

REAL: sa.Double[float] = sa.Double()
PLACE = ("run", "segment", "generation", "child")


def upgrade() -> None:
    op.add_column("candidates", sa.Column("began_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "timings",
        *(sa.Column(name, sa.Integer(), nullable=False) for name in PLACE),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("device", sa.String(255), nullable=False),
        sa.Column("began", REAL, nullable=False),
        sa.Column("spans", sa.JSON(), nullable=False),
        sa.Column("reused_rows", sa.BigInteger(), nullable=False),
        sa.Column("computed_rows", sa.BigInteger(), nullable=False),
        sa.Column("held_bytes", sa.BigInteger(), nullable=False),
        sa.Column("commit_began", REAL, nullable=True),
        sa.Column("commit_seconds", REAL, nullable=True),
        sa.ForeignKeyConstraint(PLACE, [f"candidates.{name}" for name in PLACE], name="fk_timings_candidate"),
        sa.PrimaryKeyConstraint(*PLACE, name="pk_timings"),
    )
    op.create_table(
        "workers",
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("host", sa.String(255), nullable=True),
        sa.Column("pid", sa.BigInteger(), nullable=True),
        sa.Column("device", sa.String(255), nullable=True),
        sa.PrimaryKeyConstraint("token", "name", name="pk_workers"),
    )
