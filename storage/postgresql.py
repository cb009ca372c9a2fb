"""PostgreSQL, the back end for many hosts.

A writing transaction first takes the database's one advisory lock and then reads what is committed, so that writers
take turns as on SQLite and each sees all that came before it. A reading one is repeatable and read-only: it sees one
state and waits for nobody. (A repeatable writer would see the state from before it had the lock.)
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import StatementError
from sqlalchemy.pool import QueuePool

from mutant.storage.faults import translated
from mutant.storage.jsons import canonical
from mutant.storage.locks import BUSY_SECONDS, WRITES
from mutant.storage.schema import APPLICATION_ID
from mutant.storage.url import label
from mutant.tasks.errors import UserError

CONNECT_SECONDS = 10
_KEEPALIVES = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3}
"""After how many seconds (and unanswered questions) a server gives up a client whose host has vanished, and with it the
lock that writers wait for; by a server's own defaults that takes two hours. Through a socket they mean nothing."""
_MARK = "mutant"
_TABLES = """
SELECT relname AS name, obj_description(oid, 'pg_class') AS said FROM pg_class
WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AND relkind IN ('r', 'p', 'f')
AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
"""
"""Tables of the connection's own schema and what is said of them, but those of extensions."""


def revision(url: URL) -> str | None:
    """As `engine.revision`."""
    engine = connect(url, read_only=True)
    try:
        with translated(url), engine.begin() as connection:
            tables = _tables(connection)
            if tables and tables.get("alembic_version") != _MARK:
                raise UserError(
                    f"The database '{label(url)}' has tables, and they are not those of mutant.",
                    hint="Name another with --db; make an empty one with: createdb NAME",
                )
            if not tables:
                return None
            return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    finally:
        engine.dispose()


def has_tables(connection: Connection) -> bool:
    return bool(_tables(connection))


def mark(connection: Connection) -> None:
    connection.exec_driver_sql(f"COMMENT ON TABLE alembic_version IS '{_MARK}'")


def _tables(connection: Connection) -> dict[str, str | None]:
    return {row.name: row.said for row in connection.exec_driver_sql(_TABLES)}


def connect(url: URL, *, read_only: bool = False, busy_seconds: float = BUSY_SECONDS) -> Engine:
    """As `engine.connect`. Raises UserError without the extra `postgres`, or for an option that libpq does not know."""
    settings = {
        "lock_timeout": f"{max(1, round(busy_seconds * 1000))}ms",
        "default_transaction_read_only": "on" if read_only else "off",
        "timezone": "UTC",
    }
    given = url.query.get("options", ())
    own = (given,) if isinstance(given, str) else given
    options = [*_options(_KEEPALIVES), *own, *_options(settings)]  # the last word counts
    defaults = {"connect_timeout": CONNECT_SECONDS, "application_name": "mutant"}
    arguments: dict[str, Any] = {name: value for name, value in defaults.items() if name not in url.query}
    arguments["options"] = " ".join(options)
    try:
        engine = create_engine(
            url, poolclass=QueuePool, pool_pre_ping=True, connect_args=arguments, json_serializer=_json
        )
    except ImportError as error:
        raise UserError(
            f"'{label(url)}' needs the extra 'postgres' ({error}).", hint="pip install 'mutant[postgres]'"
        ) from error
    event.listen(engine, "begin", _begin)
    return engine


def _options(settings: Mapping[str, Any]) -> list[str]:
    return [f"-c {name}={value}" for name, value in settings.items()]


def reclaim(url: URL) -> tuple[int, int]:
    """As `engine.reclaim`: a plain VACUUM, which keeps nobody waiting."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    size = "SELECT pg_total_relation_size('weights')"
    try:
        with translated(url), engine.connect() as connection:
            before: int = connection.exec_driver_sql(size).scalar_one()
            connection.exec_driver_sql("VACUUM weights")
            return before, connection.exec_driver_sql(size).scalar_one()
    finally:
        engine.dispose()


def _json(value: Any) -> str:
    """As SQLAlchemy tells of a value that cannot be written; this driver asks for the text too late for it to do so."""
    try:
        return canonical(value)
    except (TypeError, ValueError) as error:
        raise StatementError(str(error), None, None, error) from error


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get(WRITES, False):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({APPLICATION_ID})")
    else:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
