"""A real Ray cluster of several raylets on this host, whose machines tests add and kill."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.cluster_utils import Cluster as RayCluster

WATCHFUL = {
    "health_check_initial_delay_ms": 1_000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 3_000,
    "health_check_failure_threshold": 3,
}
"""A machine that is gone is missed after two seconds instead of a dozen; one that is merely busy has nine."""


@dataclass
class Cluster:
    """`address` is where to join it. Its head has no core, so that no worker runs there."""

    of_ray: Any
    nodes: list[Any] = field(default_factory=list[Any])

    @property
    def address(self) -> str:
        return self.of_ray.address

    def add(self, cores: int = 1, **more: Any) -> str:
        """A machine joins; the name that Ray has for it."""
        node = self.of_ray.add_node(num_cpus=cores, **more)
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


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster of a head alone, which ends with the block."""
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    own = RayCluster(
        initialize_head=True,
        shutdown_at_exit=False,  # its hooks need the main thread, and machines join in others
        head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": WATCHFUL},
    )
    try:
        yield Cluster(own)
    finally:
        ray.shutdown()
        own.shutdown()
