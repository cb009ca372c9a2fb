"""Processes of a real run that tests kill: the controller, its workers, the database's server."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from growing import begin, small_store
from postgres_server import Server

from mutant.search.config import Settings
from mutant.storage.store import Store
from mutant.tasks.errors import UserError
from mutant.tasks.load import LoadedTask

SETTINGS = Settings(
    children=10,
    generation_size=2,
    validations=2,
    examples_per_validation=64,
    batch=16,
    reach=1,
    mutation_probability=0.1,
)
REPOSITORY = Path(__file__).resolve().parents[1]


def begun(url: str, tasks: Mapping[str, LoadedTask], settings: Settings = SETTINGS) -> None:
    """A system whose run over `tasks` has begun, with nothing trained."""
    with small_store(url) as store:
        begin(store, tuple(tasks), settings, new=[task.task for task in tasks.values()])


HASTY = """
import functools, sys
from mutant.cli.main import main
from mutant.search import growth
from mutant.storage.holding import Pace
expiry = float(sys.argv.pop(1))
growth.holding = functools.partial(growth.holding, pace=Pace(beat=expiry / 15, expiry=expiry))
main()
"""
"""The program with another pace of its lease, in the same proportion: at its own a test would wait half a minute."""


@dataclass
class Controller:
    """`mutant resume` in a process group of its own; `lines` is what it said.

    `expiry`: seconds after which it takes the place of a silent holder, and in proportion those between its own beats.
    """

    url: str
    count: int
    expiry: float | None = None
    lines: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        program = ["-m", "mutant.cli.main"] if self.expiry is None else ["-c", HASTY, str(self.expiry)]
        command = [sys.executable, *program, "resume", "--db", self.url, "--workers", str(self.count)]
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as said:
            for line in said:
                self.lines.append(line.rstrip())

    def running(self) -> bool:
        return self.process.poll() is None

    def wait_for(self, what: Callable[[], bool], seconds: float = 60) -> bool:
        """Wait until `what` is so or the process has ended; whether `what` is so."""
        end = time.monotonic() + seconds
        while self.running() and not what():
            assert time.monotonic() < end, self.lines
            time.sleep(0.01)
        return what()

    def finish(self, seconds: float = 240) -> int:
        code = self.process.wait(seconds)
        self._reader.join(10)
        return code

    @property
    def generations(self) -> int:
        """How many it said were finished."""
        return sum("  generation" in line for line in self.lines)

    @property
    def workers(self) -> list[int]:
        """The Ray workers that have been given something to do."""
        return [pid for pid in descendants(self.process.pid) if command(pid).startswith("ray::Worker")]


@contextmanager
def controller(url: str, workers: int, *, expiry: float | None = None) -> Iterator[Controller]:
    """A controller that does not outlive the block, nor does any process that it started."""
    started = Controller(url, workers, expiry)
    try:
        yield started
    finally:
        family = [*descendants(started.process.pid), started.process.pid]
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        started.finish()


def descendants(pid: int) -> list[int]:
    """Processes that `pid` started, and those that they started, from /proc."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = list[int](), [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def alive(pids: list[int]) -> list[int]:
    """Those of `pids` that still run; what is dead and not yet collected does not."""
    running = list[int]()
    for pid in pids:
        with suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                running.append(pid)
    return running


Strike = Callable[[Controller, random.Random], int]
"""Does harm to a running controller, at random moments; the controller may end by it or go on. How often it struck."""


def random_moment(victim: Controller, rng: random.Random) -> None:
    """Let it come to a random moment of its start, its work or its end."""
    if rng.random() < 0.8:
        victim.wait_for(lambda: any("Segment" in line for line in victim.lines))
    time.sleep(rng.uniform(0, 1.5))


def kill_controller(victim: Controller, rng: random.Random) -> int:
    """No process that it or Ray started may outlive it."""
    random_moment(victim, rng)
    family = descendants(victim.process.pid)
    victim.process.kill()
    victim.finish()
    wait_for_the_end(family, 30)
    return 1


def wait_for_the_end(pids: list[int], seconds: float) -> None:
    end = time.monotonic() + seconds
    while alive(pids):
        assert time.monotonic() < end, [command(pid) for pid in alive(pids)]
        time.sleep(0.1)


def kill_worker(victim: Controller, rng: random.Random) -> int:
    """One in every other generation: a child that lost two workers has failed, which is another result."""
    strikes = 0
    while victim.wait_for(lambda: bool(victim.workers)):
        time.sleep(rng.uniform(0, 0.4))
        workers = victim.workers
        if not workers:  # they end with the run, or are being started again
            continue
        with suppress(ProcessLookupError):
            os.kill(rng.choice(workers), signal.SIGKILL)
            strikes += 1
        later = victim.generations + 2
        victim.wait_for(lambda: victim.generations >= later)  # noqa: B023
    return strikes


def stop_server(server: Server) -> Strike:
    """The database's server, and it is there again before the next try."""

    def strike(victim: Controller, rng: random.Random) -> int:
        random_moment(victim, rng)
        server.kill()
        try:
            victim.finish()
        finally:
            server.start()
        return 1

    return strike


def interrupt(victim: Controller, rng: random.Random) -> int:
    """SIGTERM, Ctrl-C, or Ctrl-C twice: it must end in order, with the code that a shell expects."""
    victim.wait_for(lambda: any("Segment" in line for line in victim.lines))
    time.sleep(rng.uniform(0, 1.0))
    number, times = rng.choice([(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGINT, 2)])
    for _ in range(times):
        victim.process.send_signal(number)
        time.sleep(rng.uniform(0, 0.3))
    code = victim.finish()
    assert code in (0, 128 + number), (code, victim.lines)
    assert not any("Traceback" in line for line in victim.lines), victim.lines
    return 1


def stand_still(victim: Controller) -> None:
    """Stop the process between two transactions: within one it would keep the database locked for others."""
    end = time.monotonic() + 60
    while True:
        victim.process.send_signal(signal.SIGSTOP)
        with suppress(UserError), Store.open(victim.url, busy_seconds=0.2) as store, store.writing():
            return
        assert victim.running(), victim.lines
        assert time.monotonic() < end
        victim.process.send_signal(signal.SIGCONT)
        time.sleep(0.05)


def fall_asleep(victim: Controller, rng: random.Random) -> int:
    """The machine sleeps for a moment: everything stands still, and goes on where it was."""
    victim.wait_for(lambda: any("Segment" in line for line in victim.lines))
    time.sleep(rng.uniform(0, 1.0))
    family = [*descendants(victim.process.pid), victim.process.pid]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if number == signal.SIGSTOP:
            time.sleep(rng.uniform(0.5, 2.0))
    return 1


KNOWN_ENDS = (-signal.SIGKILL, 2, 130, 143)
"""Killed, a database that could not be reached, stopped."""


THROUGH = "every run is finished"
"""What `resume` says when the one before was killed after its last transaction."""


def struck(url: str, workers: int, strike: Strike, points: int, rng: random.Random) -> int:
    """Work off the run of the system at `url`, struck until there were `points` strikes; how many there were."""
    strikes, code = 0, 1
    while strikes < points and code:
        with controller(url, workers) as victim:
            strikes += strike(victim, rng)
            code = victim.finish()
        assert code in (0, *KNOWN_ENDS), (code, victim.lines)
        if any(THROUGH in line for line in victim.lines):
            return strikes
    if code:
        with controller(url, workers) as last:
            assert last.finish() == 0 or any(THROUGH in line for line in last.lines), last.lines
    return strikes
