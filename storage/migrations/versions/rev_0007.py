"""The log of a run without generations: after how many outcomes a child was drawn, and which outcome its own was."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("candidates", sa.Column("known", sa.Integer(), nullable=True))
    op.add_column("candidates", sa.Column("arrival", sa.Integer(), nullable=True))
