"""Ten readers during a run: no lock error, and whatever is read is one state of the database."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path as FilePath

import pytest
import reading
from cli_calls import done
from growing import digits_file
from reading import THREADS
from storage_samples import new_store

from mutant.storage.store import Store

PROCESSES = 5
READERS = PROCESSES * THREADS
READING = reading.__file__
HERE = {**os.environ, "MUTANT_TRACEBACK": "1", "PYTHONPATH": str(FilePath(__file__).resolve().parents[1])}


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
@pytest.mark.timeout(600)
def test_ten_readers_during_a_run(tmp_path: FilePath, new_database: Callable[[], str]) -> None:
    url = new_database()
    done("init", "--root", "random:vit-ti16", "--blocks", 1, "--image-size", 16, "--db", url)
    files = [f"arrays:{digits_file(tmp_path, classes)}" for classes in ((0, 1), (2, 3), (4, 5))]
    budget = ("--children", "6", "--generation-size", "2", "--validations", "1", "--examples-per-validation", "64")
    quick = (*budget, "--reach", "0", "--mutation-probability", "0.02", "--workers", "1", "--no-baseline")
    readers = [started(url) for _ in range(PROCESSES)]
    try:
        assert [line_of(reader) for reader in readers] == ["reading"] * PROCESSES
        added = run_add(*files, *quick, "--db", url)
        assert added.returncode == 0, added.stderr
        told = [reader.communicate(timeout=120) for reader in readers]
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate()
    assert [err for _, err in told] == [""] * PROCESSES
    found = [reader for out, _ in told for reader in json.loads(out)]
    assert len(found) == READERS
    assert [error for reader in found for error in reader["errors"]] == []
    assert all(reader["seen"] for reader in found)
    assert sum(len(reader["seen"]) for reader in found) >= 3 * READERS
    for reader in found:
        sizes = [len(seen) for seen in reader["seen"]]
        assert sizes == sorted(sizes)  # time does not run backwards
        for before, after in zip(reader["seen"], reader["seen"][1:], strict=False):
            assert before.items() <= after.items()
    assert done("verify", "--db", url).code == 0


def started(url: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, READING, url], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=HERE)


def line_of(reader: subprocess.Popen[str]) -> str:
    """The next line that it says; "" when it has ended."""
    assert reader.stdout is not None
    return reader.stdout.readline().rstrip()


def run_add(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mutant.cli.main", "add", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, env=HERE)
