"""The evaluator on Ray: warm actors of one core each, frozen weights and data shared through the object store.

This is the only file that imports Ray. JAX is imported in the workers alone.
"""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray as ray_package
from ray.exceptions import ActorDiedError, RayError, RayTaskError

from mutant import backend
from mutant.answers import Answers, Images
from mutant.assignment import Assignment
from mutant.component import Component
from mutant.outcome import Failed, Outcome
from mutant.path import Path
from mutant.search.evaluator import Supply, Work

ray: Any = ray_package  # its own annotations are partly unknown to a strict type checker

ATTEMPTS = 2
"""A child whose worker dies is trained again with the same identity; if that worker dies too, the child has failed."""


@dataclass(frozen=True)
class Parcel:
    """One candidate with references to what it needs in the object store."""

    work: Work
    components: Mapping[str, Any]
    traces: Mapping[str, Any]
    dataset: Any


class Worker:
    """Lives in a Ray actor: keeps its compiled programs, frozen components and prefix activations between children."""

    def __init__(self, core: int | None, cache_bytes: int) -> None:
        if core is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {core})
        from mutant.prefix import PrefixCache

        self._cache = PrefixCache(cache_bytes)
        self._held: dict[Any, Any] = {}

    def pid(self) -> int:
        return os.getpid()

    def train(self, parcel: Parcel) -> Outcome:
        from mutant.train import train

        work = parcel.work
        assignment = Assignment(
            work.candidate, work.blueprint, self._get(parcel.components), self._get(parcel.traces), work.training
        )
        return train(assignment, self._dataset(work.dataset, parcel.dataset), self._cache)

    def answer(self, path: Path, components: Mapping[str, Component], images: Images) -> Answers:
        from mutant.answers import answer

        return answer(path, components, images)

    def _get(self, references: Mapping[str, Any]) -> dict[str, Any]:
        missing = [key for key in references if key not in self._held]
        if missing:
            self._held.update(zip(missing, ray.get([references[key] for key in missing]), strict=True))
        return {key: self._held[key] for key in references}

    def _dataset(self, key: tuple[str, int], reference: Any) -> Any:
        if key not in self._held:
            self._held[key] = ray.get(reference)
        return self._held[key]


class RayEvaluator:
    """Trains candidates on `workers` actors of this machine's Ray, or of the cluster at `address`."""

    def __init__(self, workers: int, *, address: str | None = None, cache_bytes: int = 1 << 30) -> None:
        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            _start(workers, address)
        self._cache_bytes = cache_bytes
        self._cores = _cores(workers) if address is None else [None] * workers
        self._actors = [self._actor(core) for core in self._cores]
        self._references: dict[Any, Any] = {}

    def _actor(self, core: int | None) -> Any:
        options = {"num_cpus": 1, "runtime_env": {"env_vars": backend.worker_environment()}}
        return ray.remote(Worker).options(**options).remote(core, self._cache_bytes)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers, for those who want to watch (or kill) one."""
        return ray.get([actor.pid.remote() for actor in self._actors])

    def train(self, work: Sequence[Work], supply: Supply) -> Iterator[tuple[int, Outcome]]:
        waiting = deque((index, 1) for index in range(len(work)))
        idle = deque(range(len(self._actors)))
        running: dict[Any, tuple[int, int, int]] = {}
        while waiting or running:
            while waiting and idle:
                (index, attempt), slot = waiting.popleft(), idle.popleft()
                reference = self._actors[slot].train.remote(self._parcel(work[index], supply))
                running[reference] = index, attempt, slot
            (ready, *_), _ = ray.wait(list(running), num_returns=1)
            index, attempt, slot = running.pop(ready)
            outcome = self._result(ready, slot, work[index], attempt)
            idle.append(slot)
            if outcome is None:
                waiting.appendleft((index, attempt + 1))
            else:
                yield index, outcome

    def _result(self, reference: Any, slot: int, work: Work, attempt: int) -> Outcome | None:
        """The outcome of a call, or None when its worker died and the child deserves another."""
        candidate = work.candidate.id
        try:
            return ray.get(reference)
        except RayTaskError as error:
            return Failed(candidate, "error", _last_line(error))
        except RayError as error:
            self._replace(slot)
            if attempt < ATTEMPTS:
                return None
            memory = "memory" in type(error).__name__.lower()
            kind = "out of memory" if memory else "worker lost"
            return Failed(candidate, kind, f"its worker died {attempt} times: {_last_line(error)}")

    def _replace(self, slot: int) -> None:
        ray.kill(self._actors[slot])
        self._actors[slot] = self._actor(self._cores[slot])

    def _parcel(self, work: Work, supply: Supply) -> Parcel:
        return Parcel(
            work,
            {digest: self._put(digest, supply.component) for digest in work.digests},
            {digest: self._put(digest, supply.trace) for digest in work.traces},
            self._put(work.dataset, lambda key: supply.dataset(*key)),
        )

    def _put(self, key: Any, get: Callable[[Any], Any]) -> Any:
        """A reference to what `get` gives for `key`; each value travels to the object store once."""
        if key not in self._references:
            self._references[key] = ray.put(get(key))
        return self._references[key]

    def answer(self, path: Path, components: Mapping[str, Component], images: Images) -> Answers:
        for attempt in range(ATTEMPTS):
            try:
                return ray.get(self._actors[0].answer.remote(path, components, images))
            except ActorDiedError:
                self._replace(0)
                if attempt + 1 == ATTEMPTS:
                    raise
        raise AssertionError

    def close(self) -> None:
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []
        self._references = {}
        if self._owns_ray:
            ray.shutdown()


def _start(workers: int, address: str | None) -> None:
    """Start Ray on this machine, quietly, or join the cluster at `address`."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    with warnings.catch_warnings():
        # JAX warns of forks. Ray's processes are forked to start another program at once, which is safe.
        warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called", category=RuntimeWarning)
        if address is None:
            ray.init(num_cpus=workers, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)


def _cores(workers: int) -> list[int | None]:
    """A core for each worker when there are enough, else no pinning."""
    if not hasattr(os, "sched_getaffinity"):
        return [None] * workers
    cores = sorted(os.sched_getaffinity(0))
    return [*cores[:workers]] if workers <= len(cores) else [None] * workers


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
