"""Where the log of `mutant serve --replicas` goes: on this machine to the command's own standard error, on a cluster to
files among Ray's logs of each machine."""

import logging
import os
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path

FILES = "mutant-serve-{}.log"
"""By process id."""
_MOST_BYTES, _OLDER_FILES = 64 * 2**20, 4
_PIPE = "replicas.log"


@contextmanager
def heard(place: str) -> Generator[Path]:
    """A pipe with a name, in a directory of this machine: what processes write to it goes to standard error, by lines.

    It ends with the block, when they have."""
    pipe = Path(place) / _PIPE
    os.mkfifo(pipe, 0o600)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    # A writer of our own: without one, the pipe would end with the last replica, also when another is to come.
    writing = os.open(pipe, os.O_WRONLY)
    os.set_blocking(reading, True)
    # A daemon: a process that outlives its end would hold the pipe open.
    listener = threading.Thread(target=_pass_on, args=(reading,), name="replica-logs", daemon=True)
    listener.start()
    try:
        yield pipe
    finally:
        os.close(writing)
        listener.join(5.0)


def _pass_on(reading: int) -> None:
    told = True
    with open(reading, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                if told:
                    sys.stderr.write(line)
                    sys.stderr.flush()
            except (OSError, ValueError):
                told = False  # nobody hears; but the pipe is read on, or the replicas would wait


def handler(pipe: Path | None, directory: Path) -> logging.Handler:
    """What a replica logs by: to the pipe of its machine, else to a file of its own in `directory`."""
    if pipe is not None:
        return logging.StreamHandler(pipe.open("w", encoding="utf-8"))
    file = directory / FILES.format(os.getpid())
    return RotatingFileHandler(file, maxBytes=_MOST_BYTES, backupCount=_OLDER_FILES, encoding="utf-8")
