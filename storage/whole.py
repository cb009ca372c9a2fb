"""Systems as files: a copy of all of one, or a new one with some of its tasks. Both are ordinary systems."""

from dataclasses import asdict
from pathlib import Path as FilePath

from sqlalchemy import Connection, Table, insert, select, update

from mutant.storage import migrate, weights
from mutant.storage.blobs.placement import Placement, opened
from mutant.storage.checks import checked
from mutant.storage.faults import decoding
from mutant.storage.importing import import_tasks
from mutant.storage.locks import DEPOT
from mutant.storage.portable import forget_places, portable_info, portable_row, portable_tables
from mutant.storage.schema import SystemRow, WeightsRow
from mutant.storage.store import Store
from mutant.storage.url import database_url
from mutant.tasks.errors import UserError

SYSTEM = "system.db"
_AT_A_TIME = 1000


def copy_system(store: Store, file: FilePath) -> None:
    """Write what can leave of `store` (`portable.py`) and all its weights, as they are at one moment, to the new SQLite
    database `file`.

    Wherever they lay, weights go into it, and those that are too large for it into its own directory beside it.
    """
    url, placement = database_url(str(file)), Placement()
    with store.reading() as theirs:

        def fill(ours: Connection) -> None:
            ours.execution_options(**{DEPOT: opened(placement, url)})
            for table in portable_tables():
                if table is WeightsRow.__table__:
                    _copy_weights(theirs, ours)
                else:
                    _copy(theirs, ours, table)
            forget_places(ours)
            ours.execute(update(SystemRow).values(asdict(placement)))

        migrate.create(url, fill)


def _copy_weights(theirs: Connection, ours: Connection) -> None:
    row = WeightsRow
    query = select(row.digest, row.n_bytes, row.data).order_by(row.key)
    for stored in weights.rows(theirs, query):
        with decoding():
            blob = checked(weights.Blob(stored.digest, stored.read()))
        weights.put(ours, [blob])


def _copy(theirs: Connection, ours: Connection, table: Table) -> None:
    query = select(table).order_by(*table.primary_key.columns).execution_options(yield_per=_AT_A_TIME)
    with decoding(), theirs.execute(query) as rows:
        for some in rows.mappings().partitions():
            ours.execute(insert(table), [portable_row(table, {**row}) for row in some])


def extract_task(store: Store, task: str, file: FilePath) -> str:
    """Write a new system with the root and one task of `store`, with all of the task's lineage, to `file`; the id of
    the task's best path in it."""
    root = store.root()
    components = store.components(part.digest for part in root.parts)
    with Store.create(str(file), portable_info(store.info), root, components.values()) as extract:
        (came,) = import_tasks(store, extract, [task])
        with extract.writing() as connection:
            forget_places(connection)
    return came.path


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
