"""A real Ray cluster of several raylets on this host, whose machines tests add and kill."""

import gc
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray._common.utils import get_default_ray_temp_dir
from ray.cluster_utils import Cluster as RayCluster

from mutant.search.watchdog import Watchdog, inhabitants

WATCHFUL = {
    "health_check_initial_delay_ms": 1_000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 3_000,
    "health_check_failure_threshold": 3,
}
"""A machine that is gone is missed after two seconds instead of a dozen; one that is merely busy has nine."""
STARTS = 3
"""Ray allows a machine 30 seconds to join, which it exceeds beside other tests."""
T = TypeVar("T")


@dataclass
class Cluster:
    """`address` is where to join it. Its head has no core, so that no worker runs there."""

    of_ray: Any
    place: str
    nodes: list[Any] = field(default_factory=list[Any])

    @property
    def address(self) -> str:
        return self.of_ray.address

    def add(self, cores: int = 1, **more: Any) -> str:
        """A machine joins; the name that Ray has for it."""
        node = joined(lambda: self.of_ray.add_node(num_cpus=cores, **more), self.place)
        self.nodes.append(node)
        return node.node_id

    def kill(self, name: str) -> None:
        """kill -9 of a machine's raylet, by which Ray ends its workers, too."""
        (node,) = (node for node in self.nodes if node.node_id == name)
        (raylet,) = node.all_processes["raylet"]
        os.kill(raylet.process.pid, signal.SIGKILL)

    def clear(self) -> None:
        """All machines but the head leave."""
        for node in self.nodes:
            self.of_ray.remove_node(node, allow_graceful=False)
        self.nodes.clear()


def joined(start: Callable[[], T], place: str) -> T:
    """What `start` returns; when Ray gives up on what it started in `place`, that is ended for another try."""
    for tries in range(STARTS):
        before = {*inhabitants(place)}
        with warnings.catch_warnings():
            # What a failed start forgets with its traceback is ended here.
            warnings.simplefilter("ignore", ResourceWarning)
            try:
                return start()
            except Exception:
                if tries + 1 == STARTS:
                    raise
                for pid in {*inhabitants(place)} - before:
                    with suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
            gc.collect()
    raise AssertionError


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster of a head alone, which ends with the block."""
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    # Ray notes the address there, whatever its `temp_dir` is.
    Path(get_default_ray_temp_dir()).mkdir(parents=True, exist_ok=True)
    watchdog = Watchdog()
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": WATCHFUL, "temp_dir": watchdog.place}
    own = joined(
        # Its hooks need the main thread, and machines join in others.
        lambda: RayCluster(initialize_head=True, shutdown_at_exit=False, head_node_args=head),
        watchdog.place,
    )
    made = Cluster(own, watchdog.place)
    try:
        yield made
    finally:
        ray.shutdown()
        own.shutdown()
        watchdog.end()
        made.nodes.clear()
        made.of_ray = own = None
        with warnings.catch_warnings():
            # Ray does not wait for what it has killed; a later test would be told.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
