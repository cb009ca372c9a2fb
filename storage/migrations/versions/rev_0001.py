"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

REAL: sa.Double[float] = sa.Double()
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "components",
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("n_parameters", sa.BigInteger(), nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_components")),
        sa.UniqueConstraint("digest", name=op.f("uq_components_digest")),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.CheckConstraint("state IN ('open', 'finished', 'abandoned')", name=op.f("ck_runs_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_table(
        "tasks",
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("added_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_tasks")),
        sa.UniqueConstraint("name", name=op.f("uq_tasks_name")),
        sa.UniqueConstraint("position", name=op.f("uq_tasks_position")),
    )
    op.create_table(
        "traces",
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_traces")),
        sa.UniqueConstraint("digest", name=op.f("uq_traces_digest")),
    )
    op.create_table(
        "weights",
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_weights")),
        sa.UniqueConstraint("digest", name=op.f("uq_weights_digest")),
    )
    if op.get_bind().dialect.name == "postgresql":
        # Weights do not compress, and trying takes most of the time of a write.
        op.execute("ALTER TABLE weights ALTER COLUMN data SET STORAGE EXTERNAL")
    op.create_table(
        "baselines",
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("task_key", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("validation_accuracy", REAL, nullable=False),
        sa.Column("test_accuracy", REAL, nullable=True),
        sa.Column("n_parameters", sa.BigInteger(), nullable=False),
        sa.Column("hyperparameters", sa.JSON(), nullable=False),
        sa.Column("seconds", REAL, nullable=False),
        sa.Column("examples", sa.BigInteger(), nullable=False),
        sa.Column("flops", REAL, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["task_key"], ["tasks.key"], name=op.f("fk_baselines_task_key")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_baselines")),
        sa.UniqueConstraint("task_key", "name", name=op.f("uq_baselines_task_key_name")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=True),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_events_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_run"), "events", ["run"], unique=False)
    op.create_table(
        "paths",
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("task_key", sa.Integer(), nullable=True),
        sa.Column("parent_key", sa.Integer(), nullable=True),
        sa.Column("hyperparameters", sa.JSON(), nullable=False),
        sa.Column("probabilities", sa.JSON(), nullable=False),
        sa.Column("quality", REAL, nullable=False),
        sa.Column("flops", REAL, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["parent_key"], ["paths.key"], name=op.f("fk_paths_parent_key")),
        sa.ForeignKeyConstraint(["task_key"], ["tasks.key"], name=op.f("fk_paths_task_key")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_paths")),
        sa.UniqueConstraint("id", name=op.f("uq_paths_id")),
    )
    op.create_index(op.f("ix_paths_parent_key"), "paths", ["parent_key"], unique=False)
    op.create_index(op.f("ix_paths_task_key"), "paths", ["task_key"], unique=False)
    op.create_index(op.f("ix_paths_version"), "paths", ["version"], unique=False)
    op.create_table(
        "evaluations",
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("path_key", sa.Integer(), nullable=False),
        sa.Column("task_key", sa.Integer(), nullable=False),
        sa.Column("split", sa.String(length=64), nullable=False),
        sa.Column("accuracy", REAL, nullable=False),
        sa.Column("examples", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["path_key"], ["paths.key"], name=op.f("fk_evaluations_path_key")),
        sa.ForeignKeyConstraint(["task_key"], ["tasks.key"], name=op.f("fk_evaluations_task_key")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_evaluations")),
        sa.UniqueConstraint(
            "path_key",
            "task_key",
            "split",
            "fingerprint",
            name=op.f("uq_evaluations_path_key_task_key_split_fingerprint"),
        ),
    )
    op.create_index(op.f("ix_evaluations_task_key"), "evaluations", ["task_key"], unique=False)
    op.create_table(
        "goldens",
        sa.Column("path_key", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("backend", sa.Text(), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("batch_shape", sa.JSON(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["path_key"], ["paths.key"], name=op.f("fk_goldens_path_key")),
        sa.PrimaryKeyConstraint("path_key", name=op.f("pk_goldens")),
    )
    op.create_table(
        "path_mutations",
        sa.Column("path_key", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["path_key"], ["paths.key"], name=op.f("fk_path_mutations_path_key")),
        sa.PrimaryKeyConstraint("path_key", "position", name=op.f("pk_path_mutations")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "path_parts",
        sa.Column("path_key", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("slot", sa.String(length=64), nullable=False),
        sa.Column("component_key", sa.Integer(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("maker_key", sa.Integer(), nullable=True),
        sa.Column("trace_key", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["component_key"], ["components.key"], name=op.f("fk_path_parts_component_key")),
        sa.ForeignKeyConstraint(["maker_key"], ["paths.key"], name=op.f("fk_path_parts_maker_key")),
        sa.ForeignKeyConstraint(["path_key"], ["paths.key"], name=op.f("fk_path_parts_path_key")),
        sa.ForeignKeyConstraint(["trace_key"], ["traces.key"], name=op.f("fk_path_parts_trace_key")),
        sa.PrimaryKeyConstraint("path_key", "position", name=op.f("pk_path_parts")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_path_parts_component_key"), "path_parts", ["component_key"], unique=False)
    op.create_table(
        "segments",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("segment", sa.Integer(), nullable=False),
        sa.Column("task_key", sa.Integer(), nullable=False),
        sa.Column("visit", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("winner_key", sa.Integer(), nullable=True),
        sa.CheckConstraint("state IN ('open', 'finished')", name=op.f("ck_segments_state")),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_segments_run")),
        sa.ForeignKeyConstraint(["task_key"], ["tasks.key"], name=op.f("fk_segments_task_key")),
        sa.ForeignKeyConstraint(["winner_key"], ["paths.key"], name=op.f("fk_segments_winner_key")),
        sa.PrimaryKeyConstraint("run", "segment", name=op.f("pk_segments")),
        sa.UniqueConstraint("task_key", "visit", name=op.f("uq_segments_task_key_visit")),
    )
    op.create_table(
        "system",
        sa.Column("key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("root_key", sa.Integer(), nullable=False),
        sa.Column("root", sa.String(length=255), nullable=False),
        sa.Column("family", sa.String(length=255), nullable=False),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=128), nullable=False),
        sa.Column("image_size", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("mutant_version", sa.String(length=255), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.CheckConstraint("key = 1", name=op.f("ck_system_single")),
        sa.ForeignKeyConstraint(["root_key"], ["paths.key"], name=op.f("fk_system_root_key")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_system")),
    )
    op.create_table(
        "candidates",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("segment", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("child", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("parent_key", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("mutations", sa.JSON(), nullable=False),
        sa.Column("hyperparameters", sa.JSON(), nullable=False),
        sa.Column("probabilities", sa.JSON(), nullable=False),
        sa.Column("pool_version", sa.String(length=255), nullable=False),
        sa.Column("predicted_seconds", REAL, nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("path_key", sa.Integer(), nullable=True),
        sa.Column("validations", sa.JSON(), nullable=False),
        sa.Column("failure", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("seconds", REAL, nullable=False),
        sa.Column("examples", sa.BigInteger(), nullable=False),
        sa.Column("flops", REAL, nullable=False),
        sa.Column("planned_at", TIME, nullable=False),
        sa.Column("committed_at", TIME, nullable=True),
        sa.CheckConstraint(
            "state IN ('QUEUED', 'RUNNING', 'DONE', 'FAILED', 'STALE')", name=op.f("ck_candidates_state")
        ),
        sa.ForeignKeyConstraint(["parent_key"], ["paths.key"], name=op.f("fk_candidates_parent_key")),
        sa.ForeignKeyConstraint(["path_key"], ["paths.key"], name=op.f("fk_candidates_path_key")),
        sa.ForeignKeyConstraint(["run", "segment"], ["segments.run", "segments.segment"], name="fk_candidates_segment"),
        sa.PrimaryKeyConstraint("run", "segment", "generation", "child", name=op.f("pk_candidates")),
        sa.UniqueConstraint("path_key", name=op.f("uq_candidates_path_key")),
    )
    op.create_index("ix_candidates_state", "candidates", ["state", "run", "segment"], unique=False)
