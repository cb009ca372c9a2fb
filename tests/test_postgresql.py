"""What only a server can do wrong: unknown roles and databases, tables of others, and a connection that breaks."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from chaos import begun
from cli_calls import done, refused
from disks import free, mounted
from growing import small_tasks
from postgres_server import Server, serving
from sqlalchemy import text
from storage_samples import counts, grow, new_store, planned, sample_info, sample_root, trained

from mutant.outcome import Failed
from mutant.storage.digest import digest
from mutant.storage.migrate import upgrade
from mutant.storage.postgresql import connect
from mutant.storage.refusals import Conflict
from mutant.storage.store import Store
from mutant.storage.url import database_url, label
from mutant.tasks.errors import UserError


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.new_database()


def test_what_is_not_a_system_is_told(postgres: Server, url: str) -> None:
    foreign = postgres.new_database()
    postgres.execute("CREATE TABLE people (name TEXT)", database_url(foreign).database or "")
    stranger = postgres.new_database()
    postgres.execute("CREATE TABLE alembic_version (version_num TEXT)", database_url(stranger).database or "")
    for place, words in (
        (url, r"empty.*mutant init"),
        (foreign, r"not those of mutant.*createdb"),
        (stranger, r"not those of mutant.*createdb"),
        (postgres.url("nowhere"), r"no database.*createdb"),
        (postgres.url("postgres", user="nobody"), r"unknown role.*createuser"),
        ("postgresql://ann@127.0.0.1:1/x", r"cannot be reached.*refused.*up"),
        (f"{url}&flavour=sweet", r"an option that is not known.*flavour"),
    ):
        for read_only in (False, True):
            with pytest.raises(UserError, match=words):
                Store.open(place, read_only=read_only)
        if place != url:
            with pytest.raises(UserError, match=words):
                new_store(place)


def test_a_wrong_password_is_told_without_it(tmp_path: Path) -> None:
    with serving() as server:
        server.execute("CREATE ROLE ann LOGIN PASSWORD 'right'")
        access = server.data / "pg_hba.conf"
        access.write_text(f"local all ann scram-sha-256\n{access.read_text()}")
        server.execute("SELECT pg_reload_conf()")
        place = server.url("postgres", user="ann:wrong%20one")
        with pytest.raises(UserError, match=r"refused the role or its password.*PGPASSWORD") as raised:
            Store.open(place)
        assert "wrong" not in str(raised.value)
        with pytest.raises(UserError, match="empty"):
            Store.open(server.url("postgres", user="ann:right"))


def test_a_label_keeps_the_password() -> None:
    for text_ in (
        "postgres://ann:secret@db.example/x?sslmode=require",
        "postgresql://ann@db.example/x?password=secret",
    ):
        named = label(database_url(text_))
        assert named.startswith("postgresql://ann@db.example/x")
        assert "secret" not in named


def test_without_the_driver_its_extra_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=r"needs the extra 'postgres'.*pip install 'mutant\[postgres\]'"):
        Store.open(url)


def test_a_read_only_connection_writes_nothing(url: str) -> None:
    new_store(url, "a").close()
    engine = connect(database_url(url), read_only=True)
    with pytest.raises(Exception, match="read-only"), engine.connect() as connection:
        connection.execution_options(mutant_writes=True).execute(text("DELETE FROM tasks"))
    engine.dispose()
    with Store.open(url, read_only=True) as store, pytest.raises(UserError, match="reading only"):
        store.abandon_run(1)
    with Store.open(url) as store, pytest.raises(UserError, match="read-only"), store.reading() as connection:
        connection.execute(text("DELETE FROM tasks"))


@pytest.mark.parametrize(("own", "idle"), [("", "10"), ("&options=-c%20tcp_keepalives_idle%3D60", "60")])
def test_the_server_is_told_to_miss_a_host_that_vanished(url: str, own: str, idle: str) -> None:
    """In half a minute; and who asks for other times is given them. (Through a socket they are kept without effect.)"""
    new_store(url).close()
    query = "SELECT name, reset_val FROM pg_settings WHERE name LIKE 'tcp_keepalives_%' AND source = 'client'"
    with Store.open(f"{url}{own}") as store, store.reading() as connection:
        found = {row.name: row.reset_val for row in connection.execute(text(query))}
    assert found == {"tcp_keepalives_idle": idle, "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}


def test_weights_are_not_compressed(url: str) -> None:
    with new_store(url) as store, store.reading() as connection:
        query = "SELECT attstorage FROM pg_attribute WHERE attrelid = 'weights'::regclass AND attname = 'data'"
        assert connection.scalar(text(query)) in (b"e", "e")


def test_numbers_of_runs_have_no_gaps(url: str) -> None:
    """A sequence's would, after a transaction that was rolled back, and a resumed system would mean something else."""
    with new_store(url, "a") as store:
        with pytest.raises(UserError, match="Unknown task"):
            store.begin_run({}, ["a", "b"])
        for refused in ({"x": float("nan")}, {"x": {1}}):
            with pytest.raises((TypeError, ValueError)):
                store.begin_run(refused, ["a"])
        assert store.begin_run({}, ["a"]).id == 1


def test_a_reason_with_a_character_that_no_text_may_have(new_database: Callable[[], str]) -> None:
    with new_store(new_database(), "a") as store:
        key = store.begin_run({}, ["a"]).segments[0].key
        plan = planned("a", store.root(), 0)
        store.plan_generation(key, 0, [plan])
        store.commit_outcome(key, 0, 0, Failed(plan.candidate.id, "error", "a\0b"))
        assert store.candidates(key)[0].reason == "a\\0b"


def test_only_one_of_two_makers_makes_a_system(url: str) -> None:
    script = """
import sys
from mutant.tasks.errors import UserError
from storage_samples import new_store
try:
    new_store(sys.argv[1]).close()
    print("made")
except UserError as error:
    print("refused" if "already" in str(error) else error)
"""
    from test_storage_faults import finished, python

    processes = [python(script, url) for _ in range(2)]
    assert sorted(finished(process).strip() for process in processes) == ["made", "refused"]


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that a test may kill."""
    with serving() as server:
        yield server


def test_a_server_that_is_killed_loses_nothing(own_server: Server) -> None:
    with new_store(own_server.new_database(), "a") as store:
        grow(store, "a")
        key = store.begin_run({}, ["a"]).segments[0].key
        plan = planned("a", store.root(), 7)
        store.plan_generation(key, 0, [plan])
        before, rows = digest(store), counts(store)
        own_server.kill()
        with pytest.raises(UserError, match=r"cannot be reached|broke"):
            store.commit_outcome(key, 0, 7, trained(plan, store.root()))
        own_server.start()
        assert (digest(store), counts(store)) == (before, rows)
        store.commit_outcome(key, 0, 7, trained(plan, store.root()))
        assert store.candidates(key)[0].state == "DONE"


@pytest.mark.slow
def test_a_servers_disk_that_fills_up_during_a_run_loses_nothing(postgres: Server, tmp_path: Path) -> None:
    """The database is in a tablespace on a small disk, so that the server itself finds no space there."""
    small = small_tasks(tmp_path)
    alone, place = postgres.new_database(), postgres.directory / "disk"
    try:
        begun(alone, small)
        done("resume", "--workers", 1, "--db", alone)
        with mounted(place, kibibytes=64 * 1024) as disk:
            url = postgres.new_database_on(disk)
            try:
                begun(url, small)
                ballast = disk / "ballast"
                ballast.write_bytes(b"x" * (free(disk) - 512 * 1024))
                error = refused("resume", "--workers", 1, "--db", url)
                assert "There is no space left for 'postgresql://" in error
                assert "Free some space on the server's disk; then: mutant resume" in " ".join(error.split())
                ballast.unlink()  # a server without any space may refuse new connections, too
                with Store.open(url, read_only=True) as store:
                    run = store.unfinished_run()
                    assert run is not None
                    states = [r.state for segment in run.segments for r in store.candidates(segment.key)]
                assert "DONE" in states
                assert done("verify", "--db", url).code == 0
                done("resume", "--workers", 1, "--db", url)
                assert done("digest", "--db", url).out == done("digest", "--db", alone).out
            finally:
                postgres.drop(url)
                postgres.execute("DROP TABLESPACE small")
    finally:
        postgres.drop(alone)


def test_a_connection_that_breaks_in_a_transaction_leaves_nothing(postgres: Server, url: str) -> None:
    with new_store(url, "a") as store:
        before = digest(store)

        def broken() -> None:
            with store.writing() as connection:
                connection.execute(text("DELETE FROM tasks"))
                own = connection.scalar(text("SELECT pg_backend_pid()"))
                postgres.execute(f"SELECT pg_terminate_backend({own})")
                connection.execute(text("SELECT 1"))

        with pytest.raises(UserError, match=r"broke.*nothing was half written"):
            broken()
        assert digest(store) == before


def test_a_value_that_does_not_fit_is_told(url: str) -> None:
    with new_store(url, "a") as store, pytest.raises(UserError, match=r"does not fit|too long"):
        store.record_event(None, "x" * 65, {})


def test_a_copy_made_by_the_servers_own_tool_is_a_system(postgres: Server, url: str) -> None:
    with new_store(url, "a") as store:
        grow(store, "a")
        wanted = digest(store)
    target = postgres.new_database()
    for program, place, more in (("pg_dump", url, []), ("psql", target, ["-q", "-v", "ON_ERROR_STOP=1"])):
        command = [str(postgres.bin / program), place, "-f", str(postgres.directory / "dump.sql"), *more]
        subprocess.run(command, check=True, capture_output=True)
    with Store.open(target) as store:
        assert digest(store) == wanted
    assert upgrade(target)[0] == upgrade(target)[1]


def test_another_root_is_refused_as_on_a_file(url: str) -> None:
    root, components = sample_root()
    with Store.create(url, sample_info(), root, components):
        pass
    with pytest.raises(UserError, match="already"):
        Store.create(url, replace(sample_info(), seed=5), root, components)
    with Store.open(url) as store, pytest.raises(Conflict), store.writing() as connection:
        connection.execute(text("UPDATE system SET key = 2"))
