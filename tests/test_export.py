"""An exported task is complete by itself, whole or not there, and refuses to be read when it was changed."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from storage_samples import counts, forward, grow, grow_segment, new_store, planned, sample_task

from mutant.storage import export, keys
from mutant.storage.digest import digest
from mutant.storage.export import CARD, CONFIG, MODEL, export_system, export_task, load_export
from mutant.storage.facts import write_event
from mutant.storage.holding import Pace, holding
from mutant.storage.process import Process
from mutant.storage.records import Evaluation
from mutant.storage.store import Store
from mutant.storage.verify import verify
from mutant.storage.whole import SYSTEM
from mutant.tasks.errors import UserError


@pytest.fixture
def store(tmp_path: FilePath) -> Iterator[Store]:
    (tmp_path / "system").mkdir()
    with new_store(tmp_path / "system", "a", "b", "c") as opened:
        grow(opened, "a", "b")
        yield opened


def test_an_export_predicts_alike_when_the_system_is_gone(tmp_path: FilePath, store: Store) -> None:
    best = store.best("b")
    assert best is not None
    golden = store.golden(best.id)
    assert golden is not None
    export_task(store, "b", tmp_path / "out")
    store.close()
    shutil.rmtree(tmp_path / "system")
    (tmp_path / "out").rename(tmp_path / "moved")
    found = load_export(tmp_path / "moved")
    assert found.path == replace(best, parts=tuple(replace(part, trace=None) for part in best.parts))
    assert found.path.version == best.version
    assert found.task == sample_task("b")
    assert forward(found.path, found.components, golden.images).tobytes() == golden.logits.tobytes()


def test_what_an_export_says_of_itself(tmp_path: FilePath, store: Store) -> None:
    best = store.best("b")
    assert best is not None
    store.record_evaluation(Evaluation(best.id, "b", "test", 0.625, 80, "f" * 64))
    made = export_task(store, "b", tmp_path / "deep" / "out")
    assert sorted(path.name for path in made.iterdir()) == sorted([MODEL, CONFIG, CARD, SYSTEM])
    config = json.loads((made / CONFIG).read_text())
    assert [part["slot"] for part in config["parts"]] == ["embedding", "block_00", "adapter_00", "norm", "head"]
    assert config["root"]["licence"] == "Apache-2.0"
    assert config["accuracy"] == {"test": {"accuracy": 0.625, "examples": 80}}
    assert [one["task"] for one in config["lineage"]] == ["b", "a", None]
    assert config["preprocessing"]["image_size"] == 8
    assert config["task"]["class_names"] == ["b 0", "b 1", "b 2"]
    card = (made / CARD).read_text()
    for said in ("# b\n", "test: 0.6250 on 80", "Apache-2.0", "insert adapter of width 8", f"`{best.version}`", "CC0"):
        assert said in card


def test_an_export_names_no_place_of_this_machine(tmp_path: FilePath) -> None:
    with new_store(tmp_path) as store:
        for number, scheme in enumerate(("folder", "csv", "arrays")):
            task = replace(sample_task(scheme), uri=f"{scheme}:{tmp_path}/data/{number}.zip?train=x")
            store.add_task(task)
        store.add_task(replace(sample_task("tfds"), uri=f"tfds:mnist?data_dir={tmp_path}"))
        grow(store, "folder", "csv", "arrays", "tfds")
        export_task(store, "csv", tmp_path / "task")
        export_task(store, "tfds", tmp_path / "other")
        export_system(store, tmp_path / "whole")
    for directory in ("task", "other", "whole"):
        for file in (tmp_path / directory).iterdir():
            assert str(tmp_path).encode() not in file.read_bytes(), file
    with Store.open(str(tmp_path / "whole" / SYSTEM)) as copy:
        assert copy.task("csv").uri == "csv:1.zip?train=x"


def test_a_whole_system_is_an_ordinary_one(tmp_path: FilePath, new_database: Callable[[], str]) -> None:
    """From either back end, with a run that is not finished, and to be gone on with."""
    with new_store(new_database(), "a", "b") as store:
        grow(store, "a", "b")
        store.begin_run({}, ["a"])
        made = export_system(store, tmp_path / "out")
        assert sorted(path.name for path in made.iterdir()) == sorted([CARD, SYSTEM])
        expected, everything = digest(store), counts(store)
    with Store.open(str(made / SYSTEM)) as copy:
        assert (digest(copy), counts(copy)) == (expected, everything)
        assert verify(copy, forward, everything=True).ok
        run = copy.unfinished_run()
        assert run is not None
        grow_segment(copy, run.segments[0].key, "a", copy.root(), seed=5)
        copy.finish_run(run.id)


def test_a_whole_system_takes_no_keys_and_no_hosts_along(tmp_path: FilePath, new_database: Callable[[], str]) -> None:
    """Exported while a controller of another host trains; the copy is nobody's, and can be gone on with."""
    host, other = (Process(f"{name}.lab.example", "boot", 4242, "1") for name in ("gpu-7", "gpu-8"))
    with new_store(new_database(), "a") as store:
        keys.make(store, "the boss's key", "admin")
        secret = keys.load(store)[0].secret
        run = store.begin_run({}, ["a"])
        crew = {"workers": 2, "ray_address": "ray://gpu-7.lab.example:10001", "budget_seconds": None}
        store.record_event(run.id, "worked off by", {"before": None, "now": crew})
        store.plan_generation(run.segments[0].key, 0, [planned("a", store.root(), child) for child in range(2)])
        with holding(store, "run 1", process=host, pace=Pace(beat=1000)):
            with store.writing() as connection:
                write_event(connection, None, "taken over", {"from": str(other), "why": "is gone", "by": str(host)})
            store.lease_candidate(run.segments[0].key, 0, 0, "worker 0 of gpu-7.lab.example")
            made = export_system(store, tmp_path / "out")
            expected = digest(store)
    data = b"".join(file.read_bytes() for file in made.iterdir())
    for word in ("lab.example", "the boss's key", secret):
        assert word.encode() not in data
    with Store.open(str(made / SYSTEM)) as copy:
        assert digest(copy) == expected
        assert (keys.load(copy), copy.holder()) == ((), None)
        assert [event.data for event in copy.events() if event.kind == "taken over"] == [{"why": "is gone"}]
        assert {record.state for record in copy.candidates(run.segments[0].key)} == {"STALE", "QUEUED"}
        with holding(copy, "run 1"):
            grow_segment(copy, run.segments[0].key, "a", copy.root())
            copy.finish_run(run.id)
        assert verify(copy, forward).ok


def test_what_cannot_be_exported(tmp_path: FilePath, store: Store) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for task, name, words in (
        ("q", "out", "Unknown task"),
        ("c", "out", "no trained path"),
        ("a", "full", "not empty"),
        ("a", "file", "not a directory"),
        ("a", "file/below", "cannot be written"),
    ):
        with pytest.raises(UserError, match=words):
            export_task(store, task, tmp_path / name)
    assert (tmp_path / "full" / "precious.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full", "system"]


def test_an_empty_directory_is_used(tmp_path: FilePath, store: Store) -> None:
    (tmp_path / "out").mkdir()
    assert load_export(export_task(store, "a", tmp_path / "out")).task.name == "a"


def test_a_failure_half_way_leaves_nothing(tmp_path: FilePath, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left"):
        export_task(store, "a", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["system"]


def test_all_files_tell_of_one_path_though_another_wins_meanwhile(
    tmp_path: FilePath, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, first = export.extract_task, store.best("b")

    def slowly(*arguments: Any) -> str:
        if store.best("b") == first:
            run = store.begin_run({}, ["b"])
            grow_segment(store, run.segments[0].key, "b", store.root(), seed=9)
            store.finish_run(run.id)
        return real(*arguments)

    monkeypatch.setattr(export, "extract_task", slowly)
    made = load_export(export_task(store, "b", tmp_path / "out"))
    with Store.open(str(tmp_path / "out" / SYSTEM), read_only=True) as extract:
        inside = extract.best("b")
    assert inside is not None
    assert made.path.id == inside.id == getattr(store.best("b"), "id", None)
    assert first is not None
    assert inside.id != first.id
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "system"]


def test_an_export_that_was_told_has_its_name_on_the_disk(
    tmp_path: FilePath, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of its files before its own."""
    real, synced = os.fsync, list[tuple[int, bool]]()

    def note(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, (tmp_path / "out").exists()))
        real(descriptor)

    monkeypatch.setattr("os.fsync", note)
    export_task(store, "a", tmp_path / "out")
    assert synced[-2:] == [((tmp_path / "out").stat().st_ino, False), (tmp_path.stat().st_ino, True)]


@pytest.mark.parametrize("fails_at", range(5))
def test_a_name_that_the_disk_does_not_take_leaves_nothing(
    tmp_path: FilePath, store: Store, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    real, left = os.fsync, iter(range(fails_at, -1, -1))

    def broken(descriptor: int) -> None:
        if next(left) == 0:
            raise OSError(5, "Input/output error")
        real(descriptor)

    monkeypatch.setattr("os.fsync", broken)
    with pytest.raises(UserError, match=r"Input/output error.*Nothing was left"):
        export_task(store, "a", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["system"]


def test_a_directory_that_is_no_export(tmp_path: FilePath) -> None:
    for name in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="no exported task"):
            load_export(name)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    directory = tmp_path_factory.mktemp("exported")
    with new_store(directory, "a") as store:
        grow(store, "a")
        return export_task(store, "a", directory / "out")


@given(name=st.sampled_from([MODEL, CONFIG]), at=st.floats(0, 1, exclude_max=True), by=st.integers(1, 255))
def test_a_changed_byte_is_an_error_or_changes_nothing_that_counts(
    exported: FilePath, tmp_path_factory: pytest.TempPathFactory, name: str, at: float, by: int
) -> None:
    copy = tmp_path_factory.mktemp("copy") / "out"
    shutil.copytree(exported, copy)
    data = bytearray((copy / name).read_bytes())
    data[int(at * len(data))] ^= by
    (copy / name).write_bytes(data)
    try:
        found = load_export(copy)
    except UserError:
        return
    assert found.path.version == load_export(exported).path.version


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5))
def test_a_config_of_other_values_is_an_error(
    exported: FilePath, tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    copy = tmp_path_factory.mktemp("copy") / "out"
    shutil.copytree(exported, copy)
    config = json.loads((copy / CONFIG).read_text())
    for key in ("format", "task", "path", "parts", "lineage"):
        if value == config[key]:
            continue
        (copy / CONFIG).write_text(json.dumps({**config, key: value}))
        with pytest.raises(UserError):
            load_export(copy)
    (copy / CONFIG).write_text(json.dumps(value))
    with pytest.raises(UserError):
        load_export(copy)
