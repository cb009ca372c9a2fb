"""How many workers a run gets: chosen by predicted cost, said, and settable."""

import os
import socket
from dataclasses import dataclass
from importlib.util import find_spec

from mutant.backend import accelerators
from mutant.search.prediction import FLOPS_PER_SECOND
from mutant.tasks.errors import UserError

RAY_START_SECONDS = 12.0
"""Time from nothing to two warm workers, measured on 2 cores (Ray 2.60)."""
MOST_WORKERS = 4_096


@dataclass(frozen=True)
class Crew:
    """A number of workers and why; None: as many as a cluster has free cores, while there is work for them."""

    workers: int | None
    reason: str


@dataclass(frozen=True)
class Gangs:
    """How many workers train a child together, and whether they divide its parameters among them."""

    size: int = 1
    sharded: bool = False


ALONE = Gangs()


@dataclass(frozen=True)
class Terms:
    """How a run uses Ray: on the cluster at `address` instead of this machine's own; after how many seconds without
    progress a worker is taken to hang (None: `heartbeat.patience`); the run's weight among those that take turns on the
    cluster, where it does (`share`); how many threads XLA has in each worker, with a core each (`threads`).
    """

    address: str | None = None
    patience: float | None = None
    share: float | None = None
    threads: int = 1


OWN_RAY = Terms()


def choose_workers(
    asked: str | int, predicted_flops: float, *, address: str | None = None, gang: int = 1, threads: int = 1
) -> Crew:
    """`auto` or a number: 1 trains in this process, more train on Ray with a core for each of their `threads`.

    `auto` takes a worker per accelerator; without any, one per so many cores when that saves more time than Ray takes
    to start; on a cluster, one per free accelerator or cores of the cluster as it grows and shrinks. For gangs it takes
    as many whole ones as there are places for, and at least one. Raises `UserError` for what is no number of workers,
    or fewer than a gang.
    """
    text = str(asked)
    if text != "auto":
        if not (text.isascii() and text.isdigit() and len(text) < 10) or not 1 <= int(text) <= MOST_WORKERS:
            raise UserError(f"--workers must be 'auto' or a number from 1 to {MOST_WORKERS}, not {text!r}.")
        if int(text) < gang:
            raise UserError(
                f"A gang of {gang} has no place among {text} {'worker' if int(text) == 1 else 'workers'}.",
                hint=f"Give it more: --workers {gang}",
            )
        return Crew(int(text), "as asked")
    if address is not None:
        each = "core" if threads == 1 else f"{threads} cores"
        return Crew(None, f"one for each free {each} of the cluster at {address}")
    devices = accelerators()
    if gang > 1:
        places = devices or cores() // threads
        return Crew(max(1, places // gang) * gang, f"on Ray, {gang} train a child together")
    if devices == 1:
        return Crew(1, "in this process, on its accelerator")
    if devices > 1 and ray_is_installed():
        return Crew(devices, "on Ray, one accelerator each")
    places, seconds = max(1, cores() // threads), predicted_flops / FLOPS_PER_SECOND
    saved = seconds - (seconds / places + RAY_START_SECONDS)
    if not ray_is_installed():
        return Crew(1, "in this process: Ray is not installed (the extra 'ray')")
    if places == 1 and threads > 1:
        return Crew(1, f"in this process, with {threads} threads: there are not twice as many cores")
    if places == 1 or saved <= 0:
        return Crew(1, f"in this process: about {seconds:.0f} s of training, not worth starting Ray")
    each = "one core" if threads == 1 else f"{threads} cores"
    return Crew(places, f"on Ray, {each} each: about {seconds:.0f} s of training on one core")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_address(address: str) -> None:
    """Raise `UserError` soon for a Ray address that nobody answers at; Ray itself would wait for minutes."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not (port.isascii() and port.isdigit()):
        raise UserError(f"{address!r} is no Ray address.", hint="Write HOST:PORT, ray://HOST:PORT or auto.")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"No Ray cluster answers at {address}: {error}.", hint="Start one: ray start --head") from error


def ray_is_installed() -> bool:
    return find_spec("ray") is not None
