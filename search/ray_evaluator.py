"""The evaluator on Ray: warm actors of one core each, frozen weights and data shared through the object store.

Beside `ray_start.py` this is the only file of the search that imports Ray (`ray_stages.py` has it from here).
JAX is imported in the workers alone.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray as ray_package
from ray.exceptions import ActorDiedError, RayError, RayTaskError

from mutant import backend
from mutant.activations.homes import home_of, private_name
from mutant.activations.limits import CacheLimits
from mutant.answers import Answers, Images
from mutant.assignment import Assignment
from mutant.byte_cache import ByteCache
from mutant.component import Arrays, Component
from mutant.dataset import Dataset
from mutant.outcome import Failed, Outcome
from mutant.path import Path
from mutant.search.evaluator import Begun, Chain, Flops, Supply, Work, trie_order, unheard
from mutant.search.ray_start import last_line, start

ray: Any = ray_package  # its own annotations are partly unknown to a strict type checker

HELD_BYTES = 1 << 30
"""Components and data sets that a worker keeps at hand."""
CLOSE_SECONDS = 10.0
ATTEMPTS = 2
"""A child whose worker dies is trained again with the same identity; if that worker dies too, the child has failed."""


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

    def __init__(self, core: int | None, cache: CacheLimits, home: str) -> None:
        if core is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {core})
        from mutant.activations.cache import ActivationCache

        self._notices: list[str] = []
        self._cache = ActivationCache(cache, home_of(home), self._notices.append)
        self._held: ByteCache[Any, Any] = ByteCache(HELD_BYTES, _n_bytes)

    def pid(self) -> int:
        return os.getpid()

    def train(self, parcel: Parcel) -> Outcome:
        from mutant.train import train

        assignment, dataset = self._unpacked(parcel)
        if parcel.ahead is not None and parcel.ahead.dataset == parcel.work.dataset:
            self._cache.read_ahead(parcel.ahead.prefix, (dataset.train, dataset.validation))
        return train(assignment, dataset, self._cache)

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

    def _unpacked(self, parcel: Parcel) -> tuple[Assignment, Dataset]:
        assignment = parcel.work.assignment(self._get(parcel.components), self._get(parcel.traces))
        return assignment, self._held.get(parcel.work.dataset, partial(ray.get, parcel.dataset))

    def flops(self, chains: Sequence[Chain]) -> tuple[Flops, ...]:
        from mutant.cost import component_flops

        return tuple(component_flops(*chain) for chain in chains)

    def _get(self, references: Mapping[str, Any]) -> dict[str, Any]:
        """Values by key; those that are not at hand come from the object store, without a copy."""
        return {key: self._held.get(key, partial(ray.get, reference)) for key, reference in references.items()}


def _n_bytes(value: Any) -> int:
    """Size of a component, of a data set, or of a trace's arrays."""
    if isinstance(value, Component | Dataset):
        return value.n_bytes
    arrays: Arrays = value
    return sum(array.nbytes for array in arrays.values())


class RayEvaluator:
    """Trains candidates on `workers` actors of this machine's Ray, or of the cluster at `address`.

    The workers of a host share its activations, up to the limits `cache`, in the directory that `home` names.
    """

    def __init__(
        self,
        workers: int,
        *,
        address: str | None = None,
        cache: CacheLimits = CacheLimits(),
        home: str | None = None,
        told: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._owns_ray = not ray.is_initialized()
        self._watchdog = start(workers, address) if self._owns_ray else None
        self._cache, self._home, self._told = cache, home or private_name(), told
        self._cores = pinned_cores(workers) if address is None else [None] * workers
        self._actors = [self._actor(core) for core in self._cores]
        self._references: dict[Any, Any] = {}

    def _actor(self, core: int | None) -> Any:
        options = {"num_cpus": 1, "runtime_env": {"env_vars": backend.worker_environment()}}
        return ray.remote(Worker).options(**options).remote(core, self._cache, self._home)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers, for those who want to watch (or kill) one."""
        return ray.get([actor.pid.remote() for actor in self._actors])

    def train(self, work: Sequence[Work], supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        waiting = deque((index, 1) for index in trie_order(work))
        idle = deque(range(len(self._actors)))
        running: dict[Any, tuple[int, int, int]] = {}
        filling = _Filling(work)
        self._keep_references_of(work)
        while waiting or running:
            while waiting and idle:
                (index, attempt), slot = waiting.popleft(), idle.popleft()
                begun(index, f"worker {slot}")
                try:
                    parcel = self._parcel(work[index], supply, work[waiting[0][0]] if waiting else None)
                except MemoryError as error:
                    idle.appendleft(slot)
                    yield index, Failed(work[index].candidate.id, "out of memory", f"preparing its data: {error}")
                    continue
                running[self._actors[slot].train.remote(parcel)] = index, attempt, slot
            if not running:
                continue
            self._fill(filling, idle, [work[index] for index, _, _ in running.values()], supply)
            (ready, *_), _ = ray.wait([*running, *filling.calls], num_returns=1)
            if ready in filling.calls:
                self._filled(filling, ready)
                continue
            index, attempt, slot = running.pop(ready)
            outcome = self._result(ready, slot, work[index], attempt)
            if outcome is None:  # on the new worker in the dead one's place, which is surely alive
                idle.appendleft(slot)
                waiting.appendleft((index, attempt + 1))
            else:
                idle.append(slot)
                yield index, outcome
        self._pass_on_notices()

    def _fill(self, filling: "_Filling", idle: Sequence[int], running: Sequence[Work], supply: Supply) -> None:
        """Let workers that have no child to train compute activations for those who have, until all are kept."""
        for slot in idle:
            item = filling.next(running) if slot not in filling.calls.values() and not self._cache.off else None
            if item is not None:
                call = self._actors[slot].fill.remote(self._parcel(item, supply))
                filling.calls[call] = slot
                filling.prefixes[call] = item.prefix

    def _filled(self, filling: "_Filling", call: Any) -> None:
        slot, prefix = filling.calls.pop(call), filling.prefixes.pop(call)
        try:
            computed = ray.get(call)
        except RayTaskError:
            computed = 0  # the child that needs it meets the error itself
        except RayError:
            computed = 0
            self._replace(slot)
        if computed == 0:
            filling.complete.add(prefix)

    def _pass_on_notices(self) -> None:
        for actor in self._actors:
            with suppress(RayError):
                for text in ray.get(actor.notices.remote()):
                    self._told(text)

    def _result(self, reference: Any, slot: int, work: Work, attempt: int) -> Outcome | None:
        """The outcome of a call, or None when its worker died and the child deserves another."""
        candidate = work.candidate.id
        try:
            return ray.get(reference)
        except RayTaskError as error:
            return Failed(candidate, "error", last_line(error))
        except RayError as error:
            self._replace(slot)
            if attempt < ATTEMPTS:
                return None
            memory = "memory" in type(error).__name__.lower()
            kind = "out of memory" if memory else "worker lost"
            return Failed(candidate, kind, f"its worker died {attempt} times: {last_line(error)}")

    def _replace(self, slot: int) -> None:
        ray.kill(self._actors[slot])
        self._actors[slot] = self._actor(self._cores[slot])

    def _parcel(self, work: Work, supply: Supply, ahead: Work | None = None) -> Parcel:
        return Parcel(
            work,
            {digest: self._put(digest, supply.component) for digest in work.digests},
            {digest: self._put(digest, supply.trace) for digest in work.traces},
            self._put(work.dataset, lambda key: supply.dataset(*key)),
            ahead,
        )

    def _keep_references_of(self, work: Sequence[Work]) -> None:
        """Let go of what these candidates do not need, so that the object store can, too."""
        needed = {key for item in work for key in (*item.digests, *item.traces, item.dataset)}
        self._references = {key: value for key, value in self._references.items() if key in needed}

    def _put(self, key: Any, get: Callable[[Any], Any]) -> Any:
        """A reference to what `get` gives for `key`; each value travels to the object store once."""
        if key not in self._references:
            self._references[key] = ray.put(get(key))
        return self._references[key]

    def answer(self, path: Path, components: Mapping[str, Component], images: Images) -> Answers:
        return self._asked(lambda actor: actor.answer.remote(path, components, images))

    def flops(self, chains: Sequence[Chain]) -> tuple[Flops, ...]:
        """Counted by every worker, for all of them will need JAX and these counts; the first one's answer is taken."""
        for actor in self._actors[1:]:
            actor.flops.remote(chains)
        return self._asked(lambda actor: actor.flops.remote(chains))

    def _asked(self, call: Callable[[Any], Any]) -> Any:
        """What the first worker answers to a call, or the one in its place when it dies."""
        for attempt in range(ATTEMPTS):
            try:
                return ray.get(call(self._actors[0]))
            except ActorDiedError:
                self._replace(0)
                if attempt + 1 == ATTEMPTS:
                    raise
        raise AssertionError

    def close(self) -> None:
        with suppress(RayError):
            ray.get([actor.close.remote() for actor in self._actors], timeout=CLOSE_SECONDS)
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []
        self._references = {}
        if self._owns_ray:
            ray.shutdown()
        if self._watchdog is not None:
            self._watchdog.end()


@dataclass
class _Filling:
    """Calls of a generation that compute activations ahead: the worker and the prefix of each, and what is complete."""

    work: Sequence[Work]
    calls: dict[Any, int] = field(default_factory=dict[Any, int])
    prefixes: dict[Any, tuple[str, ...]] = field(default_factory=dict[Any, tuple[str, ...]])
    complete: set[tuple[str, ...]] = field(default_factory=set[tuple[str, ...]])

    def next(self, running: Sequence[Work]) -> Work | None:
        """One whose prefix is not complete yet: of those that are being trained, else of the generation."""
        busy = {*self.prefixes.values(), *self.complete}
        return next((item for item in (*running, *self.work) if item.prefix and item.prefix not in busy), None)


def pinned_cores(workers: int) -> list[int | None]:
    """A core for each worker when there are enough, else no pinning."""
    if not hasattr(os, "sched_getaffinity"):
        return [None] * workers
    cores = sorted(os.sched_getaffinity(0))
    return [*cores[:workers]] if workers <= len(cores) else [None] * workers
