"""`mutant status --watch`: from another process than the controller's, on a terminal, in a pipe and as JSON."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path as FilePath
from typing import Any

import pytest
from cli_calls import refused
from growing import grown, small_tasks
from rich.console import Console
from storage_samples import new_store, planned, trained

from mutant.cli.live import live_facts, picture
from mutant.search.progress import ChildFinished
from mutant.spans import Account, Seat, Span
from mutant.storage.holding import holding
from mutant.storage.records import now
from mutant.storage.store import Store
from mutant.storage.worked import Working

HERE = Seat("far-away", 12, "gpu A100")


@pytest.fixture
def run(tmp_path: FilePath) -> Iterator[tuple[Store, Callable[[int], None]]]:
    """A system at work: child 0 ended, child 1 is being trained, child 2 waits; and what ends a child."""
    with new_store(tmp_path, "a") as store, holding(store, "a test"):
        key = store.begin_run({"children": 3}, ["a"]).segments[0].key
        plans = [planned("a", store.root(), child) for child in range(3)]
        store.plan_generation(key, 0, plans)
        attempts = dict[int, int]()

        def begin(child: int) -> None:
            attempts[child] = store.lease_candidate(key, 0, child, f"worker {child % 2}", HERE if child == 0 else None)

        def end(child: int) -> None:
            outcome = trained(plans[child], store.root(), quality=0.75)
            account = Account(HERE, (Span("train", time.time(), 1.0),), 30, 10, 4096)
            outcome = replace(outcome, cost=replace(outcome.cost, device_seconds=0.001), account=account)
            store.commit_outcome(key, 0, child, outcome, attempt=attempts[child])

        begin(0)
        end(0)
        begin(1)
        yield store, end


def test_what_every_worker_does_is_in_the_database(run: tuple[Store, Callable[[int], None]]) -> None:
    store, _ = run
    found = live_facts(store)
    assert found["candidates"] == {"DONE": 1, "QUEUED": 1, "RUNNING": 1}
    assert (found["run"], found["state"]) == (1, "open")
    assert found["at_work"]["purpose"] == "a test"
    first, second = found["workers"]
    assert (first["host"], first["pid"], first["device"]) == ("far-away", 12, "gpu A100")
    assert (first["running"], first["done"], first["cache_hits"]) == (None, 1, 0.75)
    assert 0 < first["utilisation"] <= 1
    assert (second["host"], second["running"], second["done"]) == (None, "a 0.1", 0)
    assert second["utilisation"] is None
    assert second["running_seconds"] >= 0


def test_utilisation_is_device_time_over_the_time_before_the_present_child() -> None:
    start = now()
    worker = Working("w", start, None, 2, 0, 6.0, 0, 0)
    assert worker.utilisation(start + timedelta(seconds=8)) == 0.75
    busy = replace(worker, running_since=start + timedelta(seconds=10))
    assert busy.utilisation(start + timedelta(hours=1)) == 0.6
    assert replace(worker, done=0).utilisation(start + timedelta(seconds=8)) is None


def test_a_terminal_shows_the_busy_workers_first_and_as_many_as_it_has_room_for(
    run: tuple[Store, Callable[[int], None]],
) -> None:
    found = live_facts(run[0])
    many = [found["workers"][0] | {"worker": f"idle {number}"} for number in range(30)]
    shown = Console(width=120, height=40, file=io.StringIO())
    with shown.capture() as captured:
        shown.print(picture(found | {"workers": [*many, found["workers"][1]]}, 15))
    text = captured.get()
    assert "1 done, 1 queued, 1 running" in text
    assert text.index("a 0.1") < text.index("idle 0")
    assert "and 27 more workers" in text


@contextmanager
def watching(db: FilePath, *options: str, out: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable,
        "-m",
        "mutant.cli.main",
        "status",
        "--watch",
        "--every",
        "0.1",
        "--db",
        str(db),
        *options,
    ]
    process = subprocess.Popen([*command, *options], stdout=out, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_with(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return line
    raise AssertionError(f"no line with {words!r}: {process.stderr and process.stderr.read()}")


@pytest.mark.slow
def test_a_pipe_gets_a_line_per_change_and_ctrl_c_ends_it(
    run: tuple[Store, Callable[[int], None]], tmp_path: FilePath
) -> None:
    with watching(tmp_path / "mutant.db") as process:
        line_with(process, "worker 1: trains a 0.1, 0 children before")
        run[1](1)
        assert "2 done, 1 queued" in line_with(process, "children: 2 done")
        line_with(process, "worker 1: trains nothing, 1 child before")
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
        assert (process.returncode, rest, errors) == (0, "", "")


@pytest.mark.slow
def test_json_is_a_document_per_look_and_sigterm_ends_it(
    run: tuple[Store, Callable[[int], None]], tmp_path: FilePath
) -> None:
    with watching(tmp_path / "mutant.db", "--json") as process:
        assert process.stdout is not None
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
        assert first["at"] < second["at"]
        assert first["candidates"] == second["candidates"] == {"DONE": 1, "QUEUED": 1, "RUNNING": 1}
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 143
        assert "Traceback" not in errors


@pytest.mark.slow
def test_a_reader_that_goes_ends_it_quietly(run: tuple[Store, Callable[[int], None]], tmp_path: FilePath) -> None:
    with watching(tmp_path / "mutant.db", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) == 0


@pytest.mark.slow
def test_a_terminal_is_left_in_order(run: tuple[Store, Callable[[int], None]], tmp_path: FilePath) -> None:
    ours, theirs = pty.openpty()
    with watching(tmp_path / "mutant.db", out=theirs) as process:
        os.close(theirs)
        seen = b""
        while b"a 0.1" not in seen:
            seen += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        while True:
            try:
                seen += os.read(ours, 4096)
            except OSError:
                break
        assert process.wait(30) == 0
    os.close(ours)
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l"), "the cursor is there again"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_run_is_seen_from_another_process(tmp_path: FilePath) -> None:
    seen = list[dict[str, Any]]()
    with watching(tmp_path / "m.db", "--json") as early:
        assert early.wait(200) == 2, "there is no database yet"

    def look(event: object) -> None:
        if isinstance(event, ChildFinished) and not seen:
            with watching(tmp_path / "m.db", "--json") as process:
                assert process.stdout is not None
                seen.append(json.loads(process.stdout.readline()))

    with grown(tmp_path / "m.db", small_tasks(tmp_path), listener=look):
        pass
    (worker,) = seen[0]["workers"]
    assert (worker["worker"], worker["pid"], worker["device"]) == ("this process", os.getpid(), "cpu")
    assert worker["done"] == 1
    assert seen[0]["candidates"]["DONE"] == 1


def test_times_between_looks_are_checked(tmp_path: FilePath) -> None:
    new_store(tmp_path).close()
    assert "--every" in refused("status", "--watch", "--every", "0", "--db", tmp_path / "mutant.db")
