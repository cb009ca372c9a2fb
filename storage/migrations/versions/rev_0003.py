"""Leases: who may change runs, and who trains which candidate."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("boot", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("born", sa.String(length=255), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("key = 1", name=op.f("ck_leases_single")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_leases")),
    )
    op.add_column("candidates", sa.Column("token", sa.BigInteger(), nullable=True))
    op.add_column("candidates", sa.Column("attempt", sa.Integer(), server_default="0", nullable=False))
    op.add_column("candidates", sa.Column("worker", sa.String(length=255), nullable=True))
