"""Groups of a child as a pipeline of Ray actors: activations and slopes go from actor to actor, never through here."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from mutant import backend
from mutant.activations.limits import CacheLimits
from mutant.assignment import Assignment
from mutant.dataset import Dataset
from mutant.outcome import Failed, Outcome
from mutant.pipeline import Hand, StageLost
from mutant.recorder import Recorder
from mutant.search.deaths import ATTEMPTS
from mutant.search.evaluator import InProcessEvaluator
from mutant.search.ray_start import ray, start
from mutant.search.ray_team import pinned_cores
from mutant.stage import Setup


class StageWorker:
    """Lives in a Ray actor: holds one or more neighbouring stages of the child that is being trained."""

    def __init__(self, core: int | None) -> None:
        if core is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {core})
        self._stages: dict[int, Any] = {}

    def pid(self) -> int:
        return os.getpid()

    def begin(self, setups: Sequence[Setup]) -> None:
        from mutant.stage import Stage

        self._stages = {setup.group: Stage(setup) for setup in setups}

    def call(self, group: int, method: str, *arguments: Any) -> Any:
        return getattr(self._stages[group], method)(*arguments)


class _ActorHand:
    def __init__(self, actor: Any, group: int) -> None:
        self._actor, self._group = actor, group

    def call(self, method: str, *arguments: Any, returns: int) -> Sequence[Any]:
        found = self._actor.call.options(num_returns=returns).remote(self._group, method, *arguments)
        return found if returns > 1 else [found]


class RayCrew:
    """Holds the stages of one child after another on `workers` actors of a core each; neighbours share one if need be.

    An actor runs its calls in the order in which they were made, so that the numbers do not depend on how many
    there are.
    """

    def __init__(self, workers: int, *, address: str | None = None) -> None:
        self._owns_ray = not ray.is_initialized()
        self._watchdog = start(workers, address) if self._owns_ray else None
        self._cores = pinned_cores(workers) if address is None else [None] * workers
        self._actors = [self._actor(core) for core in self._cores]

    def _actor(self, core: int | None) -> Any:
        options = {"num_cpus": 1, "runtime_env": {"env_vars": backend.worker_environment()}}
        return ray.remote(StageWorker).options(**options).remote(core)

    @property
    def pids(self) -> list[int]:
        """Process ids of the actors, for those who want to watch (or kill) one."""
        return ray.get([actor.pid.remote() for actor in self._actors])

    def begin(self, setups: Sequence[Setup]) -> Sequence[Hand]:
        count = min(len(self._actors), len(setups))
        slots = [setup.group * count // len(setups) for setup in setups]
        for slot in range(count):
            mine = [setup for setup, its in zip(setups, slots, strict=True) if its == slot]
            self._begun(slot, mine)
        return [_ActorHand(self._actors[slot], setup.group) for setup, slot in zip(setups, slots, strict=True)]

    def _begun(self, slot: int, setups: Sequence[Setup]) -> None:
        """Give an actor its stages; one that has died since the last child is replaced first."""
        try:
            ray.get(self._actors[slot].begin.remote(setups))
        except ray.exceptions.RayActorError:
            self._replace(slot)
            self.values([self._actors[slot].begin.remote(setups)])

    def _replace(self, slot: int) -> None:
        ray.kill(self._actors[slot])
        self._actors[slot] = self._actor(self._cores[slot])

    def values(self, futures: Sequence[Any]) -> list[Any]:
        try:
            return ray.get([*futures])
        except ray.exceptions.RayActorError as error:
            raise StageLost(f"the worker of one of its groups died: {type(error).__name__}") from error

    def close(self) -> None:
        for actor in self._actors:
            with suppress(ray.exceptions.RayError):
                ray.kill(actor)
        self._actors = []
        if self._owns_ray:
            ray.shutdown()
        if self._watchdog is not None:
            self._watchdog.end()


class PipelineEvaluator(InProcessEvaluator):
    """Trains one candidate after the other: its groups on Ray, prefix, validation and end-to-end children here.

    A child whose stage dies is trained again with the same identity, once.
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
        self.stages = RayCrew(workers, address=address)
        super().__init__(cache, home, told, self.stages)

    def _trained(self, assignment: Assignment, dataset: Dataset, recorder: Recorder) -> Outcome:
        for _ in range(ATTEMPTS - 1):
            outcome = super()._trained(assignment, dataset, recorder)
            if not (isinstance(outcome, Failed) and outcome.kind == "worker lost"):
                return outcome
        return super()._trained(assignment, dataset, recorder)

    def close(self) -> None:
        super().close()
        self.stages.close()
