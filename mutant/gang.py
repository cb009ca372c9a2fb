"""A gang: processes that train one child together, each on its share of every batch, over a mesh of all their devices.

XLA partitions the training program of one device by where its arguments lie (GSPMD, arXiv 2105.04663): batches are
split, and gradients summed over the gang, with gloo on CPUs and what the devices have elsewhere. The same gang twice
gives the same bytes; gangs of different sizes sum in another order, so that their last bits differ.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as Axes

from mutant import backend
from mutant.network import Tree
from mutant.sgd import MOST_PROGRAMS, Child, Chunk, State, steps_of
from mutant.template import Template
from mutant.typed import xla

DATA = "data"
HEARTBEAT_SECONDS = 30
"""How long a member's end can stay unnoticed by the others; who started them notices at once, and ends them all."""


@dataclass(frozen=True)
class Membership:
    """One of `size` places in a gang. `coordinator` is the address (host:port) at which rank 0 has them meet."""

    rank: int
    size: int
    coordinator: str


@dataclass(frozen=True)
class Gang:
    """A gang that this process is a member of. `sharded`: parameters and momentum are divided among the devices, too,
    and gathered where a step needs them, for a root that one device has no room to train."""

    mesh: Mesh
    rank: int
    size: int
    sharded: bool = False

    def width(self, batch: int) -> int:
        """Examples of a step, so padded that every device has as many."""
        devices = self.mesh.size
        return -(-batch // devices) * devices

    def columns(self, batch: int) -> slice:
        """Which examples of a step are this member's."""
        each = self.width(batch) // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def total(self, count: int) -> int:
        """The sum of every member's `count`; all of them must ask."""
        if self.size == 1:
            return count
        from jax.experimental import multihost_utils

        gathered: Any = multihost_utils.process_allgather(np.asarray([count], np.int32))
        return int(np.sum(gathered))

    def placed(self, state: State, buffers: Tree, child: Child) -> tuple[State, Tree, Child]:
        """What every member has alike, as arrays of the gang."""
        put = partial(_global, self)
        return xla.tree.map(put, state), xla.tree.map(put, buffers), xla.tree.map(partial(_whole, self), child)

    def chunk(self, chunk: Chunk) -> Chunk:
        """A chunk of which each member brings its own columns."""
        split = NamedSharding(self.mesh, Axes(None, DATA))
        own = [xla.make_array_from_process_local_data(split, part) for part in (chunk.x, chunk.y, chunk.weights)]
        return Chunk(*own, *(_whole(self, part) for part in (chunk.rates, chunk.steps)))

    def gathered(self, tree: Any) -> Any:
        """The whole arrays of a tree of the gang's, in this process's memory: one array at a time, so that a device
        never has all of what was divided."""

        def brought(array: Any) -> np.ndarray[Any, Any]:
            return np.asarray(_gathering(self)(array) if self.sharded else array)

        return xla.tree.map(brought, tree)


def join(place: Membership, *, sharded: bool = False) -> Gang:
    """Take one's place, before anything was computed in this process; waits until all are taken.

    Raises RuntimeError when the others do not come, or when their devices cannot compute together.
    """
    if place.size > 1:
        xla.config.update("jax_cpu_collectives_implementation", "gloo")
        xla.distributed.initialize(
            place.coordinator,
            num_processes=place.size,
            process_id=place.rank,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            initialization_timeout=120,
        )
        if xla.process_count() != place.size:
            raise RuntimeError(
                f"JAX joined {xla.process_count()} of {place.size} processes: the gang's devices are not connected"
            )
    devices: Sequence[Any] = xla.devices()
    return Gang(Mesh(np.asarray(devices), (DATA,)), place.rank, place.size, sharded)


@lru_cache(maxsize=MOST_PROGRAMS)
def gang_program(template: Template, gang: Gang) -> Callable[..., Any]:
    """`mutant.sgd.training_program` over the gang's mesh; its arguments are the gang's arrays."""
    backend.keep_compiled_programs()
    whole = NamedSharding(gang.mesh, Axes())

    if gang.sharded:
        return xla.jit(steps_of(template), donate_argnums=0)
    return xla.jit(steps_of(template), donate_argnums=0, out_shardings=whole)


@lru_cache(maxsize=16)
def _gathering(gang: Gang) -> Callable[[Any], Any]:
    def whole(array: Any) -> Any:
        return array

    return xla.jit(whole, out_shardings=NamedSharding(gang.mesh, Axes()))


def _whole(gang: Gang, value: Any) -> Any:
    array = np.asarray(value)
    return xla.make_array_from_callback(array.shape, NamedSharding(gang.mesh, Axes()), array.__getitem__)


def _global(gang: Gang, value: Any) -> Any:
    """What all members have: on every device, or divided among these along its longest axis that can be."""
    array = np.asarray(value)
    divided = Axes(*_division(array.shape, gang.mesh.size)) if gang.sharded else Axes()
    return xla.make_array_from_callback(array.shape, NamedSharding(gang.mesh, divided), array.__getitem__)


def _division(shape: tuple[int, ...], devices: int) -> tuple[str | None, ...]:
    """
    >>> _division((3, 8, 4), 4), _division((3,), 2)
    ((None, 'data', None), (None,))
    """
    fitting = [axis for axis, length in enumerate(shape) if length and length % devices == 0]
    longest = max(fitting, key=lambda axis: (shape[axis], -axis), default=None)
    return tuple(DATA if axis == longest else None for axis in range(len(shape)))
