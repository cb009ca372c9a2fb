"""Weights in an object store, spoken to over HTTP: a server of S3's protocol on this machine."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath

import pytest
from buckets import bucket
from cli_calls import refused
from places import Place
from storage_samples import forward, grow, new_store
from test_storage_digest import full_run
from test_storage_faults import first_child

from mutant.storage.blobs.objects import Objects
from mutant.storage.collection import gc
from mutant.storage.digest import digest
from mutant.storage.export import export_system
from mutant.storage.holding import holding
from mutant.storage.ownership import MARK
from mutant.storage.refusals import Damaged
from mutant.storage.removal import remove
from mutant.storage.store import Store
from mutant.storage.verify import verify
from mutant.storage.weights import held
from mutant.tasks.errors import UserError

pytest.importorskip("obstore", reason="needs the extra 'cloud'")


@pytest.fixture(scope="module")
def variables() -> Iterator[Mapping[str, str]]:
    with bucket() as found:
        yield found


@pytest.fixture
def s3(variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """A place in the bucket, with the environment that reaches it."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return "s3://bucket/some/prefix"


def test_the_digest_is_the_same_wherever_weights_lie(tmp_path: FilePath, s3: str) -> None:
    digests: set[str] = set()
    for name, place in (
        ("inside", Place(str(tmp_path / "inside.db"))),
        ("s3", Place(str(tmp_path / "s3.db"), blobs=s3, inline_limit=0)),
    ):
        with new_store(place, "a", "b") as store:
            full_run(store)
            digests.add(digest(store))
            assert verify(store, forward, everything=True).ok
        if name == "s3":
            with Store.open(place, read_only=True) as reader:
                assert verify(reader, forward, everything=True).ok
                export_system(reader, tmp_path / "out")
            with Store.open(str(tmp_path / "out" / "system.db")) as whole:
                digests.add(digest(whole))
    assert len(digests) == 1


def test_a_server_and_a_bucket_serve_many_hosts(s3: str, database: str) -> None:
    with new_store(Place(database, blobs=s3, inline_limit=100), "a") as store:
        grow(store, "a", children=3)
        with Store.open(database, read_only=True) as other:
            assert digest(other) == digest(store)
            assert verify(other, forward).ok


def test_blobs_go_after_their_rows_and_loose_ones_are_swept(tmp_path: FilePath, s3: str) -> None:
    with new_store(Place(str(tmp_path / "m.db"), blobs=s3, inline_limit=0), "a", "b") as store:
        grow(store, "a", "b", children=3)
        blobs = store.depot.blobs
        assert blobs is not None
        remove(store, "b")
        assert gc(store).dropped > 0
        with store.reading() as connection:
            assert sum(not name.endswith(MARK) for name, _ in blobs.names()) == held(connection)[1].count
        blobs.put("ab" * 32, b"loose")
        assert gc(store, dry_run=True).loose_blobs == 1
        with holding(store, "a test"):
            assert blobs.get("ab" * 32) is None
        assert verify(store, forward, everything=True).ok


def test_what_is_missing_torn_or_changed_is_told(tmp_path: FilePath, s3: str) -> None:
    with new_store(Place(str(tmp_path / "m.db"), blobs=s3, inline_limit=0), "a") as store:
        (a,) = grow(store, "a")
        blobs = store.depot.blobs
        assert blobs is not None
        wanted = a.slots["norm"].digest
        data = blobs.get(wanted) or b""
        for changed, reason in ((None, "missing"), (data[:-1], "torn"), (data[:-1] + b"\xff", "changed")):
            if changed is None:
                blobs.delete([f"{wanted[:2]}/{wanted}"])
            else:
                blobs.put(wanted, changed)
            assert [found.reason for found in verify(store, forward).damaged] == [reason]
            with pytest.raises(Damaged, match="mutant verify"):
                store.component(wanted)


def test_a_service_that_does_not_answer_is_told(
    tmp_path: FilePath, s3: str, variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(str(tmp_path / "m.db"), blobs=s3, inline_limit=0)
    with new_store(place, "a") as store:
        first_child(store)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with Store.open(place) as store:
        store.abandon_run(1)
        commit, state = first_child(store)
        for question in (
            commit,
            lambda: digest(store),
            lambda: verify(store, forward),
            lambda: gc(store, dry_run=True),
        ):
            with pytest.raises(UserError, match=r"s3://bucket/some/prefix' cannot be reached.*credentials"):
                question()
        assert state() == "QUEUED"
        said: list[str] = []
        with holding(store, "a test", told=said.append):
            assert "not swept" in said[0]
    monkeypatch.setenv("AWS_ENDPOINT_URL", variables["AWS_ENDPOINT_URL"])
    with Store.open(place) as store:
        assert verify(store, forward, everything=True).ok


def test_what_cannot_be_written_is_refused_before_there_is_a_system(
    tmp_path: FilePath, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = tmp_path / "m.db"
    with pytest.raises(UserError, match="NoSuchBucket"):
        new_store(Place(str(db), blobs="s3://nowhere/x"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(UserError, match="AccessKeyId"):
        new_store(Place(str(db), blobs=s3))
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.exceptions", None)
    init = ("init", "--root", "random:vit-ti16", "--blocks", 1, "--image-size", 16, "--db", db)
    assert "mutant[cloud]" in refused(*init, "--blobs", s3)
    assert list(tmp_path.iterdir()) == []


def test_a_name_in_the_store_is_a_digest() -> None:
    for bad in ("../../etc/passwd", "AB" * 32, "", "a" * 63):
        with pytest.raises(ValueError, match="no digest"):
            Objects("s3://bucket", "0" * 16).put(bad, b"")
