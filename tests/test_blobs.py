"""Weights in a directory beside the database: the same meaning wherever they lie, moved, and brought out and in."""

import shutil
from pathlib import Path as FilePath

import pytest
from cli_calls import done, refused
from places import Place, beside, blob_files
from postgres_server import Server
from storage_samples import forward, grow, new_store
from test_storage_digest import full_run
from test_storage_faults import first_child

from mutant.storage.blobs import placement
from mutant.storage.collection import gc
from mutant.storage.digest import digest
from mutant.storage.export import export_system, export_task, load_export
from mutant.storage.importing import import_tasks
from mutant.storage.refusals import Damaged
from mutant.storage.store import Store
from mutant.storage.url import database_url
from mutant.storage.verify import verify
from mutant.storage.weights import held
from mutant.storage.whole import open_source
from mutant.tasks.errors import UserError


@pytest.fixture
def store(blob_store: Store) -> Store:
    return blob_store


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
    found = blob_files(tmp_path / "system" / "blobs")
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
    assert len(blob_files(tmp_path / "kept")) == found["in_blobs"]["count"]
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
    blob_files(tmp_path / "system" / "blobs")[a.slots["norm"].digest].write_bytes(b"torn")
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
