"""The digest of a database's meaning: every column counts, but those that tell when and how fast."""

from collections.abc import Callable
from pathlib import Path as FilePath

import pytest
from sqlalchemy import insert, text
from storage_samples import grow, new_store, planned, sample_golden, sample_images, trained

from mutant.outcome import Failed
from mutant.path import Path
from mutant.storage import keys, leases
from mutant.storage.collection import gc
from mutant.storage.digest import digest
from mutant.storage.holding import holding
from mutant.storage.permit import collecting
from mutant.storage.process import Process
from mutant.storage.records import Baseline, Evaluation, now
from mutant.storage.removal import remove
from mutant.storage.schema import Base
from mutant.storage.schema_work import TimingRow, WorkerRow
from mutant.storage.store import Store
from mutant.tasks.errors import UserError

MEANINGLESS = {
    "api_keys.created_at",
    "api_keys.name",
    "api_keys.rate",
    "api_keys.scope",
    "api_keys.secret",
    "baselines.at",
    "baselines.compilations",
    "baselines.compile_seconds",
    "baselines.device_seconds",
    "baselines.seconds",
    "baselines.wait_seconds",
    "candidates.attempt",
    "candidates.began_at",
    "candidates.committed_at",
    "candidates.compilations",
    "candidates.compile_seconds",
    "candidates.device_seconds",
    "candidates.planned_at",
    "candidates.predicted_seconds",
    "candidates.reason",
    "candidates.seconds",
    "candidates.token",
    "candidates.wait_seconds",
    "candidates.worker",
    "collected.at",
    "collected.n_bytes",
    "evaluations.at",
    "goldens.created_at",
    "paths.created_at",
    "runs.ended_at",
    "runs.started_at",
    "system.blobs",
    "system.blobs_key",
    "system.created_at",
    "system.inline_limit",
    "tasks.added_at",
    "tasks.removed_at",
    "timings.began",
    "timings.commit_began",
    "timings.commit_seconds",
    "timings.computed_rows",
    "timings.device",
    "timings.held_bytes",
    "timings.host",
    "timings.pid",
    "timings.reused_rows",
    "timings.spans",
    "workers.device",
    "workers.host",
    "workers.pid",
    "workers.since",
    "events.at",
    "events.data",
    "events.kind",
    "leases.beat",
    "leases.boot",
    "leases.born",
    "leases.host",
    "leases.pid",
    "leases.purpose",
    "leases.since",
    "leases.token",
}


def full_run(store: Store, order: tuple[int, ...] = (0, 1, 2), seconds: float = 1.0) -> None:
    """A run of which every table has a row; `order` is that in which the children arrive."""
    with holding(store, f"a run of {seconds} s"):
        _full_run(store, order, seconds)


def _full_run(store: Store, order: tuple[int, ...], seconds: float) -> None:
    run = store.begin_run({"n": 1}, ["a"], images=[sample_images("a", "test")])
    key, root = run.segments[0].key, store.root()
    plans = [planned("a", root, child) for child in range(3)]
    store.plan_generation(key, 0, plans)
    done: dict[int, Path] = {}
    for child in order:
        store.lease_candidate(key, 0, child, f"worker {seconds}")
        if child == 1:
            store.commit_outcome(key, 0, 1, Failed(plans[1].candidate.id, "error", f"after {seconds} s"))
        else:
            outcome = trained(plans[child], root, quality=0.1 + child / 10, seconds=seconds)
            store.commit_outcome(key, 0, child, outcome)
            done[child] = outcome.path
    winner = done[2]
    golden = sample_golden(winner, store.components(part.digest for part in winner.parts))
    store.finish_segment(key, winner.id, golden)
    store.finish_run(run.id)
    store.record_evaluation(Evaluation(winner.id, "a", "test", 0.5, 10, "f" * 64))
    store.record_baseline(Baseline("head-only", "a", 0.25, 0.5, 3, {"x": 1}))
    store.record_event(run.id, "resumed", {"after": seconds})


def test_the_order_of_arrival_and_the_time_it_took_do_not_count(
    tmp_path: FilePath, new_database: Callable[[], str]
) -> None:
    digests: set[str] = set()
    (tmp_path / "z").mkdir()
    places = (new_database(), new_database(), tmp_path / "z")
    runs = (("x", (0, 1, 2), 1.0), ("y", (2, 0, 1), 5.0), ("z", (1, 2, 0), 2.0))
    for place, (name, order, seconds) in zip(places, runs, strict=True):
        with new_store(place, "a", "b") as store:
            full_run(store, order, seconds)
            store.record_event(None, name, {})
            digests.add(digest(store))
    assert len(digests) == 1


def test_another_seed_or_an_unfinished_run_counts(new_database: Callable[[], str]) -> None:
    digests: set[str] = set()
    for seed in range(2):
        with new_store(new_database(), "a", seed=seed) as store:
            digests.add(digest(store))
            store.begin_run({}, ["a"])
            digests.add(digest(store))
    assert len(digests) == 4


def test_what_older_versions_did_not_know_counts_only_where_it_differs(new_database: Callable[[], str]) -> None:
    older = {"learning_rate": 0.01}
    settings = (older, {**older, "optimizer": "sgd"}, {**older, "optimizer": "signum"})
    digests: list[str] = []
    for hyperparameters in settings:
        with new_store(new_database(), "a") as store:
            store.record_baseline(Baseline("full", "a", 0.25, 0.5, 3, hyperparameters))
            digests.append(digest(store))
    assert digests[0] == digests[1] != digests[2]


def columns() -> list[str]:
    """All but the keys inside the database: what they point to is digested by name."""
    return [
        f"{table.name}.{column.name}"
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if not column.primary_key and not column.foreign_keys
    ]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    directory = tmp_path_factory.mktemp("system")
    with new_store(directory, "a", "b", "gone") as store:
        grow(store, "gone")
        remove(store, "gone")
        gc(store)
        full_run(store)
        with store.writing() as connection:
            leases.take(connection, Process("host", "boot", 1, "born"), "left")
            connection.execute(text("UPDATE system SET blobs = 'blobs', inline_limit = 1000000"))
            connection.execute(insert(WorkerRow).values(token=9, name="w", since=now(), host="h", pid=1, device="cpu"))
            place = {"run": 1, "segment": 0, "generation": 0, "child": 0}
            measured = {"began": 1.0, "spans": [], "reused_rows": 1, "computed_rows": 1, "held_bytes": 1}
            committed = {"commit_began": 2.0, "commit_seconds": 1.0}
            row = place | {"host": "h", "pid": 1, "device": "cpu"} | measured | committed
            connection.execute(insert(TimingRow).values(row))
        keys.make(store, "someone", rate=1.0)
        full_digest = digest(store)
    (directory / "digest").write_text(full_digest)
    return directory


@pytest.mark.parametrize("column", columns())
def test_every_column_counts_or_is_listed(system: FilePath, tmp_path: FilePath, column: str) -> None:
    """Change one value of the column: the digest changes or the damage is seen, unless it is listed."""
    (tmp_path / "mutant.db").write_bytes((system / "mutant.db").read_bytes())
    table, name = column.split(".")
    kind = Base.metadata.tables[table].columns[name]
    with Store.open(str(tmp_path / "mutant.db")) as store:
        with store.writing() as connection, collecting(connection):
            changes = {"JSON": "json_set(%s, '$.zz', 1)", "DATETIME": "'2001-01-01 00:00:00.000000'"}
            change = changes.get(str(kind.type), "CASE typeof(%s) WHEN 'text' THEN %s || 'q' ELSE %s + 1 END")
            if "%s" in change:
                change = change.replace("%s", name)
            if name == "predicted_seconds":
                change = "7.5"
            if (
                str(kind.type) == "JSON"
                and connection.scalar(text(f"SELECT json_type({name}) FROM {table}")) == "array"
            ):
                change = "'[7]'"
            if name == "state":
                change = {"runs": "'abandoned'", "segments": "'open'", "candidates": "'STALE'"}[table]
            if str(kind.type) == "BLOB":
                change = f"CAST({name} || 'q' AS BLOB)"
            where = f"rowid = (SELECT max(rowid) FROM {table} WHERE {name} IS NOT NULL)"
            if name in ("known", "arrival"):  # of a run without generations alone
                change, where = "7", "rowid = (SELECT max(rowid) FROM candidates)"
            if table.startswith("path_"):
                where = "position = 1"
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
            assert connection.exec_driver_sql(f"UPDATE {table} SET {name} = {change} WHERE {where}").rowcount > 0
        try:
            same = digest(store) == (system / "digest").read_text()
        except UserError:
            same = False
    assert same == (column in MEANINGLESS)


@pytest.mark.parametrize("change", ["DELETE FROM collected", "UPDATE tasks SET removed_at = NULL"])
def test_what_was_collected_or_removed_counts(system: FilePath, tmp_path: FilePath, change: str) -> None:
    (tmp_path / "mutant.db").write_bytes((system / "mutant.db").read_bytes())
    with Store.open(str(tmp_path / "mutant.db")) as store:
        with store.writing() as connection, collecting(connection):
            assert connection.exec_driver_sql(change).rowcount > 0
        assert digest(store) != (system / "digest").read_text()
