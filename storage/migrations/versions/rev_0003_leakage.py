"""Hashes of the images of a task's splits, so that a test image that trained an ancestor is found."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "task_images",
        sa.Column("task_key", sa.Integer(), nullable=False),
        sa.Column("split", sa.String(length=64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("looks", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["task_key"], ["tasks.key"], name=op.f("fk_task_images_task_key")),
        sa.PrimaryKeyConstraint("task_key", "split", name=op.f("pk_task_images")),
    )
