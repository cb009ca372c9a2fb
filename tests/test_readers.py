"""Ten readers during a run: no lock error, and whatever is read is one state of the database."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Any

import pytest
from cli_calls import done
from growing import digits_file
from storage_samples import new_store

from mutant.search.metrics import metrics
from mutant.storage.digest import digest
from mutant.storage.store import Store

READERS = 10
CHILD = "from mutant.cli.main import main; main()"


def look(store: Store) -> Mapping[str, Any]:
    """What status, list, show, report and predict ask the database for; checks that the answers belong together."""
    pool, runs = store.pool(), store.runs()
    winners = {s.task: s.winner for run in runs for s in run.segments if s.winner is not None}
    for path in pool.paths:
        assert path.task is not None
        ancestors = store.ancestors(path.id)
        assert ancestors[0] == path
        assert ancestors[-1].task is None
        components = store.components(part.digest for part in path.parts)
        assert {c.digest for c in components.values()} == {part.digest for part in path.parts}
        golden = store.golden(path.id)
        assert golden is not None  # written with the segment's end, or not at all
        assert golden.logits.shape[1] == len(store.task(path.task).class_names)
    for run in runs:
        for segment in run.segments:
            for record in store.candidates(segment.key):
                assert (record.state == "DONE") == (record.path is not None)
    found = metrics(store)
    assert len(found.matrix.steps) >= len(winners)
    return {path.task or "": path.id for path in pool.paths}


class Reader(threading.Thread):
    """Opens the database anew for each look, until told to stop."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        super().__init__()
        self._url, self._stop_event = url, stop
        self.looks, self.digests = 0, 0
        self.seen: list[Mapping[str, Any]] = []
        self.errors: list[str] = []

    def run(self) -> None:
        while not self._stop_event.is_set():
            try:
                with Store.open(self._url, read_only=True) as store:
                    self.seen.append(look(store))
                    digest(store)
                self.looks += 1
            except Exception as error:  # the test tells them all
                self.errors.append(f"{type(error).__name__}: {error}")
            time.sleep(0.02)


WRITE = """
import sys
from mutant.storage.store import Store
with Store.open(sys.argv[1]) as store:
    store.record_event(None, "written", {})
"""


def test_a_store_that_is_opened_beside_another_leaves_its_lock_alone(tmp_path: FilePath) -> None:
    """Else the writer of another process, closing last as it believes, deletes the log that the first one reads."""
    with new_store(tmp_path, "a"):
        url, log = str(tmp_path / "mutant.db"), tmp_path / "mutant.db-wal"
        with Store.open(url, read_only=True) as first:
            assert first.events() == ()
            before = log.stat().st_ino
            for read_only in (True, False):
                Store.open(url, read_only=read_only).close()
            subprocess.run([sys.executable, "-c", WRITE, url], check=True, timeout=60)
            assert log.stat().st_ino == before
            assert [event.kind for event in first.events()] == ["written"]


@pytest.mark.slow
def test_ten_readers_during_a_run(tmp_path: FilePath, new_database: Callable[[], str]) -> None:
    url = new_database()
    done("init", "--root", "random:vit-ti16", "--blocks", 1, "--image-size", 16, "--db", url)
    files = [f"arrays:{digits_file(tmp_path, classes)}" for classes in ((0, 1), (2, 3), (4, 5))]
    budget = ("--children", "6", "--generation-size", "2", "--validations", "1", "--examples-per-validation", "64")
    quick = (*budget, "--reach", "0", "--mutation-probability", "0.02", "--workers", "1", "--no-baseline")
    stop = threading.Event()
    readers = [Reader(url, stop) for _ in range(READERS)]
    added = subprocess.Popen(
        [sys.executable, "-c", CHILD, "add", *files, *quick, "--db", url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MUTANT_TRACEBACK": "1"},
    )
    try:
        for reader in readers:
            reader.start()
        _, told = added.communicate(timeout=100)
    finally:
        added.kill()
        stop.set()
        for reader in readers:
            reader.join()
    assert added.returncode == 0, told
    assert [error for reader in readers for error in reader.errors] == []
    assert all(reader.looks for reader in readers)
    assert sum(reader.looks for reader in readers) >= 3 * READERS
    for reader in readers:
        sizes = [len(seen) for seen in reader.seen]
        assert sizes == sorted(sizes)  # time does not run backwards
        for before, after in zip(reader.seen, reader.seen[1:], strict=False):
            assert before.items() <= after.items()
    assert done("verify", "--db", url).code == 0
