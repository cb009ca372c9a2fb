"""The database itself refuses to change what is finished, whatever the statement, on both back ends."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from storage_samples import new_store, planned
from test_storage_digest import full_run

from mutant.storage.digest import digest
from mutant.storage.permit import collecting
from mutant.storage.refusals import Conflict
from mutant.storage.schema import Base
from mutant.storage.store import Store

ALWAYS = ("weights", "components", "traces", "paths", "path_parts", "path_mutations", "goldens")
COLUMNS = {"weights": "data", "path_parts": "depth", "path_mutations": "kind", "goldens": "backend", "paths": "quality"}


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    """A finished run, and one that has begun: a segment that is open, with a candidate that is queued."""
    with new_store(database, "a", "b") as opened:
        full_run(opened)
        key = opened.begin_run({}, ["b"]).segments[0].key
        opened.plan_generation(key, 0, [planned("b", opened.root(), 0), planned("b", opened.root(), 1)])
        yield opened


def execute(store: Store, statement: str) -> int:
    with store.writing() as connection:
        return connection.execute(text(statement)).rowcount


def refuse(store: Store, statement: str) -> None:
    before = digest(store)
    with pytest.raises(Conflict, match="does not change"):
        execute(store, statement)
    assert digest(store) == before


@pytest.mark.parametrize("table", ALWAYS)
def test_rows_of_lineage_do_not_change(store: Store, table: str) -> None:
    column = COLUMNS.get(table, "digest")
    refuse(store, f"UPDATE {table} SET {column} = {column}")
    refuse(store, f"DELETE FROM {table}")
    if store.url.get_backend_name() == "postgresql":
        refuse(store, f"TRUNCATE {table} CASCADE")
    else:
        refuse(store, f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")
        refuse(store, f"UPDATE OR REPLACE {table} SET {column} = {column}")


@pytest.mark.parametrize("state", ["DONE", "FAILED"])
def test_candidates_with_an_outcome_do_not_change(store: Store, state: str) -> None:
    refuse(store, f"UPDATE candidates SET state = 'QUEUED', path_key = NULL WHERE state = '{state}'")
    refuse(store, f"UPDATE candidates SET seconds = 1 WHERE state = '{state}'")
    refuse(store, f"DELETE FROM candidates WHERE state = '{state}'")
    if store.url.get_backend_name() == "sqlite":
        refuse(store, f"INSERT OR REPLACE INTO candidates SELECT * FROM candidates WHERE state = '{state}'")
        refuse(store, "UPDATE OR REPLACE candidates SET run = 1 WHERE state = 'QUEUED'")
        refuse(
            store,
            "UPDATE OR REPLACE candidates SET path_key = (SELECT max(path_key) FROM candidates) "
            "WHERE state = 'QUEUED' AND child = 0",
        )


def test_finished_segments_do_not_change(store: Store) -> None:
    refuse(store, "UPDATE segments SET state = 'open' WHERE run = 1")
    refuse(store, "UPDATE segments SET winner_key = NULL WHERE state = 'finished'")
    refuse(store, "DELETE FROM segments WHERE state = 'finished'")


def test_what_is_open_can_change(store: Store) -> None:
    assert execute(store, "UPDATE candidates SET predicted_seconds = 2 WHERE state = 'QUEUED'") == 2
    assert execute(store, "UPDATE candidates SET state = 'STALE' WHERE state = 'QUEUED' AND child = 1") == 1
    assert execute(store, "DELETE FROM candidates WHERE state IN ('QUEUED', 'STALE')") == 2
    assert execute(store, "DELETE FROM segments WHERE state = 'open'") == 1


def test_the_collectors_door_is_open_for_one_transaction(store: Store) -> None:
    with store.writing() as connection, collecting(connection):
        for table in ("goldens", "path_mutations", "path_parts"):
            assert connection.execute(text(f"DELETE FROM {table}")).rowcount > 0
        assert connection.execute(text("UPDATE weights SET n_bytes = 0")).rowcount > 0
        assert connection.execute(text("UPDATE segments SET winner_key = NULL")).rowcount == 2
    refuse(store, "UPDATE weights SET n_bytes = 1")
    with store.writing() as connection:
        with collecting(connection):
            pass
        with pytest.raises(Exception, match="does not change"):
            connection.execute(text("DELETE FROM weights"))


@pytest.mark.parametrize("row", ["(1, 0)", "(0, 0)", "(1, 1)", "(2, 0), (0, 2)"])
def test_a_permit_cannot_be_committed(store: Store, row: str) -> None:
    before = digest(store)
    with pytest.raises(Conflict, match=r"contradicts"), store.writing() as connection:
        connection.execute(text(f"INSERT INTO gc_permits VALUES {row}"))
    refuse(store, "DELETE FROM weights")
    assert digest(store) == before


def test_a_crash_inside_the_door_closes_it(store: Store) -> None:
    before = digest(store)

    def crash() -> None:
        with store.writing() as connection, collecting(connection):
            connection.execute(text("DELETE FROM goldens"))
            raise InterruptedError

    with pytest.raises(InterruptedError):
        crash()
    assert digest(store) == before
    refuse(store, "DELETE FROM goldens")


def test_every_table_is_frozen_or_has_a_reason() -> None:
    """A new table must be put in one of the two."""
    changing = {"tasks", "task_images", "runs", "evaluations", "baselines", "events", "system", "leases"}
    changing |= {"api_keys", "gc_permits", "collected", "timings", "workers"}
    assert set(Base.metadata.tables) == changing | {*ALWAYS, "candidates", "segments"}
