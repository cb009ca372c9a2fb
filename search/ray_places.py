"""Where workers run on Ray: one to an accelerator where the cluster has any, else one to a core."""

from dataclasses import dataclass
from typing import Any

from mutant import backend
from mutant.search.ray_start import machines, ray

ACCELERATORS = "GPU", "TPU"
"""What Ray calls them, and so do we, together with CPU, for `unit`."""


@dataclass(frozen=True)
class Place:
    """A core or an accelerator of a machine: the machine's name in Ray, and a number."""

    node: str
    number: int

    def __str__(self) -> str:
        return f"{self.node}/{self.number}"

    @staticmethod
    def parse(text: str) -> "Place":
        node, _, number = text.rpartition("/")
        return Place(node, int(number))


def unit(*, local: bool) -> str:
    """What one worker computes on: an accelerator, if the cluster has any, else a core; on this machine alone (`local`)
    only one that JAX could use."""
    if local and not backend.accelerators():
        return "CPU"
    resources = ray.cluster_resources()
    return next((name for name in ACCELERATORS if resources.get(name, 0) >= 1), "CPU")


def places(unit: str) -> list[Place]:
    """All places of the cluster, where each whole unit is one."""
    return [Place(node, number) for node, has in sorted(machines().items()) for number in range(int(has.get(unit, 0)))]


def free(unit: str, threads: int = 1) -> int:
    """Places of the cluster that nobody has reserved: accelerators, or so many cores each, all of one machine."""
    each = threads if unit == "CPU" else 1
    there = sum(int(has.get(unit, 0)) // each for has in machines().values())
    return min(there, int(ray.available_resources().get(unit, 0)) // each)


def reserving(unit: str, workers: int | None, threads: int = 1) -> dict[str, Any]:
    """Options of an actor that Ray finds a place for and reserves it, with a core for each of its XLA `threads`. More
    `workers` than GPUs share each evenly."""
    options: dict[str, Any] = {"num_cpus": threads, "runtime_env": {"env_vars": backend.worker_environment(threads)}}
    if unit == "TPU":
        options["resources"] = {"TPU": 1}
    elif unit == "GPU":
        there = int(ray.cluster_resources()["GPU"])
        options["num_gpus"] = 1 if workers is None else 1 / -(-workers // there)
    return options


def at(place: Place, unit: str) -> dict[str, Any]:
    """Options of an actor in this place, which Ray does not reserve: runs that share it take turns."""
    variables = backend.worker_environment()
    if unit == "GPU":
        variables |= {"CUDA_VISIBLE_DEVICES": str(place.number), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    where = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(place.node, soft=False)
    return {"num_cpus": 0, "scheduling_strategy": where, "runtime_env": {"env_vars": variables}}
