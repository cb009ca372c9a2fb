"""Leases; tasks that can be removed, weights that were collected, a component's users found fast; hashes of images.

Without batch mode, which would make the tables anew on SQLite and lose their triggers.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
NAME = sa.String(length=255)
DIGEST = sa.String(length=64)


def upgrade() -> None:
    _leases()
    _lineage()
    _images()


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("host", NAME, nullable=True),
        sa.Column("boot", NAME, nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("born", NAME, nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.CheckConstraint("key = 1", name=op.f("ck_leases_single")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_leases")),
    )
    op.add_column("candidates", sa.Column("token", sa.BigInteger(), nullable=True))
    op.add_column("candidates", sa.Column("attempt", sa.Integer(), server_default="0", nullable=False))
    op.add_column("candidates", sa.Column("worker", NAME, nullable=True))


def _lineage() -> None:
    op.add_column("tasks", sa.Column("removed_at", TIME, nullable=True))
    op.create_table(
        "collected",
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_collected")),
    )
    op.drop_index("ix_path_parts_component_key", "path_parts")
    op.create_index("ix_path_parts_component_key_path_key", "path_parts", ["component_key", "path_key"])


def _images() -> None:
    op.create_table(
        "task_images",
        sa.Column("task_key", sa.Integer(), nullable=False),
        sa.Column("split", sa.String(length=64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("looks", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["task_key"], ["tasks.key"], name=op.f("fk_task_images_task_key")),
        sa.PrimaryKeyConstraint("task_key", "split", name=op.f("pk_task_images")),
    )
