"""Slices of TPUs for gangs: hosts whose chips have wires of their own between them, reserved whole.

Ray labels the machines of a slice with its name, topology and their worker ids. A member of the gang is a host with all
its chips, and its rank is the host's worker id, as libtpu counts. `ray.util.tpu` reserves by the same labels, but keeps
its caller waiting and stays with a slice that lost a host; here a placement group, all or none, is pinned to one slice,
and to the next one while it does not come.
"""

import math
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mutant import backend
from mutant.search.ray_rooms import K, Rooms, in_bundle, nodes_of, remove
from mutant.search.ray_start import ended, ray
from mutant.tasks.errors import UserError

TOPOLOGY, POD, NAME, RANK = (f"ray.io/tpu-{what}" for what in ("topology", "pod-type", "slice-name", "worker-id"))
TRY_SECONDS = 3.0
"""How long a gang waits for one slice before it tries the next."""


@dataclass(frozen=True, order=True)
class Shape:
    """Of slices: `hosts`, `topology` as in `2x2x2`, `pod` as in `v4-16`, and chips of each host as Ray counts them.

    >>> str(Shape(2, "2x2x2", "v4-16", 4))
    'v4-16 (2x2x2, 2 hosts)'
    """

    hosts: int
    topology: str
    pod: str
    chips: int

    def __str__(self) -> str:
        return f"{self.pod} ({self.topology}, {self.hosts} {'host' if self.hosts == 1 else 'hosts'})"


def whole_slices() -> dict[str, Shape]:
    """The cluster's slices of which every host is there, by name."""
    hosts: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
    for node in ray.nodes():
        labels: Mapping[str, str] = node.get("Labels") or {}
        chips = int(node["Resources"].get("TPU", 0))
        if node["Alive"] and chips and {TOPOLOGY, POD, NAME, RANK} <= {*labels}:
            hosts[labels[NAME], labels[TOPOLOGY], labels[POD]][labels[RANK]] = chips
    found: dict[str, Shape] = {}
    for (name, topology, pod), of_ranks in hosts.items():
        chips = {*of_ranks.values()}
        complete = {*of_ranks} == {str(rank) for rank in range(len(of_ranks))} and len(chips) == 1
        # A generation with two devices to a chip has twice as many as its topology says.
        if complete and sum(of_ranks.values()) % chips_of(topology) == 0:
            found[name] = Shape(len(of_ranks), topology, pod, *chips)
    return found


def chips_of(topology: str) -> int:
    """
    >>> chips_of("2x2x4")
    16
    """
    return math.prod(int(length) for length in topology.split("x"))


def fitting(there: Collection[Shape], size: int) -> Shape:
    """The shape whose slices have so many hosts; raises `UserError` when none has."""
    shapes = sorted({*there})
    for shape in shapes:
        if shape.hosts == size:
            return shape
    if not shapes:
        raise UserError(
            f"A gang on TPUs takes a whole slice, a member on each of its hosts, and none of {size} hosts is there.",
            hint="Let one join, then: mutant resume. Or begin again: mutant abandon, then without --gang",
        )
    nearest = min(shapes, key=lambda shape: abs(shape.hosts - size)).hosts
    raise UserError(
        f"A gang on TPUs takes a whole slice, a member on each of its hosts, and none here has {size}: the cluster has "
        f"{', '.join(map(str, shapes))}.",
        hint=f"Let such a slice join, then: mutant resume. Or begin again: mutant abandon, then --gang {nearest}",
    )


@dataclass
class _Booking:
    """A slice by name, the placement group that is pinned to it, and the call that ends when it is reserved."""

    name: str
    group: Any
    call: Any
    since: float
    came: bool = False


class OnSlices(Rooms[K]):
    """A slice of this shape for each gang; XLA has so many `threads` on each host."""

    def __init__(self, shape: Shape, threads: int = 1) -> None:
        self._shape, self._threads = shape, threads
        self._bookings: dict[K, _Booking] = {}
        self._known = self._whole()

    def seek(self, gang: K) -> Any:
        if gang not in self._bookings:
            self._bookings[gang] = self._booked(next(iter(self._others()), self._known[0]))
        return self._bookings[gang].call

    def came(self, gang: K, call: Any) -> bool:
        booking = self._bookings[gang]
        booking.came = booking.call == call
        return booking.came

    def options(self, gang: K, rank: int) -> Mapping[str, Any]:
        variables = {"env_vars": backend.worker_environment(self._threads)}
        own: dict[str, Any] = {
            "num_cpus": self._threads,
            "resources": {"TPU": self._shape.chips},
            "runtime_env": variables,
        }
        return own | in_bundle(self._bookings[gang].group, rank)

    def nodes(self, gang: K) -> Collection[str]:
        return nodes_of(self._bookings[gang].group)

    def wanted(self) -> str:
        return f"a free TPU slice {self._shape}: the Ray cluster has {len(self._whole())} whole ones in all"

    def look(self) -> None:
        """Have gangs that wait try the next slice that is whole."""
        for gang, booking in self._bookings.items():
            if booking.came or time.monotonic() - booking.since < TRY_SECONDS or ended([booking.call]):
                continue
            others = self._others()
            if others:
                remove(booking.group)
                later = [name for name in others if name > booking.name]
                self._bookings[gang] = self._booked((later or others)[0])

    def done(self, gang: K) -> None:
        if gang in self._bookings:
            remove(self._bookings.pop(gang).group)

    def _whole(self) -> list[str]:
        return sorted(name for name, shape in whole_slices().items() if shape == self._shape)

    def _others(self) -> list[str]:
        """Slices that no gang of this run has or waits for."""
        self._known = self._whole() or self._known
        taken = {booking.name for booking in self._bookings.values()}
        return [name for name in self._whole() if name not in taken]

    def _booked(self, name: str) -> _Booking:
        group = ray.util.placement_group(
            [{"CPU": float(self._threads), "TPU": float(self._shape.chips)}] * self._shape.hosts,
            strategy="STRICT_SPREAD",
            bundle_label_selector=[{NAME: name, RANK: str(rank)} for rank in range(self._shape.hosts)],
        )
        return _Booking(name, group, group.ready(), time.monotonic())
