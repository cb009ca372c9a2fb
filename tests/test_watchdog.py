"""The watchdog ends what its controller left, however the controller ended, and nothing else."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mutant.search.watchdog import LONGEST_PARENT, PROCESSES, Watchdog

pytestmark = pytest.mark.skipif(not PROCESSES.is_dir(), reason="needs /proc")

CONTROLLER = """
import subprocess, sys, time
from mutant.search.watchdog import Watchdog
watchdog = Watchdog()
with open(f"{watchdog.place}/a.out", "w") as out:
    worker = subprocess.Popen(["sleep", "60"], stdout=out)
outsider = subprocess.Popen(["sleep", "60"])
print(watchdog.place, worker.pid, outsider.pid, flush=True)
"""


class Family:
    """A controller, a worker whose output lies in the watched place, and a process that has nothing to do with it."""

    def __init__(self, ending: str = "time.sleep(60)") -> None:
        command = [sys.executable, "-c", CONTROLLER + ending]
        self.controller = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.controller.stdout is not None
        place, *pids = self.controller.stdout.readline().split()
        self.place, (self.worker, self.outsider) = Path(place), map(int, pids)

    def close(self) -> None:
        assert self.controller.stdout is not None
        self.controller.kill()
        self.controller.wait()
        self.controller.stdout.close()
        for pid in (self.worker, self.outsider):
            if runs(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def started() -> Iterator[Callable[..., Family]]:
    families: list[Family] = []

    def start(*ending: str) -> Family:
        families.append(Family(*ending))
        return families[-1]

    yield start
    for family in families:
        family.close()


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def soon(what: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.02)
    return what()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_controller_leaves_no_worker_and_no_file(started: Callable[..., Family], number: int) -> None:
    family = started()
    assert runs(family.worker)
    family.controller.send_signal(number)
    assert soon(lambda: not runs(family.worker) and not family.place.exists())
    assert runs(family.outsider)


def test_the_end_of_a_program_that_never_closed_is_an_end_too(started: Callable[..., Family]) -> None:
    family = started("watchdog._process.returncode = 0")  # Python itself would warn that a process is still there
    assert soon(lambda: not runs(family.worker) and not family.place.exists())


def test_a_fork_that_holds_the_pipe_does_not_keep_the_workers_alive(started: Callable[..., Family]) -> None:
    family = started("import os\nif os.fork() == 0: time.sleep(30); os._exit(0)\ntime.sleep(60)")
    time.sleep(0.5)
    family.controller.kill()
    assert soon(lambda: not runs(family.worker), 20.0)


def test_a_controller_that_stands_still_keeps_its_workers(started: Callable[..., Family]) -> None:
    family = started()
    family.controller.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    assert runs(family.worker)
    assert family.place.exists()
    family.controller.send_signal(signal.SIGCONT)


def test_an_orderly_end_ends_the_workers_and_not_the_controller() -> None:
    watchdog = Watchdog()
    place = Path(watchdog.place)
    with (place / "driver.log").open("w"), (place / "w.err").open("w") as err:
        worker = subprocess.Popen(["sleep", "60"], stderr=err)
        # The controller holds a log in the place, as a driver of Ray does, but no output.
        err.close()
        watchdog.end()
    assert worker.wait(10) == -signal.SIGKILL
    assert not place.exists()


def test_the_place_is_short_enough_for_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * LONGEST_PARENT)
    deep.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(deep))
    watchdog = Watchdog()
    try:
        assert len(watchdog.place) + len("/session_2026-11-25_00-25-41_867769_4194304/sockets/plasma_store") <= 107
    finally:
        watchdog.end()
