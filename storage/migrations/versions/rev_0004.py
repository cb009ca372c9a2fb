"""Weights beside the database: rows of weights without data, and where the system keeps such.

SQLite cannot drop NOT NULL but by making the table anew, which would copy all weights and lose the triggers; so the
table's text is changed in place, as SQLite's documentation of ALTER TABLE describes for constraints.
"""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BEFORE, AFTER = "data BLOB NOT NULL", "data BLOB"


def upgrade() -> None:
    op.add_column("system", sa.Column("blobs", sa.Text(), nullable=True))
    op.add_column("system", sa.Column("inline_limit", sa.BigInteger(), nullable=True))
    op.add_column("system", sa.Column("blobs_key", sa.String(length=16), server_default="", nullable=False))
    op.execute(sa.text("UPDATE system SET blobs_key = :key").bindparams(key=secrets.token_hex(8)))
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("weights", "data", nullable=True)
    else:
        _sqlite()


def _sqlite() -> None:
    connection = op.get_bind()
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    changed = connection.execute(
        sa.text(
            "UPDATE sqlite_master SET sql = replace(sql, :before, :after) "
            "WHERE type = 'table' AND name = 'weights' AND instr(sql, :before)"
        ).bindparams(before=BEFORE, after=AFTER)
    )
    if changed.rowcount != 1:
        raise ValueError("the table of weights is not as this migration knows it")
    connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema = OFF")
