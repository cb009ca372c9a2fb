"""The schema's history: models and migrations agree, and a database of another schema is told, not touched."""

import gzip
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path as FilePath

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from postgres_server import Server
from psycopg.sql import SQL, Identifier, Placeholder
from sqlalchemy import CheckConstraint, inspect, text
from storage_samples import grow, new_store

from mutant.storage import migrate, migrations
from mutant.storage.digest import digest
from mutant.storage.engine import connect, mark
from mutant.storage.locks import WRITES
from mutant.storage.process import Process
from mutant.storage.refusals import Conflict, Held
from mutant.storage.schema import Base
from mutant.storage.store import Store
from mutant.storage.url import database_url
from mutant.tasks.errors import UserError


def stamp(database: str, revision: str) -> str:
    with new_store(database) as store, store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    return database


def test_models_and_migrations_agree(database: str) -> None:
    with new_store(database) as store, store.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        found = inspect(connection)
        for table in Base.metadata.sorted_tables:
            checks = {c.name for c in table.constraints if isinstance(c, CheckConstraint)}
            assert {c["name"] for c in found.get_check_constraints(table.name)} == checks
            if connection.dialect.name != "sqlite":
                continue
            made = connection.scalar(text("SELECT sql FROM sqlite_master WHERE name = :name"), {"name": table.name})
            assert ("WITHOUT ROWID" in made) == (table.dialect_kwargs.get("sqlite_with_rowid") is False)


def test_the_listed_revisions_are_the_migrations() -> None:
    config = migrate.alembic_config(None)  # type: ignore[arg-type]
    walked = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(walked)) == migrations.REVISIONS


def test_an_older_schema_offers_the_upgrade(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = stamp(database, "0000")
    monkeypatch.setattr(migrations, "REVISIONS", ("0000", *migrations.REVISIONS))
    for read_only in (False, True):
        with pytest.raises(UserError, match=r"older schema 0000.*mutant db upgrade"):
            Store.open(url, read_only=read_only)


def test_a_newer_schema_is_refused(database: str) -> None:
    url = stamp(database, "9999")
    for refuse in (Store.open, migrate.upgrade):
        with pytest.raises(UserError, match=r"9999, newer than this version.*or a later one"):
            refuse(url)


FROZEN = {
    "0001": "9a75ff8d4693e962280cbeeec1f7576cbddeac3027f94845c31076b03416ab03",
    "0002": "f61bf276604071e17db70f1892e5234784dfee40167426482af8eba2f208c144",
    "0003": "8f25315f5d6905c7d393add3954a034f78b862e13f6a273af681d252fec5761d",
    "0004": "8f25315f5d6905c7d393add3954a034f78b862e13f6a273af681d252fec5761d",
    "0005": "8bb26789f515e7ca51adf1b8f38a28f1bbe38e15d2378d216d7ef069cea45f9c",
    "0006": "7e160f021e69a20646d062ded2656d2edec44e955b211c4d2481042a7740b533",
    "0007": "8bb26789f515e7ca51adf1b8f38a28f1bbe38e15d2378d216d7ef069cea45f9c",
}
"""Digests of the databases in `frozen/`, one of each revision but the newest, as that revision's program told them."""


def thawed(revision: str, file: FilePath) -> FilePath:
    frozen = FilePath(__file__).parent / "frozen" / f"schema_{revision}.db.gz"
    file.write_bytes(gzip.decompress(frozen.read_bytes()))
    return file


def check_upgraded(store: Store, revision: str) -> None:
    """It means what it meant, guards what is finished, and has the newest schema."""
    assert digest(store) == FROZEN[revision]
    assert store.unfinished_run() is not None
    with pytest.raises(Conflict, match="does not change"), store.writing() as connection:
        connection.execute(text("DELETE FROM weights"))
    with store.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


@pytest.mark.parametrize("revision", migrations.REVISIONS[:-1])
def test_a_database_of_an_older_version_is_upgraded_and_means_the_same(tmp_path: FilePath, revision: str) -> None:
    url = str(thawed(revision, tmp_path / "mutant.db"))
    with pytest.raises(UserError, match=rf"older schema {revision}.*mutant db upgrade"):
        Store.open(url)
    assert migrate.upgrade(url) == (revision, migrations.REVISIONS[-1])
    with Store.open(url) as store:
        check_upgraded(store, revision)


def migrated(url: str, revision: str) -> None:
    """Bring an empty database to the schema of an older revision, as its program made it."""
    engine = connect(database_url(url), create=True)
    with engine.execution_options(**{WRITES: True}).begin() as connection:
        command.upgrade(migrate.alembic_config(connection), revision)
        mark(connection)
    engine.dispose()


NUMBERED = """
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = 'public' AND (is_identity = 'YES' OR column_default LIKE 'nextval%')
"""
"""Columns whose numbers the server gives, which has to know which are taken."""


def copied(file: FilePath, target: psycopg.Connection) -> int:
    """Copy all rows of a SQLite database to a server's tables of the same names; how many.

    The server makes its own types of the texts that SQLite keeps. It checks no foreign keys meanwhile, since tables
    come in any order, and its triggers rest.
    """
    rows = 0
    target.execute("SET session_replication_role = replica")
    with closing(sqlite3.connect(file)) as source:
        names = source.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        for (table,) in names.fetchall():
            if table == "alembic_version":
                continue
            found = source.execute(f'SELECT * FROM "{table}"')
            columns = SQL(", ").join(Identifier(column) for column, *_ in found.description)
            values = SQL(", ").join([Placeholder()] * len(found.description))
            statement = SQL("INSERT INTO {} ({}) VALUES ({})").format(Identifier(table), columns, values)
            for row in found.fetchall():
                target.execute(statement, row)
                rows += 1
    for table, column in target.execute(NUMBERED).fetchall():
        next_ = SQL("SELECT setval(pg_get_serial_sequence({}, {}), max({})) FROM {}")
        target.execute(next_.format(table, column, Identifier(column), Identifier(table)))
    return rows


@pytest.mark.parametrize("revision", [migrations.REVISIONS[0], migrations.REVISIONS[-2]])
def test_an_older_version_s_rows_on_a_server_are_upgraded_and_mean_the_same(
    postgres: Server, tmp_path: FilePath, revision: str
) -> None:
    """The oldest and the newest frozen file's rows, in a server's database of the same revision."""
    url = postgres.new_database()
    file = thawed(revision, tmp_path / "frozen.db")
    migrated(url, revision)
    with psycopg.connect(url, options="-c timezone=UTC") as target:
        assert copied(file, target) > 50
    with pytest.raises(UserError, match=rf"older schema {revision}.*mutant db upgrade"):
        Store.open(url)
    assert migrate.upgrade(url) == (revision, migrations.REVISIONS[-1])
    with Store.open(url) as store:
        check_upgraded(store, revision)
        run = store.unfinished_run()
        assert run is not None
        store.abandon_run(run.id)
        assert grow(store, store.tasks()[0].name)
    postgres.drop(url)


@pytest.fixture
def leased(tmp_path: FilePath) -> Callable[[Process], FilePath]:
    """A database of an older version whose lease a process holds."""

    def make(process: Process) -> FilePath:
        file = thawed("0007", tmp_path / "mutant.db")
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("DELETE FROM leases")
            row = (1, 7, process.host, process.boot, process.pid, process.born, "run 1", 0, "2026-01-01 00:00:00")
            names = "key, token, host, boot, pid, born, purpose, beat, since"
            connection.execute(f"INSERT INTO leases ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        return file

    return make


def test_a_database_that_somebody_works_on_is_not_upgraded(leased: Callable[[Process], FilePath]) -> None:
    file, stop = leased(Process.here()), threading.Event()

    def beat() -> None:
        with closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as connection:
            while not stop.wait(0.05):
                connection.execute("UPDATE leases SET beat = beat + 1")

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(Held, match=r"Another process works on this system.*\(run 1\)"):
            migrate.upgrade(str(file))
    finally:
        stop.set()
        thread.join()
    with pytest.raises(UserError, match="older schema 0007"):
        Store.open(str(file))


@pytest.mark.parametrize(
    ("process", "expiry"), [(replace(Process.here(), born="0"), 60.0), (Process("elsewhere", "", 1, ""), 0.3)]
)
def test_a_holder_that_is_gone_or_silent_loses_its_lease_to_an_upgrade(
    leased: Callable[[Process], FilePath], process: Process, expiry: float
) -> None:
    file = leased(process)
    started = time.monotonic()
    assert migrate.upgrade(str(file), expiry=expiry) == ("0007", migrations.REVISIONS[-1])
    assert time.monotonic() - started < 30
    with Store.open(str(file)) as store:
        assert store.holder() is None


def test_upgrading_what_is_new_changes_nothing(tmp_path: FilePath) -> None:
    new_store(tmp_path).close()
    before = (tmp_path / "mutant.db").read_bytes()
    newest = migrations.REVISIONS[-1]
    assert migrate.upgrade(str(tmp_path / "mutant.db")) == (newest, newest)
    assert (tmp_path / "mutant.db").read_bytes() == before


def test_an_upgrade_brings_an_older_database_up_to_date(
    tmp_path: FilePath, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration made for the test; it fails half-way first and leaves nothing behind."""
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    there = FilePath(migrations.__file__).parent
    for path in (there / "env.py", there / "script.py.mako", *there.glob("versions/rev_*.py")):
        (tmp_path / "migrations" / path.relative_to(there)).write_text(path.read_text())
    upgrade = "def upgrade():\n    op.execute('CREATE TABLE later (key INTEGER)')\n"
    newest = migrations.REVISIONS[-1]
    head = f"from alembic import op\nrevision, down_revision = '9000', '{newest}'\n"
    new_store(database).close()
    url = database
    (tmp_path / "migrations" / "__init__.py").touch()
    monkeypatch.setattr(migrations, "__file__", str(tmp_path / "migrations" / "__init__.py"))
    monkeypatch.setattr(migrations, "REVISIONS", (*migrations.REVISIONS, "9000"))
    (versions / "rev_9000.py").write_text(head + upgrade + "    op.execute('INSERT INTO nothing VALUES (1)')\n")
    with pytest.raises(UserError, match="nothing"):
        migrate.upgrade(url)
    with pytest.raises(UserError, match="older schema"):
        Store.open(url)
    (versions / "rev_9000.py").write_text(head + upgrade)
    assert migrate.upgrade(url) == (newest, "9000")
    with Store.open(url) as store, store.reading() as connection:
        assert "later" in inspect(connection).get_table_names()
