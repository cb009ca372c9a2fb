"""Triggers: the database itself refuses to change what is finished, but for a collector that holds a permit.

SQLite forgets a table's triggers when a later migration makes the table anew (batch mode): make them again there.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

WORDS = "what is finished does not change"
KEYS = {
    "weights": [("key",), ("digest",)],
    "components": [("key",), ("digest",)],
    "traces": [("key",), ("digest",)],
    "paths": [("key",), ("id",)],
    "path_parts": [("path_key", "position")],
    "path_mutations": [("path_key", "position")],
    "goldens": [("path_key",)],
    "candidates": [("run", "segment", "generation", "child"), ("path_key",)],
    "segments": [("run", "segment"), ("task_key", "visit")],
}
"""The frozen tables and their unique keys."""
FINISHED = {"candidates": "{row}.state IN ('DONE', 'FAILED')", "segments": "{row}.state = 'finished'"}
"""Which rows of a table are frozen, where not all are."""


def upgrade() -> None:
    # A permit names one that cannot exist, and that is checked when the transaction ends: none is ever committed.
    op.create_table(
        "gc_permits",
        sa.Column("key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("returned_key", sa.Integer(), nullable=False),
        sa.CheckConstraint("key = 1 AND returned_key = 0", name=op.f("ck_gc_permits_returned")),
        sa.ForeignKeyConstraint(
            ["returned_key"],
            ["gc_permits.key"],
            name=op.f("fk_gc_permits_returned_key"),
            deferrable=True,
            initially="DEFERRED",
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_gc_permits")),
    )
    if op.get_bind().dialect.name == "postgresql":
        _postgresql()
    else:
        _sqlite()


def _postgresql() -> None:
    op.execute(f"""
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE permitted boolean;
        BEGIN
            EXECUTE format('SELECT EXISTS (SELECT FROM %I.gc_permits)', TG_TABLE_SCHEMA) INTO permitted;
            IF NOT permitted THEN
                RAISE EXCEPTION '%: {WORDS}', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
            END IF;
            IF TG_OP = 'DELETE' THEN
                RETURN OLD;
            END IF;
            RETURN NEW;
        END $$
    """)
    for table in KEYS:
        condition = f"WHEN ({FINISHED[table].format(row='OLD')})" if table in FINISHED else ""
        op.execute(f"""
            CREATE TRIGGER frozen BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW {condition}
            EXECUTE FUNCTION refuse_change()
        """)
        op.execute(f"""
            CREATE TRIGGER frozen_whole BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
        """)


def _sqlite() -> None:
    for table, keys in KEYS.items():
        finished = FINISHED.get(table, "1")
        same = " OR ".join("(" + " AND ".join(f"old_.{c} = NEW.{c}" for c in key) + ")" for key in keys)
        # OR REPLACE drops the row in its way without asking the triggers for DELETE.
        replaced = f"EXISTS (SELECT 1 FROM {table} AS old_ WHERE ({same}) AND {finished.format(row='old_')})"
        old = finished.format(row="OLD")
        for event, condition in (("UPDATE", f"({old} OR {replaced})"), ("DELETE", old), ("INSERT", replaced)):
            op.execute(f"""
                CREATE TRIGGER frozen_{table}_{event.lower()} BEFORE {event} ON {table}
                WHEN {condition} AND NOT EXISTS (SELECT 1 FROM gc_permits)
                BEGIN SELECT RAISE(ABORT, '{table}: {WORDS}'); END
            """)
