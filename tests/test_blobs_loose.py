"""Weights in a directory beside the database: a crash leaves loose blobs at most, and they are swept."""

import json
import shutil
import time
from pathlib import Path as FilePath

import pytest
from cli_calls import done
from places import Place, beside, blob_files
from postgres_server import Server
from storage_samples import forward, grow, new_store, planned, trained
from test_storage_faults import first_child, python

from mutant.storage import collection, weights
from mutant.storage.collection import gc
from mutant.storage.digest import digest
from mutant.storage.holding import holding
from mutant.storage.ownership import MARK, claim
from mutant.storage.removal import remove
from mutant.storage.store import Store
from mutant.storage.verify import verify
from mutant.storage.weights import held


@pytest.fixture
def store(blob_store: Store) -> Store:
    return blob_store


def test_blobs_go_after_their_rows(store: Store, tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(store, "a", children=4)
    blobs = tmp_path / "system" / "blobs"
    before = set(blob_files(blobs))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(collection, "sweep", killed)
        with pytest.raises(KeyboardInterrupt):
            gc(store)
    assert set(blob_files(blobs)) == before
    would = gc(store, dry_run=True)
    assert (would.dropped, would.loose_blobs) == (0, 18)
    assert set(blob_files(blobs)) == before
    found = gc(store)
    assert (found.loose_blobs, found.loose_bytes) == (18, would.loose_bytes)
    assert len(before) - len(blob_files(blobs)) == 18
    assert gc(store).loose_blobs == 0
    assert verify(store, forward, everything=True).ok


def test_a_collection_deletes_the_blobs_of_what_it_drops(store: Store, tmp_path: FilePath) -> None:
    grow(store, "a", "b", children=3)
    remove(store, "b")
    found = gc(store)
    assert found.dropped > 0
    assert found.loose_blobs == 0
    with store.reading() as connection:
        assert len(blob_files(tmp_path / "system" / "blobs")) == held(connection)[1].count
    assert verify(store, forward, everything=True).ok


def test_who_takes_the_lease_sweeps_what_a_crash_left(store: Store, tmp_path: FilePath) -> None:
    grow(store, "a")
    own = next((tmp_path / "system" / "blobs").iterdir())
    (own / "ab").mkdir(exist_ok=True)
    for name in ("ab" * 32, f".{'ab' * 32}.{'0' * 16}", "notes.txt"):
        (own / "ab" / name).write_bytes(b"loose")
    said: list[str] = []
    with holding(store, "a test", told=said.append):
        assert any("Swept 2 loose blobs (10 bytes)" in line for line in said)
    assert (own / "ab" / "notes.txt").exists()
    assert not (own / "ab" / ("ab" * 32)).exists()
    assert verify(store, forward, everything=True).ok


def test_a_blob_that_was_swept_before_its_row_came_is_written_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, _ = first_child(store)
    ship = weights.ship

    def then_swept(*arguments: object) -> None:
        ship(*arguments)  # type: ignore[arg-type]
        with Store.open(str(store.url.database)) as other:
            blobs = other.depot.blobs
            assert blobs is not None
            blobs.delete([name for name, _ in blobs.names()])

    monkeypatch.setattr(weights, "ship", then_swept)
    commit()
    (path,) = store.paths(task="a")
    fresh = path.trained_here()
    assert set(store.components(part.digest for part in fresh)) == {part.digest for part in fresh}


CRASH = """
import os, sys
from mutant.storage import candidates
from mutant.storage.store import Store
from storage_samples import planned, trained
where = sys.argv[2]
def killed(*arguments):
    if where == "after":
        commit(*arguments)
    os._exit(9)
commit = candidates.commit
candidates.commit = killed
with Store.open(sys.argv[1]) as store:
    key = store.unfinished_run().segments[0].key
    plan = planned("a", store.root(), 0)
    store.commit_outcome(key, 0, 0, trained(plan, store.root()))
"""


@pytest.mark.parametrize("where", ["before", "after"])
def test_killed_between_blob_and_commit(tmp_path: FilePath, where: str) -> None:
    """Dead before the rows are written, or before they are committed: then the same again, as if nothing had been."""
    digests: list[str] = []
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
        place = beside(tmp_path / name)
        with new_store(place, "a") as store:
            key = store.begin_run({}, ["a"]).segments[0].key
            plan = planned("a", store.root(), 0)
            store.plan_generation(key, 0, [plan])
        if name == "killed":
            crashed = python(CRASH, place, where)
            crashed.communicate()
            assert crashed.returncode == 9
            assert len(blob_files(tmp_path / name / "blobs")) == 9
        with Store.open(place) as store, holding(store, "resume"):
            assert len(blob_files(tmp_path / name / "blobs")) == 3
            assert store.candidates(key)[0].state == "QUEUED"
            store.commit_outcome(key, 0, 0, trained(plan, store.root()))
            assert verify(store, forward, everything=True).ok
            digests.append(digest(store))
    assert digests[0] == digests[1]


WRITE = """
import sys
from mutant.storage.store import Store
from storage_samples import grow
with Store.open(sys.argv[1]) as store:
    for _ in range(100):
        grow(store, "a", children=2)
"""


def test_killed_at_any_moment_leaves_whole_outcomes(tmp_path: FilePath) -> None:
    place = beside(tmp_path)
    new_store(place, "a").close()
    for delay in (0.8, 1.2):
        writer = python(WRITE, place)
        time.sleep(delay)
        writer.kill()
        writer.communicate()
        with Store.open(place) as store:
            going = store.unfinished_run()
            if going is not None:
                store.abandon_run(going.id)
            assert verify(store, forward, everything=True).ok
            gc(store)
            with store.reading() as connection:
                assert len(blob_files(tmp_path / "blobs")) == held(connection)[1].count


def test_the_json_of_a_collection_counts_loose_blobs(store: Store, tmp_path: FilePath) -> None:
    grow(store, "a", children=3)
    store.close()
    said = done("gc", "--dry-run", "--json", "--db", tmp_path / "system" / "mutant.db").json
    assert (said["loose_blobs"], said["loose_bytes"]) == (0, 0)
    assert json.dumps(said)


def stray(store: Store) -> str:
    """A loose blob, as a crash leaves it or another database's run puts it."""
    assert store.depot.blobs is not None
    store.depot.blobs.put("ab" * 32, b"loose")
    return "ab" * 32


def there(store: Store, digest: str) -> bool:
    assert store.depot.blobs is not None
    return store.depot.blobs.size(digest) is not None


@pytest.mark.parametrize("inside", [True, False], ids=["below the database", "elsewhere"])
def test_a_copy_of_a_database_deletes_none_of_the_originals_blobs(tmp_path: FilePath, inside: bool) -> None:
    (tmp_path / "system").mkdir()
    blobs = tmp_path / "system" / "blobs" if inside else tmp_path / "elsewhere"
    with new_store(Place(str(tmp_path / "system" / "mutant.db"), blobs=blobs, inline_limit=0), "a", "b") as store:
        grow(store, "a", "b", children=3)
        with holding(store, "a test"):
            pass
    shutil.copy(tmp_path / "system" / "mutant.db", tmp_path / "system" / "copy.db")
    said: list[str] = []
    with Store.open(str(tmp_path / "system" / "copy.db")) as copy:
        loose = stray(copy)
        with holding(copy, "a test", told=said.append):
            assert any("mutant.db" in line and "seems to be a copy" in line for line in said)
        remove(copy, "b")
        found = gc(copy)
        assert found.dropped > 0
        assert "mutant gc --adopt" in found.note
        assert there(copy, loose)
    with Store.open(str(tmp_path / "system" / "mutant.db")) as store:
        assert verify(store, forward, everything=True).ok
        assert gc(store).loose_blobs > 0
        assert not there(store, loose)
        assert verify(store, forward, everything=True).ok


def test_a_database_that_was_moved_adopts_its_blobs(tmp_path: FilePath) -> None:
    with new_store(Place(str(tmp_path / "old.db"), blobs=tmp_path.parent / f"{tmp_path.name}-blobs"), "a") as store:
        grow(store, "a")
        assert gc(store).note == ""
    shutil.copy(tmp_path / "old.db", tmp_path / "new.db")
    (tmp_path / "old.db").unlink()
    loose = ""
    with Store.open(str(tmp_path / "new.db")) as store:
        loose = stray(store)
    assert "--adopt" in done("gc", "--db", tmp_path / "new.db").out
    said = done("gc", "--adopt", "--json", "--db", tmp_path / "new.db").json
    assert (said["note"], said["loose_blobs"]) == ("", 1)
    with Store.open(str(tmp_path / "new.db")) as store:
        assert not there(store, loose)


def test_a_copy_of_a_servers_database_is_known_as_one(postgres: Server, tmp_path: FilePath) -> None:
    url = Place(postgres.new_database(), blobs=tmp_path / "blobs", inline_limit=0)
    with new_store(url, "a") as store:
        grow(store, "a")
        assert gc(store).note == ""
        blobs = store.depot.blobs
        assert blobs is not None
        with store.reading() as connection:
            claim(connection, store.url, blobs)
        blobs.put(MARK, b"mutant (database 1 of server 2)")
        loose = stray(store)
        assert "database 1 of server 2" in gc(store).note
        assert there(store, loose)
        assert gc(store, adopt=True).note == ""
        assert not there(store, loose)
