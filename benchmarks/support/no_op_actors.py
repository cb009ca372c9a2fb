"""Many simulated workers in few Ray processes: each is a thread of an actor that only waits."""

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray as ray_package
from support import rows, simulation
from support.simulation import NoOp, made_up

from mutant.answers import Answers
from mutant.outcome import Outcome
from mutant.search import ray_worker as real
from mutant.search.evaluator import Begun, Source, Supply, Work, unheard
from mutant.search.ray_start import start

ray: Any = ray_package
PROCESSES = 2
"""Processes that hold the simulated workers, each as a thread."""


class Worker:
    """Trains a child in `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def train(self, work: Work) -> Outcome:
        time.sleep(self._seconds)
        return made_up(work)

    def nothing(self, *_: Any) -> None:
        """A child without an outcome, after those that it depends on."""
        time.sleep(self._seconds)

    def many(self, number: int) -> None:
        """So many of them in one call."""
        for _ in range(number):
            time.sleep(self._seconds)


class NoOpWorker(real.Worker):
    """A worker of the search as it is, but that it makes an outcome up: what it was given it unpacks."""

    def train(self, parcel: Any) -> Outcome:
        self._unpacked(parcel)
        return made_up(parcel.work)

    def fill(self, parcel: Any) -> int:
        return 0

    def answer(self, path: Any, components: Any, images: Any) -> Answers:
        return NoOp().answer(path, components, images)

    def flops(self, chains: Any) -> tuple[Any, ...]:
        return NoOp().flops(chains)


def brought_along(*modules: Any) -> None:
    """Let Ray take these modules, and those here, to its workers, which do not see this folder."""
    for module in (rows, simulation, sys.modules[__name__], *modules):
        ray.cloudpickle.register_pickle_by_value(module)


@contextmanager
def running(cpus: int = PROCESSES) -> Iterator[None]:
    """A Ray of its own while the block lasts; started again where a busy machine took too long."""
    brought_along()
    for left in (2, 1, 0):
        try:
            watchdog = start(cpus, None)
            break
        except Exception:
            if not left:
                raise
    try:
        yield
    finally:
        ray.shutdown()
        if watchdog is not None:
            watchdog.end()


class Actors(NoOp):
    """An evaluator of `workers` simulated workers, a call of an actor at a time for each."""

    def __init__(self, workers: int, seconds: float = 0.0) -> None:
        super().__init__(seconds)
        self.workers = workers
        held = [len(range(place, workers, PROCESSES)) for place in range(min(workers, PROCESSES))]
        options = [{"num_cpus": 0, "max_concurrency": number} for number in held]
        self.actors = [ray.remote(Worker).options(**one).remote(seconds) for one in options]
        ray.get([actor.nothing.remote() for actor in self.actors])

    def actor(self, worker: int) -> Any:
        return self.actors[worker % len(self.actors)]

    def train_from(self, source: Source, supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        idle, running = deque(range(self.workers)), dict[Any, tuple[int, int]]()
        while True:
            while idle and (taken := source.take(f"worker {idle[0]}")) is not None:
                begun(taken[0], f"worker {idle[0]}")
                worker = idle.popleft()
                running[self.actor(worker).train.remote(taken[1])] = taken[0], worker
            if not running:
                return
            (ready, *_), _ = ray.wait([*running], num_returns=1)
            index, worker = running.pop(ready)
            idle.append(worker)
            yield index, ray.get(ready)

    def close(self) -> None:
        for actor in self.actors:
            ray.kill(actor)


def op_by_op(actors: Actors, calls: int) -> None:
    """Every worker's calls one after the other, each asked for when the one before was heard of."""
    each = calls // actors.workers
    left = {actors.actor(worker).nothing.remote(): (worker, each - 1) for worker in range(actors.workers)}
    while left:
        (ready, *_), _ = ray.wait([*left], num_returns=1)
        ray.get(ready)
        worker, more = left.pop(ready)
        if more:
            left[actors.actor(worker).nothing.remote()] = worker, more - 1


def chained(actors: Actors, calls: int) -> None:
    """Every worker's calls asked for at once, each with the one before as its argument; only the last is heard of."""
    last: list[Any] = []
    for worker in range(actors.workers):
        reference = None
        for _ in range(calls // actors.workers):
            reference = actors.actor(worker).nothing.remote(reference)
        last.append(reference)
    ray.get(last)


def fused(actors: Actors, calls: int) -> None:
    """One call for every worker, which does all of its children."""
    ray.get([actors.actor(worker).many.remote(calls // actors.workers) for worker in range(actors.workers)])


DISPATCH: Sequence[Any] = (op_by_op, chained, fused)
