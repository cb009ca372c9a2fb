"""Connections to a database, whichever back end its URL names: SQLite in one file, or a PostgreSQL server.

Both promise the same. A reading transaction sees one state of the database and never waits; a writing one has the write
lock from its start, so that writers take turns; the tables are made in one transaction.
"""

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL

from mutant.storage import postgresql, sqlite
from mutant.storage.locks import BUSY_SECONDS


def revision(url: URL) -> str | None:
    """The revision of a database's schema, without changing it; None when it holds nothing yet.

    Raises UserError when it is missing, damaged or not ours.
    """
    return sqlite.revision(url) if _embedded(url) else postgresql.revision(url)


def holds_system(url: URL) -> bool:
    """Whether there is a system already; raises UserError when there is something else."""
    if _embedded(url) and sqlite.is_blank(url):
        return False
    return revision(url) is not None


def connect(url: URL, *, read_only: bool = False, create: bool = False, busy_seconds: float = BUSY_SECONDS) -> Engine:
    """An engine for `url`. Its transactions take the write lock at once when the connection has the option WRITES.

    `create` makes a database in which there is nothing yet; a server's must exist.
    """
    if _embedded(url):
        return sqlite.connect(url, read_only=read_only, create=create, busy_seconds=busy_seconds)
    return postgresql.connect(url, read_only=read_only, busy_seconds=busy_seconds)


def reclaim(url: URL) -> tuple[int, int]:
    """Give the space of deleted weights back, outside of any transaction; bytes before and after.

    A file becomes smaller; a server keeps the space for what is written next. Raises UserError when it cannot be done
    now; the database is whole all the same.
    """
    return sqlite.reclaim(url) if _embedded(url) else postgresql.reclaim(url)


def has_tables(connection: Connection) -> bool:
    """Whether the database holds tables, ours or others."""
    return sqlite.has_tables(connection) if is_sqlite(connection) else postgresql.has_tables(connection)


def mark(connection: Connection) -> None:
    """Mark a database as ours, once it has its tables."""
    if is_sqlite(connection):
        sqlite.mark(connection)
    else:
        postgresql.mark(connection)


def is_sqlite(connection: Connection) -> bool:
    return connection.dialect.name == "sqlite"


def _embedded(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"
