"""Prometheus metrics of a run, asked for over HTTP while it goes on."""

import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path as FilePath

import pytest
from cli_calls import QUICK, call, done, refused, write_folder
from growing import grown, small_tasks
from prometheus_client.parser import text_string_to_metric_families

from mutant.outcome import Cost, Failed
from mutant.search.meters import Meters, served
from mutant.search.progress import ChildBegun, ChildFinished, Progress, SegmentFinished, SegmentStarted
from mutant.search.workers import Crew
from mutant.spans import Account, Seat
from mutant.storage.store import Store
from mutant.tasks.errors import UserError

Samples = dict[tuple[str, tuple[str, ...]], float]


def scraped(url: str) -> Samples:
    """Every sample by its name and the values of its labels, in the order of their names."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    return {
        (s.name, tuple(value for _, value in sorted(s.labels.items()))): s.value
        for family in families
        for s in family.samples
    }


def test_what_the_loop_tells_is_counted() -> None:
    meters = Meters()
    failed = Failed(
        "c", "not finite", "", Cost(2.0, 10, 5.0, 1.0, 0.5, 0.25, 3), Account(Seat("h", 1, "cpu"), (), 7, 2, 99)
    )
    meters.told(Crew(3, "as asked"))
    with served(meters, 0) as url:
        for event in (SegmentStarted("a", 0, 1, 5, 1), ChildBegun("a", 0, 1, "w"), ChildBegun("a", 0, 2, "v"),
                      ChildBegun("a", 0, 1, "v"), ChildFinished("a", 0, 1, failed, 2, 0.004)):  # fmt: skip
            meters.heard(event)
        found = scraped(url)
        assert found["mutant_run_children_total", ("not finite", "a")] == 1
        assert found["mutant_run_children_running", ()] == 1
        assert found["mutant_run_children_waiting", ()] == 2
        assert found["mutant_run_workers", ()] == 3
        totals = {"worker_seconds": 2.0, "device_seconds": 1.0, "wait_seconds": 0.5, "compile_seconds": 0.25,
                  "compilations": 3, "flops": 5.0}  # fmt: skip
        assert {name: found[f"mutant_run_{name}_total", ("a",)] for name in totals} == totals
        assert found["mutant_run_activation_rows_total", ("reused",)] == 7
        assert found["mutant_run_activation_rows_total", ("computed",)] == 2
        assert found["mutant_run_activation_bytes", ("h",)] == 99
        assert found["mutant_run_commit_seconds_sum", ()] == 0.004
        meters.heard(SegmentFinished("a", None))
        assert scraped(url)["mutant_run_children_waiting", ()] == 0
    with pytest.raises(OSError):  # noqa: PT011
        scraped(url)


def test_a_port_that_is_taken_is_an_error_for_people() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="--metrics-port 9101"), served(Meters(), taken.getsockname()[1]):
            pass
    with pytest.raises(UserError, match="cannot be served"), served(Meters(), 0, "203.0.113.7"):
        pass


def test_a_real_run_is_counted_while_it_goes_on(tmp_path: FilePath) -> None:
    meters, seen = Meters(), list[Samples]()
    with served(meters, 0) as url:

        def listener(event: Progress) -> None:
            meters.heard(event)
            if isinstance(event, ChildBegun | ChildFinished):
                seen.append(scraped(url))

        with grown(tmp_path / "m.db", small_tasks(tmp_path), listener=listener) as store:
            records = [r for s in store.runs()[0].segments for r in store.candidates(s.key)]
        last = scraped(url)
    assert seen[0]["mutant_run_children_running", ()] == 1
    assert seen[0]["mutant_run_children_waiting", ()] == 4
    assert [sum(v for (name, _), v in one.items() if name == "mutant_run_children_total") for one in seen] == [
        number for child in range(10) for number in (child, child + 1)
    ]
    assert last["mutant_run_flops_total", ("low",)] + last["mutant_run_flops_total", ("high",)] == pytest.approx(
        sum(record.cost.flops for record in records)
    )
    assert last["mutant_run_commit_seconds_count", ()] == 10
    assert last["mutant_run_commit_seconds_sum", ()] > 0
    assert last["mutant_run_activation_rows_total", ("reused",)] > 0
    assert 0 < last["mutant_run_best_score", ("low",)] <= last["mutant_run_best_quality", ("low",)] <= 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_command_serves_them_and_refuses_a_taken_port_before_anything_begins(tmp_path: FilePath) -> None:
    folder, db = write_folder(tmp_path / "data"), tmp_path / "m.db"
    done("init", "--root", "random:vit-ti16", "--blocks", "1", "--image-size", "16", "--db", db)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}" in refused("add", f"folder:{folder}", "--metrics-port", port, "--db", db)
    with Store.open(str(db), read_only=True) as store:
        assert store.runs() == ()
    words = ["add", f"folder:{folder}", *QUICK, "--workers", "1", "--metrics-port", "0", "--db", str(db)]
    command = [sys.executable, "-m", "mutant.cli.main", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        url = _first_url(process)
        children, end = 0.0, time.monotonic() + 200
        while children == 0 and time.monotonic() < end:
            try:
                children = sum(v for (name, _), v in scraped(url).items() if name == "mutant_run_children_total")
            except OSError:
                break
            time.sleep(0.05)
        process.communicate(timeout=200)
        assert process.returncode == 0
    assert children > 0
    assert "no metrics" in call("baseline", "--metrics-port", "0", "--db", db).err


def _first_url(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    for line in process.stderr:
        found = re.findall(r"Metrics at (\S+)", line)
        if found:
            return found[0]
    raise AssertionError("it did not say where its metrics are")
