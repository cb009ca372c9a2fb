"""Whatever happens to a database file, every question to it ends with an answer or with an error for people."""

import json
import shutil
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection
from storage_samples import forward, grow, new_store, sample_images

from mutant.search.metrics import metrics
from mutant.storage import keys
from mutant.storage.children import children
from mutant.storage.collection import gc
from mutant.storage.digest import digest
from mutant.storage.effort import efforts
from mutant.storage.export import export_system, export_task
from mutant.storage.holding import Pace, holding
from mutant.storage.importing import import_tasks
from mutant.storage.leakage import leakage
from mutant.storage.lineage import blame, component_id, impact
from mutant.storage.pulse import pulse
from mutant.storage.removal import remove, undo
from mutant.storage.schema import Base
from mutant.storage.store import Store
from mutant.storage.verify import verify
from mutant.storage.versions import versions
from mutant.tasks.errors import UserError


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    """A small system of one run, in small pages so that damage hits what is read and not empty space."""
    directory = tmp_path_factory.mktemp("good")
    with new_store(directory, "a") as store:
        images = [sample_images("a", "train"), sample_images("a", "test", range(5, 9))]
        store.finish_run(store.begin_run({}, [], images=images).id)
        keys.make(store, "a key")
        leased(store, "a")
        store.record_event(1, "worked off by", {"before": None, "now": {"workers": 1, "ray_address": None}})
    with closing(sqlite3.connect(directory / "mutant.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA page_size = 1024")
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode = WAL")
    return directory / "mutant.db"


def read_paths(store: Store) -> None:
    """Every path with its ancestors, components, traces and golden outputs."""
    paths = store.paths()
    questions: list[Callable[[], object]] = [
        lambda: store.ancestors(paths[-1].id),
        lambda: store.components(part.digest for path in paths for part in path.parts),
        lambda: [store.trace(p.trace) for path in paths for p in path.parts if p.trace is not None],
        lambda: [store.golden(path.id) for path in paths],
    ]
    for question in questions:
        with suppress(UserError):
            question()


def read_lineage(store: Store) -> None:
    """Who made each component, and who needs it."""
    digests = sorted({part.digest for path in store.paths() for part in path.parts})
    questions: list[Callable[[Connection, str], object]] = [blame, impact, component_id]
    for digest_ in digests:
        for question in questions:
            with suppress(UserError), store.reading() as connection:
                question(connection, digest_)


def imported(store: Store) -> None:
    with TemporaryDirectory() as directory, new_store(FilePath(directory)) as target:
        import_tasks(store, target)


def leased(store: Store, task: str) -> None:
    """A run under a lease that was held before."""
    with holding(store, "a run", pace=Pace(beat=1000, expiry=0.01)):
        grow(store, task)


def read_all(url: str, out: FilePath) -> None:
    """Everything that the program reads; a UserError ends one question, not the others."""
    questions: list[Callable[[Store], object]] = [
        lambda store: store.tasks(),
        lambda store: store.root(),
        read_paths,
        lambda store: store.pool(),
        lambda store: [store.candidates(segment.key) for run in store.runs() for segment in run.segments],
        lambda store: (store.events(), store.evaluations(), store.baselines()),
        metrics,
        lambda store: [leakage(store, path) for path in store.pool().paths],
        lambda store: verify(store, forward, everything=True),
        digest,
        lambda store: export_task(store, "a", out / "task"),
        lambda store: export_system(store, out / "whole"),
        read_lineage,
        lambda store: (efforts(store), store.tallies(), store.last_failures(5), store.training_seconds(), pulse(store)),
        lambda store: (keys.load(store), store.holder(), versions(store, "a")),
        lambda store: children(store, [segment for run in store.runs() for segment in run.segments]),
        lambda store: gc(store, dry_run=True),
        imported,
        lambda store: (remove(store, "a"), undo(store, "a")),
        gc,
        lambda store: leased(store, "a"),
        lambda store: grow(store, "a"),
    ]
    try:
        store = Store.open(url, busy_seconds=0.1)
    except UserError:
        return
    with store:
        for question in questions:
            with suppress(UserError):
                question(store)


DAMAGE = st.one_of(
    st.tuples(st.just("flip"), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1)),
    st.tuples(st.just("cut"), st.floats(0, 1)),
    st.tuples(st.just("zero"), st.tuples(st.floats(0, 1), st.integers(1, 3000))),
    st.tuples(st.just("insert"), st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=50))),
)


def damage(data: bytes, how: str, what: object) -> bytes:
    changed, length = bytearray(data), len(data)
    match how, what:
        case "flip", list(flips):
            for at, by in flips:
                changed[int(at * length)] ^= by
        case "cut", float(at):
            del changed[int(at * length) :]
        case "zero", (at, count):
            start = int(at * length)
            changed[start : start + count] = bytes(len(changed[start : start + count]))
        case "insert", (at, some):
            changed[int(at * length) : int(at * length)] = some
        case _:
            raise AssertionError(how)
    return bytes(changed)


def check_damaged(directory: FilePath, data: bytes) -> None:
    (directory / "mutant.db").write_bytes(data)
    for beside in ("mutant.db-wal", "mutant.db-shm"):
        (directory / beside).unlink(missing_ok=True)
    read_all(str(directory / "mutant.db"), directory / "out")


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_a_damaged_file_is_told(
    tmp_path_factory: pytest.TempPathFactory, good: FilePath, pytestconfig: pytest.Config
) -> None:
    points: int = pytestconfig.option.chaos_points

    @settings(max_examples=20 if points == 1 else 60 * points)
    @given(DAMAGE)
    def told(damaged: tuple[str, object]) -> None:
        check_damaged(tmp_path_factory.mktemp("damaged"), damage(good.read_bytes(), *damaged))

    told()


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory, good: FilePath) -> tuple[bytes, bytes]:
    """The file of the small system with another run in its log only, as a process that was killed leaves it."""
    directory = tmp_path_factory.mktemp("logged")
    shutil.copy(good, directory / "mutant.db")
    with Store.open(str(directory / "mutant.db")) as store:
        grow(store, "a")
        file, log = ((directory / name).read_bytes() for name in ("mutant.db", "mutant.db-wal"))
    assert file == good.read_bytes()
    return file, log


WAL_HEADER, FRAME_HEADER = 32, 24
"""Bytes before the first frame of a write-ahead log, and before the page in each (sqlite.org/fileformat2.html, 4.1)."""


def sealed(log: bytes) -> bytes:
    """The log with the checksums that SQLite would have written: else it reads as far as the first wrong one only."""
    if len(log) < WAL_HEADER:
        return log
    order = ">" if log[3] & 1 else "<"
    size = int.from_bytes(log[8:12], "big")
    salt, sums, made = log[16:24], (0, 0), bytearray()
    sums = checksums(log[:24], sums, order)
    made += log[:24] + struct.pack(">2I", *sums)
    for at in range(WAL_HEADER, len(log) - FRAME_HEADER - size + 1, FRAME_HEADER + size) if size else ():
        head, page = log[at : at + 8], log[at + FRAME_HEADER : at + FRAME_HEADER + size]
        sums = checksums(page, checksums(head, sums, order), order)
        made += head + salt + struct.pack(">2I", *sums) + page
    return bytes(made)


def checksums(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = sums
    for even, odd in struct.iter_unpack(f"{order}2I", data[: len(data) // 8 * 8]):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


def check_damaged_log(directory: FilePath, file: bytes, log: bytes) -> None:
    """A file with a log beside it, and without the index of the log, which is made anew from it."""
    (directory / "mutant.db").write_bytes(file)
    (directory / "mutant.db-wal").write_bytes(log)
    read_all(str(directory / "mutant.db"), directory / "out")


def test_a_log_is_sealed_as_sqlite_does_it(tmp_path: FilePath, logged: tuple[bytes, bytes]) -> None:
    file, log = logged
    assert sealed(log) == log
    (tmp_path / "mutant.db").write_bytes(file)
    (tmp_path / "mutant.db-wal").write_bytes(log)
    with Store.open(str(tmp_path / "mutant.db")) as store:
        assert len(store.runs()) == 3


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_a_damaged_log_is_told(
    tmp_path_factory: pytest.TempPathFactory, logged: tuple[bytes, bytes], pytestconfig: pytest.Config
) -> None:
    """As it is, which ends the log at the damage, and with checksums that fit, so that the damage is read."""
    points: int = pytestconfig.option.chaos_points
    file, log = logged

    @settings(max_examples=8 if points == 1 else 20 * points)
    @given(damaged=DAMAGE, fits=st.booleans(), both=st.booleans())
    def told(damaged: tuple[str, object], fits: bool, both: bool) -> None:
        changed = damage(log, *damaged)
        beside = damage(file, *damaged) if both else file
        check_damaged_log(tmp_path_factory.mktemp("log"), beside, sealed(changed) if fits else changed)

    told()


VALUES = st.one_of(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=4) | st.booleans(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    ).map(json.dumps),
    st.text(max_size=10),
    st.binary(max_size=10),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
)
COLUMNS = [f"{table.name}.{column.name}" for table in Base.metadata.sorted_tables for column in table.columns]


def check_changed(directory: FilePath, good: FilePath, column: str, value: object) -> None:
    (directory / "mutant.db").write_bytes(good.read_bytes())
    table, name = column.split(".")
    with closing(sqlite3.connect(directory / "mutant.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        with suppress(sqlite3.Error):
            connection.execute(f'UPDATE "{table}" SET "{name}" = ?', (value,))
    read_all(str(directory / "mutant.db"), directory / "out")


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_a_column_of_other_values_is_told(
    tmp_path_factory: pytest.TempPathFactory, good: FilePath, pytestconfig: pytest.Config
) -> None:
    points: int = pytestconfig.option.chaos_points

    @settings(max_examples=10 if points == 1 else 30 * points)
    @given(column=st.sampled_from(COLUMNS), value=VALUES)
    def told(column: str, value: object) -> None:
        check_changed(tmp_path_factory.mktemp("changed"), good, column, value)

    told()


def test_a_root_that_is_no_key_is_told(tmp_path: FilePath, good: FilePath) -> None:
    check_changed(tmp_path, good, "system.root_key", b"")


def test_parts_in_one_slot_are_told(tmp_path: FilePath, good: FilePath) -> None:
    check_changed(tmp_path, good, "path_parts.slot", "")


def test_a_number_in_place_of_weights_allocates_nothing(tmp_path: FilePath, good: FilePath) -> None:
    for number in (2**62, 10**12, -1):
        check_changed(tmp_path, good, "weights.data", number)
