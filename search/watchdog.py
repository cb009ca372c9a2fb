"""Ends what a killed controller would leave behind: a small process that waits for the controller's end.

Ray's own processes notice only by timeouts of up to two minutes that the program which started them was killed
(`RAY_gcs_rpc_server_reconnect_timeout_s` and others), and one that is just starting ends last. Shorter timeouts would
also end them on a machine that sleeps. The watchdog holds the end of a pipe whose other end the controller holds: the
kernel closes that one with the controller, however it ends, and at no other time.

This file is also the program of that process, run by its path, so it imports nothing but the standard library.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

PROCESSES = Path("/proc")
"""Where the system tells what runs. Elsewhere than on Linux there is none, and Ray's timeouts must do."""
LONGEST_PARENT = 23
"""Bytes: Ray's sockets lie 84 below it, and a socket's name has 107 at most."""
PREFIX = "mutant-ray-"
END_SECONDS = 10.0


class Watchdog:
    """Watches over a directory of its own, `place`, and all programs that were started to work in it.

    When this process ends, or calls `end`, they are killed and the directory is removed.
    """

    def __init__(self) -> None:
        self.place = _new_place()
        # A session of its own, so that Ctrl-C at the terminal does not reach it.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", os.fspath(Path(__file__).resolve()), self.place],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def end(self) -> None:
        """Let it end what is left, and wait until it has."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS + 5)


def _new_place() -> str:
    """A new directory where Ray would make its own, or in /tmp when that is too deep for sockets."""
    parent = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return tempfile.mkdtemp(prefix=PREFIX, dir=parent if len(os.fsencode(parent)) <= LONGEST_PARENT else "/tmp")


def watch(place: str) -> None:
    """Wait until the pipe at standard input is closed or the parent is gone; then clear `place`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()
    while os.getppid() == parent and not select.select([0], [], [], 1.0)[0]:
        pass  # the parent is asked for as well, for a fork of it could hold the pipe open
    end = time.monotonic() + END_SECONDS
    quiet = 0
    while quiet < 2 and time.monotonic() < end:
        found = inhabitants(place)
        for pid in found:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        quiet = 0 if found else quiet + 1
        time.sleep(0.1)
    shutil.rmtree(place, ignore_errors=True)


def inhabitants(place: str) -> list[int]:
    """The processes, but this one, whose command names `place` or whose output (`.out`, `.err`) goes to a file in it.

    All that Ray starts does, from the start, for it inherits that. The controller and its forks only keep logs there.
    """
    found = list[int]()
    for entry in PROCESSES.iterdir() if PROCESSES.is_dir() else ():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if _lives_in(entry, place):
                    found.append(int(entry.name))
    return found


def _lives_in(process: Path, place: str) -> bool:
    if (process / "stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z":
        return False  # dead already
    if os.fsencode(place) in (process / "cmdline").read_bytes():
        return True
    opened = (link.readlink() for link in (process / "fd").iterdir())
    return any(file.suffix in (".out", ".err") and file.is_relative_to(place) for file in opened)


if __name__ == "__main__":
    watch(sys.argv[1])
