"""Making a database, telling whether its schema fits this program, and bringing an older one up to date."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect
from sqlalchemy.engine import URL

from mutant.storage import leases, migrations
from mutant.storage.engine import connect, has_tables, holds_system, mark, revision
from mutant.storage.faults import naming_damage, translated
from mutant.storage.leases import EXPIRY_SECONDS
from mutant.storage.locks import WRITES
from mutant.storage.schema import LeaseRow
from mutant.storage.url import database_url, label
from mutant.tasks.errors import UserError

if TYPE_CHECKING:
    from alembic.config import Config


def create(url: URL, fill: Callable[[Connection], None]) -> bool:
    """Make the tables and `fill` them, in one transaction. False when there is a system already."""
    if holds_system(url):
        return False
    with _writing(url, create=True) as connection:
        if has_tables(connection):
            return False
        _migrate(connection)
        mark(connection)
        fill(connection)
    return True


def check_revision(url: URL, found: str | None) -> None:
    """Raises UserError unless a database with the schema `found` can be used as it is."""
    newest = migrations.REVISIONS[-1]
    if found is None:
        raise UserError(f"The database '{label(url)}' is empty.", hint="Make a system in it with: mutant init")
    if found == newest:
        return
    if found in migrations.REVISIONS:
        raise UserError(
            f"The database '{label(url)}' has the older schema {found}; this version of mutant needs {newest}.",
            hint="Copy the database to be safe; then: mutant db upgrade",
        )
    raise UserError(
        f"The database '{label(url)}' has the schema {found}, newer than this version of mutant ({newest}).",
        hint="Use the version of mutant that wrote it, or a later one.",
    )


def upgrade(url: str | None, *, expiry: float = EXPIRY_SECONDS) -> tuple[str, str]:
    """Bring a database's schema up to date, in one transaction; the revisions before and after.

    Raises Held while another process works on the system: one that holds its lease, and is heard of within `expiry`
    seconds. One that is gone or silent loses the lease.
    """
    place = database_url(url)
    found, newest = revision(place), migrations.REVISIONS[-1]
    if found is None or found not in migrations.REVISIONS:
        check_revision(place, found)
    assert found is not None
    seen, end = None, 0.0
    while found != newest:
        with _writing(place) as connection, naming_damage(place):
            lease = _holder(connection)
            silent = seen is not None and seen == lease and time.monotonic() > end
            if lease is None or lease.process is None or silent or lease.process.is_gone():
                if lease is not None:
                    leases.give_back(connection)
                _migrate(connection)
                break
        if seen is None:
            seen, end = lease, time.monotonic() + expiry
        elif seen != lease:
            raise leases.is_held(lease)
        time.sleep(0.2)
    return found, newest


def _holder(connection: Connection) -> leases.Lease | None:
    """Who holds the lease, in a schema that has leases."""
    return leases.holder(connection) if inspect(connection).has_table(LeaseRow.__tablename__) else None


def alembic_config(connection: Connection) -> "Config":
    """Alembic's settings without a file: where the migrations are, and the connection to run them on."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _writing(url: URL, *, create: bool = False) -> Generator[Connection]:
    """One transaction on an engine of its own."""
    engine = connect(url, create=create)
    try:
        with translated(url), engine.execution_options(**{WRITES: True}).begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _migrate(connection: Connection) -> None:
    from alembic import command

    command.upgrade(alembic_config(connection), "head")
