"""Weights in a directory beside the database: the same meaning, nothing lost, and every fault told."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path as FilePath

import pytest
from cli_calls import done, refused
from places import Place
from postgres_server import Server
from storage_samples import forward, grow, new_store, planned, trained
from test_storage_digest import full_run
from test_storage_faults import finished, first_child, python

from mutant.storage import collection, weights
from mutant.storage.blobs import placement
from mutant.storage.collection import gc
from mutant.storage.digest import digest
from mutant.storage.export import export_system, export_task, load_export
from mutant.storage.holding import holding
from mutant.storage.importing import import_tasks
from mutant.storage.refusals import Damaged
from mutant.storage.removal import remove
from mutant.storage.store import Store
from mutant.storage.url import database_url
from mutant.storage.verify import verify
from mutant.storage.weights import held
from mutant.storage.whole import open_source
from mutant.tasks.errors import UserError


@pytest.fixture
def store(tmp_path: FilePath) -> Iterator[Store]:
    """A system all of whose weights lie in its directory `system/blobs`."""
    (tmp_path / "system").mkdir()
    with new_store(beside(tmp_path / "system"), "a", "b") as opened:
        yield opened


def beside(directory: FilePath) -> Place:
    return Place(str(directory / "mutant.db"), blobs=directory / "blobs", inline_limit=0)


def files(directory: FilePath) -> dict[str, FilePath]:
    """The files of blobs by name."""
    return {path.name: path for path in directory.glob("*/*/*")}


# Where they lie


def test_the_digest_is_the_same_wherever_weights_lie(tmp_path: FilePath) -> None:
    places = {
        "inside": Place(str(tmp_path / "inside.db")),
        "outside": Place(str(tmp_path / "outside.db"), blobs=tmp_path / "all", inline_limit=0),
        "both": Place(str(tmp_path / "both.db"), inline_limit=200),
    }
    digests: dict[str, str] = {}
    where: dict[str, tuple[bool, bool]] = {}
    for name, place in places.items():
        with new_store(place, "a", "b") as opened:
            full_run(opened)
            digests[name] = digest(opened)
            assert verify(opened, forward, everything=True).ok
            with opened.reading() as connection:
                inside, outside = held(connection)
            where[name] = (inside.count > 0, outside.count > 0)
            assert inside.count + outside.count == 16
    assert len(set(digests.values())) == 1
    assert where == {"inside": (True, False), "outside": (False, True), "both": (True, True)}
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["all", "both.db.blobs"]


def test_components_are_stored_once(store: Store, tmp_path: FilePath) -> None:
    grow(store, "a", "b")
    found = files(tmp_path / "system" / "blobs")
    with store.reading() as connection:
        assert len(found) == held(connection)[1].count
    assert all(len(name) == 64 for name in found)


@pytest.mark.parametrize(
    ("blobs", "limit", "words"),
    [
        ("ftp://host/x", None, "unknown scheme 'ftp'.*s3://BUCKET"),
        ("s3://", None, "cannot be read"),
        ("s3://bucket/a//b", None, "cannot be read"),
        ("gs://bu cket", None, "cannot be read"),
        ("", None, "empty"),
        ("a\0b", None, "empty or not a name"),
        (None, "many", "no number of bytes.*64KiB"),
        (None, "-1", "no number of bytes"),
        (None, "1TiB", "no number of bytes"),
        (None, "2GiB", "more than sqlite takes"),
        ("~nobody-here/x", None, "cannot be a directory"),
    ],
)
def test_bad_places_and_sizes_are_refused_before_anything_is_written(
    tmp_path: FilePath, blobs: str | None, limit: str | None, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        placement.chosen(database_url(str(tmp_path / "m.db")), blobs, limit)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_below_the_databases_own_is_remembered_relative_to_it(tmp_path: FilePath) -> None:
    url = database_url(str(tmp_path / "m.db"))
    assert placement.chosen(url, tmp_path / "x y" / "z").blobs == "x%20y/z"
    assert placement.chosen(url, "/elsewhere/b").blobs == "file:///elsewhere/b"
    assert placement.chosen(url, "file:///elsewhere/b").blobs == "file:///elsewhere/b"
    assert placement.chosen(url, "s3://bucket/p/").blobs == "s3://bucket/p"
    for bad in ("../x", "/x", "ftp://x", "s3://"):
        with pytest.raises(ValueError, match="no place"):
            placement.opened(placement.Placement(bad), url)


def test_the_command_line_says_where_weights_lie(tmp_path: FilePath) -> None:
    db = tmp_path / "m.db"
    init = ("init", "--root", "random:vit-ti16", "--blocks", 1, "--image-size", 16, "--db", db)
    assert "unknown scheme" in refused(*init, "--blobs", "ftp://x")
    assert "no number of bytes" in refused(*init, "--inline-limit", "lots")
    assert list(tmp_path.iterdir()) == []
    done(*init, "--blobs", tmp_path / "kept", "--inline-limit", "100KB")
    found = done("status", "--db", db, "--json").json["system"]["weights"]
    assert found["inline_limit"] == 100_000
    assert found["blobs"].endswith("kept")
    assert found["in_blobs"]["bytes"] > found["in_database"]["bytes"] > 0
    assert "kept" in done("status", "--db", db).out
    before = done("digest", "--db", db).out
    assert len(files(tmp_path / "kept")) == found["in_blobs"]["count"]
    other = tmp_path / "other.db"
    done("init", "--root", "random:vit-ti16", "--blocks", 1, "--image-size", 16, "--db", other)
    assert done("digest", "--db", other).out == before


def test_a_database_without_a_store_names_the_setting(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(placement.LARGEST, "postgresql", 2000)
    url = postgres.new_database()
    with pytest.raises(UserError, match="needs a blob store"):
        placement.chosen(database_url(url), None, 100)
    with new_store(url, "a") as opened:
        commit, state = first_child(opened)
        with pytest.raises(UserError, match=r"takes 2,000 at most.*--blobs"):
            commit()
        assert state() == "QUEUED"


def test_both_are_moved_together(store: Store, tmp_path: FilePath) -> None:
    grow(store, "a")
    wanted = digest(store)
    store.close()
    (tmp_path / "system").rename(tmp_path / "moved")
    with Store.open(str(tmp_path / "moved" / "mutant.db")) as moved:
        assert digest(moved) == wanted
        grow(moved, "b")
        assert verify(moved, forward, everything=True).ok
    with Store.open(str(tmp_path / "moved" / "mutant.db"), read_only=True) as reader:
        assert verify(reader, forward).ok
    (tmp_path / "alone").mkdir()
    shutil.copy(tmp_path / "moved" / "mutant.db", tmp_path / "alone")
    with Store.open(str(tmp_path / "alone" / "mutant.db")) as alone:
        for question in (lambda: verify(alone, forward), lambda: digest(alone), lambda: grow(alone, "a")):
            with pytest.raises(UserError, match=r"alone/blobs.*not there.*moved or copied without it"):
                question()


def test_two_systems_in_one_place_leave_each_others_blobs_alone(tmp_path: FilePath) -> None:
    for name in ("x", "y"):
        with new_store(Place(str(tmp_path / f"{name}.db"), blobs=tmp_path / "shared", inline_limit=0), "a") as opened:
            grow(opened, "a", children=3)
            gc(opened)
    for name in ("x", "y"):
        with Store.open(str(tmp_path / f"{name}.db")) as opened:
            assert verify(opened, forward, everything=True).ok


# Damage


@pytest.mark.parametrize("how", ["missing", "torn", "zeros", "changed"])
def test_a_damaged_blob_is_told(store: Store, tmp_path: FilePath, how: str) -> None:
    (a,) = grow(store, "a")
    part = a.slots["norm"]
    file = files(tmp_path / "system" / "blobs")[part.digest]
    data = file.read_bytes()
    if how == "missing":
        file.unlink()
    else:
        changed = bytes([*data[:-1], data[-1] ^ 1])
        file.write_bytes({"torn": data[:-7], "zeros": bytes(len(data)), "changed": changed}[how])
    reason = {"zeros": "unreadable"}.get(how, how)
    with pytest.raises(Damaged, match="mutant verify"):
        store.component(part.digest)
    if how != "changed":
        with pytest.raises(UserError, match="system/blobs"):
            store.component(part.digest)
    report = verify(store, forward)
    assert not report.ok
    assert [found.reason.partition(":")[0] for found in report.damaged] == [reason]
    if how in ("missing", "torn"):
        with pytest.raises(Damaged, match=how):
            digest(store)
    file.write_bytes(data)
    assert verify(store, forward, everything=True).ok


@pytest.mark.parametrize("cut", [slice(0), slice(0, 50), None])
def test_what_a_torn_write_left_is_not_trusted(store: Store, tmp_path: FilePath, cut: slice | None) -> None:
    """A file of the right name is there before the blob is written: cut off, or of the right size and all zeros."""
    plan = planned("a", store.root(), 0)
    outcome = trained(plan, store.root())
    key = store.begin_run({}, ["a"]).segments[0].key
    store.plan_generation(key, 0, [plan])
    own = next((tmp_path / "system" / "blobs").iterdir())
    for component in outcome.components.values():
        data = weights.component_blob(component).data
        file = own / component.digest[:2] / component.digest
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes(len(data)) if cut is None else data[cut])
    store.commit_outcome(key, 0, 0, outcome)
    assert set(store.components(outcome.components)) == set(outcome.components)


def test_a_directory_that_cannot_be_used_is_told(store: Store, tmp_path: FilePath) -> None:
    commit, state = first_child(store)
    before, blobs = digest(store), tmp_path / "system" / "blobs"
    blobs.rename(tmp_path / "away")
    with pytest.raises(UserError, match="is not there"):
        commit()
    blobs.write_text("a file")
    with pytest.raises(UserError, match=r"is not there|failed"):
        commit()
    blobs.unlink()
    (tmp_path / "away").rename(blobs)
    assert state() == "QUEUED"
    assert digest(store) == before
    commit()
    assert state() == "DONE"


NOBODY = """
import os, sys
from mutant.storage.store import Store
from mutant.tasks.errors import UserError
from places import Place
from storage_samples import grow, new_store
from mutant.storage.digest import digest
if os.geteuid() == 0:  # whom no permission stops
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
for call in (
    lambda: new_store(Place(sys.argv[1] + "/own/m.db", blobs=sys.argv[1] + "/closed/blobs")),
    lambda: digest(Store.open(sys.argv[1] + "/closed/mutant.db", read_only=True)) and print("read"),
    lambda: grow(Store.open(sys.argv[1] + "/open/mutant.db"), "a"),
):
    try:
        call()
    except UserError as error:
        print(error)
print(os.listdir(sys.argv[1] + "/own"))
"""


def test_a_directory_that_may_not_be_written_is_told(public: FilePath) -> None:
    for name in ("own", "closed", "open"):
        (public / name).mkdir()
    for name in ("closed", "open"):
        with new_store(beside(public / name), "a") as opened:
            grow(opened, "a")
    for path in [public, *public.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    for path in [public / "closed", *(public / "closed").rglob("*"), *(public / "open" / "blobs").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    (public / "open" / "blobs").chmod(0o555)
    said = finished(python(NOBODY, public)).splitlines()
    assert "cannot be reached" in said[0]
    assert "must be yours" in said[0]
    assert said[1] == "read"
    assert "cannot be reached" in said[2]
    assert said[3] == "[]"


def test_a_full_disk_of_blobs_leaves_nothing_half_written(tmp_path: FilePath) -> None:
    """The database has space, its blob store has none."""
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with new_store(Place(str(tmp_path / "m.db"), blobs=small / "blobs", inline_limit=0), "a") as store:
            commit, state = first_child(store)
            before, there = digest(store), set(files(small / "blobs"))
            (small / "ballast").write_bytes(bytes(free(small) - 2**16))
            with pytest.raises(UserError, match=r"no space left for the weights.*mutant resume"):
                commit()
            assert (state(), digest(store), set(files(small / "blobs"))) == ("QUEUED", before, there)
            (small / "ballast").unlink()
            commit()
            assert state() == "DONE"
            assert verify(store, forward, everything=True).ok
    finally:
        subprocess.run(["umount", str(small)], check=True)


def free(directory: FilePath) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


@pytest.fixture
def public() -> Iterator[FilePath]:
    """A directory that every user can reach."""
    with tempfile.TemporaryDirectory() as name:
        yield FilePath(name)


# Loose blobs


def test_blobs_go_after_their_rows(store: Store, tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(store, "a", children=4)
    blobs = tmp_path / "system" / "blobs"
    before = set(files(blobs))

    def killed(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(collection, "sweep", killed)
        with pytest.raises(KeyboardInterrupt):
            gc(store)
    assert set(files(blobs)) == before
    would = gc(store, dry_run=True)
    assert (would.dropped, would.loose_blobs) == (0, 18)
    assert set(files(blobs)) == before
    found = gc(store)
    assert (found.loose_blobs, found.loose_bytes) == (18, would.loose_bytes)
    assert len(before) - len(files(blobs)) == 18
    assert gc(store).loose_blobs == 0
    assert verify(store, forward, everything=True).ok


def test_a_collection_deletes_the_blobs_of_what_it_drops(store: Store, tmp_path: FilePath) -> None:
    grow(store, "a", "b", children=3)
    remove(store, "b")
    found = gc(store)
    assert found.dropped > 0
    assert found.loose_blobs == 0
    with store.reading() as connection:
        assert len(files(tmp_path / "system" / "blobs")) == held(connection)[1].count
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
            assert len(files(tmp_path / name / "blobs")) == 9
        with Store.open(place) as store, holding(store, "resume"):
            assert len(files(tmp_path / name / "blobs")) == 3
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
                assert len(files(tmp_path / "blobs")) == held(connection)[1].count


# Out and in


@pytest.mark.parametrize("limit", [None, 200])
def test_exports_are_complete_by_themselves(
    store: Store, tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    """`limit`: a part of the weights is too large for a database, and comes in a directory beside it."""
    if limit is not None:
        monkeypatch.setattr(placement, "INLINE_LIMIT", limit)
    a, _ = grow(store, "a", "b")
    wanted = digest(store)
    export_system(store, tmp_path / "whole")
    export_task(store, "a", tmp_path / "one")
    store.close()
    shutil.rmtree(tmp_path / "system")
    with Store.open(str(tmp_path / "whole" / "system.db")) as whole:
        assert digest(whole) == wanted
        assert whole.depot.blobs is not None
        assert "system.db.blobs" in whole.depot.blobs.where
    assert load_export(tmp_path / "one").path.id == a.id
    (tmp_path / "one").rename(tmp_path / "elsewhere")
    (tmp_path / "target").mkdir()
    with open_source(str(tmp_path / "elsewhere")) as one, new_store(beside(tmp_path / "target"), "x") as target:
        (came,) = import_tasks(one, target)
        assert came.path == a.id
        assert verify(target, forward, everything=True).ok
        with target.reading() as connection:
            assert held(connection)[0].count == 0
    assert (tmp_path / "whole" / "system.db.blobs").exists() == (limit is not None)


def test_an_export_of_a_torn_blob_leaves_nothing(store: Store, tmp_path: FilePath) -> None:
    (a,) = grow(store, "a")
    files(tmp_path / "system" / "blobs")[a.slots["norm"].digest].write_bytes(b"torn")
    for export in (lambda: export_system(store, tmp_path / "out"), lambda: export_task(store, "a", tmp_path / "out")):
        with pytest.raises(Damaged, match="torn"):
            export()
    assert [path.name for path in tmp_path.iterdir()] == ["system"]


def test_a_system_that_could_not_be_made_leaves_no_store(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    from mutant.storage import catalog

    def fails(*_: object) -> None:
        raise UserError("No.")

    monkeypatch.setattr(catalog, "write_system", fails)
    with pytest.raises(UserError, match="No"):
        new_store(beside(tmp_path))
    assert not (tmp_path / "blobs").exists()


def test_the_json_of_a_collection_counts_loose_blobs(store: Store, tmp_path: FilePath) -> None:
    grow(store, "a", children=3)
    store.close()
    said = done("gc", "--dry-run", "--json", "--db", tmp_path / "system" / "mutant.db").json
    assert (said["loose_blobs"], said["loose_bytes"]) == (0, 0)
    assert json.dumps(said)
