"""Slices of TPUs for gangs: hosts whose chips have wires of their own between them, reserved whole (`ray.util.tpu`).

Ray knows a slice by labels of its machines (name, topology, worker id) and by one resource of its first host, which
claims it. A member of the gang is a host with all its chips, and its rank is the host's worker id, as libtpu has it.
"""

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mutant import backend
from mutant.search.ray_rooms import in_bundle, nodes_of, remove
from mutant.search.ray_start import ray, tpu
from mutant.tasks.errors import UserError

TOPOLOGY, POD, NAME, RANK = (f"ray.io/tpu-{what}" for what in ("topology", "pod-type", "slice-name", "worker-id"))
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, order=True)
class Shape:
    """Of slices of several hosts: `topology` as in `2x2x2`, `pod` as in `v4-16`, and chips of each host as Ray counts
    them.

    >>> str(Shape(2, "2x2x2", "v4-16", 4))
    'v4-16 (2x2x2, 2 hosts)'
    """

    hosts: int
    topology: str
    pod: str
    chips: int

    def __str__(self) -> str:
        return f"{self.pod} ({self.topology}, {self.hosts} hosts)"

    @property
    def version(self) -> str:
        return self.pod.rpartition("-")[0]


def shapes() -> list[Shape]:
    """Of the cluster's slices of several hosts, the smallest first."""
    found: set[Shape] = set()
    for node in ray.nodes():
        labels, chips = node.get("Labels") or {}, int(node["Resources"].get("TPU", 0))
        if node["Alive"] and chips and TOPOLOGY in labels and POD in labels:
            topology, pod = labels[TOPOLOGY], labels[POD]
            try:
                hosts, _ = tpu.get_tpu_worker_resources(topology, pod.rpartition("-")[0], {"CPU": 1, "TPU": chips})
            except ValueError:  # hosts of part of a slice, or a generation that Ray does not know
                continue
            if hosts > 1:
                found.add(Shape(hosts, topology, pod, chips))
    return sorted(found)


def fitting(there: Sequence[Shape], size: int) -> Shape:
    """The shape whose slices have so many hosts; raises UserError when none has."""
    for shape in there:
        if shape.hosts == size:
            return shape
    sizes = sorted({shape.hosts for shape in there})
    raise UserError(
        f"A gang on TPUs takes a whole slice, a member on each host, and none here has {size} hosts: the cluster has "
        f"{', '.join(map(str, there))}.",
        hint="Let such a slice join, then: mutant resume. Or begin again: mutant abandon, then --gang "
        f"{min(sizes, key=lambda hosts: abs(hosts - size))}",
    )


class OnSlices(Generic[K]):
    """A slice of this shape each: claimed by its first host, then all of its hosts."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._claims: dict[K, Any] = {}
        self._slices: dict[K, Any] = {}

    def seek(self, gang: K) -> Any:
        shape = self._shape
        if gang not in self._claims:
            first = {RANK: "0", POD: shape.pod}
            self._claims[gang] = ray.util.placement_group([{f"TPU-{shape.pod}-head": 1}], bundle_label_selector=[first])
            return self._claims[gang].ready()
        (node,) = nodes_of(self._claims[gang])
        name = next(tpu.get_tpu_slice_name_from_node(found) for found in ray.nodes() if found["NodeID"] == node)
        self._slices[gang] = tpu.SlicePlacementGroup(
            shape.topology,
            shape.version,
            {"CPU": 1, "TPU": shape.chips},
            chips_per_vm=math.prod(int(length) for length in shape.topology.split("x")) // shape.hosts,
            bundle_label_selector=[{NAME: name, RANK: str(rank)} for rank in range(shape.hosts)],
        )
        return self._slices[gang].placement_group.ready()

    def came(self, gang: K, call: Any) -> bool:
        return gang in self._slices

    def options(self, gang: K, rank: int) -> Mapping[str, Any]:
        variables = {"env_vars": backend.worker_environment()}
        own: dict[str, Any] = {"num_cpus": 1, "resources": {"TPU": self._shape.chips}, "runtime_env": variables}
        return own | in_bundle(self._slices[gang].placement_group, rank)

    def nodes(self, gang: K) -> Collection[str]:
        return nodes_of(self._slices[gang].placement_group)

    def wanted(self) -> str:
        return f"a free TPU slice of the kind {self._shape}"

    def look(self) -> None:
        pass

    def done(self, gang: K) -> None:
        if gang in self._slices:
            self._slices.pop(gang).shutdown()
        if gang in self._claims:
            remove(self._claims.pop(gang))

    def close(self) -> None:
        pass
