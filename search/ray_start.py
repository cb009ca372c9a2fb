"""How Ray is started or joined: by the search's evaluator, and by the replicas of a server."""

import gc
import os
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import ray as ray_package

from mutant.search.watchdog import Watchdog
from mutant.tasks.errors import UserError

ray: Any = ray_package  # its own annotations are partly unknown to a strict type checker

STARTS = 3
"""How often Ray is started before one gives up: it allows its processes 30 seconds, which a busy machine may exceed."""


def start(cpus: int, address: str | None, **options: Any) -> Watchdog | None:
    """Start Ray on this machine, quietly and watched over, or join the cluster at `address`, which is its owner's.

    `options` are more of `ray.init`. Raises UserError when Ray cannot be started here, or the cluster cannot be joined.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {**options, "log_to_driver": False, "logging_level": "ERROR"}
    with warnings.catch_warnings():
        # JAX warns of forks. Ray's processes are forked to start another program at once, which is safe.
        warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called", category=RuntimeWarning)
        # A start that fails forgets the programs that it had begun, with its traceback; the watchdog ends them.
        warnings.filterwarnings("ignore", message=r"subprocess \d+ is still running", category=ResourceWarning)
        if address is None:
            return _started({**quiet, "address": "local", "num_cpus": cpus, "include_dashboard": False})
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(f"Cannot join the Ray cluster at {address}: {last_line(error)}") from error
    return None


def _started(options: Mapping[str, Any]) -> Watchdog:
    """Ray on this machine, which the watchdog ends. What a failed start leaves is ended before the next."""
    told = ""
    for _ in range(STARTS):
        watchdog = Watchdog()
        try:
            ray.init(_temp_dir=watchdog.place, **options)
            return watchdog
        except BaseException as error:
            ray.shutdown()
            watchdog.end()
            if not isinstance(error, Exception):
                raise
            told = last_line(error)
        gc.collect()
    raise UserError(
        f"Ray did not start on this machine, in {STARTS} tries: {told}",
        hint="It wants free cores and memory. To train in this process, without Ray: --workers 1",
    )


def ended(calls: Iterable[Any], timeout: float | None = 0.0, *, every: bool = False) -> list[Any]:
    """The first of these calls that has ended, or `every` one that has, after at most `timeout` seconds."""
    asked = [*calls]
    return ray.wait(asked, num_returns=len(asked) if every else 1, timeout=timeout)[0] if asked else []


def machines() -> dict[str, Mapping[str, float]]:
    """The resources of the cluster's machines that are alive, by the name that Ray has for each."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def last_line(error: BaseException) -> str:
    """What an error of Ray says last, without its advice on the causes that it can think of."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].split(" Some common causes include", 1)[0] if lines else type(error).__name__
