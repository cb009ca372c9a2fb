"""A database that is missing, foreign, locked, full, read-only or damaged: told to people, and never half written."""

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path as FilePath

import pytest
from sqlalchemy import event
from storage_samples import forward, grow, new_store, planned, sample_root, trained

from mutant.storage.digest import digest
from mutant.storage.export import export_task
from mutant.storage.store import Store
from mutant.storage.verify import verify
from mutant.tasks.errors import UserError

REPOSITORY = FilePath(__file__).resolve().parents[1]


def python(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that sees this repository and these tests."""
    paths = [str(REPOSITORY), str(REPOSITORY / "tests")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finished(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


# Not a system


def test_what_is_not_a_system_is_told(tmp_path: FilePath) -> None:
    (tmp_path / "text.db").write_text("hello, I am a text file of some length")
    (tmp_path / "empty.db").touch()
    (tmp_path / "short.db").write_text("x")
    with closing(sqlite3.connect(tmp_path / "foreign.db")) as foreign:
        foreign.execute("CREATE TABLE people (name TEXT)")
    for name, words in (
        ("missing.db", "no database.*mutant init"),
        ("no/where.db", "no database"),
        ("text.db", "not a database"),
        ("short.db", "not a database"),
        ("empty.db", "empty.*mutant init"),
        ("foreign.db", "not one of mutant"),
    ):
        before = (tmp_path / name).read_bytes() if (tmp_path / name).exists() else None
        for read_only in (False, True):
            with pytest.raises(UserError, match=words):
                Store.open(str(tmp_path / name), read_only=read_only)
        assert ((tmp_path / name).read_bytes() if (tmp_path / name).exists() else None) == before


def test_a_system_is_not_made_over_something_else(tmp_path: FilePath) -> None:
    root, components = sample_root()
    with closing(sqlite3.connect(tmp_path / "foreign.db")) as foreign:
        foreign.execute("CREATE TABLE people (name TEXT)")
    (tmp_path / "text.db").write_text("hello, I am a text file of some length")
    from storage_samples import sample_info

    for name, words in (
        ("foreign.db", "not one of mutant"),
        ("text.db", "not a database"),
        ("no/where.db", "directory"),
    ):
        with pytest.raises(UserError, match=words):
            Store.create(str(tmp_path / name), sample_info(), root, components)
    assert (tmp_path / "text.db").read_text().startswith("hello")


# Reading only


@pytest.fixture
def public() -> Iterator[FilePath]:
    """A directory that every user can reach."""
    with tempfile.TemporaryDirectory() as name:
        FilePath(name).chmod(0o755)
        yield FilePath(name)


OPEN = """
import json, os, sys
from mutant.storage.store import Store
from mutant.tasks.errors import UserError
from storage_samples import sample_task
if os.geteuid() == 0:  # whom no permission stops
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
said = {}
try:
    with Store.open(sys.argv[1], read_only=True) as store:
        said["tasks"] = [task.name for task in store.tasks()]
        said["paths"] = len(store.paths())
        try:
            store.add_task(sample_task("z"))
        except UserError as error:
            said["write"] = str(error)
except UserError as error:
    said["read"] = str(error)
try:
    with Store.open(sys.argv[1]) as store:
        store.add_task(sample_task("z"))
except UserError as error:
    said["open"] = str(error)
print(json.dumps(said))
"""


@pytest.mark.parametrize("directory_too", [False, True])
def test_a_read_only_file_is_read_and_not_written(public: FilePath, directory_too: bool) -> None:
    system = public / "system"
    system.mkdir()
    with new_store(system, "a") as store:
        grow(store, "a")
    before = (system / "mutant.db").read_bytes()
    (system / "mutant.db").chmod(0o444)
    system.chmod(0o555 if directory_too else 0o777)
    try:
        said = json.loads(finished(python(OPEN, system / "mutant.db")))
    finally:
        system.chmod(0o755)
    assert said["tasks"] == ["a"]
    assert said["paths"] == 3
    assert "reading only" in said["write"]
    assert "cannot be written" in said["open"]
    assert (system / "mutant.db").read_bytes() == before


def test_a_read_only_copy_with_changes_still_in_its_log_is_not_read_as_if_it_had_none(
    public: FilePath,
) -> None:
    (public / "system").mkdir()
    copy = public / "copy"
    copy.mkdir()
    with new_store(public / "system", "a") as store:
        grow(store, "a")
        for name in ("mutant.db", "mutant.db-wal"):
            (copy / name).write_bytes((public / "system" / name).read_bytes())
            (copy / name).chmod(0o444)
    copy.chmod(0o555)
    try:
        said = json.loads(finished(python(OPEN, copy / "mutant.db")))
    finally:
        copy.chmod(0o755)
    assert "mutant.db-wal" in said["read"]


def test_a_killed_writers_log_is_read(tmp_path: FilePath) -> None:
    (tmp_path / "system").mkdir()
    (tmp_path / "copy").mkdir()
    with new_store(tmp_path / "system", "a") as store:
        grow(store, "a")
        wanted = digest(store)
        for name in ("mutant.db", "mutant.db-wal"):
            (tmp_path / "copy" / name).write_bytes((tmp_path / "system" / name).read_bytes())
    with Store.open(str(tmp_path / "copy" / "mutant.db")) as copy:
        assert digest(copy) == wanted


# Full, locked


def first_child(store: Store) -> tuple[Callable[[], object], Callable[[], object]]:
    """A planned child: what commits it, and what tells its state."""
    key = store.begin_run({}, ["a"]).segments[0].key
    plan = planned("a", store.root(), 0)
    store.plan_generation(key, 0, [plan])
    outcome = trained(plan, store.root(), width=200)
    return lambda: store.commit_outcome(key, 0, 0, outcome), lambda: store.candidates(key)[0].state


def test_a_full_disk_leaves_nothing_half_written(tmp_path: FilePath) -> None:
    with new_store(tmp_path, "a") as store:
        commit, state = first_child(store)
        before = digest(store)

        def full(connection: sqlite3.Connection, *rest: object) -> None:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages}")

        store.close()
        event.listen(store._engine, "connect", full)
        with pytest.raises(UserError, match=r"no space left.*mutant resume"):
            commit()
        assert state() == "QUEUED"
        assert digest(store) == before
        event.remove(store._engine, "connect", full)
        store.close()
        commit()
        assert state() == "DONE"


def test_a_really_full_disk(tmp_path: FilePath) -> None:
    """On a file system of 16 MB, where this process may mount one."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with new_store(small, "a") as store:
            commit, state = first_child(store)
            (small / "ballast").write_bytes(b"x" * _free(small))
            with pytest.raises(UserError, match=r"space|failed"):
                commit()
            assert state() == "QUEUED"
            (small / "ballast").unlink()
            commit()
            assert state() == "DONE"
            store.abandon_run(1)
            grow(store, "a")
            (small / "ballast").write_bytes(b"x" * _free(small))
            with pytest.raises(UserError, match=r"cannot be written.*[Ss]pace"):
                export_task(store, "a", small / "out")
            assert not (small / "out").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def _free(directory: FilePath) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def test_a_lock_that_stays_is_told(database: str) -> None:
    new_store(database, "a").close()
    url = database
    with Store.open(url) as holder, Store.open(url, busy_seconds=0.05) as waiting:
        with holder.writing():
            with pytest.raises(UserError, match="locked"):
                waiting.abandon_run(1)
            with pytest.raises(UserError, match="locked"):
                Store.open(url, busy_seconds=0.05)
            assert [task.name for task in waiting.tasks()] == ["a"]
        waiting.record_event(None, "after", {})


WRITE = """
import sys
from mutant.storage.store import Store
from storage_samples import grow
with Store.open(sys.argv[1]) as store:
    for _ in range(int(sys.argv[2])):
        grow(store, "a", "b", children=2)
"""
READ = """
import sys, time
from mutant.storage.digest import digest
from mutant.storage.store import Store
seen, reads = set(), 0
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end or reads < 5:
    with Store.open(sys.argv[1], read_only=True) as store:
        for _ in range(3):
            paths = store.paths()
            pool = store.pool()
            store.components(part.digest for path in pool.paths for part in path.parts)
            seen.add(len(paths))
            reads += 1
print(reads, len(seen))
"""


@pytest.mark.slow
def test_readers_see_no_lock_while_a_run_writes(database: str) -> None:
    new_store(database, "a", "b").close()
    writer = python(WRITE, database, 8)
    readers = [python(READ, database, 1.0) for _ in range(2)]
    for reader in readers:
        reads, _ = map(int, finished(reader).split())
        assert reads >= 5
    finished(writer)
    with Store.open(database, read_only=True) as store:
        assert len(store.paths()) == 1 + 8 * 4
        assert verify(store, forward, everything=True).ok


def test_two_writers_wait_for_each_other(database: str) -> None:
    new_store(database, "a").close()
    script = """
import sys
from mutant.storage.store import Store
with Store.open(sys.argv[1]) as store:
    for i in range(40):
        store.record_event(None, sys.argv[2], {"i": i})
"""
    for writer in [python(script, database, name) for name in "xy"]:
        finished(writer)
    with Store.open(database, read_only=True) as store:
        assert len(store.events()) == 80


def test_a_writer_killed_at_any_moment_leaves_whole_outcomes(database: str) -> None:
    new_store(database, "a", "b").close()
    url = database
    for delay in (0.5, 0.7, 0.9):
        writer = python(WRITE, url, 1000)
        time.sleep(delay)
        writer.kill()
        writer.communicate()
        with Store.open(url) as store:
            for run in store.runs():
                for segment in run.segments:
                    for record in store.candidates(segment.key):
                        assert (record.state == "DONE") == (record.path is not None)
            assert verify(store, forward, everything=True).ok
            going = store.unfinished_run()
            if going is not None:
                store.abandon_run(going.id)
