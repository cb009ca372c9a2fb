"""How many workers a run gets: chosen by predicted cost, said, and settable."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from mutant.activations.limits import CacheLimits
from mutant.search.evaluator import Evaluator, InProcessEvaluator
from mutant.search.prediction import FLOPS_PER_SECOND
from mutant.tasks.errors import UserError, missing_extra

RAY_START_SECONDS = 12.0
"""Time from nothing to two warm workers, measured on 2 cores (Ray 2.60)."""
MOST_WORKERS = 4_096


@dataclass(frozen=True)
class Crew:
    """A number of workers and why; None: as many as a cluster has free cores, while there is work for them."""

    workers: int | None
    reason: str


def choose_workers(asked: str | int, predicted_flops: float, *, address: str | None = None) -> Crew:
    """`auto` or a number: 1 trains in this process, more train on Ray with a core each.

    `auto` takes a worker per core when that saves more time than Ray takes to start; on a cluster, one per free core
    of the cluster as it grows and shrinks.
    """
    text = str(asked)
    if text != "auto":
        if not (text.isascii() and text.isdigit() and len(text) < 10) or not 1 <= int(text) <= MOST_WORKERS:
            raise UserError(f"--workers must be 'auto' or a number from 1 to {MOST_WORKERS}, not {text!r}.")
        return Crew(int(text), "as asked")
    if address is not None:
        return Crew(None, f"one for each free core of the cluster at {address}")
    n_cores, seconds = cores(), predicted_flops / FLOPS_PER_SECOND
    saved = seconds - (seconds / n_cores + RAY_START_SECONDS)
    if not ray_is_installed():
        return Crew(1, "in this process: Ray is not installed (the extra 'ray')")
    if n_cores == 1 or saved <= 0:
        return Crew(1, f"in this process: about {seconds:.0f} s of training, not worth starting Ray")
    return Crew(n_cores, f"on Ray, one core each: about {seconds:.0f} s of training on one core")


def start_evaluator(
    crew: Crew,
    *,
    address: str | None = None,
    cache: CacheLimits = CacheLimits(),
    home: str | None = None,
    told: Callable[[str], None] = lambda text: None,
    pipeline: bool = False,
    patience: float | None = None,
) -> Evaluator:
    """The evaluator for a crew; Ray is imported only for more than one worker or a cluster.

    `pipeline`: the workers share the groups of one child, instead of having a child each.
    `cache` and `home`: how much of activations each host keeps, and the name of its directory for them. `patience`:
    seconds without progress after which a worker on Ray is taken to hang; None: `heartbeat.patience`.
    """
    if crew.workers == 1 and address is None:
        return InProcessEvaluator(cache, home, told)
    if not ray_is_installed():
        raise missing_extra("ray", "ray")
    if pipeline:
        from mutant.search.ray_stages import PipelineEvaluator

        return PipelineEvaluator(crew.workers or cores(), address=address, cache=cache, home=home, told=told)
    from mutant.search.ray_evaluator import RayEvaluator

    return RayEvaluator(crew.workers, address=address, cache=cache, home=home, told=told, patience=patience)


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
