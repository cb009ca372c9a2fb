"""The tables, as SQLAlchemy models with types that every back end has.

Paths, components and traces have short integer keys inside the database, because a thousand tasks mean millions of
parts; outside they are named by their digests. Rows of lineage are never rewritten; weights alone may be dropped.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

APPLICATION_ID = 0x6D757461
"""`muta`: marks a SQLite file as ours."""


class Utc(TypeDecorator[datetime]):
    """An aware time in UTC; SQLite keeps it without its zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Utc, float: Double, dict[str, Any]: JSON, list[Any]: JSON}  # noqa: RUF012


Digest = String(64)
Name = String(255)


class TaskRow(Base):
    """A task; `position` is its place in the order of arrival, `data` the whole of it as JSON.

    A task that was removed (or came only as the maker of an imported task's components) has `removed_at`: its row
    stays, because lineage names it.
    """

    __tablename__ = "tasks"

    key: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Name, unique=True)
    position: Mapped[int] = mapped_column(unique=True)
    uri: Mapped[str] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(Digest)
    data: Mapped[dict[str, Any]]
    added_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]


class ImagesRow(Base):
    """The images of one split of a task, as hashes: `content` in ascending order, and `looks` in the same order."""

    __tablename__ = "task_images"

    task_key: Mapped[int] = mapped_column(ForeignKey("tasks.key"), primary_key=True)
    split: Mapped[str] = mapped_column(String(64), primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    looks: Mapped[bytes] = mapped_column(LargeBinary)


class WeightsRow(Base):
    """Arrays by the digest of their content, as safetensors. Components, traces and golden outputs name them.

    `data` is NULL where they lie in the system's blob store under the digest.
    """

    __tablename__ = "weights"

    key: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(Digest, unique=True)
    n_bytes: Mapped[int] = mapped_column(BigInteger)
    data: Mapped[bytes | None] = mapped_column(LargeBinary)


class CollectedRow(Base):
    """Weights that the collector dropped, by digest: missing for a reason, and not by damage."""

    __tablename__ = "collected"

    digest: Mapped[str] = mapped_column(Digest, primary_key=True)
    n_bytes: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime]


class ComponentRow(Base):
    __tablename__ = "components"

    key: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(Digest, unique=True)
    spec: Mapped[str] = mapped_column(Text)
    n_parameters: Mapped[int] = mapped_column(BigInteger)
    n_bytes: Mapped[int] = mapped_column(BigInteger)


class TraceRow(Base):
    """The optimizer's momentum that came with a component's training."""

    __tablename__ = "traces"

    key: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(Digest, unique=True)


class PathRow(Base):
    """A trained model. The root has neither task nor parent."""

    __tablename__ = "paths"

    key: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(Digest, unique=True)
    version: Mapped[str] = mapped_column(Digest, index=True)
    task_key: Mapped[int | None] = mapped_column(ForeignKey("tasks.key"), index=True)
    parent_key: Mapped[int | None] = mapped_column(ForeignKey("paths.key"), index=True)
    hyperparameters: Mapped[dict[str, Any]]
    probabilities: Mapped[dict[str, Any]]
    quality: Mapped[float]
    flops: Mapped[float]
    created_at: Mapped[datetime]


class PartRow(Base):
    """One component in its place on a path; `maker_key` is the path whose training made it (None: pretrained)."""

    __tablename__ = "path_parts"
    __table_args__ = (
        Index("ix_path_parts_component_key_path_key", "component_key", "path_key"),
        {"sqlite_with_rowid": False},
    )

    path_key: Mapped[int] = mapped_column(ForeignKey("paths.key"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    slot: Mapped[str] = mapped_column(String(64))
    component_key: Mapped[int] = mapped_column(ForeignKey("components.key"))
    depth: Mapped[int]
    maker_key: Mapped[int | None] = mapped_column(ForeignKey("paths.key"))
    trace_key: Mapped[int | None] = mapped_column(ForeignKey("traces.key"))


class MutationRow(Base):
    """One mutation of the list that leads from a path's parent to the path."""

    __tablename__ = "path_mutations"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012

    path_key: Mapped[int] = mapped_column(ForeignKey("paths.key"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(64))
    data: Mapped[dict[str, Any]]


class RunRow(Base):
    """One call's settings and state."""

    __tablename__ = "runs"
    __table_args__ = (CheckConstraint("state IN ('open', 'finished', 'abandoned')", name="state"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    config: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class SegmentRow(Base):
    """The generations that a run spends on one task."""

    __tablename__ = "segments"
    __table_args__ = (
        CheckConstraint("state IN ('open', 'finished')", name="state"),
        UniqueConstraint("task_key", "visit"),
    )

    run: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    segment: Mapped[int] = mapped_column(primary_key=True)
    task_key: Mapped[int] = mapped_column(ForeignKey("tasks.key"))
    visit: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    winner_key: Mapped[int | None] = mapped_column(ForeignKey("paths.key"))


class CandidateRow(Base):
    """A child by its position in a run; written QUEUED before it is trained, so that a resumed run finds it.

    `token` and `attempt` name the lease under which `worker` trains it: the controller's, and how often it was begun.
    `known` and `arrival` are the log of a run without generations: how many of its segment's outcomes the child was
    drawn after, and which of them its own was, from 1. Both are NULL in a run by generations.
    """

    __tablename__ = "candidates"
    __table_args__ = (
        ForeignKeyConstraint(["run", "segment"], ["segments.run", "segments.segment"], name="fk_candidates_segment"),
        CheckConstraint("state IN ('QUEUED', 'RUNNING', 'DONE', 'FAILED', 'STALE')", name="state"),
        Index("ix_candidates_state", "state", "run", "segment"),
    )

    run: Mapped[int] = mapped_column(primary_key=True)
    segment: Mapped[int] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    child: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(Digest)
    parent_key: Mapped[int] = mapped_column(ForeignKey("paths.key"))
    seed: Mapped[int] = mapped_column(BigInteger)
    mutations: Mapped[list[Any]]
    hyperparameters: Mapped[dict[str, Any]]
    probabilities: Mapped[dict[str, Any]]
    pool_version: Mapped[str] = mapped_column(Name)
    known: Mapped[int | None]
    predicted_seconds: Mapped[float | None]
    predicted_flops: Mapped[float | None]
    state: Mapped[str] = mapped_column(String(16))
    path_key: Mapped[int | None] = mapped_column(ForeignKey("paths.key"), unique=True)
    validations: Mapped[list[Any]]
    failure: Mapped[str | None] = mapped_column(String(64))
    reason: Mapped[str | None] = mapped_column(Text)
    seconds: Mapped[float]
    examples: Mapped[int] = mapped_column(BigInteger)
    flops: Mapped[float]
    device_seconds: Mapped[float] = mapped_column(server_default="0")
    wait_seconds: Mapped[float] = mapped_column(server_default="0")
    compile_seconds: Mapped[float] = mapped_column(server_default="0")
    compilations: Mapped[int] = mapped_column(server_default="0")
    token: Mapped[int | None] = mapped_column(BigInteger)
    attempt: Mapped[int] = mapped_column(server_default="0")
    worker: Mapped[str | None] = mapped_column(Name)
    planned_at: Mapped[datetime]
    committed_at: Mapped[datetime | None]
    arrival: Mapped[int | None]
    began_at: Mapped[datetime | None]


class LeaseRow(Base):
    """The one row that says who may change runs; it stays when the lease is given back, for its token (`leases.py`)."""

    __tablename__ = "leases"
    __table_args__ = (CheckConstraint("key = 1", name="single"),)

    key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    token: Mapped[int] = mapped_column(BigInteger)
    host: Mapped[str | None] = mapped_column(Name)
    boot: Mapped[str] = mapped_column(Name)
    pid: Mapped[int] = mapped_column(BigInteger)
    born: Mapped[str] = mapped_column(Name)
    purpose: Mapped[str] = mapped_column(Text)
    beat: Mapped[int] = mapped_column(BigInteger)
    since: Mapped[datetime]


class GoldenRow(Base):
    """A path's stored outputs; the probe images and logits are the weights of `digest`."""

    __tablename__ = "goldens"

    path_key: Mapped[int] = mapped_column(ForeignKey("paths.key"), primary_key=True)
    digest: Mapped[str] = mapped_column(Digest)
    backend: Mapped[str] = mapped_column(Text)
    versions: Mapped[dict[str, Any]]
    batch_shape: Mapped[list[Any]]
    created_at: Mapped[datetime]


class EvaluationRow(Base):
    __tablename__ = "evaluations"
    __table_args__ = (UniqueConstraint("path_key", "task_key", "split", "fingerprint"),)

    key: Mapped[int] = mapped_column(primary_key=True)
    path_key: Mapped[int] = mapped_column(ForeignKey("paths.key"))
    task_key: Mapped[int] = mapped_column(ForeignKey("tasks.key"), index=True)
    split: Mapped[str] = mapped_column(String(64))
    accuracy: Mapped[float]
    examples: Mapped[int] = mapped_column(BigInteger)
    fingerprint: Mapped[str] = mapped_column(Digest)
    at: Mapped[datetime]


class BaselineRow(Base):
    __tablename__ = "baselines"
    __table_args__ = (UniqueConstraint("task_key", "name"),)

    key: Mapped[int] = mapped_column(primary_key=True)
    task_key: Mapped[int] = mapped_column(ForeignKey("tasks.key"))
    name: Mapped[str] = mapped_column(Name)
    validation_accuracy: Mapped[float]
    test_accuracy: Mapped[float | None]
    n_parameters: Mapped[int] = mapped_column(BigInteger)
    hyperparameters: Mapped[dict[str, Any]]
    seconds: Mapped[float]
    examples: Mapped[int] = mapped_column(BigInteger)
    flops: Mapped[float]
    device_seconds: Mapped[float] = mapped_column(server_default="0")
    wait_seconds: Mapped[float] = mapped_column(server_default="0")
    compile_seconds: Mapped[float] = mapped_column(server_default="0")
    compilations: Mapped[int] = mapped_column(server_default="0")
    at: Mapped[datetime]


class EventRow(Base):
    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    run: Mapped[int | None] = mapped_column(ForeignKey("runs.id"), index=True)
    kind: Mapped[str] = mapped_column(String(64))
    data: Mapped[dict[str, Any]]
    at: Mapped[datetime]


class KeyRow(Base):
    """A key to the server: what is kept is a hash of its secret, so that reading the database opens nothing."""

    __tablename__ = "api_keys"
    __table_args__ = (CheckConstraint("scope IN ('read', 'admin')", name="scope"),)

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(Name, unique=True)
    secret: Mapped[str] = mapped_column(Digest)
    scope: Mapped[str] = mapped_column(String(16))
    rate: Mapped[float | None]
    created_at: Mapped[datetime]


class PermitRow(Base):
    """While there is a permit, its transaction may change finished rows; none can be committed (see `permit.py`)."""

    __tablename__ = "gc_permits"
    __table_args__ = (CheckConstraint("key = 1 AND returned_key = 0", name="returned"),)

    key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    returned_key: Mapped[int] = mapped_column(ForeignKey("gc_permits.key", deferrable=True, initially="DEFERRED"))


class SystemRow(Base):
    """The one row that says what this system is, and where its weights lie (`blobs/placement.py`)."""

    __tablename__ = "system"
    __table_args__ = (CheckConstraint("key = 1", name="single"),)

    key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    root_key: Mapped[int] = mapped_column(ForeignKey("paths.key"))
    root: Mapped[str] = mapped_column(Name)
    family: Mapped[str] = mapped_column(Name)
    licence: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(128))
    image_size: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    mutant_version: Mapped[str] = mapped_column(Name)
    settings: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    blobs: Mapped[str | None] = mapped_column(Text)
    inline_limit: Mapped[int | None] = mapped_column(BigInteger)
    blobs_key: Mapped[str] = mapped_column(String(16), server_default="")
