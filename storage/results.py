"""The database of a benchmark: what each method reached on each task, repeat by repeat."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Connection, Engine, ForeignKeyConstraint, String, create_engine, event, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from mutant.tasks.errors import UserError

APPLICATION_ID = 0x6D75_7462
"""`mutb`: SQLite's own mark of what a file is."""
VERSION = 2
"""2 came with the processor of a cell, and the seconds that it took."""
LOCK_SECONDS = 30.0
"""How long one waits for another process that writes."""


@dataclass(frozen=True)
class TaskResult:
    """One task of a method in one repeat. Accuracies 0 to 1; seconds and FLOPs of all its children; None: unknown.

    `flops_per_example` is the path's forward pass; `flops` what training was counted with, above frozen activations.
    """

    method: str
    repeat: int
    task: str
    place: int
    validation_accuracy: float
    test_accuracy: float
    test_examples: int
    accounted_parameters: float
    n_parameters: int
    flops_per_example: float
    children: int
    failed: int
    examples: int
    flops: float
    device_seconds: float
    seconds: float
    path: str
    hyperparameters: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __hash__(self) -> int:
        return hash((self.method, self.repeat, self.task))


@dataclass(frozen=True)
class CellResult:
    """A method in one repeat: what all its tasks share. `digest` is the meaning of its system's database.

    `processor` is what it was computed on, `processor_seconds` what that took where one process did all of it at one
    go; None: unknown.
    """

    method: str
    repeat: int
    group: str
    total_parameters: int
    digest: str
    wall_seconds: float
    energy_joules: float | None = None
    tasks: tuple[TaskResult, ...] = ()
    processor: str | None = None
    processor_seconds: float | None = None


class _Base(DeclarativeBase):
    type_annotation_map = {Mapping[str, Any]: JSON}  # noqa: RUF012


class _Settings(_Base):
    __tablename__ = "settings"
    key: Mapped[str] = mapped_column(String, primary_key=True)
    value: Mapped[str]


class _Cell(_Base):
    __tablename__ = "cells"
    method: Mapped[str] = mapped_column(primary_key=True)
    repeat: Mapped[int] = mapped_column(primary_key=True)
    group: Mapped[str]
    total_parameters: Mapped[int]
    digest: Mapped[str]
    wall_seconds: Mapped[float]
    energy_joules: Mapped[float | None]
    processor: Mapped[str | None]
    processor_seconds: Mapped[float | None]


class _Task(_Base):
    __tablename__ = "results"
    __table_args__ = (ForeignKeyConstraint(["method", "repeat"], ["cells.method", "cells.repeat"]),)
    method: Mapped[str] = mapped_column(primary_key=True)
    repeat: Mapped[int] = mapped_column(primary_key=True)
    task: Mapped[str] = mapped_column(primary_key=True)
    place: Mapped[int]
    validation_accuracy: Mapped[float]
    test_accuracy: Mapped[float]
    test_examples: Mapped[int]
    accounted_parameters: Mapped[float]
    n_parameters: Mapped[int]
    flops_per_example: Mapped[float]
    children: Mapped[int]
    failed: Mapped[int]
    examples: Mapped[int]
    flops: Mapped[float]
    device_seconds: Mapped[float]
    seconds: Mapped[float]
    path: Mapped[str]
    hyperparameters: Mapped[Mapping[str, Any]]


class Results:
    """An open database of results. A cell is written with all its tasks, or not at all."""

    def __init__(self, engine: Engine, file: Path) -> None:
        self._engine, self._file = engine, file

    @classmethod
    def open(cls, file: Path) -> "Results":
        """The database in `file`, made when there is none. Raises `UserError` for another kind of file."""
        engine = create_engine(f"sqlite:///{file}", connect_args={"timeout": LOCK_SECONDS})
        event.listen(engine, "connect", _with_foreign_keys)
        with _told(file), engine.begin() as connection:
            if _marks(connection) != (APPLICATION_ID, VERSION):
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # another process may be about to make it, too
                _make_or_upgrade(connection, file)
        return cls(engine, file)

    def close(self) -> None:
        self._engine.dispose()

    def settings(self) -> Mapping[str, str]:
        """What the benchmark was begun with, as texts by name."""
        with _told(self._file), Session(self._engine) as session:
            return {row.key: row.value for row in session.scalars(select(_Settings).order_by(_Settings.key))}

    def begin(self, settings: Mapping[str, str]) -> None:
        """Keep what the benchmark is begun with; nothing when it was begun before, or is by another process."""
        with _told(self._file), self._engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            if connection.execute(select(_Settings).limit(1)).first() is None:
                connection.execute(insert(_Settings), [{"key": key, "value": text} for key, text in settings.items()])

    def record(self, cell: CellResult) -> None:
        """Add a cell with its tasks."""
        row = _Cell(**{f.name: getattr(cell, f.name) for f in fields(CellResult) if f.name != "tasks"})
        with _told(self._file), Session(self._engine) as session, session.begin():
            session.add(row)
            session.flush()
            session.add_all(_Task(**asdict(task)) for task in cell.tasks)

    def cells(self) -> Sequence[CellResult]:
        """All cells with their tasks in the order of arrival."""
        with _told(self._file), Session(self._engine) as session:
            rows = session.scalars(select(_Cell).order_by(_Cell.repeat, _Cell.method)).all()
            tasks = [_value(TaskResult, row) for row in session.scalars(select(_Task).order_by(_Task.place))]
            return [_cell(row, tasks) for row in rows]


@contextmanager
def _told(file: Path) -> Generator[None]:
    """What goes wrong with the database, as an error for people."""
    try:
        yield
    except SQLAlchemyError as error:
        raise UserError(
            f"Cannot use the results in '{file}': {error.__cause__ or error}.", hint="Name another: --dir DIR"
        ) from error


def _marks(connection: Connection) -> tuple[int, int]:
    """What SQLite keeps in a file of what it is: `application_id` and `user_version`, 0 and 0 in a new one."""
    application_id = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
    return application_id, connection.exec_driver_sql("PRAGMA user_version").scalar_one()


def _make_or_upgrade(connection: Connection, file: Path) -> None:
    marks = _marks(connection)
    if not connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar():
        _Base.metadata.create_all(connection)
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    elif marks == (APPLICATION_ID, 1):
        connection.exec_driver_sql("ALTER TABLE cells ADD COLUMN processor VARCHAR")
        connection.exec_driver_sql("ALTER TABLE cells ADD COLUMN processor_seconds FLOAT")
    elif marks != (APPLICATION_ID, VERSION):
        raise UserError(f"'{file}' holds no results of this version.", hint="Name another directory: --dir DIR")
    connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")


def _with_foreign_keys(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA foreign_keys = ON")


def _value(cls: type[TaskResult], row: _Task) -> TaskResult:
    return cls(**{f.name: getattr(row, f.name) for f in fields(cls)})


def _cell(row: _Cell, tasks: Iterable[TaskResult]) -> CellResult:
    own = tuple(task for task in tasks if (task.method, task.repeat) == (row.method, row.repeat))
    return CellResult(**{f.name: getattr(row, f.name) for f in fields(CellResult) if f.name != "tasks"}, tasks=own)
