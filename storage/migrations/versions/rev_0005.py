"""What a child costs, told before and measured after: predicted FLOPs, and seconds on the device, waiting, compiling.

Without batch mode, which would make the tables anew on SQLite and lose their triggers.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SECONDS = ("device_seconds", "wait_seconds", "compile_seconds")


def upgrade() -> None:
    op.add_column("candidates", sa.Column("predicted_flops", sa.Double(), nullable=True))
    for table in ("candidates", "baselines"):
        for name in SECONDS:
            op.add_column(table, sa.Column(name, sa.Double(), server_default="0", nullable=False))
        op.add_column(table, sa.Column("compilations", sa.Integer(), server_default="0", nullable=False))
