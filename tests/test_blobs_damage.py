"""Weights in a directory beside the database: every fault of a blob or of its place is told."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path as FilePath

import pytest
from places import Place, beside, blob_files
from storage_samples import forward, grow, new_store, planned, trained
from test_storage_faults import finished, first_child, python

from mutant.storage import weights
from mutant.storage.blobs.directory import Directory
from mutant.storage.collection import gc
from mutant.storage.digest import digest
from mutant.storage.refusals import Collected, Damaged
from mutant.storage.store import Store
from mutant.storage.verify import verify
from mutant.tasks.errors import UserError


@pytest.fixture
def store(blob_store: Store) -> Store:
    return blob_store


@pytest.mark.parametrize("how", ["missing", "torn", "zeros", "changed"])
def test_a_damaged_blob_is_told(store: Store, tmp_path: FilePath, how: str) -> None:
    (a,) = grow(store, "a")
    part = a.slots["norm"]
    file = blob_files(tmp_path / "system" / "blobs")[part.digest]
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


@pytest.fixture
def unwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection does not write the file anew, for which it would wait for the reader beside it: this test."""
    monkeypatch.setattr("mutant.storage.collection.reclaim", lambda _: (0, 0))


@pytest.mark.usefixtures("unwritten")
def test_a_reader_from_before_a_collection_is_told_that_weights_were_collected(store: Store) -> None:
    grow(store, "a")
    loser = next(path for path in store.paths(task="a") if path != store.best("a"))
    lost = loser.slots["head"].digest

    def read() -> None:
        with store.reading() as connection:
            assert weights.specs(connection, [lost])  # from here on it sees this state
            gc(store)
            weights.read_components(connection, [lost])

    with pytest.raises(Collected, match="were collected"):
        read()
    with pytest.raises(Collected):
        store.component(lost)


@pytest.mark.usefixtures("unwritten")
@pytest.mark.parametrize("at", [0, 10, 20, 30, 40])
def test_verify_beside_a_collection_finds_a_whole_system_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Whenever the collection comes: between two blobs of one transaction, or between two transactions."""
    for _ in range(3):
        grow(store, "a")
    real, read = Directory.get, list[str]()

    def get(self: Directory, digest: str) -> bytes | None:
        read.append(digest)
        if len(read) == at + 1:
            gc(store)
        return real(self, digest)

    monkeypatch.setattr(Directory, "get", get)
    report = verify(store, forward, everything=True)
    assert len(read) > at
    assert report.ok, report
    assert report.tasks[0].verdict == "identical"


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
from places import Place, beside, blob_files
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
            before, there = digest(store), set(blob_files(small / "blobs"))
            (small / "ballast").write_bytes(bytes(free(small) - 2**16))
            with pytest.raises(UserError, match=r"no space left for the weights.*mutant resume"):
                commit()
            assert (state(), digest(store), set(blob_files(small / "blobs"))) == ("QUEUED", before, there)
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
