"""Systems as files: a copy of all of one, or a new one with some of its tasks. Both are ordinary systems."""

from pathlib import Path as FilePath
from typing import Any

from sqlalchemy import Connection, Table, insert, select

from mutant.storage import migrate
from mutant.storage.importing import import_tasks
from mutant.storage.portable import forget_places, portable_info
from mutant.storage.schema import Base, PermitRow, WeightsRow
from mutant.storage.store import Store
from mutant.storage.url import database_url
from mutant.tasks.errors import UserError

SYSTEM = "system.db"
_AT_A_TIME = 1000


def copy_system(store: Store, file: FilePath) -> None:
    """Write every row and all weights of `store`, as they are at one moment, to the new SQLite database `file`."""
    with store.reading() as theirs:

        def fill(ours: Connection) -> None:
            for table in Base.metadata.sorted_tables:
                if table is not PermitRow.__table__:
                    _copy(theirs, ours, table)
            forget_places(ours)

        migrate.create(database_url(str(file)), fill)


def _copy(theirs: Connection, ours: Connection, table: Table) -> None:
    size = 1 if table is WeightsRow.__table__ else _AT_A_TIME
    query = select(table).order_by(*table.primary_key.columns).execution_options(yield_per=size)
    with theirs.execute(query) as rows:
        for some in rows.mappings().partitions():
            found: list[dict[str, Any]] = [dict(row) for row in some]
            ours.execute(insert(table), found)


def extract_task(store: Store, task: str, file: FilePath) -> None:
    """Write a new system with the root and one task of `store`, with all of the task's lineage, to `file`."""
    root = store.root()
    components = store.components(part.digest for part in root.parts)
    with Store.create(str(file), portable_info(store.info), root, components.values()) as extract:
        import_tasks(store, extract, [task])
        with extract.writing() as connection:
            forget_places(connection)


def open_source(place: str) -> Store:
    """A system to import from, read only: a database, or a directory that `mutant export` wrote."""
    directory = FilePath(place).expanduser() if "://" not in place else None
    if directory is not None and directory.is_dir():
        if not (directory / SYSTEM).is_file():
            raise UserError(
                f"'{place}' holds no exported system: there is no '{SYSTEM}' in it.",
                hint="Export one with: mutant export TASK DIR, or: mutant export --system DIR",
            )
        place = str(directory / SYSTEM)
    return Store.open(place, read_only=True)
