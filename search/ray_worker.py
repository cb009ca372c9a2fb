"""What lives in a Ray actor of the search: a worker that keeps programs, components and activations between children.

JAX is imported here alone, on the worker's side.
"""

import os
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mutant import backend
from mutant.activations.homes import home_of
from mutant.activations.limits import CacheLimits
from mutant.answers import Answers, Images
from mutant.assignment import Assignment
from mutant.byte_cache import ByteCache
from mutant.component import Arrays, Component
from mutant.dataset import Dataset
from mutant.outcome import Outcome
from mutant.path import Path
from mutant.pulse import Pulse
from mutant.recorder import Recorder
from mutant.search.evaluator import Chain, Flops, Work
from mutant.search.prediction import FLOPS_PER_SECOND
from mutant.search.ray_start import machines, ray
from mutant.spans import Seat

HELD_BYTES = 1 << 30
"""Components and data sets that a worker keeps at hand."""
KIND = "MUTANT_WORKER_KIND"
"""`NAME` or `NAME=RATE` in the environment of a machine's raylet: the kind of its workers, instead of what is found."""
ACCELERATOR_FLOPS = 2e12
"""Training rate that is assumed of an accelerator until its own children were measured."""
ASIDE = "aside"
"""The actor's second thread, which answers while the first one trains."""


@dataclass(frozen=True)
class About:
    """What a worker says of itself: its process, its machine as Ray names it, its kind, and the rate assumed of it."""

    pid: int
    node: str
    kind: str
    rate: float
    host: str = ""

    @property
    def seat(self) -> Seat:
        return Seat(self.host, self.pid, self.kind)


@dataclass(frozen=True)
class Parcel:
    """One candidate with references to what it needs in the object store."""

    work: Work
    components: Mapping[str, Any]
    traces: Mapping[str, Any]
    dataset: Any
    ahead: Work | None = None
    """Who is to be trained next."""


class Worker:
    """Lives in a Ray actor: keeps its compiled programs, frozen components and prefix activations between children."""

    def __init__(self, cores: Collection[int], cache: CacheLimits, home: str) -> None:
        if cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)
        from mutant.activations.cache import ActivationCache

        self._notices: list[str] = []
        self._cache = ActivationCache(cache, home_of(home), self._notices.append)
        self._held: ByteCache[Any, Any] = ByteCache(HELD_BYTES, n_bytes)
        self._pulse = Pulse()

    def about(self) -> About:
        node = ray.get_runtime_context().get_node_id()
        return About(
            os.getpid(), node, *kind_of(os.environ.get(KIND), accelerated=_accelerated(node)), host=platform.node()
        )

    def progress(self) -> float:
        """A number that grows while a child is trained or activations are computed; it says nothing else."""
        return self._pulse.count() + self._cache.computed_rows + self._cache.computed_seconds

    def train(self, parcel: Parcel) -> Outcome:
        from mutant.train import train

        recorder = Recorder()
        assignment, dataset = self._unpacked(parcel)
        if parcel.ahead is not None and parcel.ahead.dataset == parcel.work.dataset:
            self._cache.read_ahead(parcel.ahead.prefix, (dataset.train, dataset.validation))
        return train(assignment, dataset, self._cache, pulse=self._pulse, recorder=recorder)

    def fill(self, parcel: Parcel) -> int:
        """With nothing else to do, compute some of a child's frozen activations that are not kept yet; how many."""
        from mutant.activations.shown import Shown
        from mutant.activations.source import BLOCK

        return Shown(*self._unpacked(parcel), self._cache).fill(BLOCK)

    def notices(self) -> list[str]:
        """What the cache had to say since it was last asked."""
        said = [*self._notices]
        self._notices.clear()
        return said

    def close(self) -> None:
        """Let go of the host's activations, so that the last worker removes them."""
        self._cache.close()

    def answer(self, path: Path, components: Mapping[str, Component], images: Images) -> Answers:
        from mutant.answers import answer

        return answer(path, components, images)

    def flops(self, chains: Sequence[Chain]) -> tuple[Flops, ...]:
        from mutant.cost import component_flops

        return tuple(component_flops(*chain) for chain in chains)

    def _unpacked(self, parcel: Parcel) -> tuple[Assignment, Dataset]:
        assignment = parcel.work.assignment(self._get(parcel.components), self._get(parcel.traces))
        return assignment, self._held.get(parcel.work.dataset, partial(ray.get, parcel.dataset))

    def _get(self, references: Mapping[str, Any]) -> dict[str, Any]:
        """Values by key; those that are not at hand come from the object store, without a copy."""
        return {key: self._held.get(key, partial(ray.get, reference)) for key, reference in references.items()}


def n_bytes(value: Any) -> int:
    """Size of a component, of a data set, or of a trace's arrays."""
    if isinstance(value, Component | Dataset):
        return value.n_bytes
    arrays: Arrays = value
    return sum(array.nbytes for array in arrays.values())


def kind_of(told: str | None, *, accelerated: bool = False) -> tuple[str, float]:
    """A worker's kind, and the FLOPs per second assumed of it: as `told`, else its accelerator's or processor's name.

    >>> kind_of("big=1e13"), kind_of("odd")
    (('big', 10000000000000.0), ('odd', 20000000000.0))
    """
    if told:
        name, _, rate = told.partition("=")
        try:
            return name, float(rate) if float(rate) > 0 else FLOPS_PER_SECOND
        except ValueError:
            return name, FLOPS_PER_SECOND
    found = backend.accelerator() if accelerated else None
    return (found, ACCELERATOR_FLOPS) if found is not None else (backend.processor(), FLOPS_PER_SECOND)


def _accelerated(node: str) -> bool:
    """Whether Ray knows of an accelerator on this machine. Only then is JAX asked, for its start takes seconds."""
    return any(name in ("GPU", "TPU") or name.startswith("accelerator_type:") for name in machines().get(node, ()))
